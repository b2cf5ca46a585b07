/* Tensors of an ONNX file, wherever their elements are. */
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/stream.h"
#include "formats/io/mapped.h"
#include "formats/onnx/private.h"

static const struct {
    const char *name;
    bool known;
    enum ivon_dtype dtype; /* as it is stored */
    enum net_type type;
} types[] = {
    [ONNX__TENSOR_PROTO__DATA_TYPE__UNDEFINED] = {.name = "undefined"},
    [ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT] = {"float", true, IVON_F32, NET_FLOAT},
    [ONNX__TENSOR_PROTO__DATA_TYPE__UINT8] = {"uint8", true, IVON_U8, NET_INTEGER},
    [ONNX__TENSOR_PROTO__DATA_TYPE__INT8] = {"int8", true, IVON_I8, NET_INTEGER},
    [ONNX__TENSOR_PROTO__DATA_TYPE__UINT16] = {"uint16", true, IVON_U16, NET_INTEGER},
    [ONNX__TENSOR_PROTO__DATA_TYPE__INT16] = {"int16", true, IVON_I16, NET_INTEGER},
    [ONNX__TENSOR_PROTO__DATA_TYPE__INT32] = {"int32", true, IVON_I32, NET_INTEGER},
    [ONNX__TENSOR_PROTO__DATA_TYPE__INT64] = {"int64", true, IVON_I64, NET_INTEGER},
    [ONNX__TENSOR_PROTO__DATA_TYPE__STRING] = {.name = "string"},
    [ONNX__TENSOR_PROTO__DATA_TYPE__BOOL] = {"bool", true, IVON_BOOL, NET_BOOLEAN},
    [ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT16] = {"float16", true, IVON_F16, NET_FLOAT},
    [ONNX__TENSOR_PROTO__DATA_TYPE__DOUBLE] = {"double", true, IVON_F64, NET_FLOAT},
    [ONNX__TENSOR_PROTO__DATA_TYPE__UINT32] = {"uint32", true, IVON_U32, NET_INTEGER},
    [ONNX__TENSOR_PROTO__DATA_TYPE__UINT64] = {.name = "uint64"},
    [ONNX__TENSOR_PROTO__DATA_TYPE__COMPLEX64] = {.name = "complex64"},
    [ONNX__TENSOR_PROTO__DATA_TYPE__COMPLEX128] = {.name = "complex128"},
    [ONNX__TENSOR_PROTO__DATA_TYPE__BFLOAT16] = {"bfloat16", true, IVON_BF16, NET_FLOAT},
};

enum { TYPE_COUNT = sizeof types / sizeof types[0] };

bool onnx_net_type(int32_t data_type, enum net_type *type)
{
    if (data_type < 0 || data_type >= TYPE_COUNT || !types[data_type].known)
        return false;
    *type = types[data_type].type;
    return true;
}

static const int32_t integer_types[] = {[NET_ANY_INTEGERS] = ONNX__TENSOR_PROTO__DATA_TYPE__INT64,
                                        [NET_INT8] = ONNX__TENSOR_PROTO__DATA_TYPE__INT8,
                                        [NET_UINT8] = ONNX__TENSOR_PROTO__DATA_TYPE__UINT8,
                                        [NET_INT16] = ONNX__TENSOR_PROTO__DATA_TYPE__INT16,
                                        [NET_UINT16] = ONNX__TENSOR_PROTO__DATA_TYPE__UINT16};

enum net_integers onnx_integers(int32_t data_type)
{
    for (int i = NET_INT8; i <= NET_UINT16; i++)
        if (integer_types[i] == data_type)
            return (enum net_integers)i;
    return NET_ANY_INTEGERS;
}

int32_t onnx_integers_type(enum net_integers integers)
{
    return integer_types[integers];
}

const char *onnx_type_name(int32_t data_type)
{
    return data_type < 0 || data_type >= TYPE_COUNT ? "unknown" : types[data_type].name;
}

