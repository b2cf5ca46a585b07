/*
 * The bases of an optimizer's matrices. A matrix of r × c numbers, as it is stored, with gradients
 * G has two moments,
 *
 *   L ← β₃ L + (1−β₃) G Gᵀ        R ← β₃ R + (1−β₃) Gᵀ G
 *
 * whose eigenvectors are the columns of Q_L and Q_R. At first they are decomposed; then, every so
 * many steps, one power iteration and a factorisation follow them, S being L or R:
 *
 *   P sorts diag(Qᵀ S Q), the largest first;   Q_new T = S Q P,  T triangular,
 *   the signs of Q_new's columns such that  diag(Q_newᵀ Q P) >= 0
 *
 * The state of the optimizer lies in the basis, X' = Q_Lᵀ X Q_R, where its step is that of any
 * other tensor; the gradient is turned into it, and what the network takes back: X = Q_L X' Q_Rᵀ.
 * Means and momenta are turned on into new bases, Hessians and second moments, which belong to the
 * columns, only follow their order. A side may have no basis: the identity.
 *
 * (Vyas et al., 2024, arXiv:2409.11321, for AdamW; arXiv:2606.23357 for IVON.)
 */
#ifndef TRAIN_OPTIMIZER_BASIS_H
#define TRAIN_OPTIMIZER_BASIS_H

#include "train/optimizer/optimizer.h"

enum basis_sides { BASIS_LEFT, BASIS_RIGHT, BASIS_SIDES };

/* Q and S of one side: size × size, row by row. */
struct basis_side {
    size_t size; /* 0: the identity, of which nothing is kept */
    float *basis, *moment;
    size_t *order; /* of the old columns, by the last refresh */
};

struct optimizer_basis {
    size_t rows, columns;
    struct basis_side sides[BASIS_SIDES];
    /* Of the matrix's size: the gradient in the basis; mean and weights as the network has them. */
    float *gradient, *mean, *parameter;
    float *scratch;
};

/* The basis of a tensor that asks for one: identities, and moments of zero. */
int basis_new(struct optimizer_basis **basis, const struct optimizer_tensor *tensor,
              struct ivon_error *error);
void basis_free(struct optimizer_basis *basis);

/* Lists the pieces into which threads divide the matrices, and the lists of arrays. */
int basis_divide(struct optimizer *optimizer, struct ivon_error *error);
void basis_divide_free(struct optimizer *optimizer);

/*
 * Takes a gradient: moves the moments, makes the first bases before the first step, and leaves in
 * optimizer->gradients the gradient of each tensor, turned where it has a basis. `factor` is that
 * of norm clipping.
 */
int basis_take(struct optimizer *optimizer, const float *const *gradients, float factor,
               struct ivon_error *error);

/* Returns whether the step that is being made ends with new bases; makes them, and turns the state
   into them. */
bool basis_due(const struct optimizer *optimizer);
int basis_refresh(struct optimizer *optimizer, struct ivon_error *error);

/* Sets what the network takes, from samples or means in the bases. */
int basis_place(struct optimizer *optimizer, struct ivon_error *error);

#endif
