/* The inside of the command ivon-fit: parsed and run by fit.c; fit/validate.c has the choice of a
   weight decay by data that the network was not trained on, fit/swag.c what takes checkpoints
   alone, fit/state.c what a fit that is interrupted goes on from. */
#ifndef CMD_FIT_FIT_H
#define CMD_FIT_FIT_H

#include <jansson.h>

#include "cmd/shared/evaluation.h"
#include "cmd/shared/open.h"
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
    bool json, drawn, low_rank, ranked, tuned, by_validation, swag, resume;
    /* Opened: */
    struct ivon_source *source, *result;
    struct ivon_network *network;
    struct ivon_examples *examples, *whole, *held_out;
    struct ivon_fit *fit;
    void *graph;
    size_t graph_size;
    char *part; /* file of the state */
    bool part_exists, part_saved;
};

/* Sets the weight decay of a posterior that was fitted to the one of least NLL on --validation. */
int fit_validate(struct fit_command *command, struct ivon_error *error);

/* Ends the program where --structure=swag and the other options do not go together. */
void fit_check_swag(struct fit_command *command, struct argp_state *state);

/* Writes SWAG's posterior of the checkpoints, and prints a summary. */
int fit_swag(struct fit_command *command, json_t *provenance, struct ivon_error *error);

/* Before the fit is made: where its state is, whether there is one, and how it is saved. */
int fit_state_begin(struct fit_command *command, struct ivon_error *error);
/* Before it is run: takes up the state that there is, with --resume. */
int fit_state_resume(struct fit_command *command, struct ivon_error *error);
/* Runs ivon_fit_run or ivon_fit_correct, of which a signal saves the state. */
int fit_state_run(struct fit_command *command,
                  int (*run)(struct ivon_fit *fit, struct ivon_error *error),
                  struct ivon_error *error);
/* Once the output is there, removes the state; else says that it is kept. */
void fit_state_end(struct fit_command *command, bool done);

#endif
