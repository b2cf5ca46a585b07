/*
 * Posteriors with fewer weights: means of little signal become zero. With the deviation σ that the
 * posterior gives a weight, its signal-to-noise ratio is |m|/σ: what training has not made
 * different from zero may as well be zero (Graves, NeurIPS 2011). Of a structured posterior σ² is
 * the diagonal of the covariance. The baseline is the magnitude |m| alone.
 */
#ifndef IVON_PRUNE_H
#define IVON_PRUNE_H

#include "ivon/stream.h"

#ifdef __cplusplus
extern "C" {
#endif

enum ivon_prune_by {
    IVON_PRUNE_SNR,      /* |m|/σ; means without a Hessian are left as they are */
    IVON_PRUNE_MAGNITUDE /* |m| */
};

struct ivon_prune_options {
    size_t size; /* sizeof this struct: set by ivon_prune_defaults() */
    enum ivon_prune_by by;
    double keep;  /* the share of elements that stay, from 0 to 1; NaN: by `least` */
    double least; /* what is no less than that stays; used where `keep` is NaN */
    /* Returns whether a mean is pruned; null: all are. */
    bool (*select)(void *context, const char *name);
    void *context;
    struct ivon_resources resources; /* threads */
};

/* By the signal-to-noise ratio, all means; one of `keep` and `least`, which are NaN, is to be set.
   */
IVON_API void ivon_prune_options_init(struct ivon_prune_options *options, size_t size);
static inline struct ivon_prune_options ivon_prune_defaults(void)
{
    struct ivon_prune_options options;
    ivon_prune_options_init(&options, sizeof options);
    return options;
}

/*
 * Makes a source of the pruned posterior: everything is the source's, which has to outlive it and
 * to stay open, but that means have zeros, and that a buffer `pruned.NAME` of the mean's type and
 * shape holds what they had there, and zeros elsewhere. All elements of selected means are ranked
 * together: exactly ⌊keep · n + ½⌋ of n stay, those of greatest score in double precision, of equal
 * ones the first. Several passes over the data find them in bounded memory; of a structured
 * posterior the Hessians of a diagonal one are in memory, too. Fails with IVON_ERROR_DATA where a
 * mean is not finite or a precision not positive, where nothing can be ranked, and where it was
 * pruned before.
 */
IVON_API int ivon_prune(struct ivon_source **pruned, struct ivon_source *source,
                        const struct ivon_prune_options *options, struct ivon_error *error);

/* Makes a source of what was before ivon_prune, bit by bit: what the buffers have stands where it
   was, and they are gone. IVON_ERROR_DATA where there is no such buffer, or one of another type or
   shape. */
IVON_API int ivon_prune_restore(struct ivon_source **restored, struct ivon_source *source,
                                struct ivon_error *error);

/* A mean that was ranked. */
struct ivon_pruned_tensor {
    const char *name;
    uint64_t count, kept; /* elements */
};

/* Those of a source that ivon_prune made, in its order; borrowed. */
IVON_API const struct ivon_pruned_tensor *ivon_prune_tensors(const struct ivon_source *pruned,
                                                             size_t *count);

/* The least score that stayed; infinite where none did. */
IVON_API double ivon_prune_threshold(const struct ivon_source *pruned);

#ifdef __cplusplus
}
#endif

#endif
