/*
 * Conv: y[n, m, p] = b[m] + Σ_{c, k} w[m, c, k] x[n, c, stride p + dilation k − pad], one or two
 * spatial axes, channels in groups.
 */
#include <inttypes.h>
#include <string.h>

#include "core/blas.h"
#include "core/dispatch.h"
#include "core/stream.h"
#include "net/panel.h"
#include "net/sum.h"
#include "net/window.h"

enum {
    STRIDE_MAX = 4,         /* down, of what is packed as planes */
    PACKED_MAX = 128 << 10, /* floats packed at once: within the second-level cache */
    COLUMNS_MAX = 512,      /* and never more columns than this */
    FILTERS = 48,           /* results kept at once before they are stored */
    COPY_COST = 16,         /* what one copied element costs, in products */
};

/*
 * The input is packed in one of two ways, and term q = (c, k) of every output lies at offsets[q]
 * from the first.
 * Planes: what each column of the kernel meets of an image, row after row: one plane of rows as
 * wide as the output for each column, and for each remainder of rows by the stride. The rows of the
 * kernel share them.
 * Columns: each output's terms, for output after output, of several images where these are small.
 */
struct convolution {
    struct net_window window;
    size_t images, groups;
    size_t channels, filters; /* of a group */
    size_t terms;             /* channels × kernel */
    size_t input_plane, output_plane;
    bool planes;
    unsigned used;    /* remainders of rows that the kernel meets: bits */
    size_t rows;      /* of a packed plane */
    size_t band;      /* rows of output that a packed plane serves */
    size_t columns;   /* packed at once */
    size_t packed;    /* floats */
    size_t offsets[]; /* of terms, in what forward packs */
};

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

static size_t round_up(size_t count, size_t multiple)
{
    return (count + multiple - 1) / multiple * multiple;
}

/* The shape rule. */

/* Which remainders by the stride the rows of the kernel have. */
static unsigned remainders(const struct net_window *window)
{
    unsigned used = 0;
    for (int64_t k = 0; k < window->kernel[0] && k < STRIDE_MAX; k++)
        used |= 1U << (k * window->dilation[0] % window->stride[0]);
    return used;
}

static size_t plane_count(const struct convolution *c)
{
    return c->channels * (size_t)__builtin_popcount(c->used) * (size_t)c->window.kernel[1];
}

/* Floats, with those after the end that a tile may read. */
static size_t planes_size(const struct convolution *c)
{
    return plane_count(c) * c->rows * (size_t)c->window.output[1] + PANEL_WIDTH;
}

/* Lays out planes, and says whether they fit and beat columns. */
static bool prefer_planes(struct convolution *c)
{
    const struct net_window *window = &c->window;
    if (window->stride[0] > STRIDE_MAX)
        return false;
    c->used = remainders(window);
    int64_t margin = (window->kernel[0] - 1) * window->dilation[0] / window->stride[0];
    int64_t row = (int64_t)plane_count(c) * window->output[1]; /* factors fit 32 bits */
    if (margin > PACKED_MAX || row > PACKED_MAX || row * (margin + 1) > PACKED_MAX)
        return false;
    c->band = smaller((size_t)window->output[0], (size_t)(PACKED_MAX / row - margin));
    c->rows = c->band + (size_t)margin;
    double outputs = (double)(c->band * (size_t)window->output[1]);
    double computed = (double)round_up(c->band * (size_t)window->output[1], PANEL_STEP);
    double planes = (double)c->terms * (double)c->filters * computed +
                    (double)planes_size(c) * COPY_COST;
    double columns = (double)c->terms * (double)(c->filters + COPY_COST) * outputs;
    return planes < columns;
}

static void set_offsets(struct convolution *c)
{
    const struct net_window *window = &c->window;
    size_t width = (size_t)window->output[1], q = 0;
    for (size_t channel = 0; channel < c->channels; channel++)
        for (int64_t y = 0; y < window->kernel[0]; y++)
            for (int64_t x = 0; x < window->kernel[1]; x++, q++) {
                int64_t down = y * window->dilation[0];
                unsigned before = c->used & ((1U << down % window->stride[0]) - 1);
                size_t plane = channel * (size_t)__builtin_popcount(c->used) +
                               (size_t)__builtin_popcount(before);
                plane = plane * (size_t)window->kernel[1] + (size_t)x;
                c->offsets[q] =
                    c->planes
                        ? (plane * c->rows + (size_t)(down / window->stride[0])) * width
                        : q * c->columns;
            }
}

