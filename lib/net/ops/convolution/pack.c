/* Conv: the input packed as planes or as columns. */
#include <string.h>

#include "core/dispatch.h"
#include "net/ops/convolution/convolution.h"

size_t convolution_cut(const struct convolution *c, size_t position, size_t count,
                       struct convolution_segment *segments)
{
    const struct net_window *window = &c->window;
    size_t width = (size_t)window->output[1], found = 0;
    size_t image = position / c->output_plane;
    int64_t y = (int64_t)(position % c->output_plane / width);
    for (size_t x = position % width; count; x = 0) {
        size_t run = convolution_smaller(width - x, count);
        segments[found++] = (struct convolution_segment){
            image, y * window->stride[0] - window->before[0],
            (int64_t)x * window->stride[1] - window->before[1], run};
        count -= run;
        if (++y == window->output[0]) {
            y = 0;
            image++;
        }
    }
    return found;
}

/* Sets [*first, *last) to the outputs of a segment for which the tap `down` and `right` of the
   first one lies in the input. Returns its index in the channel for output *first. */
static int64_t convolution_pack_clip(const struct convolution *c,
                                     const struct convolution_segment *segment, int64_t down,
                                     int64_t right, size_t *first, size_t *last)
{
    const struct net_window *window = &c->window;
    int64_t y = segment->y + down, x = segment->x + right;
    int64_t stride = window->stride[1];
    *first = *last = 0;
    if (y < 0 || y >= window->input[0] ||
        !net_window_clip(x, stride, window->input[1], (int64_t)segment->count, first, last))
        return 0;
    return y * window->input[1] + x + (int64_t)*first * stride;
}

typedef float vector8 __attribute__((vector_size(32), aligned(4), may_alias));

/* Every second element. The last vectors overlap, in place of a tail; nothing behind the last
   element is read. */
static inline __attribute__((always_inline)) void convolution_pack_even(float *restrict to,
                                                                        const float *restrict from,
                                                                        size_t count)
{
    enum { LANES = sizeof(vector8) / sizeof *to };
    for (size_t i = 0; count >= LANES && i < count; i += LANES) {
        size_t at = convolution_smaller(i, count - LANES);
        vector8 a = *(const vector8 *)(from + 2 * at);
        vector8 b = *(const vector8 *)(from + 2 * at + LANES - 1);
        *(vector8 *)(to + at) = __builtin_shufflevector(a, b, 0, 2, 4, 6, 9, 11, 13, 15);
    }
    for (size_t i = 0; count < LANES && i < count; i++)
        to[i] = from[2 * i];
}

static inline __attribute__((always_inline)) void convolution_pack_copy(float *restrict to,
                                                                        const float *restrict from,
                                                                        size_t stride, size_t count)
{
    if (stride == 1)
        convolution_copy_row(to, from, count);
    else if (stride == 2)
        convolution_pack_even(to, from, count);
    else
        for (size_t i = 0; i < count; i++)
            to[i] = from[i * stride];
}

void convolution_pack_columns(const struct convolution *c, const float *x,
                              const struct convolution_segment *segments, size_t segment_count,
                              size_t stride, float *packed)
{
    const struct net_window *window = &c->window;
    size_t image = c->groups * c->channels * c->input_plane;
    for (size_t channel = 0; channel < c->channels; channel++, x += c->input_plane)
        for (int64_t down = 0; down < window->kernel[0]; down++)
            for (int64_t right = 0; right < window->kernel[1]; right++, packed += stride) {
                float *to = packed;
                for (size_t i = 0; i < segment_count; i++) {
                    size_t first, last, count = segments[i].count;
                    int64_t at = convolution_pack_clip(c, &segments[i], down * window->dilation[0],
                                                       right * window->dilation[1], &first, &last);
                    for (size_t j = 0; j < first; j++)
                        to[j] = 0;
                    convolution_pack_copy(to + first, x + segments[i].image * image + at,
                                          (size_t)window->stride[1], last - first);
                    for (size_t j = last; j < count; j++)
                        to[j] = 0;
                    to += count;
                }
            }
}

