/* The words of a vocabulary, and texts of their numbers. */
#ifndef CMD_PLOT_VOCABULARY_H
#define CMD_PLOT_VOCABULARY_H

#include "cmd/plot/plot.h"

struct vocabulary {
    const char *path; /* borrowed */
    char *text;       /* the file; its lines end with null bytes */
    char **words;     /* within it, by their numbers */
    size_t count;
};

/* Reads a file of one word on each line, whose number, from 0, is that of the line. */
int vocabulary_read(struct vocabulary *vocabulary, const char *path, struct ivon_error *error);
void vocabulary_release(struct vocabulary *vocabulary);

/* The words of an example, an array of their numbers, with spaces between them and without those
   of number 0, which fill up; to be freed. The one at `marked` is in brackets, unless that is
   negative, and the text begins a few words before it. IVON_ERROR_DATA where a number is beyond
   the vocabulary. */
int vocabulary_text(const struct vocabulary *vocabulary, struct ivon_examples *examples,
                    size_t field, uint64_t example, int64_t marked, char **text,
                    struct ivon_error *error);

#endif
