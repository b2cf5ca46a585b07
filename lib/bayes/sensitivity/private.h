/*
 * The inside of struct ivon_sensitivity: set up by sensitivity.c; sensitivity/run.c has what is
 * computed of each example, sensitivity/groups.c what is summed over many.
 */
#ifndef BAYES_SENSITIVITY_PRIVATE_H
#define BAYES_SENSITIVITY_PRIVATE_H

#include "bayes/likelihood.h"
#include "bayes/outputs.h"
#include "bayes/weights.h"
#include "core/meter.h"
#include "ivon/sensitivity.h"
#include "net/derivative/derivative.h"
#include "net/feed.h"

/* Examples with their targets, read in blocks. */
struct sensitivity_data {
    struct ivon_examples *examples;
    size_t field; /* of the targets */
    struct feed feed;
    uint64_t count;
    int64_t *labels; /* of the block */
    float *numbers;
    bool *counts;      /* of each of its rows */
    size_t *positions; /* of each of its examples: rows that count */
    uint64_t block_first;
    size_t block_count;
};

struct sensitivity_worker {
    struct net_derivative *derivative;
    const void **inputs;
    void *room;     /* for a tile that is filled up */
    float *outputs; /* tile × T × K: p, e, an adjoint and p of moved outputs */
    float *residual, *adjoint, *moved;
    double *quadratic; /* tile */
    double *row_loss;  /* tile × T */
    size_t tile_at;    /* the tile that was run last, or SIZE_MAX */
};

/* The results of one block that the caller of a run receives. */
struct sensitivity_results {
    int64_t *prediction;
    float *outputs, *residual_vector, *deviation_vector, *variance, *covariance;
    double *loss, *residual, *deviation, *mpe, *self_influence, *loo_loss, *influence;
    double *row_loss, *row_residual, *row_deviation, *row_mpe, *row_loo_loss;
    float *row_error, *row_loo_error;
};

struct ivon_sensitivity {
    struct ivon_sensitivity_options options;
    struct member member;
    struct sensitivity_data data;
    struct outputs outputs;
    struct likelihood likelihood;
    size_t tile, block; /* examples at a time: in a thread, in memory */
    int threads;
    size_t memory;
    size_t fixed;
    double rho, n_train;
    struct weights mean, variance; /* variance: of ρΣ */
    struct weights aim;            /* ρ Σ Σ_t g_t, if any */
    float *expected;               /* p averaged over samples, of every example */
    struct sensitivity_worker *workers;
    struct sensitivity_results results;
    struct meter meter;
};

int sensitivity_data_open(struct ivon_sensitivity *sensitivity, struct sensitivity_data *data,
                          struct ivon_examples *examples, const char *targets,
                          struct ivon_error *error);
void sensitivity_data_close(struct sensitivity_data *data);

/* Makes room for a block's targets. */
int sensitivity_allocate_targets(const struct ivon_sensitivity *sensitivity,
                                 struct sensitivity_data *data, struct ivon_error *error);

/* Reads a block of examples and their targets, and checks the targets. */
int sensitivity_load(struct ivon_sensitivity *sensitivity, struct sensitivity_data *data,
                     uint64_t first, struct ivon_error *error);

size_t sensitivity_tiles(const struct ivon_sensitivity *sensitivity,
                         const struct sensitivity_data *data);

/* The targets of the block from example `at` on. */
struct row_targets sensitivity_targets(const struct ivon_sensitivity *sensitivity,
                                       const struct sensitivity_data *data, size_t at);

/* Runs a tile of the block, unless the worker did so last. *count receives how many of its examples
   are there. */
int sensitivity_tile(const struct ivon_sensitivity *sensitivity,
                     const struct sensitivity_data *data, struct sensitivity_worker *worker,
                     size_t tile, const float **f, size_t *count, struct ivon_error *error);

#endif
