/* Computations for each example of a tile: its own gradient, multiplied by Σ, and the quadratic
   form. */
#include <math.h>
#include <string.h>

#include "core/blas.h"
#include "core/dispatch.h"
#include "net/derivative/private.h"
#include "net/ops/product/product.h"
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
struct rank_one {
    bool matrix;
    float alpha, beta;
    size_t bias; /* input, or NET_NONE */
};

static struct rank_one rank_one_factors(const struct net_derivative *derivative,
                                        const struct plan_step *step)
{
    struct rank_one factors = {.alpha = 1, .beta = 1, .bias = NET_NONE};
    if (step->call.node->op->flags & NET_SUM) {
        factors.bias = derivative_shared_input(derivative, step, 0) ? 0 : 1;
        return factors;
    }
    factors.matrix = derivative_shared_input(derivative, step, 1);
    factors.alpha = (float)net_attribute_number(step->call.node, "alpha", 1);
    factors.beta = (float)net_attribute_number(step->call.node, "beta", 1);
    if (step->input_count > 2 && derivative_shared_input(derivative, step, 2))
        factors.bias = 2;
    return factors;
}

static bool is_bias(const struct net_derivative *derivative, const struct plan_step *step,
                    size_t input)
{
    const struct derivative_value *output = &derivative->values[step->outputs[0]];
    const struct derivative_value *bias = &derivative->values[step->inputs[input]];
    return bias->single_use && bias->size == output->size;
}

bool derivative_is_rank_one(const struct net_derivative *derivative, const struct plan_step *step)
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
                   derivative->values[step->inputs[0]].per_example;
    bool bias = step->input_count > 2 && derivative_shared_input(derivative, step, 2);
    return one_row && (!second || derivative->values[step->inputs[1]].single_use) &&
           (!bias || is_bias(derivative, step, 2));
}

static size_t single_use_parameter(const struct net_derivative *derivative,
                                   const struct plan_step *step, size_t input)
{
    return derivative_parameter(derivative, derivative_root(derivative, step->inputs[input]));
}

/* Computes s = (a ⊙ a) Σ_W, once per run for all passes. */
static void derivative_compute_row_sums(struct net_derivative *derivative, size_t i,
                                        const float *const *diagonal)
{
    const struct plan_step *step = &derivative->plan->steps[i];
    const struct net_matmul *p = step->call.node->op->product(&step->call);
    square(derivative->squares, step->call.inputs[0]->data, step->call.inputs[0]->count);
    blas_product(false, p->transpose_b, p->m, p->n, p->k, 1, derivative->squares, p->k ? p->k : 1,
                 diagonal[single_use_parameter(derivative, step, 1)],
                 p->transpose_b ? (p->k ? p->k : 1) : (p->n ? p->n : 1), 0,
                 derivative->steps[i].row_sums, p->n ? p->n : 1);
}

static void update_row_sums(struct net_derivative *derivative, const float *const *diagonal)
{
    if (derivative->row_sums_current)
        return;
    for (size_t i = 0; i < derivative->network->node_count; i++) {
        struct derivative_step *own = &derivative->steps[i];
        const struct plan_step *step = &derivative->plan->steps[i];
        const float *input_diagonal = own->arranged
                                          ? diagonal[single_use_parameter(derivative, step, 1)]
                                          : NULL;
        if (input_diagonal != own->arranged_from)
            step->call.node->op->arrange(&derivative->unit->steps[i].call, input_diagonal,
                                         own->arranged);
        own->arranged_from = input_diagonal;
        if (derivative->steps[i].kind == DERIVATIVE_RANK_ONE &&
            rank_one_factors(derivative, &derivative->plan->steps[i]).matrix)
            derivative_compute_row_sums(derivative, i, diagonal);
    }
    derivative->row_sums_current = true;
}

static const float *output_adjoint(const struct net_derivative *derivative,
                                   const struct plan_step *step, size_t j)
{
    size_t value = step->outputs[j];
    return value == NET_NONE || !derivative->values[value].active
               ? NULL
               : derivative->values[derivative_root(derivative, value)].adjoint;
}

static void rank_one_quadratic(struct net_derivative *derivative, size_t i,
                               const float *const *diagonal, size_t count, double *q)
{
    const struct plan_step *step = &derivative->plan->steps[i];
    struct rank_one factors = rank_one_factors(derivative, step);
    size_t size = derivative->values[step->outputs[0]].size;
    const float *d = output_adjoint(derivative, step, 0);
    const float *s = derivative->steps[i].row_sums;
    const float *b = factors.bias == NET_NONE
                         ? NULL
                         : diagonal[single_use_parameter(derivative, step, factors.bias)];
    double alpha = (double)factors.alpha * (double)factors.alpha;
    double beta = (double)factors.beta * (double)factors.beta;
    for (size_t e = 0; e < count; e++) {
        if (factors.matrix)
            q[e] += alpha * weighted_square(s + e * size, d + e * size, size);
        if (b)
            q[e] += beta * weighted_square(b, d + e * size, size);
    }
}