void convolution_add_columns(const struct convolution *c, float *x,
                             const struct convolution_segment *segments, size_t segment_count,
                             size_t stride, const float *packed)
{
    const struct net_window *window = &c->window;
    size_t image = c->groups * c->channels * c->input_plane;
    for (size_t channel = 0; channel < c->channels; channel++, x += c->input_plane)
        for (int64_t down = 0; down < window->kernel[0]; down++)
            for (int64_t right = 0; right < window->kernel[1]; right++, packed += stride) {
                const float *from = packed;
                for (size_t i = 0; i < segment_count; i++) {
                    size_t first, last;
                    int64_t at = convolution_pack_clip(c, &segments[i], down * window->dilation[0],
                                                       right * window->dilation[1], &first, &last);
                    float *to = x + segments[i].image * image + at;
                    for (size_t j = first; j < last; j++)
                        to[(j - first) * (size_t)window->stride[1]] += from[j];
                    from += segments[i].count;
                }
            }
}

/* Zeroes a short row, as convolution_copy_row copies one. */
static inline __attribute__((always_inline)) void convolution_pack_zeros(float *to, size_t count)
{
    enum { LANES = sizeof(vector8) / sizeof *to, FEW = 3 };
    const vector8 zeros = {0};
    for (size_t i = 0; count >= LANES && i < count; i += LANES)
        *(vector8 *)(to + convolution_smaller(i, count - LANES)) = zeros;
    if (count > FEW && count < LANES) {
        memset(to, 0, LANES / 2 * sizeof *to);
        memset(to + count - LANES / 2, 0, LANES / 2 * sizeof *to);
    }
    for (size_t i = 0; i < FEW; i++)
        if (i < count && count <= FEW)
            to[i] = 0;
}

/* Rows that follow each other in the image and in the plane, as one: what lies beyond their ends
   is then zeroed. `first` and `last` bound the elements inside. */
static inline __attribute__((always_inline)) void convolution_pack_rows(
    float *packed, const float *x, const struct net_window *window, int64_t left, size_t rows,
    size_t first, size_t last)
{
    size_t width = (size_t)window->input[1], end = rows * width;
    size_t from = left < 0 ? (size_t)-left : 0, to = left > 0 ? end - (size_t)left : end;
    convolution_copy_row(packed + from, x + (int64_t)from + left, to - from);
    for (size_t i = 0; i < rows && first; i++)
        convolution_pack_zeros(packed + i * width, first);
    for (size_t i = 0; i < rows && last < width; i++)
        convolution_pack_zeros(packed + i * width + last, width - last);
}

/* Packs one plane, whose first element meets column `left` of row `top`. */
static inline __attribute__((always_inline)) void convolution_pack_plane(
    const struct convolution *c, const float *x, int64_t top, int64_t left, float *packed)
{
    const struct net_window *window = &c->window;
    size_t stride = (size_t)window->stride[1], pitch = c->pitch, first, last;
    bool any = net_window_clip(left, window->stride[1], window->input[1], (int64_t)pitch, &first,
                               &last);
    if (any && convolution_packs_blocks(c)) {
        int64_t above = top < 0 ? -top : 0, below = window->input[0] - top;
        size_t skipped = convolution_smaller((size_t)above, c->rows);
        size_t end = below > 0 ? convolution_smaller((size_t)below, c->rows) : 0;
        end = end > skipped ? end : skipped;
        convolution_pack_zeros(packed, skipped * pitch);
        if (end > skipped)
            convolution_pack_rows(packed + skipped * pitch,
                                  x + (top + (int64_t)skipped) * window->input[1], window, left,
                                  end - skipped, first, last);
        convolution_pack_zeros(packed + end * pitch, (c->rows - end) * pitch);
        return;
    }
    left += (int64_t)(first * stride);
    for (size_t i = 0; i < c->rows; i++, packed += pitch) {
        int64_t row = top + (int64_t)i * window->stride[0];
        if (!any || row < 0 || row >= window->input[0]) {
            convolution_pack_zeros(packed, pitch);
            continue;
        }
        convolution_pack_zeros(packed, first);
        convolution_pack_copy(packed + first, x + row * window->input[1] + left, stride,
                              last - first);
        convolution_pack_zeros(packed + last, pitch - last);
    }
}

