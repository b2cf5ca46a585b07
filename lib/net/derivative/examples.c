/* The computations for each single example of a tile: its own gradient, scaled and squared. */
#include <math.h>
#include <string.h>

#include "core/blas.h"
#include "core/dispatch.h"
#include "net/derivative/private.h"
#include "net/ops/product.h"
#include "net/ops/sum.h"

enum { BLOCK = 1024 };

IVON_DISPATCH static void derivative_examples_multiply(float *restrict a, const float *restrict b,
                                                       size_t count)
{
    for (size_t i = 0; i < count; i++)
        a[i] *= b[i];
}

IVON_DISPATCH static void square(float *restrict out, const float *restrict a, size_t count)
{
    for (size_t i = 0; i < count; i++)
        out[i] = a[i] * a[i];
}

IVON_DISPATCH static void add_products(float *restrict out, float scale, const float *restrict a,
                                       const float *restrict b, size_t count)
{
    for (size_t i = 0; i < count; i++)
        out[i] += scale * (a[i] * b[i]);
}

/* Σ weight a² */
static double weighted_square(const float *weight, const float *a, size_t count)
{
    float squares[BLOCK];
    double sum = 0;
    for (size_t at = 0; at < count; at += BLOCK) {
        size_t size = count - at < BLOCK ? count - at : BLOCK;
        square(squares, a + at, size);
        sum += net_sum_products(squares, weight + at, size);
    }
    return sum;
}

/*
 * Gradients of rank one. Where a row a of each example meets a matrix, y = α a W + β b, and d is
 * y's adjoint, the gradients are α aᵀ d and β d. So the tangent of y in the direction Σ g is
 * α ȧ W + α² d ⊙ s + β² d ⊙ σ_b² with s = (a ⊙ a) Σ_W, and gᵀ Σ g = α² Σ d² s + β² Σ d² σ_b².
 */
struct rows {
    bool matrix;
    float alpha, beta;
    size_t bias; /* input, or NET_NONE */
};

static struct rows rows_of(const struct net_derivative *derivative, const struct plan_step *step)
{
    struct rows rows = {.alpha = 1, .beta = 1, .bias = NET_NONE};
    if (step->call.node->op->flags & NET_SUM) {
        rows.bias = derivative_shared_input(derivative, step, 0) ? 0 : 1;
        return rows;
    }
    rows.matrix = derivative_shared_input(derivative, step, 1);
    rows.alpha = (float)net_attribute_number(step->call.node, "alpha", 1);
    rows.beta = (float)net_attribute_number(step->call.node, "beta", 1);
    if (step->input_count > 2 && derivative_shared_input(derivative, step, 2))
        rows.bias = 2;
    return rows;
}

static bool is_bias(const struct net_derivative *derivative, const struct plan_step *step,
                    size_t input)
{
    const struct derivative_value *output = &derivative->values[step->outputs[0]];
    const struct derivative_value *bias = &derivative->values[step->inputs[input]];
    return bias->simple && bias->size == output->size;
}

bool derivative_has_rows(const struct net_derivative *derivative, const struct plan_step *step)
{
    const struct net_operator *op = step->call.node->op;
    bool first = derivative_shared_input(derivative, step, 0);
    bool second = derivative_shared_input(derivative, step, 1);
    if (op->flags & NET_SUM)
        return first != second && is_bias(derivative, step, first ? 0 : 1);
    const struct net_matmul *product = op->product ? op->product(&step->call) : NULL;
    if (!product || first)
        return false;
    bool one_row = !product->transpose_a && product->batch_count == 1 &&
                   product->m == (int64_t)derivative->tile &&
                   derivative->values[step->inputs[0]].each;
    bool bias = step->input_count > 2 && derivative_shared_input(derivative, step, 2);
    return one_row && (!second || derivative->values[step->inputs[1]].simple) &&
           (!bias || is_bias(derivative, step, 2));
}

static size_t simple_parameter(const struct net_derivative *derivative,
                               const struct plan_step *step, size_t input)
{
    return derivative_parameter(derivative, derivative_root(derivative, step->inputs[input]));
}

/* s = (a ⊙ a) Σ_W, worked out once for all passes over one run. */
static void derivative_examples_sum_rows(struct net_derivative *derivative, size_t i,
                                         const float *const *variance)
{
    const struct plan_step *step = &derivative->plan->steps[i];
    const struct net_matmul *p = step->call.node->op->product(&step->call);
    square(derivative->squares, step->call.inputs[0]->data, step->call.inputs[0]->count);
    blas_product(false, p->transpose_b, p->m, p->n, p->k, 1, derivative->squares, p->k ? p->k : 1,
                 variance[simple_parameter(derivative, step, 1)],
                 p->transpose_b ? (p->k ? p->k : 1) : (p->n ? p->n : 1), 0,
                 derivative->steps[i].row_sums, p->n ? p->n : 1);
}

