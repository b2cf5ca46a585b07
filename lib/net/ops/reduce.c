/*
 * Reductions over axes: ReduceSum, ReduceMean, ReduceMax, ReduceMin, ReduceProd, of floats by
 * doubles, of integers (but the mean) modulo 2^64.
 */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "core/dispatch.h"
#include "net/graph/operator.h"
#include "net/ops/sum.h"

enum kind { SUM, PRODUCT, MAXIMUM, MINIMUM };

/* The input's axes. Neighbours of one kind are merged, and extents of 1 left out. The last axis is
   a run of elements that are reduced to one output, or that have an output each. */
struct reduction {
    enum kind kind;
    bool mean;
    int groups; /* at least 1 */
    bool reduced[IVON_RANK_MAX + 1];
    size_t extent[IVON_RANK_MAX + 1];
    size_t step[IVON_RANK_MAX + 1]; /* in the output; 0 where reduced */
    size_t runs, terms;             /* runs of the input; elements of each output */
};

/* Of an output's terms, for the derivatives of ReduceProd. */
struct product {
    double others; /* the product of those that are not 0 */
    double sum;    /* of a tangent */
    size_t zeros;
};

#define INLINE static inline __attribute__((always_inline))

/* NaN is both the largest and the smallest value. */
INLINE double reduce_combine(enum kind kind, double a, double b)
{
    switch (kind) {
    case SUM:
        return a + b;
    case PRODUCT:
        return a * b;
    case MAXIMUM:
        return (b > a) | (b != b) ? b : a;
    default:
        return (b < a) | (b != b) ? b : a;
    }
}

INLINE double neutral(enum kind kind)
{
    return kind == SUM ? 0 : kind == PRODUCT ? 1 : kind == MAXIMUM ? -INFINITY : INFINITY;
}

enum { LANES = 16 };

INLINE double combine_run_of_kind(enum kind kind, const float *x, size_t count)
{
    double lanes[LANES];
    size_t whole = count / LANES * LANES;
    for (size_t j = 0; j < LANES; j++)
        lanes[j] = neutral(kind);
    for (size_t i = 0; i < whole; i += LANES)
        for (size_t j = 0; j < LANES; j++)
            lanes[j] = reduce_combine(kind, lanes[j], (double)x[i + j]);
    for (size_t i = whole; i < count; i++)
        lanes[i - whole] = reduce_combine(kind, lanes[i - whole], (double)x[i]);
    for (size_t half = LANES / 2; half; half /= 2)
        for (size_t j = 0; j < half; j++)
            lanes[j] = reduce_combine(kind, lanes[j], lanes[j + half]);
    return lanes[0];
}

IVON_DISPATCH static double combine_run(enum kind kind, const float *x, size_t count)
{
    switch (kind) {
    case SUM:
        return net_sum(x, count);
    case PRODUCT:
        return combine_run_of_kind(PRODUCT, x, count);
    case MAXIMUM:
        return combine_run_of_kind(MAXIMUM, x, count);
    default:
        return combine_run_of_kind(MINIMUM, x, count);
    }
}

INLINE void combine_elementwise_of_kind(enum kind kind, double *restrict out,
                                        const float *restrict x, size_t count)
{
    for (size_t i = 0; i < count; i++)
        out[i] = reduce_combine(kind, out[i], (double)x[i]);
}

IVON_DISPATCH static void combine_elementwise(enum kind kind, double *out, const float *x,
                                              size_t count)
{
    switch (kind) {
    case SUM:
        combine_elementwise_of_kind(SUM, out, x, count);
        break;
    case PRODUCT:
        combine_elementwise_of_kind(PRODUCT, out, x, count);
        break;
    case MAXIMUM:
        combine_elementwise_of_kind(MAXIMUM, out, x, count);
        break;
    default:
        combine_elementwise_of_kind(MINIMUM, out, x, count);
    }
}

static int64_t combine_integers(enum kind kind, int64_t a, int64_t b)
{
    switch (kind) {
    case SUM:
        return (int64_t)((uint64_t)a + (uint64_t)b);
    case PRODUCT:
        return (int64_t)((uint64_t)a * (uint64_t)b);
    case MAXIMUM:
        return a > b ? a : b;
    default:
        return a < b ? a : b;
    }
}

/* The shape rule. */

/* Finds the axes to reduce: an attribute, or for ReduceSum the second input. Without any, all axes,
   unless noop_with_empty_axes. */
