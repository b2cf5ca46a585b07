/*
 * Conv: a convolution whose outputs nothing but one of groups of a channel takes, as at the
 * beginning of inverted residual blocks. A few channels are computed at a time, and taken at once,
 * while the caches hold them: what lies between the two convolutions, several times as large as
 * input and output, is never in memory.
 *
 *            first                    second
 *     x ───────────────► few channels ───────► y     of a band of rows, or of several small images
 *     columns or planes                              side by side
 */
#include "core/memory.h"
#include "net/ops/convolution/convolution.h"

enum {
    JOINED_MAX = 1024, /* positions of several images side by side */
    SMALL_MAX = 256,   /* of an image whose last vector is a large part of it */
    MIDDLE_MAX = CONVOLUTION_PACKED_MAX / 2
};

/* The sizes, in floats. */
struct pair {
    struct convolution first; /* laid out anew: columns of several images, lower bands */
    const struct convolution *second;
    size_t images; /* side by side, in columns; or 0: bands of one */
    size_t rows;   /* of the second convolution's outputs, in a band */
    size_t middle; /* of the first one's that a band needs at most; of all bands if it is all */
    size_t pitch;  /* from one channel to the next, of what is between */
    size_t packed, between, scratch;
};

static bool pair_is_pointwise(const struct convolution *c)
{
    for (int axis = 0; axis < 2; axis++)
        if (c->window.kernel[axis] != 1 || c->window.stride[axis] != 1 ||
            c->window.before[axis] != 0)
            return false;
    return c->input_plane == c->output_plane;
}

/* Sets the images that lie side by side; false where the first convolution needs columns of another
   kind. */
static bool pair_join(struct pair *pair)
{
    struct convolution *c = &pair->first;
    bool columns = c->layout == CONVOLUTION_COLUMNS;
    if (!pair_is_pointwise(c) || c->output_plane > SMALL_MAX || (c->images == 1 && !columns))
        return c->layout == CONVOLUTION_DIRECT ||
               (c->layout == CONVOLUTION_PLANES &&
                c->window.output[1] == pair->second->window.input[1]);
    size_t most = convolution_smaller(JOINED_MAX / c->output_plane,
                                      CONVOLUTION_PACKED_MAX / c->terms / c->output_plane);
    pair->images = convolution_smaller(c->images, most ? most : 1);
    pair->rows = (size_t)pair->second->window.output[0];
    c->layout = CONVOLUTION_COLUMNS;
    c->columns = pair->pitch = round_up(pair->images * c->output_plane, PANEL_STEP);
    pair->packed = c->terms * pair->pitch;
    return true;
}

/* Cuts an image into bands of equal height, unless it is small; false where a band is smaller than
   the panels' least. */
static bool pair_cut(struct pair *pair)
{
    struct convolution *c = &pair->first;
    const struct net_window *window = &pair->second->window;
    bool direct = c->layout == CONVOLUTION_DIRECT;
    size_t width = (size_t)window->input[1], height = (size_t)window->input[0];
    size_t taps = (size_t)window->kernel[0], stride = (size_t)window->stride[0];
    size_t most = direct ? CONVOLUTION_PACKED_MAX / c->terms / width
                         : CONVOLUTION_PACKED_MAX / convolution_plane_count(c) / width;
    most = convolution_smaller(most, MIDDLE_MAX / PANEL_ROWS / width);
    pair->rows = (size_t)window->output[0];
    pair->middle = height;
    if (most < height) {
        if (most < taps || width < PANEL_STEP)
            return false;
        size_t rows = (most - taps) / stride + 1, bands = (pair->rows + rows - 1) / rows;
        pair->rows = (pair->rows + bands - 1) / bands;
        pair->middle = (pair->rows - 1) * stride + taps;
    }
    pair->pitch = round_up(pair->middle * width, PANEL_STEP);
    if (direct)
        return true;
    c->rows += pair->middle - c->band;
    c->band = pair->middle;
    pair->packed = convolution_planes_size(c);
    return true;
}

