/*
 * A network with its derivatives with respect to its parameters, for a tile of examples at a time,
 * in one thread. With f (output 0) of example i, J_i = ∂f_i/∂θ and adjoints e_i given by the
 * caller, g_i = J_iᵀ e_i. The pieces of g_i are computed and used parameter by parameter: the whole
 * gradient of an example is never in memory, except for parameters that several nodes use.
 *
 * (Source: math.md, "Removing examples": Nickl et al., NeurIPS 2023, arXiv:2310.19273, whose Σ is
 * diagonal over parameters; here it is a net_metric, which may have blocks.)
 */
#ifndef NET_DERIVATIVE_DERIVATIVE_H
#define NET_DERIVATIVE_DERIVATIVE_H

#include "net/derivative/metric.h"
#include "net/plan/plan.h"
#include "net/graph/training.h"

struct net_derivative;

/*
 * `inputs` and `unit_inputs` give the network's inputs for `tile` examples and for one. `wanted`
 * tells for each parameter whether to differentiate with respect to it; it is copied. *tile becomes
 * 1 if the values of several examples would not lie one after the other, as in a network whose
 * batch axis is not the first. Fails if an operator in between has no derivative, or if more than
 * `memory` bytes are needed (IVON_ERROR_MEMORY; 0: no bound).
 *
 * `blocks`, which may be null, are those that metrics will have, by parameter: what they say of
 * parameters and extents is copied. Blocks of parameters that are not wanted are passed over; of a
 * block, both parameters must be wanted, or none.
 */
int net_derivative_new(struct net_derivative **derivative, const struct ivon_network *network,
                       const struct net_tensor *inputs, const struct net_tensor *unit_inputs,
                       size_t *tile, const bool *wanted, const struct net_block *const *blocks,
                       size_t memory, struct ivon_error *error);

/*
 * For the rows of uses (uses.h), and gradients of the parameters that have others, alone:
 * net_derivative_own_tangent and net_derivative_quadratic must not be called, and
 * net_derivative_gradients are NaN of weights whose uses are complete. It needs much less memory:
 * there are no tangents. Otherwise as net_derivative_new.
 */
int net_derivative_new_rows(struct net_derivative **derivative, const struct ivon_network *network,
                            const struct net_tensor *inputs, const struct net_tensor *unit_inputs,
                            size_t *tile, const bool *wanted, size_t memory,
                            struct ivon_error *error);

/*
 * For sums over a batch alone. Examples need not be separable: net_derivative_own_tangent is null
 * and net_derivative_quadratic NaN. The `inputs` may have their batch on any axis. It needs less
 * memory: the tangents use that of the adjoints. If `training` is not null, the network is in
 * training (net/graph/training.h); `training` must outlive the derivative. Otherwise as
 * net_derivative_new, which fails if the network is in training by itself.
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

/* Says where the runs take the masks of Dropout from, where the derivative is in training and has
   nodes that drop. */
void net_derivative_set_masks(struct net_derivative *derivative, const struct net_masks *masks);

/* Sets `statistics` to those of the last run, with unbiased variances: net_training_size doubles.
   The derivative must be in training. Nodes that no run needs get their running statistics. */
void net_derivative_statistics(const struct net_derivative *derivative, double *statistics);

/*
 * Propagates the adjoints e of output 0 (tile × K) back to every value, after a run. Where
 * `gradients` is not null, also ADDS Σ_i g_i to gradients[p], of parameter p's shape, for every
 * wanted parameter; null entries are passed over.
 */
void net_derivative_backward(struct net_derivative *derivative, const float *adjoints,
                             float *const *gradients);

/* J_i u for all examples, after a run: `direction` has an array for each wanted parameter. The
   result (tile × K) is borrowed until the next call; it is null if the output depends on no wanted
   parameter. */
const float *net_derivative_tangent(struct net_derivative *derivative,
                                    const float *const *direction);

/*
 * J_i Σ g_i for the first `count` examples, after net_derivative_backward. The blocks of Σ are
 * those that the derivative was made for, or it has none. The metric's lists and arrays must not
 * change while the derivative is used with it; the struct itself may. The result (tile × K) is
 * borrowed until the next call; it is null if the output depends on no wanted parameter.
 */
const float *net_derivative_own_tangent(struct net_derivative *derivative,
                                        const struct net_metric *metric, size_t count);

/* q[i] = g_iᵀ Σ g_i for the first `count` examples; other arguments as above. */
void net_derivative_quadratic(struct net_derivative *derivative, const struct net_metric *metric,
                              size_t count, double *q);

#endif
