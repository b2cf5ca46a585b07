/*
 * Products of low rank beside those of a weight W (LoRA; Hu et al. 2021, arXiv:2106.09685): where
 * a node gives y = W x, the network then gives
 *   y + s B (A x),   A: rank × inputs, B: outputs × rank,
 * by two products of its own. Of a convolution A is one with the same kernel, strides and pads,
 * rank × inputs × kernel, and B one whose kernel is 1. W stays a value that the node takes.
 */
#ifndef NET_GRAPH_LOW_RANK_H
#define NET_GRAPH_LOW_RANK_H

#include "net/graph/graph.h"

enum low_rank_form {
    LOW_RANK_NONE,       /* W enters elsewhere than by products of one kind */
    LOW_RANK_LINEAR,     /* outputs × inputs */
    LOW_RANK_TURNED,     /* stored inputs × outputs */
    LOW_RANK_CONVOLUTION /* of one group: outputs × inputs × kernel */
};

/* The form of a value that all nodes take as the weight of a product, directly or transposed. */
enum low_rank_form graph_low_rank_form(const struct ivon_network *network, size_t weight);

/* The shapes of the factors of a weight that has a form. */
void graph_low_rank_shapes(const struct net_tensor *weight, enum low_rank_form form, int64_t rank,
                           struct net_tensor *a, struct net_tensor *b);

/* Factors to insert: values with their shapes, the scale s, a value too, or NET_NONE for 1. */
struct low_rank_factors {
    size_t a, b, scale;
    const char *name; /* that the new nodes are named after */
};

/* Inserts the products beside all those of a weight that has a form. graph_finish is the
   caller's. */
int graph_low_rank_insert(struct ivon_network *network, size_t weight,
                          const struct low_rank_factors *factors, struct ivon_error *error);

#endif