/* Lays a pair out; false where it cannot be one. */
static bool pair_lay_out(const struct net_call *first, const struct net_call *second,
                         struct pair *pair)
{
    const struct convolution_plan *plans[] = {first->prepared, second->prepared};
    *pair = (struct pair){.first = plans[0]->forward, .second = &plans[1]->forward};
    const struct convolution *c = &pair->first;
    if (plans[0]->volume.axes || plans[1]->volume.axes || plans[0]->dense ||
        plans[0]->winograd.used || c->groups != 1 ||
        pair->second->layout != CONVOLUTION_DEPTHWISE || c->images != pair->second->images ||
        c->filters != pair->second->groups || c->output_plane != pair->second->input_plane ||
        (first->finish && !net_finish_is_alone(first->finish)))
        return false;
    if (!pair_join(pair) || (!pair->images && !pair_cut(pair)))
        return false;
    pair->packed = round_up(pair->packed + PANEL_WIDTH, PANEL_STEP);
    pair->between = pair->pitch * PANEL_ROWS;
    pair->scratch = round_up(net_finish_scratch(c->filters), PANEL_STEP);
    return true;
}

size_t convolution_pair_workspace(const struct net_call *first, const struct net_call *second)
{
    struct pair pair;
    if (!pair_lay_out(first, second, &pair))
        return 0;
    return (CONVOLUTION_RESULTS + pair.packed + pair.between + 2 * pair.scratch) * sizeof(float) +
           pair.first.terms * sizeof(size_t);
}

/* A pair at work. */
struct pair_run {
    struct pair pair;
    const float *x, *weights[2], *bias[2];
    float *y, *workspace, *between;
    struct convolution_finish finish[2];
    bool finished[2]; /* there is one */
};

/* Images side by side, or rows of one image. */
struct pair_block {
    size_t image, images;
    size_t top, rows;      /* of outputs */
    int64_t first, height; /* rows between, of each image */
    const float *columns;
    size_t count;
};

static void pair_begin(const struct net_call *const *calls, struct pair_run *run)
{
    pair_lay_out(calls[0], calls[1], &run->pair);
    const struct pair *pair = &run->pair;
    run->workspace = calls[1]->workspace;
    run->between = convolution_packed(run->workspace) + pair->packed;
    float *scratch = run->between + pair->between;
    run->x = calls[0]->inputs[0]->data;
    run->y = calls[1]->outputs[0]->data;
    for (int i = 0; i < 2; i++, scratch += pair->scratch) {
        run->weights[i] = calls[i]->inputs[1]->data;
        run->bias[i] = convolution_bias(calls[i]);
        run->finished[i] = calls[i]->finish != NULL;
        run->finish[i] = (struct convolution_finish){calls[i]->finish, scratch, pair->first.filters,
                                                     0};
        if (run->finished[i])
            net_finish_begin(calls[i]->finish, pair->first.filters, scratch);
    }
    run->pair.first.offsets = (size_t *)scratch;
    convolution_set_terms(&run->pair.first);
    convolution_clear(&pair->first, run->workspace);
}

/* Packs the columns of images side by side. */
static void pair_pack_images(const struct pair_run *run, struct pair_block *block)
{
    const struct convolution *c = &run->pair.first;
    struct convolution_segment segments[JOINED_MAX];
    float *packed = convolution_packed(run->workspace);
    block->count = block->images * c->output_plane;
    size_t found = convolution_cut(c, 0, block->count, segments);
    convolution_pack_columns(c, run->x + block->image * c->channels * c->input_plane, segments,
                             found, run->pair.pitch, packed);
    block->columns = packed;
}

/* Finds the rows that outputs need, and their columns. */
static void pair_pack_rows(const struct pair_run *run, struct pair_block *block)
{
    const struct convolution *c = &run->pair.first;
    const struct net_window *window = &run->pair.second->window;
    int64_t first = (int64_t)block->top * window->stride[0] - window->before[0];
    int64_t end = first + (int64_t)(block->rows - 1) * window->stride[0] + window->kernel[0];
    bool all = run->pair.middle == (size_t)window->input[0];
    end = all || end > window->input[0] ? window->input[0] : end;
    block->first = all || first < 0 ? 0 : first;
    block->height = end > block->first ? end - block->first : 0;
    block->count = (size_t)(block->height * window->input[1]);
    const float *image = run->x + block->image * c->channels * c->input_plane;
    if (c->layout == CONVOLUTION_DIRECT) {
        block->columns = image + block->first * window->input[1];
        return;
    }
    block->columns = convolution_packed(run->workspace);
    convolution_pack_planes(c, image, (size_t)block->first, convolution_packed(run->workspace));
}

