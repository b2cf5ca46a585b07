/* Drawing from one mean, shared by single draws (sample.c) and whole samples (sample_write.c). */
#ifndef BAYES_SAMPLE_PRIVATE_H
#define BAYES_SAMPLE_PRIVATE_H

#include "ivon/sample.h"

enum { SAMPLE_BLOCK = 1 << 16 /* elements read at once */ };

/* Reads the caller's options; fails as every function that is given some. */
int sample_read_options(struct ivon_sample_options *options,
                        const struct ivon_sample_options *given, struct ivon_error *error);

/* Checks options that are a part of others, which have one size for ever. */
int sample_check_embedded(const struct ivon_sample_options *options, struct ivon_error *error);

/* A mean and what makes it random. */
struct sample_tensor {
    const struct ivon_source *source;
    size_t index;
    const struct ivon_tensor *mean;
    ptrdiff_t hessian_index;           /* -1: it stays at the mean */
    const struct ivon_tensor *hessian; /* null likewise */
    double variance;                   /* τ/λ: σ² = variance / (h + δ) */
    uint64_t seed;
};

/* Describes mean `index`; fails as ivon_sample_check says. */
int sample_tensor_of(struct sample_tensor *tensor, const struct ivon_source *source, size_t index,
                     const struct ivon_sample_options *options, struct ivon_error *error);

/* The elements that begin at `first` and whose means and Hessians lie at `mean` and `hessian`
   (unused where it stays at the mean). */
int sample_block(const struct sample_tensor *tensor, const void *mean, const void *hessian,
                 uint64_t sample, size_t first, size_t count, float *out, struct ivon_error *error);

/* Elements of mean `index`, which lie within it: ivon_sample_draw of what is in no block. */
int sample_draw_plain(struct ivon_source *source, size_t index,
                      const struct ivon_sample_options *options, uint64_t sample, size_t first,
                      size_t count, float *out, struct ivon_error *error);

#endif
