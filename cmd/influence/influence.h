/* ivon-influence: parsed and run by influence.c, written by influence/output.c; --validate by
   influence/validate.c, --self by influence/self.c. */
#ifndef CMD_INFLUENCE_INFLUENCE_H
#define CMD_INFLUENCE_INFLUENCE_H

#include "cmd/shared/evaluation/evaluation.h"
#include "cmd/shared/inputs/open.h"
#include "cmd/shared/options/options.h"
#include "cmd/shared/process/progress.h"
#include "cmd/shared/options/row_ranges.h"

/* One --queries. */
struct influence_file {
    const char *path;
    struct ivon_examples *examples, *selected; /* selected: those that --rows names, or null */
    bool none;                                 /* it names none of this file */
};

/* --validate, and what goes with it. */
struct validate_options {
    size_t halves; /* 0: not given */
    uint64_t seed;
    const char *run, *from;
    bool given; /* any but --validate */
};

struct influence_command {
    struct common_options common;
    struct file_options files;
    struct open_options open;
    struct evaluation_options evaluation;
    struct name_filter filter;
    struct ivon_sensitivity_options scale; /* whose rho and n_train are taken */
    struct ivon_influence_options options;
    const char **posteriors, *output, *groups;
    size_t posterior_count;
    double *weights; /* of posteriors; null: equal */
    size_t weight_count;
    struct influence_file *queries;
    size_t query_files;
    struct row_range *ranges; /* of --rows; null: it is not given */
    size_t range_count;
    int format; /* -1: by the output's suffix */
    size_t top; /* K of --top */
    bool top_given, self;
    struct validate_options validate;

    /* While it runs: */
    struct progress *progress;
    struct ivon_source *source;
    struct ivon_network *network;
    struct ivon_examples *examples, *whole;
    uint64_t *rows; /* of each query; null: its own number */
    struct ivon_influence *influence;
    struct ivon_sensitivity *sensitivity; /* in its place with --self */
    struct influence_sums *sums;          /* null: rows go to the output as they come */
};

/* Takes a block of influences; see ivon_influence_run. */
typedef int influence_taker(void *context, const struct ivon_influences *block,
                            struct ivon_error *error);

/* Sums of the influences of rows: over groups, which take the rows' place, and over posteriors. */
struct influence_sums;

/* `groups` has the number of each example, and is taken over; null: each is by itself. */
int influence_sums_new(struct influence_sums **sums, int64_t *groups,
                       const struct ivon_influence_shape *shape, struct ivon_error *error);
void influence_sums_free(struct influence_sums *sums);

/* The weight of the influences that are to come; 1 at first. */
void influence_sums_set_weight(struct influence_sums *sums, double weight);

/* Adds a block; for ivon_influence_run. */
int influence_sums_take(void *context, const struct ivon_influences *block,
                        struct ivon_error *error);

/* Returns how many groups there are, or examples; the groups' numbers, rising, and how many
   examples each has are borrowed, and null where there are none. */
size_t influence_sums_groups(const struct influence_sums *sums, const int64_t **numbers,
                             const int64_t **counts);

/* Hands the sums to `on_block`, a group for an example. */
int influence_sums_give(const struct influence_sums *sums, influence_taker *on_block, void *context,
                        struct ivon_error *error);

/* The destination of influences: the matrix, the greatest for each query, or both. */
struct influence_output;

/* Opens it before any work, since an output may not be replaced. */
int influence_output_open(struct influence_output **output, const struct influence_command *command,
                          const struct ivon_influence_shape *shape, const char *provenance,
                          struct ivon_error *error);
void influence_output_close(struct influence_output *output);

/* Takes a block; for ivon_influence_run. */
int influence_output_take(void *context, const struct ivon_influences *block,
                          struct ivon_error *error);

/* Reasons to warn: influences that are no finite numbers, or that are all 0. */
struct influence_oddities {
    uint64_t infinite;
    bool nothing;
};

/* Writes what was kept back, and completes the outputs. */
int influence_output_finish(struct influence_output *output, struct influence_oddities *oddities,
                            struct ivon_error *error);

/* Ends the program where options do not go with --self. */
void influence_self_check(const struct influence_command *command, struct argp_state *state);

/* As ivon_influence_new, _shape and _run, of each row on itself, as if that were one query. */
int influence_self_new(struct influence_command *command, struct ivon_error *error);
struct ivon_influence_shape influence_self_shape(const struct influence_command *command);
int influence_self_run(struct influence_command *command, influence_taker *on_block, void *context,
                       struct ivon_error *error);

/* The options of --validate: a child of the command's argp; its input is the struct. */
extern const struct argp validate_argp;

/* Ends the program where options do not go together. */
void influence_validate_check(struct influence_command *command, struct argp_state *state);

/* The score of influences: how well their sums foretell what trainings on halves show. */
struct validation;

/* Opens what the training and the output need, before any work, and runs over the influences, which
   are set up and not needed afterwards. */
int influence_validate_begin(struct validation **validation, struct influence_command *command,
                             const char *provenance, struct ivon_error *error);

/* Trains, and writes the scores. */
int influence_validate_end(struct validation *validation, struct ivon_error *error);
void influence_validate_close(struct validation *validation);

#endif