/* Computes what is between, of so many channels from `channel` on. */
static void pair_run_first(const struct pair_run *run, const struct pair_block *block,
                           size_t channel, size_t channels)
{
    const struct convolution *c = &run->pair.first;
    const struct convolution_finish *finish = &run->finish[0];
    size_t whole = block->count / PANEL_STEP * PANEL_STEP, pitch = run->pair.pitch;
    bool direct = c->layout == CONVOLUTION_DIRECT;
    struct lanes_finish lanes;
    bool finished = run->finished[0] &&
                    net_finish_lanes(finish->steps, finish->channels, finish->scratch, channel,
                                     run->between, &lanes);
    const struct net_panel panel = {.weights = run->weights[0] + channel * c->terms,
                                    .stride = c->terms,
                                    .bias = run->bias[0] ? run->bias[0] + channel : NULL,
                                    .terms = c->terms,
                                    .offsets = c->offsets,
                                    .finish = finished ? &lanes : NULL};
    if (!direct)
        whole = round_up(block->count, PANEL_STEP);
    net_panel_run(&panel, block->columns, channels, whole, run->between, pitch);
    if (whole < block->count) /* nothing lies behind the image: some columns again */
        net_panel_run(&panel, block->columns + block->count - PANEL_STEP, channels, PANEL_STEP,
                      run->between + block->count - PANEL_STEP, pitch);
    for (size_t i = 0; run->finished[0] && !finished && i < channels; i++)
        net_finish_run(finish->steps, finish->channels, finish->scratch, channel + i,
                       run->between + i * pitch, block->count);
}

/* Takes it. */
static void pair_run_second(const struct pair_run *run, const struct pair_block *block,
                            size_t channel, size_t channels)
{
    const struct convolution *c = run->pair.second;
    const struct net_window *window = &c->window;
    size_t taps = (size_t)(window->kernel[0] * window->kernel[1]);
    struct convolution_finish finish = run->finish[1];
    finish.first = channel;
    for (size_t i = 0; i < block->images; i++) {
        struct convolution_band band = {
            .x = run->between + i * c->input_plane,
            .weights = run->weights[1] + channel * taps,
            .bias = run->bias[1] ? run->bias[1] + channel : NULL,
            .channels = channels,
            .x_plane = run->pair.pitch,
            .out_plane = c->output_plane,
            .height = block->height,
            .width = window->input[1],
            .top = (int64_t)block->top * window->stride[0] - window->before[0] - block->first,
            .left = -window->before[1],
            .out = run->y + ((block->image + i) * c->groups + channel) * c->output_plane +
                   block->top * (size_t)window->output[1],
            .rows = block->rows,
            .columns = (size_t)window->output[1]};
        convolution_depthwise_run_band(c, &band, run->finished[1] ? &finish : NULL);
    }
}

static void pair_run_block(const struct pair_run *run, struct pair_block *block)
{
    size_t filters = run->pair.first.filters;
    if (run->pair.images)
        pair_pack_images(run, block);
    else
        pair_pack_rows(run, block);
    for (size_t channel = 0; channel < filters; channel += PANEL_ROWS) {
        size_t channels = convolution_smaller(filters - channel, PANEL_ROWS);
        pair_run_first(run, block, channel, channels);
        pair_run_second(run, block, channel, channels);
    }
}

void convolution_pair_forward(const struct net_call *first, const struct net_call *second)
{
    struct pair_run run;
    pair_begin((const struct net_call *const[]){first, second}, &run);
    const struct pair *pair = &run.pair;
    size_t images = pair->first.images, outputs = (size_t)pair->second->window.output[0];
    size_t step = pair->images ? pair->images : 1;
    for (size_t image = 0; image < images; image += step)
        for (size_t top = 0; top < outputs; top += pair->rows) {
            struct pair_block block = {.image = image,
                                       .images = convolution_smaller(images - image, step),
                                       .top = top,
                                       .rows = convolution_smaller(outputs - top, pair->rows),
                                       .height = pair->second->window.input[0]};
            pair_run_block(&run, &block);
        }
}
