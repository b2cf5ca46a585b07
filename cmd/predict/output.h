/* The parts of an output (struct predict_output), which predict/output.c puts together. */
#ifndef CMD_PREDICT_OUTPUT_H
#define CMD_PREDICT_OUTPUT_H

#include "cmd/predict/predict.h"

/* Rows of the table that an example has: its tokens, or one. */
static inline size_t predict_rows_per_example(const struct predict_output *output)
{
    return output->shape.tokens ? (size_t)output->shape.tokens : 1;
}

/* The table of predictions (columns.c); of `like` it matters only which arrays there are. */
int predict_open_table(struct predict_output *output, const struct ivon_predictions *like,
                       const char *provenance, struct ivon_error *error);
int predict_write_table(struct predict_output *output, const struct ivon_predictions *p,
                        struct ivon_error *error);

/* The file of log-likelihoods and replicates (log_likelihoods.c). */
int predict_open_log_likelihoods(struct predict_output *output, struct ivon_error *error);
int predict_write_log_likelihoods(struct predict_output *output, const struct ivon_predictions *p,
                                  struct ivon_error *error);

/* The scores of rows by which data of another kind are detected (detection.c); predict_detect
   prints how well they do it, or adds it to the object, unless that is null. */
int predict_open_detection(struct predict_output *output, struct ivon_error *error);
void predict_keep_scores(struct predict_output *output, const struct ivon_predictions *p);
int predict_detect(const struct predict_output *output, json_t *json, struct ivon_error *error);

/* The predictor's metrics with those of the other parts, printed or added to the command's sheet
   (print.c); and a warning of those that are infinite. */
int predict_print_metrics(const struct predict_output *output,
                          const struct ivon_predict_metric *metrics, size_t count,
                          struct ivon_error *error);
int predict_add_to_sheet(const struct predict_output *output,
                         const struct ivon_predict_metric *metrics, size_t count,
                         struct ivon_error *error);
void predict_warn_of_infinity(const struct ivon_predict_metric *metrics, size_t count);

#endif
