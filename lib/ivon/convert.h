/*
 * Checkpoints into checkpoints: which tensors, under which names, of which type. What they are as
 * files does not matter here: see ivon/checkpoint.h.
 */
#ifndef IVON_CONVERT_H
#define IVON_CONVERT_H

#include "ivon/stream.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A tensor of a source, and the name that it gets. */
struct ivon_subset_item {
    size_t tensor;
    const char *name;
};

/*
 * A source of some tensors of a source, in the given order and under the given names, with a header
 * of its own. A Hessian's ess and weight decay that were those of the source's header, or none, are
 * the new header's. Header and names are copied; the source has to outlive the subset, and to stay
 * open. IVON_ERROR_DATA where two tensors of one part get one name.
 */
IVON_API int ivon_tensor_subset(struct ivon_source **subset, struct ivon_source *source,
                                const struct ivon_header *header,
                                const struct ivon_subset_item *items, size_t count,
                                struct ivon_error *error);

struct ivon_convert_options {
    size_t size;                     /* sizeof this struct: set by ivon_convert_defaults() */
    int dtype;                       /* of the means; IVON_DTYPE_KEEP: each its own */
    struct ivon_resources resources; /* threads and progress */
};

/* Each mean's own type, every processor, no progress. */
IVON_API void ivon_convert_options_init(struct ivon_convert_options *options, size_t size);
static inline struct ivon_convert_options ivon_convert_defaults(void)
{
    struct ivon_convert_options options;
    ivon_convert_options_init(&options, sizeof options);
    return options;
}

/*
 * The source's tensors as they are written, to make a sink from: means of the type `dtype`,
 * Hessians of binary32, everything else as it is. `tensors` is an array for as many as the source
 * has. Names are borrowed from the source.
 */
IVON_API void ivon_convert_outputs(const struct ivon_source *source, int dtype,
                                   struct ivon_tensor *tensors);

/*
 * Writes each of the source's tensors to the sink's of the same number, in bounded memory. The sink
 * was made of ivon_convert_outputs for the options' dtype, and may have more tensors behind those.
 * Elements that keep their type keep their bits, others are rounded once; a finite number that does
 * not fit is IVON_ERROR_DATA. The sink is not committed, and on failure may not be.
 */
IVON_API int ivon_convert_write(struct ivon_source *source,
                                const struct ivon_convert_options *options, struct ivon_sink *sink,
                                struct ivon_error *error);

/* A simpler posterior in the place of one with a structure (ivon-posterior(5)). */
enum ivon_reduction {
    IVON_REDUCE_COVARIANCE, /* diagonal: the variance of each element is what it was, so that it is
                               the diagonal that is nearest by KL(posterior ‖ diagonal) */
    IVON_REDUCE_PRECISION,  /* diagonal: each precision given all others is what it was: nearest by
                               KL(diagonal ‖ posterior), with variances that are no greater */
    IVON_REDUCE_BASE        /* without its low-rank correction */
};

struct ivon_reduce_options {
    size_t size; /* sizeof this struct: set by ivon_reduce_defaults() */
    enum ivon_reduction reduction;
    struct ivon_resources resources; /* threads */
};

/* The diagonal of the covariance; every processor. */
IVON_API void ivon_reduce_options_init(struct ivon_reduce_options *options, size_t size);
static inline struct ivon_reduce_options ivon_reduce_defaults(void)
{
    struct ivon_reduce_options options;
    ivon_reduce_options_init(&options, sizeof options);
    return options;
}

/*
 * Makes a source of a reduced posterior. A diagonal one has no blocks, bases and Gram matrices, and
 * a Hessian for each weight and bias that was in a block, of binary32, with the weight's ess and
 * weight decay: h is such that ess (h + weight_decay) is the diagonal of the precision, or one over
 * that of the covariance. Where a correction has l < 0 that may be less than the prior's own
 * precision; h is negative then. Everything else is the source's, which has to outlive it and to
 * stay open. Memory: the Hessians that are new. IVON_ERROR_DATA where a diagonal is not positive,
 * as of bases that are not orthonormal. Null options are the defaults.
 */
IVON_API int ivon_reduce(struct ivon_source **reduced, struct ivon_source *source,
                         const struct ivon_reduce_options *options, struct ivon_error *error);

#ifdef __cplusplus
}
#endif

#endif
