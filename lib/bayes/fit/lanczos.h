/* Lanczos' method under way. */
#ifndef BAYES_FIT_LANCZOS_H
#define BAYES_FIT_LANCZOS_H

#include "bayes/fit/whitened.h"

struct lanczos {
    struct ivon_fit *fit;
    struct whitened product; /* M */
    size_t size;             /* elements of a vector */
    float *basis;            /* steps × size: orthonormal */
    size_t steps, have;      /* vectors that M was multiplied with; one more is there, if `begun` */
    bool begun;
    double *alpha; /* steps × steps, of which `have` rows are there: Qᵀ M Q */
    double *projections, *partial;
    float *vector; /* what is being orthogonalised */
};

/* Steps that are done. */
static inline size_t lanczos_done(const struct ivon_fit *fit)
{
    return fit->lanczos ? fit->lanczos->have : 0;
}

#endif
