/*
 * Conv: groups of one channel and one filter, whose images are read where they lie. Each output has
 * few terms, so packing would take longer than the sums. Rows beyond the image are left out, and
 * elements beyond its rows are read as zeros, by masks, on all machines.
 */
#include <math.h>

#include "net/ops/convolution/convolution.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#endif

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")

enum {
    ROWS_MAX =
        7, /* of outputs, whose sums stay in registers; of most networks, a divisor of rows */
    ROWS_FEW = 4,             /* where there are many weights beside them */
    TAPS_MAX = 5,             /* along an axis */
    LOADS_MAX = TAPS_MAX + 1, /* of a row of the input, for a vector of outputs */
    BAND = 4096,              /* outputs that are finished at once: within the first-level cache */
};

/* Rows of outputs, one after the other, and their image. */
struct depthwise_band {
    const float *x, *weights;
    int64_t height, width; /* of the image */
    int64_t top, left;     /* where the first output's first tap lies */
    float bias;
    float *out;
    size_t rows, columns;
};

/* The lanes of a vector from column `start` on that lie in the image, as bits. */
INLINE unsigned depthwise_inside(int64_t start, int64_t width, int lanes)
{
    int64_t first = start < 0 ? -start : 0, end = width - start;
    if (first >= lanes || end <= first)
        return 0;
    return (end < lanes ? (1U << end) - 1 : (unsigned)((1ULL << lanes) - 1)) & ~0U << first;
}

/*
 * Defines NAME_columns for vectors of one size. `taps` of the kernel along each axis, and the
 * strides `down` and `right`, are constants, or compilers keep the sums in memory. With a stride of
 * two to the right, two vectors are read for each pair of taps, and the even lanes parted from the
 * odd.
 */
#define DEFINE_COLUMNS(NAME, VECTOR, MASK, ...)                                                    \
    __VA_ARGS__ INLINE void NAME##_row(const float *from, const MASK *masks, const int taps,       \
                                       const int right, VECTOR *values)                            \
    {                                                                                              \
        enum { LANES = sizeof(VECTOR) / sizeof *from };                                            \
        if (right == 1) {                                                                          \
            UNROLL for (int k = 0; k < taps; k++) values[k] = NAME##_load(from + k, masks[k]);     \
            return;                                                                                \
        }                                                                                          \
        UNROLL for (int k = 0; k < taps; k += 2)                                                   \
        {                                                                                          \
            VECTOR a = NAME##_load(from + k, masks[k]);                                            \
            VECTOR b = NAME##_load(from + k + LANES, masks[k + 1]);                                \
            values[k] = NAME##_even(a, b);                                                         \
            values[k + 1] = NAME##_odd(a, b);                                                      \
        }                                                                                          \
    }                                                                                              \
    __VA_ARGS__ INLINE void NAME##_tile(const struct depthwise_band *band, const VECTOR *weights,  \
                                        const MASK *masks, size_t y, size_t x, const int taps,     \
                                        const int down, const int right, const bool whole)         \
    {                                                                                              \
        enum { LANES = sizeof(VECTOR) / sizeof *band->x };                                         \
        const int rows = taps == 3 ? ROWS_MAX : ROWS_FEW;                                          \
        VECTOR sums[ROWS_MAX], values[LOADS_MAX];                                                  \
        int64_t row = band->top + (int64_t)y * down;                                               \
        int64_t at = band->left + (int64_t)x * right;                                              \
        UNROLL for (int i = 0; i < rows; i++) sums[i] = (VECTOR){0} + band->bias;                  \
        UNROLL for (int k = 0; k < (rows - 1) * down + taps; k++)                                  \
        {                                                                                          \
            if (!whole && (row + k < 0 || row + k >= band->height))                                \
                continue;                                                                          \
            NAME##_row(band->x + (row + k) * band->width + at, masks, taps, right, values);        \
            UNROLL for (int i = 0; i < rows; i++) if (k >= i * down && k < i * down + taps)        \
                UNROLL for (int j = 0; j < taps; j++)                                              \
                    sums[i] = NAME##_add(sums[i], weights[(k - i * down) * taps + j], values[j]);  \
        }                                                                                          \
        UNROLL for (int i = 0; i < rows; i++)                                                      \
        {                                                                                          \
            size_t to = (y + (size_t)i) * band->columns + x, end = band->rows * band->columns;     \
            if (to + LANES <= end)                                                                 \
                *(VECTOR *)(band->out + to) = sums[i];                                             \
            else if (to < end)                                                                     \
                NAME##_store(band->out + to, NAME##_mask((1U << (end - to)) - 1), sums[i]);        \
        }                                                                                          \
    }                                                                                              \
    __VA_ARGS__ INLINE void NAME##_columns(const struct depthwise_band *band, const int taps,      \
                                           const int down, const int right)                        \
    {                                                                                              \
        enum { LANES = sizeof(VECTOR) / sizeof *band->x };                                         \
        const int rows = taps == 3 ? ROWS_MAX : ROWS_FEW, reach = (rows - 1) * down + taps;        \
        VECTOR weights[TAPS_MAX * TAPS_MAX];                                                       \
        UNROLL for (int i = 0; i < taps * taps; i++) weights[i] = (VECTOR){0} + band->weights[i];  \
        for (size_t x = 0; x < band->columns; x += LANES) {                                        \
            MASK masks[LOADS_MAX];                                                                 \
            size_t last = band->columns > LANES ? band->columns - LANES : 0;                       \
            size_t at = convolution_smaller(x, last);                                              \
            UNROLL for (int k = 0; k < LOADS_MAX; k++)                                             \
            {                                                                                      \
                int64_t start = band->left + (int64_t)at * right +                                 \
                                (right == 1 ? k : k / 2 * 2 + k % 2 * LANES);                      \
                masks[k] = NAME##_mask(depthwise_inside(start, band->width, LANES));               \
            }                                                                                      \
            for (size_t y = 0; y < band->rows; y += (size_t)rows) {                                \
                int64_t row = band->top + (int64_t)y * down;                                       \
                if (row >= 0 && row + reach <= band->height)                                       \
                    NAME##_tile(band, weights, masks, y, at, taps, down, right, true);             \
                else                                                                               \
                    NAME##_tile(band, weights, masks, y, at, taps, down, right, false);            \
            }                                                                                      \
        }                                                                                          \
    }

