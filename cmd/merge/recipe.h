/* A merge as a file says it, in mergekit's words. */
#ifndef CMD_MERGE_RECIPE_H
#define CMD_MERGE_RECIPE_H

#include "cmd/merge/merge.h"

/* Reads command->recipe into the members that options and arguments fill in, too. What both say is
   refused, with IVON_ERROR_ARGUMENT. */
int recipe_read(struct merge_command *command, struct ivon_error *error);

#endif
