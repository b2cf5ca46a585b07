/* Tensors of an ONNX file, wherever their elements are. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "core/error.h"
#include "core/stream.h"
#include "formats/onnx/private.h"

/* Types that the library's onnx.proto may be too old to name. */
enum {
    FLOAT8E4M3FN = 17,
    FLOAT8E4M3FNUZ,
    FLOAT8E5M2,
    FLOAT8E5M2FNUZ,
    UINT4,
    INT4,
    FLOAT4E2M1,
    FLOAT8E8M0,
    UINT2,
    INT2
};

static const struct {
    const char *name;
    bool known;
    enum ivon_dtype dtype; /* as it is stored */
    enum net_type type;    /* that it becomes, or would */
} types[] = {
    [ONNX__TENSOR_PROTO__DATA_TYPE__UNDEFINED] = {.name = "undefined", .type = NET_INTEGER},
    [ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT] = {"float", true, IVON_F32, NET_FLOAT},
    [ONNX__TENSOR_PROTO__DATA_TYPE__UINT8] = {"uint8", true, IVON_U8, NET_INTEGER},
    [ONNX__TENSOR_PROTO__DATA_TYPE__INT8] = {"int8", true, IVON_I8, NET_INTEGER},
    [ONNX__TENSOR_PROTO__DATA_TYPE__UINT16] = {"uint16", true, IVON_U16, NET_INTEGER},
    [ONNX__TENSOR_PROTO__DATA_TYPE__INT16] = {"int16", true, IVON_I16, NET_INTEGER},
    [ONNX__TENSOR_PROTO__DATA_TYPE__INT32] = {"int32", true, IVON_I32, NET_INTEGER},
    [ONNX__TENSOR_PROTO__DATA_TYPE__INT64] = {"int64", true, IVON_I64, NET_INTEGER},
    [ONNX__TENSOR_PROTO__DATA_TYPE__STRING] = {.name = "string", .type = NET_INTEGER},
    [ONNX__TENSOR_PROTO__DATA_TYPE__BOOL] = {"bool", true, IVON_BOOL, NET_BOOLEAN},
    [ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT16] = {"float16", true, IVON_F16, NET_FLOAT},
    [ONNX__TENSOR_PROTO__DATA_TYPE__DOUBLE] = {"double", true, IVON_F64, NET_FLOAT},
    [ONNX__TENSOR_PROTO__DATA_TYPE__UINT32] = {"uint32", true, IVON_U32, NET_INTEGER},
    [ONNX__TENSOR_PROTO__DATA_TYPE__UINT64] = {"uint64", true, IVON_U64, NET_INTEGER},
    [ONNX__TENSOR_PROTO__DATA_TYPE__COMPLEX64] = {.name = "complex64", .type = NET_FLOAT},
    [ONNX__TENSOR_PROTO__DATA_TYPE__COMPLEX128] = {.name = "complex128", .type = NET_FLOAT},
    [ONNX__TENSOR_PROTO__DATA_TYPE__BFLOAT16] = {"bfloat16", true, IVON_BF16, NET_FLOAT},
    [FLOAT8E4M3FN] = {.name = "float8e4m3fn", .type = NET_FLOAT},
    [FLOAT8E4M3FNUZ] = {.name = "float8e4m3fnuz", .type = NET_FLOAT},
    [FLOAT8E5M2] = {.name = "float8e5m2", .type = NET_FLOAT},
    [FLOAT8E5M2FNUZ] = {.name = "float8e5m2fnuz", .type = NET_FLOAT},
    [UINT4] = {.name = "uint4", .type = NET_INTEGER},
    [INT4] = {.name = "int4", .type = NET_INTEGER},
    [FLOAT4E2M1] = {.name = "float4e2m1", .type = NET_FLOAT},
    [FLOAT8E8M0] = {.name = "float8e8m0", .type = NET_FLOAT},
    [UINT2] = {.name = "uint2", .type = NET_INTEGER},
    [INT2] = {.name = "int2", .type = NET_INTEGER},
};

enum { TYPE_COUNT = sizeof types / sizeof types[0] };

bool onnx_net_type(int32_t data_type, enum net_type *type)
{
    if (data_type < 0 || data_type >= TYPE_COUNT || !types[data_type].known)
        return false;
    *type = types[data_type].type;
    return true;
}

bool onnx_stored_dtype(int32_t data_type, enum ivon_dtype *dtype)
{
    if (data_type < 0 || data_type >= TYPE_COUNT || !types[data_type].known)
        return false;
    *dtype = types[data_type].dtype;
    return true;
}

int32_t onnx_data_type(enum ivon_dtype dtype)
{
    int32_t found = 0;
    for (int32_t i = 0; i < TYPE_COUNT; i++)
        if (types[i].known && types[i].dtype == dtype)
            found = i;
    return found;
}

bool onnx_type_is_float(int32_t data_type)
{
    return data_type >= 0 && data_type < TYPE_COUNT && types[data_type].type == NET_FLOAT;
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

/* Data in the file itself. */

/* The low bytes of wider integers. */
static int onnx_tensor_narrow(struct onnx_elements *elements, const void *wide, size_t wide_size,
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
                      struct onnx_elements *elements, size_t *found, struct ivon_error *error)
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
    } else if (dtype == IVON_U32 || dtype == IVON_U64) {
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

int onnx_find_elements(struct onnx_reader *reader, const char *name, const Onnx__TensorProto *proto,
                       enum ivon_dtype dtype, size_t count, struct onnx_elements *elements,
                       struct ivon_error *error)
{
    size_t size = ivon_dtype_size(dtype), found;
    int code = 0;
    if (proto->has_data_location &&
        proto->data_location == ONNX__TENSOR_PROTO__DATA_LOCATION__EXTERNAL)
        return onnx_find_external(reader, name, proto, count * size, elements, error);
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

/* Conversion, piece by piece; the bytes may lie at any address. What is beyond 63 bits is the
   greatest integer, as ONNX writes "to the end". */
static void onnx_tensor_convert(struct net_tensor *tensor, const unsigned char *bytes,
                                enum ivon_dtype dtype)
{
    enum { PIECE = 512 };
    double stored[PIECE], values[PIECE]; /* `stored` for its alignment */
    size_t size = ivon_dtype_size(dtype);
    bool same = dtype == IVON_F32 || dtype == IVON_I64 || dtype == IVON_U64;
    if (same && tensor->count)
        memcpy(tensor->data, bytes, tensor->count * size);
    for (size_t i = 0; dtype == IVON_U64 && i < tensor->count; i++)
        if (((int64_t *)tensor->data)[i] < 0)
            ((int64_t *)tensor->data)[i] = INT64_MAX;
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
    struct onnx_elements elements = {0};
    *tensor = (struct net_tensor){0};
    int code = onnx_tensor_describe(reader, name, proto, tensor, error);
    enum ivon_dtype dtype = code ? IVON_F32 : types[proto->data_type].dtype;
    if (!code)
        code = onnx_find_elements(reader, name, proto, dtype, tensor->count, &elements, error);
    if (!code)
        code = net_tensor_allocate(tensor, error);
    if (!code)
        onnx_tensor_convert(tensor, elements.bytes, dtype);
    if (!code && elements.file && elements.bytes) /* they need not stay in memory twice */
        mapped_advise(&elements.file->mapped,
                      (uint64_t)(elements.bytes - elements.file->mapped.data),
                      (uint64_t)tensor->count * ivon_dtype_size(dtype), MADV_DONTNEED);
    free(elements.owned);
    return code;
}
