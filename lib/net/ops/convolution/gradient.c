/*
 * Conv: the gradient of the weights, dw[m, k, c] = Σ_p dy[m, p] x[stride p + dilation k − pad, c],
 * with the channels of x last. Each row of the kernel is a product of dy and the packed x: its rows
 * are the positions p, its columns the elements from a tap's first channel on. And of the bias.
 */
#include "core/dispatch.h"
#include "net/ops/convolution/convolution.h"
#include "net/ops/sum.h"

enum { TERMS_MAX = 4096 }; /* products summed in one accumulator */

/* So many columns (tap, channel) of one row of the kernel, from `first` on. */
struct piece {
    size_t first, count;
};

/* A chunk of positions, and where its gradient goes. */
struct chunk {
    const struct convolution_plan *plan;
    const float *packed, *dy;
    size_t dy_stride; /* from filter to filter */
    size_t terms;
    float *dw; /* of the group */
    float *result;
};

/* dw, in the weights' order, += a result of `rows` filters from `filter` on. */
static void convolution_gradient_store(const struct chunk *chunk, size_t filter, size_t rows,
                                       int64_t down, struct piece piece)
{
    const struct convolution *c = &chunk->plan->forward;
    size_t width = (size_t)c->window.kernel[1], taps = (size_t)c->window.kernel[0] * width;
    size_t first_tap = piece.first / c->channels, first_channel = piece.first % c->channels;
    for (size_t row = 0; row < rows; row++) {
        const float *from = chunk->result + row * PANEL_WIDTH;
        float *to = chunk->dw + (filter + row) * c->terms + (size_t)down * width + first_tap;
        size_t channel = first_channel;
        for (size_t j = 0; j < piece.count; j++) {
            to[channel * taps] += from[j];
            if (++channel == c->channels) {
                channel = 0;
                to++;
            }
        }
    }
}

/* The sums of `terms` positions from `first` on, for a row of the kernel, to chunk->result. */
static void convolution_gradient_run_row(const struct chunk *chunk, size_t filter, size_t rows,
                                         struct piece piece, int64_t down, size_t first,
                                         size_t terms)
{
    const struct convolution *c = &chunk->plan->forward;
    const struct net_window *window = &c->window;
    size_t right = piece.first / c->channels * (size_t)window->dilation[1] * c->channels +
                   piece.first % c->channels;
    size_t below = (size_t)(down * window->dilation[0]) * chunk->plan->gradient.width;
    struct net_panel panel = {.weights = chunk->dy + filter * chunk->dy_stride + first,
                              .stride = chunk->dy_stride,
                              .terms = terms,
                              .offsets = chunk->plan->gradient.offsets + first};
    net_panel_run(&panel, chunk->packed + right + below * c->channels, rows,
                  round_up(piece.count, PANEL_STEP), chunk->result, PANEL_WIDTH);
}

static void run_piece(void *context, size_t filter, size_t rows, struct piece piece)
{
    const struct chunk *chunk = context;
    for (int64_t down = 0; down < chunk->plan->forward.window.kernel[0]; down++)
        for (size_t first = 0; first < chunk->terms; first += TERMS_MAX) {
            convolution_gradient_run_row(chunk, filter, rows, piece, down, first,
                                         convolution_smaller(chunk->terms - first, TERMS_MAX));
            convolution_gradient_store(chunk, filter, rows, down, piece);
        }
}

/* Neighbouring taps of few channels lie together; of many, each gets its own pieces, one after the
   other for the same channels, whose weights are neighbours. */
static void for_each_piece(const struct convolution *c,
                           void (*visit)(void *context, size_t filter, size_t rows,
                                         struct piece piece),
                           void *context)
{
    size_t width = (size_t)c->window.kernel[1], channels = c->channels;
    bool together = c->window.dilation[1] == 1 && channels < PANEL_WIDTH;
    for (size_t filter = 0; filter < c->filters; filter += CONVOLUTION_FILTERS) {
        size_t rows = convolution_smaller(c->filters - filter, CONVOLUTION_FILTERS);
        for (size_t j = 0; together && j < width * channels; j += PANEL_WIDTH)
            visit(context, filter, rows,
                  (struct piece){j, convolution_smaller(width * channels - j, PANEL_WIDTH)});
        for (size_t j = 0; !together && j < channels; j += PANEL_WIDTH)
            for (size_t tap = 0; tap < width; tap++)
                visit(context, filter, rows,
                      (struct piece){tap * channels + j,
                                     convolution_smaller(channels - j, PANEL_WIDTH)});
    }
}

/* Σ dy_i x_i over rows of `width` elements, a multiple of CONVOLUTION_LANES; sums go to fixed
   lanes. */
