#include "formats/flax/msgpack.h"

#include <stdbool.h>
#include <stdlib.h>

#include "core/error.h"

/* An array or a map that has not ended. */
struct open_node {
    size_t index;
    uint64_t left; /* nodes to come */
};

struct parser {
    struct msgpack *tree;
    size_t capacity;
    const char *path;
    const unsigned char *data;
    uint64_t size, at;
    struct open_node open[MSGPACK_DEPTH_MAX];
    size_t depth;
    struct ivon_error *error;
};

/* How a value with a byte of 0xc0 to 0xdf begins: a number of so many bytes follows, which is the
   value itself, or how long it is; `fixed` is the length of what has no such number. */
struct form {
    enum msgpack_kind kind;
    unsigned char width;
    bool is_signed;
    unsigned char fixed;
};

static const struct form forms[32] = {
    [0x00] = {MSGPACK_NIL},
    [0x02] = {MSGPACK_BOOLEAN},
    [0x03] = {MSGPACK_BOOLEAN},
    [0x04] = {MSGPACK_BYTES, 1},
    [0x05] = {MSGPACK_BYTES, 2},
    [0x06] = {MSGPACK_BYTES, 4},
    [0x07] = {MSGPACK_EXTENSION, 1},
    [0x08] = {MSGPACK_EXTENSION, 2},
    [0x09] = {MSGPACK_EXTENSION, 4},
    [0x0a] = {MSGPACK_FLOAT, 4},
    [0x0b] = {MSGPACK_FLOAT, 8},
    [0x0c] = {MSGPACK_INTEGER, 1},
    [0x0d] = {MSGPACK_INTEGER, 2},
    [0x0e] = {MSGPACK_INTEGER, 4},
    [0x0f] = {MSGPACK_INTEGER, 8},
    [0x10] = {MSGPACK_INTEGER, 1, true},
    [0x11] = {MSGPACK_INTEGER, 2, true},
    [0x12] = {MSGPACK_INTEGER, 4, true},
    [0x13] = {MSGPACK_INTEGER, 8, true},
    [0x14] = {MSGPACK_EXTENSION, .fixed = 1},
    [0x15] = {MSGPACK_EXTENSION, .fixed = 2},
    [0x16] = {MSGPACK_EXTENSION, .fixed = 4},
    [0x17] = {MSGPACK_EXTENSION, .fixed = 8},
    [0x18] = {MSGPACK_EXTENSION, .fixed = 16},
    [0x19] = {MSGPACK_TEXT, 1},
    [0x1a] = {MSGPACK_TEXT, 2},
    [0x1b] = {MSGPACK_TEXT, 4},
    [0x1c] = {MSGPACK_ARRAY, 2},
    [0x1d] = {MSGPACK_ARRAY, 4},
    [0x1e] = {MSGPACK_MAP, 2},
    [0x1f] = {MSGPACK_MAP, 4},
};

static int damaged(const struct parser *parser, const char *what)
{
    return ivon_error_set(parser->error, IVON_ERROR_DATA, "%s: damaged msgpack at byte %llu: %s",
                          parser->path, (unsigned long long)parser->at, what);
}

/* Reads a big-endian number; false where the data end before. */
static bool read_number(struct parser *parser, unsigned width, uint64_t *number)
{
    *number = 0;
    if (width > parser->size - parser->at)
        return false;
    for (unsigned i = 0; i < width; i++)
        *number = *number << 8 | parser->data[parser->at++];
    return true;
}

static int64_t integer_of(uint64_t number, const struct form *form)
{
    unsigned unused = 64 - 8U * form->width;
    if (form->is_signed && form->width)
        return (int64_t)(number << unused) >> unused;
    return number > INT64_MAX ? INT64_MAX : (int64_t)number;
}

static bool is_container(const struct msgpack_node *node)
{
    return node->kind == MSGPACK_ARRAY || node->kind == MSGPACK_MAP;
}

