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

#ifdef __cplusplus
}
#endif

#endif
