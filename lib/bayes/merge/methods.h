/* The table of methods: all that distinguishes one from another, so that no other file knows a
   method by its name. */
#ifndef BAYES_MERGE_METHODS_H
#define BAYES_MERGE_METHODS_H

#include <stdbool.h>
#include <stddef.h>

#include "ivon/merge.h"

/* The part that a base has in the formula. */
enum merge_base_role {
    MERGE_BASE_OUTSIDE, /* none: only tensors that are not merged come from it */
    MERGE_BASE_ORIGIN,  /* it is needed */
    MERGE_BASE_VECTOR   /* where it is given, it is one of the two vectors */
};

/* When the result has Hessians. */
enum merge_hessians {
    MERGE_HESSIANS_ALWAYS,
    MERGE_HESSIANS_WHERE_COMPLETE, /* where all inputs have what it takes */
    MERGE_HESSIANS_COPIED,         /* where all tensors that are copied have one */
    MERGE_HESSIANS_NEVER
};

/* The elements of m_t − m_0 that are set to zero. */
enum merge_mask {
    MERGE_MASK_NONE,
    MERGE_MASK_SMALLEST, /* by magnitude, in each tensor */
    MERGE_MASK_EXTREMES, /* the smallest and the largest */
    MERGE_MASK_RANDOM    /* by chance; the others are divided by the density */
};

/*
 * A method whose mean is c_0 m_0 + Σ c_t m_t, with coefficients of each tensor. `gram` has the
 * inner products of `vectors` vectors: the displacements m_t − m_0, or the means, the base's first
 * if it is one of them. `coefficients` receives those of the vectors' inputs.
 */
typedef void merge_find_coefficients(double *coefficients, const double *gram, size_t vectors,
                                     const double *weights, double scale, bool with_base);

struct merge_method {
    struct ivon_merge_method_traits traits;
    const char *title; /* for messages */
    const char *fixed; /* why a scale other than 1 is refused; null: it is not */
    enum merge_base_role base;
    enum merge_hessians hessians;
    enum merge_mask mask;
    bool precise;       /* the mean is weighted by precisions */
    bool normalized;    /* by Σ α_t */
    bool grams;         /* weights are merged by the Gram matrices of their inputs */
    bool elects;        /* only what has the sign of the sum is averaged */
    bool copies;        /* tensors are those of one model */
    bool unweighted;    /* every weight must be 1 */
    bool displacements; /* the vectors of `find` are m_t − m_0 */
    merge_find_coefficients *find;
};

/* Null: there is no such method. */
const struct merge_method *merge_find_method(enum ivon_merge_method method);

merge_find_coefficients merge_find_slerp, merge_find_model_stock;

#endif
