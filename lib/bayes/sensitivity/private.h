/*
 * The inside of struct ivon_sensitivity: set up by sensitivity.c; sensitivity/run.c has what is
 * computed of each example, sensitivity/sums.c what is summed over many, sensitivity/groups.c and
 * removal.c what follows from it.
 */
#ifndef BAYES_SENSITIVITY_PRIVATE_H
#define BAYES_SENSITIVITY_PRIVATE_H

#include "bayes/covariance.h"
#include "bayes/labelled.h"
#include "ivon/sensitivity.h"
#include "metrics/likelihood/likelihood.h"

/* One thread's scratch beside its network. */
struct sensitivity_worker {
    struct covariance_worker *covariance;
    float *outputs, *residual;     /* tile × T × K: p and e */
    float *adjoint;                /* likewise: an adjoint, and then f + Δf */
    float *moved;                  /* likewise: p of f + Δf */
    double *quadratic;             /* tile: gᵀ Σ g */
    double *row_loss, *moved_loss; /* tile × T: L of f and of f + Δf */
    bool probabilities;            /* f of the first examples are */
    struct leverage *leverage;     /* null: it is not applied */
    double *enough;                /* tile, likewise */
    uint64_t outside;              /* examples whose curvature Σ does not hold */
};

enum { SCORES_MAX = 32 };

/* The results of one block that the caller of a run receives. */
struct sensitivity_results {
    int64_t *prediction;
    float *outputs, *means, *residual_vector, *deviation_vector, *variance, *covariance;
    double *loss, *residual, *row_loss, *row_residual;
    double *scores[SCORES_MAX], *row_scores[SCORES_MAX]; /* null: not asked for */
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
    bool leverage; /* it is applied */
    struct weights mean;
    struct covariance *covariance; /* ρΣ */
    struct weights test_direction; /* ρ Σ Σ_t g_t over the test examples, if any */
    struct weights move;           /* of the means by the removal of all examples, if they were */
    double removed;                /* of N, then */
    float *expected; /* p averaged over samples, of every example; e where it is not linear in p */
    struct sensitivity_worker *workers;
    uint64_t outside_elsewhere; /* examples of other ranks whose curvature Σ does not hold */
    struct sensitivity_results results;
    struct meter meter;
};

/* One tile of a block on its way. */
struct pass {
    const struct ivon_sensitivity *sensitivity;
    struct sensitivity_worker *worker;
    struct net_derivative *derivative;
    size_t at, count; /* examples of the block */
    size_t row, rows; /* their rows */
    const float *f;   /* rows × K */
    const float *v;   /* rows × K: ρ diag(J Σ Jᵀ), where it was computed */
    struct row_targets targets;
};

/* The sums that scores are made of, beside losses and residuals. */
enum score_need {
    SCORE_VARIANCES = 1, /* pass->v */
    SCORE_MOVES = 2,     /* Δf, and what comes of it: adjoint, moved, moved_loss, quadratic */
};

struct score {
    struct ivon_score_traits traits;
    unsigned needs; /* of enum score_need */
    /* Sets the score of the tile's rows, or of its examples. */
    void (*compute)(const struct pass *pass, double *score);
};

/* The row of a score; null: there is no such score. */
const struct score *score_of(enum ivon_score score);

/* Finds the examples' targets, which are needed, and opens them. */
int sensitivity_open(struct ivon_sensitivity *sensitivity, struct labelled *data,
                     struct ivon_examples *examples, const char *targets, struct ivon_error *error);

/* A tile of `data` as a pass. */
struct pass sensitivity_pass_of(const struct ivon_sensitivity *sensitivity,
                                const struct labelled *data, const struct runner_tile *tile);

/* x ← R x or Rᵀ x of a tile's example, Λ = R Rᵀ, row by row, from p in worker->outputs; of what
   does not count nothing. */
void sensitivity_multiply_root(const struct pass *pass, size_t e, bool transposed, double *x);

double sensitivity_dot(const double *a, const double *b, size_t count);

/* A group's gradients in one tile. */
struct sensitivity_task {
    size_t tile, group;
};

/* Sums over all examples of `data`, for `count` groups from `first` on, of Jᵀ a. */
struct sensitivity_sum {
    struct labelled *data;
    bool residual;           /* a has e */
    const double *z;         /* and R z; T × K numbers for each example; or null */
    const size_t *member_of; /* of each example: its group, counted from 0; null: all are in 0 */
    size_t first, count;
    struct ivon_ranks *ranks; /* share the examples, of a single group; null: this rank sums all */
};

/* Makes directions[g] ρ Σ times the sum of group first + g. */
int sensitivity_sum(struct ivon_sensitivity *sensitivity, const struct sensitivity_sum *of,
                    struct weights *directions, struct ivon_error *error);

/* The memory of leverage, for a tile of examples of `wide` outputs. */
int sensitivity_leverage_new(struct leverage **leverage, size_t tile, size_t wide,
                             struct ivon_error *error);
void sensitivity_leverage_free(struct leverage *leverage);

/* Adds to the deviations V e of a tile what follows from removing the examples' curvature. */
void sensitivity_leverage_apply(const struct pass *pass, float *deviation);

/* Fails where a tile's outputs are not finite. */
int sensitivity_check_tile(const struct ivon_sensitivity *sensitivity, const struct labelled *data,
                           const struct runner_tile *tile, struct ivon_error *error);

#endif
