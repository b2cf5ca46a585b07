/* Conv by Winograd's minimal filtering. Tiles lie side by side in vectors, so that transforms are
   sums of vectors, and products of transformed tiles at a point are a product of matrices. */
#include "net/ops/convolution/winograd.h"

#include <stdint.h>
#include <string.h>

#include "core/dispatch.h"
#include "core/stream.h"
#include "net/ops/convolution/convolution.h"

enum {
    TAPS = 3,
    KERNEL = TAPS * TAPS,
    TALL = 4,               /* outputs of a tile, down */
    WIDE = 2,               /* and across */
    DOWN = TALL + TAPS - 1, /* inputs of a tile, and points, along an axis */
    ACROSS = WIDE + TAPS - 1,
    POINTS = DOWN * ACROSS,
    LINES = TALL * ACROSS /* of tiles: for each row of outputs, the points across */
};

typedef float lanes __attribute__((vector_size(64), aligned(4), may_alias));

enum {
    LANES = sizeof(lanes) / sizeof(float),
    REACH = 3 * LANES /* of vectors of inputs, beyond the last row */
};

#define INLINE static inline __attribute__((always_inline))

#define VECTOR(at)   (*(lanes *)(at))
#define CONSTANT(at) (*(const lanes *)(at)) /* to be read alone */

/* The layout. */

enum {
    TILE_COST = 8,           /* of transforming an element of a tile, in products: of inputs, */
    RESULT_COST = 6,         /* and of results */
    WEIGHT_COST = 120,       /* of transforming a kernel, shared by a few images */
    TILES = 128,             /* of a group, or more where a row has more */
    TILES_LEAST = 64,        /* where there are many channels */
    FILTERS = 24,            /* whose results are kept at once, where the weights stay */
    CHANNELS_MAX = 8,        /* transformed together, at most, */
    FLOATS_MAX = 6 << 10,    /* while these, which that takes, stay in the nearest cache */
    WEIGHTS_MAX = 128 << 10, /* floats of transformed weights: within the second-level cache */
    INPUTS_MAX = 1 << 20,    /* floats of transformed inputs, where weights do not stay, */
    ROW_MAX = 4 << 20        /* and ever, of one row of tiles */
};

/* Rows of input that rows of tiles meet. */
static size_t winograd_row_count(size_t rows)
{
    return TALL * rows + TAPS - 1;
}

/* Returns whether the transforms cost less than the products that they save. */
static bool winograd_saves(const struct convolution *c, double tiles)
{
    double channels = (double)c->channels, filters = (double)c->filters;
    double direct = (double)c->terms * filters * (double)c->output_plane;
    return POINTS * tiles * (channels * filters + TILE_COST * channels + RESULT_COST * filters) +
               WEIGHT_COST * channels * filters <
           direct;
}

static bool winograd_applies(const struct convolution *c)
{
    const struct net_window *window = &c->window;
    for (int axis = 0; axis < 2; axis++)
        if (window->kernel[axis] != 3 || window->stride[axis] != 1 || window->dilation[axis] != 1 ||
            window->before[axis] < 0)
            return false;
    return c->groups == 1 &&
           POINTS * (double)c->channels * (double)window->output[1] / WIDE <= ROW_MAX;
}

