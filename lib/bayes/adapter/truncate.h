/* Matrices cut to a low rank. */
#ifndef BAYES_ADAPTER_TRUNCATE_H
#define BAYES_ADAPTER_TRUNCATE_H

#include "bayes/adapter/weight.h"

/* left (rows × rank) times right (rank × columns). */
struct truncated {
    double *left, *right; /* allocated */
    size_t rows, columns, rank;
    double norm;  /* of the whole, Frobenius */
    double error; /* of what is cut off, over the norm */
};

/* A term c W of a sum of adapters' products. */
struct truncate_term {
    const struct adapter_weight *weight;
    double coefficient;
};

/*
 * Cut to min(rank, rows, columns): the nearest such matrix, the square roots of whose singular
 * values are on either side. The matrix is lost. IVON_ERROR_DATA where it is not finite.
 */
int truncate_matrix(struct truncated *out, double *matrix, size_t rows, size_t columns, size_t rank,
                    struct ivon_error *error);

/* The same of Σ c s B A, as the weights lie, whose ranks together are at most rows and columns. */
int truncate_sum(struct truncated *out, const struct truncate_term *terms, size_t count,
                 size_t rank, struct ivon_error *error);

void truncated_release(struct truncated *truncated);

#endif
