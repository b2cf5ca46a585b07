/*
 * A network made ready to run at one set of input shapes, in one thread. Values that depend on
 * shapes and constants alone are computed when the plan is made; values that depend on parameters
 * alone, once for each set of parameters; the rest at each run. Memory is laid out once.
 */
#ifndef NET_PLAN_PLAN_H
#define NET_PLAN_PLAN_H

#include "net/graph/operator.h"

struct net_plan;

/*
 * `inputs` gives type, rank and shape of every network input, in the network's order. Fails when
 * the plan would take more than `memory` bytes (0: no bound). The network must outlive the plan;
 * several plans may share it.
 */
int net_plan_new(struct net_plan **plan, const struct ivon_network *network,
                 const struct net_tensor *inputs, size_t memory, struct ivon_error *error);
void net_plan_free(struct net_plan *plan);

/*
 * Sets the parameters, in order of binding, and computes what depends on them alone. The arrays
 * are borrowed, until they are set again, and 64-byte aligned. Not needed for a network without
 * parameters.
 */
int net_plan_set_parameters(struct net_plan *plan, const float *const *parameters,
                            struct ivon_error *error);

/* Computes the outputs from inputs, of the planned types and shapes, borrowed until the next
   run. */
int net_plan_run(struct net_plan *plan, const void *const *inputs, struct ivon_error *error);

/* Output `i`, valid until the next run; borrowed. Type and shape are known from the start. */
const struct net_tensor *net_plan_output(const struct net_plan *plan, size_t i);

/* Returns whether one element that depends on the data selects the values of all examples: then the
   outputs of several examples are not what each alone would have. */
bool net_plan_mixed(const struct net_plan *plan);

/* Bytes of memory that the plan holds. */
size_t net_plan_memory(const struct net_plan *plan);

/* Calls `observe` before each BatchNormalization of a run, with the node's call. */
int net_plan_observe(struct net_plan *plan,
                     void (*observe)(void *context, const struct net_call *call), void *context,
                     struct ivon_error *error);

#endif
