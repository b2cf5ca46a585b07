/* ivon-predict-gen: parsed and run by predict_gen.c; what is computed of one checkpoint is in
   predict_gen/row.c, of single examples and of pairs of checkpoints in predict_gen/points.c; the
   table is written by predict_gen/output.c. */
#ifndef CMD_PREDICT_GEN_PREDICT_GEN_H
#define CMD_PREDICT_GEN_PREDICT_GEN_H

#include "cmd/shared/evaluation/evaluation.h"
#include "cmd/shared/inputs/open.h"
#include "cmd/shared/options/options.h"

/* The numbers of the examples of one checkpoint: sums over their positions. */
struct predict_gen_points {
    size_t count;
    double *positions; /* of an example, that count */
    double *loss, *loo_loss;
    double *waic, *psis_loo, *pareto_k; /* null: without samples */
};

struct predict_gen_command {
    struct common_options common;
    struct draw_options draw;
    struct file_options files;
    struct open_options open;
    struct evaluation_options evaluation;
    struct ivon_sensitivity_options options;
    char **posteriors;
    size_t posterior_count;
    const char *follow, *test, *output, *pointwise, *groups;
    uint64_t subsample;  /* 0: all */
    int64_t until;       /* -1: no end */
    double idle_timeout; /* seconds; 0: none */
    size_t samples;
    int format; /* -1: by the output's suffix */
    int pointwise_format;
    bool by_class, compare, importance;

    /* While it runs: */
    struct ivon_examples *whole;    /* all of the data */
    struct ivon_examples *all;      /* what --limit leaves of them, or the same */
    struct ivon_examples *examples; /* what --subsample leaves of those, or the same */
    struct ivon_examples *test_examples;
    int64_t *group_of;      /* each of the examples; null: --groups was not given */
    const char *provenance; /* of the table; null: absent */
    struct ivon_table *table, *points_table;
    struct predict_gen_row *rows;      /* of --compare, which are written at the end */
    struct predict_gen_points *points; /* of these */
    int64_t checkpoint;                /* the number of the next one */
    bool warned_of_start;              /* of a Hessian that never left it */
    bool nothing_counts;               /* in the data, or in those of --test */
};

/* The results of one checkpoint: means over the positions that count. */
struct predict_gen_row {
    int64_t step;
    struct ivon_metric train_loss, train_error, loo_loss, loo_error, test_loss, test_error;
    struct ivon_metric waic, psis_loo;
    struct ivon_metric lgo_loss, lgo_error; /* with --groups: without an example's whole group */
    int64_t pareto_k_bad;
    double approximation_k; /* of --importance; NaN: not asked for, or all ratios are equal */
    size_t samples;
    int64_t hessian_at_start;
    struct ivon_metric loo_difference; /* of --compare */
    double guessing_loss;              /* of equal probabilities; NaN: regression */
    bool probabilities;                /* the outputs were, and were taken for logits */
    bool nothing_counts;               /* in the data, or in those of --test */
    /* By class, if asked for: */
    struct ivon_group_removal *classes;
    size_t class_count;
};

/* Evaluates a checkpoint. What the row holds is the caller's to free. Sets the points, unless they
   are null. */
int predict_gen_evaluate(const struct predict_gen_command *command, const char *path,
                         struct predict_gen_row *row, struct predict_gen_points *points,
                         struct ivon_error *error);

/* Tells of what a row's numbers do not say of themselves. A Hessian at its start is told of once:
   the other checkpoints of a training have the same, as the column hessian_at_start says. */
void predict_gen_warn(struct predict_gen_command *command, const struct predict_gen_row *row,
                      const char *path);

/* The table, and one row of it, or one for each class. A file that follows a training has them at
   once. */
int predict_gen_open_table(struct predict_gen_command *command, struct ivon_error *error);
int predict_gen_write_row(struct predict_gen_command *command, const struct predict_gen_row *row,
                          struct ivon_error *error);

/* Of `count` examples. */
int predict_gen_points_new(struct predict_gen_points *points, size_t count, bool samples,
                           struct ivon_error *error);
void predict_gen_points_free(struct predict_gen_points *points);

/* The table of --pointwise: opened before any work, and given the points of one checkpoint after
   the other. A file that follows a training has them at once. */
int predict_gen_points_open(struct predict_gen_command *command, const char *provenance,
                            struct ivon_error *error);
int predict_gen_points_write(struct predict_gen_command *command, int64_t step,
                             const struct predict_gen_points *points, struct ivon_error *error);

/* Sets each row's difference to the one of the least loo_loss, which has none itself. */
void predict_gen_compare(struct predict_gen_command *command);

#endif