static void sum_all_rows(struct net_derivative *derivative, const float *const *variance)
{
    if (derivative->summed)
        return;
    for (size_t i = 0; i < derivative->network->node_count; i++) {
        struct derivative_step *own = &derivative->steps[i];
        const struct plan_step *step = &derivative->plan->steps[i];
        const float *of = own->arranged ? variance[simple_parameter(derivative, step, 1)] : NULL;
        if (of != own->arranged_of)
            step->call.node->op->arrange(&derivative->unit->steps[i].call, of, own->arranged);
        own->arranged_of = of;
        if (derivative->steps[i].kind == DERIVATIVE_ROWS &&
            rows_of(derivative, &derivative->plan->steps[i]).matrix)
            derivative_examples_sum_rows(derivative, i, variance);
    }
    derivative->summed = true;
}

static const float *adjoint_of_output(const struct net_derivative *derivative,
                                      const struct plan_step *step, size_t j)
{
    size_t value = step->outputs[j];
    return value == NET_NONE || !derivative->values[value].moves
               ? NULL
               : derivative->values[derivative_root(derivative, value)].adjoint;
}

static void rows_quadratic(struct net_derivative *derivative, size_t i,
                           const float *const *variance, size_t count, double *q)
{
    const struct plan_step *step = &derivative->plan->steps[i];
    struct rows rows = rows_of(derivative, step);
    size_t size = derivative->values[step->outputs[0]].size;
    const float *d = adjoint_of_output(derivative, step, 0);
    const float *s = derivative->steps[i].row_sums;
    const float *b = rows.bias == NET_NONE
                         ? NULL
                         : variance[simple_parameter(derivative, step, rows.bias)];
    double alpha = (double)rows.alpha * (double)rows.alpha;
    double beta = (double)rows.beta * (double)rows.beta;
    for (size_t e = 0; e < count; e++) {
        if (rows.matrix)
            q[e] += alpha * weighted_square(s + e * size, d + e * size, size);
        if (b)
            q[e] += beta * weighted_square(b, d + e * size, size);
    }
}

/* Adds what the rows' own gradients move, beyond what their inputs do. */
static void rows_tangent(struct net_derivative *derivative, size_t i, const float *const *variance,
                         float *tangent)
{
    const struct plan_step *step = &derivative->plan->steps[i];
    struct rows rows = rows_of(derivative, step);
    size_t size = derivative->values[step->outputs[0]].size;
    const float *d = adjoint_of_output(derivative, step, 0);
    if (rows.matrix)
        add_products(tangent, rows.alpha * rows.alpha, d, derivative->steps[i].row_sums,
                     derivative->tile * size);
    if (rows.bias == NET_NONE)
        return;
    const float *b = variance[simple_parameter(derivative, step, rows.bias)];
    for (size_t e = 0; e < derivative->tile; e++)
        add_products(tangent + e * size, rows.beta * rows.beta, d + e * size, b, size);
}

/* One example at a time. */

/* Points a value of the unit plan to where example e has it. */
static void point(struct net_derivative *derivative, size_t value, size_t e)
{
    if (value == NET_NONE || derivative->unit == derivative->plan)
        return;
    const struct plan_value *from = &derivative->plan->values[value];
    struct net_tensor *to = &derivative->unit->values[value].tensor;
    const struct derivative_value *own = &derivative->values[value];
    if (from->stage == PLAN_KNOWN)
        return;
    size_t offset = own->each ? e * own->size * net_type_size(from->tensor.type) : 0;
    to->data = from->tensor.data ? (char *)from->tensor.data + offset : NULL;
}

/* The call of step i for example e alone. */
static const struct net_call *unit_call(struct net_derivative *derivative, size_t i, size_t e)
{
    const struct plan_step *step = &derivative->plan->steps[i];
    for (size_t j = 0; j < step->input_count; j++)
        point(derivative, step->inputs[j], e);
    for (size_t j = 0; j < step->output_count; j++)
        point(derivative, step->outputs[j], e);
    return &derivative->unit->steps[i].call;
}

/* Example e's part of an array that is kept for the whole tile. */
static float *part(const struct net_derivative *derivative, size_t value, float *array, size_t e)
{
    return array ? array + e * derivative->values[value].size : NULL;
}