IVON_DISPATCH static float rows_product(const float *dy, const float *x, size_t x_stride,
                                        size_t rows, size_t width)
{
    typedef float lanes __attribute__((vector_size(64), aligned(4), may_alias));
    enum { COUNT = sizeof(lanes) / sizeof(float) };
    lanes even = {0}, odd = {0};
    for (size_t i = 0; i < rows; i++, dy += width, x += x_stride)
        for (size_t j = 0; j < width; j += CONVOLUTION_LANES) {
            even += *(const lanes *)(dy + j) * *(const lanes *)(x + j);
            odd += *(const lanes *)(dy + j + COUNT) * *(const lanes *)(x + j + COUNT);
        }
    even += odd;
    float sum = 0;
    for (size_t i = 0; i < COUNT; i++)
        sum += even[i];
    return sum;
}

/* Of a single channel, as where each has a filter of its own: tap by tap, of adjoints whose rows
   end in zeros. */
static void run_channel(const struct chunk *chunk, size_t rows, float *adjoints)
{
    const struct convolution *c = &chunk->plan->forward;
    const struct net_window *window = &c->window;
    size_t width = (size_t)window->output[1], padded = round_up(width, CONVOLUTION_LANES);
    size_t stride = chunk->plan->gradient.width;
    for (size_t filter = 0; filter < c->filters; filter++) {
        float *dw = chunk->dw + filter * c->terms;
        for (size_t i = 0; i < rows; i++) {
            float *row = adjoints + i * padded;
            memcpy(row, chunk->dy + filter * chunk->dy_stride + i * width, width * sizeof *row);
            memset(row + width, 0, (padded - width) * sizeof *row);
        }
        for (int64_t y = 0; y < window->kernel[0]; y++)
            for (int64_t x = 0; x < window->kernel[1]; x++, dw++) {
                const float *from = chunk->packed + (size_t)(y * window->dilation[0]) * stride +
                                    (size_t)(x * window->dilation[1]);
                float sum = rows_product(adjoints, from, (size_t)window->stride[0] * stride, rows,
                                         padded);
                *dw += sum;
            }
    }
}

/* Gathers the adjoints of several images, filter by filter. */
static void convolution_gradient_gather(const struct convolution *c, const float *dy, size_t images,
                                        float *to)
{
    size_t image = c->groups * c->filters * c->output_plane;
    for (size_t filter = 0; filter < c->filters; filter++)
        for (size_t i = 0; i < images; i++, to += c->output_plane)
            memcpy(to, dy + i * image + filter * c->output_plane, c->output_plane * sizeof *to);
}

/* Of one group of `images` images, from output row y on; x and dy are those of the first. */
static void add_chunk(const struct convolution_plan *plan, const float *x, const float *dy,
                      size_t images, size_t y, float *dw, float *workspace)
{
    const struct convolution *c = &plan->forward;
    const struct convolution_gradient *g = &plan->gradient;
    const struct net_window *window = &c->window;
    float *packed = convolution_packed(workspace), *adjoints = packed + g->packed;
    size_t rows = convolution_smaller((size_t)window->output[0] - y, g->rows);
    size_t height = g->height - (g->rows - rows) * (size_t)window->stride[0];
    for (size_t i = 0; i < images; i++)
        convolution_pack_last(plan, x + i * c->groups * c->channels * c->input_plane, y, height,
                              packed + i * g->image);
    memset(packed + (images - 1) * g->image + height * g->width * c->channels, 0,
           PANEL_WIDTH * sizeof *packed);
    if (images > 1)
        convolution_gradient_gather(c, dy, images, adjoints);
    struct chunk chunk = {.plan = plan,
                          .packed = packed,
                          .dy = images > 1 ? adjoints : dy + y * (size_t)window->output[1],
                          .dy_stride = images * c->output_plane,
                          .terms = images * rows * (size_t)window->output[1],
                          .dw = dw,
                          .result = workspace};
    if (convolution_has_channel(c))
        run_channel(&chunk, rows, adjoints);
    else
        for_each_piece(c, run_piece, &chunk);
}

void convolution_images_add_weights(const struct convolution_plan *plan, const float *x,
                                    const float *dy, float *dw, float *workspace)
{
    const struct convolution *c = &plan->forward;
    if (plan->dense) {
        net_matmul_adjoints(&plan->product, 1, x, NULL, dy, NULL, dw);
        return;
    }
    size_t input = c->channels * c->input_plane, output = c->filters * c->output_plane;
    size_t height = (size_t)c->window.output[0];
    for (size_t group = 0; group < c->groups; group++, dw += c->filters * c->terms)
        for (size_t i = 0, images; i < c->images; i += images) {
            size_t at = i * c->groups + group;
            images = convolution_smaller(c->images - i, plan->gradient.images);
            for (size_t y = 0; y < height; y += plan->gradient.rows)
                add_chunk(plan, x + at * input, dy + at * output, images, y, dw, workspace);
        }
}

void convolution_fill(const struct net_tensor *output, const float *bias, float *y)
{
    size_t filters = (size_t)output->shape[1], rows = (size_t)output->shape[0] * filters;
    for (size_t i = 0, positions = rows ? output->count / rows : 0; i < rows; i++)
        for (size_t j = 0; j < positions; j++)
            *y++ = bias ? bias[i % filters] : 0;
}

