/* The parts of binding a checkpoint to a graph: by name in bind.c, by value in recognise.c. */
#ifndef NET_GRAPH_BIND_H
#define NET_GRAPH_BIND_H

#include "net/graph/graph.h"

/* The ways in which the outputs need a value, as bits; 0: they do not need it. */
enum graph_use { GRAPH_SETTING = 1 /* of an operator: no weight */, GRAPH_USED = 2 };

/* The value that a checkpoint's tensor of that name is, or NET_NONE: of that name, or of that name
   behind a slash, as no tensor is called. */
size_t graph_place(const struct ivon_network *network, const char *name);

/* Makes a value the parameter or the constant that a tensor of the checkpoint is. */
int graph_bind_tensor(struct ivon_network *network, struct ivon_source *source, size_t index,
                      size_t value, struct ivon_error *error);

/* Returns, for each value, whether a layer applies it, or what is computed from it, to data: values
   are a layer's weights where operators say so (net/graph/operator.h). Null: no memory. */
bool *graph_layer_weights(const struct ivon_network *network);

/* Returns whether the outputs need a value that is a weight, as far as its shape tells, and the
   graph's own: floats to which nothing is bound, but for single numbers in the graph's text. `uses`
   are of enum graph_use, one for each value. */
bool graph_keeps_weight(const struct ivon_network *network, const unsigned char *uses,
                        size_t value);

/*
 * Binds means to weights that the graph keeps, among its first `value_count` values: where the
 * checkpoint has the weight's name as a second name of a mean; and where the weight equals a mean,
 * in its shape, in another, or transposed. Counts the latter in unbound->recognised. Sets *copied
 * to the first operand of a matrix product that has the shape of a transposed mean and the values
 * of none; null: there is none.
 */
int graph_recognise(struct ivon_network *network, struct ivon_source *source,
                    const unsigned char *uses, size_t value_count, const char **copied,
                    struct ivon_unbound *unbound, struct ivon_error *error);

#endif
