/* All options of a command, one after the other: its own, those it shares, and argp's. */
#ifndef CMD_SHARED_OPTIONS_WALK_H
#define CMD_SHARED_OPTIONS_WALK_H

#include "cmd/shared/command.h"

enum { OPTION_DEPTH = 4 /* of tables that share others in turn */ };

struct option_walk {
    const struct argp_option *next; /* in the current table */
    /* The tables after it: those that it shares, then those that the one above it shares, … */
    const struct argp_child *children[OPTION_DEPTH];
    int depth;
    const struct argp_option *last; /* argp's own table, which comes last, or null after it */
};

struct option_walk option_walk(const struct command *command);
/* The next option that has a name; null at the end. */
const struct argp_option *option_next(struct option_walk *walk);

#endif
