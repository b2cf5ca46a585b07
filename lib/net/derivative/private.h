/* The inside of struct net_derivative: made by derivative/new.c, run by derivative.c, what each
   example does by itself in derivative/examples.c. */
#ifndef NET_DERIVATIVE_PRIVATE_H
#define NET_DERIVATIVE_PRIVATE_H

#include "net/derivative/derivative.h"
#include "net/plan/private.h"

/*
 * Values are of three kinds: those that no wanted parameter moves, of no further interest; those
 * that each example has of its own, in the tile one after the other; and those that depend on
 * parameters alone and are shared. A parameter that a single node uses as it is is `simple`: its
 * gradient can be formed, used and forgotten at that node. All other shared values keep an array
 * for every example of the tile.
 */
struct derivative_value {
    bool needed; /* output 0 depends on it */
    bool moves;
    bool each;
    bool simple;
    size_t size;    /* elements, of one example where each has its own */
    float *adjoint; /* of a root that each example has of its own: tile × size */
    float *tangent; /* likewise */
    float *shared;  /* of a shared root that is not simple: tile × size */
};

enum derivative_kind {
    DERIVATIVE_NONE,   /* its outputs do not move, or are its inputs */
    DERIVATIVE_SHARED, /* of shared values alone */
    DERIVATIVE_PLAIN,  /* no shared input moves */
    DERIVATIVE_ROWS,   /* one row of each example meets simple parameters: gradients of rank one */
    DERIVATIVE_UNIT    /* anything else: one example at a time */
};

struct derivative_step {
    enum derivative_kind kind;
    bool complex;    /* has shared inputs that move and are not simple */
    float *row_sums; /* of DERIVATIVE_ROWS with a matrix: tile × columns */
    float *arranged; /* of DERIVATIVE_UNIT: the variance of input 1, for `quadratic`; or null */
    size_t arranged_count;
    const float *arranged_of; /* the variance that was arranged */
};

struct net_derivative {
    const struct ivon_network *network;
    struct net_plan *plan; /* of a tile */
    struct net_plan *unit; /* of one example; its addresses are slices of the tile's. Or `plan` */
    size_t tile;
    bool whole; /* the tile is like one example: there is no `unit`, `tile` is 1, no value is
                   simple, and tangents lie where adjoints did */
    bool *wanted;
    struct derivative_value *values;
    struct derivative_step *steps;
    float *memory;   /* holds all adjoints, tangents, shared arrays, row sums, and: */
    float *adjoints; /* the part of it that a backward pass clears */
    size_t memory_count, adjoint_count, shared_first, shared_count; /* elements */
    float *piece;   /* gradients of one node's simple parameters for one example */
    float *squares; /* a row operand, squared */
    /* Arguments of one call: */
    float **input_arrays, **output_arrays;
    bool summed; /* row_sums are those of this run */
};

/* Floats that arrays are aligned to: one cache line. */
enum { DERIVATIVE_ALIGNMENT = 16 };

/* The root of a value: whose arrays it shares. */
size_t derivative_root(const struct net_derivative *derivative, size_t value);

/* The parameter that a shared root is, or NET_NONE. */
size_t derivative_parameter(const struct net_derivative *derivative, size_t root);

/* Returns whether an input of a step moves and is shared. */
bool derivative_shared_input(const struct net_derivative *derivative, const struct plan_step *step,
                             size_t input);

/* Decides whether a step's gradients have rank one. */
bool derivative_has_rows(const struct net_derivative *derivative, const struct plan_step *step);

#endif
