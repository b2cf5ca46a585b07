#include "net/ops/product/panel.h"

#include <math.h>

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#endif

/* PANEL_ROWS output rows keep their sums, the columns and a weight in registers. Their lines are
   asked for before there are sums, whose stores would wait for them. */

#define INLINE static inline __attribute__((always_inline))

/*
 * Defines NAME_rows for vectors of one size: `vectors` of them side by side. The sums must be local
 * variables of vector type, and rows and vectors constants, or compilers keep the sums in memory.
 */
#define DEFINE_ROWS(NAME, VECTOR, ...)                                                             \
    __VA_ARGS__ INLINE void NAME##_tile(const struct net_panel *panel, const float *columns,       \
                                        const float *row, size_t first, const int rows,            \
                                        const int vectors, float *out, size_t out_stride)          \
    {                                                                                              \
        VECTOR sums[PANEL_ROWS][4];                                                                \
        const float *weights = panel->weights + first * panel->stride;                             \
        out += first * out_stride;                                                                 \
        for (int i = 0; i < rows; i++)                                                             \
            for (int j = 0; j < vectors; j++)                                                      \
                __builtin_prefetch((VECTOR *)(out + (size_t)i * out_stride) + j, 1);               \
        for (int i = 0; i < rows; i++)                                                             \
            for (int j = 0; j < vectors; j++)                                                      \
                if (panel->resume)                                                                 \
                    sums[i][j] = ((const VECTOR *)(out + (size_t)i * out_stride))[j];              \
                else                                                                               \
                    sums[i][j] = (VECTOR){0} + (panel->bias ? panel->bias[first + (size_t)i] : 0); \
        for (size_t q = 0; q < panel->terms; q++) {                                                \
            const VECTOR *column = (const VECTOR *)(columns + panel->offsets[q]);                  \
            VECTOR values[4];                                                                      \
            for (int j = 0; j < vectors; j++)                                                      \
                values[j] = column[j];                                                             \
            for (int i = 0; i < rows; i++)                                                         \
                for (int j = 0; j < vectors; j++)                                                  \
                    sums[i][j] = NAME##_add(sums[i][j], weights[(size_t)i * panel->stride + q],    \
                                            values[j]);                                            \
        }                                                                                          \
        for (int i = 0; i < rows; i++)                                                             \
            for (int j = 0; j < vectors; j++) {                                                    \
                if (row)                                                                           \
                    sums[i][j] += ((const VECTOR *)row)[j];                                        \
                ((VECTOR *)(out + (size_t)i * out_stride))[j] = sums[i][j];                        \
            }                                                                                      \
    }                                                                                              \
    __VA_ARGS__ INLINE void NAME##_rows(const struct net_panel *panel, const float *columns,       \
                                        const float *row, size_t rows, const int vectors,          \
                                        float *out, size_t out_stride)                             \
    {                                                                                              \
        size_t groups = (rows + PANEL_ROWS - 1) / PANEL_ROWS;                                      \
        for (size_t group = 0, first = 0; group < groups; group++) {                               \
            size_t count = (rows - first + groups - group - 1) / (groups - group);                 \
            switch (count) {                                                                       \
            case 1:                                                                                \
                NAME##_tile(panel, columns, row, first, 1, vectors, out, out_stride);              \
                break;                                                                             \
            case 2:                                                                                \
                NAME##_tile(panel, columns, row, first, 2, vectors, out, out_stride);              \
                break;                                                                             \
            case 3:                                                                                \
                NAME##_tile(panel, columns, row, first, 3, vectors, out, out_stride);              \
                break;                                                                             \
            case 4:                                                                                \
                NAME##_tile(panel, columns, row, first, 4, vectors, out, out_stride);              \
                break;                                                                             \
            case 5:                                                                                \
                NAME##_tile(panel, columns, row, first, 5, vectors, out, out_stride);              \
                break;                                                                             \
            default:                                                                               \
                NAME##_tile(panel, columns, row, first, 6, vectors, out, out_stride);              \
                break;                                                                             \
            }                                                                                      \
            first += count;                                                                        \
        }                                                                                          \
    }

