/*
 * The inside of struct ivon_sensitivity: set up by sensitivity.c; sensitivity/run.c has what is
 * computed of each example, sensitivity/groups.c what is summed over many.
 */
#ifndef BAYES_SENSITIVITY_PRIVATE_H
#define BAYES_SENSITIVITY_PRIVATE_H

#include "bayes/covariance.h"
#include "bayes/labelled.h"
#include "ivon/sensitivity.h"
#include "metrics/likelihood/likelihood.h"

/* One thread's scratch beside its network. */
struct sensitivity_worker {
    float *outputs; /* tile × T × K: p, e, an adjoint and p of moved outputs */
    float *residual, *adjoint, *moved;
    double *quadratic; /* tile */
    double *row_loss;  /* tile × T */
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
    struct ivon_network *network;
    struct ivon_source *source;
    struct outputs outputs;
    struct likelihood likelihood;
    struct labelled data;
    struct runner runner;
    size_t block; /* examples in memory at a time */
    size_t memory;
    size_t fixed;
    double rho, n_train;
    struct weights mean;
    struct covariance *covariance; /* ρΣ */
    struct weights test_direction; /* ρ Σ Σ_t g_t over the test examples, if any */
    float *expected;               /* p averaged over samples, of every example */
    struct sensitivity_worker *workers;
    struct sensitivity_results results;
    struct meter meter;
};

/* Finds the examples' targets, which are needed, and opens them. */
int sensitivity_open(struct ivon_sensitivity *sensitivity, struct labelled *data,
                     struct ivon_examples *examples, const char *targets, struct ivon_error *error);

/* Fails where a tile's outputs are not finite. */
int sensitivity_check_tile(const struct ivon_sensitivity *sensitivity, const struct labelled *data,
                           const struct runner_tile *tile, struct ivon_error *error);

#endif
