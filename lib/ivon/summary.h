/*
 * The summary of a posterior: norms, quantiles and defects of each of its tensors, in a few passes
 * over the data and bounded memory. Quantiles are exact for values rounded to binary32.
 */
#ifndef IVON_SUMMARY_H
#define IVON_SUMMARY_H

#include "ivon/stream.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The quantiles that are computed: 0.05, 0.25, 0.5, 0.75, 0.95. */
enum { IVON_QUANTILE_COUNT = 5 };
IVON_API extern const double ivon_quantile_levels[IVON_QUANTILE_COUNT];

/*
 * Of one mean and its Hessian, or of all together. The Hessian of a block is that of a weight and
 * its bias, in a basis of its own (ivon-posterior(5)), and there are no ratios of its elements to
 * those of means. With σ² = 1/(ess (h + weight_decay)), the
 * signal-to-noise ratio of an element is |m|/σ. Quantiles interpolate linearly between the two
 * nearest elements; non-finite elements, and ratios where h + weight_decay is not positive, are
 * left out of them, and they are NaN when nothing remains.
 */
struct ivon_summary {
    const char *name;       /* borrowed from the source; null for all together */
    size_t mean, hessian;   /* indices of the tensors in the source; SIZE_MAX: there is none */
    uint64_t count;         /* of elements of the mean (of the Hessian where it has no mean) */
    uint64_t hessian_count; /* of elements that have a Hessian */
    uint64_t mean_nonfinite;
    uint64_t hessian_nonfinite;
    uint64_t nonpositive; /* elements where h + weight_decay <= 0 */
    double mean_norm;     /* Euclidean, of the finite elements */
    double hessian_min, hessian_max;
    double hessian_quantiles[IVON_QUANTILE_COUNT];
    double signal_to_noise[IVON_QUANTILE_COUNT];
    bool shapes_differ;    /* of mean and Hessian: no ratios then */
    bool hessian_at_start; /* see ivon_summary_new */
    bool in_block;         /* its covariance is that of a block */
    double effective; /* γ = Σ h/(h + weight_decay) of the elements where that is positive: how
                              many of them the data determine; of a low-rank correction's base */
};

struct ivon_summary_options {
    size_t size;                     /* sizeof this struct: set by ivon_summary_defaults() */
    struct ivon_resources resources; /* threads and progress */
};

/* Every processor, no progress. */
IVON_API void ivon_summary_options_init(struct ivon_summary_options *options, size_t size);
static inline struct ivon_summary_options ivon_summary_defaults(void)
{
    struct ivon_summary_options options;
    ivon_summary_options_init(&options, sizeof options);
    return options;
}

struct ivon_summaries;

/*
 * Summarises every mean and every Hessian of a source; null options are the defaults.
 * `hessian_at_start` says that the quantiles 0.05 and 0.95 of the Hessian lie within 1 % of its
 * median: it was never learnt, and its values are what the training started from.
 */
IVON_API int ivon_summary_new(struct ivon_summaries **summaries, struct ivon_source *source,
                              const struct ivon_summary_options *options, struct ivon_error *error);
IVON_API void ivon_summary_free(struct ivon_summaries *summaries);

/* One for each mean, in the source's order, then one for each Hessian without a mean; borrowed. */
IVON_API const struct ivon_summary *ivon_summary_tensors(const struct ivon_summaries *summaries,
                                                         size_t *count);

/* The structure of a covariance that is not diagonal: both numbers are 0 where it is. */
struct ivon_structure {
    size_t blocks; /* weights, alone or with a bias, with a covariance in a basis */
    size_t rank;   /* of the low-rank correction upon the rest */
    bool fitted;   /* it says that it was fitted (ivon/fit.h) */
    /* Bytes in memory, whatever the structure is: of each thread that draws samples, beside these;
       and of the whole covariance, which all else needs. */
    size_t draw_bytes, covariance_bytes;
};

/* Reads the structure of a source and checks it against the tensors. */
IVON_API int ivon_structure_describe(struct ivon_structure *structure, struct ivon_source *source,
                                     struct ivon_error *error);

/*
 * Returns whether a mean is far from a minimum, by Newton's decrement there (ivon/fit.h) and γ:
 * more than 4 γ. At the minimum of the expected loss the decrement of the training loss has the
 * expectation γ; and a weight decay of greatest evidence, of which the training had none, adds γ.
 */
IVON_API bool ivon_mean_is_far(double decrement, double effective);

/* Of all tensors together; borrowed. */
IVON_API const struct ivon_summary *ivon_summary_total(const struct ivon_summaries *summaries);

#ifdef __cplusplus
}
#endif

#endif
