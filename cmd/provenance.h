/* Where an output came from: the text of its attribute `provenance`. */
#ifndef CMD_PROVENANCE_H
#define CMD_PROVENANCE_H

#include <jansson.h>

/*
 * A JSON object with `command` (quoted for a shell), `version` and `date` (UTC; SOURCE_DATE_EPOCH
 * if set), to which the caller adds what it knows. Call before the arguments are parsed, which may
 * reorder them.
 */
json_t *provenance_new(int argc, char **argv);

/* The text, to be freed; shortened to what an attribute can hold. Frees the object. */
char *provenance_text(json_t *provenance);

#endif
