/*
 * Weight samples from a posterior: θ = m + σ ε, σ² = τ / (λ (h + δ)), with ε by address
 * (core/random.h): a draw is a function of seed, sample, tensor name and element alone, the same
 * for every thread count, file format, layout and tensor order. (Shen et al., ICML 2024, Algorithm
 * 1; generators: Salmon et al., SC 2011.)
 */
#ifndef IVON_SAMPLE_H
#define IVON_SAMPLE_H

#include <stdbool.h>

#include "ivon/stream.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Embedded in other options, too. */
struct ivon_sample_options {
    size_t size; /* sizeof this struct: set by ivon_sample_defaults() */
    uint64_t seed;
    double temperature; /* τ; 0: the mean itself */
    /* Returns whether the tensor of that name is random; null: all. The others stay at the mean. */
    bool (*selected)(void *context, const char *name);
    void *selected_context;
    /* For ivon_sample_write alone: */
    int dtype;                       /* of the samples; IVON_DTYPE_KEEP: each mean's own */
    struct ivon_resources resources; /* threads and progress */
    uint64_t reserved[4];            /* 0 */
};

/* τ = 1, seed 0, every tensor; each mean's type, every processor, no progress. */
IVON_API void ivon_sample_options_init(struct ivon_sample_options *options, size_t size);
static inline struct ivon_sample_options ivon_sample_defaults(void)
{
    struct ivon_sample_options options;
    ivon_sample_options_init(&options, sizeof options);
    return options;
}

/*
 * Fails where a mean that is to be random cannot be: its Hessian has another shape, or no positive
 * ess, or no weight decay. A mean without a Hessian stays at the mean: *fixed counts those that
 * options select. It is an error where no mean is random and the temperature is above 0.
 */
IVON_API int ivon_sample_check(struct ivon_source *source,
                               const struct ivon_sample_options *options, size_t *fixed,
                               struct ivon_error *error);

/*
 * Elements [first, first + count) of mean `tensor` in sample `sample`, as binary32. Fails where
 * h + δ is not above 0, or a value is not finite, naming tensor and element. Several threads may
 * draw at once. ε is computed in binary32, the rest in double and rounded once: the error is below
 * 2^-24 |m + σ ε| + 2^-21 |σ ε|.
 */
IVON_API int ivon_sample_draw(struct ivon_source *source, size_t tensor,
                              const struct ivon_sample_options *options, uint64_t sample,
                              size_t first, size_t count, float *out, struct ivon_error *error);

/*
 * Of samples [first, first + count) that logarithm of the density by which they are drawn, and that
 * of a normal prior of mean 0 and the precision λδ/τ that each Hessian tells, over all that is
 * random, both up to a number that all samples have in common: −½ ‖ε‖², and −½ Σ λδ/τ θ². With the
 * likelihood to the power ρ/τ, their differences are the importance ratios of a posterior to what
 * stands for it (ivon_psis_k). Sums are in double precision and do not depend on threads. Fails as
 * ivon_sample_draw and ivon_sample_check do, and where τ is 0.
 */
IVON_API int ivon_sample_log_densities(struct ivon_source *source,
                                       const struct ivon_sample_options *options, uint64_t first,
                                       size_t count, double *log_density, double *log_prior,
                                       struct ivon_error *error);

/*
 * The tensors of a sample as a checkpoint of its own, to make sinks from: the means, of type
 * `dtype` or, by IVON_DTYPE_KEEP, each of its own, the buffers and the graph, in the source's
 * order. `tensors` is an array for as many as the source has. Returns how many there are. Names are
 * borrowed from the source.
 */
IVON_API size_t ivon_sample_outputs(const struct ivon_source *source, int dtype,
                                    struct ivon_tensor *tensors);

/*
 * Reads the source once and writes sample `first + i` to sinks[i], made of ivon_sample_outputs for
 * the options' dtype, for every i below `count`. What is random is as ivon_sample_draw gives it,
 * then rounded to its type; every other element is the source's. Fails where a number does not fit
 * into the type. The sinks are not committed. On failure none of them may be.
 */
IVON_API int ivon_sample_write(struct ivon_source *source,
                               const struct ivon_sample_options *options, uint64_t first,
                               struct ivon_sink *const *sinks, size_t count,
                               struct ivon_error *error);

#ifdef __cplusplus
}
#endif

#endif
