/*
 * Conv: groups of one channel and one filter, whose images are read where they lie. Each output has
 * few terms, so packing would take longer than the sums. Rows beyond the image are left out, and
 * elements beyond its rows are read as zeros, by masks, on all machines.
 */
#include "net/ops/convolution/convolution.h"

enum {
    ROWS_MAX =
        7, /* of outputs, whose sums stay in registers; of most networks, a divisor of rows */
    ROWS_FEW = 4,    /* where there are many weights beside them */
    TAPS_MAX = 5,    /* along an axis */
    LOADS_MAX = 3,   /* of a row of the input, for a vector of outputs */
    VECTORS_MAX = 8, /* side by side, whose rows are computed one after the other */
    BAND = 4096,     /* outputs that are finished at once: within the first-level cache */
};

/* The lanes of a vector from column `start` on that lie in the image, as bits. */
LANES_INLINE unsigned depthwise_inside(int64_t start, int64_t width, int lanes)
{
    int64_t first = start < 0 ? -start : 0, end = width - start;
    if (first >= lanes || end <= first)
        return 0;
    return (end < lanes ? (1U << end) - 1 : (unsigned)((1ULL << lanes) - 1)) & ~0U << first;
}

/* One of the channels, with copies of what compilers would read anew after each store. */
struct depthwise_channel {
    const float *x, *weights;
    float bias, *out;
    struct lanes_finish finish;
    float center, slope, offset;
};

LANES_INLINE struct depthwise_channel depthwise_channel_at(const struct convolution_band *band,
                                                           int taps, size_t i)
{
    struct depthwise_channel channel = {.x = band->x + i * band->x_plane,
                                        .weights = band->weights + i * (size_t)(taps * taps),
                                        .bias = band->bias ? band->bias[i] : 0,
                                        .out = band->out + i * band->out_plane};
    if (!band->finish)
        return channel;
    channel.finish = *band->finish;
    channel.center = channel.finish.center[i];
    channel.slope = channel.finish.slope[i];
    channel.offset = channel.finish.offset[i];
    return channel;
}

/*
 * Defines NAME_columns for vectors of one size. `taps` of the kernel along each axis, and the
 * strides `down` and `right`, are constants, or compilers keep the sums in memory. Since most
 * vectors that begin anywhere lie in two lines of the cache, each element is read once, and moved
 * to the lanes of the further taps. With a stride of two to the right, the even lanes of two
 * vectors are parted from the odd.
 */
