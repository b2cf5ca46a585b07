/*
 * Draws from a posterior of any structure, tensor by tensor. ε of a Hessian's element is the normal
 * number at the address of seed, sample, Hessian's name and element (core/random.h); what is drawn
 * is m + √τ S ε' with S² the inverse of the base's precision λ(h + δ), in a block's basis
 * m + U_B (√τ S ε') U_Aᵀ, and ε' = ε + U c, c = ((1 + ℓ)^(−1/2) − 1) Uᵀ ε, with a low-rank
 * correction.
 */
#ifndef BAYES_DRAW_H
#define BAYES_DRAW_H

#include "bayes/low_rank.h"
#include "ivon/sample.h"

struct draw {
    struct ivon_source *source;
    struct structure *structure;
    struct low_rank *low_rank; /* null: none */
    double *root;              /* r × r: from Uᵀ ε to c */
    bool *random;              /* of each tensor: a mean or a Hessian that is random */
};

/* `options` select what is random. Fails as ivon_sample_check does, and where a block is selected
   in part. */
int draw_new(struct draw **draw, struct ivon_source *source,
             const struct ivon_sample_options *options, struct ivon_error *error);
void draw_free(struct draw *draw);

/* How many means there are, are selected, are random, and lack a Hessian although selected. */
struct draw_counts {
    size_t means, selected, random, lacking;
};
struct draw_counts draw_count(const struct draw *draw, const struct ivon_sample_options *options);

/* Fails: none is random. `consequence` is what that means to the caller. */
int draw_refuse(const struct ivon_source *source, const struct draw_counts *counts,
                const char *consequence, struct ivon_error *error);

/* Bytes that draws from a source of that structure take in each thread, beside their results. */
size_t draw_memory(struct ivon_source *source, const struct structure *structure);

/* The block that mean `index` is drawn with, if it is random; null: it is drawn by itself. */
const struct structure_block *draw_block_of(const struct draw *draw, size_t index);

/* Finds c of a sample, r numbers, before the draws from it. */
int draw_begin(const struct draw *draw, const struct ivon_sample_options *options, uint64_t sample,
               int threads, double *c, struct ivon_error *error);

/* Elements of a mean that is drawn by itself, or stays. Several threads may draw at once, as from
   blocks. */
int draw_range(const struct draw *draw, const struct ivon_sample_options *options, uint64_t sample,
               const double *c, size_t index, size_t first, size_t count, float *out,
               struct ivon_error *error);

/* A whole block: its weight, and its bias, if there is one; either may be null. */
int draw_block(const struct draw *draw, const struct ivon_sample_options *options, uint64_t sample,
               const double *c, const struct structure_block *block, float *weight, float *bias,
               struct ivon_error *error);

#endif
