/*
 * DeformConv: y[n, m, p] = b[m] + Σ_{c, k} w[m, c, k] u[n, c, k, p], where
 * u[n, c, k, p] = mask[n, g, k, p] x[n, c, stride p + dilation k − pad + offset[n, g, k, p]].
 * The channels are in offset_group groups g, which have offsets and masks of their own, and, as
 * Conv's, in groups with filters of their own. Between elements x is linear along each axis;
 * outside it is 0.
 *
 * The terms u of many outputs stand in columns, channels × taps of them, by which the weights are
 * multiplied.
 */
#include <inttypes.h>
#include <math.h>

#include "core/blas.h"
#include "core/stream.h"
#include "net/graph/rules.h"
#include "net/ops/convolution/convolution.h"
#include "net/ops/resize/sample.h"

enum { X, W, OFFSET, BIAS, MASK, INPUTS };
enum { DEFORM_PACKED_MAX = 1 << 18, DEFORM_COLUMNS_MIN = 32 };

struct deform {
    int axes;
    struct net_window_axis axis[SAMPLE_AXES_MAX];
    int64_t extents[SAMPLE_AXES_MAX];           /* of the input */
    size_t examples, groups, channels, filters; /* channels of all groups, filters of one */
    size_t offset_groups, taps, terms;          /* terms: channels × taps of one group */
    size_t elements, points;                    /* of one channel of the input, of the output */
    size_t columns;                             /* points at once */
};

/* Shapes. */

static int deform_check_groups(const struct net_call *call, int64_t groups, int64_t offset_groups,
                               struct ivon_error *error)
{
    const struct net_tensor *x = call->inputs[X], *w = call->inputs[W];
    char a[256], b[256];
    if (groups < 1 || offset_groups < 1 || x->shape[1] < 1 || w->shape[1] < 1 || w->shape[0] < 1 ||
        x->shape[1] % groups || x->shape[1] / groups != w->shape[1] || w->shape[0] % groups ||
        x->shape[1] % offset_groups)
        return net_fail(call, error,
                        "weights of shape %s for an input of shape %s in %" PRId64
                        " groups, with offsets in %" PRId64,
                        net_shape_text(w, a), net_shape_text(x, b), groups, offset_groups);
    return 0;
}

/* Fails unless an input has so many numbers for each group of offsets, tap and point. */
static int deform_check_points(const struct net_call *call, size_t input, const struct deform *c,
                               size_t numbers, struct ivon_error *error)
{
    const struct net_tensor *tensor = net_input(call, input), *x = call->inputs[X];
    int64_t width = (int64_t)(c->offset_groups * c->taps * numbers);
    char a[256], b[256];
    bool fits = !tensor || (tensor->rank == x->rank && tensor->shape[0] == x->shape[0] &&
                            tensor->shape[1] == width);
    for (int i = 0; i < c->axes && fits && tensor; i++)
        fits = tensor->shape[2 + i] == c->axis[i].output;
    return fits ? 0
                : net_fail(call, error, "%s of shape %s for weights of shape %s",
                           input == MASK ? "a mask" : "offsets", net_shape_text(tensor, a),
                           net_shape_text(call->inputs[W], b));
}

static int deform_check(const struct net_call *call, struct ivon_error *error)
{
    char a[256], b[256];
    for (size_t i = 0; i < call->node->input_count; i++) {
        int code = i <= OFFSET || call->inputs[i] ? net_expect_float(call, i, error) : 0;
        if (code)
            return code;
    }
    const struct net_tensor *x = call->inputs[X], *w = call->inputs[W];
    const struct net_tensor *bias = net_input(call, BIAS);
    if (x->rank != w->rank || x->rank < 3 || x->rank > SAMPLE_AXES_MAX + 2)
        return net_fail(call, error, "weights of shape %s for an input of shape %s",
                        net_shape_text(w, a), net_shape_text(x, b));
    if (bias && (bias->rank != 1 || bias->shape[0] != w->shape[0]))
        return net_fail(call, error, "bias of shape %s for weights of shape %s",
                        net_shape_text(bias, a), net_shape_text(w, b));
    return 0;
}