void convolution_winograd_lay_out(const struct convolution *c, struct convolution_winograd *w)
{
    const struct net_window *window = &c->window;
    size_t across = (size_t)window->output[1], down = (size_t)window->output[0];
    *w = (struct convolution_winograd){.across = (across + WIDE - 1) / WIDE,
                                       .down = (down + TALL - 1) / TALL};
    if (!winograd_applies(c) || !winograd_saves(c, (double)w->across * (double)w->down))
        return;
    w->used = true;
    w->depth = round_up(c->channels, LANES);
    size_t fit = WEIGHTS_MAX / POINTS / w->depth, most = TILES;
    w->stays = fit >= c->filters;
    w->filters = w->stays || fit < FILTERS ? FILTERS : fit / PANEL_ROWS * PANEL_ROWS;
    w->filters = convolution_smaller(w->filters, c->filters);
    if (!w->stays) {
        most = INPUTS_MAX / POINTS / c->channels;
        most = most < TILES_LEAST ? TILES_LEAST : most;
    }
    w->rows = w->across < most ? most / w->across : 1;
    size_t tiles = round_up(w->rows * w->across, LANES), row = WIDE * w->across + TAPS - 1;
    w->pitch = tiles + LANES;
    w->begin = convolution_smaller((size_t)window->before[1], row);
    w->inside = convolution_smaller((size_t)window->input[1], row - w->begin);
    w->row = round_up(row, LANES);
    w->lines = round_up((w->rows + 1) * w->across, LANES) + LANES;
    w->frame = winograd_row_count(w->rows) * w->row + REACH;
    size_t part = convolution_smaller(w->rows, w->down);
    size_t floats = LINES * (part + 1) * w->across + winograd_row_count(part) * w->row;
    w->together = convolution_smaller(FLOATS_MAX / floats + 1, CHANNELS_MAX);
    w->weight_step = (w->stays ? c->filters : w->filters) * w->depth + LANES;
    w->input_step = c->channels * w->pitch + LANES;
    w->result_step = w->filters * w->pitch + LANES;
}

/* The workspace. */
struct winograd_parts {
    float *weights; /* points × filters × depth */
    float *taps;    /* KERNEL × channels, and as much as vectors reach beyond */
    float *inputs;  /* points × channels × pitch */
    float *results; /* points × filters at once × pitch */
    float *lines;   /* channels together × LINES × lines: rows of input, transformed along them */
    float *outputs; /* TALL × pitch: outputs, row by row of tiles */
    float *rows;    /* channels together × frame: rows of input with their padding, behind which
                       they begin on a line of the cache */
};

size_t convolution_winograd_workspace(const struct convolution_winograd *w)
{
    return POINTS * (w->weight_step + w->input_step + w->result_step) + KERNEL * w->depth +
           w->together * (LINES * w->lines + w->frame) + w->pitch * TALL * WIDE + LANES;
}

static struct winograd_parts winograd_parts(const struct convolution_winograd *w, float *workspace)
{
    struct winograd_parts parts = {.weights = workspace};
    parts.taps = parts.weights + POINTS * w->weight_step;
    parts.inputs = parts.taps + KERNEL * w->depth;
    parts.results = parts.inputs + POINTS * w->input_step;
    parts.lines = parts.results + POINTS * w->result_step;
    parts.outputs = parts.lines + w->together * LINES * w->lines;
    parts.rows = parts.outputs + w->pitch * TALL * WIDE + LANES - w->begin % LANES;
    return parts;
}

/* The points down are 0, ±A, ±B and ∞; their squares are AA and BB. All are exact in float, and so
   are their products. */
#define A  0.625
#define B  1.5
#define AA (A * A)
#define BB (B * B)

/* The weights. */

/* The reciprocals of a point's differences from the others, for 0, A and B. */
#define FACTOR_ZERO (1.0 / (AA * BB))
#define FACTOR_A    (0.5 / (AA * (AA - BB)))
#define FACTOR_B    (0.5 / (BB * (BB - AA)))

/* G times a column of three, of the points down. */
INLINE void winograd_weights_down(const lanes *g, size_t stride, lanes *u)
{
    lanes even = (float)FACTOR_A * g[0] + (float)(FACTOR_A * AA) * g[2 * stride];
    lanes odd = (float)(FACTOR_A * A) * g[stride];
    u[0] = (float)FACTOR_ZERO * g[0];
    u[1] = even + odd;
    u[2] = even - odd;
    even = (float)FACTOR_B * g[0] + (float)(FACTOR_B * BB) * g[2 * stride];
    odd = (float)(FACTOR_B * B) * g[stride];
    u[3] = even + odd;
    u[4] = even - odd;
    u[5] = g[2 * stride];
}

/* The same of the points across: 0, ±1 and ∞. */
INLINE void winograd_weights_across(const lanes *g, lanes *u)
{
    lanes even = 0.5F * (g[0] + g[2]), odd = 0.5F * g[1];
    u[0] = g[0];
    u[1] = even + odd;
    u[2] = even - odd;
    u[3] = g[2];
}

