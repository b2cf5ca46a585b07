/* The inside of struct net_derivative: derivative/analysis.c finds what to differentiate, new.c
   makes it, derivative.c runs it, examples.c computes the parts that differ by example, and
   rank_one.c those of them that are products of rows. */
#ifndef NET_DERIVATIVE_PRIVATE_H
#define NET_DERIVATIVE_PRIVATE_H

#include "net/derivative/derivative.h"
#include "net/derivative/uses.h"
#include "net/plan/private.h"

/*
 * Values are of three kinds. Inactive values depend on no wanted parameter. Of the active ones (in
 * the sense of automatic differentiation), some differ by example and lie in the tile one example
 * after the other; the rest depend on parameters alone, and all examples share them. A parameter
 * that exactly one node uses, directly, is `single_use`: its gradient is computed, used and
 * discarded at that node. Of a block, both parameters are, at the same node, or none. All other
 * shared values keep an array for every example of the tile.
 */
struct derivative_value {
    bool needed; /* output 0 depends on it */
    bool active;
    bool per_example;
    bool used_once;  /* a parameter that exactly one node uses, directly */
    bool single_use; /* and that is in no block with another that this node does not use so */
    bool told;       /* `rows`: all its gradient is told by rows of uses; it has no array */
    size_t user;     /* of `used_once`: the node */
    size_t size;     /* elements; of one example if `per_example` */
    float *adjoint;  /* of a root with `per_example`: tile × size */
    float *tangent;  /* likewise */
    float *shared;   /* of a shared root without `single_use`: tile × size */
};

enum derivative_kind {
    DERIVATIVE_NONE,     /* outputs are inactive, or are the inputs */
    DERIVATIVE_SHARED,   /* depends on shared values alone */
    DERIVATIVE_PLAIN,    /* no shared input is active */
    DERIVATIVE_RANK_ONE, /* a row per example, single-use parameters: gradients of rank one */
    DERIVATIVE_UNIT      /* anything else: one example at a time */
};

struct derivative_step {
    enum derivative_kind kind;
    bool multi_use;  /* has active shared inputs that are not single-use */
    float *row_sums; /* of DERIVATIVE_RANK_ONE with a matrix: s or s', tile × columns */
    float *arranged; /* of DERIVATIVE_UNIT: the diagonal of input 1, for `quadratic`; or null */
    size_t arranged_count;
    const float *arranged_from; /* the diagonal that was arranged */
};

struct net_derivative {
    const struct ivon_network *network;
    struct net_plan *plan; /* of a tile */
    struct net_plan *unit; /* of one example; its addresses are slices of the tile's. Or `plan` */
    size_t tile;
    bool whole; /* the tile is treated as one example: there is no `unit`, `tile` is 1, no value is
                   single-use, and tangents use the memory of the adjoints */
    bool rows;  /* made for the rows of uses: there are no tangents and no quadratic forms */
    bool *wanted;
    struct net_block
        *blocks; /* of each parameter, without bases; of no rows: it is in none, or empty */
    struct net_use *uses;
    size_t use_count;
    size_t *parameter_values; /* the value of each parameter; NET_NONE: there is none */
    struct derivative_value *values;
    struct derivative_step *steps;
    float *memory;   /* holds all adjoints, tangents, shared arrays, row sums, and: */
    float *adjoints; /* the part of it that a backward pass clears */
    size_t memory_count, adjoint_count, shared_first, shared_count; /* elements */
    float *piece;       /* gradients of one node's simple parameters for one example */
    float *squares;     /* a row operand, squared */
    float *rotated;     /* adjoints of such an operand's product, in the basis of a block */
    float *x, *scratch; /* a block's gradient for one example */
    /* Arguments of one call: */
    float **input_arrays, **output_arrays;
    /* row_sums belong to this run and metric. */
    bool sums_current;
    const float *const *sums_diagonal;
    const struct net_block *const *sums_blocks;
    /* `shared` of parameters holds the gradients of so many examples, for these adjoints. */
    size_t shared_current;
};

/* The alignment of arrays in floats: one cache line. */
enum { DERIVATIVE_ALIGNMENT = 16 };

/* The analysis, in this order; the first and the last for any derivative. */

/* Marks the values that output 0 depends on: other outputs need no derivatives. */
void derivative_find_needed(struct net_derivative *derivative);

/* Marks the values that each example has of its own. Returns false if the examples of a tile cannot
   be separated. */
bool derivative_classify(struct net_derivative *derivative);

/* Marks the values that depend on inputs, where the tile is treated as one example. */
void derivative_classify_whole(struct net_derivative *derivative);

/* Marks what is active, and used once, and lists the uses; chooses the kind of each step. Fails if
   an operator has no derivative, or output 0 does not depend on the examples. */
int derivative_analyse(struct net_derivative *derivative, struct ivon_error *error);

/* Questions of several files. */

/* Returns the root of a value: the value whose arrays it uses. */
size_t derivative_root(const struct net_derivative *derivative, size_t value);

/* Returns the parameter of a shared root, or NET_NONE. */
size_t derivative_parameter(const struct net_derivative *derivative, size_t root);

/* Returns whether an input of a step is active and shared. */
bool derivative_shared_input(const struct net_derivative *derivative, const struct plan_step *step,
                             size_t input);

/* Returns the parameter that an input is, under another name or not, or NET_NONE. */
size_t derivative_input_parameter(const struct net_derivative *derivative,
                                  const struct plan_step *step, size_t input);

/* Returns the block that the derivative was made for, of a parameter; or null. */
const struct net_block *derivative_block(const struct net_derivative *derivative, size_t parameter);

/* Returns the adjoint of a step's output, of the whole tile; null: zero. */
const float *derivative_output_adjoint(const struct net_derivative *derivative,
                                       const struct plan_step *step, size_t j);

/* Computes the gradients of all shared values that are not single-use, for the first `count`
   examples, summed over the nodes that use them; unless they are there. */
void derivative_form_shared(struct net_derivative *derivative, size_t count);

/* Lists the uses of weights, and marks what their rows tell, in uses.c. */
int derivative_find_uses(struct net_derivative *derivative, struct ivon_error *error);

/* Steps of DERIVATIVE_RANK_ONE. */

/* Returns whether a step's gradients have rank one. */
bool derivative_is_rank_one(const struct net_derivative *derivative, const struct plan_step *step);

/* Computes a step's row_sums for a run and a metric. */
void derivative_rank_one_update(struct net_derivative *derivative, size_t i,
                                const struct net_metric *metric);

/* Adds a step's part of the quadratic forms of the first `count` examples. */
void derivative_rank_one_quadratic(struct net_derivative *derivative, size_t i,
                                   const struct net_metric *metric, size_t count, double *q);

/* Adds the part of the tangent that comes from the rows' own parameters, not from their inputs. */
void derivative_rank_one_tangent(struct net_derivative *derivative, size_t i,
                                 const struct net_metric *metric, float *tangent);

#endif