/* Sets the counts; false where they are too large. */
static bool deform_count(const struct net_call *call, struct deform *c)
{
    const struct net_tensor *x = call->inputs[X], *w = call->inputs[W];
    int64_t outputs[SAMPLE_AXES_MAX];
    size_t terms, floats;
    for (int i = 0; i < c->axes; i++) {
        c->extents[i] = x->shape[2 + i];
        outputs[i] = c->axis[i].output;
    }
    if (!tensor_shape_count(c->axes, w->shape + 2, sizeof(float), &c->taps) ||
        !tensor_shape_count(c->axes, x->shape + 2, sizeof(float), &c->elements) ||
        !tensor_shape_count(c->axes, outputs, sizeof(float), &c->points) ||
        !tensor_shape_count(2, (const int64_t[]){x->shape[1], (int64_t)c->taps},
                            SAMPLE_AXES_MAX * sizeof(float), &terms))
        return false;
    c->examples = (size_t)x->shape[0];
    c->channels = (size_t)x->shape[1];
    c->filters = (size_t)w->shape[0] / c->groups;
    c->terms = terms / c->groups;
    c->columns = DEFORM_PACKED_MAX / terms;
    c->columns = c->columns < DEFORM_COLUMNS_MIN ? DEFORM_COLUMNS_MIN : c->columns;
    c->columns = c->columns < c->points ? c->columns : c->points;
    return tensor_shape_count(2, (const int64_t[]){(int64_t)terms, (int64_t)c->columns},
                              sizeof(float), &floats) &&
           c->terms <= INT32_MAX && c->points <= INT32_MAX && c->filters <= INT32_MAX;
}

static int deform_infer(struct net_call *call, struct ivon_error *error)
{
    int64_t groups = net_attribute_integer(call->node, "group", 1);
    int64_t offset_groups = net_attribute_integer(call->node, "offset_group", 1);
    struct net_window_axis axes[IVON_RANK_MAX];
    struct deform c = {0};
    char text[256];
    int code = deform_check(call, error);
    if (!code)
        code = deform_check_groups(call, groups, offset_groups, error);
    if (!code)
        code = net_window_infer_axes(call, call->inputs[W]->shape + 2, axes, error);
    if (code)
        return code;
    const struct net_tensor *x = call->inputs[X];
    int64_t shape[IVON_RANK_MAX] = {x->shape[0], call->inputs[W]->shape[0]};
    c.axes = x->rank - 2;
    c.groups = (size_t)groups;
    c.offset_groups = (size_t)offset_groups;
    for (int i = 0; i < c.axes; i++) {
        c.axis[i] = axes[i];
        shape[2 + i] = axes[i].output;
    }
    if (!deform_count(call, &c))
        return net_fail(call, error, "weights of shape %s are too large",
                        net_shape_text(call->inputs[W], text));
    code = deform_check_points(call, OFFSET, &c, (size_t)c.axes, error);
    if (!code)
        code = deform_check_points(call, MASK, &c, 1, error);
    struct deform *stored = code ? NULL : net_prepare(call, sizeof *stored, error);
    if (!stored)
        return code ? code : IVON_ERROR_MEMORY;
    *stored = c;
    call->workspace_size = c.groups * c.terms * c.columns * sizeof(float);
    return net_output(call, 0, NET_FLOAT, x->rank, shape, error);
}

/* Sampling. */

/* One tap of one point: where its numbers stand, and what it takes of each channel. */
struct deform_spot {
    struct sample sample;
    size_t group, tap, column;
    size_t offset; /* place of the first axis; the next one is c->points behind it */
    size_t mask;   /* its place */
    double factor; /* the mask there, or 1 */
};

