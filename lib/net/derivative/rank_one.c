/*
 * Gradients of rank one. Where a row a of each example meets a matrix, y = α a W + β b, and d is
 * y's adjoint, the gradients are α aᵀ d and β d. So the tangent of y in the direction Σ g is
 * α ȧ W + α² d ⊙ s + β² d ⊙ σ_b² with s = (a ⊙ a) Σ_W, and gᵀ Σ g = α² Σ d² s + β² Σ d² σ_b².
 *
 * In a block, with a' = [α a, β] U_A and d' = d U_B, Σ g is U_B (D ⊙ d' a'ᵀ) U_Aᵀ. So the tangent's
 * part is (d' ⊙ s') U_Bᵀ with s' = (a' ⊙ a') Dᵀ, and gᵀ Σ g = Σ d'² s': with the bias, if the block
 * has it.
 */
#include <string.h>

#include "core/blas.h"
#include "net/derivative/private.h"
#include "net/derivative/vectors.h"
#include "net/ops/product/product.h"

/* One step's part, for one metric. */
struct rank_one {
    bool matrix;
    float alpha, beta;
    size_t bias;                   /* input, or NET_NONE */
    const struct net_block *block; /* of the matrix, or null */
};

static struct rank_one rank_one_factors(const struct net_derivative *derivative,
                                        const struct plan_step *step,
                                        const struct net_metric *metric)
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
    if (factors.matrix)
        factors.block = net_metric_block(metric, derivative_input_parameter(derivative, step, 1));
    return factors;
}

/* Returns whether the bias is a column of the matrix's block. */
static bool rank_one_has_bias(const struct rank_one *factors)
{
    return factors->block && factors->block->bias != NET_NONE;
}

/* The diagonal of a bias that is not in the matrix's block, or null. */
static const float *rank_one_bias(const struct net_derivative *derivative,
                                  const struct plan_step *step, const struct rank_one *factors,
                                  const struct net_metric *metric)
{
    if (factors->bias == NET_NONE || rank_one_has_bias(factors))
        return NULL;
    return metric->diagonal[derivative_input_parameter(derivative, step, factors->bias)];
}

static bool is_bias(const struct net_derivative *derivative, const struct plan_step *step,
                    size_t input)
{
    const struct derivative_value *output = &derivative->values[step->outputs[0]];
    const struct derivative_value *bias = &derivative->values[step->inputs[input]];
    return bias->single_use && bias->size == output->size;
}

/* Returns whether the parameters of a product are in no block, or in one as the product sees
   them. */
static bool rank_one_fits(const struct net_derivative *derivative, const struct plan_step *step,
                          const struct net_matmul *product, bool matrix, bool bias)
{
    size_t weight = matrix ? derivative_input_parameter(derivative, step, 1) : NET_NONE;
    size_t added = bias ? derivative_input_parameter(derivative, step, 2) : NET_NONE;
    const struct net_block *block = derivative_block(derivative, weight);
    if (!block)
        return !derivative_block(derivative, added);
    return block->weight == weight && block->rows == (size_t)product->n &&
           block->transposed != product->transpose_b &&
           (block->bias == NET_NONE ? !derivative_block(derivative, added) : block->bias == added);
}

bool derivative_is_rank_one(const struct net_derivative *derivative, const struct plan_step *step)
{
    const struct net_operator *op = step->call.node->op;
    bool first = derivative_shared_input(derivative, step, 0);
    bool second = derivative_shared_input(derivative, step, 1);
    if (op->flags & NET_SUM) {
        size_t input = first ? 0 : 1;
        return first != second && is_bias(derivative, step, input) &&
               !derivative_block(derivative, derivative_input_parameter(derivative, step, input));
    }
    const struct net_matmul *product = op->product ? op->product(&step->call) : NULL;
    if (!product || first)
        return false;
    bool one_row = !product->transpose_a && product->batch_count == 1 &&
                   product->m == (int64_t)derivative->tile &&
                   derivative->values[step->inputs[0]].per_example;
    bool bias = step->input_count > 2 && derivative_shared_input(derivative, step, 2);
    return one_row && (!second || derivative->values[step->inputs[1]].single_use) &&
           (!bias || is_bias(derivative, step, 2)) &&
           rank_one_fits(derivative, step, product, second, bias);
}

/* Computes a' of a block: a row for each example. */
static void rank_one_rotate(const struct rank_one *factors, const struct net_matmul *p,
                            const float *a, float *rotated)
{
    const struct net_block *block = factors->block;
    size_t columns = block->columns, inputs = (size_t)p->k;
    bool bias = rank_one_has_bias(factors);
    const float *last = bias && block->input_basis ? block->input_basis + inputs * columns : NULL;
    for (int64_t e = 0; e < p->m; e++) {
        float *row = rotated + (size_t)e * columns;
        for (size_t i = 0; i < columns && last; i++)
            row[i] = factors->beta * last[i];
        for (size_t i = 0; i < inputs && !block->input_basis; i++)
            row[i] = factors->alpha * a[(size_t)e * inputs + i];
        if (bias && !block->input_basis)
            row[inputs] = factors->beta;
    }
    if (block->input_basis)
        blas_product(false, false, p->m, (int64_t)columns, p->k, factors->alpha, a, p->k ? p->k : 1,
                     block->input_basis, columns ? (int64_t)columns : 1, bias, rotated,
                     columns ? (int64_t)columns : 1);
}

