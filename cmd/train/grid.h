/* A grid of trainings: one for each combination of options' values, each in a folder of its own
   below --output, and a table of what became of them. */
#ifndef CMD_TRAIN_GRID_H
#define CMD_TRAIN_GRID_H

#include "cmd/train/train.h"

struct train_grid;

/* Reads --grid of a command whose words are argv, and both outlive the grid; the options of every
   combination are checked, and the program ends where they are wrong. The grid has to be freed in
   any case. */
int train_grid_new(struct train_grid **grid, const struct train_command *command, int argc,
                   char **argv, struct ivon_error *error);
void train_grid_free(struct train_grid *grid);

/* The words of the command, and those that combinations have in their place: borrowed. */
char **train_grid_words(const struct train_grid *grid, int *count);

/*
 * Trains with one combination after the other, as ivon-train with the same options would, and
 * writes grid.csv after each; at the end the table goes to standard output, too. A training that
 * diverges is a row. With --resume each goes on as ivon-train --resume does, which makes nothing of
 * one that ended.
 */
int train_grid_run(struct train_grid *grid, struct ivon_error *error);

#endif