/* Transforms the kernels of a filter, of which `taps` holds tap after tap of all channels. */
IVON_DISPATCH static void winograd_weights(const float *taps, size_t channels, size_t step,
                                           float *to)
{
    for (size_t first = 0; first < channels; first += LANES, to += LANES, taps += LANES) {
        lanes g[KERNEL], columns[TAPS][DOWN];
        for (size_t tap = 0; tap < KERNEL; tap++)
            g[tap] = CONSTANT(taps + tap * channels);
        for (size_t x = 0; x < TAPS; x++)
            winograd_weights_down(g + x, TAPS, columns[x]);
        for (size_t y = 0; y < DOWN; y++) {
            lanes row[TAPS] = {columns[0][y], columns[1][y], columns[2][y]}, u[ACROSS];
            winograd_weights_across(row, u);
            for (size_t x = 0; x < ACROSS; x++)
                VECTOR(to + (y * ACROSS + x) * step) = u[x];
        }
    }
}

/* The rows of tiles of a group that belong to one image. */
struct winograd_part {
    size_t image, top, rows;
    size_t at; /* the first one's first tile, among those of the group */
};

/* Sets the part that begins with row `at` of a group which begins with row `first` of all. */
static struct winograd_part winograd_part(const struct convolution_winograd *w, size_t first,
                                          size_t rows, size_t at)
{
    struct winograd_part part = {
        .image = (first + at) / w->down, .top = (first + at) % w->down, .at = at * w->across};
    part.rows = convolution_smaller(w->down - part.top, rows - at);
    return part;
}

/* Inputs. Vectors reach beyond the tiles of a row or part: what they leave there is written again
   by the next one, or never used. */

/* Copies the rows of input that a part's tiles meet, or zeros, between the zeros of the padding. */
INLINE void winograd_rows(const struct convolution *c, const struct convolution_winograd *w,
                          const float *x, const struct winograd_part *part, float *to)
{
    int64_t width = c->window.input[1], height = c->window.input[0];
    int64_t y = (int64_t)(TALL * part->top) - c->window.before[0];
    to += w->begin;
    for (size_t i = 0; i < winograd_row_count(part->rows); i++, y++, to += w->row)
        if (y >= 0 && y < height)
            convolution_copy_row(to, x + y * width, w->inside);
        else
            memset(to, 0, w->inside * sizeof *to);
}

/* Defines a function for d B of rows of input, by vectors of one size: rows of few tiles take as
   long as others in wide ones. The lists are of every second element of two vectors. */
#define LIST(...) __VA_ARGS__
#define DEFINE_LINES(NAME, TYPE, EVEN, ODD)                                                        \
    INLINE void NAME(const struct convolution_winograd *w, const float *rows, size_t count,        \
                     float *lines)                                                                 \
    {                                                                                              \
        const size_t width = sizeof(TYPE) / sizeof(float), across = w->across, pitch = w->row;     \
        const size_t step = w->lines;                                                              \
        for (size_t i = 0; i < count; i++, rows += pitch) {                                        \
            float *to = lines + i % TALL * ACROSS * step + i / TALL * across;                      \
            for (size_t t = 0; t < across; t += width) {                                           \
                const float *from = rows + WIDE * t;                                               \
                TYPE a = *(const TYPE *)from, b = *(const TYPE *)(from + width);                   \
                TYPE c = *(const TYPE *)(from + 2), d = *(const TYPE *)(from + 2 + width);         \
                TYPE d0 = __builtin_shufflevector(a, b, EVEN);                                     \
                TYPE d1 = __builtin_shufflevector(a, b, ODD);                                      \
                TYPE d2 = __builtin_shufflevector(c, d, EVEN);                                     \
                TYPE d3 = __builtin_shufflevector(c, d, ODD);                                      \
                *(TYPE *)(to + t) = d0 - d2;                                                       \
                *(TYPE *)(to + t + step) = d1 + d2;                                                \
                *(TYPE *)(to + t + 2 * step) = d2 - d1;                                            \
                *(TYPE *)(to + t + 3 * step) = d1 - d3;                                            \
            }                                                                                      \
        }                                                                                          \
    }