static int check_inputs(const struct net_call *call, int64_t groups, struct ivon_error *error)
{
    char found[256], expected[256];
    bool biased = call->node->input_count > 2 && call->inputs[2];
    for (size_t i = 0; i < (biased ? 3U : 2U); i++) {
        int code = net_expect_float(call, i, error);
        if (code)
            return code;
    }
    const struct net_tensor *x = call->inputs[0], *w = call->inputs[1];
    if (x->rank != w->rank || x->rank < 3)
        return net_fail(call, error, "weights of shape %s for an input of shape %s",
                        net_shape_text(w, found), net_shape_text(x, expected));
    if (groups < 1 || w->shape[1] < 1 || x->shape[1] % groups != 0 ||
        x->shape[1] / groups != w->shape[1] || w->shape[0] < 1 || w->shape[0] % groups != 0)
        return net_fail(call, error,
                        "weights of shape %s for an input of shape %s in %" PRId64 " groups",
                        net_shape_text(w, found), net_shape_text(x, expected), groups);
    if (biased && (call->inputs[2]->rank != 1 || call->inputs[2]->shape[0] != w->shape[0]))
        return net_fail(call, error, "bias of shape %s for weights of shape %s",
                        net_shape_text(call->inputs[2], found), net_shape_text(w, expected));
    return 0;
}

/* What forward and the derivatives need of memory, in call->workspace_size. */
static int set_workspace(struct net_call *call, struct convolution *c, struct ivon_error *error)
{
    size_t total = c->images * c->output_plane;
    c->columns = smaller(smaller(round_up(total ? total : 1, PANEL_WIDTH), COLUMNS_MAX),
                         PACKED_MAX / c->terms / PANEL_WIDTH * PANEL_WIDTH);
    if (c->columns < PANEL_WIDTH)
        c->columns = PANEL_WIDTH;
    int64_t extents[] = {(int64_t)c->terms, (int64_t)c->columns};
    size_t columns;
    if (!tensor_shape_count(2, extents, 2 * sizeof(float), &columns))
        return net_fail(call, error, "its kernels are too large");
    c->packed = columns;
    if (c->planes && planes_size(c) > columns)
        c->packed = planes_size(c);
    c->packed = round_up(c->packed, PANEL_STEP);
    call->workspace_size = (c->packed + FILTERS * PANEL_WIDTH) * sizeof(float);
    return 0;
}

static int infer(struct net_call *call, struct ivon_error *error)
{
    int64_t groups = net_attribute_integer(call->node, "group", 1);
    struct net_window window;
    int code = check_inputs(call, groups, error);
    if (!code)
        code = net_window_infer(call, call->inputs[1]->shape + 2, &window, error);
    if (code)
        return code;
    const struct net_tensor *x = call->inputs[0], *w = call->inputs[1];
    struct net_tensor *y = call->outputs[0];
    int64_t shape[4] = {x->shape[0], w->shape[0], window.output[2 - (x->rank - 2)],
                        window.output[1]};
    code = net_tensor_set(y, NET_FLOAT, x->rank, shape, error);
    if (code)
        return code;
    char text[256];
    int64_t extents[] = {w->shape[1], window.kernel[0], window.kernel[1]};
    size_t terms;
    if (!tensor_shape_count(3, extents, sizeof(size_t), &terms) || terms > INT32_MAX ||
        w->shape[0] > INT32_MAX || window.output[0] * window.output[1] > INT32_MAX)
        return net_fail(call, error, "weights of shape %s are too large", net_shape_text(w, text));
    struct convolution *c = net_prepare(call, sizeof *c + terms * sizeof *c->offsets, error);
    if (!c)
        return IVON_ERROR_MEMORY;
    c->window = window;
    c->images = (size_t)x->shape[0];
    c->groups = (size_t)groups;
    c->channels = (size_t)w->shape[1];
    c->filters = (size_t)(w->shape[0] / groups);
    c->terms = terms;
    c->input_plane = (size_t)(window.input[0] * window.input[1]);
    c->output_plane = (size_t)(window.output[0] * window.output[1]);
    c->planes = prefer_planes(c);
    code = set_workspace(call, c, error);
    set_offsets(c);
    return code;
}

