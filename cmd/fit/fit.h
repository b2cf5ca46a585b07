/* The inside of the command ivon-fit: parsed and run by fit.c; fit/tune.c has the prior of a
   posterior that there is already, fit/validate.c the choice by data that the network was not
   trained on, fit/swag.c what takes checkpoints alone, fit/state.c what a fit that is interrupted
   goes on from, fit/output.c what all write. */
#ifndef CMD_FIT_FIT_H
#define CMD_FIT_FIT_H

#include <jansson.h>

#include "cmd/shared/evaluation/evaluation.h"
#include "cmd/shared/inputs/open.h"
#include "ivon/ivon.h"

struct fit_command {
    struct common_options common;
    struct file_options files;
    struct open_options open;
    struct evaluation_options evaluation;
    struct name_filter filter;
    struct ivon_fit_options options;
    const char *input, *output;
    const char **inputs; /* all that are named: one, but of --structure=swag */
    size_t input_count;
    const char *validation; /* data whose loss chooses the weight decay; or null */
    const char *of_data;    /* an option that is given and says how data are to be used; or null */
    bool json, drawn, structured, low_rank, ranked, tuned, by_validation, swag, resume;
    bool alone; /* --tune alone: a posterior gets another prior, without data */
    /* Opened: */
    struct ivon_source *source, *result;
    struct ivon_network *network;
    struct ivon_examples *examples, *whole, *held_out;
    struct ivon_fit *fit;
    struct ivon_tuning *tuning;
    void *graph;
    size_t graph_size;
    char *part; /* file of the state */
    bool part_exists, part_kept;
};

/* The threads that read what is written: one, where ranks hold a part of it together. */
int fit_write_threads(const struct fit_command *command);

/* Writes the result that was made. */
int fit_write_result(struct fit_command *command, json_t *provenance, struct ivon_error *error);

/* Ends the program unless the arguments are those of --tune alone. */
void fit_tune_check(const struct fit_command *command, struct argp_state *state);

/* Gives a posterior that there is already another prior, and prints what was chosen. */
int fit_tune_alone(struct fit_command *command, json_t *provenance, struct ivon_error *error);

/* A search for the prior of least NLL on --validation, over powers of ten. */
enum { FIT_DECAY, FIT_TEMPERATURE, FIT_AXES };
struct fit_search {
    struct fit_command *command;
    bool moves[FIT_AXES];   /* what is searched */
    double value[FIT_AXES]; /* weight decay and temperature: where it begins, and what it found */
    double nll;             /* of what it found */
    double floor;           /* weight decays must be above it */
    /* Makes the posterior with such a prior. */
    int (*make)(const struct fit_search *search, const double value[FIT_AXES],
                struct ivon_source **source, struct ivon_error *error);
};
int fit_search_run(struct fit_search *search, struct ivon_error *error);

/* The NLL of the held-out data by a posterior, closed then, averaged over samples that are the same
   numbers whatever its covariance. */
int fit_held_out_nll(struct fit_command *command, struct ivon_source *source, double *nll,
                     struct ivon_error *error);

/* Sets the weight decay of a posterior that was fitted to the one of least NLL on --validation. */
int fit_validate(struct fit_command *command, struct ivon_error *error);

/* Ends the program where --structure=swag and the other options do not go together. */
void fit_check_swag(struct fit_command *command, struct argp_state *state);

/* Writes SWAG's posterior of the checkpoints, and prints a summary. */
int fit_swag(struct fit_command *command, json_t *provenance, struct ivon_error *error);

/* Before the fit is made: where its state is, and whether there is one; by rank 0. */
int fit_state_begin(struct fit_command *command, struct ivon_error *error);
/* And how it is saved. */
void fit_state_set(struct fit_command *command);
/* Before it is run: takes up the state that there is, with --resume. */
int fit_state_resume(struct fit_command *command, struct ivon_error *error);
/* Runs ivon_fit_run or ivon_fit_correct, of which a signal saves the state. */
int fit_state_run(struct fit_command *command,
                  int (*run)(struct ivon_fit *fit, struct ivon_error *error),
                  struct ivon_error *error);
/* Once the output is there, removes the state; else says that it is kept. */
void fit_state_end(struct fit_command *command, bool done);

#endif
