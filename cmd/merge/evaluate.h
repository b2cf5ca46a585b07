/* The table of a search: a row for each result, its metrics on each data set, front and pick. */
#ifndef CMD_MERGE_EVALUATE_H
#define CMD_MERGE_EVALUATE_H

#include "cmd/merge/merge.h"

struct merge_table {
    size_t rows, data_count;
    double *weights;             /* rows × models: those that the models had */
    size_t metric_count;         /* 0: none is known yet */
    struct ivon_metric *metrics; /* rows × data sets × metric_count */
    bool *front;                 /* no other row is as good on all data sets and better on one */
    size_t pick;                 /* a row */
    size_t nonpositive;          /* rows in which elements kept the base's value */
};

/* A table of the command's results, whose metrics are not known yet. Names the data sets. */
struct merge_table *merge_table_new(struct merge_command *command);
void merge_table_free(struct merge_table *table);

/* Row `row`'s metric `metric` on a data set. */
const struct ivon_metric *merge_table_metric(const struct merge_table *table, size_t row,
                                             size_t data, size_t metric);

/* Keeps the metrics that a run printed. */
int merge_table_set(struct merge_table *table, size_t row, size_t data,
                    const struct ivon_predict_metric *metrics, size_t count,
                    struct ivon_error *error);

/* Finds front and pick, of the negative log-likelihoods. Fails where all of them are NaN. */
int merge_table_judge(struct merge_table *table, const struct merge_search *search,
                      struct ivon_error *error);

/* Writes the file that --table names. */
int merge_table_write(const struct merge_command *command, const char *creator,
                      struct ivon_error *error);

/* Prints it, aligned. */
void merge_table_print(const struct merge_command *command);

/* Prints the warnings about its rows. */
void merge_table_warn(const struct merge_table *table);

/* The rows, in JSON. */
json_t *merge_table_json(const struct merge_command *command);

#endif
