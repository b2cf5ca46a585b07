/*
 * Changes of a network to what data and likelihoods are like (ivon_network_adapt): inputs.c and
 * outputs.c make them, adapt.c puts them in order. Nodes are added and taken away, so that plans
 * and derivatives know of nothing; graph_finish follows.
 */
#ifndef NET_GRAPH_ADAPT_H
#define NET_GRAPH_ADAPT_H

#include "net/graph/append.h"

/*
 * Keeps one output of those that the file lists: the one of that name; null: the first that may
 * hold floats. Drops nodes, inputs and constants that only others need. *passed_over, unless null,
 * receives the name of an output before it that holds no floats, or null.
 */
int graph_choose_output(struct ivon_network *network, const char *name, const char **passed_over,
                        struct ivon_error *error);

/*
 * Takes the function of a link, or its logarithm, from the end of the network: the last node but
 * for some that only rename, reshape or cast. Its axis has to be `class_axis`; -1: the last.
 * Returns the operator's name, or null where the network ends otherwise.
 */
const char *graph_cut_link(struct ivon_network *network, enum ivon_link link, int class_axis);

/* Lets the output be what the link makes the output of: log p, or log p - log(1 - p), of p that is
   at least the least normal float (and at most 1 - 2^-24). */
int graph_invert_link(struct ivon_network *network, enum ivon_link link, struct ivon_error *error);

/* Brings the output's axes into the order of examples, tokens and outputs. */
int graph_order_output(struct ivon_network *network, const enum ivon_axis *axes, size_t count,
                       struct ivon_error *error);

/* Moves an axis of the output to the front. */
int graph_output_batch_first(struct ivon_network *network, int axis, struct ivon_error *error);

/* Moves an axis of an input to the front: the caller gives the input so, and exchanges it for what
   the nodes take. */
int graph_input_batch_first(struct ivon_network *network, struct graph_exchange *exchange,
                            size_t value, int axis, struct ivon_error *error);

/* Makes an input a constant of its type: numbers, or true and false, with commas between them. */
int graph_set_input(struct ivon_network *network, const char *name, const char *text,
                    struct ivon_error *error);

/* The axis of examples of an input that a buffer takes the place of, where the buffer has one
   element: the first free one. -1: none. */
int graph_repeated_axis(const struct net_tensor *input, const struct net_tensor *buffer);

/* Repeats such buffers for every example that the first input has. */
int graph_repeat_buffers(struct ivon_network *network, struct ivon_error *error);

#endif