#define DEFINE_COLUMNS(NAME, VECTOR, MASK, ...)                                                    \
    __VA_ARGS__ LANES_INLINE void NAME##_row(const float *from, const MASK *masks, const int taps, \
                                             const int right, VECTOR *values)                      \
    {                                                                                              \
        enum { LANES = sizeof(VECTOR) / sizeof *from };                                            \
        VECTOR a = NAME##_load(from, masks[0]);                                                    \
        VECTOR next = NAME##_load_few(from + (size_t)right * LANES, masks[right]);                 \
        if (right == 1) {                                                                          \
            LANES_UNROLL for (int k = 0; k < taps; k++) values[k] = NAME##_ahead(a, next, k);      \
            return;                                                                                \
        }                                                                                          \
        VECTOR b = NAME##_load(from + LANES, masks[1]);                                            \
        VECTOR even = NAME##_even(a, b), odd = NAME##_odd(a, b);                                   \
        VECTOR next_even = taps == 3 ? next : NAME##_even(next, next);                             \
        VECTOR next_odd = NAME##_odd(next, next);                                                  \
        LANES_UNROLL for (int k = 0; k < taps; k++)                                                \
            values[k] = k % 2 ? NAME##_ahead(odd, next_odd, k / 2)                                 \
                              : NAME##_ahead(even, next_even, k / 2);                              \
    }                                                                                              \
    __VA_ARGS__ LANES_INLINE void NAME##_store_rows(                                               \
        const struct convolution_band *band, const struct depthwise_channel *channel, size_t y,    \
        size_t x, const int rows, const bool finished, const VECTOR *sums)                         \
    {                                                                                              \
        enum { LANES = sizeof(VECTOR) / sizeof *band->x };                                         \
        const struct lanes_finish finish = channel->finish;                                        \
        size_t columns = band->columns, end = band->rows * columns, to = y * columns + x;          \
        float *out = channel->out;                                                                 \
        VECTOR center = NAME##_all(channel->center), slope = NAME##_all(channel->slope);           \
        VECTOR offset = NAME##_all(channel->offset);                                               \
        LANES_UNROLL for (int i = 0; i < rows; i++, to += columns)                                 \
        {                                                                                          \
            VECTOR sum = sums[i];                                                                  \
            if (finished)                                                                          \
                sum = NAME##_bound((sum - center) * slope + offset, finish.edge, finish.least,     \
                                   finish.most);                                                   \
            if (__builtin_expect(to + LANES <= end, 1))                                            \
                *(VECTOR *)(out + to) = sum;                                                       \
            else if (to < end)                                                                     \
                NAME##_store(out + to, NAME##_mask((1U << (end - to)) - 1), sum);                  \
        }                                                                                          \
    }                                                                                              \
    __VA_ARGS__ LANES_INLINE void NAME##_tile(                                                     \
        const struct convolution_band *band, const struct depthwise_channel *channel,              \
        const VECTOR *weights, const MASK *masks, size_t y, size_t x, const int taps,              \
        const int down, const int right, const bool whole)                                         \
    {                                                                                              \
        enum { LANES = sizeof(VECTOR) / sizeof *band->x };                                         \
        const int rows = taps == 3 ? ROWS_MAX : ROWS_FEW;                                          \
        VECTOR sums[ROWS_MAX], values[TAPS_MAX];                                                   \
        int64_t row = band->top + (int64_t)y * down;                                               \
        int64_t at = band->left + (int64_t)x * right;                                              \
        LANES_UNROLL for (int i = 0; i < rows; i++) sums[i] = NAME##_all(channel->bias);           \
        LANES_UNROLL for (int k = 0; k < (rows - 1) * down + taps; k++)                            \
        {                                                                                          \
            if (!whole && (row + k < 0 || row + k >= band->height))                                \
                continue;                                                                          \
            NAME##_row(channel->x + (row + k) * band->width + at, masks, taps, right, values);     \
            LANES_UNROLL for (int i = 0; i < rows; i++) if (k >= i * down && k < i * down + taps)  \
                LANES_UNROLL for (int j = 0; j < taps; j++)                                        \
                    sums[i] = NAME##_add(sums[i], weights[(k - i * down) * taps + j], values[j]);  \
        }                                                                                          \
        if (band->finish)                                                                          \
            NAME##_store_rows(band, channel, y, x, rows, true, sums);                              \
        else                                                                                       \
            NAME##_store_rows(band, channel, y, x, rows, false, sums);                             \
    }                                                                                              \
    __VA_ARGS__ LANES_INLINE void NAME##_channel(                                                  \
        const struct convolution_band *band, const struct depthwise_channel *channel,              \
        MASK masks[][LOADS_MAX], const size_t *at, size_t count, const int taps, const int down,   \
        const int right)                                                                           \
    {                                                                                              \
        const int rows = taps == 3 ? ROWS_MAX : ROWS_FEW, reach = (rows - 1) * down + taps;        \
        VECTOR weights[TAPS_MAX * TAPS_MAX];                                                       \
        LANES_UNROLL for (int i = 0; i < taps * taps; i++)                                         \
            weights[i] = NAME##_all(channel->weights[i]);                                          \
        for (size_t y = 0; y < band->rows; y += (size_t)rows) {                                    \
            int64_t row = band->top + (int64_t)y * down;                                           \
            bool whole = row >= 0 && row + reach <= band->height;                                  \
            for (size_t j = 0; whole && j < count; j++)                                            \
                NAME##_tile(band, channel, weights, masks[j], y, at[j], taps, down, right, true);  \
            for (size_t j = 0; !whole && j < count; j++)                                           \
                NAME##_tile(band, channel, weights, masks[j], y, at[j], taps, down, right, false); \
        }                                                                                          \
    }                                                                                              \
    __VA_ARGS__ LANES_INLINE void NAME##_columns(const struct convolution_band *band,              \
                                                 const int taps, const int down, const int right)  \
    {                                                                                              \
        enum { LANES = sizeof(VECTOR) / sizeof *band->x };                                         \
        size_t last = band->columns > LANES ? band->columns - LANES : 0, count;                    \
        for (size_t x = 0; x < band->columns; x += count * LANES) {                                \
            MASK masks[VECTORS_MAX][LOADS_MAX];                                                    \
            size_t at[VECTORS_MAX];                                                                \
            for (count = 0; count < VECTORS_MAX && x + count * LANES < band->columns; count++) {   \
                at[count] = convolution_smaller(x + count * LANES, last);                          \
                for (int k = 0; k <= right; k++) {                                                 \
                    int64_t start = band->left + (int64_t)at[count] * right + (int64_t)k * LANES;  \
                    masks[count][k] = NAME##_mask(depthwise_inside(start, band->width, LANES));    \
                }                                                                                  \
            }                                                                                      \
            for (size_t i = 0; i < band->channels; i++) {                                          \
                const struct depthwise_channel channel = depthwise_channel_at(band, taps, i);      \
                NAME##_channel(band, &channel, masks, at, count, taps, down, right);               \
            }                                                                                      \
        }                                                                                          \
    }

