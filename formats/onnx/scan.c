/* The checks that protect the parser from untrusted bytes. */
#include <stdlib.h>

#include "core/error.h"
#include "formats/onnx/private.h"

enum { DEPTH_MAX = 32 /* a graph without subgraphs has 7 */ };

/* A message that is being read. */
struct level {
    const ProtobufCMessageDescriptor *descriptor;
    struct onnx_fields fields;
};

struct scan {
    struct level levels[DEPTH_MAX];
    size_t depth;
};

/* Goes over one field, or into it when it is a message; a field of no known number is passed over,
   as later versions of ONNX have them. Null on success, else what is wrong. */
static const char *onnx_scan_read_field(struct scan *scan)
{
    struct level *level = &scan->levels[scan->depth - 1];
    struct onnx_field field;
    if (!onnx_fields_next(&level->fields, &field))
        return "no ONNX file, or a damaged one: a field is cut off or of no known kind";
    const ProtobufCFieldDescriptor *known = field.kind == ONNX_WIRE_DELIMITED
                                                ? protobuf_c_message_descriptor_get_field(
                                                      level->descriptor, field.number)
                                                : NULL;
    if (!known || known->type != PROTOBUF_C_TYPE_MESSAGE)
        return NULL;
    if (scan->depth == DEPTH_MAX)
        return "messages are nested too deeply";
    scan->levels[scan->depth++] = (struct level){known->descriptor, onnx_fields_of(field.bytes)};
    return NULL;
}

/* Returns what is wrong with the bytes of a message, or null if the parser can read them. */
static const char *scan_nesting(const ProtobufCMessageDescriptor *descriptor, const uint8_t *bytes,
                                size_t size)
{
    struct scan scan = {.levels = {{descriptor, {.at = bytes, .end = bytes + size}}}, .depth = 1};
    const char *wrong = NULL;
    while (scan.depth && !wrong) {
        const struct onnx_fields *fields = &scan.levels[scan.depth - 1].fields;
        if (fields->at == fields->end)
            scan.depth--;
        else
            wrong = onnx_scan_read_field(&scan);
    }
    return wrong;
}

int onnx_check(const char *path, const void *bytes, size_t size, struct ivon_error *error)
{
    if (!size)
        return ivon_error_set(error, IVON_ERROR_DATA, "%s: is empty, expected an ONNX file", path);
    if (size > INT32_MAX)
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: %zu bytes, an ONNX file has at most "
                              "2 GiB; keep the parameters in a checkpoint, or as external data",
                              path, size);
    const char *wrong = scan_nesting(&onnx__model_proto__descriptor, bytes, size);
    return wrong ? ivon_error_set(error, IVON_ERROR_DATA, "%s: %s", path, wrong) : 0;
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

/* Unpacks a message of a kind; null with the error set. */
static void *onnx_scan_unpack(const ProtobufCMessageDescriptor *descriptor, const char *path,
                              const void *bytes, size_t size, struct ivon_error *error)
{
    struct budget budget = {memory_for(size), false};
    ProtobufCAllocator allocator = {onnx_scan_allocate, onnx_scan_release, &budget};
    void *message = protobuf_c_message_unpack(descriptor, &allocator, size, bytes);
    if (!message)
        ivon_error_set(error, IVON_ERROR_DATA, "%s: %s", path,
                       budget.exceeded ? "would take far more memory than its size suggests"
                                       : "damaged ONNX file");
    return message;
}

int onnx_unpack(Onnx__ModelProto **model, const char *path, const void *bytes, size_t size,
                struct ivon_error *error)
{
    int code = onnx_check(path, bytes, size, error);
    if (code)
        return code;
    *model = onnx_scan_unpack(&onnx__model_proto__descriptor, path, bytes, size, error);
    return *model ? 0 : IVON_ERROR_DATA;
}

int onnx_unpack_tensor(Onnx__TensorProto **tensor, const char *path, struct onnx_span bytes,
                       struct ivon_error *error)
{
    *tensor = onnx_scan_unpack(&onnx__tensor_proto__descriptor, path, bytes.data, bytes.size,
                               error);
    return *tensor ? 0 : IVON_ERROR_DATA;
}

int onnx_unpack_attribute(Onnx__AttributeProto **attribute, const char *path,
                          struct onnx_span bytes, struct ivon_error *error)
{
    const ProtobufCMessageDescriptor *descriptor = &onnx__attribute_proto__descriptor;
    const char *wrong = scan_nesting(descriptor, bytes.data, bytes.size);
    if (wrong)
        return ivon_error_set(error, IVON_ERROR_DATA, "%s: %s", path, wrong);
    *attribute = onnx_scan_unpack(descriptor, path, bytes.data, bytes.size, error);
    return *attribute ? 0 : IVON_ERROR_DATA;
}
