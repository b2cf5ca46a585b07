/*
 * The inside of a predictor: checked and set up by predict.c, run by predict/run.c.
 */
#ifndef BAYES_PREDICT_PRIVATE_H
#define BAYES_PREDICT_PRIVATE_H

#include "metrics/moments.h"
#include "bayes/outputs.h"
#include "bayes/predict/rows.h"
#include "bayes/weights.h"
#include "core/meter.h"
#include "ivon/predict.h"
#include "net/feed.h"
#include "net/plan/plan.h"

struct worker {
    struct net_plan *plan;
    const void **inputs;    /* of a tile */
    void *room;             /* for a tile that is filled up */
    struct weights weights; /* where each thread has its own sample */
    float *outputs;         /* and the outputs of a whole block */
};

struct ivon_predictor {
    struct ivon_predict_options options;
    struct member *members;
    size_t member_count;
    struct ivon_examples *examples;
    uint64_t count; /* of examples */
    ptrdiff_t target_field;
    size_t fixed;

    struct feed feed;
    size_t tile, block; /* examples at a time: in a thread, in memory */
    struct outputs outputs;
    size_t groups, passes; /* passes: samples of each member, at least 1 */

    /* Of the block in memory: */
    struct row_sums sums;
    struct row_results results;
    float *logits;
    int64_t *labels;
    float *numbers;
    bool *counts;      /* of each row */
    size_t *positions; /* of each example: its rows that count */
    double *log_likelihoods;
    int64_t *label_replicates; /* samples × block × (1 or K) for each row */
    float *number_replicates;

    struct ivon_metrics *metrics[ROWS_GROUPS_MAX + 1]; /* without each group; last: with all */
    struct ivon_predict_metric *values;
    struct moments nll_at_mean; /* over rows */
    struct meter meter;
};

/* Batch-norm statistics of a member's network, computed anew for given weights. */
int recalibrate(const struct ivon_predictor *predictor, const struct member *member,
                const struct weights *weights, struct ivon_error *error);

/* Returns whether the network has batch-norm statistics to recalibrate. */
bool has_batch_norm(const struct ivon_network *network);

/* Targets of the rows from `first_row` on, drawn from what sample `sample` says: labels, or for
   Gaussian likelihoods numbers. `counts` says which of the rows count; the others' labels are the
   ignored one. */
void draw_replicates(const struct ivon_predictor *predictor, uint64_t sample, uint64_t first_row,
                     size_t count, const float *outputs, const bool *counts, int64_t *labels,
                     float *numbers);

int predictor_run(struct ivon_predictor *predictor,
                  int (*take)(void *context, const struct ivon_predictions *predictions,
                              struct ivon_error *error),
                  void *context, struct ivon_error *error);

#endif
