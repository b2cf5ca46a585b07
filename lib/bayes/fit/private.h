/*
 * The inside of struct ivon_fit: made by fit.c; layers.c has the weights that enter by products,
 * pass.c runs the network over the data, a wave of tiles at a time, of which factors.c, moments.c
 * and gradient.c take the sums, chunk by chunk as chunks.c says; tune.c finds their prior,
 * lanczos.c corrects them by vectors that ranks hold together (vectors.c), result.c makes a
 * checkpoint of all; state.c saves what was done so far, resume.c takes it up again.
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
    bool late;       /* for h, gradients are rotated, and not the rows of which they are made */
    float *matrix;   /* rows × rows: the factor, then its eigenvectors, one in each column */
    float *sums;     /* of a chunk, in the pass that sums it; else null */
    float *spectrum; /* its eigenvalues */
    bool decomposed; /* both are there */
};

/* A weight that enters by products, with the bias that its only node adds. */
struct fit_layer {
    size_t weight, bias;     /* parameters; NET_NONE: none */
    size_t first, count;     /* of fit->uses */
    size_t outputs, columns; /* o and n, which counts the bias */
    bool transposed;
    bool lookups; /* some uses are */
    bool mixed;   /* its uses differ in orientation, as an embedding and a tied head do */
    bool single;  /* one use at one position, not by lookup: gradients have rank one */
    bool product; /* h is the product of the factors' eigenvalues */
    bool banded;  /* inputs are bands in the pass that sums h, as they are not rotated there */
    float *turn;  /* then the inputs' basis in their order, for that pass */
    struct fit_factor factors[FIT_SIDES];
    float *h;                      /* o × n; null: not computed */
    float *gradient;               /* o × n, in the basis: Σ of the loss */
    float *h_sums, *gradient_sums; /* of a chunk, in the pass that sums them; else null */
    double rows;                   /* R: that B is the mean of */
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
    bool probabilities;         /* f of the first examples are */
    float **inputs, **adjoints; /* of each use: rows, rotated or squared once they are ready; of
                                   adjoints all columns of a row, one after the other */
    size_t columns;             /* that the adjoints have */
    int64_t **places;           /* of each use by lookup */
    float **grams;              /* of each use whose factor is summed from bands; else null */
    float *rows;                /* scratch: some rows */
    float *gradients;           /* of one diagonal parameter, of a tile */
    float **sums;               /* of each use of a single layer: Σ d'² over columns */
    float *squares;             /* of all diagonal parameters: sums over a tile */
    float *bands;               /* scratch: sums of products of bands */
    float *panel, *unturned[2]; /* scratch: a panel of the G' of all columns, and two of G */
};

/* A sum that the pass under way makes: over the chunks that are done, and over one. */
struct fit_sum {
    float *total, **part;
    size_t count;
};

/* The report of a rank where all meet. */
struct fit_report {
    uint64_t digest;
    bool stopped;
};

