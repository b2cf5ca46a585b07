/* A training of ivon-train's that was, to be made again on other data: its settings are the command
   line that its checkpoints record. */
#ifndef CMD_TRAIN_REPLAY_H
#define CMD_TRAIN_REPLAY_H

#include "cmd/shared/evaluation/evaluation.h"
#include "ivon/ivon.h"

struct replay;

/* Finds the checkpoint that `run` names: itself, or in a directory of a training the one of the
   latest step. To be freed. */
int replay_find(char **checkpoint, const char *run, struct ivon_error *error);

/*
 * Reads the command from a checkpoint's provenance, and opens what the training began with: of
 * --model the graph `model`, and of --from the weights `from`, or where they are null what the
 * command names. Fails where the checkpoint is none of a training, or the likelihood was another
 * than the evaluation's, whose targets, inputs and memory count; and ends the program where the
 * command is none that ivon-train takes.
 */
int replay_open(struct replay **replay, const struct ivon_source *checkpoint, const char *model,
                const char *from, const struct evaluation_options *evaluation, int threads,
                struct ivon_error *error);
void replay_close(struct replay *replay);

/* The options of the training, its start without a network, and how to make that (see
   struct ivon_halves_training); borrowed. */
const struct ivon_train_options *replay_options(const struct replay *replay);
struct ivon_train_start replay_start(const struct replay *replay);
int replay_make_network(void *replay, struct ivon_network **network, struct ivon_error *error);

#endif
