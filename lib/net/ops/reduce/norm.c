/*
 * Reductions over axes of terms that are functions of the elements, y = g(Σ f(x)):
 *
 *     ReduceL1         Σ |x|            ReduceLogSum     log Σ x
 *     ReduceL2         √(Σ x²)          ReduceLogSumExp  m + log Σ e^(x − m), m = max x
 *     ReduceSumSquare  Σ x²
 *
 * of floats by doubles, of integers modulo 2^64, with roots and logarithms rounded towards 0.
 */
#include <math.h>
#include <string.h>

#include "core/dispatch.h"
#include "core/vector_math.h"
#include "net/ops/reduce/reduction.h"
#include "net/ops/sum.h"

enum norm_kind { ABSOLUTES, ROOT, SQUARES, LOGARITHM, LOGARITHM_OF_EXPONENTIALS };

struct norm {
    struct net_reduction axes; /* comes first */
    enum norm_kind kind;
};

static int norm_infer(struct net_call *call, enum norm_kind kind, struct ivon_error *error)
{
    int code = net_reduction_infer(call, 1U << NET_FLOAT | 1U << NET_INTEGER, sizeof(struct norm),
                                   error);
    if (code)
        return code;
    ((struct norm *)call->prepared)->kind = kind;
    if (__builtin_mul_overflow(call->outputs[0]->count, 2 * sizeof(double), &call->workspace_size))
        return net_fail(call, error, "the output is too large");
    return 0;
}

static int infer_absolutes(struct net_call *call, struct ivon_error *error)
{
    return norm_infer(call, ABSOLUTES, error);
}

static int infer_root(struct net_call *call, struct ivon_error *error)
{
    return norm_infer(call, ROOT, error);
}

static int infer_squares(struct net_call *call, struct ivon_error *error)
{
    return norm_infer(call, SQUARES, error);
}

static int infer_logarithm(struct net_call *call, struct ivon_error *error)
{
    return norm_infer(call, LOGARITHM, error);
}

static int infer_exponentials(struct net_call *call, struct ivon_error *error)
{
    return norm_infer(call, LOGARITHM_OF_EXPONENTIALS, error);
}

/* Of floats. */

enum { NORM_BLOCK = 256 };

/* The terms of a block, but for squares, which floats cannot hold. `shift` has an element for each
   of x, or one for all, as `step` is 1 or 0. */
static inline void norm_terms(enum norm_kind kind, float *terms, const float *x,
                              const double *shift, size_t step, size_t count)
{
    if (kind == ABSOLUTES)
        for (size_t j = 0; j < count; j++)
            terms[j] = vector_abs(x[j]);
    else if (kind == LOGARITHM_OF_EXPONENTIALS)
        for (size_t j = 0; j < count; j++)
            terms[j] = vector_exp(x[j] - (float)shift[j * step]);
    else
        memcpy(terms, x, count * sizeof *terms);
}

/* Adds a run of x to its sum, or to the sums of its elements. */
IVON_DISPATCH static void norm_add(enum norm_kind kind, double *sums, const double *shift,
                                   size_t step, const float *x, size_t count)
{
    float terms[NORM_BLOCK];
    bool squares = kind == ROOT || kind == SQUARES;
    for (size_t at = 0, part; at < count; at += part) {
        part = count - at < NORM_BLOCK ? count - at : NORM_BLOCK;
        norm_terms(kind, terms, x + at, shift + at * step, step, part);
        double *out = sums + at * step;
        if (step)
            for (size_t j = 0; j < part; j++)
                out[j] += squares ? (double)terms[j] * (double)terms[j] : (double)terms[j];
        else
            *out += squares ? net_sum_squares(terms, 0, part) : net_sum(terms, part);
    }
}