/* Reads what a value is, and how long; of 0xc0 to 0xdf by its form. */
static int read_head(struct parser *parser, struct msgpack_node *node)
{
    unsigned char first = parser->data[parser->at++];
    struct form form = {MSGPACK_INTEGER, .is_signed = true, .width = 1};
    uint64_t number = first;
    if (first >= 0x80 && first < 0x90)
        form = (struct form){MSGPACK_MAP, .fixed = first & 0x0f};
    else if (first >= 0x90 && first < 0xa0)
        form = (struct form){MSGPACK_ARRAY, .fixed = first & 0x0f};
    else if (first >= 0xa0 && first < 0xc0)
        form = (struct form){MSGPACK_TEXT, .fixed = first & 0x1f};
    else if (first >= 0xc0 && first < 0xe0) {
        form = forms[first - 0xc0];
        if (!form.kind)
            return damaged(parser, "0xc1 begins no value");
        if (!read_number(parser, form.width, &number))
            return damaged(parser, "it ends within a value");
    }
    node->kind = form.kind;
    if (form.kind == MSGPACK_INTEGER)
        node->integer = integer_of(number, &form);
    else if (form.kind >= MSGPACK_TEXT)
        node->size = form.fixed || !form.width ? form.fixed : number;
    if (form.kind == MSGPACK_MAP)
        node->size *= 2;
    return 0;
}

/* Passes over the bytes of a text and its like. */
static int read_run(struct parser *parser, struct msgpack_node *node)
{
    uint64_t type = 0;
    if (node->kind == MSGPACK_EXTENSION && !read_number(parser, 1, &type))
        return damaged(parser, "it ends within an extension");
    if (node->size > parser->size - parser->at)
        return damaged(parser, "a text, bytes or an extension is longer than what is left");
    node->type = (int)(int8_t)type;
    node->data = parser->data + parser->at;
    parser->at += node->size;
    return 0;
}

static int msgpack_append(struct parser *parser, const struct msgpack_node *node)
{
    struct msgpack *tree = parser->tree;
    if (tree->count == MSGPACK_NODES_MAX)
        return damaged(parser, "it has too many values");
    if (tree->count == parser->capacity) {
        size_t capacity = parser->capacity ? 2 * parser->capacity : 8;
        struct msgpack_node *grown = realloc(tree->nodes, capacity * sizeof *grown);
        if (!grown)
            return ivon_error_memory(parser->error);
        tree->nodes = grown;
        parser->capacity = capacity;
    }
    tree->nodes[tree->count] = *node;
    tree->nodes[tree->count].end = tree->count + 1;
    tree->count++;
    return 0;
}

/* Ends all that end with the last value. */
static void close_containers(struct parser *parser)
{
    while (parser->depth && --parser->open[parser->depth - 1].left == 0) {
        parser->depth--;
        parser->tree->nodes[parser->open[parser->depth].index].end = parser->tree->count;
    }
}

static int msgpack_read_value(struct parser *parser)
{
    struct msgpack_node node = {0};
    if (parser->at == parser->size)
        return damaged(parser, "it ends where a value is expected");
    int code = read_head(parser, &node);
    if (!code && node.kind >= MSGPACK_TEXT && !is_container(&node))
        code = read_run(parser, &node);
    bool opens = !code && is_container(&node) && node.size;
    if (opens && node.size > parser->size - parser->at) /* a value takes a byte at least */
        return damaged(parser, "an array or a map has more values than bytes are left");
    if (opens && parser->depth == MSGPACK_DEPTH_MAX)
        return damaged(parser, "it is nested too deeply");
    if (!code)
        code = msgpack_append(parser, &node);
    if (code)
        return code;
    if (opens)
        parser->open[parser->depth++] = (struct open_node){parser->tree->count - 1, node.size};
    else
        close_containers(parser);
    return 0;
}

int msgpack_parse(struct msgpack *tree, const char *path, const unsigned char *data, uint64_t size,
                  struct ivon_error *error)
{
    struct parser parser = {.tree = tree, .path = path, .data = data, .size = size, .error = error};
    *tree = (struct msgpack){0};
    int code = msgpack_read_value(&parser);
    while (!code && parser.depth)
        code = msgpack_read_value(&parser);
    if (!code && parser.at != size)
        code = damaged(&parser, "its only value ends before the file does");
    if (code)
        msgpack_release(tree);
    return code;
}

void msgpack_release(struct msgpack *tree)
{
    free(tree->nodes);
    *tree = (struct msgpack){0};
}