static void set_output_adjoints(struct net_derivative *derivative, const struct plan_step *step,
                                size_t e)
{
    for (size_t j = 0; j < step->output_count; j++) {
        size_t value = step->outputs[j];
        bool moves = value != NET_NONE && derivative->values[value].moves;
        const struct derivative_value *root =
            moves ? &derivative->values[derivative_root(derivative, value)] : NULL;
        derivative->output_arrays[j] = moves ? part(derivative, value,
                                                    root->each ? root->adjoint : root->shared, e)
                                             : NULL;
    }
}

/* The array of example e for a shared root that is not simple. */
static float *shared_part(const struct net_derivative *derivative, size_t value, size_t e)
{
    return part(derivative, value, derivative->values[derivative_root(derivative, value)].shared,
                e);
}

/*
 * Forms example e's gradient at step i: of simple parameters in `piece`, with where each begins in
 * input_arrays, or of the other shared inputs in their arrays, to which it is added; with or
 * without that of input 1.
 */
static void form_gradient(struct net_derivative *derivative, size_t i, size_t e, bool simple,
                          bool without_1)
{
    const struct plan_step *step = &derivative->plan->steps[i];
    const struct net_call *call = unit_call(derivative, i, e);
    float *piece = derivative->piece;
    for (size_t j = 0; j < step->input_count; j++) {
        derivative->input_arrays[j] = NULL;
        if (!derivative_shared_input(derivative, step, j))
            continue;
        const struct derivative_value *value = &derivative->values[step->inputs[j]];
        if (value->simple != simple || (without_1 && j == 1))
            continue;
        if (!simple) {
            derivative->input_arrays[j] = shared_part(derivative, step->inputs[j], e);
            continue;
        }
        derivative->input_arrays[j] = piece;
        memset(piece, 0, value->size * sizeof *piece);
        piece += (value->size + DERIVATIVE_ALIGNMENT - 1) / DERIVATIVE_ALIGNMENT *
                 DERIVATIVE_ALIGNMENT;
    }
    set_output_adjoints(derivative, step, e);
    call->node->op->backward(call, (const float *const *)derivative->output_arrays,
                             derivative->input_arrays);
}

/* Forms the gradients of all shared values that are not simple, for the first `count` examples,
   summed over the nodes that use them. */
static void form_shared(struct net_derivative *derivative, size_t count)
{
    memset(derivative->memory + derivative->shared_first, 0,
           derivative->shared_count * sizeof(float));
    for (size_t i = derivative->network->node_count; i-- > 0;) {
        const struct plan_step *step = &derivative->plan->steps[i];
        const struct derivative_step *own = &derivative->steps[i];
        if (own->kind == DERIVATIVE_UNIT && own->complex)
            for (size_t e = 0; e < count; e++)
                form_gradient(derivative, i, e, false, false);
        for (size_t e = 0; e < count && own->kind == DERIVATIVE_SHARED; e++) {
            for (size_t j = 0; j < step->input_count; j++)
                derivative->input_arrays[j] = derivative_shared_input(derivative, step, j)
                                                  ? shared_part(derivative, step->inputs[j], e)
                                                  : NULL;
            set_output_adjoints(derivative, step, e);
            step->call.node->op->backward(&step->call,
                                          (const float *const *)derivative->output_arrays,
                                          derivative->input_arrays);
        }
    }
}

/* The next parameter that keeps an array for every example, from value *i on. */
static bool next_shared(const struct net_derivative *derivative, size_t *i, size_t *parameter)
{
    for (; *i < derivative->network->value_count; ++*i) {
        *parameter = derivative_parameter(derivative, *i);
        if (*parameter != NET_NONE && derivative->values[*i].shared)
            return true;
    }
    return false;
}

static void unit_quadratic(struct net_derivative *derivative, size_t i,
                           const float *const *variance, size_t e, double *q)
{
    const struct plan_step *step = &derivative->plan->steps[i];
    const float *arranged = derivative->steps[i].arranged;
    if (arranged) {
        const struct net_call *call = unit_call(derivative, i, e);
        set_output_adjoints(derivative, step, e);
        *q += call->node->op->quadratic(call, derivative->output_arrays[0], arranged);
    }
    form_gradient(derivative, i, e, true, arranged != NULL);
    for (size_t j = 0; j < step->input_count; j++)
        if (derivative->input_arrays[j])
            *q += weighted_square(variance[simple_parameter(derivative, step, j)],
                                  derivative->input_arrays[j],
                                  derivative->values[step->inputs[j]].size);
}