static void deform_axis(double x, int64_t extent, struct sample_axis *axis)
{
    axis->taps = 0;
    if (!(x > -1 && x < (double)extent)) /* all of it is outside, or NaN */
        return;
    int64_t low = (int64_t)floor(x);
    axis->taps = 2;
    for (int i = 0; i < 2; i++) {
        axis->index[i] = low + i >= 0 && low + i < extent ? low + i : -1;
        axis->weight[i] = i ? x - (double)low : 1 - (x - (double)low);
        axis->slope[i] = i ? 1 : -1;
    }
}

/* Sets `spot` but for its column. */
static void deform_find(const struct net_call *call, size_t example, size_t group, size_t tap,
                        size_t point, struct deform_spot *spot)
{
    const struct deform *c = call->prepared;
    const struct net_tensor *mask = net_input(call, MASK);
    const float *offsets = call->inputs[OFFSET]->data;
    struct sample_axis axes[SAMPLE_AXES_MAX];
    size_t at = (example * c->offset_groups + group) * c->taps + tap;
    spot->group = group;
    spot->tap = tap;
    spot->mask = at * c->points + point;
    spot->offset = at * (size_t)c->axes * c->points + point;
    spot->factor = mask ? (double)((const float *)mask->data)[spot->mask] : 1;
    for (int i = c->axes - 1; i >= 0; i--) {
        const struct net_window_axis *axis = &c->axis[i];
        int64_t start = (int64_t)(point % (size_t)axis->output) * axis->stride - axis->before +
                        (int64_t)(tap % (size_t)axis->kernel) * axis->dilation;
        double offset = (double)offsets[spot->offset + (size_t)i * c->points];
        deform_axis((double)start + offset, axis->input, &axes[i]);
        point /= (size_t)axis->output;
        tap /= (size_t)axis->kernel;
    }
    sample_combine(&spot->sample, axes, c->axes, c->extents);
}

/* A pass reads and writes these at spots of one example; null is not given or not wanted. `x`, `dx`
   and `x_moves` begin with the example, the others with the tensor. */
struct deform_pass {
    const struct deform *c;
    float *columns;
    const float *x, *x_moves, *offset_moves, *mask_moves;
    float *dx, *offset_adjoints, *mask_adjoints;
};

typedef void deform_visit(const struct deform_pass *pass, const struct deform_spot *spot);

/* Visits all taps of `count` points from `start` on. */
static void deform_each(const struct net_call *call, const struct deform_pass *pass,
                        deform_visit *visit, size_t example, size_t start, size_t count)
{
    const struct deform *c = pass->c;
    struct deform_spot spot;
    for (size_t group = 0; group < c->offset_groups; group++)
        for (size_t tap = 0; tap < c->taps; tap++)
            for (size_t i = 0; i < count; i++) {
                deform_find(call, example, group, tap, start + i, &spot);
                spot.column = i;
                visit(pass, &spot);
            }
}

/* The channels of a spot, and the place of one in the columns. */
static size_t deform_first(const struct deform *c, const struct deform_spot *spot)
{
    return c->channels / c->offset_groups * spot->group;
}

static size_t deform_last(const struct deform *c, const struct deform_spot *spot)
{
    return c->channels / c->offset_groups * (spot->group + 1);
}

static size_t deform_term(const struct deform *c, const struct deform_spot *spot, size_t channel)
{
    return (channel * c->taps + spot->tap) * c->columns + spot->column;
}

/* u */
static void deform_gather(const struct deform_pass *pass, const struct deform_spot *spot)
{
    const struct deform *c = pass->c;
    for (size_t channel = deform_first(c, spot); channel < deform_last(c, spot); channel++)
        pass->columns[deform_term(c, spot, channel)] =
            (float)(spot->factor * sample_value(&spot->sample, pass->x + channel * c->elements));
}