/* Of each output the largest element; 0 where it is not finite. */
static void norm_shifts(const struct net_call *call, double *shift)
{
    const struct net_reduction *r = call->prepared;
    const struct net_tensor *x = call->inputs[0];
    size_t outputs = call->outputs[0]->count, at = 0;
    for (size_t i = 0; i < outputs; i++)
        shift[i] = -INFINITY;
    struct net_reduction_walk walk = {{0}, 0};
    for (size_t i = 0; i < r->runs; i++, net_reduction_advance(r, &walk))
        for (size_t j = 0; j < net_reduction_run_length(r); j++, at++) {
            double *out = shift + walk.output + j * net_reduction_run_step(r);
            double value = x->type == NET_FLOAT ? (double)((const float *)x->data)[at]
                                                : (double)((const int64_t *)x->data)[at];
            *out = value > *out ? value : *out;
        }
    for (size_t i = 0; i < outputs; i++)
        shift[i] = isfinite(shift[i]) ? shift[i] : 0;
}

static double norm_of_sum(enum norm_kind kind, double sum, double shift)
{
    switch (kind) {
    case ROOT:
        return sqrt(sum);
    case LOGARITHM:
        return log(sum);
    case LOGARITHM_OF_EXPONENTIALS:
        return log(sum) + shift;
    default:
        return sum;
    }
}

static void norm_floats(const struct net_call *call)
{
    const struct norm *norm = call->prepared;
    const struct net_reduction *r = &norm->axes;
    size_t outputs = call->outputs[0]->count, length = net_reduction_run_length(r);
    double *sums = call->workspace, *shift = sums + outputs;
    const float *x = call->inputs[0]->data;
    float *y = call->outputs[0]->data;
    memset(sums, 0, 2 * outputs * sizeof *sums);
    if (norm->kind == LOGARITHM_OF_EXPONENTIALS)
        norm_shifts(call, shift);
    struct net_reduction_walk walk = {{0}, 0};
    for (size_t i = 0; i < r->runs; i++, x += length, net_reduction_advance(r, &walk))
        norm_add(norm->kind, sums + walk.output, shift + walk.output, net_reduction_run_step(r), x,
                 length);
    for (size_t i = 0; i < outputs; i++)
        y[i] = (float)norm_of_sum(norm->kind, sums[i], shift[i]);
}

/* Of integers. */

static int64_t norm_truncate(double x)
{
    if (x >= 0x1p63)
        return INT64_MAX;
    return x > -0x1p63 ? (int64_t)x : x <= -0x1p63 ? INT64_MIN : 0;
}

static uint64_t norm_term(enum norm_kind kind, int64_t x)
{
    uint64_t wide = (uint64_t)x;
    return kind == ABSOLUTES && x < 0        ? 0 - wide
           : kind == ROOT || kind == SQUARES ? wide * wide
                                             : wide;
}

static void norm_integers(const struct net_call *call)
{
    const struct norm *norm = call->prepared;
    const struct net_reduction *r = &norm->axes;
    bool exponentials = norm->kind == LOGARITHM_OF_EXPONENTIALS;
    size_t outputs = call->outputs[0]->count;
    double *sums = call->workspace, *shift = sums + outputs;
    const int64_t *x = call->inputs[0]->data;
    int64_t *y = call->outputs[0]->data;
    memset(y, 0, outputs * sizeof *y);
    memset(sums, 0, 2 * outputs * sizeof *sums);
    if (exponentials)
        norm_shifts(call, shift);
    struct net_reduction_walk walk = {{0}, 0};
    for (size_t i = 0; i < r->runs; i++, net_reduction_advance(r, &walk))
        for (size_t j = 0; j < net_reduction_run_length(r); j++, x++) {
            size_t at = walk.output + j * net_reduction_run_step(r);
            y[at] = (int64_t)((uint64_t)y[at] + norm_term(norm->kind, *x));
            if (exponentials)
                sums[at] += exp((double)*x - shift[at]);
        }
    for (size_t i = 0; i < outputs && norm->kind != ABSOLUTES && norm->kind != SQUARES; i++)
        y[i] = norm_truncate(
            norm_of_sum(norm->kind, exponentials ? sums[i] : (double)y[i], shift[i]));
}

