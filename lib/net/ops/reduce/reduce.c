/*
 * Reductions over axes: ReduceSum, ReduceMean, ReduceMax, ReduceMin, ReduceProd, of floats by
 * doubles, of integers modulo 2^64; extrema of booleans, too.
 */
#include <math.h>
#include <string.h>

#include "core/dispatch.h"
#include "net/ops/reduce/reduction.h"
#include "net/ops/sum.h"

enum kind { SUM, PRODUCT, MAXIMUM, MINIMUM };

struct reduce {
    struct net_reduction axes; /* comes first */
    enum kind kind;
    bool mean;
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

/* An integer that is larger the larger a float is, with these bits; and back. */
INLINE int32_t ordered(int32_t bits)
{
    return bits ^ (bits >> 31 & INT32_MAX);
}

/* The largest term, or the smallest, by integers: compilers make no vectors of comparisons of
   floats, which NaN could undo. */
INLINE double extreme_run(enum kind kind, const float *x, size_t count)
{
    static const int32_t infinite = 0x7f800000; /* bits; those of NaN are above */
    int32_t found = INT32_MIN, magnitude = 0;
    for (size_t i = 0; i < count; i++) {
        int32_t bits;
        memcpy(&bits, x + i, sizeof bits);
        int32_t order = kind == MAXIMUM ? ordered(bits) : ~ordered(bits), size = bits & INT32_MAX;
        found = order > found ? order : found;
        magnitude = size > magnitude ? size : magnitude;
    }
    float result;
    found = ordered(kind == MAXIMUM ? found : ~found);
    memcpy(&result, &found, sizeof result);
    return count == 0 ? neutral(kind) : magnitude > infinite ? NAN : (double)result;
}

IVON_DISPATCH static double combine_run(enum kind kind, const float *x, size_t count)
{
    switch (kind) {
    case SUM:
        return net_sum(x, count);
    case PRODUCT:
        return combine_run_of_kind(PRODUCT, x, count);
    case MAXIMUM:
        return extreme_run(MAXIMUM, x, count);
    default:
        return extreme_run(MINIMUM, x, count);
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

static int reduce_infer(struct net_call *call, enum kind kind, bool mean, struct ivon_error *error)
{
    unsigned types = 1U << NET_FLOAT | 1U << NET_INTEGER;
    if (kind == MAXIMUM || kind == MINIMUM)
        types |= 1U << NET_BOOLEAN;
    int code = net_reduction_infer(call, types, sizeof(struct reduce), error);
    if (code)
        return code;
    struct reduce *r = call->prepared;
    r->kind = kind;
    r->mean = mean;
    size_t outputs = call->outputs[0]->count;
    if (outputs > SIZE_MAX / sizeof(struct product))
        return net_fail(call, error, "the output is too large");
    call->workspace_size = outputs * (kind == PRODUCT ? sizeof(struct product) : sizeof(double));
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

static void reduce(const struct net_call *call, const float *x, float *y)
{
    const struct reduce *how = call->prepared;
    const struct net_reduction *r = &how->axes;
    size_t outputs = call->outputs[0]->count, length = net_reduction_run_length(r);
    double *sums = call->workspace;
    for (size_t i = 0; i < outputs; i++)
        sums[i] = neutral(how->kind);
    struct net_reduction_walk walk = {{0}, 0};
    for (size_t i = 0; i < r->runs; i++, x += length, net_reduction_advance(r, &walk)) {
        double *out = sums + walk.output;
        if (net_reduction_run_step(r))
            combine_elementwise(how->kind, out, x, length);
        else
            *out = reduce_combine(how->kind, *out, combine_run(how->kind, x, length));
    }
    for (size_t i = 0; i < outputs; i++)
        y[i] = (float)(how->mean ? sums[i] / (double)r->terms : sums[i]);
}

/* A mean is rounded towards 0; it is 0 of no terms. */
static void reduce_integers(const struct net_call *call, const int64_t *x, int64_t *y)
{
    const struct reduce *how = call->prepared;
    const struct net_reduction *r = &how->axes;
    static const int64_t neutrals[] = {
        [SUM] = 0, [PRODUCT] = 1, [MAXIMUM] = INT64_MIN, [MINIMUM] = INT64_MAX};
    for (size_t i = 0; i < call->outputs[0]->count; i++)
        y[i] = neutrals[how->kind];
    struct net_reduction_walk walk = {{0}, 0};
    for (size_t i = 0; i < r->runs; i++, net_reduction_advance(r, &walk))
        for (size_t j = 0; j < net_reduction_run_length(r); j++) {
            int64_t *out = y + walk.output + j * net_reduction_run_step(r);
            *out = combine_integers(how->kind, *out, *x++);
        }
    for (size_t i = 0; how->mean && i < call->outputs[0]->count; i++)
        y[i] = r->terms ? y[i] / (int64_t)r->terms : 0;
}

/* The largest is whether any is true, the smallest whether all are. */
static void reduce_booleans(const struct net_call *call, const unsigned char *x, unsigned char *y)
{
    const struct reduce *how = call->prepared;
    const struct net_reduction *r = &how->axes;
    bool any = how->kind == MAXIMUM;
    memset(y, !any, call->outputs[0]->count);
    struct net_reduction_walk walk = {{0}, 0};
    for (size_t i = 0; i < r->runs; i++, net_reduction_advance(r, &walk))
        for (size_t j = 0; j < net_reduction_run_length(r); j++, x++)
            if (!*x != any)
                y[walk.output + j * net_reduction_run_step(r)] = any;
}

static int reduce_forward(const struct net_call *call, struct ivon_error *error)
{
    (void)error;
    if (call->outputs[0]->type == NET_INTEGER)
        reduce_integers(call, call->inputs[0]->data, call->outputs[0]->data);
    else if (call->outputs[0]->type == NET_BOOLEAN)
        reduce_booleans(call, call->inputs[0]->data, call->outputs[0]->data);
    else
        reduce(call, call->inputs[0]->data, call->outputs[0]->data);
    return 0;
}

/* Sums and means: dx += dy, or dy / terms. */

static void backward_sum(const struct net_call *call, const float *const *output_adjoints,
                         float *const *input_adjoints)
{
    const struct reduce *how = call->prepared;
    const struct net_reduction *r = &how->axes;
    const float *dy = output_adjoints[0];
    float *dx = input_adjoints[0];
    if (!dx || !dy)
        return;
    struct net_reduction_walk walk = {{0}, 0};
    float share = how->mean ? 1 / (float)r->terms : 1;
    for (size_t i = 0; i < r->runs; i++, net_reduction_advance(r, &walk))
        for (size_t j = 0; j < net_reduction_run_length(r); j++)
            *dx++ += share * dy[walk.output + j * net_reduction_run_step(r)];
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
    const struct net_reduction *r = call->prepared;
    const float *x = call->inputs[0]->data, *y = call->outputs[0]->data;
    bool *found = call->workspace;
    memset(found, 0, call->outputs[0]->count * sizeof *found);
    struct net_reduction_walk walk = {{0}, 0};
    for (size_t i = 0, at = 0; i < r->runs; i++, net_reduction_advance(r, &walk))
        for (size_t j = 0; j < net_reduction_run_length(r); j++, at++) {
            size_t output = walk.output + j * net_reduction_run_step(r);
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
    const struct net_reduction *r = call->prepared;
    const float *x = call->inputs[0]->data;
    struct product *products = call->workspace;
    for (size_t i = 0; i < call->outputs[0]->count; i++)
        products[i] = (struct product){.others = 1};
    struct net_reduction_walk walk = {{0}, 0};
    for (size_t i = 0; i < r->runs; i++, net_reduction_advance(r, &walk))
        for (size_t j = 0; j < net_reduction_run_length(r); j++, x++) {
            struct product *product = products + walk.output + j * net_reduction_run_step(r);
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
    const struct net_reduction *r = call->prepared;
    const float *x = call->inputs[0]->data, *dy = output_adjoints[0];
    float *dx = input_adjoints[0];
    if (!dx || !dy)
        return;
    const struct product *products = find_products(call);
    struct net_reduction_walk walk = {{0}, 0};
    for (size_t i = 0; i < r->runs; i++, net_reduction_advance(r, &walk))
        for (size_t j = 0; j < net_reduction_run_length(r); j++) {
            size_t output = walk.output + j * net_reduction_run_step(r);
            *dx++ += (float)((double)dy[output] * product_of_others(products + output, *x++));
        }
}

static void tangent_product(const struct net_call *call, const float *const *input_tangents,
                            float *const *output_tangents)
{
    const struct net_reduction *r = call->prepared;
    const float *x = call->inputs[0]->data, *x_tangent = input_tangents[0];
    struct product *products = find_products(call);
    struct net_reduction_walk walk = {{0}, 0};
    for (size_t i = 0; x_tangent && i < r->runs; i++, net_reduction_advance(r, &walk))
        for (size_t j = 0; j < net_reduction_run_length(r); j++) {
            struct product *product = products + walk.output + j * net_reduction_run_step(r);
            product->sum += (double)*x_tangent++ * product_of_others(product, *x++);
        }
    for (size_t i = 0; i < call->outputs[0]->count; i++)
        output_tangents[0][i] = (float)products[i].sum;
}

const struct net_operator net_reduce_operators[] = {
    REDUCE_ATTRIBUTE_ROW("ReduceMax", 1, infer_max, reduce_forward, extremum),
    REDUCE_INPUT_ROW("ReduceMax", 18, infer_max, reduce_forward, extremum),
    REDUCE_ATTRIBUTE_ROW("ReduceMean", 1, infer_mean, reduce_forward, sum),
    REDUCE_INPUT_ROW("ReduceMean", 18, infer_mean, reduce_forward, sum),
    REDUCE_ATTRIBUTE_ROW("ReduceMin", 1, infer_min, reduce_forward, extremum),
    REDUCE_INPUT_ROW("ReduceMin", 18, infer_min, reduce_forward, extremum),
    REDUCE_ATTRIBUTE_ROW("ReduceProd", 1, infer_product, reduce_forward, product),
    REDUCE_INPUT_ROW("ReduceProd", 18, infer_product, reduce_forward, product),
    REDUCE_ATTRIBUTE_ROW("ReduceSum", 1, infer_sum, reduce_forward, sum),
    REDUCE_INPUT_ROW("ReduceSum", 13, infer_sum, reduce_forward, sum),
    {0}};