static float *results(const struct net_call *call, const struct convolution *c)
{
    return (float *)call->workspace + c->packed;
}

/* Packing. */

/* A run of outputs within a row: where tap (0, 0) of the first one lies. */
struct segment {
    size_t image;
    int64_t y, x;
    size_t count;
};

/* Cuts the outputs from `position` on, counted through the images, into rows. */
static size_t cut(const struct convolution *c, size_t position, size_t count,
                  struct segment *segments)
{
    const struct net_window *window = &c->window;
    size_t width = (size_t)window->output[1], found = 0;
    size_t image = position / c->output_plane;
    int64_t y = (int64_t)(position % c->output_plane / width);
    for (size_t x = position % width; count; x = 0) {
        size_t taken = smaller(width - x, count);
        segments[found++] =
            (struct segment){image, y * window->stride[0] - window->before[0],
                             (int64_t)x * window->stride[1] - window->before[1], taken};
        count -= taken;
        if (++y == window->output[0]) {
            y = 0;
            image++;
        }
    }
    return found;
}

/* The part [*first, *last) of `count` outputs whose input lies within a row, from that of the first
   output, which is at x, on; false where none does. */
static bool clip(const struct net_window *window, int64_t x, int64_t count, size_t *first,
                 size_t *last)
{
    int64_t width = window->input[1], stride = window->stride[1];
    int64_t end = x + (count - 1) * stride < width ? count : (width - x + stride - 1) / stride;
    int64_t start = x < 0 ? (-x + stride - 1) / stride : 0;
    *first = *last = 0;
    if (x >= width || start >= end)
        return false;
    *first = (size_t)start;
    *last = (size_t)end;
    return true;
}

/* Where the tap that is `down` and `right` of the first one lies for a segment: in the input, from
   element `at` of its channel on, for outputs from *first to before *last. */
static int64_t place(const struct convolution *c, const struct segment *segment, int64_t down,
                     int64_t right, size_t *first, size_t *last)
{
    const struct net_window *window = &c->window;
    int64_t y = segment->y + down, x = segment->x + right;
    *first = *last = 0;
    if (y < 0 || y >= window->input[0] ||
        !clip(window, x, (int64_t)segment->count, first, last))
        return 0;
    return y * window->input[1] + x + (int64_t)*first * window->stride[1];
}

/* Rows are short: a call takes as long as the copy, and pieces that overlap spare a tail. */
static inline __attribute__((always_inline)) void copy_row(float *restrict to,
                                                           const float *restrict from,
                                                           size_t count)
{
    enum { PIECE = 16, HALF = 8, QUARTER = 4 };
    if (count >= PIECE) {
        for (size_t i = 0; i + PIECE <= count; i += PIECE)
            memcpy(to + i, from + i, PIECE * sizeof *to);
        memcpy(to + count - PIECE, from + count - PIECE, PIECE * sizeof *to);
    } else if (count >= HALF) {
        memcpy(to, from, HALF * sizeof *to);
        memcpy(to + count - HALF, from + count - HALF, HALF * sizeof *to);
    } else if (count >= QUARTER) {
        memcpy(to, from, QUARTER * sizeof *to);
        memcpy(to + count - QUARTER, from + count - QUARTER, QUARTER * sizeof *to);
    } else {
        for (size_t i = 0; i < QUARTER; i++)
            if (i < count)
                to[i] = from[i];
    }
}

static inline __attribute__((always_inline)) void copy(float *restrict to,
                                                       const float *restrict from, size_t stride,
                                                       size_t count)
{
    if (stride == 1)
        copy_row(to, from, count);
    else if (stride == 2)
        for (size_t i = 0; i < count; i++)
            to[i] = from[2 * i];
    else
        for (size_t i = 0; i < count; i++)
            to[i] = from[i * stride];
}

