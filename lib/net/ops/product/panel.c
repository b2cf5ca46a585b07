#include "net/ops/product/panel.h"

/* PANEL_ROWS output rows keep their sums, the columns and a weight in registers. Their lines are
   asked for before there are sums, whose stores would wait for them. */

/* The first column of a tile, and what belongs to it: null where there is none. */
struct panel_place {
    const float *columns, *row, *operand;
    float *out;
};

static struct panel_place panel_place_at(const struct panel_place *from, size_t column)
{
    return (struct panel_place){from->columns + column, from->row ? from->row + column : NULL,
                                from->operand ? from->operand + column : NULL, from->out + column};
}

/*
 * Defines NAME_rows for vectors of one size: `vectors` of them side by side. The sums must be local
 * variables of vector type, rows and vectors constants, and loops over both unrolled, or compilers
 * keep the sums in memory.
 */
#define DEFINE_ROWS(NAME, VECTOR, ...)                                                             \
    __VA_ARGS__ LANES_INLINE void NAME##_begin_tile(                                               \
        const struct net_panel *panel, const struct panel_place *at, size_t stride, size_t first,  \
        const int rows, const int vectors, VECTOR sums[PANEL_ROWS][4])                             \
    {                                                                                              \
        const float *out = at->out + first * stride;                                               \
        const float *bias = panel->bias ? panel->bias + first : NULL;                              \
        LANES_UNROLL for (int i = 0; i < rows; i++, out += stride)                                 \
        {                                                                                          \
            LANES_UNROLL for (int j = 0; j < vectors; j++)                                         \
            {                                                                                      \
                __builtin_prefetch((const VECTOR *)out + j, 1);                                    \
                sums[i][j] = panel->resume ? ((const VECTOR *)out)[j]                              \
                                           : NAME##_all(bias ? bias[i] : 0);                       \
            }                                                                                      \
        }                                                                                          \
    }                                                                                              \
    __VA_ARGS__ LANES_INLINE void NAME##_store_tile(                                               \
        const struct net_panel *panel, const struct panel_place *at, size_t stride, size_t first,  \
        const int rows, const int vectors, const bool finished, const bool summed,                 \
        VECTOR sums[PANEL_ROWS][4])                                                                \
    {                                                                                              \
        const struct lanes_finish finish = finished ? *panel->finish : (struct lanes_finish){0};   \
        const float *row = at->row, *operand = at->operand;                                        \
        float *out = at->out;                                                                      \
        LANES_UNROLL for (int i = 0; i < rows; i++)                                                \
        {                                                                                          \
            size_t place = (first + (size_t)i) * stride;                                           \
            LANES_UNROLL for (int j = 0; j < vectors; j++)                                         \
            {                                                                                      \
                VECTOR x = sums[i][j];                                                             \
                if (!finished && row)                                                              \
                    x += ((const VECTOR *)row)[j];                                                 \
                if (finished)                                                                      \
                    x = NAME##_map(&finish, first + (size_t)i, x);                                 \
                if (summed)                                                                        \
                    x += ((const VECTOR *)(operand + place))[j];                                   \
                if (finished)                                                                      \
                    x = NAME##_bound(x, finish.edge, finish.least, finish.most);                   \
                ((VECTOR *)(out + place))[j] = x;                                                  \
            }                                                                                      \
        }                                                                                          \
    }                                                                                              \
    __VA_ARGS__ LANES_INLINE void NAME##_tile(const struct net_panel *panel,                       \
                                              const struct panel_place *at, size_t stride,         \
                                              size_t first, const int rows, const int vectors)     \
    {                                                                                              \
        VECTOR sums[PANEL_ROWS][4];                                                                \
        const float *weights = panel->weights + first * panel->stride;                             \
        NAME##_begin_tile(panel, at, stride, first, rows, vectors, sums);                          \
        for (size_t q = 0; q < panel->terms; q++) {                                                \
            const VECTOR *column = (const VECTOR *)(at->columns + panel->offsets[q]);              \
            VECTOR values[4];                                                                      \
            LANES_UNROLL for (int j = 0; j < vectors; j++) values[j] = column[j];                  \
            LANES_UNROLL for (int i = 0; i < rows; i++)                                            \
                LANES_UNROLL for (int j = 0; j < vectors; j++) sums[i][j] = NAME##_add(            \
                    sums[i][j], NAME##_all(weights[(size_t)i * panel->stride + q]), values[j]);    \
        }                                                                                          \
        if (!panel->finish)                                                                        \
            NAME##_store_tile(panel, at, stride, first, rows, vectors, false, false, sums);        \
        else if (!at->operand)                                                                     \
            NAME##_store_tile(panel, at, stride, first, rows, vectors, true, false, sums);         \
        else                                                                                       \
            NAME##_store_tile(panel, at, stride, first, rows, vectors, true, true, sums);          \
    }                                                                                              \
    __VA_ARGS__ LANES_INLINE void NAME##_rows(const struct net_panel *panel,                       \
                                              const struct panel_place *at, size_t rows,           \
                                              const int vectors, size_t stride)                    \
    {                                                                                              \
        size_t groups = (rows + PANEL_ROWS - 1) / PANEL_ROWS;                                      \
        for (size_t group = 0, first = 0; group < groups; group++) {                               \
            size_t count = (rows - first + groups - group - 1) / (groups - group);                 \
            switch (count) {                                                                       \
            case 1:                                                                                \
                NAME##_tile(panel, at, stride, first, 1, vectors);                                 \
                break;                                                                             \
            case 2:                                                                                \
                NAME##_tile(panel, at, stride, first, 2, vectors);                                 \
                break;                                                                             \
            case 3:                                                                                \
                NAME##_tile(panel, at, stride, first, 3, vectors);                                 \
                break;                                                                             \
            case 4:                                                                                \
                NAME##_tile(panel, at, stride, first, 4, vectors);                                 \
                break;                                                                             \
            case 5:                                                                                \
                NAME##_tile(panel, at, stride, first, 5, vectors);                                 \
                break;                                                                             \
            default:                                                                               \
                NAME##_tile(panel, at, stride, first, 6, vectors);                                 \
                break;                                                                             \
            }                                                                                      \
            first += count;                                                                        \
        }                                                                                          \
    }