/* u̇ */
static void deform_gather_moves(const struct deform_pass *pass, const struct deform_spot *spot)
{
    const struct deform *c = pass->c;
    double mask_move = pass->mask_moves ? (double)pass->mask_moves[spot->mask] : 0;
    for (size_t channel = deform_first(c, spot); channel < deform_last(c, spot); channel++) {
        const float *x = pass->x + channel * c->elements;
        double move = 0;
        if (pass->x_moves)
            move = sample_value(&spot->sample, pass->x_moves + channel * c->elements);
        for (int i = 0; i < c->axes && pass->offset_moves; i++)
            move += sample_slope(&spot->sample, i, x) *
                    (double)pass->offset_moves[spot->offset + (size_t)i * c->points];
        move *= spot->factor;
        if (pass->mask_moves)
            move += mask_move * sample_value(&spot->sample, x);
        pass->columns[deform_term(c, spot, channel)] = (float)move;
    }
}

/* Adds what the adjoints of u give for the inputs. */
static void deform_scatter(const struct deform_pass *pass, const struct deform_spot *spot)
{
    const struct deform *c = pass->c;
    double offset[SAMPLE_AXES_MAX] = {0}, mask = 0;
    for (size_t channel = deform_first(c, spot); channel < deform_last(c, spot); channel++) {
        const float *x = pass->x + channel * c->elements;
        double adjoint = (double)pass->columns[deform_term(c, spot, channel)];
        if (pass->dx)
            sample_add(&spot->sample, spot->factor * adjoint, pass->dx + channel * c->elements);
        for (int i = 0; i < c->axes && pass->offset_adjoints; i++)
            offset[i] += spot->factor * adjoint * sample_slope(&spot->sample, i, x);
        if (pass->mask_adjoints)
            mask += adjoint * sample_value(&spot->sample, x);
    }
    for (int i = 0; i < c->axes && pass->offset_adjoints; i++)
        pass->offset_adjoints[spot->offset + (size_t)i * c->points] += (float)offset[i];
    if (pass->mask_adjoints)
        pass->mask_adjoints[spot->mask] += (float)mask;
}

/* Running. */

static struct deform_pass deform_pass(const struct net_call *call, size_t example)
{
    const struct deform *c = call->prepared;
    return (struct deform_pass){.c = c,
                                .columns = call->workspace,
                                .x = (const float *)call->inputs[X]->data +
                                     example * c->channels * c->elements};
}

/* y += w times the columns, which are those of `count` points from y on */
static void deform_multiply(const struct deform *c, const float *w, const float *columns,
                            size_t count, float *y)
{
    int64_t filters = (int64_t)c->filters, terms = (int64_t)c->terms, width = (int64_t)c->columns;
    for (size_t group = 0; group < c->groups; group++) {
        blas_product(false, false, filters, (int64_t)count, terms, 1, w, terms, columns, width, 1,
                     y, (int64_t)c->points);
        w += filters * terms;
        columns += terms * width;
        y += c->filters * c->points;
    }
}

static size_t deform_smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

static const float *deform_bias(const struct net_call *call)
{
    const struct net_tensor *bias = net_input(call, BIAS);
    return bias ? bias->data : NULL;
}

static int deform_forward(const struct net_call *call, struct ivon_error *error)
{
    (void)error;
    const struct deform *c = call->prepared;
    float *y = call->outputs[0]->data;
    convolution_fill(call->outputs[0], deform_bias(call), y);
    for (size_t n = 0; n < c->examples; n++, y += c->groups * c->filters * c->points) {
        struct deform_pass pass = deform_pass(call, n);
        for (size_t start = 0; start < c->points; start += c->columns) {
            size_t count = deform_smaller(c->columns, c->points - start);
            deform_each(call, &pass, deform_gather, n, start, count);
            deform_multiply(c, call->inputs[W]->data, pass.columns, count, y + start);
        }
    }
    return 0;
}

