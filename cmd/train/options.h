/* The parts of ivon-train's options: those of evaluations (train/watch_options.c), and of a search
   (train/search_options.c), which train/options.c puts together. */
#ifndef CMD_TRAIN_OPTIONS_H
#define CMD_TRAIN_OPTIONS_H

#include <argp.h>

#include "cmd/train/train.h"

/* Their input is the struct train_command. Each ends the program where an option is wrong. */
extern const struct argp train_watch_argp, train_search_argp;

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
