#include "formats/numpy/array.h"

#include <string.h>

#include "core/error.h"
#include "formats/io/strided.h"

enum { LARGE = 1 << 20 /* bytes, after whose reading pages are released */ };

static void swap_16(unsigned char *data, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        uint16_t value;
        memcpy(&value, data + 2 * i, sizeof value);
        value = __builtin_bswap16(value);
        memcpy(data + 2 * i, &value, sizeof value);
    }
}

static void swap_32(unsigned char *data, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        uint32_t value;
        memcpy(&value, data + 4 * i, sizeof value);
        value = __builtin_bswap32(value);
        memcpy(data + 4 * i, &value, sizeof value);
    }
}

static void swap_64(unsigned char *data, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        uint64_t value;
        memcpy(&value, data + 8 * i, sizeof value);
        value = __builtin_bswap64(value);
        memcpy(data + 8 * i, &value, sizeof value);
    }
}

void array_swap(void *data, size_t element_size, size_t count)
{
    if (element_size == 2)
        swap_16(data, count);
    else if (element_size == 4)
        swap_32(data, count);
    else if (element_size == 8)
        swap_64(data, count);
}

int array_open(struct array *array, const struct mapped_file *file, struct ivon_error *error)
{
    struct bytes_origin origin = {.name = file->path,
                                  .file = file,
                                  .data = file->data,
                                  .data_size = file->size,
                                  .coding = gzip_recognise(file) ? BYTES_GZIPPED : BYTES_STORED};
    *array = (struct array){0};
    if (!npy_recognise(file) && !idx_recognise(file) && !gzip_recognise(file))
        return ivon_error_set(error, IVON_ERROR_DATA, "%s: is neither an npy nor an IDX file",
                              file->path);
    int code = bytes_open(&array->bytes, &origin, error);
    if (!code)
        code = npy_recognise(file) ? npy_parse(array, error) : idx_parse(array, error);
    if (code)
        array_close(array);
    return code;
}

int array_refuse_opaque(const struct array *array, struct ivon_error *error)
{
    return *array->opaque ? ivon_error_set(error, IVON_ERROR_DATA,
                                           "%s: is of type '%s', expected numbers or booleans of "
                                           "at most %d dimensions",
                                           bytes_name(array->bytes), array->opaque, IVON_RANK_MAX)
                          : 0;
}

void array_close(struct array *array)
{
    bytes_close(array->bytes);
    *array = (struct array){0};
}

int array_read(struct array *array, uint64_t first, size_t count, void *out,
               struct ivon_error *error)
{
    size_t size = ivon_dtype_size(array->dtype);
    int code = 0;
    if (array->fortran) {
        int64_t strides[IVON_RANK_MAX];
        strided_fortran(strides, array->rank, array->shape);
        strided_copy(out, bytes_view(array->bytes) + array->offset, size, array->rank, array->shape,
                     strides, first, count);
        if (count * size >= LARGE)
            bytes_let_go(array->bytes);
    } else {
        code = bytes_read(array->bytes, array->offset + first * size, count * size, out, error);
    }
    if (!code && array->swapped)
        array_swap(out, size, count);
    return code;
}

int array_read_strings(struct array *array, uint64_t first, size_t count, void *out,
                       struct ivon_error *error)
{
    size_t size = array->string_size;
    return bytes_read(array->bytes, array->offset + first * size, count * size, out, error);
}
