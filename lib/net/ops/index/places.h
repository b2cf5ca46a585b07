/* Runs of elements of input 0 that indices name. Operators that gather such runs share their
   functions, and those that scatter share how the runs are found. */
#ifndef NET_OPS_INDEX_PLACES_H
#define NET_OPS_INDEX_PLACES_H

#include "net/graph/operator.h"

struct net_places {
    size_t count, run;     /* so many runs of `run` elements */
    const size_t *offsets; /* the first element of each, in the call's workspace */
};

/* Finds the places for a call, in its workspace. Fails if an index is out of range: never after
   forward. */
typedef int net_places_rule(const struct net_call *call, struct net_places *places,
                            struct ivon_error *error);

/* The bytes that the offsets of so many runs take; fails if they are too many. */
int net_places_size(const struct net_call *call, size_t count, size_t *size,
                    struct ivon_error *error);

/* The index at a place of input 1, counted from the end if it is negative; fails if it is out of
   range. */
int net_places_index(const struct net_call *call, size_t at, int64_t extent, int64_t *index,
                     struct ivon_error *error);

/* The elements of input 0 for which input 1 has the index along `axis`, and the place itself the
   indices along the other axes. */
int net_places_of_elements(const struct net_call *call, int axis, struct net_places *places,
                           struct ivon_error *error);

/* The parts of input 0 whose first indices are the rows of input 1, behind `batch_dims` axes that
   both have in common. */
int net_places_of_tuples(const struct net_call *call, int batch_dims, struct net_places *places,
                         struct ivon_error *error);

/* Output 0 is the runs, one after another. */
int net_places_forward(const struct net_call *call, net_places_rule *rule,
                       struct ivon_error *error);
void net_places_backward(const struct net_call *call, net_places_rule *rule,
                         const float *const *output_adjoints, float *const *input_adjoints);
void net_places_tangent(const struct net_call *call, net_places_rule *rule,
                        const float *const *input_tangents, float *const *output_tangents);

/* The forward, backward and tangent of a row, from name##_places. */
#define NET_PLACES_OPERATOR(name)                                                                  \
    static int name##_forward(const struct net_call *call, struct ivon_error *error)               \
    {                                                                                              \
        return net_places_forward(call, name##_places, error);                                     \
    }                                                                                              \
    static void name##_backward(const struct net_call *call, const float *const *output_adjoints,  \
                                float *const *input_adjoints)                                      \
    {                                                                                              \
        net_places_backward(call, name##_places, output_adjoints, input_adjoints);                 \
    }                                                                                              \
    static void name##_tangent(const struct net_call *call, const float *const *input_tangents,    \
                               float *const *output_tangents)                                      \
    {                                                                                              \
        net_places_tangent(call, name##_places, input_tangents, output_tangents);                  \
    }

#endif