void net_derivative_quadratic(struct net_derivative *derivative, const float *const *variance,
                              size_t count, double *q)
{
    size_t parameter;
    for (size_t e = 0; e < count; e++)
        q[e] = derivative->whole ? (double)NAN : 0;
    if (derivative->whole)
        return;
    sum_all_rows(derivative, variance);
    form_shared(derivative, count);
    for (size_t i = 0; next_shared(derivative, &i, &parameter); i++)
        for (size_t e = 0; e < count; e++)
            q[e] += weighted_square(variance[parameter], shared_part(derivative, i, e),
                                    derivative->values[i].size);
    for (size_t i = 0; i < derivative->network->node_count; i++) {
        if (derivative->steps[i].kind == DERIVATIVE_ROWS)
            rows_quadratic(derivative, i, variance, count, q);
        for (size_t e = 0; e < count && derivative->steps[i].kind == DERIVATIVE_UNIT; e++)
            unit_quadratic(derivative, i, variance, e, &q[e]);
    }
}

/* Tangents in the direction of each example's own Σ g. */

static void set_tangents(struct net_derivative *derivative, const struct plan_step *step, size_t e)
{
    for (size_t j = 0; j < step->input_count; j++) {
        size_t value = step->inputs[j];
        if (value == NET_NONE || !derivative->values[value].moves)
            derivative->input_arrays[j] = NULL;
        else if (derivative->values[value].each)
            derivative->input_arrays[j] = part(
                derivative, value, derivative->values[derivative_root(derivative, value)].tangent,
                e);
        else if (!derivative->values[value].simple)
            derivative->input_arrays[j] = shared_part(derivative, value, e);
    }
    for (size_t j = 0; j < step->output_count; j++) {
        size_t value = step->outputs[j];
        bool moves = value != NET_NONE && derivative->values[value].moves;
        const struct derivative_value *root =
            moves ? &derivative->values[derivative_root(derivative, value)] : NULL;
        derivative->output_arrays[j] = moves ? part(derivative, value,
                                                    root->each ? root->tangent : root->shared, e)
                                             : NULL;
    }
}

static void unit_tangent(struct net_derivative *derivative, size_t i, const float *const *variance,
                         size_t e)
{
    const struct plan_step *step = &derivative->plan->steps[i];
    form_gradient(derivative, i, e, true, false);
    for (size_t j = 0; j < step->input_count; j++)
        if (derivative->input_arrays[j])
            derivative_examples_multiply(derivative->input_arrays[j],
                                         variance[simple_parameter(derivative, step, j)],
                                         derivative->values[step->inputs[j]].size);
    set_tangents(derivative, step, e);
    const struct net_call *call = unit_call(derivative, i, e);
    call->node->op->tangent(call, (const float *const *)derivative->input_arrays,
                            derivative->output_arrays);
}

/* Of steps whose own parameters, if any, do not move the tile's examples apart. */
static void tile_tangent(struct net_derivative *derivative, const struct plan_step *step, size_t e)
{
    set_tangents(derivative, step, e);
    for (size_t j = 0; j < step->input_count; j++)
        if (step->inputs[j] != NET_NONE && derivative->values[step->inputs[j]].simple)
            derivative->input_arrays[j] = NULL;
    step->call.node->op->tangent(&step->call, (const float *const *)derivative->input_arrays,
                                 derivative->output_arrays);
}

const float *net_derivative_own_tangent(struct net_derivative *derivative,
                                        const float *const *variance, size_t count)
{
    size_t parameter;
    if (derivative->whole)
        return NULL;
    sum_all_rows(derivative, variance);
    form_shared(derivative, count);
    for (size_t i = 0; next_shared(derivative, &i, &parameter); i++)
        for (size_t e = 0; e < count; e++)
            derivative_examples_multiply(shared_part(derivative, i, e), variance[parameter],
                                         derivative->values[i].size);
    for (size_t i = 0; i < derivative->network->node_count; i++) {
        const struct plan_step *step = &derivative->plan->steps[i];
        enum derivative_kind kind = derivative->steps[i].kind;
        for (size_t e = 0; e < count && kind == DERIVATIVE_SHARED; e++)
            tile_tangent(derivative, step, e);
        if (kind == DERIVATIVE_PLAIN || kind == DERIVATIVE_ROWS)
            tile_tangent(derivative, step, 0);
        if (kind == DERIVATIVE_ROWS)
            rows_tangent(derivative, i, variance, derivative->output_arrays[0]);
        for (size_t e = 0; e < count && kind == DERIVATIVE_UNIT; e++)
            unit_tangent(derivative, i, variance, e);
    }
    size_t output = derivative_root(derivative, derivative->network->outputs[0]);
    return derivative->values[output].tangent;
}
