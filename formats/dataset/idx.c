/* The IDX format of the MNIST files: two zeros, a type, the rank, big-endian extents, elements. */
#include <string.h>

#include "core/error.h"
#include "core/stream.h"
#include "formats/numpy/array.h"

/* The element type of a type byte; false for none. */
static bool idx_element_type(unsigned char byte, enum ivon_dtype *dtype)
{
    static const struct {
        unsigned char byte;
        enum ivon_dtype dtype;
    } types[] = {{0x08, IVON_U8},  {0x09, IVON_I8},  {0x0b, IVON_I16},
                 {0x0c, IVON_I32}, {0x0d, IVON_F32}, {0x0e, IVON_F64}};
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (types[i].byte == byte) {
            *dtype = types[i].dtype;
            return true;
        }
    return false;
}

bool idx_recognise(const struct mapped_file *file)
{
    enum ivon_dtype dtype;
    return file->size >= 4 && file->data[0] == 0 && file->data[1] == 0 &&
           idx_element_type(file->data[2], &dtype);
}

bool gzip_recognise(const struct mapped_file *file)
{
    return file->size >= 3 && file->data[0] == 0x1f && file->data[1] == 0x8b && file->data[2] == 8;
}

int idx_parse(struct array *array, struct ivon_error *error)
{
    unsigned char head[4], extents[4 * IVON_RANK_MAX];
    const char *name = bytes_name(array->bytes);
    int code = bytes_read(array->bytes, 0, sizeof head, head, error);
    if (code)
        return code;
    if (head[0] || head[1] || !idx_element_type(head[2], &array->dtype))
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: a gzip file, but not of IDX data: gunzip it", name);
    if (head[3] < 1 || head[3] > IVON_RANK_MAX)
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: an IDX file with %u dimensions, expected 1 to %d", name, head[3],
                              IVON_RANK_MAX);
    array->rank = head[3];
    code = bytes_read(array->bytes, 4, 4 * (size_t)array->rank, extents, error);
    if (code)
        return code;
    for (int i = 0; i < array->rank; i++) {
        uint32_t extent;
        memcpy(&extent, extents + 4 * (size_t)i, sizeof extent);
        array->shape[i] = __builtin_bswap32(extent);
    }
    array->offset = 4 + 4 * (uint64_t)array->rank;
    array->swapped = true;
    size_t count, size = ivon_dtype_size(array->dtype);
    if (!tensor_shape_count(array->rank, array->shape, size, &count))
        return ivon_error_set(error, IVON_ERROR_DATA, "%s: has more elements than memory can hold",
                              name);
    return bytes_expect(array->bytes, array->offset + count * size, error);
}