static void deform_tangent(const struct net_call *call, const float *const *input_tangents,
                           float *const *output_tangents)
{
    const struct deform *c = call->prepared;
    const float *from[INPUTS] = {NULL};
    float *y = output_tangents[0];
    for (size_t i = 0; i < call->node->input_count; i++)
        from[i] = input_tangents[i];
    convolution_fill(call->outputs[0], from[BIAS], y);
    for (size_t n = 0; n < c->examples; n++, y += c->groups * c->filters * c->points) {
        struct deform_pass pass = deform_pass(call, n);
        pass.x_moves = from[X] ? from[X] + n * c->channels * c->elements : NULL;
        pass.offset_moves = from[OFFSET];
        pass.mask_moves = from[MASK];
        for (size_t start = 0; start < c->points; start += c->columns) {
            size_t count = deform_smaller(c->columns, c->points - start);
            deform_each(call, &pass, deform_gather_moves, n, start, count);
            deform_multiply(c, call->inputs[W]->data, pass.columns, count, y + start);
            if (!from[W])
                continue;
            deform_each(call, &pass, deform_gather, n, start, count);
            deform_multiply(c, from[W], pass.columns, count, y + start);
        }
    }
}

/* dw += dy times the transposed columns */
static void deform_add_weights(const struct deform *c, const float *dy, const float *columns,
                               size_t count, float *dw)
{
    int64_t filters = (int64_t)c->filters, terms = (int64_t)c->terms, width = (int64_t)c->columns;
    for (size_t group = 0; group < c->groups; group++) {
        blas_product(false, true, filters, terms, (int64_t)count, 1, dy, (int64_t)c->points,
                     columns, width, 1, dw, terms);
        dw += filters * terms;
        columns += terms * width;
        dy += c->filters * c->points;
    }
}

/* Sets the columns to wᵀ dy. */
static void deform_set_columns(const struct deform *c, const float *w, const float *dy,
                               size_t count, float *columns)
{
    int64_t filters = (int64_t)c->filters, terms = (int64_t)c->terms, width = (int64_t)c->columns;
    for (size_t group = 0; group < c->groups; group++) {
        blas_product(true, false, terms, (int64_t)count, filters, 1, w, terms, dy,
                     (int64_t)c->points, 0, columns, width);
        w += filters * terms;
        columns += terms * width;
        dy += c->filters * c->points;
    }
}

static void deform_backward(const struct net_call *call, const float *const *output_adjoints,
                            float *const *input_adjoints)
{
    const struct deform *c = call->prepared;
    const float *dy = output_adjoints[0];
    float *to[INPUTS] = {NULL};
    for (size_t i = 0; i < call->node->input_count; i++)
        to[i] = input_adjoints[i];
    if (dy && to[BIAS])
        convolution_add_bias(call->outputs[0], dy, to[BIAS]);
    for (size_t n = 0; dy && n < c->examples; n++, dy += c->groups * c->filters * c->points) {
        struct deform_pass pass = deform_pass(call, n);
        pass.dx = to[X] ? to[X] + n * c->channels * c->elements : NULL;
        pass.offset_adjoints = to[OFFSET];
        pass.mask_adjoints = to[MASK];
        for (size_t start = 0; start < c->points; start += c->columns) {
            size_t count = deform_smaller(c->columns, c->points - start);
            if (to[W]) {
                deform_each(call, &pass, deform_gather, n, start, count);
                deform_add_weights(c, dy + start, pass.columns, count, to[W]);
            }
            if (!to[X] && !to[OFFSET] && !to[MASK])
                continue;
            deform_set_columns(c, call->inputs[W]->data, dy + start, count, pass.columns);
            deform_each(call, &pass, deform_scatter, n, start, count);
        }
    }
}

const struct net_operator net_deform_operators[] = {
    {.name = "DeformConv",
     .since = 19,
     .inputs_min = 3,
     .inputs_max = 5,
     .outputs_max = 1,
     .weights = 1U << W | 1U << BIAS,
     .attributes = {{"dilations", NET_INTS},
                    {"group", NET_INT},
                    {"kernel_shape", NET_INTS},
                    {"offset_group", NET_INT},
                    {"pads", NET_INTS},
                    {"strides", NET_INTS}},
     .infer = deform_infer,
     .forward = deform_forward,
     .backward = deform_backward,
     .tangent = deform_tangent},
    {0},
};
