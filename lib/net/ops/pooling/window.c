/* Windows of pools: their shapes, what they combine, and the adjoint of sums. */
#include <math.h>
#include <string.h>

#include "core/dispatch.h"
#include "net/ops/pooling/pooling.h"

/* NaN is the largest value. */
static inline float pooling_max(float a, float b)
{
    return (b > a) | (b != b) ? b : a;
}

static inline float pooling_combine(float a, float b, bool maximum)
{
    return maximum ? pooling_max(a, b) : a + b;
}

/* Returns 1 / taps that count for output `at` along an axis; 0 if there are none. */
static float inverse_count(const struct pool *pool, const struct net_window_axis *axis, int64_t at)
{
    struct net_window_axis counted = *axis;
    if (pool->count_padding) { /* padding counts as input */
        counted.input += axis->before + axis->after;
        counted.before = 0;
    }
    int64_t first, last, from;
    net_window_axis_taps(&counted, at, &first, &last, &from);
    return last > first ? 1 / (float)(last - first) : 0;
}

/* Shapes. */

/* Reads the window's axes; a single one gets a row axis of one element. Returns their number in
   *count. */
static int pool_read_axes(const struct net_call *call, struct net_window_axis *axes, int *count,
                          struct ivon_error *error)
{
    const struct net_tensor *x = call->inputs[0];
    int skip = x->rank == 3;
    axes[0] = (struct net_window_axis){.input = 1, .kernel = 1, .stride = 1, .dilation = 1};
    axes[0].output = 1;
    int code = net_window_infer_axes(call, NULL, axes + skip, error);
    *count = code ? 0 : x->rank - 2 + skip;
    char text[256];
    for (int i = 0; i < *count; i++) {
        int64_t reach = (axes[i].kernel - 1) * axes[i].dilation + 1;
        if (axes[i].before >= reach || axes[i].after >= reach)
            return net_fail(call, error, "pads as large as its kernel, for an input of shape %s",
                            net_shape_text(x, text));
    }
    return code;
}

/* Sets the counts of slices; false on overflow. */
static bool pool_count_slices(struct pool *pool)
{
    bool fine = true;
    pool->input_slices = pool->output_slices = pool->slices_max = 1;
    for (int i = 0; i < pool->outer; i++) {
        const struct net_window_axis *axis = &pool->axes[i];
        int64_t taps = axis->kernel < axis->input ? axis->kernel : axis->input;
        taps = taps > 1 ? taps : 1; /* pool_slices lists axes one after the other */
        fine &= !__builtin_mul_overflow(pool->input_slices, (size_t)axis->input,
                                        &pool->input_slices);
        fine &= !__builtin_mul_overflow(pool->output_slices, (size_t)axis->output,
                                        &pool->output_slices);
        fine &= !__builtin_mul_overflow(pool->slices_max, (size_t)taps, &pool->slices_max);
    }
    return fine;
}

/* Bytes in the workspace: a list of slices, a padded row, a plane of combined slices, and a
   volume with its outputs. 0 on overflow. */
static size_t pool_workspace(const struct pool *pool, bool volume)
{
    size_t input, output, floats, bytes;
    size_t plane = pool->outer ? pool->input_plane : 0;
    if (__builtin_mul_overflow(pool->input_slices, pool->input_plane, &input) ||
        __builtin_mul_overflow(pool->output_slices, pool->output_plane, &output) ||
        __builtin_add_overflow(input, output, &floats) ||
        __builtin_add_overflow(volume ? floats : 0, pool->span + plane, &floats) ||
        __builtin_add_overflow(floats, 2 * (pool->slices_max + 1), &floats) ||
        __builtin_mul_overflow(floats, sizeof(float), &bytes) || pool->slices_max > SIZE_MAX / 64)
        return 0;
    return bytes;
}

static int64_t pool_span(const struct net_window_axis *axis)
{
    int64_t reach = (axis->kernel - 1) * axis->dilation + 1;
    int64_t padded = axis->input + axis->before + axis->after;
    int64_t span = (axis->output - 1) * axis->stride + reach;
    return span > padded ? span : padded;
}