/* One function for each kernel: one for all is too much for a compiler that tracks variables. */
#define DEFINE_KERNEL(NAME, TAPS, DOWN, RIGHT, ...)                                                \
    __VA_ARGS__ __attribute__((noinline)) static void NAME##_##TAPS##_##DOWN##_##RIGHT(            \
        const struct convolution_band *band)                                                       \
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
    static void NAME##_band(const struct convolution_band *band, int64_t taps,                     \
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

LANES_INLINE unsigned lanes_plain_mask(unsigned bits)
{
    return bits;
}

/* Few vectors are in part beyond an image: their code, once for each, would be most of all. */
__attribute__((noinline)) static lanes4 lanes_plain_load_part(const float *from, unsigned mask)
{
    lanes4 values = {0};
    for (int i = 0; i < 4; i++)
        if (mask >> i & 1)
            values[i] = from[i];
    return values;
}

LANES_INLINE lanes4 lanes_plain_load(const float *from, unsigned mask)
{
    return mask == 15 ? *(const lanes4 *)from : lanes_plain_load_part(from, mask);
}

/* The first four lanes; what the others hold is not used. */
LANES_INLINE lanes4 lanes_plain_load_few(const float *from, unsigned mask)
{
    return lanes_plain_load(from, mask);
}

/* Lanes k, k + 1, … of a and b, one after the other. */
LANES_INLINE lanes4 lanes_plain_ahead(lanes4 a, lanes4 b, int k)
{
    switch (k) {
    case 1:
        return __builtin_shufflevector(a, b, 1, 2, 3, 4);
    case 2:
        return __builtin_shufflevector(a, b, 2, 3, 4, 5);
    case 3:
        return __builtin_shufflevector(a, b, 3, 4, 5, 6);
    case 4:
        return b;
    default:
        return a;
    }
}

__attribute__((noinline)) static void lanes_plain_store(float *to, unsigned mask, lanes4 values)
{
    for (int i = 0; i < 4; i++)
        if (mask >> i & 1)
            to[i] = values[i];
}

LANES_INLINE lanes4 lanes_plain_even(lanes4 a, lanes4 b)
{
    return __builtin_shufflevector(a, b, 0, 2, 4, 6);
}

LANES_INLINE lanes4 lanes_plain_odd(lanes4 a, lanes4 b)
{
    return __builtin_shufflevector(a, b, 1, 3, 5, 7);
}

DEFINE_COLUMNS(lanes_plain, lanes4, unsigned, )
DEFINE_KERNELS(lanes_plain, )

#ifdef LANES_X86

LANES_AVX2 LANES_INLINE __m256i lanes_avx2_mask(unsigned bits)
{
    const __m256i lanes = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    return _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32((int)bits), lanes), lanes);
}

