/*
 * The inside of a predictor: checked and set up by predict.c, run by predict/run.c.
 */
#ifndef BAYES_PREDICT_PRIVATE_H
#define BAYES_PREDICT_PRIVATE_H

#include "bayes/covariance.h"
#include "bayes/labelled.h"
#include "bayes/predict/rows.h"
#include "ivon/predict.h"
#include "metrics/moments.h"

/* A network and the posterior that was bound to it. */
struct member {
    struct ivon_network *network;
    struct ivon_source *source;
    double weight; /* of all members 1 in sum */
    struct covariance *covariance;
};

struct ivon_predictor {
    struct ivon_predict_options options;
    struct member *members;
    size_t member_count;
    size_t fixed;
    bool probabilities; /* the first outputs were */

    struct labelled data;
    struct runner runner; /* of one member after the other */
    /* Examples whose sums are in memory at a time, for which every sample is drawn once; and those
       of them whose results are. Both are whole tiles. */
    size_t block, piece;
    size_t wave; /* samples that are drawn at a time */
    struct outputs outputs;
    struct likelihood likelihood;
    size_t groups, passes; /* passes: samples of each member, at least 1 */
    bool single;           /* all rows are of the same weights, which are set once */

    /* Of the block in memory: */
    struct row_sums sums;
    float *logits;
    double *log_likelihoods;   /* piece by piece: samples × the piece's examples */
    int64_t *label_replicates; /* likewise, × (1 or K) for each row */
    float *number_replicates;

    struct row_results results; /* of a piece */

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
                  int (*on_block)(void *context, const struct ivon_predictions *predictions,
                                  struct ivon_error *error),
                  void *context, struct ivon_error *error);

#endif
