/* Finds the elements of an example in the values of which Dropout drops some. */
#ifndef NET_PLAN_DROPOUT_H
#define NET_PLAN_DROPOUT_H

#include "net/graph/dropout.h"
#include "net/plan/plan.h"

/*
 * Compares the shapes for one example and for two: examples stand along the axis that is twice as
 * long, outermost where they share it with something else. `two` is null where only one example can
 * be run: it has all elements. Fails where the elements are not those of single examples. Nodes of
 * a branch that is not taken get no place.
 */
int net_dropouts_place(struct net_dropouts *dropouts, const struct ivon_network *network,
                       const struct net_tensor *one, const struct net_tensor *two,
                       struct ivon_error *error);

#endif