/* One function for each kernel: one for all is too much for a compiler that tracks variables. */
#define DEFINE_KERNEL(NAME, TAPS, DOWN, RIGHT, ...)                                                \
    __VA_ARGS__ __attribute__((noinline)) static void NAME##_##TAPS##_##DOWN##_##RIGHT(            \
        const struct depthwise_band *band)                                                         \
    {                                                                                              \
        NAME##_columns(band, TAPS, DOWN, RIGHT);                                                   \
    }

#define DEFINE_KERNELS(NAME, ...)                                                                  \
    DEFINE_KERNEL(NAME, 3, 1, 1, __VA_ARGS__)                                                      \
    DEFINE_KERNEL(NAME, 3, 2, 1, __VA_ARGS__)                                                      \
    DEFINE_KERNEL(NAME, 3, 2, 2, __VA_ARGS__)                                                      \
    DEFINE_KERNEL(NAME, 5, 1, 1, __VA_ARGS__)                                                      \
    DEFINE_KERNEL(NAME, 5, 2, 1, __VA_ARGS__)                                                      \
    DEFINE_KERNEL(NAME, 5, 2, 2, __VA_ARGS__)                                                      \
    static void NAME##_band(const struct depthwise_band *band, int64_t taps,                       \
                            const int64_t *stride)                                                 \
    {                                                                                              \
        bool few = taps == 3;                                                                      \
        if (stride[1] == 2)                                                                        \
            (few ? NAME##_3_2_2 : NAME##_5_2_2)(band);                                             \
        else if (stride[0] == 2)                                                                   \
            (few ? NAME##_3_2_1 : NAME##_5_2_1)(band);                                             \
        else                                                                                       \
            (few ? NAME##_3_1_1 : NAME##_5_1_1)(band);                                             \
    }

typedef float vector4 __attribute__((vector_size(16), aligned(4), may_alias));

INLINE vector4 depthwise_plain_add(vector4 sums, vector4 weight, vector4 values)
{
    for (int i = 0; i < 4; i++)
        sums[i] = fmaf(weight[i], values[i], sums[i]);
    return sums;
}

INLINE unsigned depthwise_plain_mask(unsigned bits)
{
    return bits;
}

INLINE vector4 depthwise_plain_load(const float *from, unsigned mask)
{
    if (mask == 15)
        return *(const vector4 *)from;
    vector4 values = {0};
    for (int i = 0; i < 4; i++)
        if (mask >> i & 1)
            values[i] = from[i];
    return values;
}

INLINE void depthwise_plain_store(float *to, unsigned mask, vector4 values)
{
    for (int i = 0; i < 4; i++)
        if (mask >> i & 1)
            to[i] = values[i];
}

INLINE vector4 depthwise_plain_even(vector4 a, vector4 b)
{
    return __builtin_shufflevector(a, b, 0, 2, 4, 6);
}

INLINE vector4 depthwise_plain_odd(vector4 a, vector4 b)
{
    return __builtin_shufflevector(a, b, 1, 3, 5, 7);
}

DEFINE_COLUMNS(depthwise_plain, vector4, unsigned, )
DEFINE_KERNELS(depthwise_plain, )

#if defined(__x86_64__) && defined(__GNUC__)

#define AVX2   __attribute__((target("avx2,fma")))
#define AVX512 __attribute__((target("avx512f")))

typedef float vector8 __attribute__((vector_size(32), aligned(4), may_alias));
typedef float vector16 __attribute__((vector_size(64), aligned(4), may_alias));

AVX2 INLINE vector8 depthwise_avx2_add(vector8 sums, vector8 weight, vector8 values)
{
    return (vector8)_mm256_fmadd_ps((__m256)weight, (__m256)values, (__m256)sums);
}

AVX2 INLINE __m256i depthwise_avx2_mask(unsigned bits)
{
    const __m256i lanes = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    return _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32((int)bits), lanes), lanes);
}

AVX2 INLINE vector8 depthwise_avx2_load(const float *from, __m256i mask)
{
    return (vector8)_mm256_maskload_ps(from, mask);
}

AVX2 INLINE void depthwise_avx2_store(float *to, __m256i mask, vector8 values)
{
    _mm256_maskstore_ps(to, mask, (__m256)values);
}

AVX2 INLINE vector8 depthwise_avx2_even(vector8 a, vector8 b)
{
    return __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14);
}

