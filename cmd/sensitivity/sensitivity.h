/* ivon-sensitivity: parsed and run by sensitivity.c, printed by sensitivity/output.c;
   sensitivity/resume.c tells runs apart, sensitivity/remove.c writes posteriors,
   sensitivity/suspects.c finds wrong labels. */
#ifndef CMD_SENSITIVITY_SENSITIVITY_H
#define CMD_SENSITIVITY_SENSITIVITY_H

#include <jansson.h>

#include "cmd/shared/evaluation/evaluation.h"
#include "cmd/shared/inputs/open.h"
#include "cmd/shared/options/options.h"
#include "cmd/shared/options/row_ranges.h"

enum { SCORES_MAX = 32 };

/* The rows that --suspects prints. */
enum suspects { SUSPECTS_NONE, SUSPECTS_ROWS, SUSPECTS_CLASSES };

struct sensitivity_command {
    struct common_options common;
    struct draw_options draw;
    struct file_options files;
    struct open_options open;
    struct evaluation_options evaluation;
    struct ivon_sensitivity_options options;
    const char *posterior;
    enum ivon_score scores[SCORES_MAX]; /* in the order of their columns */
    size_t score_count;
    const char *groups, *on, *output, *sort;
    int format;     /* -1: by the output's suffix */
    size_t top;     /* 0: all */
    size_t samples; /* of --expectation=samples */
    bool vectors, sorted, per_token, resume, score_given, by_samples, samples_given;
    bool format_given, json, ascending;
    enum suspects suspects;
    struct row_range *ranges; /* of --remove; null: it is not given */
    size_t range_count;

    /* While it runs: */
    struct ivon_source *source;
    struct ivon_network *network;
    struct ivon_examples *examples, *whole, *test, *removed;
    json_t *provenance;
    struct ivon_sensitivity *sensitivity;
};

/* All that the rows of a run depend on, as text, to be freed: --resume goes on with equal ones. */
char *sensitivity_describe_run(const struct sensitivity_command *command,
                               const struct ivon_sensitivity_shape *shape);

/* The destination of the rows. */
struct sensitivity_output;

/* Opens it for `shape`, before any work, since an output may not be replaced. *first receives with
   which example to begin: those before are there from an interrupted run. */
int sensitivity_output_open(struct sensitivity_output **output, struct sensitivity_command *command,
                            const struct ivon_sensitivity_shape *shape, const char *provenance,
                            uint64_t *first, struct ivon_error *error);
void sensitivity_output_close(struct sensitivity_output *output);

/* Opens the table that --output and --format ask for; `naming` says which columns have classes. */
int sensitivity_open_table(const struct sensitivity_command *command, struct ivon_table **table,
                           const struct ivon_column *columns, const enum ivon_naming *naming,
                           size_t count, uint64_t rows, const char *provenance,
                           struct ivon_error *error);

/* Takes a block; for ivon_sensitivity_run. */
int sensitivity_output_take(void *context, const struct ivon_sensitivities *block,
                            struct ivon_error *error);

/* Writes what was kept back, and completes the output. */
int sensitivity_output_finish(struct sensitivity_output *output, struct ivon_error *error);

/* One row for each group that was removed. */
int sensitivity_output_groups(const struct sensitivity_command *command,
                              const struct ivon_group_removal *removals, size_t count,
                              const char *provenance, struct ivon_error *error);

/* Reads the argument of --remove, or ends the program; ends it where the other options do not go
   with that. */
void sensitivity_parse_rows(struct sensitivity_command *command, struct argp_state *state,
                            const char *argument);
void sensitivity_check_remove(const struct sensitivity_command *command, struct argp_state *state);

/* Returns whether a loss is not finite for want of the examples. Losses are NaN where none counts,
   without them as with them. */
bool sensitivity_overflows(double loss, double without);

/* Makes `removed` of the examples that --remove names. */
int sensitivity_select_rows(struct sensitivity_command *command, struct ivon_error *error);

/* Writes the posterior without them, and prints a summary. */
int sensitivity_remove(struct sensitivity_command *command, struct ivon_error *error);

/* Ends the program where other options do not go with --suspects. */
void sensitivity_check_suspects(const struct sensitivity_command *command,
                                struct argp_state *state);

/* Runs over all examples, and prints the suspects or the classes. */
int sensitivity_find_suspects(struct sensitivity_command *command,
                              const struct ivon_sensitivity_shape *shape, const char *provenance,
                              struct ivon_error *error);

#endif
