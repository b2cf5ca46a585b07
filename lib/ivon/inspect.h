/*
 * The inside of a posterior that is not diagonal (ivon-posterior(5)): the eigenvalues of its
 * blocks' factors, the values of its low-rank correction, and what of them is no such thing.
 */
#ifndef IVON_INSPECT_H
#define IVON_INSPECT_H

#include <stdbool.h>

#include "ivon/summary.h"

#ifdef __cplusplus
extern "C" {
#endif

/* One side of a block: a factor of its curvature. Numbers that are not known are NaN or 0. */
struct ivon_factor {
    size_t rows;            /* n or o */
    bool rotated, spectrum; /* it has a basis; eigenvalues */
    /* Of the eigenvalues that are finite, and how many are not; */
    double least, greatest, quantiles[IVON_QUANTILE_COUNT];
    size_t nonfinite;
    /* how many are below zero, and above it, by more than rounding: rows 2^-23 of the largest
       magnitude. */
    size_t negative, rank;
    double skew; /* the largest element of UᵀU − I in magnitude, NaN where U is not finite */
    bool skewed; /* by more than rounding to the basis's own type explains, and 0.001 */
};

struct ivon_block {
    const char *weight, *bias; /* names; bias: null where there is none */
    size_t rows, columns;      /* o and n, which counts the bias */
    double input_rows;         /* how many rows of inputs the factors are from */
    struct ivon_factor input, output;
};

struct ivon_low_rank {
    size_t rank;
    const double *values; /* ℓ */
    double effective; /* Σ h/(h + δ) of the whole covariance less that of the base: NaN where that
                         is not positive */
    double skew;      /* the largest element of U Uᵀ − I in magnitude, as of a basis */
    bool skewed;
};

struct ivon_inspect_options {
    size_t size;                     /* sizeof this struct: set by ivon_inspect_defaults() */
    bool orthonormal;                /* bases and vectors are checked: `skew` */
    struct ivon_resources resources; /* threads */
};

/* Bases are not checked; every processor. */
IVON_API void ivon_inspect_options_init(struct ivon_inspect_options *options, size_t size);
static inline struct ivon_inspect_options ivon_inspect_defaults(void)
{
    struct ivon_inspect_options options;
    ivon_inspect_options_init(&options, sizeof options);
    return options;
}

struct ivon_inspection;

/* Reads the structure and what it names, a tensor at a time; of a diagonal posterior there are
   Gram matrices to see. Names are borrowed from the source; null options are the defaults. */
IVON_API int ivon_inspect_new(struct ivon_inspection **inspection, struct ivon_source *source,
                              const struct ivon_inspect_options *options, struct ivon_error *error);
IVON_API void ivon_inspect_free(struct ivon_inspection *inspection);

/* Blocks that have a Hessian, in the order of structure.json; borrowed, as the next is. */
IVON_API const struct ivon_block *ivon_inspect_blocks(const struct ivon_inspection *inspection,
                                                      size_t *count);
IVON_API const struct ivon_low_rank *ivon_inspect_low_rank(
    const struct ivon_inspection *inspection);

/* The names of Gram matrices that are none: an element is not finite, one of the diagonal negative,
   or another larger than these allow, |a_ij|² ≤ a_ii a_jj. Borrowed, too. */
IVON_API const char *const *ivon_inspect_indefinite(const struct ivon_inspection *inspection,
                                                    size_t *count);

#ifdef __cplusplus
}
#endif

#endif
