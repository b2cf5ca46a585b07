#include "bayes/transfer.h"

#include <math.h>
#include <stdlib.h>

#include "core/error.h"

enum { TILE = 512 /* elements: stay in the first-level cache */ };

int transfer_fetch(struct ivon_source *source, size_t tensor, size_t first, size_t count,
                   size_t capacity, unsigned char **block, const unsigned char **at,
                   struct ivon_error *error)
{
    *at = ivon_source_view(source, tensor, first);
    if (*at)
        return 0;
    if (!*block)
        *block = malloc(capacity * ivon_dtype_size(IVON_F64));
    if (!*block)
        return ivon_error_memory(error);
    *at = *block;
    return ivon_source_read(source, tensor, first, count, *block, error);
}

int transfer_numbers(struct ivon_source *source, size_t tensor, size_t first, size_t count,
                     size_t capacity, unsigned char **block, double *out, struct ivon_error *error)
{
    const unsigned char *at;
    int code = transfer_fetch(source, tensor, first, count, capacity, block, &at, error);
    if (!code)
        ivon_dtype_to_f64(out, at, ivon_source_tensor(source, tensor)->dtype, count);
    return code;
}

int transfer_floats(struct ivon_source *source, size_t tensor, size_t first, size_t count,
                    float *out, struct ivon_error *error)
{
    double numbers[TILE];
    unsigned char *block = NULL;
    int code = 0;
    for (size_t done = 0; done < count && !code; done += TILE) {
        size_t piece = count - done < TILE ? count - done : TILE;
        code = transfer_numbers(source, tensor, first + done, piece, TILE, &block, numbers, error);
        if (!code)
            ivon_dtype_from_f64(out + done, IVON_F32, numbers, piece);
    }
    free(block);
    return code;
}

double transfer_overflow_bound(enum ivon_dtype dtype)
{
    switch (dtype) {
    case IVON_F16:
        return 65520;
    case IVON_BF16:
        return 0x1.ffp127;
    case IVON_F32:
        return 0x1.ffffffp127;
    default:
        return INFINITY;
    }
}

size_t transfer_convert(void *out, enum ivon_dtype to, const void *in, enum ivon_dtype from,
                        size_t count)
{
    double values[TILE], bound = transfer_overflow_bound(to);
    size_t in_size = ivon_dtype_size(from), out_size = ivon_dtype_size(to);
    for (size_t done = 0; done < count; done += TILE) {
        size_t tile = count - done < TILE ? count - done : TILE;
        ivon_dtype_to_f64(values, (const char *)in + done * in_size, from, tile);
        for (size_t i = 0; i < tile; i++)
            if (isfinite(values[i]) && fabs(values[i]) >= bound)
                return done + i;
        ivon_dtype_from_f64((char *)out + done * out_size, to, values, tile);
    }
    return count;
}

int transfer_overflow(const struct ivon_source *source, const char *name, size_t first,
                      const void *block, enum ivon_dtype from, enum ivon_dtype to, size_t at,
                      struct ivon_error *error)
{
    double value;
    ivon_dtype_to_f64(&value, (const char *)block + at * ivon_dtype_size(from), from, 1);
    return ivon_error_set(error, IVON_ERROR_DATA,
                          "%s: '%s' would be %g at element %zu, which does not fit into %s",
                          ivon_source_path(source), name, value, first + at, ivon_dtype_name(to));
}
