/*
 * The low-rank correction of a covariance: with D the precision of its base and S = D^(−1/2), the
 * precision is D^(1/2) (I + U ℓ Uᵀ) D^(1/2), where the r columns of U are orthonormal. Then
 *
 *   Σ = S (I − U ℓ/(1 + ℓ) Uᵀ) S,   a draw is S (I + U ((1 + ℓ)^(−1/2) − 1) Uᵀ) ε.
 *
 * Where only some parameters are random, given the others, U has the rows of those alone, which are
 * not orthonormal: U = U' R with Rᵀ R = Uᵀ U, and the eigenvectors of R ℓ Rᵀ turn U' so that the
 * formulas hold again (Woodbury). Functions of ℓ are therefore r × r matrices here.
 */
#ifndef BAYES_LOW_RANK_H
#define BAYES_LOW_RANK_H

#include "bayes/structure.h"

struct low_rank {
    size_t rank, kept; /* r, and how many values remain where fewer parameters are random */
    double *values;    /* kept: ℓ of the random parameters */
    double *turn;      /* r × kept: U turn has orthonormal columns */
};

/* `random` says of each tensor of the source whether it is the Hessian of random parameters. */
int low_rank_new(struct low_rank **low_rank, struct ivon_source *source,
                 const struct structure *structure, const bool *random, struct ivon_error *error);
void low_rank_free(struct low_rank *low_rank);

/* Adds to the r × r matrix Uᵀ U over the random parameters. */
int low_rank_gram(struct ivon_source *source, const struct structure *structure, const bool *random,
                  double *gram, struct ivon_error *error);

enum low_rank_function {
    LOW_RANK_COVARIANCE, /* ℓ/(1 + ℓ) */
    LOW_RANK_ROOT        /* (1 + ℓ)^(−1/2) − 1 */
};

/* Sets the r × r matrix to that function of ℓ, between U and Uᵀ. */
int low_rank_matrix(const struct low_rank *low_rank, enum low_rank_function function,
                    double *matrix, struct ivon_error *error);

/* log |I + U ℓ Uᵀ| */
double low_rank_log_determinant(const struct low_rank *low_rank);

/* Elements [first, first + count) of the `rank` vectors that belong to a Hessian: rank × count. */
int low_rank_vectors(struct ivon_source *source, const struct structure *structure, size_t hessian,
                     size_t first, size_t count, float *vectors, struct ivon_error *error);

#endif
