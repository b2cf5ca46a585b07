/*
 * ONNX: the fields of its messages, as protobuf-c describes them, are left out, doubled, swapped,
 * moved from elsewhere (of this input, or another) and changed; then all is written anew, so that
 * the lengths are right however deep the change was.
 */
#include <assert.h>
#include <protobuf-c/protobuf-c.h>
#include <stdlib.h>
#include <string.h>

#include "net/graph/operator.h"
#include "tests/fuzz/mutators/mutators.h"

enum { FIELDS_MAX = 1 << 14, DEPTH_MAX = 24, VARINT = 0, FIXED64 = 1, BYTES = 2, FIXED32 = 5 };

extern const ProtobufCMessageDescriptor onnx__model_proto__descriptor;

/* A field of a message: an own message where `inner` describes one. */
struct field {
    const ProtobufCMessageDescriptor *message, *inner;
    const ProtobufCFieldDescriptor *is; /* null: not known */
    uint64_t tag, number;
    const uint8_t *data; /* of BYTES and fixed numbers */
    size_t size;
    struct field *first, *next;
};

struct tree {
    struct field *root, *fields[FIELDS_MAX];
    size_t count;
    bool broken;
};

static bool take_varint(const uint8_t **at, const uint8_t *end, uint64_t *number)
{
    *number = 0;
    for (unsigned shift = 0; *at < end && shift < 64; shift += 7) {
        uint8_t byte = *(*at)++;
        *number |= (uint64_t)(byte & 127) << shift;
        if (!(byte & 128))
            return true;
    }
    return false;
}

static struct field *take_message(struct tree *tree, const ProtobufCMessageDescriptor *message,
                                  const uint8_t *at, const uint8_t *end, int depth);

static struct field *new_field(struct tree *tree)
{
    struct field *field = calloc(1, sizeof *field);
    assert(field);
    tree->broken |= tree->count == FIELDS_MAX - 1;
    tree->fields[tree->count++] = field;
    return field;
}

/* Takes a field's content. */
static bool take_content(struct tree *tree, struct field *field, const uint8_t **at,
                         const uint8_t *end, int depth)
{
    unsigned type = (unsigned)field->tag & 7;
    uint64_t size = type == FIXED64 ? 8 : 4;
    if (type == VARINT)
        return take_varint(at, end, &field->number);
    if ((type == BYTES && !take_varint(at, end, &size)) ||
        (type != BYTES && type != FIXED64 && type != FIXED32) || size > (uint64_t)(end - *at))
        return false;
    field->data = *at;
    field->size = (size_t)size;
    *at += size;
    if (type == BYTES && field->is && field->is->type == PROTOBUF_C_TYPE_MESSAGE &&
        depth < DEPTH_MAX) {
        field->inner = field->is->descriptor;
        field->first = take_message(tree, field->inner, field->data, *at, depth + 1);
    }
    return true;
}

/* The fields between two places; what cannot be taken apart makes the tree broken. */
static struct field *take_message(struct tree *tree, const ProtobufCMessageDescriptor *message,
                                  const uint8_t *at, const uint8_t *end, int depth)
{
    struct field *first = NULL, **last = &first;
    while (at < end && !tree->broken) {
        struct field *field = new_field(tree);
        field->message = message;
        *last = field;
        last = &field->next;
        tree->broken |= !take_varint(&at, end, &field->tag);
        field->is = protobuf_c_message_descriptor_get_field(message, (unsigned)(field->tag >> 3));
        tree->broken |= tree->broken || !take_content(tree, field, &at, end, depth);
    }
    return first;
}

static bool take_tree(struct tree *tree, const uint8_t *data, size_t size)
{
    tree->count = 0;
    tree->broken = false;
    tree->root = take_message(tree, &onnx__model_proto__descriptor, data, data + size, 0);
    return !tree->broken && tree->count;
}

static void free_tree(struct tree *tree)
{
    for (size_t i = 0; i < tree->count; i++)
        free(tree->fields[i]);
}

static size_t put_varint(struct buffer *out, uint64_t number)
{
    uint8_t bytes[10];
    size_t size = 0;
    for (; number > 127; number >>= 7)
        bytes[size++] = (uint8_t)(number | 128);
    bytes[size++] = (uint8_t)number;
    if (out)
        put(out, bytes, size);
    return size;
}

/* Writes fields in their order; without a buffer, tells how many bytes they take. */
static size_t put_fields(struct buffer *out, const struct field *field)
{
    size_t whole = 0;
    for (; field; field = field->next) {
        unsigned type = (unsigned)field->tag & 7;
        size_t size = field->inner ? put_fields(NULL, field->first) : field->size;
        whole += put_varint(out, field->tag) + size;
        if (type == VARINT) {
            whole += put_varint(out, field->number);
            continue;
        }
        if (type == BYTES)
            whole += put_varint(out, size);
        if (out && field->inner)
            put_fields(out, field->first);
        else if (out)
            put(out, field->data, size);
    }
    return whole;
}

/* Where a field hangs. */
static struct field **link_of(struct tree *tree, const struct field *field)
{
    struct field **link = &tree->root;
    for (size_t i = 0; i <= tree->count; i++) {
        for (; *link; link = &(*link)->next)
            if (*link == field)
                return link;
        link = i < tree->count ? &tree->fields[i]->first : link;
    }
    return NULL;
}

static bool is_text(const struct field *field)
{
    return field->is && field->is->type == PROTOBUF_C_TYPE_STRING;
}

/* One of another tree, or the same, that could stand where a field does; itself where there is
   none. */
static struct field *like(const struct tree *from, struct field *field)
{
    bool any_text = is_text(field) && once_in(2);
    for (int tries = 0; tries < 200; tries++) {
        struct field *other = from->fields[pick(from->count)];
        if (other != field && ((other->message == field->message && other->tag == field->tag) ||
                               (any_text && is_text(other))))
            return other;
    }
    return field;
}

