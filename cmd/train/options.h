/* The parts of ivon-train's options: those of the optimizer and the loss (train/method_options.c),
   of evaluations (train/watch_options.c), and of a search (train/search_options.c), which
   train/options.c puts together. */
#ifndef CMD_TRAIN_OPTIONS_H
#define CMD_TRAIN_OPTIONS_H

#include <argp.h>

#include "cmd/train/train.h"

/* The options that were given, until the method is known. */
enum { TRAIN_NUMBERS_MAX = 16 };
struct train_given {
    struct train_command *command;
    double numbers[TRAIN_NUMBERS_MAX];
    bool number[TRAIN_NUMBERS_MAX];
    bool hessian, hess_every, samples, rescale, debias, init, basis_every, max_factor;
    bool rescaled, debiased;
};

/* The input of the first is the struct train_given, of the others the struct train_command. Each
   ends the program where an option is wrong. */
extern const struct argp train_method_argp, train_watch_argp, train_search_argp;

/* Returns whether a number of the method was given, by the name of its option ("--lr"). */
bool train_method_given(const struct train_given *given, const char *name);

/* Sets the method's defaults, and over them what was given. Ends the program where that is not for
   the method. */
void train_settle_method(struct train_given *given, struct argp_state *state);

/* Ends the program where there are options of tests, or a judge, for which the data are missing. */
void train_check_watch(const struct train_command *command, struct argp_state *state);

/* Settles, once the method is known, which loss --patience is with, and whether the leave-one-out
   loss is wanted. */
void train_settle_watch(struct train_command *command, struct argp_state *state);

/* Ends the program where options do not go with --find-lr: a sweep of rates sets rate and length
   itself, and writes no directory. `rate` and `average` say whether --lr and --average were
   given. */
void train_check_find_lr(const struct train_command *command, bool rate, bool average,
                         struct argp_state *state);

/* Remembers the words of an option as none of a single training's. In a cluster of short ones, as
   in `-qo DIR`, they stay; a later --output counts for more. */
void train_set_aside(struct train_command *command, const char *argument,
                     const struct argp_state *state);

#endif
