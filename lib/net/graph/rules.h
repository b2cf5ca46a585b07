/* The functions that shape rules share. */
#ifndef NET_GRAPH_RULES_H
#define NET_GRAPH_RULES_H

#include "net/graph/operator.h"

/* Input i, or null where it is left out. */
const struct net_tensor *net_input(const struct net_call *call, size_t i);

/* Sets the elements of input i, a list of integers such as a shape; null and 0 if it is left out.
   Fails if they are not known yet. `what` is for messages: "the shape". */
int net_known_list(const struct net_call *call, size_t i, const char *what, const int64_t **values,
                   size_t *count, struct ivon_error *error);

/* The same where older versions of the operator have the list as an attribute of that name. */
int net_attribute_or_list(const struct net_call *call, size_t i, const char *name,
                          const int64_t **values, size_t *count, struct ivon_error *error);

/* The same for a shape of extents that are not negative. */
int net_known_shape(const struct net_call *call, size_t i, const int64_t **values, int *rank,
                    struct ivon_error *error);

/* Returns the axis along which a tile holds more examples than one: the first whose extents differ;
   -1 if there is none. */
int net_example_axis(const struct net_tensor *tile, const struct net_tensor *example);

/* Sets output i, if it is wanted; the error names the node. */
int net_output(const struct net_call *call, size_t i, enum net_type type, int rank,
               const int64_t *shape, struct ivon_error *error);

/* The same for an output whose size depends on a few numbers in a file: at most 2^31 elements, or
   no more than `least`. */
int net_output_made(const struct net_call *call, size_t i, enum net_type type, int rank,
                    const int64_t *shape, size_t least, struct ivon_error *error);

#endif
