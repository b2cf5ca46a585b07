#include "cmd/shared/options/walk.h"

#include <stddef.h>

static const struct argp_option standard_options[] = {
    {"help", '?', NULL, 0, "Give this help list", 0},
    {"usage", 500, NULL, 0, "Give a short usage message", 0},
    {"version", 'V', NULL, 0, "Print program version", 0},
    {0},
};

struct option_walk option_walk(const struct command *command)
{
    return (struct option_walk){.next = command->argp->options,
                                .children = {command->argp->children},
                                .last = standard_options};
}

static void next_table(struct option_walk *walk)
{
    while (walk->depth >= 0) {
        const struct argp_child *child = walk->children[walk->depth];
        if (!child || !child->argp) {
            walk->depth--;
            continue;
        }
        walk->children[walk->depth]++;
        walk->next = child->argp->options;
        if (walk->depth + 1 < OPTION_DEPTH)
            walk->children[++walk->depth] = child->argp->children;
        return;
    }
    walk->next = walk->last;
    walk->last = NULL;
}

const struct argp_option *option_next(struct option_walk *walk)
{
    for (;;) {
        while (walk->next && (walk->next->name || walk->next->key || walk->next->doc)) {
            const struct argp_option *option = walk->next++;
            if (option->name)
                return option;
        }
        if (!walk->last)
            return NULL;
        next_table(walk);
    }
}
