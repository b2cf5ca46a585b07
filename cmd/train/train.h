/* ivon-train: its options are parsed by train/options.c and its parts (train/options.h),
   train/param_groups.c and train/class_weights.c, and train.c starts what they ask for: a training
   (train/run.c), a grid of them (train/grid.c) or a sweep of the rate (train/find_lr.c).
   train/directory.c and train/log.c keep what is written, train/loo.c evaluates and train/stop.c
   judges by that, train/closing.c tells what was made, train/settings.c keeps what it was trained
   with, and train/replay.c trains so again. */
#ifndef CMD_TRAIN_TRAIN_H
#define CMD_TRAIN_TRAIN_H

#include <jansson.h>

#include "cmd/shared/evaluation/evaluation.h"
#include "cmd/shared/options/options.h"

/* Those of --param-group, in the order in which they were given. */
struct param_groups {
    struct ivon_train_group *items; /* own their patterns */
    size_t count;
};

/* The options of evaluations along the training, of which those by the leave-one-out loss need no
   data but its own. */
struct train_watch {
    bool loo;
    uint64_t loo_every; /* steps; UINT64_MAX: once an epoch */
    uint64_t loo_rows;  /* 0: all */
    uint64_t patience;  /* evaluations; 0: none */
    bool by_test;       /* patience is with the test loss */
    bool loo_every_given, stop_by_given;
};

/* The evaluations so far, as they say when to stop. */
struct train_stop {
    double best;        /* the least loss, as log.csv has it; INFINITY: none yet */
    uint64_t best_step; /* of that */
    uint64_t count;     /* evaluations since */
    uint64_t last_step; /* of the last one */
};

/* A row of log.csv. */
struct train_row {
    uint64_t step;
    double epoch, loss, rate;
    double test_loss, test_error; /* NaN: not evaluated */
    bool loo;                     /* evaluated; the numbers may be NaN all the same */
    double loo_loss, loo_loss_se;
};
/* By which loss the combinations of a grid are ranked. */
enum train_judge { TRAIN_JUDGE_TEST, TRAIN_JUDGE_HELD_OUT, TRAIN_JUDGE_LOO };
#define TRAIN_JUDGES "test|held-out|loo"

/* --lora: weights whose names match get factors of that rank; the first that matches counts, and
   of a rank of 0 they have none. */
struct train_lora_rule {
    const char *text; /* as it was given */
    char *glob;
    int64_t rank;
    bool matched;
};
struct train_lora {
    struct train_lora_rule *rules;
    size_t count;
};

struct train_command {
    struct common_options common;
    struct file_options files;
    struct evaluation_options evaluation;
    struct ivon_train_options options;
    struct name_filter freeze;
    struct param_groups groups;
    struct train_lora lora;
    const char *architecture, *from, *test, *directory;
    const char *augment, *class_weights; /* as they were given; null: not at all */
    bool resume, posterior_prior, no_sandbox;
    uint64_t save_every, eval_every; /* steps; UINT64_MAX: once an epoch */
    bool eval_given;
    struct train_watch watch;
    double held_out; /* a share; 0: none */
    uint64_t held_out_seed;
    const char **grids; /* --grid, each as it was given */
    size_t grid_count;
    int judge;        /* enum train_judge; -1: not given */
    bool *aside;      /* of the words of the command line: not one of a combination's */
    uint64_t find_lr; /* steps of the sweep; 0: none */