/* Computes s or s', once per run for all passes. */
static void rank_one_sums(struct net_derivative *derivative, size_t i,
                          const struct net_metric *metric)
{
    const struct plan_step *step = &derivative->plan->steps[i];
    const struct net_matmul *p = step->call.node->op->product(&step->call);
    struct rank_one factors = rank_one_factors(derivative, step, metric);
    const struct net_block *block = factors.block;
    const float *a = step->call.inputs[0]->data;
    int64_t n = p->n ? p->n : 1, k = p->k;
    if (block) {
        k = (int64_t)block->columns;
        rank_one_rotate(&factors, p, a, derivative->squares);
        derivative_square(derivative->squares, (size_t)p->m * block->columns);
    } else {
        derivative_products(derivative->squares, a, a, step->call.inputs[0]->count);
    }
    bool by_row = block || p->transpose_b;
    blas_product(false, by_row, p->m, p->n, k, 1, derivative->squares, k ? k : 1,
                 block ? block->diagonal
                       : metric->diagonal[derivative_input_parameter(derivative, step, 1)],
                 by_row ? (k ? k : 1) : n, 0, derivative->steps[i].row_sums, n);
}

void derivative_rank_one_update(struct net_derivative *derivative, size_t i,
                                const struct net_metric *metric)
{
    if (rank_one_factors(derivative, &derivative->plan->steps[i], metric).matrix)
        rank_one_sums(derivative, i, metric);
}

/* Returns d' of the whole tile: d itself where nothing rotates it. */
static const float *rank_one_adjoint(struct net_derivative *derivative, size_t size,
                                     const struct net_block *block, const float *d)
{
    int64_t columns = size ? (int64_t)size : 1;
    if (!block || !block->output_basis)
        return d;
    blas_product(false, false, (int64_t)derivative->tile, (int64_t)size, (int64_t)size, 1, d,
                 columns, block->output_basis, columns, 0, derivative->rotated, columns);
    return derivative->rotated;
}

void derivative_rank_one_quadratic(struct net_derivative *derivative, size_t i,
                                   const struct net_metric *metric, size_t count, double *q)
{
    const struct plan_step *step = &derivative->plan->steps[i];
    struct rank_one factors = rank_one_factors(derivative, step, metric);
    size_t size = derivative->values[step->outputs[0]].size;
    const float *d = derivative_output_adjoint(derivative, step, 0);
    const float *turned = rank_one_adjoint(derivative, size, factors.block, d);
    const float *s = derivative->steps[i].row_sums;
    const float *b = rank_one_bias(derivative, step, &factors, metric);
    double alpha = factors.block ? 1 : (double)factors.alpha * (double)factors.alpha;
    double beta = (double)factors.beta * (double)factors.beta;
    for (size_t e = 0; e < count; e++) {
        if (factors.matrix)
            q[e] += alpha * derivative_weighted_square(s + e * size, turned + e * size, size);
        if (b)
            q[e] += beta * derivative_weighted_square(b, d + e * size, size);
    }
}

/* tangent += (d' ⊙ s') U_Bᵀ */
static void rank_one_add(struct net_derivative *derivative, size_t size,
                         const struct net_block *block, const float *d, const float *s,
                         float *tangent)
{
    int64_t columns = size ? (int64_t)size : 1;
    float *rotated = derivative->rotated;
    if (!block->output_basis) {
        derivative_add_products(tangent, 1, d, s, derivative->tile * size);
        return;
    }
    rank_one_adjoint(derivative, size, block, d);
    derivative_multiply(rotated, s, derivative->tile * size);
    blas_product(false, true, (int64_t)derivative->tile, (int64_t)size, (int64_t)size, 1, rotated,
                 columns, block->output_basis, columns, 1, tangent, columns);
}

void derivative_rank_one_tangent(struct net_derivative *derivative, size_t i,
                                 const struct net_metric *metric, float *tangent)
{
    const struct plan_step *step = &derivative->plan->steps[i];
    struct rank_one factors = rank_one_factors(derivative, step, metric);
    size_t size = derivative->values[step->outputs[0]].size;
    const float *d = derivative_output_adjoint(derivative, step, 0);
    const float *s = derivative->steps[i].row_sums;
    const float *b = rank_one_bias(derivative, step, &factors, metric);
    if (factors.block)
        rank_one_add(derivative, size, factors.block, d, s, tangent);
    else if (factors.matrix)
        derivative_add_products(tangent, factors.alpha * factors.alpha, d, s,
                                derivative->tile * size);
    for (size_t e = 0; e < derivative->tile && b; e++)
        derivative_add_products(tangent + e * size, factors.beta * factors.beta, d + e * size, b,
                                size);
}