AVX2 INLINE vector8 depthwise_avx2_odd(vector8 a, vector8 b)
{
    return __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15);
}

AVX512 INLINE vector16 depthwise_avx512_add(vector16 sums, vector16 weight, vector16 values)
{
    return (vector16)_mm512_fmadd_ps((__m512)weight, (__m512)values, (__m512)sums);
}

AVX512 INLINE __mmask16 depthwise_avx512_mask(unsigned bits)
{
    return (__mmask16)bits;
}

AVX512 INLINE vector16 depthwise_avx512_load(const float *from, __mmask16 mask)
{
    return (vector16)_mm512_maskz_loadu_ps(mask, from);
}

AVX512 INLINE void depthwise_avx512_store(float *to, __mmask16 mask, vector16 values)
{
    _mm512_mask_storeu_ps(to, mask, (__m512)values);
}

AVX512 INLINE vector16 depthwise_avx512_even(vector16 a, vector16 b)
{
    return __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
}

AVX512 INLINE vector16 depthwise_avx512_odd(vector16 a, vector16 b)
{
    return __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
}

DEFINE_COLUMNS(depthwise_avx2, vector8, __m256i, AVX2)
DEFINE_COLUMNS(depthwise_avx512, vector16, __mmask16, AVX512)
DEFINE_KERNELS(depthwise_avx2, AVX2)
DEFINE_KERNELS(depthwise_avx512, AVX512)

static void depthwise_run_band(const struct depthwise_band *band, int64_t taps,
                               const int64_t *stride)
{
    if (__builtin_cpu_supports("avx512f"))
        depthwise_avx512_band(band, taps, stride);
    else if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        depthwise_avx2_band(band, taps, stride);
    else
        depthwise_plain_band(band, taps, stride);
}

#else

static void depthwise_run_band(const struct depthwise_band *band, int64_t taps,
                               const int64_t *stride)
{
    depthwise_plain_band(band, taps, stride);
}

#endif

bool convolution_depthwise_lay_out(struct convolution *c)
{
    const struct net_window *window = &c->window;
    int64_t taps = window->kernel[0];
    if (c->channels != 1 || c->filters != 1 || (taps != 3 && taps != TAPS_MAX) ||
        window->kernel[1] != taps || window->stride[0] > 2 || window->stride[1] > window->stride[0])
        return false;
    for (int axis = 0; axis < 2; axis++)
        if (window->dilation[axis] != 1)
            return false;
    c->layout = CONVOLUTION_DEPTHWISE;
    c->pitch = (size_t)window->output[1];
    c->band = round_up(BAND / c->pitch + 1, (size_t)ROWS_MAX * ROWS_FEW);
    c->band = convolution_smaller(c->band, (size_t)window->output[0]);
    return true;
}

/* Stores a band elsewhere than in one piece, or adds it. */
static void depthwise_store(const struct convolution *c, const struct depthwise_band *band,
                            bool add, float *y)
{
    const float *from = band->out;
    for (size_t i = 0; i < band->rows; i++, from += band->columns, y += c->target_pitch)
        for (size_t j = 0; j < band->columns; j++)
            y[j * c->target_step] = from[j] + (add ? y[j * c->target_step] : 0);
}

void convolution_depthwise_run(const struct convolution *c, const float *weights, float bias,
                               const float *x, bool add, float *y,
                               const struct convolution_finish *finish, float *workspace)
{
    const struct net_window *window = &c->window;
    bool straight = !add && c->target_step == 1 && c->target_pitch == c->pitch;
    size_t height = (size_t)window->output[0];
    for (size_t top = 0; top < height; top += c->band) {
        float *to = y + c->target_first + top * c->target_pitch;
        struct depthwise_band band = {.x = x,
                                      .weights = weights,
                                      .height = window->input[0],
                                      .width = window->input[1],
                                      .top = (int64_t)top * window->stride[0] - window->before[0],
                                      .left = -window->before[1],
                                      .bias = bias,
                                      .out = straight ? to : convolution_packed(workspace),
                                      .rows = convolution_smaller(height - top, c->band),
                                      .columns = c->pitch};
        depthwise_run_band(&band, window->kernel[0], window->stride);
        if (!straight)
            depthwise_store(c, &band, add, to);
        if (finish)
            net_finish_run(finish->steps, finish->channels, finish->scratch, finish->first, to,
                           band.rows * band.columns);
    }
}
