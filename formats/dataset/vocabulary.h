/* The tokens of a vocabulary: a file with one on each line, that of number 0 on the first. */
#ifndef FORMATS_DATASET_VOCABULARY_H
#define FORMATS_DATASET_VOCABULARY_H

#include "formats/io/mapped.h"

struct vocabulary_token {
    const char *text; /* in the file */
    size_t size;
    int32_t number;
};

struct text_vocabulary {
    struct mapped_file file;
    struct vocabulary_token *tokens; /* sorted */
    size_t count;
    int32_t unknown; /* the number of "<unk>" or "[UNK]", or -1 */
};

/* Opens a vocabulary, whose lines may end in CR LF, and of whose equal lines the first counts. It
   is to be released in any case. */
int text_vocabulary_open(struct text_vocabulary *vocabulary, const char *path,
                         struct ivon_error *error);
void text_vocabulary_release(struct text_vocabulary *vocabulary);

/* The number of a token as it is, or else with a to z for A to Z; -1 for one that is not there. */
int32_t text_vocabulary_find(const struct text_vocabulary *vocabulary, const char *text,
                             size_t size);

#endif
