/*
 * CumSum and CumProd: of the elements along one axis up to each, of floats in double, of integers
 * modulo 2^64. With `exclusive` an element itself is left out, and with `reverse` those behind it
 * count, not those before.
 */
#include <inttypes.h>
#include <string.h>

#include "net/graph/rules.h"
#include "net/ops/elementwise/blockwise.h"

/* Lines of `length` elements, `inner` apart; of each, the running value takes elements in order. */
struct scan {
    size_t outer, length, inner;
    bool exclusive, reverse;
};

static int scan_infer(struct net_call *call, struct ivon_error *error)
{
    const struct net_tensor *x = call->inputs[0];
    const int64_t *axes;
    size_t count;
    char text[256];
    int code = block_expect(call, 0, 1U << NET_FLOAT | 1U << NET_INTEGER, error);
    if (!code)
        code = net_known_list(call, 1, "the axis", &axes, &count, error);
    if (code)
        return code;
    if (count != 1)
        return net_fail(call, error, "%zu axes, expected one", count);
    int axis = net_axis(axes[0], x->rank);
    if (axis < 0)
        return net_fail(call, error, "axis %" PRId64 " of an input of shape %s", axes[0],
                        net_shape_text(x, text));
    struct scan *scan = net_prepare(call, sizeof *scan, error);
    if (!scan)
        return IVON_ERROR_MEMORY;
    *scan = (struct scan){.outer = 1,
                          .length = (size_t)x->shape[axis],
                          .inner = 1,
                          .exclusive = net_attribute_integer(call->node, "exclusive", 0) != 0,
                          .reverse = net_attribute_integer(call->node, "reverse", 0) != 0};
    for (int i = 0; i < x->rank && x->count; i++)
        if (i != axis)
            *(i < axis ? &scan->outer : &scan->inner) *= (size_t)x->shape[i];
    if (!x->count)
        scan->outer = 0;
    call->workspace_size = x->count ? scan->length * sizeof(double) : 0;
    return net_output(call, 0, x->type, x->rank, x->shape, error);
}

static size_t scan_lines(const struct scan *scan)
{
    return scan->outer * scan->inner;
}

/* The element at which the running value of a line begins, and the steps to the next. */
static size_t scan_first(const struct scan *scan, size_t line, ptrdiff_t *step)
{
    size_t start = line / scan->inner * scan->length * scan->inner + line % scan->inner;
    *step = scan->reverse ? -(ptrdiff_t)scan->inner : (ptrdiff_t)scan->inner;
    return scan->reverse && scan->length ? start + (scan->length - 1) * scan->inner : start;
}

static void scan_integers(const struct net_call *call, bool product)
{
    const struct scan *scan = call->prepared;
    const uint64_t *x = call->inputs[0]->data;
    uint64_t *y = call->outputs[0]->data;
    for (size_t line = 0; line < scan_lines(scan); line++) {
        ptrdiff_t step;
        size_t at = scan_first(scan, line, &step);
        uint64_t value = product;
        for (size_t i = 0; i < scan->length; i++, at += (size_t)step) {
            uint64_t before = value;
            value = product ? value * x[at] : value + x[at];
            y[at] = scan->exclusive ? before : value;
        }
    }
}

/* Sums, set or added to `to`. The adjoint of a sum forwards is a sum backwards. */
static void scan_sum(const struct scan *scan, const float *from, float *to, bool add)
{
    for (size_t line = 0; line < scan_lines(scan); line++) {
        ptrdiff_t step;
        size_t at = scan_first(scan, line, &step);
        double sum = 0;
        for (size_t i = 0; i < scan->length; i++, at += (size_t)step) {
            double before = sum;
            sum += (double)from[at];
            to[at] = (add ? to[at] : 0) + (float)(scan->exclusive ? before : sum);
        }
    }
}

static int sum_forward(const struct net_call *call, struct ivon_error *error)
{
    (void)error;
    if (call->inputs[0]->type == NET_INTEGER)
        scan_integers(call, false);
    else
        scan_sum(call->prepared, call->inputs[0]->data, call->outputs[0]->data, false);
    return 0;
}

