/* An optimizer's state, shared by its making (optimizer.c) and its steps (optimizer/step.c); and
   whether settings are in their ranges (optimizer/settings.c). */
#ifndef TRAIN_OPTIMIZER_PRIVATE_H
#define TRAIN_OPTIMIZER_PRIVATE_H

#include "train/optimizer/optimizer.h"
#include "train/optimizer/update.h"

/* A part of a tensor, and what happened in it. */
struct optimizer_block {
    size_t tensor, first, count;
    struct update_counts counts;
    double squares;
};

struct optimizer_array {
    char *name;
    size_t count;
    const struct optimizer_group *group;
    float *mean, *hessian, *momentum, *sample, *gradient_sum, *product_sum; /* or null */
    const float *prior_mean, *prior_decay;
};

struct optimizer {
    struct optimizer_options options;
    struct optimizer_group *groups;
    struct optimizer_array *tensors;
    size_t tensor_count;
    struct optimizer_block *blocks;
    size_t block_count;
    int threads;  /* at most, that are worth it */
    void *memory; /* of all arrays */
    uint64_t steps;
    unsigned sample; /* of the step: how many gradients were taken */
};

int optimizer_check_options(const struct optimizer_options *options, struct ivon_error *error);

/* The message names the tensor. */
int optimizer_check_group(const struct optimizer_group *group, enum optimizer_method method,
                          const char *tensor, struct ivon_error *error);

#endif
