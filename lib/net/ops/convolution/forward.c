/* Conv: forward. */
#include "net/ops/convolution/convolution.h"

/* A run of the outputs of a tile: from the tile's element `from` to a plane's element `to`, that of
   the first filter of image 0. */
struct run {
    size_t from, to, count;
};

/* Splits `count` outputs from `position` on, counted through the images, into runs of constant
   stride. */
static size_t convolution_forward_cut(const struct convolution *c, size_t position, size_t count,
                                      struct run *runs)
{
    size_t width = (size_t)c->window.output[1], found = 0;
    bool together = c->target_step == 1 && c->target_pitch == width;
    for (size_t done = 0; done < count; done += runs[found++].count) {
        size_t image = (position + done) / c->output_plane;
        size_t at = (position + done) % c->output_plane, x = at % width;
        size_t left = together ? c->output_plane - at : width - x;
        runs[found] = (struct run){done,
                                   image * c->groups * c->filters * c->target_plane +
                                       c->target_first + at / width * c->target_pitch +
                                       x * c->target_step,
                                   convolution_smaller(left, count - done)};
    }
    return found;
}

static void convolution_forward_store(const struct convolution *c, const struct run *run, bool add,
                                      float *to, const float *from)
{
    size_t step = c->target_step;
    if (step == 1 && add)
        for (size_t j = 0; j < run->count; j++)
            to[j] += from[j];
    else if (step == 1)
        convolution_copy_row(to, from, run->count);
    else if (add)
        for (size_t j = 0; j < run->count; j++)
            to[j * step] += from[j];
    else
        for (size_t j = 0; j < run->count; j++)
            to[j * step] = from[j];
}

/* Computes `width` outputs of every filter of a group and stores or adds the runs. */
static void convolution_forward_run_tile(const struct convolution *c, const struct net_panel *panel,
                                         const float *columns, size_t width, const struct run *runs,
                                         size_t run_count, bool add, float *y, float *result)
{
    if (!add && run_count == 1 && runs->count == width && c->target_step == 1) {
        net_panel_run(panel, columns, c->filters, width, y + runs->to, c->target_plane);
        return;
    }
    for (size_t first = 0; first < c->filters; first += CONVOLUTION_FILTERS) {
        size_t rows = convolution_smaller(c->filters - first, CONVOLUTION_FILTERS);
        struct net_panel part = *panel;
        part.weights += first * panel->stride;
        part.bias = panel->bias ? panel->bias + first : NULL;
        net_panel_run(&part, columns, rows, width, result, PANEL_WIDTH);
        for (size_t i = 0; i < run_count; i++)
            for (size_t row = 0; row < rows; row++)
                convolution_forward_store(c, &runs[i], add,
                                          y + (first + row) * c->target_plane + runs[i].to,
                                          result + row * PANEL_WIDTH + runs[i].from);
    }
}

/* One image's group. */
static void run_planes(const struct convolution *c, const struct net_panel *panel, const float *x,
                       bool add, float *y, float *workspace)
{
    size_t height = (size_t)c->window.output[0], width = (size_t)c->window.output[1];
    float *packed = convolution_packed(workspace);
    for (size_t top = 0; top < height; top += c->band) {
        size_t end = convolution_smaller(height - top, c->band) * width;
        convolution_pack_planes(c, x, top, packed);
        for (size_t at = 0; at < end; at += PANEL_WIDTH) {
            struct run runs[PANEL_WIDTH];
            size_t count = convolution_smaller(end - at, PANEL_WIDTH);
            size_t found = convolution_forward_cut(c, top * width + at, count, runs);
            convolution_forward_run_tile(c, panel, packed + at, round_up(count, PANEL_STEP), runs,
                                         found, add, y, workspace);
        }
    }
}

/* A group of so many images. y is the output of the group's first filter of the first image. */
static void convolution_forward_run_columns(const struct convolution *c,
                                            const struct net_panel *panel, size_t images,
                                            const float *x, bool add, float *y, float *workspace)
{
    size_t total = images * c->output_plane;
    float *packed = convolution_packed(workspace);
    for (size_t start = 0; start < total; start += c->columns) {
        struct convolution_segment segments[CONVOLUTION_COLUMNS_MAX];
        size_t count = convolution_smaller(total - start, c->columns);
        size_t cuts = convolution_cut(c, start, count, segments);
        convolution_pack_columns(c, x, segments, cuts, c->columns, packed);
        for (size_t at = 0; at < count; at += PANEL_WIDTH) {
            struct run runs[PANEL_WIDTH];
            size_t width = convolution_smaller(count - at, PANEL_WIDTH);
            size_t found = convolution_forward_cut(c, start + at, width, runs);
            convolution_forward_run_tile(c, panel, packed + at, round_up(width, PANEL_STEP), runs,
                                         found, add, y, workspace);
        }
    }
}

void convolution_run(const struct convolution *c, const float *weights, const float *bias,
                     size_t images, const float *x, bool add, float *y, float *workspace)
{
    struct net_panel panel = {.weights = weights,
                              .stride = c->terms,
                              .bias = bias,
                              .terms = c->terms,
                              .offsets = c->offsets};
    if (!c->planes) {
        convolution_forward_run_columns(c, &panel, images, x, add, y, workspace);
        return;
    }
    size_t input = c->groups * c->channels * c->input_plane;
    size_t output = c->groups * c->filters * c->target_plane;
    for (size_t image = 0; image < images; image++)
        run_planes(c, &panel, x + image * input, add, y + image * output, workspace);
}

void convolution_images_apply(const struct convolution_plan *plan, const float *x, const float *w,
                              const float *bias, bool add, float *y, float *workspace)
{
    const struct convolution *c = &plan->forward;
    convolution_clear(c, workspace);
    for (size_t group = 0; group < c->groups; group++)
        convolution_run(c, w + group * c->filters * c->terms,
                        bias ? bias + group * c->filters : NULL, c->images,
                        x + group * c->channels * c->input_plane, add,
                        y + group * c->filters * c->output_plane, workspace);
}