/* The stages of a fit, in their order; some have less. */
enum fit_stage {
    FIT_FACTORS, /* the pass that sums factors */
    FIT_BASES,   /* their eigenvectors */
    FIT_MOMENTS, /* the pass that sums h, or the loss alone beside the source's own h */
    FIT_CORRECTION,
    FIT_STAGES
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
    int threads, lanes;       /* lanes: tiles of a wave, which have a worker each */
    size_t block, memory;     /* examples in memory; bytes */
    size_t wave, chunk;       /* examples of each */
    size_t columns, together; /* adjoints of each row; those that are run back for one sum */
    bool *random;             /* of each parameter */
    size_t *parameter_counts; /* elements of each */
    struct weights mean;
    struct fit_worker *workers;
    /* Layers and their uses, numbered as the derivative has them. */
    struct fit_layer *layers;
    size_t layer_count;
    size_t *uses;
    size_t use_count;
    struct fit_panel *factor_panels, *moment_panels;
    size_t factor_panel_count, moment_panel_count;
    float **diagonal;         /* of each random parameter in no layer: h; else null */
    size_t *diagonal_at;      /* of its part of a worker's squares */
    size_t diagonal_count;    /* elements of all these */
    float *diagonal_gradient; /* of all these */
    float **diagonal_sums, *diagonal_gradient_sums; /* of a chunk; else null */
    /* How far it is. */
    enum fit_stage stage;
    uint64_t position;    /* examples of the pass, or product, that are in its sums, or a chunk's */
    uint64_t summed;      /* examples of the pass that are in its sums: whole chunks */
    struct fit_sum *sums; /* of the pass; null: none is under way */
    size_t sum_count;
    double chunk_loss;             /* Σ L */
    struct fit_report *reports;    /* of each rank, where all meet */
    struct lanczos *lanczos;       /* of the correction; null: not begun */
    _Atomic bool stopping;         /* was asked to stop, and saves the state first */
    bool due;                      /* ranks have agreed to save it */
    double saved, saving;          /* seconds: when the state was saved last, how long that took */
    uint64_t digest, chunk_digest; /* of the digests of chunks; of a chunk's examples, as they were
                                      read */
    char *description;             /* of the run, for its states; null: not made yet */
    /* Results. */
    double n_train, loss; /* N, Σ L */
    double decrement;     /* Newton's; NaN: not known */
    bool probabilities;   /* outputs looked like them */
    double ess;
    struct evidence evidence; /* its parts are layers, then diagonal parameters */
    double *decays;           /* of each parameter: that of the part that it is in */
    size_t rank;              /* of the low-rank correction; 0: none */
    double *values;           /* ℓ, by falling size */
    float *vectors; /* of the layers' Hessians one after the other, then of the diagonal ones: r ×
                       its elements, or those that this rank holds (vectors.h) */
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
/* The use of that number, as a worker's derivative has it. */
static inline const struct net_use *fit_use(const struct ivon_fit *fit,
                                            const struct fit_worker *worker, size_t use)
{
    size_t count;
    return &net_derivative_uses(worker->tile.worker->derivative, &count)[fit->uses[use]];
}
/* The name of a parameter's mean. */
static inline const char *fit_name(const struct ivon_fit *fit, size_t parameter)
{
    return ivon_source_tensor(fit->source, fit->network->parameters[parameter])->name;
}

/* Returns whether a use has the layer's inputs as its outputs, and the other way round. */
static inline bool fit_use_swapped(const struct fit_layer *layer, const struct net_use *use)
{
    return use->transposed != layer->transposed;
}
/* g = beta g + the rows of G' = Σ_t d' a'ᵀ that a panel of h has, those of each column one after
   the other, summed over `count` of a tile's examples and all uses; returns whether lookups alone
   made it. Beta is 1 where the layer has lookups, else 0 or 1. The scratch is `own`'s. */
bool fit_panel_gradient(const struct ivon_fit *fit, const struct fit_worker *worker,
                        const struct fit_panel *panel, size_t first, size_t count,
                        const struct fit_worker *own, float beta, float *g);
/* Returns whether the input factor is summed from the bands of a use: then its panels add the lower
   triangle of n × n that each tile has. The scratch has fit_bands_sums floats. */
bool fit_bands_serve(const struct ivon_fit *fit, const struct fit_layer *layer,
                     const struct net_use *use);
size_t fit_bands_sums(const struct net_use *use);
size_t fit_bands_bytes(const struct ivon_fit *fit, const struct net_use *uses); /* of a tile */
/* Returns whether gradients of a layer whose inputs are not rotated before are made of bands. */
bool fit_bands_suit(const struct fit_layer *layer, const struct net_use *use);
/* Elements of a use's inputs of one example, and of a row of gradients before they are rotated:
   bands name them by taps first, each of which has all bands. */
size_t fit_bands_size(const struct net_use *use);
size_t fit_bands_columns(const struct net_use *use);
/* g = beta g + Σ_t d aᵀ of one example, for rows of d that are planes. */
void fit_bands_product(const struct net_use *use, const float *d, size_t rows, const float *bands,
                       float beta, float *g);
/* Makes the layers' bases in the order of these rows, or frees them. */
int fit_bands_turn(struct ivon_fit *fit, struct ivon_error *error);
void fit_bands_release(struct ivon_fit *fit);
void fit_bands_gram(const struct net_use *use, const float *bands, size_t examples, size_t n,
                    float *sums, float *gram);
/* Rows of n elements that are rotated at a time. */
size_t fit_rows_rotated(size_t n);
size_t fit_layers_bytes(const struct ivon_fit *fit);
struct net_block fit_layer_block(const struct fit_layer *layer); /* without a diagonal */

/* Fails: the curvature at a parameter is not finite. */
int fit_refuse_infinite(const struct ivon_fit *fit, size_t parameter, struct ivon_error *error);

/* The residuals of the data's own targets as a column. */
#define FIT_RESIDUAL SIZE_MAX

/* A pass over the data: each wave of tiles is run forward, run back by the residuals for
   `on_gradient`, if there is one, and given to `on_wave`; then it is run back by each column of
   adjoints, if there are any to be propagated, and after fit->together of them given to
   `on_columns`. */
struct fit_pass {
    struct ivon_fit *fit;
    size_t columns; /* 0: forward alone */
    bool rotate;    /* rows of inputs and adjoints are rotated by the factors' bases */
    bool grams;     /* inputs that have bands become the sums of their products */
    size_t wave;    /* tiles of the wave: workers [0, wave) have them */
    int (*on_gradient)(struct fit_pass *pass, struct ivon_error *error); /* with FIT_RESIDUAL */
    int (*on_wave)(struct fit_pass *pass, struct ivon_error *error);
    void (*on_back)(const struct ivon_fit *fit, struct fit_worker *worker); /* with each column */
    int (*on_columns)(struct fit_pass *pass, struct ivon_error *error);
    int (*on_end)(struct fit_pass *pass, struct ivon_error *error); /* of the wave's columns */
    bool loaded;       /* fit->data holds what was read in this pass */
    size_t column;     /* the first of those that are run back */
    size_t first_tile; /* of the wave, within the block */
};
int fit_pass_run(struct fit_pass *pass, struct ivon_error *error);

/* Chooses the examples of a wave and of a chunk. */
int fit_choose_chunk(struct ivon_fit *fit, struct ivon_error *error);
/* Makes room for the sums of a chunk in the fit's stage; fit_chunks_close releases it in any
   case. */
int fit_chunks_open(struct ivon_fit *fit, struct ivon_error *error);
void fit_chunks_clear(struct ivon_fit *fit);
void fit_chunks_close(struct ivon_fit *fit);
size_t fit_chunks_bytes(const struct ivon_fit *fit);
/* Goes to this rank's chunk of a round, which ends before example *end; returns whether there is
   one. */
bool fit_chunk_begin(struct ivon_fit *fit, uint64_t *end);
/* Adds the chunks of the round's ranks, whose own result `code` is. */
int fit_chunk_end(struct ivon_fit *fit, int code, struct ivon_error *error);
/* Agrees on a result before ranks work together; where one was asked to stop, all do. */
int fit_ranks_meet(struct ivon_fit *fit, int code, struct ivon_error *error);
/* Makes the digest of so many whole chunks, whose examples ranks read in turns; fit->summed is then
   behind them. */
int fit_digest_chunks(struct ivon_fit *fit, uint64_t chunks, struct ivon_error *error);

/* Sets the adjoints of a tile to column `column` of Λ's root, or to FIT_RESIDUAL. */
void fit_columns_set(const struct ivon_fit *fit, const struct fit_worker *worker, size_t column,
                     float *adjoint);
/* How many columns there are, and what their squares are to be weighted with. */
size_t fit_columns_count(const struct ivon_fit *fit);
double fit_columns_weight(const struct ivon_fit *fit);

/* Factors: their sums over the data, then their eigenvectors and eigenvalues. */
int fit_factors_run(struct ivon_fit *fit, struct ivon_error *error);
/* h, in the basis of the factors. */
int fit_moments_run(struct ivon_fit *fit, struct ivon_error *error);
/* Adds the gradients of a wave, whose adjoints are FIT_RESIDUAL. */
int fit_gradient_add(struct fit_pass *pass, struct ivon_error *error);
/* Sets Newton's decrement, for the weight decays and the low-rank correction as they are. */
int fit_gradient_decrement(struct ivon_fit *fit, struct ivon_error *error);

/* The low-rank correction, for the weight decay that was chosen, or the rest of one. */
int fit_lanczos_run(struct ivon_fit *fit, struct ivon_error *error);
size_t fit_lanczos_steps(const struct ivon_fit *fit); /* passes over the data */
size_t fit_lanczos_bytes(const struct ivon_fit *fit);
/* Makes room for a correction, of which no step is done. */
int fit_lanczos_open(struct ivon_fit *fit, struct ivon_error *error);
void fit_lanczos_close(struct ivon_fit *fit);

/* Before a run. */
void fit_state_start(struct ivon_fit *fit);
/* Between the steps of a run, where all sums agree with stage and position: saves the state where
   that is due, and fails with IVON_ERROR_CANCELLED once the caller asked to stop. */
int fit_state_offer(struct ivon_fit *fit, struct ivon_error *error);
/* After a step that failed with `code` and added to no sum: the same if it was stopped; returns
   `code`, or that of saving. */
int fit_state_leave(struct ivon_fit *fit, int code, struct ivon_error *error);
/* Agrees on the `code` of a step of the correction, whose state all ranks hold. If one was stopped
   within it, all save the state and fail with IVON_ERROR_CANCELLED: it added to no sum. Of a
   process alone it is fit_state_leave. */
int fit_state_meet(struct ivon_fit *fit, int code, struct ivon_error *error);
/* Then, once the step is in the sums of all: fit_state_offer as they agreed on it. */
int fit_state_pass(struct ivon_fit *fit, struct ivon_error *error);
/* Within a step: asks whether to stop. With a state to be saved the step is not to end, but
   fit->stopping is set. */
int fit_state_ask(struct ivon_fit *fit, struct ivon_error *error);
/* Returns whether fit_state_offer should be called soon. */
bool fit_state_due(struct ivon_fit *fit);
/* Takes examples [first, end), which are in memory, into the digest of their chunk, if there are
   states; fit_digest_range reads them for that. */
void fit_state_read(struct ivon_fit *fit, uint64_t first, uint64_t end);
int fit_digest_range(struct ivon_fit *fit, uint64_t first, uint64_t end, struct ivon_error *error);

/* The stage that a run of these options begins with, and passes over the data before a stage. */
enum fit_stage fit_first_stage(const struct ivon_fit *fit);
size_t fit_passes_before(const struct ivon_fit *fit, enum fit_stage stage);

/* The source's own Hessians in place of moments, with their ess and weight decays; by a pass over
   the data the loss. */
int fit_own_run(struct ivon_fit *fit, struct ivon_error *error);

/* The layers' Hessians and the diagonal ones, as parts of the evidence, in that order. */
int fit_parts_new(struct ivon_fit *fit, struct ivon_error *error);

/* Finds the weight decays and the noise that are not given, or takes one weight decay for all, and
   the noise by it; fails where the precision is then not positive and finite. */
int fit_tune(struct ivon_fit *fit, struct ivon_error *error);
int fit_tune_to(struct ivon_fit *fit, double weight_decay, struct ivon_error *error);

/* The results of tuning that an earlier run had: Σ L by the noise that was found, that noise, and
   the weight decays of the parts. */
struct fit_tuned {
    double loss, noise;
    const double *decays;
};
/* Takes them over, once h is there. */
int fit_tune_restore(struct ivon_fit *fit, const struct fit_tuned *tuned, struct ivon_error *error);

/* ‖m‖² of a parameter. */
double fit_squares(const struct ivon_fit *fit, size_t parameter);

/* The threads' memory, and their networks: for a pass. */
int fit_workers_new(struct ivon_fit *fit, struct ivon_error *error);
void fit_workers_free(struct ivon_fit *fit);

#endif