int pool_infer_any(struct net_call *call, bool volume, struct ivon_error *error)
{
    struct net_window_axis axes[POOL_AXES_MAX + 1];
    int count;
    int code = pool_read_axes(call, axes, &count, error);
    if (code)
        return code;
    const struct net_tensor *x = call->inputs[0];
    int64_t shape[IVON_RANK_MAX] = {x->shape[0], x->shape[1]};
    for (int i = 2; i < x->rank; i++)
        shape[i] = axes[count - x->rank + i].output;
    for (size_t i = 0; i < call->node->output_count && !code; i++)
        if (call->outputs[i])
            code = net_tensor_set(call->outputs[i], i ? NET_INTEGER : x->type, x->rank, shape,
                                  error);
    if (code)
        return code;
    const struct net_window_axis *row = &axes[count - 2], *column = &axes[count - 1];
    struct pool *pool = net_prepare(
        call, sizeof *pool + (size_t)column->output * sizeof *pool->inverse, error);
    if (!pool)
        return IVON_ERROR_MEMORY;
    pool->outer = count - 2;
    memcpy(pool->axes, axes, (size_t)count * sizeof *axes);
    pool->input_plane = (size_t)(row->input * column->input);
    pool->output_plane = (size_t)(row->output * column->output);
    pool->span = (size_t)pool_span(column);
    pool->count_padding = net_attribute_integer(call->node, "count_include_pad", 0) != 0;
    for (int64_t i = 0; i < column->output; i++)
        pool->inverse[i] = inverse_count(pool, column, i);
    bool fine = pool_count_slices(pool);
    call->workspace_size = fine ? pool_workspace(pool, volume) : 0;
    if (!call->workspace_size)
        return net_fail(call, error, "its window is too large");
    /* An input without elements has outputs where it is padded. */
    size_t outputs = call->outputs[0]->count;
    pool->volumes = outputs ? outputs / pool->output_slices / pool->output_plane : 0;
    return 0;
}

int pool_infer(struct net_call *call, bool volume, struct ivon_error *error)
{
    int code = net_expect_float(call, 0, error);
    return code ? code : pool_infer_any(call, volume, error);
}

/* The workspace. */

static float *pool_row(const struct net_call *call)
{
    const struct pool *pool = call->prepared;
    return (float *)((size_t *)call->workspace + pool->slices_max + 1);
}

static float *pool_plane(const struct net_call *call)
{
    return pool_row(call) + ((const struct pool *)call->prepared)->span;
}

float *pool_volume(const struct net_call *call)
{
    const struct pool *pool = call->prepared;
    return pool_plane(call) + (pool->outer ? pool->input_plane : 0);
}

struct pool_slices pool_slices(const struct net_call *call, size_t at)
{
    const struct pool *pool = call->prepared;
    struct pool_slices slices = {.list = call->workspace, .count = 1};
    size_t below = pool->output_slices;
    slices.list[0] = 0;
    for (int i = 0; i < pool->outer; i++) {
        const struct net_window_axis *axis = &pool->axes[i];
        int64_t first, last, from;
        below /= (size_t)axis->output;
        net_window_axis_taps(axis, (int64_t)(at / below), &first, &last, &from);
        at %= below;
        /* from the end, so that nothing is overwritten before it was used */
        size_t taps = (size_t)(last - first);
        for (size_t j = slices.count * taps; j-- > 0;)
            slices.list[j] = slices.list[j / taps] * (size_t)axis->input +
                             (size_t)(from + (first + (int64_t)(j % taps)) * axis->dilation);
        slices.count *= taps;
    }
    return slices;
}

/* Combination. */

static void pooling_fill(float *values, size_t count, float value)
{
    for (size_t i = 0; i < count; i++)
        values[i] = value;
}

static inline __attribute__((always_inline)) void combine_slice(float *restrict to,
                                                                const float *restrict from,
                                                                size_t count, bool maximum)
{
    for (size_t i = 0; i < count; i++)
        to[i] = pooling_combine(to[i], from[i], maximum);
}

IVON_DISPATCH static void combine_maxima(float *to, const float *from, size_t count)
{
    combine_slice(to, from, count, true);
}

IVON_DISPATCH static void combine_sums(float *to, const float *from, size_t count)
{
    combine_slice(to, from, count, false);
}

/* Returns the plane of a volume's combined slices; one slice is its own. */
static const float *combine_slices(const struct net_call *call, const float *volume,
                                   struct pool_slices slices, bool maximum)
{
    const struct pool *pool = call->prepared;
    size_t size = pool->input_plane;
    if (slices.count == 1)
        return volume + slices.list[0] * size;
    float *plane = pool_plane(call);
    pooling_fill(plane, slices.count ? 0 : size, maximum ? -INFINITY : 0);
    for (size_t i = 0; i < slices.count; i++) {
        const float *from = volume + slices.list[i] * size;
        if (i == 0)
            memcpy(plane, from, size * sizeof *plane);
        else if (maximum)
            combine_maxima(plane, from, size);
        else
            combine_sums(plane, from, size);
    }
    return plane;
}