static int norm_forward(const struct net_call *call, struct ivon_error *error)
{
    (void)error;
    if (call->outputs[0]->type == NET_INTEGER)
        norm_integers(call);
    else
        norm_floats(call);
    return 0;
}

/* The slope of an output in one of its elements. A root has none at 0, where this is 0. */
static double norm_slope(enum norm_kind kind, float x, float y)
{
    switch (kind) {
    case ABSOLUTES:
        return x > 0 ? 1 : x < 0 ? -1 : (double)x;
    case ROOT:
        return y == 0 ? 0 : (double)x / (double)y;
    case SQUARES:
        return 2 * (double)x;
    case LOGARITHM:
        return exp(-(double)y);
    default:
        return x == -INFINITY ? 0 : (double)vector_exp(x - y);
    }
}

static void backward_norm(const struct net_call *call, const float *const *output_adjoints,
                          float *const *input_adjoints)
{
    const struct norm *norm = call->prepared;
    const struct net_reduction *r = &norm->axes;
    const float *x = call->inputs[0]->data, *y = call->outputs[0]->data, *dy = output_adjoints[0];
    float *dx = input_adjoints[0];
    struct net_reduction_walk walk = {{0}, 0};
    for (size_t i = 0; dx && dy && i < r->runs; i++, net_reduction_advance(r, &walk))
        for (size_t j = 0; j < net_reduction_run_length(r); j++) {
            size_t at = walk.output + j * net_reduction_run_step(r);
            *dx++ += (float)((double)dy[at] * norm_slope(norm->kind, *x++, y[at]));
        }
}

static void tangent_norm(const struct net_call *call, const float *const *input_tangents,
                         float *const *output_tangents)
{
    const struct norm *norm = call->prepared;
    const struct net_reduction *r = &norm->axes;
    const float *x = call->inputs[0]->data, *y = call->outputs[0]->data;
    const float *x_tangent = input_tangents[0];
    size_t outputs = call->outputs[0]->count;
    double *sums = call->workspace;
    memset(sums, 0, outputs * sizeof *sums);
    struct net_reduction_walk walk = {{0}, 0};
    for (size_t i = 0; x_tangent && i < r->runs; i++, net_reduction_advance(r, &walk))
        for (size_t j = 0; j < net_reduction_run_length(r); j++) {
            size_t at = walk.output + j * net_reduction_run_step(r);
            sums[at] += (double)*x_tangent++ * norm_slope(norm->kind, *x++, y[at]);
        }
    for (size_t i = 0; i < outputs; i++)
        output_tangents[0][i] = (float)sums[i];
}

const struct net_operator net_norm_operators[] = {
    REDUCE_ATTRIBUTE_ROW("ReduceL1", 1, infer_absolutes, norm_forward, norm),
    REDUCE_INPUT_ROW("ReduceL1", 18, infer_absolutes, norm_forward, norm),
    REDUCE_ATTRIBUTE_ROW("ReduceL2", 1, infer_root, norm_forward, norm),
    REDUCE_INPUT_ROW("ReduceL2", 18, infer_root, norm_forward, norm),
    REDUCE_ATTRIBUTE_ROW("ReduceSumSquare", 1, infer_squares, norm_forward, norm),
    REDUCE_INPUT_ROW("ReduceSumSquare", 18, infer_squares, norm_forward, norm),
    REDUCE_ATTRIBUTE_ROW("ReduceLogSum", 1, infer_logarithm, norm_forward, norm),
    REDUCE_INPUT_ROW("ReduceLogSum", 18, infer_logarithm, norm_forward, norm),
    REDUCE_ATTRIBUTE_ROW("ReduceLogSumExp", 1, infer_exponentials, norm_forward, norm),
    REDUCE_INPUT_ROW("ReduceLogSumExp", 18, infer_exponentials, norm_forward, norm),
    {0}};
