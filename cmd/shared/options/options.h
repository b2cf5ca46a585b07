/* The options that commands have in common. */
#ifndef CMD_SHARED_OPTIONS_OPTIONS_H
#define CMD_SHARED_OPTIONS_OPTIONS_H

#include <argp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ivon/dataset.h"
#include "ivon/sample.h"

#ifdef IVON_ANALYSIS /* given an exit status, it does not return */
_Noreturn void argp_failure(const struct argp_state *, int status, int, const char *, ...);
#endif

struct common_options {
    bool quiet;
    bool verbose;
    int threads; /* 0: one for each processor */
};

/* A line above the options of a group. */
#define OPTION_HEADING(text, group)                                                                \
    {                                                                                              \
        NULL, 0, NULL, 0, text, group                                                              \
    }

/* -h: a child of the argp of a command that has no common options. */
extern const struct argp help_argp;

/* -q, -v, -j, -h: a child of every other command's argp; its input is a struct common_options. */
extern const struct argp common_argp;

/* --force, --no-provenance: a child of every command that writes files; its input is
   a struct file_options. */
struct file_options {
    bool force;
    bool no_provenance;
};
extern const struct argp file_argp;

/* Each reads an option's argument, or ends the program with one line that names `what`. */
double option_number(struct argp_state *state, const char *what, const char *text);
double option_positive(struct argp_state *state, const char *what, const char *text);
uint64_t option_whole(struct argp_state *state, const char *what, const char *text, uint64_t min,
                      uint64_t max);
size_t option_size(struct argp_state *state, const char *what, const char *text);   /* 512M, 2GiB */
int64_t option_label(struct argp_state *state, const char *what, const char *text); /* -100 */
/* Reads `count` finite numbers with a separator between them, and moves *text behind them; false
   where they are not there. */
bool option_numbers(const char **text, char separator, double *numbers, size_t count);
/* The argument of --weights: W,W,..., positive numbers, *count of them, to be freed. */
double *option_weights(struct argp_state *state, const char *text, size_t *count);
/* The argument of --resize: SHORT, SHORT,MIDDLE or HEIGHTxWIDTH. */
void option_resize(struct argp_state *state, const char *text,
                   struct ivon_dataset_options *dataset);
/* The index of `text` among `count` names. */
int option_choice(struct argp_state *state, const char *what, const char *text,
                  const char *const *names, int count);
/* The same, among names that bars separate: "csv|jsonl". */
int option_choice_of(struct argp_state *state, const char *what, const char *text,
                     const char *names);

/* A floating-point type, or IVON_DTYPE_KEEP. */
int option_dtype(struct argp_state *state, const char *what, const char *text);

/* How often `mark`, such as "%d", occurs in the name of an output. */
int output_marks(const char *name, const char *mark);
/* The name, to be freed, with its first mark, if any, replaced: it is never a format. */
char *output_name(const char *name, const char *mark, const char *replacement);

/* Fails where an output exists that may not be replaced, before the work of which it is the end; a
   null path is none. */
int output_refuse(const char *path, bool replace, struct ivon_error *error);

/* --include and --exclude: glob patterns on tensor names. */
struct name_filter {
    const char **patterns;
    bool *excludes; /* per pattern */
    bool *matched;  /* per pattern: whether any name ever matched it */
    size_t count;
};

void name_filter_add(struct name_filter *filter, const char *pattern, bool exclude);
/* Included if any include matches or there is none, and no exclude matches. */
bool name_filter_selects(void *filter, const char *name);
/* A pattern that matched nothing, or null. */
const char *name_filter_unused(const struct name_filter *filter);
/* Warns of such a pattern. */
void name_filter_warn_unused(const struct name_filter *filter);
void name_filter_release(struct name_filter *filter);

/* --seed, --posterior-temperature, --include, --exclude: a child of every command that draws
   weights; its input is a struct draw_options. */
struct draw_options {
    struct ivon_sample_options sample; /* what is selected follows the filter */
    struct name_filter filter;
    bool given;            /* any of these options */
    bool seeded, tempered; /* --seed, --posterior-temperature */
    bool old_name;         /* the latter as --temperature */
};
extern const struct argp draw_argp;

/* The defaults; to be released by name_filter_release(&options->filter). Draws by the filter once
   it has a pattern, so the options may not move then. */
struct draw_options draw_defaults(void);

/* Warns of an option by its old name, and of a pattern that matched nothing. */
void draw_warn(const struct draw_options *options);

#endif
