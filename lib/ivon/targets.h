/*
 * The targets that count. With a token axis an example has one position for each token, else one in
 * all. A position counts unless its target is the label that is ignored, by which data mark padding
 * and what has no label: what does not count is no part of N, the number of losses that a training
 * averages, nor of any mean over examples or tokens.
 */
#ifndef IVON_TARGETS_H
#define IVON_TARGETS_H

#include <stdbool.h>

#include "ivon/examples.h"
#include "ivon/metrics.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Returns whether the position with these labels counts: categorical, one label; Bernoulli,
 * `outputs` of them, which are to be ignored together or not at all. A Gaussian position counts,
 * whatever the labels, which may be null. INT64_MIN ignores none.
 */
IVON_API bool ivon_target_counts(enum ivon_likelihood likelihood, size_t outputs,
                                 const int64_t *labels, int64_t ignored);

struct ivon_positions {
    uint64_t all;
    uint64_t counted;  /* of them: N, where a training averages its loss over the data */
    uint64_t examples; /* with a position that counts */
};

/*
 * Counts the positions of examples whose targets are the field of that name, for a network of
 * `outputs` outputs at each. Reads the targets once. Fails with IVON_ERROR_DATA where the field is
 * missing or is not what such targets are.
 */
IVON_API int ivon_positions_count(struct ivon_positions *positions, struct ivon_examples *examples,
                                  const char *targets, enum ivon_likelihood likelihood,
                                  size_t outputs, int64_t ignored, struct ivon_error *error);

/*
 * Checks names of classes, which number them from 0: each is in UTF-8, not empty, without control
 * characters or spaces at its ends, and no other's. IVON_ERROR_ARGUMENT says which one is not.
 */
IVON_API int ivon_class_names_check(const char *const *names, size_t count,
                                    struct ivon_error *error);

#ifdef __cplusplus
}
#endif

#endif
