/* A sweep of rising learning rates, and the one that it suggests. */
#ifndef CMD_TRAIN_FIND_LR_H
#define CMD_TRAIN_FIND_LR_H

#include "cmd/train/train.h"

/*
 * The range test (Smith, WACV 2017, arXiv:1506.01186) as fastai has it: the rate grows by a factor
 * from step to step, from 1e-6 to 100. Smoothed losses are averages that forget by 0.98 a step,
 * divided by what their weights add up to; where one exceeds four times the least, or a loss is no
 * number, the sweep ends. Prints a row for each step, and writes no file.
 */
int train_find_lr(struct train_command *command, struct ivon_error *error);

#endif
