/*
 * The inside of struct ivon_influence: set up by influence.c; influence/pieces.c forms gradients,
 * influence/products.c multiplies them, influence/measure.c has the adjoints of outputs,
 * influence/queries.c makes Σ q of them, and influence/run.c runs over the training data.
 *
 *   directions   one row of floats for each query in memory, laid out as the network's weights
 *   pieces       how each weight's share of q Σ g is computed, in the order in which it is added
 */
#ifndef BAYES_INFLUENCE_PRIVATE_H
#define BAYES_INFLUENCE_PRIVATE_H

#include "bayes/covariance.h"
#include "bayes/labelled.h"
#include "bayes/perturbation.h"
#include "ivon/influence.h"
#include "metrics/likelihood/likelihood.h"
#include "net/derivative/uses.h"

enum influence_kind {
    INFLUENCE_ROWS,    /* one row of inputs: dᵀ X a, without a gradient */
    INFLUENCE_LOOKUP,  /* rows of a table: Σ_t d_t · X[place] */
    INFLUENCE_SUMS,    /* several rows: gradients Σ_t d aᵀ are formed */
    INFLUENCE_GRADIENT /* gradients that the derivative forms */
};

/* One weight at one node, or all of a parameter. */
struct influence_piece {
    enum influence_kind kind;
    size_t parameter;
    size_t use;           /* of the derivative's list; none of INFLUENCE_GRADIENT */
    size_t rows, columns; /* of the parameter as it is stored; INFLUENCE_GRADIENT: 1 × all */
};

/* One thread's scratch beside its network, for a tile of n examples. */
struct influence_worker {
    float *outputs, *adjoint; /* n × T × K: p, and the adjoint */
    float *inputs, *adjoints; /* rows of one use */
    int64_t *places;          /* of a lookup, n × T */
    float *gradients;         /* n × some rows */
    float *products;          /* rows of a product × n */
    float *turned, *left;     /* inputs of a product, with a row for each number of examples */
    size_t *offsets;          /* of the rows of `turned`, for a panel */
    double *sums;             /* the queries in memory × n */
    struct weights direction; /* borrows a row of directions; its arrays are its own */
    double *wide;             /* a direction before it is multiplied */
    bool probabilities;       /* f of the first examples are */
};

/* Queries of one file. */
struct influence_queries {
    struct labelled data;
    uint64_t first, count; /* among all queries */
};

struct ivon_influence {
    struct ivon_influence_options options;
    struct ivon_network *network;
    struct ivon_source *source;
    struct outputs outputs;
    struct likelihood likelihood;
    struct labelled data;
    struct runner runner;
    size_t memory;
    size_t block; /* examples in memory at a time */
    size_t fixed;
    struct covariance_scale scale; /* ρ and N */
    struct covariance *covariance; /* ρΣ */
    struct weights mean;
    struct influence_piece *pieces;
    size_t piece_count;
    size_t *counts; /* elements of each parameter */
    /* The sums: of each tensor that moves where their parts are wanted; else one. */
    size_t *slots, slot_count; /* slots: of each parameter */
    const char **names;        /* of the tensors; null: their parts are not wanted */
    struct influence_worker *workers;
    struct influence_queries *queries;
    size_t query_sets;
    uint64_t query_count;
    /* The queries in memory: */
    size_t capacity, stride; /* how many there is place for; floats of a direction */
    float *directions;
    uint64_t first_query;
    size_t present;
    float *results;        /* block × rows × present; then of each slot that has a name */
    const float **tensors; /* the latter */
    struct meter meter;
};

/* Lists the pieces for the networks of the runner, which is started. */
int influence_list_pieces(struct ivon_influence *influence, struct ivon_error *error);

enum {
    INFLUENCE_PANEL = 64,   /* directions of one product */
    INFLUENCE_PIECE = 1024, /* elements of a gradient that are formed at a time, about */
};

/* Rows of a weight whose gradients are formed at a time. */
size_t influence_piece_rows(const struct influence_piece *piece);

/* Numbers of a row for a panel: the examples of a tile, and zeros. */
size_t influence_width(const struct ivon_influence *influence);

/* Allocates a worker's scratch for pieces, but for sums over queries. */
bool influence_reserve_pieces(const struct ivon_influence *influence,
                              struct influence_worker *worker);

/* One side of Σ_t l_t r_tᵀ: distances from example to example, row to row, number to number. */
struct influence_side {
    const float *data;
    size_t example, row, element;
};

struct influence_factors {
    struct influence_side left, right;
    size_t positions; /* T */
    bool planes;
};

/* Reads the rows of a use for the tile's examples, after net_derivative_backward. Of a lookup one
   side is worker->places in place of its data. */
struct influence_factors influence_fetch(const struct influence_piece *piece,
                                         const struct runner_tile *tile,
                                         struct influence_worker *worker);

/* gradient ← rows [first, first + count) of the gradient of example e */
void influence_form(const struct influence_piece *piece, const struct influence_factors *factors,
                    size_t e, size_t first, size_t count, float *gradient);

/* Sets worker->sums, slots × present × tile, to the products of the directions in memory with the
   tile's gradients, after net_derivative_backward; those behind its examples are anything. */
void influence_multiply(const struct ivon_influence *influence, const struct runner_tile *tile);

/* Adds the gradients of the tile's examples, likewise, to a direction for each, or to none where it
   is null. */
void influence_add_gradients(const struct ivon_influence *influence, const struct runner_tile *tile,
                             float *const *directions);

/* Returns the place of a parameter in a direction. */
static inline size_t influence_place(const struct ivon_influence *influence, size_t parameter)
{
    return (size_t)(influence->mean.arrays[parameter] - influence->mean.data);
}

/* Sets the adjoint, tile × T × K, to ∂M/∂f of queries, of each at one token alone (SIZE_MAX: at
   all). */
void influence_measure(const struct ivon_influence *influence, const struct labelled *data,
                       const struct runner_tile *tile, size_t token, float *adjoint);

/* Sets it to ∂L/∂f of training examples. */
void influence_residual(const struct ivon_influence *influence, const struct labelled *data,
                        const struct runner_tile *tile, float *adjoint);

/* Makes the directions ρ Σ q of `count` queries from `first` on. */
int influence_load_queries(struct ivon_influence *influence, uint64_t first, size_t count,
                           struct ivon_error *error);

/* Fails where a tile's outputs are not finite; looks at the first for probabilities. */
int influence_check_tile(const struct ivon_influence *influence, const struct labelled *data,
                         const struct runner_tile *tile, struct ivon_error *error);

/* How many queries one example makes, and how many rows one of the training data. */
size_t influence_tokens(const struct ivon_influence *influence);
size_t influence_rows(const struct ivon_influence *influence);

/* Clears the adjoints of all tokens of a tile's examples but one; SIZE_MAX: of none. */
void influence_keep_token(const struct ivon_influence *influence, const struct runner_tile *tile,
                          size_t token, float *adjoint);

#endif
