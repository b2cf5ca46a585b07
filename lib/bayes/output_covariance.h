/*
 * C = J ρΣ Jᵀ of the outputs of every single example of a tile, by a backward pass for each output:
 * that of output k gives row k of J for all examples, and with it C_kk, or column k of C.
 */
#ifndef BAYES_OUTPUT_COVARIANCE_H
#define BAYES_OUTPUT_COVARIANCE_H

#include "bayes/covariance.h"

/* Everything is borrowed. The worker was told that the derivative has run. */
struct output_covariance {
    struct covariance_worker *covariance;
    struct net_derivative *derivative;
    size_t tile, width; /* examples; outputs of each */
    float *adjoint;     /* scratch: tile × width */
    double *quadratic;  /* scratch: tile */
};

/* C_kk of the first `count` examples, in the scratch. */
const double *output_variance(const struct output_covariance *of, size_t k, size_t count);

/* Column k of C of the first `count` examples, `width` numbers of each, borrowed until the next
   call; null where no random parameter moves the outputs. */
const float *output_covariance_column(const struct output_covariance *of, size_t k, size_t count);

#endif
