/* The axes that a reduction runs over, and a walk through its input in order. */
#ifndef NET_OPS_REDUCE_REDUCTION_H
#define NET_OPS_REDUCE_REDUCTION_H

#include "net/graph/operator.h"

/* The input's axes. Neighbours of one kind are merged, and extents of 1 left out. The last axis is
   a run of elements that are reduced to one output, or that have an output each. */
struct net_reduction {
    int groups; /* at least 1 */
    bool reduced[IVON_RANK_MAX + 1];
    size_t extent[IVON_RANK_MAX + 1];
    size_t step[IVON_RANK_MAX + 1]; /* in the output; 0 where reduced */
    size_t runs, terms;             /* runs of the input; elements of each output */
};

/*
 * The shape rule of an input of a type among `types`, 1 << NET_FLOAT | …, and an output of the same
 * type. The axes are an attribute or the second input; without any, all are reduced, unless
 * noop_with_empty_axes: then each element is reduced by itself. call->prepared gets `size` bytes
 * that begin with the reduction.
 */
int net_reduction_infer(struct net_call *call, unsigned types, size_t size,
                        struct ivon_error *error);

struct net_reduction_walk {
    size_t index[IVON_RANK_MAX + 1];
    size_t output; /* of the run's first element */
};

/* Goes to the next run. */
static inline void net_reduction_advance(const struct net_reduction *r,
                                         struct net_reduction_walk *walk)
{
    for (int i = r->groups - 2; i >= 0; i--) {
        walk->output += r->step[i];
        if (++walk->index[i] < r->extent[i])
            return;
        walk->output -= r->step[i] * r->extent[i];
        walk->index[i] = 0;
    }
}

static inline size_t net_reduction_run_length(const struct net_reduction *r)
{
    return r->extent[r->groups - 1];
}

/* Returns the distance in the output of two neighbours in a run: 0 or 1. */
static inline size_t net_reduction_run_step(const struct net_reduction *r)
{
    return r->step[r->groups - 1];
}

/* Rows whose axes are an attribute, and those whose axes are an input. */
#define REDUCE_ATTRIBUTE_ROW(title, opset, infers, runs, derivative)                               \
    {                                                                                              \
        .name = title, .since = opset, .inputs_min = 1, .inputs_max = 1, .outputs_max = 1,         \
        .attributes = {{"axes", NET_INTS}, {"keepdims", NET_INT}}, .infer = infers,                \
        .forward = runs, .backward = backward_##derivative, .tangent = tangent_##derivative        \
    }
#define REDUCE_INPUT_ROW(title, opset, infers, runs, derivative)                                   \
    {                                                                                              \
        .name = title, .since = opset, .inputs_min = 1, .inputs_max = 2, .outputs_max = 1,         \
        .attributes = {{"keepdims", NET_INT}, {"noop_with_empty_axes", NET_INT}}, .infer = infers, \
        .forward = runs, .backward = backward_##derivative, .tangent = tangent_##derivative        \
    }

#endif