/* Gives a field the content of another. */
static void copy_content(struct field *field, const struct field *other)
{
    field->number = other->number;
    field->data = other->data;
    field->size = other->size;
    field->first = other->first;
    field->inner = other->inner;
}

static void change_number(struct field *field)
{
    if (field->is && field->is->type == PROTOBUF_C_TYPE_ENUM && !once_in(8)) {
        const ProtobufCEnumDescriptor *values = field->is->descriptor;
        field->number = (uint64_t)values->values[pick(values->n_values)].value;
    } else {
        field->number = other_number(field->number);
    }
}

/* The name of any operator that there is. */
static const uint8_t *operator_name(size_t *size)
{
    static size_t count;
    while (net_operator_row(count))
        count++;
    const char *name = net_operator_row(pick(count))->name;
    *size = strlen(name);
    return (const uint8_t *)name;
}

/* Bytes that `scratch` keeps. */
static void change_bytes(struct field *field, struct buffer *scratch)
{
    size_t begin = scratch->size;
    if (is_text(field) && strcmp(field->is->name, "op_type") == 0 && !once_in(8)) {
        field->data = operator_name(&field->size);
        return;
    }
    put_mutated(scratch, field->data, field->size);
    field->data = scratch->data + begin;
    field->size = scratch->size - begin;
}

static void put_twice(struct tree *tree, struct field *field)
{
    struct field *copy = new_field(tree);
    *copy = *field;
    field->next = copy;
}

/* A field of a known number that the message has not, or not here: with a small number, or
   nothing. */
static void put_new(struct tree *tree, struct field *field)
{
    const ProtobufCFieldDescriptor *is = &field->message->fields[pick(field->message->n_fields)];
    struct field *added = new_field(tree);
    bool message = is->type == PROTOBUF_C_TYPE_MESSAGE;
    bool bytes = message || is->type == PROTOBUF_C_TYPE_STRING || is->type == PROTOBUF_C_TYPE_BYTES;
    unsigned type = bytes                                ? BYTES
                    : is->type == PROTOBUF_C_TYPE_FLOAT  ? FIXED32
                    : is->type == PROTOBUF_C_TYPE_DOUBLE ? FIXED64
                                                         : VARINT;
    *added = (struct field){.message = field->message,
                            .is = is,
                            .tag = (uint64_t)is->id << 3 | type,
                            .number = pick(4),
                            .next = field->next,
                            .inner = message ? is->descriptor : NULL};
    if (type == FIXED32 || type == FIXED64) {
        added->data = (const uint8_t *)"\0\0\200?\0\0\360?";
        added->size = type == FIXED32 ? 4 : 8;
    } else if (type == BYTES) {
        copy_content(added, like(tree, added));
    }
    field->next = added;
}

static bool change(struct tree *tree, const struct tree *from, struct buffer *scratch)
{
    struct field *field = tree->fields[pick(tree->count)], *other = like(from, field);
    struct field **link = link_of(tree, field), kept;
    switch (pick(10)) {
    case 0:
        if (!link)
            return false;
        *link = field->next;
        break;
    case 1:
        put_twice(tree, field);
        break;
    case 2:
        put_new(tree, field);
        break;
    case 3: /* the content of two of a kind, in this tree alone */
        if (from == tree && !field->inner == !other->inner) {
            kept = *field;
            copy_content(field, other);
            copy_content(other, &kept);
            break;
        }
        copy_content(field, other);
        break;
    case 4:
    case 5:
        copy_content(field, other);
        break;
    default:
        if ((field->tag & 7) == VARINT)
            change_number(field);
        else if (!field->inner)
            change_bytes(field, scratch);
        else
            return false;
    }
    return true;
}

/* Whether no message has been put into itself. */
static bool is_finite(const struct field *field, int depth)
{
    for (; field && depth; field = field->next)
        if (field->inner && !is_finite(field->first, depth - 1))
            return false;
    return depth > 0;
}

static bool mutate_tree(struct buffer *out, const uint8_t *data, size_t size, const uint8_t *other,
                        size_t other_size)
{
    static struct tree tree, second;
    const struct tree *from = &tree;
    struct buffer scratch = new_buffer(2 * size + 4096);
    bool fine = take_tree(&tree, data, size);
    second.count = 0;
    if (fine && other) {
        fine = take_tree(&second, other, other_size);
        from = &second;
    }
    for (int tries = 0; fine && tries < 8; tries++)
        if (tree.count < FIELDS_MAX - 8 && change(&tree, from, &scratch))
            break;
    fine = fine && is_finite(tree.root, DEPTH_MAX + 4);
    if (fine)
        put_fields(out, tree.root);
    out->overflows |= scratch.overflows;
    free_tree(&tree);
    free_tree(&second);
    free(scratch.data);
    return fine;
}

bool mutate_structure(struct buffer *out, const uint8_t *data, size_t size)
{
    return mutate_tree(out, data, size, NULL, 0);
}

/* libFuzzer's way to join two inputs. */
size_t LLVMFuzzerCustomCrossOver(const uint8_t *data, size_t size, const uint8_t *other,
                                 size_t other_size, uint8_t *joined, size_t room, unsigned seed);

size_t LLVMFuzzerCustomCrossOver(const uint8_t *data, size_t size, const uint8_t *other,
                                 size_t other_size, uint8_t *joined, size_t room, unsigned seed)
{
    struct buffer out = {.data = joined, .room = room};
    (void)seed; /* the numbers go on from the last mutation */
    return mutate_tree(&out, data, size, other, other_size) && !out.overflows ? out.size : 0;
}