typedef float lanes4 __attribute__((vector_size(16), aligned(4), may_alias));
typedef float lanes8 __attribute__((vector_size(32), aligned(4), may_alias));

DEFINE_LINES(winograd_lines4, lanes4, LIST(0, 2, 4, 6), LIST(1, 3, 5, 7))
DEFINE_LINES(winograd_lines8, lanes8, LIST(0, 2, 4, 6, 8, 10, 12, 14),
             LIST(1, 3, 5, 7, 9, 11, 13, 15))
DEFINE_LINES(winograd_lines16, lanes,
             LIST(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30),
             LIST(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31))

INLINE void winograd_lines(const struct convolution_winograd *w, const float *rows, size_t count,
                           float *lines)
{
    if (w->across <= 4)
        winograd_lines4(w, rows, count, lines);
    else if (w->across <= 8)
        winograd_lines8(w, rows, count, lines);
    else
        winograd_lines16(w, rows, count, lines);
}

/* Bᵀ (d B) of so many tiles, whose rows are as long as those of tiles. */
INLINE void winograd_points(const struct convolution_winograd *w, const float *lines, size_t tiles,
                            float *to)
{
    const size_t step = w->input_step, phase = ACROSS * w->lines, line = w->lines;
    const size_t across = w->across, down = ACROSS * step;
    for (size_t t = 0; t < tiles; t += LANES)
        for (size_t k = 0; k < ACROSS; k++) {
            const float *from = lines + k * line + t;
            float *point = to + k * step + t;
            lanes d[DOWN];
            for (size_t i = 0; i < DOWN; i++)
                d[i] = CONSTANT(from + i % TALL * phase + i / TALL * across);
            lanes even = d[4] - (float)BB * d[2], odd = (float)A * (d[3] - (float)BB * d[1]);
            VECTOR(point) = (d[4] - (float)(AA + BB) * d[2]) + (float)(AA * BB) * d[0];
            VECTOR(point + down) = even + odd;
            VECTOR(point + 2 * down) = even - odd;
            even = d[4] - (float)AA * d[2];
            odd = (float)B * (d[3] - (float)AA * d[1]);
            VECTOR(point + 3 * down) = even + odd;
            VECTOR(point + 4 * down) = even - odd;
            VECTOR(point + 5 * down) = (d[5] - (float)(AA + BB) * d[3]) + (float)(AA * BB) * d[1];
        }
}

/* Bᵀ d B of a part of all channels. Each step is done to several channels, since processors wait
   where they read what they just wrote in vectors of other bounds. */
IVON_DISPATCH static void winograd_input(const struct convolution *c,
                                         const struct convolution_winograd *w,
                                         const struct winograd_parts *parts, const float *x,
                                         const struct winograd_part *part, float *to)
{
    size_t rows = w->frame, lines = LINES * w->lines;
    for (size_t first = 0; first < c->channels; first += w->together) {
        size_t count = convolution_smaller(c->channels - first, w->together);
        for (size_t i = 0; i < count; i++)
            winograd_rows(c, w, x + (first + i) * c->input_plane, part, parts->rows + i * rows);
        for (size_t i = 0; i < count; i++)
            winograd_lines(w, parts->rows + i * rows, winograd_row_count(part->rows),
                           parts->lines + i * lines);
        for (size_t i = 0; i < count; i++)
            winograd_points(w, parts->lines + i * lines, part->rows * w->across,
                            to + (first + i) * w->pitch);
    }
}

/* Results. */

/* Aᵀ times a column, of the points down. */
INLINE void winograd_output_down(const lanes *m, size_t stride, lanes *y)
{
    lanes even = m[stride] + m[2 * stride], odd = m[stride] - m[2 * stride];
    lanes evens = m[3 * stride] + m[4 * stride], odds = m[3 * stride] - m[4 * stride];
    y[0] = m[0] + (even + evens);
    y[1] = (float)A * odd + (float)B * odds;
    y[2] = (float)AA * even + (float)BB * evens;
    y[3] = ((float)(A * AA) * odd + (float)(B * BB) * odds) + m[5 * stride];
}

