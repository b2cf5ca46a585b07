/*
 * A covariance Σ over a network's parameters as derivatives meet it: diagonal, but for blocks. A
 * block is a weight, and maybe the bias that the same node adds, seen as one matrix X = [W | b] of
 * o rows, one for each output of the node, and n columns, one for each input and the bias:
 *
 *   Σ[X] = U_B (D ⊙ (U_Bᵀ X U_A)) U_Aᵀ
 *
 * with D element by element, and bases whose columns are orthonormal. (Source: math.md,
 * "Kronecker"; George et al. 2018, arXiv:1806.03884.)
 */
#ifndef NET_DERIVATIVE_METRIC_H
#define NET_DERIVATIVE_METRIC_H

#include <stdbool.h>
#include <stddef.h>

struct net_block {
    size_t weight, bias;       /* parameters of the network; bias NET_NONE: there is none */
    size_t rows, columns;      /* o and n, which counts the bias */
    bool transposed;           /* the weight is stored with a row for each input */
    const float *input_basis;  /* U_A: n × n; null: the identity */
    const float *output_basis; /* U_B: o × o; null: the identity */
    const float *diagonal;     /* D: o × n */
};

struct net_metric {
    const float *const *diagonal; /* of each wanted parameter that is in no block */
    /* The block that each parameter is in; null where it is in none, or for all. */
    const struct net_block *const *blocks;
};

/* The block of a parameter, or null. */
static inline const struct net_block *net_metric_block(const struct net_metric *metric,
                                                       size_t parameter)
{
    return metric->blocks ? metric->blocks[parameter] : NULL;
}

/* X from arrays of the parameters' shapes, of which null ones are zero; and back, past null
   ones. */
void net_block_gather(const struct net_block *block, const float *weight, const float *bias,
                      float *x);
void net_block_scatter(const struct net_block *block, const float *x, float *weight, float *bias);

/* X ← U_Bᵀ X U_A, and X ← U_B X U_Aᵀ. `scratch` has o × n floats. */
void net_block_rotate(const struct net_block *block, float *x, float *scratch);
void net_block_rotate_back(const struct net_block *block, float *x, float *scratch);

/* X ← Σ[X]; returns the sum of the products of both. `scratch` has o × n floats. */
double net_block_multiply(const struct net_block *block, float *x, float *scratch);

#endif
