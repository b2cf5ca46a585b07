/*
 * The structure of a posterior's covariance: which weights, alone or with the bias that the same
 * node adds, are blocks, as net/derivative/metric.h has them, and the low-rank correction upon all.
 * A source tells it by its part IVON_STRUCTURE, JSON text (ivon-posterior(5)):
 *
 *   {"blocks": {"fc.weight": {"bias": "fc.bias", "input_rows": 600, "transposed": true},
 *               "conv.weight": {}},
 *    "low_rank": {"values": [3.5, 1.25]},
 *    "fit": {...}}
 *
 * Every member may be absent; members of other names are passed over.
 */
#ifndef BAYES_STRUCTURE_H
#define BAYES_STRUCTURE_H

#include "ivon/stream.h"

/* Numbers of tensors are their indices in the source; -1 stands for a tensor that there is not. */
struct structure_block {
    size_t weight;     /* the mean */
    ptrdiff_t bias;    /* the mean */
    ptrdiff_t hessian; /* h: o × n; -1: the block is not random (a Gram matrix may be all it has) */
    ptrdiff_t input_basis, output_basis;       /* n × n and o × o; -1: the identity */
    ptrdiff_t input_spectrum, output_spectrum; /* n and o numbers */
    ptrdiff_t gram;                            /* n × n */
    size_t rows, columns;                      /* o and n, which counts the bias */
    double input_rows; /* how many rows of inputs its factors are from; NaN: not known */
    bool transposed;   /* the weight is stored with a row for each input */
};

struct structure {
    struct structure_block *blocks; /* in the order of the JSON text */
    size_t block_count;
    ptrdiff_t *block_of; /* of each tensor of the source: the block whose weight or bias it is the
                            mean of, or whose Hessian; -1: none */
    bool fitted;         /* the text tells how it was fitted */
    bool low_rank;
    size_t rank;        /* r; 0 without a correction */
    double *values;     /* ℓ: r numbers */
    ptrdiff_t *vectors; /* of each tensor that is a Hessian: its vectors, r × its elements */
};

/*
 * Reads and checks the structure of a source. Names exist, shapes agree: of a block its weight has
 * at least two dimensions, its bias o elements and no Hessian; outside of blocks Hessians have the
 * shape of their means; ℓ > -1. Elements of tensors are not looked at. A source without
 * IVON_STRUCTURE has no blocks and rank 0, and must not have bases or vectors.
 */
int structure_read(struct structure **structure, struct ivon_source *source,
                   struct ivon_error *error);
void structure_free(struct structure *structure);

/* Returns whether the covariance is diagonal: no block has a Hessian, and the rank is 0. */
bool structure_is_diagonal(const struct structure *structure);

/* Refuses a source whose covariance is not diagonal: "FILE: is a structured posterior, ...: these
   are not WHAT". */
int structure_refuse(struct ivon_source *source, const char *what, struct ivon_error *error);

struct structure_block_names {
    const char *weight, *bias; /* bias: null where there is none */
    bool transposed;
    double input_rows; /* 0: not known */
};

/* A structure that is to be written. */
struct structure_description {
    const struct structure_block_names *blocks;
    size_t block_count;
    const double *values; /* ℓ; null: there is no low-rank correction */
    size_t rank;
    const char *fit; /* JSON text of an object that tells how it was made; or null */
};

/* The text of IVON_STRUCTURE, to be freed: names in order, no spaces, numbers that are read back to
   the bit. Null when memory is exhausted, or the description is none that JSON can hold. */
char *structure_text(const struct structure_description *description);

#endif
