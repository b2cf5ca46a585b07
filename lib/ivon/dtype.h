/* Element types of stored tensors, and their conversion to and from double. */
#ifndef IVON_DTYPE_H
#define IVON_DTYPE_H

#include <stdbool.h>
#include <stddef.h>

#include "ivon/api.h"

#ifdef __cplusplus
extern "C" {
#endif

enum ivon_dtype {
    IVON_F64,
    IVON_F32,
    IVON_F16,  /* IEEE 754 binary16 */
    IVON_BF16, /* the upper half of a binary32 */
    IVON_I64,
    IVON_I32,
    IVON_I16,
    IVON_I8,
    IVON_U64,
    IVON_U32,
    IVON_U16,
    IVON_U8,
    IVON_BOOL, /* one byte, 0 or 1 */
    IVON_DTYPE_COUNT
};

/* In options, instead of a type: the input's own. */
enum { IVON_DTYPE_KEEP = -1 };

/* Bytes of one element. */
IVON_API size_t ivon_dtype_size(enum ivon_dtype dtype);

/* "f32", "bf16", "i64", "bool" … */
IVON_API const char *ivon_dtype_name(enum ivon_dtype dtype);

/* Returns whether elements of this type are floating-point numbers. */
IVON_API bool ivon_dtype_is_float(enum ivon_dtype dtype);

/* Converts `count` elements to double. Exact, but for 64-bit integers beyond 2^53. */
IVON_API void ivon_dtype_to_f64(double *out, const void *in, enum ivon_dtype dtype, size_t count);

/*
 * Converts `count` doubles to a floating-point type, each rounded once, to nearest, ties to even;
 * what exceeds the type becomes infinite. `dtype` is one of the four floating-point types.
 */
IVON_API void ivon_dtype_from_f64(void *out, enum ivon_dtype dtype, const double *in, size_t count);

#ifdef __cplusplus
}
#endif

#endif
