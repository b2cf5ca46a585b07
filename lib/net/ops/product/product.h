/* Matrix products, for other files as well. */
#ifndef NET_OPS_PRODUCT_PRODUCT_H
#define NET_OPS_PRODUCT_PRODUCT_H

#include "net/graph/operator.h"

/* The product that MatMul and Gemm prepare, as do other operators that are one at their shapes: m ×
   k by k × n matrices for each index of the batch axes. */
struct net_matmul {
    bool transpose_a, transpose_b; /* an operand is stored with its last two axes exchanged */
    int64_t m, n, k;
    int64_t lda, ldb; /* distances of rows as stored; 0: they lie one behind the other */
    int batch_rank;   /* 0: one product */
    int64_t batch[IVON_RANK_MAX];
    size_t batch_count;
    size_t step_a[IVON_RANK_MAX], step_b[IVON_RANK_MAX]; /* elements; 0 where broadcast */
    /* n elements that forward of MatMul adds to each row, which only plans set; or null. */
    const struct net_tensor *bias;
};

/* y += alpha op(a) op(b) */
void net_matmul_add(const struct net_matmul *product, float alpha, const float *a, const float *b,
                    float *y);

/* da += alpha dy op(b)ᵀ and db += alpha op(a)ᵀ dy, each stored as its operand is, where they are
   wanted. */
void net_matmul_adjoints(const struct net_matmul *product, float alpha, const float *a,
                         const float *b, const float *dy, float *da, float *db);

/* The vectors of an operand that the product sums over, times alpha: rows of op(a) or, with
   `right`, columns of op(b). Sets the first `count` of the whole batch, of k elements each,
   `stride` floats apart. */
void net_matmul_vectors(const struct net_matmul *product, bool right, float alpha,
                        const float *operand, size_t count, size_t stride, float *vectors);

/* The functions of the row Gemm, for operators that go on from its output. */
int net_gemm_infer(struct net_call *call, struct ivon_error *error);
int net_gemm_forward(const struct net_call *call, struct ivon_error *error);
void net_gemm_backward(const struct net_call *call, const float *const *output_adjoints,
                       float *const *input_adjoints);
void net_gemm_tangent(const struct net_call *call, const float *const *input_tangents,
                      float *const *output_tangents);

#endif
