/* ivon-train: parsed by train.c and train/param_groups.c, run by train/run.c; train/directory.c
   keeps what is written, train/settings.c what it was trained with, and train/replay.c trains so
   again. */
#ifndef CMD_TRAIN_TRAIN_H
#define CMD_TRAIN_TRAIN_H

#include <jansson.h>

#include "cmd/shared/evaluation.h"
#include "cmd/shared/options.h"

/* Those of --param-group, in the order in which they were given. */
struct param_groups {
    struct ivon_train_group *items; /* own their patterns */
    size_t count;
};

struct train_command {
    struct common_options common;
    struct file_options files;
    struct evaluation_options evaluation;
    struct ivon_train_options options;
    struct name_filter freeze;
    struct param_groups groups;
    const char *architecture, *from, *test, *directory;
    const char *augment; /* as it was given; null: not at all */
    bool resume, posterior_prior, no_sandbox;
    uint64_t save_every, eval_every; /* steps; UINT64_MAX: once an epoch */
    bool eval_given;

    /* While it runs: */
    char *provenance;
    struct ivon_examples *examples, *test_examples;
    struct ivon_source *weights; /* of --from */
    struct ivon_network *network;
    struct ivon_trainer *trainer;
    struct train_directory *written;
    void *graph; /* the bytes of an ONNX file */
    size_t graph_size;
};

/* Reads the arguments, with flags of argp; ends the program where they are wrong. The command may
   not move from then on. */
void train_command_parse(struct train_command *command, int argc, char **argv, unsigned flags);
void train_command_release(struct train_command *command);

/* Makes the network of a graph, which is not bound yet: that of --model, or else of the weights
   that the training begins with, or goes on from. None of an architecture. */
int train_make_network(struct train_command *command, struct ivon_source *resumed,
                       struct ivon_error *error);

/* Trains. The error's code is IVON_ERROR_CANCELLED when a signal stopped it, after saving. */
int train(struct train_command *command, struct ivon_error *error);

/* The options that decide about the bits of a training, for its checkpoints' provenance; `augment`
   is --augment as it was given. */
json_t *train_settings(const struct ivon_train_options *options, const char *augment);

/* Warns of those that differ from what the checkpoint that a training goes on from says of its own,
   where it says it. */
void train_settings_compare(const struct ivon_train_options *options, const char *augment,
                            struct ivon_source *resumed);

/* Adds an argument of --param-group; ends the program where it is none. */
void param_groups_add(struct param_groups *groups, const char *argument, struct argp_state *state);

/* Ends the program where a group has what the method has not. */
void param_groups_check(const struct param_groups *groups, enum ivon_method method,
                        struct argp_state *state);
void param_groups_release(struct param_groups *groups);

/* The arguments of --param-group, for provenance; null: none. */
json_t *param_groups_json(const struct ivon_train_options *options);

/* The directory of a training: posterior-%08d.h5, log.csv, done. */
struct train_directory;

/*
 * Looks at a directory, which need not exist. Where it holds checkpoints, *newest receives with
 * `resume` the path of the one of the latest step, to be freed; else, unless `replace`, this fails
 * with IVON_ERROR_CREATE. *newest is null otherwise.
 */
int train_directory_open(struct train_directory **directory, const char *path, bool replace,
                         bool resume, char **newest, struct ivon_error *error);
void train_directory_close(struct train_directory *directory);

/* A row of log.csv. */
struct train_row {
    uint64_t step;
    double epoch, loss, rate;
    double test_loss, test_error; /* NaN: not evaluated */
};

/* Makes the directory, and removes what another training left in it; after step 0, keeps all but
   the log's rows behind that step. */
int train_begin(struct train_directory *directory, uint64_t step, struct ivon_error *error);
int train_log_add(struct train_directory *directory, const struct train_row *row,
                  struct ivon_error *error);

/* Return whether the last row has no test, and complete that row. */
bool train_log_lacks_test(const struct train_directory *directory);
int train_log_add_test(struct train_directory *directory, double loss, double error_rate,
                       struct ivon_error *error);

/* Writes a checkpoint under its step's name. */
int train_save(struct train_directory *directory, struct ivon_source *source,
               const char *provenance, struct ivon_error *error);

/* Says that the training ended. */
int train_done(struct train_directory *directory, struct ivon_error *error);

#endif
