/* Groups of examples: --groups=ARRAY. */
#ifndef CMD_SHARED_EVALUATION_GROUPS_H
#define CMD_SHARED_EVALUATION_GROUPS_H

#include "cmd/shared/evaluation/evaluation.h"

/* Reads a whole number for each of the examples, to be freed: from the array of that name, which
   they have already, or which is beside --data, or by its path in the data's file; of CSV a column.
   */
int groups_read(int64_t **groups, const char *name, const struct evaluation_options *evaluation,
                struct ivon_examples *examples, struct ivon_error *error);

/* True if that names the targets, whose groups are classes. */
bool groups_are_targets(const char *name, const struct evaluation_options *evaluation);

#endif
