/* Lanczos' method under way. */
#ifndef BAYES_FIT_LANCZOS_H
#define BAYES_FIT_LANCZOS_H

#include "bayes/fit/vectors.h"
#include "bayes/fit/whitened.h"

struct lanczos {
    struct ivon_fit *fit;
    struct whitened product; /* M */
    size_t size;             /* elements of a vector */
    struct ranks_range own;  /* of which this rank holds these */
    float *basis;            /* steps × own: orthonormal */
    float *last;             /* the last vector, whole, where `basis` holds less; else null */
    size_t steps, have;      /* vectors that M was multiplied with; one more is there, if `begun` */
    bool begun;
    double *alpha; /* steps × steps, of which `have` rows are there: Qᵀ M Q */
    double *projections;
    double *partial, **lanes; /* own pieces × (steps + 1), and the rows of it */
    float *vector;            /* what is being orthogonalised: its own elements */
};

/* Steps that are done. */
static inline size_t lanczos_done(const struct ivon_fit *fit)
{
    return fit->lanczos ? fit->lanczos->have : 0;
}

/* Basis vector k as a whole, if it is the last one, or this rank holds all; the elements of it that
   this rank holds; these copied from it. */
float *lanczos_whole(struct lanczos *lanczos, size_t k);
float *lanczos_row(struct lanczos *lanczos, size_t k);
void lanczos_take(struct lanczos *lanczos, size_t k);

/* The vectors of the basis as a tensor with a row for each. */
static inline struct vectors_tensor lanczos_tensor(const struct lanczos *lanczos)
{
    return (struct vectors_tensor){.count = lanczos->size,
                                   .inner = lanczos->size,
                                   .step = 1,
                                   .data = lanczos->basis,
                                   .first = lanczos->own.first,
                                   .stride = vectors_count(lanczos->own)};
}

#endif