static void sum_backward(const struct net_call *call, const float *const *output_adjoints,
                         float *const *input_adjoints)
{
    struct scan back = *(const struct scan *)call->prepared;
    back.reverse = !back.reverse;
    if (output_adjoints[0] && input_adjoints[0])
        scan_sum(&back, output_adjoints[0], input_adjoints[0], true);
}

static void sum_tangent(const struct net_call *call, const float *const *input_tangents,
                        float *const *output_tangents)
{
    if (input_tangents[0])
        scan_sum(call->prepared, input_tangents[0], output_tangents[0], false);
    else
        memset(output_tangents[0], 0, call->outputs[0]->count * sizeof(float));
}

/* Products p_i = p_(i-1) x_i, whose derivatives are those of this recurrence: no element is divided
   by, so that each may be 0. */

static int product_forward(const struct net_call *call, struct ivon_error *error)
{
    (void)error;
    const struct scan *scan = call->prepared;
    const float *x = call->inputs[0]->data;
    float *y = call->outputs[0]->data;
    if (call->inputs[0]->type == NET_INTEGER) {
        scan_integers(call, true);
        return 0;
    }
    for (size_t line = 0; line < scan_lines(scan); line++) {
        ptrdiff_t step;
        size_t at = scan_first(scan, line, &step);
        double product = 1;
        for (size_t i = 0; i < scan->length; i++, at += (size_t)step) {
            double before = product;
            product *= (double)x[at];
            y[at] = (float)(scan->exclusive ? before : product);
        }
    }
    return 0;
}

static void product_backward(const struct net_call *call, const float *const *output_adjoints,
                             float *const *input_adjoints)
{
    const struct scan *scan = call->prepared;
    const float *x = call->inputs[0]->data, *dy = output_adjoints[0];
    float *dx = input_adjoints[0];
    double *before = call->workspace;
    for (size_t line = 0; dx && dy && line < scan_lines(scan); line++) {
        ptrdiff_t step;
        size_t at = scan_first(scan, line, &step);
        double product = 1, adjoint = 0; /* of the product behind element i */
        for (size_t i = 0; i < scan->length; i++, at += (size_t)step) {
            before[i] = product;
            product *= (double)x[at];
        }
        for (size_t i = scan->length; i-- > 0;) {
            at -= (size_t)step;
            adjoint += scan->exclusive ? 0 : (double)dy[at];
            dx[at] += (float)(adjoint * before[i]);
            adjoint = adjoint * (double)x[at] + (scan->exclusive ? (double)dy[at] : 0);
        }
    }
}

static void product_tangent(const struct net_call *call, const float *const *input_tangents,
                            float *const *output_tangents)
{
    const struct scan *scan = call->prepared;
    const float *x = call->inputs[0]->data, *x_tangent = input_tangents[0];
    float *to = output_tangents[0];
    if (!x_tangent)
        memset(to, 0, call->outputs[0]->count * sizeof *to);
    for (size_t line = 0; x_tangent && line < scan_lines(scan); line++) {
        ptrdiff_t step;
        size_t at = scan_first(scan, line, &step);
        double product = 1, tangent = 0;
        for (size_t i = 0; i < scan->length; i++, at += (size_t)step) {
            double before = tangent;
            tangent = tangent * (double)x[at] + product * (double)x_tangent[at];
            product *= (double)x[at];
            to[at] = (float)(scan->exclusive ? before : tangent);
        }
    }
}

#define SCAN_ROW(title, opset, kind)                                                               \
    {                                                                                              \
        .name = title, .since = opset, .inputs_min = 2, .inputs_max = 2, .outputs_max = 1,         \
        .attributes = {{"exclusive", NET_INT}, {"reverse", NET_INT}}, .infer = scan_infer,         \
        .forward = kind##_forward, .backward = kind##_backward, .tangent = kind##_tangent          \
    }

const struct net_operator net_scan_operators[] = {
    SCAN_ROW("CumSum", 11, sum),
    SCAN_ROW("CumProd", 26, product),
    {0},
};
