/* Texts of tokens: words of a vocabulary by their numbers, or the characters of a text. */
#ifndef CMD_PLOT_VOCABULARY_H
#define CMD_PLOT_VOCABULARY_H

#include "cmd/plot/plot.h"
#include "cmd/shared/inputs/name_list.h"

/* The words of an example, an array of their numbers, with spaces between them and without those
   of number 0, which fill up; or its characters, where the examples are of a text. To be freed. The
   one at `marked` is in brackets, unless that is negative, and the text begins a few before it.
   IVON_ERROR_DATA where a number is beyond the vocabulary. */
int vocabulary_text(const struct name_list *vocabulary, struct ivon_examples *examples,
                    size_t field, uint64_t example, int64_t marked, char **text,
                    struct ivon_error *error);

#endif