/* out[i] = the combined taps from[i * stride + k * dilation] */
static inline __attribute__((always_inline)) void combine_columns(float *restrict out,
                                                                  const float *restrict from,
                                                                  size_t count, size_t stride,
                                                                  size_t kernel, size_t dilation,
                                                                  bool maximum)
{
    for (size_t i = 0; i < count; i++)
        out[i] = from[i * stride];
    for (size_t k = 1; k < kernel; k++)
        for (size_t i = 0; i < count; i++)
            out[i] = pooling_combine(out[i], from[i * stride + k * dilation], maximum);
}

/* The most common windows, in one pass. */
static inline __attribute__((always_inline)) void combine_neighbours(float *restrict out,
                                                                     const float *restrict from,
                                                                     size_t count, size_t kernel,
                                                                     bool maximum)
{
    for (size_t i = 0; i < count; i++) {
        float both = pooling_combine(from[2 * i], from[2 * i + 1], maximum);
        out[i] = kernel == 2 ? both : pooling_combine(both, from[2 * i + 2], maximum);
    }
}

/* One output row: combines input rows into `combined`, then combines its columns. */
static inline __attribute__((always_inline)) void combine_window(const struct pool *pool,
                                                                 const float *x, int64_t at,
                                                                 float *restrict combined,
                                                                 float *restrict y, bool maximum)
{
    const struct net_window_axis *rows = pool_rows(pool), *columns = pool_columns(pool);
    size_t width = (size_t)columns->input, count = (size_t)columns->output;
    size_t stride = (size_t)columns->stride, kernel = (size_t)columns->kernel;
    size_t dilation = (size_t)columns->dilation;
    float *restrict inside = combined + columns->before;
    int64_t first, last, from;
    net_window_axis_taps(rows, at, &first, &last, &from);
    bool any = first < last;
    for (size_t i = 0; i < width; i++)
        inside[i] = any       ? x[(size_t)(from + first * rows->dilation) * width + i]
                    : maximum ? -INFINITY
                              : 0;
    while (++first < last) {
        const float *restrict row = x + (size_t)(from + first * rows->dilation) * width;
        for (size_t i = 0; i < width; i++)
            inside[i] = pooling_combine(inside[i], row[i], maximum);
    }
    if (stride == 2 && kernel == 2 && dilation == 1)
        combine_neighbours(y, combined, count, 2, maximum);
    else if (stride == 2 && kernel == 3 && dilation == 1)
        combine_neighbours(y, combined, count, 3, maximum);
    else if (stride == 1)
        combine_columns(y, combined, count, 1, kernel, dilation, maximum);
    else
        combine_columns(y, combined, count, stride, kernel, dilation, maximum);
}

IVON_DISPATCH static void pool_maxima(const struct pool *pool, const float *x, float *combined,
                                      float *y)
{
    const struct net_window_axis *columns = pool_columns(pool);
    for (int64_t i = 0; i < pool_rows(pool)->output; i++, y += columns->output)
        combine_window(pool, x, i, combined, y, true);
}

IVON_DISPATCH static void pool_sums(const struct pool *pool, const float *x, float *combined,
                                    float *y)
{
    const struct net_window_axis *columns = pool_columns(pool);
    for (int64_t i = 0; i < pool_rows(pool)->output; i++, y += columns->output)
        combine_window(pool, x, i, combined, y, false);
}

IVON_DISPATCH static void pool_means(const struct pool *pool, const float *x, float outer,
                                     float *combined, float *y)
{
    const struct net_window_axis *rows = pool_rows(pool), *columns = pool_columns(pool);
    for (int64_t i = 0; i < rows->output; i++, y += columns->output) {
        float inverse = outer * inverse_count(pool, rows, i);
        combine_window(pool, x, i, combined, y, false);
        for (int64_t j = 0; j < columns->output; j++)
            y[j] *= inverse * pool->inverse[j];
    }
}

/* Returns 1 / slices that count for output slice `at`. */
static float slices_inverse(const struct pool *pool, size_t at)
{
    float inverse = 1;
    size_t below = pool->output_slices;
    for (int i = 0; i < pool->outer; i++) {
        below /= (size_t)pool->axes[i].output;
        inverse *= inverse_count(pool, &pool->axes[i], (int64_t)(at / below));
        at %= below;
    }
    return inverse;
}