static int find_axes(const struct net_call *call, bool *reduced, struct ivon_error *error)
{
    const struct net_tensor *x = call->inputs[0];
    size_t count;
    const int64_t *axes = net_attribute_integers(call->node, "axes", &count);
    if (call->node->input_count > 1 && call->inputs[1]) {
        const struct net_tensor *tensor = call->inputs[1];
        if (tensor->type != NET_INTEGER || tensor->rank != 1)
            return net_fail(call, error,
                            "axes have type %s and %d dimensions, expected a list of integers",
                            net_type_name(tensor->type), tensor->rank);
        if (tensor->count && !tensor->data)
            return net_fail(call, error, "axes that depend on the input are not supported");
        axes = tensor->data;
        count = tensor->count;
    }
    bool all = count == 0 && !net_attribute_integer(call->node, "noop_with_empty_axes", 0);
    for (int i = 0; i < x->rank; i++)
        reduced[i] = all;
    for (size_t i = 0; i < count; i++) {
        char text[256];
        int axis = net_axis(axes[i], x->rank);
        if (axis < 0)
            return net_fail(call, error, "axis %" PRId64 " of an input of shape %s", axes[i],
                            net_shape_text(x, text));
        reduced[axis] = true;
    }
    return 0;
}

/* Lays out the groups. */
static void group_axes(struct reduction *r, const struct net_tensor *x, const bool *reduced,
                       size_t outputs)
{
    r->groups = 0;
    for (int i = 0; i < x->rank; i++) {
        if (x->shape[i] == 1)
            continue;
        if (r->groups && r->reduced[r->groups - 1] == reduced[i]) {
            r->extent[r->groups - 1] *= (size_t)x->shape[i];
            continue;
        }
        r->reduced[r->groups] = reduced[i];
        r->extent[r->groups++] = (size_t)x->shape[i];
    }
    if (r->groups == 0)
        r->extent[r->groups++] = 1;
    size_t step = 1;
    for (int i = r->groups - 1; i >= 0; i--) {
        r->step[i] = r->reduced[i] ? 0 : step;
        step *= r->reduced[i] ? 1 : r->extent[i];
    }
    r->runs = x->count ? x->count / r->extent[r->groups - 1] : 0;
    r->terms = outputs ? x->count / outputs : 0;
}

static int reduce_infer(struct net_call *call, enum kind kind, bool mean, struct ivon_error *error)
{
    const struct net_tensor *x = call->inputs[0];
    if (!x || (x->type != NET_FLOAT && (mean || x->type != NET_INTEGER)))
        return net_fail(call, error, "input of type %s, expected float%s",
                        x ? net_type_name(x->type) : "none", mean ? "" : " or integer");
    bool reduced[IVON_RANK_MAX], keep = net_attribute_integer(call->node, "keepdims", 1) != 0;
    int code = find_axes(call, reduced, error), rank = 0;
    if (code)
        return code;
    int64_t shape[IVON_RANK_MAX];
    for (int i = 0; i < x->rank; i++)
        if (!reduced[i])
            shape[rank++] = x->shape[i];
        else if (keep)
            shape[rank++] = 1;
    struct net_tensor *y = call->outputs[0];
    code = net_tensor_set(y, x->type, rank, shape, error);
    if (code)
        return code;
    struct reduction *r = net_prepare(call, sizeof *r, error);
    if (!r)
        return IVON_ERROR_MEMORY;
    r->kind = kind;
    r->mean = mean;
    group_axes(r, x, reduced, y->count);
    if (y->count > SIZE_MAX / sizeof(struct product))
        return net_fail(call, error, "the output is too large");
    call->workspace_size = y->count * (kind == PRODUCT ? sizeof(struct product) : sizeof(double));
    return 0;
}

static int infer_sum(struct net_call *call, struct ivon_error *error)
{
    return reduce_infer(call, SUM, false, error);
}

static int infer_mean(struct net_call *call, struct ivon_error *error)
{
    return reduce_infer(call, SUM, true, error);
}

static int infer_max(struct net_call *call, struct ivon_error *error)
{
    return reduce_infer(call, MAXIMUM, false, error);
}

static int infer_min(struct net_call *call, struct ivon_error *error)
{
    return reduce_infer(call, MINIMUM, false, error);
}

static int infer_product(struct net_call *call, struct ivon_error *error)
{
    return reduce_infer(call, PRODUCT, false, error);
}

/* A walk through the runs of the input, in order. */
struct walk {
    size_t index[IVON_RANK_MAX + 1];
    size_t output; /* of the run's first element */
};

static void reduce_advance(const struct reduction *r, struct walk *walk)
{
    for (int i = r->groups - 2; i >= 0; i--) {
        walk->output += r->step[i];
        if (++walk->index[i] < r->extent[i])
            return;
        walk->output -= r->step[i] * r->extent[i];
        walk->index[i] = 0;
    }
}

