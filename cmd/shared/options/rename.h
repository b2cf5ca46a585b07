/* --rename: names by regular expressions. */
#ifndef CMD_SHARED_OPTIONS_RENAME_H
#define CMD_SHARED_OPTIONS_RENAME_H

#include <argp.h>
#include <regex.h>
#include <stdbool.h>
#include <stddef.h>

struct rename_rule {
    const char *text;        /* as given */
    const char *replacement; /* within it */
    regex_t expression;
    bool matched; /* any name ever */
};

/* Rules, applied in their order. Zero-initialised, there is none. */
struct rename_rules {
    struct rename_rule *rules;
    size_t count;
};

/* REGEX:REPL, split at the last colon; a POSIX extended regular expression. Ends the program where
   it is none. */
void rename_add(struct rename_rules *rules, struct argp_state *state, const char *text);

/* The new name, to be freed. Every match is replaced; \1 to \9 stand for what the expression's
   groups matched, \0 for the match, any other \C for C. */
char *rename_apply(struct rename_rules *rules, const char *name);

/* A rule that matched nothing, as given, or null. */
const char *rename_unused(const struct rename_rules *rules);

void rename_release(struct rename_rules *rules);

#endif