/* Element q * stride + j: term q of the j-th output; x is the group's first channel of image 0. */
static void pack_columns(const struct convolution *c, const float *x,
                         const struct segment *segments, size_t segment_count, size_t stride,
                         float *packed)
{
    const struct net_window *window = &c->window;
    size_t image = c->groups * c->channels * c->input_plane;
    for (size_t channel = 0; channel < c->channels; channel++, x += c->input_plane)
        for (int64_t down = 0; down < window->kernel[0]; down++)
            for (int64_t right = 0; right < window->kernel[1]; right++, packed += stride) {
                float *to = packed;
                for (size_t i = 0; i < segment_count; i++) {
                    size_t first, last, count = segments[i].count;
                    int64_t at = place(c, &segments[i], down * window->dilation[0],
                                       right * window->dilation[1], &first, &last);
                    for (size_t j = 0; j < first; j++)
                        to[j] = 0;
                    copy(to + first, x + segments[i].image * image + at,
                         (size_t)window->stride[1], last - first);
                    for (size_t j = last; j < count; j++)
                        to[j] = 0;
                    to += count;
                }
            }
}

/* x += what was packed, the transpose of pack_columns */
static void add_columns(const struct convolution *c, float *x, const struct segment *segments,
                        size_t segment_count, size_t stride, const float *packed)
{
    const struct net_window *window = &c->window;
    size_t image = c->groups * c->channels * c->input_plane;
    for (size_t channel = 0; channel < c->channels; channel++, x += c->input_plane)
        for (int64_t down = 0; down < window->kernel[0]; down++)
            for (int64_t right = 0; right < window->kernel[1]; right++, packed += stride) {
                const float *from = packed;
                for (size_t i = 0; i < segment_count; i++) {
                    size_t first, last;
                    int64_t at = place(c, &segments[i], down * window->dilation[0],
                                       right * window->dilation[1], &first, &last);
                    float *to = x + segments[i].image * image + at;
                    for (size_t j = first; j < last; j++)
                        to[(j - first) * (size_t)window->stride[1]] += from[j];
                    from += segments[i].count;
                }
            }
}

/* The rows that outputs from row `y` on take, of an image's group. The margins at the left and
   right are zero already. */
IVON_DISPATCH static void pack_planes(const struct convolution *c, const float *x, size_t y, float *packed)
{
    const struct net_window *window = &c->window;
    size_t width = (size_t)window->output[1], stride = (size_t)window->stride[1], first, last;
    for (size_t channel = 0; channel < c->channels; channel++, x += c->input_plane)
        for (int64_t down = 0; down < window->stride[0]; down++)
            for (int64_t right = 0; c->used >> down & 1 && right < window->kernel[1]; right++) {
                int64_t left = right * window->dilation[1] - window->before[1];
                bool any = clip(window, left, window->output[1], &first, &last);
                left += (int64_t)(first * stride);
                for (size_t i = 0; i < c->rows; i++, packed += width) {
                    int64_t row = (int64_t)(y + i) * window->stride[0] + down - window->before[0];
                    if (any && row >= 0 && row < window->input[0])
                        copy(packed + first, x + row * window->input[1] + left, stride,
                             last - first);
                    else
                        memset(packed, 0, width * sizeof *packed);
                }
            }
}

/* Forward. */

/* A run of the outputs of a tile: from the tile's element `from` to an image's output `to`. */
struct run {
    size_t from, to, count;
};

/* Computes `width` outputs of every filter of a group and stores or adds the runs. */
static void run_tile(const struct convolution *c, const struct net_panel *panel,
                     const float *columns, size_t width, const struct run *runs, size_t run_count,
                     bool add, float *y, float *result)
{
    if (!add && run_count == 1 && runs->count == width) {
        net_panel_run(panel, columns, c->filters, width, y + runs->to, c->output_plane);
        return;
    }
    for (size_t first = 0; first < c->filters; first += FILTERS) {
        size_t rows = smaller(c->filters - first, FILTERS);
        struct net_panel part = *panel;
        part.weights += first * panel->stride;
        part.bias = panel->bias ? panel->bias + first : NULL;
        net_panel_run(&part, columns, rows, width, result, PANEL_WIDTH);
        for (size_t i = 0; i < run_count; i++)
            for (size_t row = 0; row < rows; row++) {
                float *to = y + (first + row) * c->output_plane + runs[i].to;
                const float *from = result + row * PANEL_WIDTH + runs[i].from;
                if (!add)
                    copy_row(to, from, runs[i].count);
                else
                    for (size_t j = 0; j < runs[i].count; j++)
                        to[j] += from[j];
            }
    }
}