static size_t reduce_run_length(const struct reduction *r)
{
    return r->extent[r->groups - 1];
}

/* Returns the distance in the output of two neighbours in a run. */
static size_t reduce_run_step(const struct reduction *r)
{
    return r->step[r->groups - 1];
}

static void reduce(const struct net_call *call, const float *x, float *y)
{
    const struct reduction *r = call->prepared;
    size_t outputs = call->outputs[0]->count, length = reduce_run_length(r);
    double *sums = call->workspace;
    for (size_t i = 0; i < outputs; i++)
        sums[i] = neutral(r->kind);
    struct walk walk = {{0}, 0};
    for (size_t i = 0; i < r->runs; i++, x += length, reduce_advance(r, &walk)) {
        double *out = sums + walk.output;
        if (reduce_run_step(r))
            combine_elementwise(r->kind, out, x, length);
        else
            *out = reduce_combine(r->kind, *out, combine_run(r->kind, x, length));
    }
    for (size_t i = 0; i < outputs; i++)
        y[i] = (float)(r->mean ? sums[i] / (double)r->terms : sums[i]);
}

static void reduce_integers(const struct net_call *call, const int64_t *x, int64_t *y)
{
    const struct reduction *r = call->prepared;
    static const int64_t neutrals[] = {
        [SUM] = 0, [PRODUCT] = 1, [MAXIMUM] = INT64_MIN, [MINIMUM] = INT64_MAX};
    for (size_t i = 0; i < call->outputs[0]->count; i++)
        y[i] = neutrals[r->kind];
    struct walk walk = {{0}, 0};
    for (size_t i = 0; i < r->runs; i++, reduce_advance(r, &walk))
        for (size_t j = 0; j < reduce_run_length(r); j++) {
            int64_t *out = y + walk.output + j * reduce_run_step(r);
            *out = combine_integers(r->kind, *out, *x++);
        }
}

static int reduce_forward(const struct net_call *call, struct ivon_error *error)
{
    (void)error;
    if (call->outputs[0]->type == NET_INTEGER)
        reduce_integers(call, call->inputs[0]->data, call->outputs[0]->data);
    else
        reduce(call, call->inputs[0]->data, call->outputs[0]->data);
    return 0;
}

/* Sums and means: dx += dy, or dy / terms. */

static void backward_sum(const struct net_call *call, const float *const *output_adjoints,
                         float *const *input_adjoints)
{
    const struct reduction *r = call->prepared;
    const float *dy = output_adjoints[0];
    float *dx = input_adjoints[0];
    if (!dx || !dy)
        return;
    struct walk walk = {{0}, 0};
    float share = r->mean ? 1 / (float)r->terms : 1;
    for (size_t i = 0; i < r->runs; i++, reduce_advance(r, &walk))
        for (size_t j = 0; j < reduce_run_length(r); j++)
            *dx++ += share * dy[walk.output + j * reduce_run_step(r)];
}

static void tangent_sum(const struct net_call *call, const float *const *input_tangents,
                        float *const *output_tangents)
{
    if (input_tangents[0])
        reduce(call, input_tangents[0], output_tangents[0]);
    else
        memset(output_tangents[0], 0, call->outputs[0]->count * sizeof(float));
}

/* Extrema: each output is a copy of the first element that equals it. */
static void for_each_extremum(const struct net_call *call, const float *dy, float *dx,
                              const float *input_tangent, float *output_tangent)
{
    const struct reduction *r = call->prepared;
    const float *x = call->inputs[0]->data, *y = call->outputs[0]->data;
    bool *found = call->workspace;
    memset(found, 0, call->outputs[0]->count * sizeof *found);
    struct walk walk = {{0}, 0};
    for (size_t i = 0, at = 0; i < r->runs; i++, reduce_advance(r, &walk))
        for (size_t j = 0; j < reduce_run_length(r); j++, at++) {
            size_t output = walk.output + j * reduce_run_step(r);
            if (found[output] || !(x[at] == y[output] || isnan(x[at])))
                continue;
            found[output] = true;
            if (dx)
                dx[at] += dy[output];
            if (output_tangent)
                output_tangent[output] = input_tangent[at];
        }
}

static void backward_extremum(const struct net_call *call, const float *const *output_adjoints,
                              float *const *input_adjoints)
{
    if (output_adjoints[0] && input_adjoints[0])
        for_each_extremum(call, output_adjoints[0], input_adjoints[0], NULL, NULL);
}

