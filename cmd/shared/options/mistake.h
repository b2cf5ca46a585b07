/* Names that the user mistyped, and what was probably meant. */
#ifndef CMD_SHARED_OPTIONS_MISTAKE_H
#define CMD_SHARED_OPTIONS_MISTAKE_H

#include <stddef.h>

#include "cmd/shared/command.h"

/* The nearest so far of the names offered. */
struct nearest {
    const char *text; /* what was typed */
    size_t length;    /* of it */
    const char *name; /* null: none is near enough */
    size_t distance;
};

struct nearest nearest(const char *text, size_t length);
/* Near is a name that the text begins, or whose letters differ in a third of the text's: by one
   that is wrong, missing or too many, or two neighbours exchanged. */
void nearest_offer(struct nearest *nearest, const char *name);

/*
 * Says on stderr what is wrong with the first long option that the command does not have, or that
 * has one dash, or with a short one's argument that begins with an equals sign, or with an option
 * whose value, a word of its own, is an option itself; and returns the exit status, 0 where
 * there is none. Whatever else may be wrong with arguments is argp's to say.
 */
int mistaken_option(const struct command *command, int argc, char **argv);

#endif