/* One image's group. */
static void run_planes(const struct convolution *c, const struct net_panel *panel, const float *x,
                       bool add, float *y, float *packed, float *result)
{
    size_t height = (size_t)c->window.output[0], width = (size_t)c->window.output[1];
    for (size_t top = 0; top < height; top += c->band) {
        size_t end = smaller(height - top, c->band) * width;
        pack_planes(c, x, top, packed);
        for (size_t at = 0; at < end; at += PANEL_WIDTH) {
            struct run run = {0, top * width + at, smaller(end - at, PANEL_WIDTH)};
            run_tile(c, panel, packed + at, round_up(run.count, PANEL_STEP), &run, 1, add, y,
                     result);
        }
    }
}

/* A group of every image. y is the output of the group's first filter of image 0. */
static void run_columns(const struct convolution *c, const struct net_panel *panel, const float *x,
                        bool add, float *y, float *packed, float *result)
{
    size_t total = c->images * c->output_plane;
    size_t image = c->groups * c->filters * c->output_plane;
    for (size_t start = 0; start < total; start += c->columns) {
        struct segment segments[COLUMNS_MAX];
        size_t count = smaller(total - start, c->columns);
        pack_columns(c, x, segments, cut(c, start, count, segments), c->columns, packed);
        for (size_t at = 0; at < count; at += PANEL_WIDTH) {
            struct run runs[PANEL_WIDTH];
            size_t width = smaller(count - at, PANEL_WIDTH), found = 0;
            for (size_t j = 0; j < width; j += runs[found++].count) {
                size_t position = (start + at + j) % c->output_plane;
                runs[found] = (struct run){
                    j, (start + at + j) / c->output_plane * image + position,
                    smaller(c->output_plane - position, width - j)};
            }
            run_tile(c, panel, packed + at, round_up(width, PANEL_STEP), runs, found, add, y,
                     result);
        }
    }
}

/* y = conv(x, w) + bias, or y += conv(x, w) */
static void convolve(const struct net_call *call, const float *x, const float *w,
                     const float *bias, bool add, float *y)
{
    const struct convolution *c = call->prepared;
    float *packed = call->workspace, *result = results(call, c);
    size_t input = c->channels * c->input_plane, output = c->filters * c->output_plane;
    if (c->planes)
        memset(packed, 0, planes_size(c) * sizeof *packed);
    for (size_t group = 0; group < c->groups; group++) {
        struct net_panel panel = {.weights = w + group * c->filters * c->terms,
                                  .stride = c->terms,
                                  .bias = bias ? bias + group * c->filters : NULL,
                                  .terms = c->terms,
                                  .offsets = c->offsets};
        if (!c->planes) {
            run_columns(c, &panel, x + group * input, add, y + group * output, packed, result);
            continue;
        }
        for (size_t image = 0; image < c->images; image++) {
            size_t at = image * c->groups + group;
            run_planes(c, &panel, x + at * input, add, y + at * output, packed, result);
        }
    }
}

static const float *bias_of(const struct net_call *call)
{
    return call->node->input_count > 2 && call->inputs[2] ? call->inputs[2]->data : NULL;
}

static int forward(const struct net_call *call, struct ivon_error *error)
{
    (void)error;
    convolve(call, call->inputs[0]->data, call->inputs[1]->data, bias_of(call), false,
             call->outputs[0]->data);
    return 0;
}

static void tangent(const struct net_call *call, const float *const *input_tangents,
                    float *const *output_tangents)
{
    const float *bias = bias_of(call) ? input_tangents[2] : NULL;
    const struct convolution *c = call->prepared;
    float *y = output_tangents[0];
    size_t filters = c->groups * c->filters;
    for (size_t i = 0; i < c->images * filters; i++)
        for (size_t j = 0; j < c->output_plane; j++)
            y[i * c->output_plane + j] = bias ? bias[i % filters] : 0;
    if (input_tangents[0])
        convolve(call, input_tangents[0], call->inputs[1]->data, NULL, true, y);
    if (input_tangents[1])
        convolve(call, call->inputs[0]->data, input_tangents[1], NULL, true, y);
}

