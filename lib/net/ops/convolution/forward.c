/* Conv: forward. */
#include "net/ops/convolution/convolution.h"

enum { RUNS_MAX = PANEL_WIDTH + 2, SHALLOW = 128 };

/* A run of outputs: from element `from` of the results to a plane's element `to`, that of the first
   filter of image 0. */
struct run {
    size_t from, to, count;
};

/* Splits `count` elements from `position` on, counted through the images, whose rows are of
   c->pitch elements, into runs of constant stride, without what lies behind the rows of outputs. */
static size_t convolution_forward_cut(const struct convolution *c, size_t position, size_t count,
                                      struct run *runs)
{
    size_t width = (size_t)c->window.output[1], height = (size_t)c->window.output[0], found = 0;
    bool together = c->target_step == 1 && c->target_pitch == c->pitch && c->pitch == width;
    size_t row = position / c->pitch, x = position % c->pitch, image = row / height;
    row %= height;
    for (size_t done = 0, run; done < count; done += run) {
        run = together ? (height - row) * width - x : c->pitch - x;
        if (x < width)
            runs[found++] = (struct run){
                done,
                image * c->groups * c->filters * c->target_plane + c->target_first +
                    row * c->target_pitch + x * c->target_step,
                convolution_smaller(together ? run : width - x, count - done)};
        x = 0;
        if (together || ++row == height) {
            row = 0;
            image++;
        }
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

/* Outputs that lie one after the other: `count` elements from `position` on. Their columns are
   behind `skipped` others. */
struct stretch {
    const float *columns;
    size_t position, count, skipped;
};

/* Returns whether panels can finish their outputs. Where they compute results that are stored
   elsewhere, these do not lie like an operand. */
static bool convolution_forward_finishes(const struct convolution_finish *finish, bool elsewhere,
                                         const float *y)
{
    struct lanes_finish lanes;
    return finish &&
           net_finish_lanes(finish->steps, finish->channels, finish->scratch, 0, y, &lanes) &&
           !(lanes.operand && elsewhere);
}

/* The part of a panel that computes the filters from `first` on, whose first output is y, and
   finishes them unless that is null. */
static struct net_panel convolution_forward_part(const struct net_panel *panel, size_t first,
                                                 const struct convolution_finish *finish,
                                                 const float *y, struct lanes_finish *lanes)
{
    struct net_panel part = *panel;
    part.weights += first * panel->stride;
    part.bias = panel->bias ? panel->bias + first : NULL;
    part.finish = finish ? lanes : NULL;
    if (finish)
        net_finish_lanes(finish->steps, finish->channels, finish->scratch, finish->first + first, y,
                         lanes);
    return part;
}

/* Finishes `count` elements, from element `from` of a plane on, of so many filters. */
static void convolution_forward_finish(const struct convolution *c,
                                       const struct convolution_finish *finish, size_t first,
                                       size_t rows, float *y, size_t from, size_t count)
{
    for (size_t row = first; row < first + rows; row++)
        net_finish_run(finish->steps, finish->channels, finish->scratch, finish->first + row,
                       y + row * c->target_plane + from, count);
}

/* Computes and stores or adds a stretch of so many filters from `first` on, as many elements at a
   time as there is space for results. */
static void convolution_forward_run_results(const struct convolution *c,
                                            const struct net_panel *panel, size_t first,
                                            size_t rows, struct stretch stretch, bool add, float *y,
                                            const struct convolution_finish *finish, float *results)
{
    struct lanes_finish lanes;
    const struct net_panel part = convolution_forward_part(panel, first, finish, y, &lanes);
    size_t span = convolution_smaller(CONVOLUTION_RESULTS / rows, c->pitch * PANEL_WIDTH) /
                  PANEL_WIDTH * PANEL_WIDTH;
    for (size_t at = 0; at < stretch.count; at += span) {
        struct run runs[RUNS_MAX];
        size_t count = convolution_smaller(stretch.count - at, span);
        size_t found = convolution_forward_cut(c, stretch.position + at, count, runs);
        net_panel_run(&part, stretch.columns + at, rows,
                      round_up(stretch.skipped + count, PANEL_STEP), results, span);
        for (size_t row = 0; row < rows; row++)
            for (size_t i = 0; i < found; i++)
                convolution_forward_store(c, &runs[i], add,
                                          y + (first + row) * c->target_plane + runs[i].to,
                                          results + row * span + stretch.skipped + runs[i].from);
    }
}

/* The same where the stretch is as long in the output, up to a rest of less than PANEL_STEP. */
static void convolution_forward_run_straight(const struct convolution *c,
                                             const struct net_panel *panel, size_t first,
                                             size_t rows, struct stretch stretch, bool add,
                                             float *y, const struct convolution_finish *finish)
{
    y += first * c->target_plane + c->target_first + stretch.position;
    struct lanes_finish lanes;
    struct net_panel part = convolution_forward_part(panel, first, finish, y, &lanes);
    part.resume = add;
    net_panel_run(&part, stretch.columns, rows, stretch.count, y, c->target_plane);
}

/* The outputs of a band, in a plane. */
struct part {
    size_t from, count;
};

/* One band of one image's group; few filters at a time where they have few terms, so that outputs
   are written in few places. */
static void convolution_forward_run_band(const struct convolution *c, const struct net_panel *panel,
                                         struct stretch band, struct part outputs, bool add,
                                         float *y, const struct convolution_finish *finish,
                                         float *results)
{
    bool straight = c->target_step == 1 && c->target_pitch == c->pitch &&
                    c->pitch == (size_t)c->window.output[1];
    size_t most = c->terms <= SHALLOW ? PANEL_ROWS : CONVOLUTION_FILTERS;
    struct stretch body = band, rest = band;
    body.count = straight ? band.count / PANEL_STEP * PANEL_STEP : 0;
    rest.columns += body.count;
    rest.position += body.count;
    rest.count -= body.count;
    bool within = convolution_forward_finishes(finish, rest.count > 0, y);
    const struct convolution_finish *panels = within ? finish : NULL;
    for (size_t first = 0; first < c->filters; first += most) {
        size_t rows = convolution_smaller(c->filters - first, most);
        if (body.count)
            convolution_forward_run_straight(c, panel, first, rows, body, add, y, panels);
        if (rest.count)
            convolution_forward_run_results(c, panel, first, rows, rest, add, y, panels, results);
        if (finish && !within)
            convolution_forward_finish(c, finish, first, rows, y, outputs.from, outputs.count);
    }
}

/* One image's group. */
static void run_planes(const struct convolution *c, const struct net_panel *panel, const float *x,
                       bool add, float *y, const struct convolution_finish *finish,
                       float *workspace)
{
    size_t height = (size_t)c->window.output[0], width = (size_t)c->window.output[1];
    float *packed = convolution_packed(workspace);
    for (size_t top = 0; top < height; top += c->band) {
        size_t rows = convolution_smaller(height - top, c->band);
        struct stretch band = {packed, top * c->pitch, rows * c->pitch, 0};
        struct part outputs = {top * width, rows * width};
        convolution_pack_planes(c, x, top, packed);
        convolution_forward_run_band(c, panel, band, outputs, add, y, finish, workspace);
    }
}

/* One image's group, which is not packed: as many elements at a time as stay in the cache. The last
   ones are computed with some before them, since none lie behind. */
static void run_direct(const struct convolution *c, const struct net_panel *panel, const float *x,
                       bool add, float *y, const struct convolution_finish *finish, float *results)
{
    size_t whole = c->output_plane / PANEL_STEP * PANEL_STEP, rest = c->output_plane - whole;
    size_t most = CONVOLUTION_PACKED_MAX / 2 / c->terms / PANEL_WIDTH * PANEL_WIDTH;
    most = most ? most : PANEL_WIDTH;
    for (size_t at = 0; at < whole; at += most) {
        struct stretch band = {x + at, at, convolution_smaller(whole - at, most), 0};
        convolution_forward_run_band(c, panel, band, (struct part){at, band.count}, add, y, finish,
                                     results);
    }
    if (rest) {
        struct stretch last = {x + c->output_plane - PANEL_STEP, whole, rest, PANEL_STEP - rest};
        convolution_forward_run_band(c, panel, last, (struct part){whole, rest}, add, y, finish,
                                     results);
    }
}

/* A group of so many images. y is the output of the group's first filter of the first image. */
static void convolution_forward_run_columns(const struct convolution *c,
                                            const struct net_panel *panel, size_t images,
                                            const float *x, bool add, float *y,
                                            const struct convolution_finish *finish,
                                            float *workspace)
{
    size_t total = images * c->output_plane;
    bool within = convolution_forward_finishes(finish, true, y);
    float *packed = convolution_packed(workspace);
    for (size_t start = 0; start < total; start += c->columns) {
        struct convolution_segment segments[CONVOLUTION_COLUMNS_MAX];
        size_t count = convolution_smaller(total - start, c->columns);
        size_t cuts = convolution_cut(c, start, count, segments);
        convolution_pack_columns(c, x, segments, cuts, c->columns, packed);
        for (size_t first = 0; first < c->filters; first += CONVOLUTION_FILTERS)
            convolution_forward_run_results(
                c, panel, first, convolution_smaller(c->filters - first, CONVOLUTION_FILTERS),
                (struct stretch){packed, start, count, 0}, add, y, within ? finish : NULL,
                workspace);
    }
    for (size_t image = 0; finish && !within && image < images; image++)
        convolution_forward_finish(c, finish, 0, c->filters,
                                   y + image * c->groups * c->filters * c->target_plane, 0,
                                   c->output_plane);
}

void convolution_run(const struct convolution *c, const float *weights, const float *bias,
                     size_t images, const float *x, bool add, float *y,
                     const struct convolution_finish *finish, float *workspace)
{
    struct net_panel panel = {.weights = weights,
                              .stride = c->terms,
                              .bias = bias,
                              .terms = c->terms,
                              .offsets = c->offsets};
    if (c->layout == CONVOLUTION_COLUMNS) {
        convolution_forward_run_columns(c, &panel, images, x, add, y, finish, workspace);
        return;
    }
    size_t input = c->groups * c->channels * c->input_plane;
    size_t output = c->groups * c->filters * c->target_plane;
    for (size_t image = 0; image < images; image++, x += input, y += output)
        if (c->layout == CONVOLUTION_DEPTHWISE)
            convolution_depthwise_run(c, weights, bias ? *bias : 0, x, add, y, finish, workspace);
        else if (c->layout == CONVOLUTION_DIRECT)
            run_direct(c, &panel, x, add, y, finish, workspace);
        else
            run_planes(c, &panel, x, add, y, finish, workspace);
}

void convolution_images_apply(const struct convolution_plan *plan, const float *x, const float *w,
                              const float *bias, bool add, float *y, const struct net_finish *steps,
                              float *workspace)
{
    const struct convolution *c = &plan->forward;
    float *scratch = workspace + plan->finish;
    struct convolution_finish finish = {steps, scratch, c->groups * c->filters, 0};
    convolution_clear(c, workspace);
    if (steps)
        net_finish_begin(steps, finish.channels, scratch);
    for (size_t group = 0; group < c->groups; group++, finish.first += c->filters)
        convolution_run(
            c, w + group * c->filters * c->terms, bias ? bias + group * c->filters : NULL,
            c->images, x + group * c->channels * c->input_plane, add,
            y + group * c->filters * c->output_plane, steps ? &finish : NULL, workspace);
}
