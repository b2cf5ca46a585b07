/*
 * The covariance Σ of a posterior over a network's parameters: 0 for parameters that are not
 * random. Of what kind of matrix it is, only the file of that kind knows; everything else asks for
 * what follows from it.
 */
#ifndef BAYES_COVARIANCE_H
#define BAYES_COVARIANCE_H

#include "bayes/weights.h"
#include "ivon/sample.h"
#include "net/derivative/derivative.h"

struct covariance {
    const struct covariance_kind *kind;
    const struct ivon_network *network;
    struct ivon_source *source; /* that the network is bound to */
    bool *random;               /* of each parameter: it is selected, and has a Hessian */
};

/* By what Σ is multiplied. */
struct covariance_scale {
    double rho;     /* ρ; NaN: λ/n_train */
    double n_train; /* N */
};

/* The operations of a kind of matrix, which the functions below call. */
struct covariance_kind {
    size_t size; /* of its struct, which begins with struct covariance */
    void (*release)(struct covariance *covariance);
    int (*draw)(const struct covariance *covariance, struct weights *weights,
                const struct ivon_sample_options *options, uint64_t sample, int threads,
                struct ivon_error *error);
    size_t (*memory)(const struct covariance *covariance);
    int (*load)(struct covariance *covariance, const struct covariance_scale *scale, int threads,
                struct ivon_error *error);
    void (*apply)(const struct covariance *covariance, const double *x, struct weights *product);
    void (*quadratic)(const struct covariance *covariance, struct net_derivative *derivative,
                      size_t count, double *q);
    const float *(*tangent)(const struct covariance *covariance, struct net_derivative *derivative,
                            size_t count);
    double (*log_determinant)(const struct covariance *covariance);
};

extern const struct covariance_kind covariance_diagonal; /* diagonal.c: 1/(λ(h + δ)) */

/* `options` select the parameters that are random. Network and source must outlive it. */
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

/* Bytes that it takes in memory. */
size_t covariance_memory(const struct covariance *covariance);

/* Sets the product to ρΣ x, where x is laid out as the product's block. */
void covariance_apply(const struct covariance *covariance, const double *x,
                      struct weights *product);

/* q[i] = g_iᵀ ρΣ g_i of the first `count` examples, after net_derivative_backward. */
void covariance_quadratic(const struct covariance *covariance, struct net_derivative *derivative,
                          size_t count, double *q);

/* J_i ρΣ g_i of the first `count` examples, likewise: tile × K, borrowed until the derivative is
   asked again; null where no random parameter moves the output. */
const float *covariance_tangent(const struct covariance *covariance,
                                struct net_derivative *derivative, size_t count);

/* log |ρΣ| over the random parameters. */
double covariance_log_determinant(const struct covariance *covariance);

#endif
