/* The origin of an output: the text of its attribute `provenance`. */
#ifndef CMD_SHARED_OUTPUTS_PROVENANCE_H
#define CMD_SHARED_OUTPUTS_PROVENANCE_H

#include <jansson.h>
#include <stdbool.h>

#include "ivon/error.h"

/*
 * A JSON object with `command` (quoted for a shell), `version` and `date` (UTC; SOURCE_DATE_EPOCH
 * if set), to which the caller adds what it knows. Call before the arguments are parsed, which may
 * reorder them.
 */
json_t *provenance_new(int argc, char **argv);

/* Appends to `inputs` a file with its weight, unless that is NaN, and its SHA-256 if asked for. */
int provenance_add_input(json_t *provenance, const char *path, double weight, bool hash,
                         struct ivon_error *error);

/* The text, to be freed; shortened to what an attribute can hold. Frees the object. */
char *provenance_text(json_t *provenance);

#endif
