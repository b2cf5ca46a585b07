/* ivon-predict-gen: parsed and run by predict_gen.c; what is computed of one checkpoint is in
   predict_gen/row.c. */
#ifndef CMD_PREDICT_GEN_PREDICT_GEN_H
#define CMD_PREDICT_GEN_PREDICT_GEN_H

#include "cmd/shared/evaluation.h"
#include "cmd/shared/open.h"
#include "cmd/shared/options.h"

struct predict_gen_command {
    struct common_options common;
    struct draw_options draw;
    struct file_options files;
    struct open_options open;
    struct evaluation_options evaluation;
    struct ivon_sensitivity_options options;
    char **posteriors;
    size_t posterior_count;
    const char *follow, *test, *output;
    uint64_t subsample; /* 0: all */
    int64_t until;      /* -1: no end */
    size_t samples;
    int format; /* -1: by the output's suffix */
    bool by_class;

    /* While it runs: */
    struct ivon_examples *whole;    /* all of the data */
    struct ivon_examples *all;      /* what --limit leaves of them, or the same */
    struct ivon_examples *examples; /* what --subsample leaves of those, or the same */
    struct ivon_examples *test_examples;
    struct ivon_table *table;
};

/* The results of one checkpoint: means over the positions that count. */
struct predict_gen_row {
    int64_t step;
    struct ivon_metric train_loss, train_error, loo_loss, loo_error, test_loss, test_error;
    struct ivon_metric waic, psis_loo;
    int64_t pareto_k_bad;
    int64_t hessian_at_start;
    double guessing_loss; /* of equal probabilities; NaN: regression */
    bool probabilities;   /* the outputs were, and were taken for logits */
    /* By class, if asked for: */
    struct ivon_group_removal *classes;
    size_t class_count;
};

/* Evaluates a checkpoint. What the row holds is the caller's to free. */
int predict_gen_evaluate(const struct predict_gen_command *command, const char *path,
                         struct predict_gen_row *row, struct ivon_error *error);

#endif