    /* While it runs: */
    double *weights_of_classes; /* owned */
    char *provenance;
    const char *label; /* before what progress says; null: nothing */
    bool diverged;
    /* Of --held-out both are of all_examples. */
    struct ivon_examples *examples, *test_examples, *all_examples;
    struct ivon_examples *loo_examples; /* the examples, or some of them; null: not wanted */
    struct train_stop stop;
    bool warned_of_loo;          /* that it is not finite */
    bool warned_of_hessian;      /* that it will be as it began */
    struct ivon_source *weights; /* of --from */
    struct ivon_network *network;
    struct ivon_trainer *trainer;
    struct train_directory *written;
    struct train_log *log;
    struct train_row last_row; /* of the log; of step 0: there is none */
    void *graph;               /* the bytes of an ONNX file */
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

/* Opens what a training begins with, and makes the trainer, which goes on from `resumed` unless
   that is null. */
int train_open(struct train_command *command, struct ivon_source *resumed,
               struct ivon_error *error);

/* Trains. The error's code is IVON_ERROR_CANCELLED when a signal stopped it, after saving. */
int train(struct train_command *command, struct ivon_error *error);

/* The same with the provenance that checkpoints get, unless --no-provenance leaves it out. Frees
   the object. */
int train_recorded(struct train_command *command, json_t *provenance, struct ivon_error *error);

/* Takes --class-weights, or ends the program where it is a list that has something else than
   weights. Then reads the file that it names, if it does. The weights as the provenance has them;
   null: there are none. */
void train_class_weights_parse(struct train_command *command, const char *text,
                               struct argp_state *state);
int train_class_weights_take(struct train_command *command, struct ivon_error *error);
json_t *train_class_weights_json(const struct ivon_train_options *options);

/* Parts the examples into those to train on and those of --held-out. */
int train_hold_out(struct train_command *command, struct ivon_error *error);

/* The options that decide about the bits of a training, for its checkpoints' provenance. */
json_t *train_settings(const struct train_command *command);

/* Warns of those that differ from what the checkpoint that a training goes on from says of its own,
   where it says it. */
void train_settings_compare(const struct train_command *command, struct ivon_source *resumed);

/* Adds an argument of --param-group; ends the program where it is none. */
void param_groups_add(struct param_groups *groups, const char *argument, struct argp_state *state);

/* Ends the program where a group has what the method has not. */
void param_groups_check(const struct param_groups *groups, enum ivon_method method,
                        struct argp_state *state);
void param_groups_release(struct param_groups *groups);

/* The arguments of --param-group, for provenance; null: none. */
json_t *param_groups_json(const struct ivon_train_options *options);

/* Reads GLOB:RANK; ends the program where it is wrong. */
void train_lora_add(struct train_lora *lora, struct argp_state *state, const char *argument);

/* The rank of a weight of that name, 0 for none: the context is a struct train_lora. */
int64_t train_lora_rank(void *context, const char *name);
void train_lora_warn_unused(const struct train_lora *lora);

/* The arguments of --lora, for provenance; null: none. */
json_t *train_lora_json(const struct ivon_train_options *options);
void train_lora_release(struct train_lora *lora);

/* Writes the factors that were trained into the training's directory, as an adapter of PEFT. */
int train_write_adapter(const struct train_command *command, struct ivon_error *error);

/* The directory of a training: posterior-%08d.h5, log.csv, done, an adapter's two files, and of one
   with patience best.h5, a link to one of the first. */
struct train_directory;

/*
 * Looks at a directory, which need not exist. Where it holds checkpoints, *newest receives with
 * `resume` the path of the one of the latest step, to be freed; else, unless `replace`, this fails
 * with IVON_ERROR_CREATE. *newest is null otherwise. Of several ranks only rank 0 looks.
 */
int train_directory_open(struct train_directory **directory, const char *path, bool replace,
                         bool resume, char **newest, struct ivon_error *error);
void train_directory_close(struct train_directory *directory);

/* Makes the directory, and removes what another training left in it; after step 0, keeps all but
   the log's rows behind that step. Opens the log, to be closed also where this fails. */
int train_begin(struct train_directory *directory, uint64_t step, struct train_log **log,
                struct ivon_error *error);

/* Opens a log anew: empty, or with the rows that there are up to a step above 0. */
struct train_log;
int train_log_open(struct train_log **log, const char *path, uint64_t step,
                   struct ivon_error *error);
void train_log_close(struct train_log *log);

/* Hands out the rows in their order. */
int train_log_read(struct train_log *log,
                   void (*on_row)(void *context, const struct train_row *row), void *context,
                   struct ivon_error *error);

int train_log_add(struct train_log *log, const struct train_row *row, struct ivon_error *error);

/* Writes the last row, which was read or added, anew: with more numbers than it had. */
int train_log_complete(struct train_log *log, const struct train_row *row,
                       struct ivon_error *error);

/* Writes a checkpoint under its step's name. */
int train_save(struct train_directory *directory, struct ivon_source *source,
               const char *provenance, struct ivon_error *error);

/* The path of the latest checkpoint, to be freed; null: there is none. */
char *train_newest(const struct train_directory *directory);

/* The path of log.csv. Borrowed. */
const char *train_log_path(const struct train_log *log);

/* Notes what a training made that ended; its last steps had that loss on average, NaN: unknown. */
void train_note_end(const struct train_command *command, double loss);

/* Adds to the error of a training that diverged where its losses are, and which checkpoint stays;
   returns its code. */
int train_note_divergence(const struct train_command *command, int code, struct ivon_error *error);

/* Return whether the checkpoint of a step is there, and remove it. */
bool train_has(const struct train_directory *directory, uint64_t step);
int train_remove(struct train_directory *directory, uint64_t step, struct ivon_error *error);

/* Return whether best.h5 leads to a checkpoint, of *step, and let it lead to one that is there. */
bool train_best(const struct train_directory *directory, uint64_t *step);
int train_set_best(struct train_directory *directory, uint64_t step, struct ivon_error *error);

/* Chooses the examples that are left out, and checks that they can be. */
int train_loo_begin(struct train_command *command, struct ivon_error *error);

/* Sets the row's leave-one-out loss, that of the trainer's posterior: to the last bit what
   ivon-predict-gen says of the checkpoint. */
int train_loo(struct train_command *command, struct train_row *row, struct ivon_error *error);

/* Takes a row into account, if the loss that decides is in it. */
void train_stop_add(struct train_stop *stop, const struct train_watch *watch,
                    const struct train_row *row);

/* Return whether a step has the least loss so far, and whether it is time to stop. */
bool train_stop_is_best(const struct train_stop *stop, uint64_t step);
bool train_stop_due(const struct train_stop *stop, const struct train_watch *watch);

/* Adds the options that decide about the end. */
void train_stop_settings(const struct train_command *command, json_t *settings);

/* Says where the best checkpoint is. */
void train_stop_note(const struct train_command *command, uint64_t step);

/* Says that the training ended, and which checkpoint was the best. */
int train_done(struct train_directory *directory, struct ivon_error *error);

#endif