/* The elements of a tensor, as they are stored. */
struct elements {
    const unsigned char *bytes;
    void *owned; /* null when the bytes are another's */
    struct mapped_file file;
};

static void onnx_tensor_release(struct elements *elements)
{
    free(elements->owned);
    mapped_close(&elements->file);
}

/* External data. */

struct place {
    const char *location;
    uint64_t offset, length;
    bool has_length;
};

/* A number in decimal digits alone. */
static bool onnx_tensor_natural(const char *text, uint64_t *number)
{
    *number = 0;
    for (const char *digit = text; *digit; digit++)
        if (*digit < '0' || *digit > '9' || __builtin_mul_overflow(*number, 10U, number) ||
            __builtin_add_overflow(*number, (unsigned)(*digit - '0'), number))
            return false;
    return *text != '\0';
}

static int onnx_tensor_find_place(const struct onnx_reader *reader, const char *name,
                                  const Onnx__TensorProto *proto, struct place *place,
                                  struct ivon_error *error)
{
    *place = (struct place){0};
    for (size_t i = 0; i < proto->n_external_data; i++) {
        const Onnx__StringStringEntryProto *entry = proto->external_data[i];
        const char *key = entry->key ? entry->key : "", *value = entry->value ? entry->value : "";
        bool fine = true;
        if (strcmp(key, "location") == 0)
            place->location = value;
        else if (strcmp(key, "offset") == 0)
            fine = onnx_tensor_natural(value, &place->offset);
        else if (strcmp(key, "length") == 0)
            fine = place->has_length = onnx_tensor_natural(value, &place->length);
        if (!fine)
            return ivon_error_set(error, IVON_ERROR_DATA,
                                  "%s: tensor '%s': external data of %s '%s', expected a number",
                                  reader->path, name, key, value);
    }
    if (!place->location || !tensor_name_valid(place->location))
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: tensor '%s': external data in '%s', expected a path that stays "
                              "within the model's directory",
                              reader->path, name, place->location ? place->location : "");
    return 0;
}

/* The path of external data, without symbolic links, in the model's directory; for the caller to
   free. */
static int onnx_tensor_resolve(const struct onnx_reader *reader, const char *name,
                               const char *location, char **path, struct ivon_error *error)
{
    char whole[PATH_MAX];
    size_t length = strlen(reader->directory);
    int written = snprintf(whole, sizeof whole, "%s/%s", reader->directory, location);
    *path = written > 0 && (size_t)written < sizeof whole ? realpath(whole, NULL) : NULL;
    if (!*path)
        return ivon_error_set(error, IVON_ERROR_INPUT,
                              "%s: tensor '%s': external data '%s' cannot be found", reader->path,
                              name, location);
    if (strncmp(*path, reader->directory, length) == 0 && (*path)[length] == '/')
        return 0;
    free(*path);
    *path = NULL;
    return ivon_error_set(error, IVON_ERROR_DATA,
                          "%s: tensor '%s': external data '%s' lead out of the model's directory",
                          reader->path, name, location);
}

/* Counts the bytes that are taken from a file. Tied tensors may lie in the same place, but a small
   file must not fill the memory a thousand times over. */
static int count_use(struct onnx_reader *reader, const char *name, const char *location,
                     uint64_t size, uint64_t file_size, struct ivon_error *error)
{
    enum { FILES_MAX = 1 << 14, USES_MAX = 4 };
    size_t i = reader->file_count;
    while (i && strcmp(reader->files[i - 1].location, location) != 0)
        i--;
    if (!i && reader->file_count < FILES_MAX) {
        struct onnx_data_file *grown = realloc(reader->files,
                                               (reader->file_count + 1) * sizeof *grown);
        if (!grown)
            return ivon_error_memory(error);
        reader->files = grown;
        grown[reader->file_count].used = 0;
        grown[reader->file_count].location = strdup(location);
        if (!grown[reader->file_count].location)
            return ivon_error_memory(error);
        i = ++reader->file_count;
    }
    if (!i)
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: tensor '%s': more than %d files of external data", reader->path,
                              name, FILES_MAX);
    struct onnx_data_file *file = &reader->files[i - 1];
    file->used += size;
    if (file->used / USES_MAX > file_size)
        return ivon_error_set(
            error, IVON_ERROR_DATA,
            "%s: tensor '%s': external data '%s' are used more than %d times over", reader->path,
            name, location, USES_MAX);
    return 0;
}