/* Aᵀ m A + bias of `count` tiles, whose points are `step` floats from each other: each of the
   outputs' rows goes to one of `to`, `pitch` floats from each other. */
IVON_DISPATCH static void winograd_output(const float *m, size_t step, size_t count, float bias,
                                          float *to, size_t pitch)
{
    for (size_t t = 0; t < count; t += LANES) {
        lanes columns[ACROSS][TALL];
        for (size_t x = 0; x < ACROSS; x++) {
            lanes points[DOWN];
            for (size_t y = 0; y < DOWN; y++)
                points[y] = CONSTANT(m + (y * ACROSS + x) * step + t);
            winograd_output_down(points, 1, columns[x]);
        }
        for (size_t y = 0; y < TALL; y++) {
            float *row = to + y * pitch + WIDE * t;
            lanes both = columns[1][y] + bias, left = columns[0][y] + both + columns[2][y];
            lanes right = both - columns[2][y] - columns[3][y];
            VECTOR(row) = __builtin_shufflevector(left, right, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5,
                                                  21, 6, 22, 7, 23);
            VECTOR(row + LANES) = __builtin_shufflevector(left, right, 8, 24, 9, 25, 10, 26, 11, 27,
                                                          12, 28, 13, 29, 14, 30, 15, 31);
        }
    }
}

/* Copies a part's outputs of one filter to their places, from what winograd_output left. */
IVON_DISPATCH static void winograd_place(const struct convolution *c,
                                         const struct convolution_winograd *w,
                                         const struct winograd_part *part, size_t rows,
                                         const float *outputs, float *y)
{
    size_t width = (size_t)c->window.output[1];
    for (size_t i = 0; i < rows; i++, y += width)
        convolution_copy_row(
            y, outputs + i % TALL * w->pitch * WIDE + WIDE * (part->at + i / TALL * w->across),
            width);
}

/* The outputs of a group's tiles, of some filters from `first` on. */
struct winograd_outputs {
    size_t first_row, rows; /* of tiles */
    size_t first, filters;
    const float *bias; /* of all filters, or null */
};

/* Returns whether vectors of tiles are runs of outputs, with nothing to drop. */
static bool winograd_is_straight(const struct convolution *c, const struct convolution_winograd *w)
{
    return w->across % LANES == 0 && (size_t)c->window.output[1] == WIDE * w->across &&
           (size_t)c->window.output[0] == TALL * w->down;
}

/* One filter's outputs, from its results m; y is the filter's output of image 0. */
static void winograd_finish_filter(const struct convolution *c,
                                   const struct convolution_winograd *w,
                                   const struct winograd_parts *parts,
                                   const struct winograd_outputs *outputs, const float *m,
                                   size_t filter, float *y, const struct convolution_finish *finish)
{
    size_t width = (size_t)c->window.output[1], height = (size_t)c->window.output[0];
    float bias = outputs->bias ? outputs->bias[filter] : 0;
    bool straight = winograd_is_straight(c, w);
    if (!straight)
        winograd_output(m, w->result_step, outputs->rows * w->across, bias, parts->outputs,
                        WIDE * w->pitch);
    for (size_t at = 0; at < outputs->rows;) {
        struct winograd_part part = winograd_part(w, outputs->first_row, outputs->rows, at);
        float *to = y + part.image * c->filters * c->output_plane + TALL * part.top * width;
        size_t rows = convolution_smaller(TALL * part.rows, height - TALL * part.top);
        for (size_t i = 0; straight && i < part.rows; i++)
            winograd_output(m + part.at + i * w->across, w->result_step, w->across, bias,
                            to + TALL * i * width, width);
        if (!straight)
            winograd_place(c, w, &part, rows, parts->outputs, to);
        if (finish)
            net_finish_run(finish->steps, finish->channels, finish->scratch, finish->first + filter,
                           to, rows * width);
        at += part.rows;
    }
}

/* The whole. */

/* The place of the kernels of the filters at hand. */
static float *winograd_kernels(const struct convolution_winograd *w,
                               const struct winograd_parts *parts,
                               const struct winograd_outputs *outputs)
{
    return parts->weights + (w->stays ? outputs->first * w->depth : 0);
}

