/*
 * Vectors of floats, for kernels that are written once as macros and compiled for several
 * instruction sets: lanes_plain, lanes_avx2, lanes_avx512 and lanes_short, which has the registers
 * and masks of the third but half as many lanes. A sum is a fused multiply-add, which rounds once,
 * so that all of them compute the same bits.
 */
#ifndef NET_OPS_PRODUCT_LANES_H
#define NET_OPS_PRODUCT_LANES_H

#include <math.h>
#include <stdbool.h>
#include <stddef.h>

/* Clang takes minutes to instrument these kernels for its address sanitizer. */
#if defined(__has_feature)
#define LANES_SANITIZED __has_feature(address_sanitizer)
#else
#define LANES_SANITIZED 0
#endif

#if defined(__x86_64__) && defined(__GNUC__) && !LANES_SANITIZED
#include <immintrin.h>
#define LANES_X86 1
#endif

#define LANES_INLINE static inline __attribute__((always_inline))
#define LANES_UNROLL _Pragma("GCC unroll 16")

/*
 * Steps that are done to outputs while they are in registers. With the coefficients of row or
 * channel i,
 *
 *     x = (x − center[i]) slope[i] + offset[i], + operand,
 *
 * then `least` takes the place of x <= edge, and `most` that of x >= most; a bound that is NaN
 * replaces nothing. NaN stays.
 */
struct lanes_finish {
    const float *center, *slope, *offset;
    const float *operand; /* of the first output, and further ones as far apart as these; or null */
    float edge, least, most;
};

/* Returns the steps for the outputs from row or channel `first` on, `distance` behind. */
static inline struct lanes_finish lanes_finish_from(const struct lanes_finish *finish, size_t first,
                                                    size_t distance)
{
    struct lanes_finish part = *finish;
    part.center += first;
    part.slope += first;
    part.offset += first;
    part.operand = part.operand ? part.operand + distance : NULL;
    return part;
}

/* Defines NAME_map, of row or channel i; NAME_bound is the rest. */
#define LANES_DEFINE_MAP(NAME, VECTOR, ...)                                                        \
    __VA_ARGS__ LANES_INLINE VECTOR NAME##_map(const struct lanes_finish *finish, size_t i,        \
                                               VECTOR x)                                           \
    {                                                                                              \
        return (x - NAME##_all(finish->center[i])) * NAME##_all(finish->slope[i]) +                \
               NAME##_all(finish->offset[i]);                                                      \
    }

typedef float lanes4 __attribute__((vector_size(16), aligned(4), may_alias));

LANES_INLINE lanes4 lanes_plain_all(float x)
{
    return (lanes4){x, x, x, x};
}

/* A call, unless fmaf is an instruction: else fmaf is a call, too, and takes longer. */
#ifdef __FP_FAST_FMAF
LANES_INLINE
#else
__attribute__((noinline, unused)) static
#endif
lanes4 lanes_plain_add(lanes4 sums, lanes4 weight, lanes4 values)
{
    for (int i = 0; i < 4; i++)
        sums[i] = fmaf(weight[i], values[i], sums[i]);
    return sums;
}

LANES_INLINE lanes4 lanes_plain_bound(lanes4 x, float edge, float least, float most)
{
    for (int i = 0; i < 4; i++) {
        x[i] = x[i] <= edge ? least : x[i];
        x[i] = x[i] >= most ? most : x[i];
    }
    return x;
}

LANES_DEFINE_MAP(lanes_plain, lanes4, )

#ifdef LANES_X86

#define LANES_AVX2   __attribute__((target("avx2,fma")))
#define LANES_AVX512 __attribute__((target("avx512f,avx512vl,fma")))

typedef float lanes8 __attribute__((vector_size(32), aligned(4), may_alias));
typedef float lanes16 __attribute__((vector_size(64), aligned(4), may_alias));

LANES_AVX2 LANES_INLINE lanes8 lanes_avx2_all(float x)
{
    return (lanes8)_mm256_set1_ps(x);
}

LANES_AVX2 LANES_INLINE lanes8 lanes_avx2_add(lanes8 sums, lanes8 weight, lanes8 values)
{
    return (lanes8)_mm256_fmadd_ps((__m256)weight, (__m256)values, (__m256)sums);
}

LANES_AVX2 LANES_INLINE lanes8 lanes_avx2_bound(lanes8 x, float edge, float least, float most)
{
    __m256 below = _mm256_cmp_ps((__m256)x, _mm256_set1_ps(edge), _CMP_LE_OQ);
    __m256 y = _mm256_blendv_ps((__m256)x, _mm256_set1_ps(least), below);
    __m256 above = _mm256_cmp_ps(y, _mm256_set1_ps(most), _CMP_GE_OQ);
    return (lanes8)_mm256_blendv_ps(y, _mm256_set1_ps(most), above);
}

LANES_DEFINE_MAP(lanes_avx2, lanes8, LANES_AVX2)

LANES_AVX512 LANES_INLINE lanes16 lanes_avx512_all(float x)
{
    return (lanes16)_mm512_set1_ps(x);
}

LANES_AVX512 LANES_INLINE lanes16 lanes_avx512_add(lanes16 sums, lanes16 weight, lanes16 values)
{
    return (lanes16)_mm512_fmadd_ps((__m512)weight, (__m512)values, (__m512)sums);
}

LANES_AVX512 LANES_INLINE lanes16 lanes_avx512_bound(lanes16 x, float edge, float least, float most)
{
    __mmask16 below = _mm512_cmp_ps_mask((__m512)x, _mm512_set1_ps(edge), _CMP_LE_OQ);
    __m512 y = _mm512_mask_mov_ps((__m512)x, below, _mm512_set1_ps(least));
    __mmask16 above = _mm512_cmp_ps_mask(y, _mm512_set1_ps(most), _CMP_GE_OQ);
    return (lanes16)_mm512_mask_mov_ps(y, above, _mm512_set1_ps(most));
}

LANES_DEFINE_MAP(lanes_avx512, lanes16, LANES_AVX512)

LANES_AVX512 LANES_INLINE lanes8 lanes_short_all(float x)
{
    return (lanes8)_mm256_set1_ps(x);
}

LANES_AVX512 LANES_INLINE lanes8 lanes_short_add(lanes8 sums, lanes8 weight, lanes8 values)
{
    return (lanes8)_mm256_fmadd_ps((__m256)weight, (__m256)values, (__m256)sums);
}

LANES_AVX512 LANES_INLINE lanes8 lanes_short_bound(lanes8 x, float edge, float least, float most)
{
    __mmask8 below = _mm256_cmp_ps_mask((__m256)x, _mm256_set1_ps(edge), _CMP_LE_OQ);
    __m256 y = _mm256_mask_mov_ps((__m256)x, below, _mm256_set1_ps(least));
    __mmask8 above = _mm256_cmp_ps_mask(y, _mm256_set1_ps(most), _CMP_GE_OQ);
    return (lanes8)_mm256_mask_mov_ps(y, above, _mm256_set1_ps(most));
}

LANES_DEFINE_MAP(lanes_short, lanes8, LANES_AVX512)

/* Return whether the machine has the instructions. */
static inline bool lanes_has_avx512(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("fma");
}

static inline bool lanes_has_avx2(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

#endif

#endif
