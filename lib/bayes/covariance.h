/*
 * The covariance Σ of a posterior over a network's parameters: 0 for parameters that are not
 * random. Of what kind of matrix it is, only this file and those below it know: a diagonal with
 * blocks (net/derivative/metric.h) and maybe a low-rank correction (bayes/low_rank.h). Everything
 * else asks for what follows from it.
 */
#ifndef BAYES_COVARIANCE_H
#define BAYES_COVARIANCE_H

#include "bayes/draw.h"
#include "bayes/weights.h"
#include "net/derivative/derivative.h"

struct covariance {
    const struct ivon_network *network;
    struct ivon_source *source;              /* that the network is bound to */
    bool *random;                            /* of each parameter */
    const struct net_block *const *block_of; /* of each parameter, for net_derivative_new */
    struct draw *draw;
    struct block *blocks;                /* of the structure, by number */
    const struct net_block **block_list; /* block_of */
    /* Once loaded: */
    struct weights variance; /* ρσ² of every parameter in no block */
    struct weights *vectors; /* ρ^½ S u of each u of the low-rank correction; null: none */
    double *correction;      /* r × r: ℓ/(1 + ℓ) */
};

/* By what Σ is multiplied. */
struct covariance_scale {
    double rho;     /* ρ; NaN: λ/n_train */
    double n_train; /* N */
};

/* `options` select the parameters that are random. Network and source must outlive it. Fails where
   a selected Hessian is none. */
int covariance_new(struct covariance **covariance, const struct ivon_network *network,
                   struct ivon_source *source, const struct ivon_sample_options *options,
                   struct ivon_error *error);
void covariance_free(struct covariance *covariance);

/* Sets the weights to sample number `sample`, mean + √(temperature Σ) ε; with temperature 0 to the
   mean. Other threads may draw at once. `threads` 1: in the calling thread. */
int covariance_draw(const struct covariance *covariance, struct weights *weights,
                    const struct ivon_sample_options *options, uint64_t sample, int threads,
                    struct ivon_error *error);

/* Reads ρΣ into memory, for all that follows. Fails where it is not positive and finite, naming
   tensor and element. */
int covariance_load(struct covariance *covariance, const struct covariance_scale *scale,
                    int threads, struct ivon_error *error);

/* Bytes that it takes in memory; and those that one of a source would, with all means random. */
size_t covariance_memory(const struct covariance *covariance);
size_t covariance_memory_of(struct ivon_source *source, const struct structure *structure);

/* Sets the product to ρΣ x, where x is laid out as the product's block. */
int covariance_apply(const struct covariance *covariance, const double *x, struct weights *product,
                     struct ivon_error *error);

/* log |ρΣ| over the random parameters. */
double covariance_log_determinant(const struct covariance *covariance);

/* One thread's share of what is computed of single examples: a loaded covariance meets a
   derivative, whose outputs have `width` numbers for each of its `tile` examples. */
struct covariance_worker;
int covariance_worker_new(struct covariance_worker **worker, const struct covariance *covariance,
                          struct net_derivative *derivative, size_t tile, size_t width,
                          struct ivon_error *error);
void covariance_worker_free(struct covariance_worker *worker);

/* Says that the derivative has run. */
void covariance_worker_begin(struct covariance_worker *worker);

/* q[i] = g_iᵀ ρΣ g_i of the first `count` examples, after net_derivative_backward. */
void covariance_quadratic(struct covariance_worker *worker, size_t count, double *q);

/* J_i ρΣ g_i of the first `count` examples, likewise: tile × K, borrowed until the worker is asked
   again; null where no random parameter moves the output. */
const float *covariance_tangent(struct covariance_worker *worker, size_t count);

#endif
