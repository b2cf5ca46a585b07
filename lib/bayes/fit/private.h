/*
 * The inside of struct ivon_fit: made by fit.c; layers.c has the weights that enter by products,
 * pass.c runs the network over the data, a wave of tiles at a time, of which factors.c and
 * moments.c take the sums; tune.c finds their prior, lanczos.c corrects them, result.c makes a
 * checkpoint of all.
 */
#ifndef BAYES_FIT_PRIVATE_H
#define BAYES_FIT_PRIVATE_H

#include "bayes/fit/evidence.h"
#include "bayes/labelled.h"
#include "bayes/weights.h"
#include "core/thread_pool.h"
#include "ivon/fit.h"
#include "metrics/likelihood/likelihood.h"
#include "net/derivative/uses.h"

enum fit_side { FIT_INPUT, FIT_OUTPUT, FIT_SIDES };

/* One side of a layer's covariance. */
struct fit_factor {
    size_t rows;     /* n or o */
    bool rotated;    /* it is not the identity */
    float *matrix;   /* rows × rows: the factor, then its eigenvectors, one in each column */
    float *spectrum; /* its eigenvalues */
};

/* A weight that enters by products, with the bias that its only node adds. */
struct fit_layer {
    size_t weight, bias;     /* parameters; NET_NONE: none */
    size_t first, count;     /* of fit->uses */
    size_t outputs, columns; /* o and n, which counts the bias */
    bool transposed;
    bool mixed;   /* its uses differ in orientation, as an embedding and a tied head do */
    bool single;  /* one use at one position, not by lookup: gradients have rank one */
    bool product; /* h is the product of the factors' eigenvalues */
    struct fit_factor factors[FIT_SIDES];
    float *h;    /* o × n; null: not computed */
    double rows; /* R: that B is the mean of */
};

/* A range of rows of a layer's factor, or of its h: one thread's job. */
struct fit_panel {
    size_t layer;
    enum fit_side side; /* of factors */
    size_t first, count;
};

/* One tile of a wave, and its numbers. */
struct fit_worker {
    struct runner_tile tile;
    float *p, *adjoint;         /* tile × T × K */
    double *losses;             /* tile × T */
    float **inputs, **adjoints; /* of each use: rows, rotated or squared once they are ready */
    int64_t **places;           /* of each use by lookup */
    float *rows;                /* scratch of the longest list of rows */
    float *gradients;           /* of one diagonal parameter, of a tile */
    float **sums;               /* of each use of a single layer: Σ d'² over columns */
    float *squares;             /* of all diagonal parameters: sums over a tile */
    float *panel;               /* scratch: a panel of G */
};

struct ivon_fit {
    struct ivon_fit_options options;
    struct ivon_network *network;
    struct ivon_source *source;
    struct outputs outputs;
    struct likelihood likelihood;
    struct labelled data;
    struct runner runner;
    struct thread_pool *pool;
    int threads, lanes;            /* lanes: tiles of a wave, which have a worker each */
    size_t block, memory, columns; /* examples in memory; adjoints of each row */
    bool *random;                  /* of each parameter */
    size_t *parameter_counts;      /* elements of each */
    struct weights mean;
    struct fit_worker *workers;
    /* Layers and their uses, numbered as the derivative has them. */
    struct fit_layer *layers;
    size_t layer_count;
    size_t *uses;
    size_t use_count;
    struct fit_panel *factor_panels, *moment_panels;
    size_t factor_panel_count, moment_panel_count;
    float **diagonal;      /* of each random parameter in no layer: h; else null */
    size_t *diagonal_at;   /* of its part of a worker's squares */
    size_t diagonal_count; /* elements of all these */
    /* Results. */
    double n_train, loss; /* N, Σ L */
    size_t passes;        /* done */
    double ess;
    struct evidence evidence; /* its parts are layers, then diagonal parameters */
    double *decays;           /* of each parameter: that of the part that it is in */
    size_t rank;              /* of the low-rank correction; 0: none */
    double *values;           /* ℓ, by falling size */
    float *vectors; /* of the layers' Hessians one after the other, then of the diagonal ones: r ×
                       its elements */
    bool done;
    /* Memory that a source of the results borrows: */
    void **loaded; /* tensors of the source that there is no view of */
    /* Of parameters in layers without a basis, of their shape: h, and the low-rank vectors. */
    float **spread, **spread_vectors;
    char *structure; /* JSON text */
    struct meter meter;
};