static int find_external(struct onnx_reader *reader, const char *name,
                         const Onnx__TensorProto *proto, uint64_t size, struct elements *elements,
                         struct ivon_error *error)
{
    struct place place;
    char *path = NULL;
    if (!reader->directory)
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: tensor '%s': external data, which only a graph in a file can "
                              "have",
                              reader->path, name);
    int code = onnx_tensor_find_place(reader, name, proto, &place, error);
    if (!code && place.has_length && place.length != size)
        code = ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: tensor '%s': external data of %" PRIu64
                              " bytes, expected %" PRIu64,
                              reader->path, name, place.length, size);
    if (!code)
        code = onnx_tensor_resolve(reader, name, place.location, &path, error);
    if (!code)
        code = mapped_open(&elements->file, path, error);
    uint64_t available = elements->file.size;
    if (!code && (place.offset > available || size > available - place.offset))
        code = ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: tensor '%s': external data '%s' have %" PRIu64
                              " bytes, expected "
                              "%" PRIu64 " from %" PRIu64 " on",
                              reader->path, name, place.location, available, size, place.offset);
    if (!code)
        code = count_use(reader, name, place.location, size, available, error);
    if (!code && size)
        elements->bytes = elements->file.data + place.offset;
    free(path);
    return code;
}

/* Data in the file itself. */

/* The low bytes of wider integers. */
static int onnx_tensor_narrow(struct elements *elements, const void *wide, size_t wide_size,
                              size_t size, size_t count, struct ivon_error *error)
{
    unsigned char *bytes = malloc(count * size + 1);
    if (!bytes)
        return ivon_error_memory(error);
    for (size_t i = 0; i < count; i++)
        memcpy(bytes + i * size, (const unsigned char *)wide + i * wide_size, size);
    elements->owned = bytes;
    elements->bytes = bytes;
    return 0;
}

/* The elements in the field that the data type prescribes. */
static int find_typed(const Onnx__TensorProto *proto, enum ivon_dtype dtype, size_t count,
                      struct elements *elements, size_t *found, struct ivon_error *error)
{
    const void *field = proto->int32_data; /* of the narrower types, float16 too */
    size_t width = sizeof *proto->int32_data, size = ivon_dtype_size(dtype);
    *found = proto->n_int32_data;
    if (dtype == IVON_F32) {
        field = proto->float_data;
        *found = proto->n_float_data;
    } else if (dtype == IVON_F64) {
        field = proto->double_data;
        width = sizeof *proto->double_data;
        *found = proto->n_double_data;
    } else if (dtype == IVON_I64) {
        field = proto->int64_data;
        width = sizeof *proto->int64_data;
        *found = proto->n_int64_data;
    } else if (dtype == IVON_U32) {
        field = proto->uint64_data;
        width = sizeof *proto->uint64_data;
        *found = proto->n_uint64_data;
    }
    if (*found != count)
        return 0;
    if (width != size)
        return onnx_tensor_narrow(elements, field, width, size, count, error);
    elements->bytes = field;
    return 0;
}

static int find_elements(struct onnx_reader *reader, const char *name,
                         const Onnx__TensorProto *proto, enum ivon_dtype dtype, size_t count,
                         struct elements *elements, struct ivon_error *error)
{
    size_t size = ivon_dtype_size(dtype), found;
    int code = 0;
    if (proto->has_data_location &&
        proto->data_location == ONNX__TENSOR_PROTO__DATA_LOCATION__EXTERNAL)
        return find_external(reader, name, proto, count * size, elements, error);
    if (proto->segment)
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: tensor '%s': is a segment, which is not supported", reader->path,
                              name);
    if (proto->has_raw_data) {
        found = proto->raw_data.len / size;
        elements->bytes = proto->raw_data.data;
        if (proto->raw_data.len % size)
            found = SIZE_MAX;
    } else {
        code = find_typed(proto, dtype, count, elements, &found, error);
    }
    if (!code && found != count)
        code = ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: tensor '%s': its data are not the %zu elements of its shape",
                              reader->path, name, count);
    return code;
}