IVON_DISPATCH void convolution_pack_planes(const struct convolution *c, const float *x, size_t y,
                                           float *packed)
{
    const struct net_window *window = &c->window;
    bool shared = c->layout == CONVOLUTION_SHARED;
    int64_t columns = shared ? window->stride[1] : window->kernel[1];
    size_t size = c->rows * c->pitch;
    for (size_t channel = 0; channel < c->channels; channel++, x += c->input_plane)
        for (int64_t down = 0; down < window->stride[0]; down++)
            for (int64_t right = 0; c->used[0] >> down & 1 && right < columns; right++) {
                int64_t left = (shared ? right : right * window->dilation[1]) - window->before[1];
                if (shared && !(c->used[1] >> right & 1))
                    continue;
                convolution_pack_plane(
                    c, x, (int64_t)y * window->stride[0] + down - window->before[0], left, packed);
                packed += size;
            }
}

typedef float vector4 __attribute__((vector_size(16), aligned(4), may_alias));

enum { SQUARE = 4, LINE = 16 }; /* a line of the cache is written at once */

/* to[j channels + c] = from[c plane + j] for SQUARE channels and positions */
static inline __attribute__((always_inline)) void convolution_pack_transpose(float *to,
                                                                             size_t channels,
                                                                             const float *from,
                                                                             size_t plane)
{
    vector4 a = *(const vector4 *)from, b = *(const vector4 *)(from + plane);
    vector4 c = *(const vector4 *)(from + 2 * plane), d = *(const vector4 *)(from + 3 * plane);
    vector4 ab = __builtin_shufflevector(a, b, 0, 4, 1, 5);
    vector4 cd = __builtin_shufflevector(c, d, 0, 4, 1, 5);
    *(vector4 *)to = __builtin_shufflevector(ab, cd, 0, 1, 4, 5);
    *(vector4 *)(to + channels) = __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
    ab = __builtin_shufflevector(a, b, 2, 6, 3, 7);
    cd = __builtin_shufflevector(c, d, 2, 6, 3, 7);
    *(vector4 *)(to + 2 * channels) = __builtin_shufflevector(ab, cd, 0, 1, 4, 5);
    *(vector4 *)(to + 3 * channels) = __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
}

void convolution_pack_row(float *to, const float *from, size_t channels, size_t plane, size_t count)
{
    if (channels == 1) {
        convolution_copy_row(to, from, count);
        return;
    }
    size_t squares = channels / SQUARE * SQUARE, whole = count / SQUARE * SQUARE;
    for (size_t first = 0; first < squares; first += LINE) {
        size_t last = convolution_smaller(first + LINE, squares);
        for (size_t j = 0; j < whole; j += SQUARE)
            for (size_t c = first; c < last; c += SQUARE)
                convolution_pack_transpose(to + j * channels + c, channels, from + c * plane + j,
                                           plane);
    }
    for (size_t j = 0; j < count; j++)
        for (size_t c = j < whole ? squares : 0; c < channels; c++)
            to[j * channels + c] = from[c * plane + j];
}

void convolution_pack_last(const struct convolution_plan *plan, const float *x, size_t y,
                           size_t height, float *packed)
{
    const struct convolution *c = &plan->forward;
    const struct net_window *window = &c->window;
    size_t channels = c->channels, width = plan->gradient.width;
    size_t left = convolution_smaller((size_t)window->before[1], width);
    size_t inside = convolution_smaller((size_t)window->input[1], width - left);
    int64_t from = (int64_t)y * window->stride[0] - window->before[0];
    if (inside == width && width == (size_t)window->input[1] && from >= 0 &&
        from + (int64_t)height <= window->input[0]) { /* nothing between rows */
        convolution_pack_row(packed, x + from * window->input[1], channels, c->input_plane,
                             height * width);
        return;
    }
    for (size_t i = 0; i < height; i++, packed += width * channels) {
        int64_t row = from + (int64_t)i;
        bool any = row >= 0 && row < window->input[0];
        float *to = packed + left * channels, *end = to + inside * channels;
        memset(packed, 0, (any ? left : width) * channels * sizeof *packed);
        if (!any)
            continue;
        convolution_pack_row(to, x + row * window->input[1], channels, c->input_plane, inside);
        memset(end, 0, (width - left - inside) * channels * sizeof *end);
    }
}