/* Adds the part of the tangent that comes from the rows' own parameters, not from their inputs. */
static void rank_one_tangent(struct net_derivative *derivative, size_t i,
                             const float *const *diagonal, float *tangent)
{
    const struct plan_step *step = &derivative->plan->steps[i];
    struct rank_one factors = rank_one_factors(derivative, step);
    size_t size = derivative->values[step->outputs[0]].size;
    const float *d = output_adjoint(derivative, step, 0);
    if (factors.matrix)
        add_products(tangent, factors.alpha * factors.alpha, d, derivative->steps[i].row_sums,
                     derivative->tile * size);
    if (factors.bias == NET_NONE)
        return;
    const float *b = diagonal[single_use_parameter(derivative, step, factors.bias)];
    for (size_t e = 0; e < derivative->tile; e++)
        add_products(tangent + e * size, factors.beta * factors.beta, d + e * size, b, size);
}

/* One example at a time. */

/* Sets the address of a value in the unit plan to example e's slice of the tile. */
static void point_value(struct net_derivative *derivative, size_t value, size_t e)
{
    if (value == NET_NONE || derivative->unit == derivative->plan)
        return;
    const struct plan_value *from = &derivative->plan->values[value];
    struct net_tensor *to = &derivative->unit->values[value].tensor;
    const struct derivative_value *own = &derivative->values[value];
    if (from->stage == PLAN_KNOWN)
        return;
    size_t offset = own->per_example ? e * own->size * net_type_size(from->tensor.type) : 0;
    to->data = from->tensor.data ? (char *)from->tensor.data + offset : NULL;
}

/* The call of step i for example e alone. */
static const struct net_call *unit_call(struct net_derivative *derivative, size_t i, size_t e)
{
    const struct plan_step *step = &derivative->plan->steps[i];
    for (size_t j = 0; j < step->input_count; j++)
        point_value(derivative, step->inputs[j], e);
    for (size_t j = 0; j < step->output_count; j++)
        point_value(derivative, step->outputs[j], e);
    return &derivative->unit->steps[i].call;
}

/* Example e's part of an array that is kept for the whole tile. */
static float *example_part(const struct net_derivative *derivative, size_t value, float *array,
                           size_t e)
{
    return array ? array + e * derivative->values[value].size : NULL;
}

static void set_output_adjoints(struct net_derivative *derivative, const struct plan_step *step,
                                size_t e)
{
    for (size_t j = 0; j < step->output_count; j++) {
        size_t value = step->outputs[j];
        bool active = value != NET_NONE && derivative->values[value].active;
        const struct derivative_value *root =
            active ? &derivative->values[derivative_root(derivative, value)] : NULL;
        derivative->output_arrays[j] =
            active ? example_part(derivative, value,
                                  root->per_example ? root->adjoint : root->shared, e)
                   : NULL;
    }
}

/* The array of example e for a shared root that is not single-use. */
static float *shared_part(const struct net_derivative *derivative, size_t value, size_t e)
{
    return example_part(derivative, value,
                        derivative->values[derivative_root(derivative, value)].shared, e);
}

/*
 * Computes example e's gradient at step i. With `single_use`, the gradients of single-use
 * parameters go to `piece`, and input_arrays point into it. Otherwise the gradients of the other
 * shared inputs are added to their arrays. skip_input_1 leaves out input 1.
 */
