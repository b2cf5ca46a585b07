/*
 * The inside of a predictor: set up by predict.c, with the sizes that block.c gives it, and run by
 * run.c.
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
    bool closed;           /* a linearised network's closed form */

    /* Of the block in memory: */
    struct row_sums sums;
    float *logits;
    double *log_likelihoods;   /* piece by piece: samples × the piece's examples */
    int64_t *label_replicates; /* likewise, × (1 or K) for each row */
    float *number_replicates;
    float *sample_outputs; /* likewise, × tokens × K */

    struct row_results results; /* of a piece */

    struct ivon_metrics *metrics[ROWS_GROUPS_MAX + 1]; /* without each group; last: with all */
    struct ivon_predict_metric *values;
    struct moments nll_at_mean; /* over rows */
    struct meter meter;
};

/* Reads and checks the options that were given (options.c). */
int predict_options_read(struct ivon_predict_options *options,
                         const struct ivon_predict_options *given, struct ivon_error *error);

/* Returns whether a regression's noise is known; whether what is predicted gives targets a
   likelihood; and whether predictions of so many members vary. */
bool predict_options_know_noise(const struct ivon_predict_options *options);
bool predict_options_have_density(const struct ivon_predict_options *options);
bool predict_options_vary(const struct ivon_predict_options *options, size_t members);

/* Chooses the tile by the first member, and checks that all have such outputs. */
int predictor_choose_tile(struct ivon_predictor *predictor, struct ivon_error *error);

/* Halves the tile until the memory holds several, which those of large vocabularies exceed. */
int predictor_fit_tile(struct ivon_predictor *predictor, struct ivon_error *error);

/* Chooses the sizes of block, piece and wave, which are those of rank 0, and allocates the arrays
   of a block and of a piece's results. */
int predictor_make_block(struct ivon_predictor *predictor, struct ivon_error *error);

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

/* A linearised network (IVON_PREDICT_LINEAR, IVON_PREDICT_LINEAR_DRAWS), whose weights are set to
   the mean. */
struct linearised;

/* Fails on what such a network cannot be asked for. */
int linearised_check(const struct ivon_predict_options *options, size_t members,
                     struct ivon_error *error);

/* Halves the tile that was chosen until the covariances of its outputs fit the memory. Fails where
   an example has too many outputs. */
int linearised_fit_tile(struct ivon_predictor *predictor, struct ivon_error *error);

/* Returns as many threads as memory has room for, which results do not depend on. */
int linearised_threads(const struct ivon_predictor *predictor);

/* Loads the covariance for the runner's workers. linearised_free releases it in any case. */
int linearised_new(struct linearised **linearised, const struct ivon_predictor *predictor,
                   struct ivon_error *error);
void linearised_free(struct linearised *linearised);

/* Finds C of the rows of a tile that was run; it belongs to the tile's thread. */
void linearised_find(const struct linearised *linearised, const struct runner_tile *tile);

/* Adds the closed form of the rows to the sums, from row `row` on. C is used up. */
void linearised_add(const struct linearised *linearised, const struct runner_tile *tile,
                    struct row_sums *sums, size_t row, const struct row_targets *targets);

/* Turns C into its roots, and then returns draw `draw` of the tile's outputs, borrowed until the
   thread's next call; `first_row` is the number of the first row among all. */
void linearised_find_roots(const struct linearised *linearised, const struct runner_tile *tile);
const float *linearised_draw(const struct linearised *linearised, const struct runner_tile *tile,
                             uint64_t draw, uint64_t first_row);

int predictor_run(struct ivon_predictor *predictor,
                  int (*on_block)(void *context, const struct ivon_predictions *predictions,
                                  struct ivon_error *error),
                  void *context, struct ivon_error *error);

#endif
