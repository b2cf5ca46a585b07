/* Options of texts: which tokens they are, and how they are cut into examples. */
#ifndef CMD_SHARED_EVALUATION_TEXT_OPTIONS_H
#define CMD_SHARED_EVALUATION_TEXT_OPTIONS_H

#include <argp.h>

#include "ivon/dataset.h"

/* --tokens, --text-column, --context, --stride: a child of the argp of commands that read data; its
   input is a struct ivon_dataset_options, which borrows what they name. */
extern const struct argp text_argp;

/* Returns whether one of them was given. */
bool text_options_given(const struct ivon_dataset_options *options);

#endif
