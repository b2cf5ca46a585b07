/* An optimizer's state, shared by its setup (optimizer.c), its steps (optimizer/step.c), the bases
   of its matrices (optimizer/basis.c) and the checks of its settings (optimizer/settings.c). */
#ifndef TRAIN_OPTIMIZER_PRIVATE_H
#define TRAIN_OPTIMIZER_PRIVATE_H

#include "train/optimizer/optimizer.h"
#include "train/optimizer/update.h"

/* A part of a tensor, and the counts of the last step in it. */
struct optimizer_block {
    size_t tensor, first, count;
    struct update_counts counts;
    double squares;
};

/* Rows or columns of a matrix that has a basis (optimizer/basis.c). */
struct basis_piece {
    size_t tensor, first, count;
};

struct basis_plan {
    struct basis_piece *pieces; /* rows of all matrices, then columns */
    size_t row_pieces, all_pieces;
    size_t *with; /* the tensors that have a basis */
    size_t with_count;
    const float **gradients, **from; /* of each tensor */
    float **to;
    int threads; /* as many as are worth waking */
};

struct optimizer_array {
    char *name;
    size_t count;
    const struct optimizer_group *group;
    float *mean, *hessian, *momentum, *sample, *gradient_sum, *product_sum; /* or null */
    float *rho, *rho_momentum, *rho_second;                                 /* or null */
    float *noise; /* of the first of an antithetic pair; or null */
    const float *prior_mean, *prior_decay, *prior_pull;
    struct optimizer_basis *basis; /* in which all that is above lies; null: none */
};

struct optimizer {
    struct optimizer_options options;
    struct optimizer_group *groups;
    struct optimizer_array *tensors;
    size_t tensor_count;
    struct optimizer_block *blocks;
    size_t block_count;
    struct basis_plan bases;
    int threads;  /* as many as are worth waking */
    void *memory; /* of all arrays */
    uint64_t steps;
    unsigned sample; /* gradients taken in this step */
    uint64_t kept;   /* the sample whose noise the tensors keep; UINT64_MAX: none */
};

/* Returns whether weights are drawn; and whether they are drawn here, and not by lanes. */
static inline bool optimizer_draws(const struct optimizer *optimizer)
{
    return optimizer->options.method == OPTIMIZER_IVON ||
           optimizer->options.method == OPTIMIZER_BACKPROP;
}

static inline bool optimizer_draws_one(const struct optimizer *optimizer)
{
    return optimizer_draws(optimizer) && !optimizer->options.lanes;
}

int optimizer_check_options(const struct optimizer_options *options, struct ivon_error *error);

/* The message names the tensor. */
int optimizer_check_group(const struct optimizer_group *group, enum optimizer_method method,
                          const char *tensor, struct ivon_error *error);

/* Checks a tensor that is to have a basis. */
int optimizer_check_matrix(const struct optimizer_tensor *tensor, enum optimizer_method method,
                           struct ivon_error *error);

#endif