typedef float vector4 __attribute__((vector_size(16), aligned(4), may_alias));

/* sums + weight × values */
INLINE vector4 plain_add(vector4 sums, float weight, vector4 values)
{
    for (int i = 0; i < 4; i++)
        sums[i] = fmaf(weight, values[i], sums[i]);
    return sums;
}

DEFINE_ROWS(plain, vector4, )

static void run_plain(const struct net_panel *panel, const float *columns, size_t rows,
                      size_t width, float *out, size_t out_stride)
{
    for (size_t j = 0; j < width; j += 8)
        plain_rows(panel, columns + j, panel->row ? panel->row + j : NULL, rows, 2, out + j,
                   out_stride);
}

#if defined(__x86_64__) && defined(__GNUC__)

typedef float vector8 __attribute__((vector_size(32), aligned(4), may_alias));
typedef float vector16 __attribute__((vector_size(64), aligned(4), may_alias));

__attribute__((target("avx2,fma"))) INLINE vector8 avx2_add(vector8 sums, float weight,
                                                            vector8 values)
{
    return (vector8)_mm256_fmadd_ps(_mm256_set1_ps(weight), (__m256)values, (__m256)sums);
}

__attribute__((target("avx512f"))) INLINE vector16 avx512_add(vector16 sums, float weight,
                                                              vector16 values)
{
    return (vector16)_mm512_fmadd_ps(_mm512_set1_ps(weight), (__m512)values, (__m512)sums);
}

DEFINE_ROWS(avx2, vector8, __attribute__((target("avx2,fma"))))
DEFINE_ROWS(avx512, vector16, __attribute__((target("avx512f"))))

__attribute__((target("avx2,fma"))) static void run_avx2(const struct net_panel *panel,
                                                         const float *columns, size_t rows,
                                                         size_t width, float *out,
                                                         size_t out_stride)
{
    for (size_t j = 0; j < width; j += 16)
        avx2_rows(panel, columns + j, panel->row ? panel->row + j : NULL, rows, 2, out + j,
                  out_stride);
}

/* One function for each width: one for all is too much for a compiler that tracks variables. */
#define DEFINE_WIDTH(VECTORS)                                                                      \
    __attribute__((target("avx512f"), noinline)) static void avx512_vectors_##VECTORS(             \
        const struct net_panel *panel, const float *columns, const float *row, size_t rows,        \
        float *out, size_t out_stride)                                                             \
    {                                                                                              \
        avx512_rows(panel, columns, row, rows, VECTORS, out, out_stride);                          \
    }

DEFINE_WIDTH(1)
DEFINE_WIDTH(2)
DEFINE_WIDTH(3)
DEFINE_WIDTH(4)

static void run_avx512(const struct net_panel *panel, const float *columns, size_t rows,
                       size_t width, float *out, size_t out_stride)
{
    const float *row = panel->row;
    for (; width >= 64; width -= 64, columns += 64, out += 64, row = row ? row + 64 : NULL)
        avx512_vectors_4(panel, columns, row, rows, out, out_stride);
    if (width == 48)
        avx512_vectors_3(panel, columns, row, rows, out, out_stride);
    else if (width == 32)
        avx512_vectors_2(panel, columns, row, rows, out, out_stride);
    else if (width)
        avx512_vectors_1(panel, columns, row, rows, out, out_stride);
}

void net_panel_run(const struct net_panel *panel, const float *columns, size_t rows, size_t width,
                   float *out, size_t out_stride)
{
    if (__builtin_cpu_supports("avx512f"))
        run_avx512(panel, columns, rows, width, out, out_stride);
    else if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        run_avx2(panel, columns, rows, width, out, out_stride);
    else
        run_plain(panel, columns, rows, width, out, out_stride);
}

bool net_panel_is_fast(void)
{
    return __builtin_cpu_supports("avx512f") ||
           (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"));
}

#else

void net_panel_run(const struct net_panel *panel, const float *columns, size_t rows, size_t width,
                   float *out, size_t out_stride)
{
    run_plain(panel, columns, rows, width, out, out_stride);
}

bool net_panel_is_fast(void)
{
    return false;
}

#endif