/* Conversion, piece by piece; the bytes may lie at any address. */
static void onnx_tensor_convert(struct net_tensor *tensor, const unsigned char *bytes,
                                enum ivon_dtype dtype)
{
    enum { PIECE = 512 };
    double stored[PIECE], values[PIECE]; /* `stored` for its alignment */
    size_t size = ivon_dtype_size(dtype);
    bool same = dtype == IVON_F32 || dtype == IVON_I64;
    if (same && tensor->count)
        memcpy(tensor->data, bytes, tensor->count * size);
    for (size_t first = 0; !same && first < tensor->count; first += PIECE) {
        size_t count = tensor->count - first < PIECE ? tensor->count - first : PIECE;
        memcpy(stored, bytes + first * size, count * size);
        ivon_dtype_to_f64(values, stored, dtype, count);
        if (tensor->type == NET_FLOAT)
            ivon_dtype_from_f64((float *)tensor->data + first, IVON_F32, values, count);
        for (size_t i = 0; tensor->type == NET_INTEGER && i < count; i++)
            ((int64_t *)tensor->data)[first + i] = (int64_t)values[i]; /* exact: 32 bits at most */
        for (size_t i = 0; tensor->type == NET_BOOLEAN && i < count; i++)
            ((uint8_t *)tensor->data)[first + i] = values[i] != 0;
    }
}

/* Type and shape. */
static int onnx_tensor_describe(const struct onnx_reader *reader, const char *name,
                                const Onnx__TensorProto *proto, struct net_tensor *tensor,
                                struct ivon_error *error)
{
    struct ivon_error reason = {0};
    enum net_type type;
    size_t count;
    if (!onnx_net_type(proto->data_type, &type))
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: tensor '%s': elements of type %s are not supported",
                              reader->path, name, onnx_type_name(proto->data_type));
    int rank = proto->n_dims <= IVON_RANK_MAX ? (int)proto->n_dims : IVON_RANK_MAX + 1;
    for (size_t i = 0; i < proto->n_dims; i++)
        if (proto->dims[i] < 0)
            return ivon_error_set(error, IVON_ERROR_DATA, "%s: tensor '%s': an extent of %" PRId64,
                                  reader->path, name, proto->dims[i]);
    tensor->integers = onnx_integers(proto->data_type);
    int code = net_tensor_set(tensor, type, rank, proto->dims, &reason);
    if (code)
        return ivon_error_set(error, code, "%s: tensor '%s': %s", reader->path, name,
                              reason.message);
    if (!tensor_shape_count(rank, proto->dims, sizeof(double), &count)) /* as stored, at most */
        return ivon_error_set(error, IVON_ERROR_DATA, "%s: tensor '%s': is too large", reader->path,
                              name);
    return 0;
}

int onnx_tensor(struct onnx_reader *reader, const char *name, const Onnx__TensorProto *proto,
                struct net_tensor *tensor, struct ivon_error *error)
{
    struct elements elements = {0};
    *tensor = (struct net_tensor){0};
    int code = onnx_tensor_describe(reader, name, proto, tensor, error);
    enum ivon_dtype dtype = code ? IVON_F32 : types[proto->data_type].dtype;
    if (!code)
        code = find_elements(reader, name, proto, dtype, tensor->count, &elements, error);
    if (!code)
        code = net_tensor_allocate(tensor, error);
    if (!code)
        onnx_tensor_convert(tensor, elements.bytes, dtype);
    onnx_tensor_release(&elements);
    return code;
}