/* Backward: dw += dy columnsᵀ; the columns of dx are wᵀ dy; db += Σ dy. */

/* Of one image's group; null: not wanted. */
static void add_adjoints(const struct net_call *call, size_t image, size_t group, const float *dy,
                         float *dx, float *dw)
{
    const struct convolution *c = call->prepared;
    float *packed = call->workspace;
    const float *x = call->inputs[0]->data, *w = call->inputs[1]->data;
    size_t part = image * c->groups + group;
    size_t input = part * c->channels * c->input_plane;
    size_t weights = group * c->filters * c->terms;
    int64_t filters = (int64_t)c->filters, terms = (int64_t)c->terms;
    int64_t plane = (int64_t)c->output_plane, columns = (int64_t)c->columns;
    dy += part * c->filters * c->output_plane;
    for (size_t start = 0; start < c->output_plane; start += c->columns) {
        struct segment segments[COLUMNS_MAX];
        size_t count = smaller(c->output_plane - start, c->columns);
        size_t found = cut(c, start, count, segments);
        if (dw) {
            pack_columns(c, x + input, segments, found, c->columns, packed);
            blas_product(false, true, filters, terms, (int64_t)count, 1, dy + start, plane, packed,
                         columns, 1, dw + weights, terms);
        }
        if (dx) {
            blas_product(true, false, terms, (int64_t)count, filters, 1, w + weights, terms,
                         dy + start, plane, 0, packed, columns);
            add_columns(c, dx + input, segments, found, c->columns, packed);
        }
    }
}

/* db += Σ dy over `images` images from `first` on */
static void add_bias(const struct convolution *c, size_t first, size_t images, const float *dy,
                     float *db)
{
    size_t filters = c->groups * c->filters;
    for (size_t filter = 0; filter < filters; filter++) {
        double sum = 0;
        for (size_t image = first; image < first + images; image++)
            sum += net_sum(dy + (image * filters + filter) * c->output_plane, c->output_plane);
        db[filter] += (float)sum;
    }
}

static void backward(const struct net_call *call, const float *const *output_adjoints,
                     float *const *input_adjoints)
{
    const struct convolution *c = call->prepared;
    const float *dy = output_adjoints[0];
    if (!dy)
        return;
    if (input_adjoints[0] || input_adjoints[1])
        for (size_t image = 0; image < c->images; image++)
            for (size_t group = 0; group < c->groups; group++)
                add_adjoints(call, image, group, dy, input_adjoints[0], input_adjoints[1]);
    if (bias_of(call) && input_adjoints[2])
        add_bias(c, 0, c->images, dy, input_adjoints[2]);
}

static void parameter_gradient(const struct net_call *call, size_t input, size_t examples,
                               const float *const *output_adjoints, float *gradients)
{
    const struct convolution *c = call->prepared;
    size_t size = call->inputs[input]->count, images = c->images / examples;
    memset(gradients, 0, examples * size * sizeof *gradients);
    for (size_t e = 0; e < examples; e++, gradients += size) {
        if (input == 2)
            add_bias(c, e * images, images, output_adjoints[0], gradients);
        else
            for (size_t image = e * images; image < (e + 1) * images; image++)
                for (size_t group = 0; group < c->groups; group++)
                    add_adjoints(call, image, group, output_adjoints[0], NULL, gradients);
    }
}

const struct net_operator net_convolution_operators[] = {
    {.name = "Conv",
     .inputs_min = 2,
     .inputs_max = 3,
     .outputs_max = 1,
     .attributes = {{"auto_pad", NET_TEXT},
                    {"dilations", NET_INTS},
                    {"group", NET_INT},
                    {"kernel_shape", NET_INTS},
                    {"pads", NET_INTS},
                    {"strides", NET_INTS}},
     .infer = infer,
     .forward = forward,
     .backward = backward,
     .tangent = tangent,
     .parameter_gradient = parameter_gradient},
    {0}};
