/* All options of a command, one after the other: its own, those it shares, and argp's. */
#ifndef CMD_SHARED_OPTION_WALK_H
#define CMD_SHARED_OPTION_WALK_H

#include "cmd/shared/command.h"

struct option_walk {
    const struct argp_option *next; /* in the current table */
    const struct argp_child *inner; /* the table after it, of those that a table shares in turn */
    const struct argp_child *child; /* the table after those, while there are any */
    const struct argp_option *last; /* argp's own table, which comes last, or null after it */
};

struct option_walk option_walk(const struct command *command);
/* The next option that has a name; null at the end. */
const struct argp_option *option_next(struct option_walk *walk);

#endif
