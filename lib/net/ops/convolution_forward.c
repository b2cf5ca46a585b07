/* Conv: forward and tangent. */
#include <string.h>

#include "net/ops/convolution.h"

static float *results(const struct net_call *call, const struct convolution *c)
{
    return (float *)call->workspace + c->packed;
}

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
    for (size_t first = 0; first < c->filters; first += CONVOLUTION_FILTERS) {
        size_t rows = smaller(c->filters - first, CONVOLUTION_FILTERS);
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
        convolution_pack_planes(c, x, top, packed);
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
        struct convolution_segment segments[CONVOLUTION_COLUMNS_MAX];
        size_t count = smaller(total - start, c->columns);
        size_t cuts = convolution_cut(c, start, count, segments);
        convolution_pack_columns(c, x, segments, cuts, c->columns, packed);
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
        memset(packed, 0, convolution_planes_size(c) * sizeof *packed);
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

int convolution_forward(const struct net_call *call, struct ivon_error *error)
{
    (void)error;
    convolve(call, call->inputs[0]->data, call->inputs[1]->data, convolution_bias(call), false,
             call->outputs[0]->data);
    return 0;
}

void convolution_tangent(const struct net_call *call, const float *const *input_tangents,
                    float *const *output_tangents)
{
    const float *bias = convolution_bias(call) ? input_tangents[2] : NULL;
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
