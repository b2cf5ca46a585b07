/*
 * A network with its derivatives with respect to its parameters, for a tile of examples at a time,
 * in one thread. With f (output 0) of example i, J_i = ∂f_i/∂θ and adjoints e_i given by the
 * caller, g_i = J_iᵀ e_i. What is formed of g_i is formed in pieces, parameter by parameter: no
 * example's whole gradient is ever in memory, but for parameters that several nodes use.
 *
 * (Source: math.md, "Removing examples": Nickl et al., NeurIPS 2023, arXiv:2310.19273, whose Σ is
 * diagonal over parameters.)
 */
#ifndef NET_DERIVATIVE_DERIVATIVE_H
#define NET_DERIVATIVE_DERIVATIVE_H

#include "net/plan/plan.h"
#include "net/graph/training.h"

struct net_derivative;

/*
 * `inputs` and `unit_inputs` give the network's inputs for `tile` examples and for one. `wanted`
 * says of each parameter whether derivatives are taken with respect to it; it is copied. *tile
 * becomes 1 where the values of several examples would not lie one after the other, as in a network
 * that keeps its batch on another axis than the first. Fails where an operator on the way has no
 * derivative, and where more than `memory` bytes would be taken (IVON_ERROR_MEMORY; 0: no bound).
 */
int net_derivative_new(struct net_derivative **derivative, const struct ivon_network *network,
                       const struct net_tensor *inputs, const struct net_tensor *unit_inputs,
                       size_t *tile, const bool *wanted, size_t memory, struct ivon_error *error);

/*
 * For sums over a batch alone, where it is of no interest, or not true, that each example has its
 * own part: net_derivative_own_tangent is null and net_derivative_quadratic NaN. Takes the `inputs`
 * as they are, wherever their examples lie, and less memory: the tangents take that of the
 * adjoints. Where `training` is not null, the network is in training (net/graph/training.h); it
 * must outlive the derivative. Otherwise as net_derivative_new, which fails where the network is in
 * training by itself.
 */
int net_derivative_new_summed(struct net_derivative **derivative,
                              const struct ivon_network *network,
                              const struct net_training *training, const struct net_tensor *inputs,
                              const bool *wanted, size_t memory, struct ivon_error *error);
void net_derivative_free(struct net_derivative *derivative);

/* Bytes of memory that it holds. */
size_t net_derivative_memory(const struct net_derivative *derivative);

/* As net_plan_set_parameters, net_plan_run, net_plan_output. */
int net_derivative_set_parameters(struct net_derivative *derivative, const float *const *parameters,
                                  struct ivon_error *error);
int net_derivative_run(struct net_derivative *derivative, const void *const *inputs,
                       struct ivon_error *error);
const struct net_tensor *net_derivative_output(const struct net_derivative *derivative);

/* Sets `statistics` to those of the last run, of a derivative that is in training, with unbiased
   variances: net_training_size doubles. Of nodes that no run needs, to the running ones. */
void net_derivative_statistics(const struct net_derivative *derivative, double *statistics);

/*
 * Propagates the adjoints e of output 0 (tile × K) back to every value, after a run. Where
 * `gradients` is not null, also ADDS Σ_i g_i to gradients[p], of parameter p's shape, for every
 * wanted parameter; null entries are passed over.
 */
void net_derivative_backward(struct net_derivative *derivative, const float *adjoints,
                             float *const *gradients);

/* J_i u for all examples, after a run: `direction` has an array for each wanted parameter. The
   result (tile × K) is borrowed until the next call; null where no wanted parameter moves the
   output. */
const float *net_derivative_tangent(struct net_derivative *derivative,
                                    const float *const *direction);

/* J_i Σ g_i for the first `count` examples, after net_derivative_backward. Σ is diagonal, its
   arrays keep their numbers while the derivative is used, and variance[p] is its share of wanted
   parameter p. The result (tile × K) is borrowed until the next call; null where no wanted
   parameter moves the output. */
const float *net_derivative_own_tangent(struct net_derivative *derivative,
                                        const float *const *variance, size_t count);

/* q[i] = g_iᵀ Σ g_i of the first `count` examples, likewise. */
void net_derivative_quadratic(struct net_derivative *derivative, const float *const *variance,
                              size_t count, double *q);

#endif