/* Layers. */
int fit_layers_new(struct ivon_fit *fit, const struct net_derivative *derivative,
                   struct ivon_error *error);
void fit_layers_free(struct ivon_fit *fit);
const struct net_use *fit_use(const struct ivon_fit *fit, const struct fit_worker *worker,
                              size_t use);
/* Returns whether a use has the layer's inputs as its outputs, and the other way round. */
bool fit_use_swapped(const struct fit_layer *layer, const struct net_use *use);
size_t fit_layers_bytes(const struct ivon_fit *fit);

/* Fails: the curvature at a parameter is not finite. */
int fit_refuse_infinite(const struct ivon_fit *fit, size_t parameter, struct ivon_error *error);

/* A pass over the data: each wave of tiles is run forward and given to `on_wave`, and for each
   column of adjoints, if there are any to be propagated, run back and given to `on_column`. */
struct fit_pass {
    struct ivon_fit *fit;
    size_t columns; /* 0: forward alone */
    bool rotate;    /* rows of inputs and adjoints are rotated by the factors' bases */
    size_t wave;    /* tiles of the wave: workers [0, wave) have them */
    int (*on_wave)(struct fit_pass *pass, struct ivon_error *error);
    int (*on_column)(struct fit_pass *pass, struct ivon_error *error);
    int (*on_end)(struct fit_pass *pass, struct ivon_error *error); /* of the wave's columns */
    size_t column;
    size_t first_tile; /* of the wave, within the block */
};
int fit_pass_run(struct fit_pass *pass, struct ivon_error *error);

/* Sets the adjoints of a tile to column `column` of Λ's root. */
void fit_columns_set(const struct ivon_fit *fit, const struct fit_worker *worker, size_t column,
                     float *adjoint);
/* How many columns there are, and what their squares are to be weighted with. */
size_t fit_columns_count(const struct ivon_fit *fit);
double fit_columns_weight(const struct ivon_fit *fit);

/* Factors: their sums over the data, then their eigenvectors and eigenvalues. */
int fit_factors_run(struct ivon_fit *fit, struct ivon_error *error);
/* h, in the basis of the factors. */
int fit_moments_run(struct ivon_fit *fit, struct ivon_error *error);

/* The low-rank correction, for the weight decay that was chosen. */
int fit_lanczos_run(struct ivon_fit *fit, struct ivon_error *error);
size_t fit_lanczos_steps(const struct ivon_fit *fit); /* passes over the data */
size_t fit_lanczos_bytes(const struct ivon_fit *fit);

/* The source's own Hessians in place of moments, with their ess and weight decays; by a pass over
   the data the loss. */
int fit_own_run(struct ivon_fit *fit, struct ivon_error *error);

/* The layers' Hessians and the diagonal ones, as parts of the evidence, in that order. */
int fit_parts_new(struct ivon_fit *fit, struct ivon_error *error);

/* Finds the weight decays and the noise that are not given, or takes one weight decay for all;
   fails where the precision is then not positive and finite. */
int fit_tune(struct ivon_fit *fit, struct ivon_error *error);
int fit_tune_to(struct ivon_fit *fit, double weight_decay, struct ivon_error *error);

/* ‖m‖² of a parameter. */
double fit_squares(const struct ivon_fit *fit, size_t parameter);

/* The threads' memory, and their networks: for a pass. */
int fit_workers_new(struct ivon_fit *fit, struct ivon_error *error);
void fit_workers_free(struct ivon_fit *fit);

#endif