/* Transforms these. */
static void winograd_prepare(const struct convolution *c, const struct convolution_winograd *w,
                             const struct winograd_parts *parts,
                             const struct winograd_outputs *outputs, const float *weights)
{
    float *to = winograd_kernels(w, parts, outputs);
    for (size_t i = 0; i < outputs->filters; i++) {
        convolution_pack_row(parts->taps, weights + (outputs->first + i) * c->terms, c->channels,
                             KERNEL, KERNEL);
        winograd_weights(parts->taps, c->channels, w->weight_step, to + i * w->depth);
    }
}

/* Zeroes the last columns of a group's panels, of which tiles may leave some. */
static void winograd_clear(const struct convolution *c, const struct convolution_winograd *w,
                           size_t tiles, float *inputs)
{
    inputs += tiles / LANES * LANES;
    for (size_t point = 0; point < POINTS; point++)
        for (size_t channel = 0; channel < c->channels; channel++)
            memset(inputs + point * w->input_step + channel * w->pitch, 0, LANES * sizeof *inputs);
}

/* Zeroes what rows of input have around them, and what vectors reach beyond. */
static void winograd_begin(const struct convolution_winograd *w, const struct winograd_parts *parts)
{
    memset(parts->lines, 0, w->together * LINES * w->lines * sizeof *parts->lines);
    memset(parts->rows, 0, w->together * w->frame * sizeof *parts->rows);
}

/* Fills the panels of a group, one for each point: rows are channels, columns are tiles. */
static void winograd_transform(const struct convolution *c, const struct convolution_winograd *w,
                               const struct winograd_parts *parts, size_t first, size_t rows,
                               const float *x)
{
    if (first == 0 && rows * w->across % LANES)
        winograd_clear(c, w, rows * w->across, parts->inputs);
    for (size_t at = 0; at < rows;) {
        struct winograd_part part = winograd_part(w, first, rows, at);
        const float *from = x + part.image * c->channels * c->input_plane;
        winograd_input(c, w, parts, from, &part, parts->inputs + part.at);
        at += part.rows;
    }
}

static void winograd_multiply(const struct convolution *c, const struct convolution_winograd *w,
                              const struct winograd_parts *parts,
                              const struct winograd_outputs *outputs)
{
    const float *weights = winograd_kernels(w, parts, outputs);
    for (size_t point = 0; point < POINTS; point++) {
        const struct net_panel panel = {.weights = weights + point * w->weight_step,
                                        .stride = w->depth,
                                        .terms = c->channels,
                                        .offsets = w->offsets};
        net_panel_run(&panel, parts->inputs + point * w->input_step, outputs->filters,
                      round_up(outputs->rows * w->across, PANEL_STEP),
                      parts->results + point * w->result_step, w->pitch);
    }
}

void convolution_winograd_run(const struct convolution *c, const struct convolution_winograd *w,
                              const float *weights, const float *bias, const float *x, float *y,
                              const struct convolution_finish *finish, float *workspace)
{
    struct winograd_parts parts = winograd_parts(w, workspace);
    size_t rows = c->images * w->down;
    winograd_begin(w, &parts);
    for (size_t row = 0; row < rows; row += w->rows) {
        struct winograd_outputs outputs = {
            .first_row = row, .rows = convolution_smaller(rows - row, w->rows), .bias = bias};
        winograd_transform(c, w, &parts, row, outputs.rows, x);
        for (; outputs.first < c->filters; outputs.first += w->filters) {
            outputs.filters = convolution_smaller(c->filters - outputs.first, w->filters);
            if (row == 0 || !w->stays)
                winograd_prepare(c, w, &parts, &outputs, weights);
            winograd_multiply(c, w, &parts, &outputs);
            for (size_t i = 0; i < outputs.filters; i++)
                winograd_finish_filter(c, w, &parts, &outputs, parts.results + i * w->pitch,
                                       outputs.first + i, y + (outputs.first + i) * c->output_plane,
                                       finish);
        }
    }
}