static void form_gradient(struct net_derivative *derivative, size_t i, size_t e, bool single_use,
                          bool skip_input_1)
{
    const struct plan_step *step = &derivative->plan->steps[i];
    const struct net_call *call = unit_call(derivative, i, e);
    float *piece = derivative->piece;
    for (size_t j = 0; j < step->input_count; j++) {
        derivative->input_arrays[j] = NULL;
        if (!derivative_shared_input(derivative, step, j))
            continue;
        const struct derivative_value *value = &derivative->values[step->inputs[j]];
        if (value->single_use != single_use || (skip_input_1 && j == 1))
            continue;
        if (!single_use) {
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

/* Computes the gradients of all shared values that are not single-use, for the first `count`
   examples, summed over the nodes that use them. */
static void form_shared(struct net_derivative *derivative, size_t count)
{
    memset(derivative->memory + derivative->shared_first, 0,
           derivative->shared_count * sizeof(float));
    for (size_t i = derivative->network->node_count; i-- > 0;) {
        const struct plan_step *step = &derivative->plan->steps[i];
        const struct derivative_step *own = &derivative->steps[i];
        if (own->kind == DERIVATIVE_UNIT && own->multi_use)
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

/* Finds the next parameter, from value *i on, that keeps an array for every example. */
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
                           const float *const *diagonal, size_t e, double *q)
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
            *q += weighted_square(diagonal[single_use_parameter(derivative, step, j)],
                                  derivative->input_arrays[j],
                                  derivative->values[step->inputs[j]].size);
}

void net_derivative_quadratic(struct net_derivative *derivative, const float *const *diagonal,
                              size_t count, double *q)
{
    size_t parameter;
    for (size_t e = 0; e < count; e++)
        q[e] = derivative->whole ? (double)NAN : 0;
    if (derivative->whole)
        return;
    update_row_sums(derivative, diagonal);
    form_shared(derivative, count);
    for (size_t i = 0; next_shared(derivative, &i, &parameter); i++)
        for (size_t e = 0; e < count; e++)
            q[e] += weighted_square(diagonal[parameter], shared_part(derivative, i, e),
                                    derivative->values[i].size);
    for (size_t i = 0; i < derivative->network->node_count; i++) {
        if (derivative->steps[i].kind == DERIVATIVE_RANK_ONE)
            rank_one_quadratic(derivative, i, diagonal, count, q);
        for (size_t e = 0; e < count && derivative->steps[i].kind == DERIVATIVE_UNIT; e++)
            unit_quadratic(derivative, i, diagonal, e, &q[e]);
    }
}

/* Tangents in the direction of each example's own Σ g. */

static void set_tangents(struct net_derivative *derivative, const struct plan_step *step, size_t e)
{
    for (size_t j = 0; j < step->input_count; j++) {
        size_t value = step->inputs[j];
        if (value == NET_NONE || !derivative->values[value].active)
            derivative->input_arrays[j] = NULL;
        else if (derivative->values[value].per_example)
            derivative->input_arrays[j] = example_part(
                derivative, value, derivative->values[derivative_root(derivative, value)].tangent,
                e);
        else if (!derivative->values[value].single_use)
            derivative->input_arrays[j] = shared_part(derivative, value, e);
    }
    for (size_t j = 0; j < step->output_count; j++) {
        size_t value = step->outputs[j];
        bool active = value != NET_NONE && derivative->values[value].active;
        const struct derivative_value *root =
            active ? &derivative->values[derivative_root(derivative, value)] : NULL;
        derivative->output_arrays[j] =
            active ? example_part(derivative, value,
                                  root->per_example ? root->tangent : root->shared, e)
                   : NULL;
    }
}

static void unit_tangent(struct net_derivative *derivative, size_t i, const float *const *diagonal,
                         size_t e)
{
    const struct plan_step *step = &derivative->plan->steps[i];
    form_gradient(derivative, i, e, true, false);
    for (size_t j = 0; j < step->input_count; j++)
        if (derivative->input_arrays[j])
            derivative_examples_multiply(derivative->input_arrays[j],
                                         diagonal[single_use_parameter(derivative, step, j)],
                                         derivative->values[step->inputs[j]].size);
    set_tangents(derivative, step, e);
    const struct net_call *call = unit_call(derivative, i, e);
    call->node->op->tangent(call, (const float *const *)derivative->input_arrays,
                            derivative->output_arrays);
}

/* Computes tangents without the part of single-use parameters, which rank_one_tangent adds. */
static void tile_tangent(struct net_derivative *derivative, const struct plan_step *step, size_t e)
{
    set_tangents(derivative, step, e);
    for (size_t j = 0; j < step->input_count; j++)
        if (step->inputs[j] != NET_NONE && derivative->values[step->inputs[j]].single_use)
            derivative->input_arrays[j] = NULL;
    step->call.node->op->tangent(&step->call, (const float *const *)derivative->input_arrays,
                                 derivative->output_arrays);
}

const float *net_derivative_own_tangent(struct net_derivative *derivative,
                                        const float *const *diagonal, size_t count)
{
    size_t parameter;
    if (derivative->whole)
        return NULL;
    update_row_sums(derivative, diagonal);
    form_shared(derivative, count);
    for (size_t i = 0; next_shared(derivative, &i, &parameter); i++)
        for (size_t e = 0; e < count; e++)
            derivative_examples_multiply(shared_part(derivative, i, e), diagonal[parameter],
                                         derivative->values[i].size);
    for (size_t i = 0; i < derivative->network->node_count; i++) {
        const struct plan_step *step = &derivative->plan->steps[i];
        enum derivative_kind kind = derivative->steps[i].kind;
        for (size_t e = 0; e < count && kind == DERIVATIVE_SHARED; e++)
            tile_tangent(derivative, step, e);
        if (kind == DERIVATIVE_PLAIN || kind == DERIVATIVE_RANK_ONE)
            tile_tangent(derivative, step, 0);
        if (kind == DERIVATIVE_RANK_ONE)
            rank_one_tangent(derivative, i, diagonal, derivative->output_arrays[0]);
        for (size_t e = 0; e < count && kind == DERIVATIVE_UNIT; e++)
            unit_tangent(derivative, i, diagonal, e);
    }
    size_t output = derivative_root(derivative, derivative->network->outputs[0]);
    return derivative->values[output].tangent;
}
