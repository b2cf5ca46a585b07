/* The checks that protect the parser from untrusted bytes. */
#include <stdlib.h>

#include "core/error.h"
#include "formats/onnx/private.h"

enum {
    DEPTH_MAX = 32, /* a graph without subgraphs has 7 */
    TAG_BYTES_MAX = 5,
    LENGTH_BYTES_MAX = 5, /* both as the parser's */
    NUMBER_BYTES_MAX = 10,
};

/* A message that is being read. */
struct level {
    const ProtobufCMessageDescriptor *descriptor;
    const uint8_t *end;
};

struct scan {
    struct level levels[DEPTH_MAX];
    size_t depth;
    const uint8_t *at;
};

/* A number of 7 bits to a byte; false when it is cut off or longer than `most` bytes. */
static bool onnx_scan_read_number(struct scan *scan, const uint8_t *end, int most, uint64_t *number)
{
    *number = 0;
    for (int i = 0; i < most && scan->at < end; i++) {
        uint8_t byte = *scan->at++;
        *number |= (uint64_t)(byte & 0x7f) << (7 * i);
        if (!(byte & 0x80))
            return true;
    }
    return false;
}

static bool skip(struct scan *scan, const uint8_t *end, uint64_t size)
{
    if (size > (uint64_t)(end - scan->at))
        return false;
    scan->at += size;
    return true;
}

/* Goes over one field, or into it when it is a message. Null on success, else what is wrong. */
static const char *onnx_scan_read_field(struct scan *scan)
{
    static const char damaged[] =
        "no ONNX file, or a damaged one: a field is cut off or of no known kind";
    enum { NUMBER = 0, EIGHT_BYTES = 1, DELIMITED = 2, FOUR_BYTES = 5 };
    const struct level *level = &scan->levels[scan->depth - 1];
    uint64_t tag, number;
    if (!onnx_scan_read_number(scan, level->end, TAG_BYTES_MAX, &tag) || tag > UINT32_MAX ||
        !(tag >> 3))
        return damaged;
    switch (tag & 7) {
    case NUMBER:
        return onnx_scan_read_number(scan, level->end, NUMBER_BYTES_MAX, &number) ? NULL : damaged;
    case EIGHT_BYTES:
        return skip(scan, level->end, 8) ? NULL : damaged;
    case FOUR_BYTES:
        return skip(scan, level->end, 4) ? NULL : damaged;
    case DELIMITED:
        break;
    default:
        return damaged;
    }
    if (!onnx_scan_read_number(scan, level->end, LENGTH_BYTES_MAX, &number) ||
        number > (uint64_t)(level->end - scan->at))
        return damaged;
    const ProtobufCFieldDescriptor *field = protobuf_c_message_descriptor_get_field(
        level->descriptor, (unsigned)(tag >> 3));
    if (!field || field->type != PROTOBUF_C_TYPE_MESSAGE) {
        scan->at += number;
        return NULL;
    }
    if (scan->depth == DEPTH_MAX)
        return "messages are nested too deeply";
    scan->levels[scan->depth++] = (struct level){field->descriptor, scan->at + number};
    return NULL;
}

/* Returns what is wrong with the bytes of a message, or null if the parser can read them. */
static const char *scan_nesting(const ProtobufCMessageDescriptor *descriptor, const uint8_t *bytes,
                                size_t size)
{
    struct scan scan = {.levels = {{descriptor, bytes + size}}, .depth = 1, .at = bytes};
    const char *wrong = NULL;
    while (scan.depth && !wrong) {
        if (scan.at == scan.levels[scan.depth - 1].end)
            scan.depth--;
        else
            wrong = onnx_scan_read_field(&scan);
    }
    return wrong;
}

/* Counts what is allocated, never what is freed: so the time that parsing takes has a limit too. */
struct budget {
    size_t left;
    bool exceeded;
};

static void *onnx_scan_allocate(void *context, size_t size)
{
    struct budget *budget = context;
    if (size > budget->left) {
        budget->exceeded = true;
        return NULL;
    }
    budget->left -= size;
    return malloc(size ? size : 1);
}

static void onnx_scan_release(void *context, void *pointer)
{
    (void)context;
    free(pointer);
}

/*
 * Bytes that unpacking may take. Elements take their own size, or at most double as they are
 * concatenated; names, nodes and shapes take some 5 times theirs, and never much in all.
 */
static size_t memory_for(size_t size)
{
    const size_t least = 1 << 20, structure = 256 << 20, factor = 16;
    return 2 * size + (size < structure / factor ? size * factor : structure) + least;
}

int onnx_unpack(Onnx__ModelProto **model, const char *path, const void *bytes, size_t size,
                struct ivon_error *error)
{
    struct budget budget = {memory_for(size), false};
    ProtobufCAllocator allocator = {onnx_scan_allocate, onnx_scan_release, &budget};
    if (!size)
        return ivon_error_set(error, IVON_ERROR_DATA, "%s: is empty, expected an ONNX file", path);
    if (size > INT32_MAX)
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: %zu bytes, an ONNX file has at most "
                              "2 GiB; keep the parameters in a checkpoint, or as external data",
                              path, size);
    const char *wrong = scan_nesting(&onnx__model_proto__descriptor, bytes, size);
    if (wrong)
        return ivon_error_set(error, IVON_ERROR_DATA, "%s: %s", path, wrong);
    *model = onnx__model_proto__unpack(&allocator, size, bytes);
    if (*model)
        return 0;
    return ivon_error_set(error, IVON_ERROR_DATA, "%s: %s", path,
                          budget.exceeded ? "would take far more memory than its size suggests"
                                          : "damaged ONNX file");
}

Onnx__AttributeProto *onnx_unpack_attribute(const uint8_t *bytes, size_t size)
{
    struct budget budget = {memory_for(size), false};
    ProtobufCAllocator allocator = {onnx_scan_allocate, onnx_scan_release, &budget};
    return scan_nesting(&onnx__attribute_proto__descriptor, bytes, size)
               ? NULL
               : onnx__attribute_proto__unpack(&allocator, size, bytes);
}
