/* Ranks that share work have to have opened the same: what they do together follows from it. These
   compare digests with rank 0's, and fail with IVON_ERROR_DATA, or IVON_ERROR_ARGUMENT for options,
   on each rank that has something else. Nothing for null ranks. */
#ifndef BAYES_RANK_INPUTS_H
#define BAYES_RANK_INPUTS_H

#include "core/ranks.h"
#include "ivon/examples.h"
#include "ivon/stream.h"

/* By names and shapes of tensors, and the first numbers of each. */
int rank_inputs_check_source(struct ivon_ranks *ranks, struct ivon_source *source,
                             struct ivon_error *error);

/* By the shapes of fields, and the first and the last example. */
int rank_inputs_check_examples(struct ivon_ranks *ranks, struct ivon_examples *examples,
                               struct ivon_error *error);

/* Both. */
int rank_inputs_check(struct ivon_ranks *ranks, struct ivon_source *source,
                      struct ivon_examples *examples, struct ivon_error *error);

/* Options, and what sizes followed from them. */
int rank_inputs_check_numbers(struct ivon_ranks *ranks, const uint64_t *numbers, size_t count,
                              struct ivon_error *error);

#endif
