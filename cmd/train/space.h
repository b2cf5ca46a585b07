/* The combinations of options' values that a grid of trainings goes through. */
#ifndef CMD_TRAIN_SPACE_H
#define CMD_TRAIN_SPACE_H

#include <stdbool.h>
#include <stddef.h>

#include "ivon/error.h"

/* An option, by its long name, and its values. */
struct space_axis {
    char *name;
    bool flag; /* it takes no argument: its values are yes and no */
    char **values;
    size_t count;
};

struct space {
    struct space_axis *axes;
    size_t count;
    size_t combinations; /* the product of their values' numbers: the last axis goes fastest */
};

/*
 * Reads texts such as "lr=.05,.1;h0=.1,.5": options of ivon-train that decide about the training,
 * each once, with two values or more, or one. Bars separate values where there is one, and commas
 * are then theirs: "arch=mlp:4,8,3|mlp:4,16,3". The value `default` leaves an option out. The
 * space, which is empty before, has to be released in any case.
 */
int space_read(struct space *space, const char *const *texts, size_t count,
               struct ivon_error *error);
void space_release(struct space *space);

/* Fails where a word of a command line gives an option that the space has values of. */
int space_check_word(const struct space *space, const char *word, struct ivon_error *error);

/* The value of an axis in a combination. */
const char *space_value(const struct space *space, size_t combination, size_t axis);

/* The word that gives it, to be freed; null where the option is left out. */
char *space_word(const struct space *space, size_t combination, size_t axis);

/* A combination as the name of a folder, no other's, to be freed: "lr=.05_h0=.1". Where bytes were
   replaced or left out that are not for names, a checksum stands behind it. */
char *space_name(const struct space *space, size_t combination);

#endif