LANES_AVX2 LANES_INLINE lanes8 lanes_avx2_load(const float *from, __m256i mask)
{
    return (lanes8)_mm256_maskload_ps(from, mask);
}

LANES_AVX2 LANES_INLINE lanes8 lanes_avx2_load_few(const float *from, __m256i mask)
{
    return (lanes8)_mm256_castps128_ps256(_mm_maskload_ps(from, _mm256_castsi256_si128(mask)));
}

LANES_AVX2 LANES_INLINE lanes8 lanes_avx2_ahead(lanes8 a, lanes8 b, int k)
{
    switch (k) {
    case 1:
        return __builtin_shufflevector(a, b, 1, 2, 3, 4, 5, 6, 7, 8);
    case 2:
        return __builtin_shufflevector(a, b, 2, 3, 4, 5, 6, 7, 8, 9);
    case 3:
        return __builtin_shufflevector(a, b, 3, 4, 5, 6, 7, 8, 9, 10);
    case 4:
        return __builtin_shufflevector(a, b, 4, 5, 6, 7, 8, 9, 10, 11);
    default:
        return a;
    }
}

LANES_AVX2 LANES_INLINE void lanes_avx2_store(float *to, __m256i mask, lanes8 values)
{
    _mm256_maskstore_ps(to, mask, (__m256)values);
}

LANES_AVX2 LANES_INLINE lanes8 lanes_avx2_even(lanes8 a, lanes8 b)
{
    return __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14);
}

LANES_AVX2 LANES_INLINE lanes8 lanes_avx2_odd(lanes8 a, lanes8 b)
{
    return __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15);
}

LANES_AVX512 LANES_INLINE __mmask16 lanes_avx512_mask(unsigned bits)
{
    return (__mmask16)bits;
}

LANES_AVX512 LANES_INLINE lanes16 lanes_avx512_load(const float *from, __mmask16 mask)
{
    return (lanes16)_mm512_maskz_loadu_ps(mask, from);
}

LANES_AVX512 LANES_INLINE lanes16 lanes_avx512_load_few(const float *from, __mmask16 mask)
{
    return (lanes16)_mm512_castps128_ps512(_mm_maskz_loadu_ps((__mmask8)mask, from));
}

LANES_AVX512 LANES_INLINE lanes16 lanes_avx512_ahead(lanes16 a, lanes16 b, int k)
{
    switch (k) {
    case 1:
        return (lanes16)_mm512_alignr_epi32((__m512i)b, (__m512i)a, 1);
    case 2:
        return (lanes16)_mm512_alignr_epi32((__m512i)b, (__m512i)a, 2);
    case 3:
        return (lanes16)_mm512_alignr_epi32((__m512i)b, (__m512i)a, 3);
    case 4:
        return (lanes16)_mm512_alignr_epi32((__m512i)b, (__m512i)a, 4);
    default:
        return a;
    }
}

LANES_AVX512 LANES_INLINE void lanes_avx512_store(float *to, __mmask16 mask, lanes16 values)
{
    _mm512_mask_storeu_ps(to, mask, (__m512)values);
}

LANES_AVX512 LANES_INLINE lanes16 lanes_avx512_even(lanes16 a, lanes16 b)
{
    return __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
}

LANES_AVX512 LANES_INLINE lanes16 lanes_avx512_odd(lanes16 a, lanes16 b)
{
    return __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
}

LANES_AVX512 LANES_INLINE __mmask8 lanes_short_mask(unsigned bits)
{
    return (__mmask8)bits;
}

LANES_AVX512 LANES_INLINE lanes8 lanes_short_load(const float *from, __mmask8 mask)
{
    return (lanes8)_mm256_maskz_loadu_ps(mask, from);
}

LANES_AVX512 LANES_INLINE lanes8 lanes_short_load_few(const float *from, __mmask8 mask)
{
    return (lanes8)_mm256_castps128_ps256(_mm_maskz_loadu_ps((__mmask8)mask, from));
}