void convolution_add_bias(const struct net_tensor *output, const float *dy, float *db)
{
    size_t images = (size_t)output->shape[0], filters = (size_t)output->shape[1];
    size_t positions = images ? output->count / images / filters : 0;
    for (size_t filter = 0; filter < filters; filter++) {
        double sum = 0;
        for (size_t image = 0; image < images; image++)
            sum += net_sum(dy + (image * filters + filter) * positions, positions);
        db[filter] += (float)sum;
    }
}

/* Computes gᵀ Σ g of the weights of one image. The gradient is squared in the order in which it is
   summed, and the diagonal of Σ is arranged in that order: the gradient is never reordered. */

struct arrange_state {
    const struct convolution *c;
    const float *diagonal;
    float *arranged; /* null: only count */
    size_t count;
};

static void arrange_piece(void *context, size_t filter, size_t rows, struct piece piece)
{
    struct arrange_state *state = context;
    const struct convolution *c = state->c;
    size_t width = (size_t)c->window.kernel[1], taps = (size_t)c->window.kernel[0] * width;
    size_t columns = round_up(piece.count, PANEL_STEP);
    for (size_t down = 0; down < (size_t)c->window.kernel[0]; down++)
        for (size_t row = 0; row < rows; row++, state->count += columns) {
            if (!state->arranged)
                continue;
            const float *from = state->diagonal + (filter + row) * c->terms + down * width;
            for (size_t j = 0; j < columns; j++) {
                size_t at = piece.first + j;
                state->arranged[state->count + j] =
                    j < piece.count ? from[at % c->channels * taps + at / c->channels] : 0;
            }
        }
}

size_t convolution_arranged_count(const struct net_call *call)
{
    const struct convolution_plan *plan = call->prepared;
    const struct convolution *c = &plan->forward;
    struct arrange_state counting = {.c = c};
    bool whole = plan->gradient.rows >= (size_t)c->window.output[0] &&
                 c->output_plane <= TERMS_MAX; /* one accumulator per sum */
    if (plan->volume.axes || c->images != 1 || c->groups != 1 || convolution_has_channel(c) ||
        !whole)
        return 0;
    for_each_piece(c, arrange_piece, &counting);
    return counting.count;
}

void convolution_arrange(const struct net_call *call, const float *diagonal, float *arranged)
{
    const struct convolution_plan *plan = call->prepared;
    struct arrange_state state = {.c = &plan->forward, .diagonal = diagonal, .arranged = arranged};
    for_each_piece(&plan->forward, arrange_piece, &state);
}

/* Σ weight result², in fixed lanes; `columns` is a multiple of 16. */
IVON_DISPATCH static double quadratic_sum(const float *result, const float *weight, size_t rows,
                                          size_t columns)
{
    typedef float lanes __attribute__((vector_size(64), aligned(4), may_alias));
    enum { COUNT = sizeof(lanes) / sizeof(float) };
    lanes sums = {0};
    for (size_t row = 0; row < rows; row++, result += PANEL_WIDTH)
        for (size_t j = 0; j < columns; j += COUNT, weight += COUNT) {
            lanes values = *(const lanes *)(result + j);
            sums += values * values * *(const lanes *)weight;
        }
    double sum = 0;
    for (size_t i = 0; i < COUNT; i++)
        sum += (double)sums[i];
    return sum;
}

struct quadratic_state {
    struct chunk chunk;
    const float *arranged;
    double sum;
};

static void quadratic_piece(void *context, size_t filter, size_t rows, struct piece piece)
{
    struct quadratic_state *state = context;
    const struct chunk *chunk = &state->chunk;
    size_t columns = round_up(piece.count, PANEL_STEP);
    for (int64_t down = 0; down < chunk->plan->forward.window.kernel[0]; down++) {
        convolution_gradient_run_row(chunk, filter, rows, piece, down, 0, chunk->terms);
        state->sum += quadratic_sum(chunk->result, state->arranged, rows, columns);
        state->arranged += rows * columns;
    }
}

double convolution_quadratic(const struct net_call *call, const float *dy, const float *arranged)
{
    const struct convolution_plan *plan = call->prepared;
    const struct convolution *c = &plan->forward;
    const struct convolution_gradient *g = &plan->gradient;
    float *packed = convolution_packed(call->workspace);
    size_t height = g->height -
                    (g->rows - (size_t)c->window.output[0]) * (size_t)c->window.stride[0];
    convolution_pack_last(plan, call->inputs[0]->data, 0, height, packed);
    memset(packed + height * g->width * c->channels, 0, PANEL_WIDTH * sizeof *packed);
    struct quadratic_state state = {.chunk = {.plan = plan,
                                              .packed = packed,
                                              .dy = dy,
                                              .dy_stride = c->output_plane,
                                              .terms = c->output_plane,
                                              .result = call->workspace},
                                    .arranged = arranged};
    for_each_piece(c, quadratic_piece, &state);
    return state.sum;
}
