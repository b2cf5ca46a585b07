/* Nodes that are added to a network after it was read. graph_finish sorts them in. */
#ifndef NET_GRAPH_APPEND_H
#define NET_GRAPH_APPEND_H

#include "net/graph/graph.h"

/* "BASE/WHAT", with a number where the network has that name; to be freed. Null: no memory. */
char *graph_fresh_name(const struct ivon_network *network, const char *base, const char *what);

/*
 * Adds a node of one output, which is named after `base` and the operator. The operator is the
 * version of the least opset that is written. *made receives the output.
 */
int graph_append(struct ivon_network *network, const char *op, const char *base,
                 const size_t *inputs, size_t input_count, size_t *made, struct ivon_error *error);

/* The same with one attribute: an integer, or a list of them. */
int graph_append_with(struct ivon_network *network, const char *op, const char *base,
                      const size_t *inputs, size_t input_count, const char *attribute,
                      const int64_t *integers, size_t count, bool list, size_t *made,
                      struct ivon_error *error);

/* Adds the sum of two values under a name that has no producer. */
int graph_append_sum(struct ivon_network *network, const char *name, const char *const inputs[2],
                     const char *output, struct ivon_error *error);

/* Adds a constant: a list of integers, or a scalar. */
int graph_append_integers(struct ivon_network *network, const char *base, const int64_t *integers,
                          size_t count, size_t *made, struct ivon_error *error);
int graph_append_number(struct ivon_network *network, const char *base, float number, size_t *made,
                        struct ivon_error *error);

/* Adds a list of one integer: the extent of a value along an axis. */
int graph_append_extent(struct ivon_network *network, size_t value, int64_t axis, size_t *made,
                        struct ivon_error *error);

/* Values that nodes are to take in place of others: of the nodes that there are at the start. */
struct graph_exchange {
    size_t nodes, values;
    size_t *by; /* per value that there is at the start */
};

int graph_exchange_start(struct graph_exchange *exchange, const struct ivon_network *network,
                         struct ivon_error *error);
/* Exchanges the inputs of those nodes, and outputs, and releases the struct. */
void graph_exchange_finish(struct graph_exchange *exchange, struct ivon_network *network);

#endif