LANES_AVX512 LANES_INLINE lanes8 lanes_short_ahead(lanes8 a, lanes8 b, int k)
{
    switch (k) {
    case 1:
        return (lanes8)_mm256_alignr_epi32((__m256i)b, (__m256i)a, 1);
    case 2:
        return (lanes8)_mm256_alignr_epi32((__m256i)b, (__m256i)a, 2);
    case 3:
        return (lanes8)_mm256_alignr_epi32((__m256i)b, (__m256i)a, 3);
    case 4:
        return (lanes8)_mm256_alignr_epi32((__m256i)b, (__m256i)a, 4);
    default:
        return a;
    }
}

LANES_AVX512 LANES_INLINE void lanes_short_store(float *to, __mmask8 mask, lanes8 values)
{
    _mm256_mask_storeu_ps(to, mask, (__m256)values);
}

LANES_AVX512 LANES_INLINE lanes8 lanes_short_even(lanes8 a, lanes8 b)
{
    return __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14);
}

LANES_AVX512 LANES_INLINE lanes8 lanes_short_odd(lanes8 a, lanes8 b)
{
    return __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15);
}

DEFINE_COLUMNS(lanes_avx2, lanes8, __m256i, LANES_AVX2)
DEFINE_COLUMNS(lanes_avx512, lanes16, __mmask16, LANES_AVX512)
DEFINE_COLUMNS(lanes_short, lanes8, __mmask8, LANES_AVX512)
DEFINE_KERNELS(lanes_avx2, LANES_AVX2)
DEFINE_KERNELS(lanes_avx512, LANES_AVX512)
DEFINE_KERNELS(lanes_short, LANES_AVX512)

static void depthwise_run_band(const struct convolution_band *band, int64_t taps,
                               const int64_t *stride)
{
    if (lanes_has_avx512() && band->columns <= sizeof(lanes8) / sizeof(float))
        lanes_short_band(band, taps, stride);
    else if (lanes_has_avx512())
        lanes_avx512_band(band, taps, stride);
    else if (lanes_has_avx2())
        lanes_avx2_band(band, taps, stride);
    else
        lanes_plain_band(band, taps, stride);
}

#else

static void depthwise_run_band(const struct convolution_band *band, int64_t taps,
                               const int64_t *stride)
{
    lanes_plain_band(band, taps, stride);
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

/* Stores a band of one channel elsewhere than in one piece, or adds it. */
static void depthwise_store(const struct convolution *c, const struct convolution_band *band,
                            bool add, float *y)
{
    const float *from = band->out;
    for (size_t i = 0; i < band->rows; i++, from += band->columns, y += c->target_pitch)
        for (size_t j = 0; j < band->columns; j++)
            y[j * c->target_step] = from[j] + (add ? y[j * c->target_step] : 0);
}

void convolution_depthwise_run_band(const struct convolution *c, struct convolution_band *band,
                                    const struct convolution_finish *finish)
{
    struct lanes_finish lanes;
    bool whole = finish &&
                 net_finish_lanes(finish->steps, finish->channels, finish->scratch, finish->first,
                                  band->out, &lanes) &&
                 !lanes.operand;
    band->finish = whole ? &lanes : NULL;
    depthwise_run_band(band, c->window.kernel[0], c->window.stride);
    for (size_t i = 0; finish && !whole && i < band->channels; i++)
        net_finish_run(finish->steps, finish->channels, finish->scratch, finish->first + i,
                       band->out + i * band->out_plane, band->rows * band->columns);
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
        struct convolution_band band = {.x = x,
                                        .weights = weights,
                                        .bias = &bias,
                                        .channels = 1,
                                        .height = window->input[0],
                                        .width = window->input[1],
                                        .top = (int64_t)top * window->stride[0] - window->before[0],
                                        .left = -window->before[1],
                                        .out = straight ? to : convolution_packed(workspace),
                                        .rows = convolution_smaller(height - top, c->band),
                                        .columns = c->pitch};
        if (straight) {
            convolution_depthwise_run_band(c, &band, finish);
            continue;
        }
        depthwise_run_band(&band, window->kernel[0], window->stride);
        depthwise_store(c, &band, add, to);
    }
}
