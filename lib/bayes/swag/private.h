/* The inside of struct ivon_swag: swag.c adds checkpoints up, finish.c makes the posterior of the
   sums, result.c gives it as a source. */
#ifndef BAYES_SWAG_PRIVATE_H
#define BAYES_SWAG_PRIVATE_H

#include "ivon/swag.h"

enum {
    SWAG_PIECE = 1 << 16, /* elements that one thread takes at a time */
    SWAG_PART = 1 << 11,  /* of those at a time */
};

/* A mean of the checkpoints. */
struct swag_tensor {
    struct ivon_tensor mean; /* as the last checkpoint has it; owns its name */
    bool random;
    bool moved;        /* any element did; known once it is finished */
    double *average;   /* once it is finished the elements in the mean's type */
    double *squares;   /* Σ (θ_i − m)²; once it is finished h, floats; null: not random */
    float *deviations; /* K × count; once it is finished U, rank × count; null: none */
};

struct swag_piece {
    size_t tensor, first, count;
};

struct ivon_swag {
    struct ivon_swag_options options;
    struct swag_tensor *tensors;
    size_t tensor_count;
    struct swag_piece *pieces;
    size_t piece_count;
    size_t checkpoints, kept; /* n, and how many deviations there are */
    char *path;               /* of the last one, for messages */
    int64_t step, n_train;    /* of the last one */
    int threads;
    bool finished, done; /* it was tried to finish it, and it was */
    size_t rank, still;
    double ess;
    double *values;  /* ℓ */
    double *turn;    /* rank × K: from W to U */
    char *structure; /* text */
    void **loaded;   /* tensors of the last checkpoint that had to be read */
    size_t loaded_count;
};

/* Frees what was read of the last checkpoint. */
void swag_release_loaded(struct ivon_swag *swag);

#endif