void pool_run(const struct net_call *call, enum pool_kind kind, const float *x, size_t count,
              float *y)
{
    const struct pool *pool = call->prepared;
    float *row = pool_row(call);
    size_t input = pool->input_slices * pool->input_plane;
    pooling_fill(row, pool->span, kind == POOL_MAXIMUM ? -INFINITY : 0);
    for (size_t slice = 0; count && slice < pool->output_slices; slice++) {
        struct pool_slices slices = pool_slices(call, slice);
        float outer = kind == POOL_MEAN ? slices_inverse(pool, slice) : 1;
        for (size_t i = 0; i < count; i++) {
            const float *plane = combine_slices(call, x + i * input, slices, kind == POOL_MAXIMUM);
            float *to = y + (i * pool->output_slices + slice) * pool->output_plane;
            if (kind == POOL_MAXIMUM)
                pool_maxima(pool, plane, row, to);
            else if (kind == POOL_SUM)
                pool_sums(pool, plane, row, to);
            else
                pool_means(pool, plane, outer, row, to);
        }
    }
}

/* The adjoint of sums and means. */

/* Adds each element of a row to two neighbours, where no window extends beyond the input. */
IVON_DISPATCH static void add_to_pairs(float *restrict dx, const float *restrict dy, float inverse,
                                       size_t count)
{
    for (size_t i = 0; i < count; i++) {
        float share = dy[i] * inverse;
        dx[2 * i] += share;
        dx[2 * i + 1] += share;
    }
}

/* Returns whether windows are 2 × 2, inside the input, and side by side, as in most networks. */
static bool is_halving(const struct pool *pool)
{
    const struct net_window_axis *axes = pool->axes;
    bool halving = pool->outer == 0;
    for (int i = 0; i < 2; i++)
        halving &= axes[i].kernel == 2 && axes[i].stride == 2 && axes[i].dilation == 1 &&
                   axes[i].before == 0 && 2 * axes[i].output <= axes[i].input;
    return halving;
}

static void add_halving_shares(const struct pool *pool, const float *dy, float share, size_t count,
                               float *dx)
{
    size_t width = (size_t)pool_columns(pool)->input, outputs = (size_t)pool_columns(pool)->output;
    for (size_t plane = 0; plane < count; plane++, dx += pool->input_plane)
        for (size_t i = 0; i < (size_t)pool_rows(pool)->output; i++, dy += outputs) {
            add_to_pairs(dx + 2 * i * width, dy, share, outputs);
            add_to_pairs(dx + (2 * i + 1) * width, dy, share, outputs);
        }
}

/* Adds one output slice's adjoints to one slice of the input, each times `share` and, for means,
   the inverse counts of its row and column. */
static void add_slice_shares(const struct pool *pool, bool mean, const float *dy, float share,
                             float *dx)
{
    const struct net_window_axis *rows = pool_rows(pool), *columns = pool_columns(pool);
    for (int64_t i = 0; i < rows->output; i++) {
        float row_share = mean ? share * inverse_count(pool, rows, i) : share;
        int64_t top, bottom, y_from;
        net_window_axis_taps(rows, i, &top, &bottom, &y_from);
        for (int64_t j = 0; j < columns->output; j++) {
            float value = *dy++ * (mean ? row_share * pool->inverse[j] : row_share);
            int64_t left, right, x_from;
            net_window_axis_taps(columns, j, &left, &right, &x_from);
            for (int64_t k = top; k < bottom; k++)
                for (int64_t l = left; l < right; l++)
                    dx[(y_from + k * rows->dilation) * columns->input + x_from +
                       l * columns->dilation] += value;
        }
    }
}

void pool_add_shares(const struct net_call *call, enum pool_kind kind, const float *dy,
                     size_t count, float *dx)
{
    const struct pool *pool = call->prepared;
    size_t input = pool->input_slices * pool->input_plane;
    bool mean = kind == POOL_MEAN;
    if (is_halving(pool)) {
        add_halving_shares(pool, dy, mean ? 0.25F : 1, count, dx);
        return;
    }
    for (size_t slice = 0; count && slice < pool->output_slices; slice++) {
        struct pool_slices slices = pool_slices(call, slice);
        float outer = mean ? slices_inverse(pool, slice) : 1;
        for (size_t i = 0; i < count; i++)
            for (size_t j = 0; j < slices.count; j++)
                add_slice_shares(pool, mean,
                                 dy + (i * pool->output_slices + slice) * pool->output_plane, outer,
                                 dx + i * input + slices.list[j] * pool->input_plane);
    }
}
