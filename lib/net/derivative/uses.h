/*
 * The uses of weights by products: at position t of an example a weight W meets a row a_t of inputs
 * and gives a row of outputs, whose adjoint is d_t, so that the example's gradient is
 * G = Σ_t d_t a_tᵀ. The curvature of a layer is estimated from these rows (math.md, "Kronecker").
 */
#ifndef NET_DERIVATIVE_USES_H
#define NET_DERIVATIVE_USES_H

#include "net/derivative/derivative.h"
#include "net/graph/operator.h"

/* One node's use of a wanted parameter as a matrix: Gemm, MatMul, a convolution of one group, or
   Gather, whose rows a_t have a single 1. */
struct net_use {
    size_t step, input;     /* the node; the weight is this input of it */
    size_t weight, bias;    /* parameters; bias: of the same node, one element for each output, used
                               by no other; or NET_NONE */
    size_t inputs, outputs; /* i and o; without the bias */
    size_t positions;       /* T, of one example */
    bool transposed;        /* the weight is stored with a row for each input */
    bool lookup;            /* a_t is given by the place of its 1 */
    bool planes;            /* an example's rows lie by columns, as the planes of images do */
    struct net_bands bands; /* of these; taps 0: planes do not overlap */
    bool complete;          /* the list has all uses of the weight: gradients are their sum */
};

/* Lists the uses, in the order of nodes, in memory of the derivative: they hold for its life. A
   derivative for sums has none. */
const struct net_use *net_derivative_uses(const struct net_derivative *derivative, size_t *count);

/*
 * The rows of the first `count` examples. Inputs, after a run: a matrix T × n for each example, and
 * of planes n × T, where n is inputs (+ 1 with a bias, which is 1); of a lookup `places` are set
 * instead. Factors that the node applies (alpha, beta) are in the rows of inputs. Adjoints, after
 * net_derivative_backward: T × C o, and of planes C o × T, of which column c of C has place c of C,
 * and is set. The array that is not set may be null.
 */
void net_derivative_use_inputs(struct net_derivative *derivative, const struct net_use *use,
                               size_t count, float *rows, int64_t *places);
void net_derivative_use_adjoints(struct net_derivative *derivative, const struct net_use *use,
                                 size_t count, size_t c, size_t columns, float *rows);

/* The place of number i of row t of example e, in rows of `width` numbers. */
static inline size_t net_use_place(const struct net_use *use, size_t e, size_t t, size_t i,
                                   size_t width)
{
    return e * use->positions * width + (use->planes ? i * use->positions + t : t * width + i);
}

/* The inputs of planes that overlap, as bands: of each example inputs / taps bands, and with a bias
   one of ones. */
void net_derivative_use_bands(struct net_derivative *derivative, const struct net_use *use,
                              size_t count, float *bands);

/* The gradients g_i of the first `count` examples with respect to one wanted parameter, summed over
   all its uses, after net_derivative_backward: count × its size, set. NaN of a derivative for
   sums, and of one for rows where these tell all. */
void net_derivative_gradients(struct net_derivative *derivative, size_t parameter, size_t count,
                              float *gradients);

/* The adjoints of output 0 that the last net_derivative_backward was given, until a tangent is
   asked of a derivative for sums: tile × K. Null if the output depends on no wanted parameter. */
const float *net_derivative_output_adjoint(const struct net_derivative *derivative);

#endif