DEFINE_ROWS(lanes_plain, lanes4, )

static void run_plain(const struct net_panel *panel, const struct panel_place *at, size_t rows,
                      size_t width, size_t stride)
{
    for (size_t j = 0; j < width; j += 8) {
        const struct panel_place place = panel_place_at(at, j);
        lanes_plain_rows(panel, &place, rows, 2, stride);
    }
}

#ifdef LANES_X86

DEFINE_ROWS(lanes_avx2, lanes8, LANES_AVX2)
DEFINE_ROWS(lanes_avx512, lanes16, LANES_AVX512)

LANES_AVX2 static void run_avx2(const struct net_panel *panel, const struct panel_place *at,
                                size_t rows, size_t width, size_t stride)
{
    for (size_t j = 0; j < width; j += 16) {
        const struct panel_place place = panel_place_at(at, j);
        lanes_avx2_rows(panel, &place, rows, 2, stride);
    }
}

/* One function for each width: one for all is too much for a compiler that tracks variables. */
#define DEFINE_WIDTH(VECTORS)                                                                      \
    LANES_AVX512 __attribute__((noinline)) static void avx512_vectors_##VECTORS(                   \
        const struct net_panel *panel, const struct panel_place *at, size_t rows, size_t stride)   \
    {                                                                                              \
        lanes_avx512_rows(panel, at, rows, VECTORS, stride);                                       \
    }

DEFINE_WIDTH(1)
DEFINE_WIDTH(2)
DEFINE_WIDTH(3)
DEFINE_WIDTH(4)

static void run_avx512(const struct net_panel *panel, const struct panel_place *at, size_t rows,
                       size_t width, size_t stride)
{
    struct panel_place place = *at;
    for (; width >= PANEL_WIDTH; width -= PANEL_WIDTH, place = panel_place_at(&place, PANEL_WIDTH))
        avx512_vectors_4(panel, &place, rows, stride);
    if (width == 48)
        avx512_vectors_3(panel, &place, rows, stride);
    else if (width == 32)
        avx512_vectors_2(panel, &place, rows, stride);
    else if (width)
        avx512_vectors_1(panel, &place, rows, stride);
}

static void panel_run(const struct net_panel *panel, const struct panel_place *at, size_t rows,
                      size_t width, size_t stride)
{
    if (lanes_has_avx512())
        run_avx512(panel, at, rows, width, stride);
    else if (lanes_has_avx2())
        run_avx2(panel, at, rows, width, stride);
    else
        run_plain(panel, at, rows, width, stride);
}

bool net_panel_is_fast(void)
{
    return lanes_has_avx512() || lanes_has_avx2();
}

#else

static void panel_run(const struct net_panel *panel, const struct panel_place *at, size_t rows,
                      size_t width, size_t stride)
{
    run_plain(panel, at, rows, width, stride);
}

bool net_panel_is_fast(void)
{
    return false;
}

#endif

void net_panel_run(const struct net_panel *panel, const float *columns, size_t rows, size_t width,
                   float *out, size_t out_stride)
{
    const struct panel_place at = {columns, panel->row,
                                   panel->finish ? panel->finish->operand : NULL, out};
    panel_run(panel, &at, rows, width, out_stride);
}