static void tangent_extremum(const struct net_call *call, const float *const *input_tangents,
                             float *const *output_tangents)
{
    memset(output_tangents[0], 0, call->outputs[0]->count * sizeof(float));
    if (input_tangents[0])
        for_each_extremum(call, NULL, NULL, input_tangents[0], output_tangents[0]);
}

/* Products: the derivative of each term is the product of the others: the whole divided by the
   term, unless terms are 0. */

/* Computes the products of a call's outputs, in the workspace. */
static struct product *find_products(const struct net_call *call)
{
    const struct reduction *r = call->prepared;
    const float *x = call->inputs[0]->data;
    struct product *products = call->workspace;
    for (size_t i = 0; i < call->outputs[0]->count; i++)
        products[i] = (struct product){.others = 1};
    struct walk walk = {{0}, 0};
    for (size_t i = 0; i < r->runs; i++, reduce_advance(r, &walk))
        for (size_t j = 0; j < reduce_run_length(r); j++, x++) {
            struct product *product = products + walk.output + j * reduce_run_step(r);
            if (*x == 0)
                product->zeros++;
            else
                product->others *= (double)*x;
        }
    return products;
}

static double product_of_others(const struct product *product, float x)
{
    if (product->zeros == 0)
        return product->others / (double)x;
    return product->zeros == 1 && x == 0 ? product->others : 0;
}

static void backward_product(const struct net_call *call, const float *const *output_adjoints,
                             float *const *input_adjoints)
{
    const struct reduction *r = call->prepared;
    const float *x = call->inputs[0]->data, *dy = output_adjoints[0];
    float *dx = input_adjoints[0];
    if (!dx || !dy)
        return;
    const struct product *products = find_products(call);
    struct walk walk = {{0}, 0};
    for (size_t i = 0; i < r->runs; i++, reduce_advance(r, &walk))
        for (size_t j = 0; j < reduce_run_length(r); j++) {
            size_t output = walk.output + j * reduce_run_step(r);
            *dx++ += (float)((double)dy[output] * product_of_others(products + output, *x++));
        }
}

static void tangent_product(const struct net_call *call, const float *const *input_tangents,
                            float *const *output_tangents)
{
    const struct reduction *r = call->prepared;
    const float *x = call->inputs[0]->data, *x_tangent = input_tangents[0];
    struct product *products = find_products(call);
    struct walk walk = {{0}, 0};
    for (size_t i = 0; x_tangent && i < r->runs; i++, reduce_advance(r, &walk))
        for (size_t j = 0; j < reduce_run_length(r); j++) {
            struct product *product = products + walk.output + j * reduce_run_step(r);
            product->sum += (double)*x_tangent++ * product_of_others(product, *x++);
        }
    for (size_t i = 0; i < call->outputs[0]->count; i++)
        output_tangents[0][i] = (float)products[i].sum;
}

const struct net_operator net_reduce_operators[] = {
    {.name = "ReduceMax",
     .since = 1,
     .inputs_min = 1,
     .inputs_max = 1,
     .outputs_max = 1,
     .attributes = {{"axes", NET_INTS}, {"keepdims", NET_INT}},
     .infer = infer_max,
     .forward = reduce_forward,
     .backward = backward_extremum,
     .tangent = tangent_extremum},
    {.name = "ReduceMean",
     .since = 1,
     .inputs_min = 1,
     .inputs_max = 1,
     .outputs_max = 1,
     .attributes = {{"axes", NET_INTS}, {"keepdims", NET_INT}},
     .infer = infer_mean,
     .forward = reduce_forward,
     .backward = backward_sum,
     .tangent = tangent_sum},
    {.name = "ReduceMin",
     .since = 1,
     .inputs_min = 1,
     .inputs_max = 1,
     .outputs_max = 1,
     .attributes = {{"axes", NET_INTS}, {"keepdims", NET_INT}},
     .infer = infer_min,
     .forward = reduce_forward,
     .backward = backward_extremum,
     .tangent = tangent_extremum},
    {.name = "ReduceProd",
     .since = 1,
     .inputs_min = 1,
     .inputs_max = 1,
     .outputs_max = 1,
     .attributes = {{"axes", NET_INTS}, {"keepdims", NET_INT}},
     .infer = infer_product,
     .forward = reduce_forward,
     .backward = backward_product,
     .tangent = tangent_product},
    {.name = "ReduceSum",
     .since = 1,
     .inputs_min = 1,
     .inputs_max = 2,
     .outputs_max = 1,
     .attributes = {{"keepdims", NET_INT}, {"noop_with_empty_axes", NET_INT}},
     .infer = infer_sum,
     .forward = reduce_forward,
     .backward = backward_sum,
     .tangent = tangent_sum},
    {0}};
