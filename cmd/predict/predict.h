/* ivon-predict: parsed by predict/options.c; predict/output.c puts the outputs together, of which
   predict/output.h lists the parts; --average is predict/average.c, --calibration is
   predict/calibrated.c, --acquire is predict/acquire.c, metrics of rows are predict/further.c,
   --shift is predict/shift.c, the sheet of metrics that it and --each print predict/sheet.c. */
#ifndef CMD_PREDICT_PREDICT_H
#define CMD_PREDICT_PREDICT_H

#include <jansson.h>

#include "cmd/shared/evaluation/evaluation.h"
#include "cmd/shared/inputs/open.h"
#include "cmd/shared/options/options.h"
#include "cmd/shared/outputs/provenance.h"
#include "ivon/ivon.h"

/* A corruption of the images; level 0: none. */
struct predict_shifted {
    enum ivon_corruption corruption;
    int level;
};

struct predict_command {
    struct common_options common;
    struct ivon_predict_options options;
    struct evaluation_options evaluation;
    struct draw_options draw;
    struct file_options files;
    struct open_options open;
    char **arguments; /* posteriors, or predictions */
    size_t argument_count;
    const char *recalibrate, *ood, *compare, *calibration;
    double *weights;
    size_t weight_count;
    const char *output, *log_likelihoods;
    const char *groups; /* their array */
    double risk;        /* negative: not given */
    bool by_class;
    int format; /* -1: by the output's suffix */
    bool mean, samples_given, average, metrics, json, each;
    int linear;  /* its method; -1: not given */
    int acquire; /* likewise */
    size_t top;  /* examples that it prints; 0: not given */
    struct predict_shifted *shifts;
    size_t shift_count;
    int64_t image[3]; /* channels, height and width; 0: not given */

    /* While it runs: */
    struct ivon_member *members;
    struct ivon_examples *examples, *recalibration, *foreign, *other;
    struct ivon_predictor *predictor, *foreign_predictor;
    struct ivon_positions positions; /* of the data, where they have targets */
    int64_t *group_numbers;          /* of each example */
    struct predict_shift *shift;
    struct predict_sheet *sheet; /* of --shift and --each; null: metrics are printed as they come */
    json_t *keys;                /* of its row to come */
    size_t first, member_count;  /* the members that predict */
};

struct predict_acquired;
struct predict_calibration;
struct predict_further;

/* The destinations of predictions: a table, log-likelihoods, scores for detection, a comparison. */
struct predict_output {
    struct predict_command *command;
    struct ivon_predict_shape shape;
    uint64_t rows;
    struct ivon_table *table;
    struct ivon_arviz *arviz;
    struct ivon_comparison *comparison;
    struct predict_calibration *calibrated; /* null: they are as they came */
    struct predict_further *further;        /* null: no metrics are asked for */
    struct predict_acquired *acquired;      /* null: a table of all predictions is */
    float *scores[3]; /* maximum probability, −entropy, −mutual information of each row */
    float *foreign_scores[3];
    size_t score_count, foreign_count;
    float *compared;   /* a block of the predictions to compare with */
    uint64_t written;  /* examples whose log-likelihoods were */
    uint64_t infinite; /* losses of rows in the table */
};

/* Opens what the options ask for; `shape` and `rows` describe the predictions. */
int predict_output_open(struct predict_output *output, struct predict_command *command,
                        const struct ivon_predict_shape *shape, uint64_t rows,
                        const char *provenance, struct ivon_error *error);
void predict_output_close(struct predict_output *output);

/* Takes a block of predictions; for ivon_predictor_run. */
int predict_output_take(void *context, const struct ivon_predictions *predictions,
                        struct ivon_error *error);
/* The same for data of another kind: their scores alone. */
int predict_output_foreign(void *context, const struct ivon_predictions *predictions,
                           struct ivon_error *error);

/* Completes the files, and prints the metrics. */
int predict_output_finish(struct predict_output *output, const struct ivon_predict_metric *metrics,
                          size_t metric_count, struct ivon_error *error);

/* Reads --calibration; predict_calibration_close releases it in any case. */
int predict_calibration_open(struct predict_calibration **calibrated,
                             const struct predict_command *command,
                             const struct ivon_predict_shape *shape, struct ivon_error *error);
void predict_calibration_close(struct predict_calibration *calibrated);

/* Calibrates a block, of other data (`foreign`) without sets or metrics: its arrays become others,
   which are borrowed until the next call. */
int predict_calibrate(struct predict_calibration *calibrated, bool foreign,
                      struct ivon_predictions *predictions, struct ivon_error *error);

/* The columns that the calibration adds, of the block. */
struct predict_calibrated_columns {
    bool sets, intervals;
    const int64_t *set, *size;
    const float *lower, *upper;
};
struct predict_calibrated_columns predict_calibration_columns(
    const struct predict_calibration *calibrated);

/* The metrics of calibrated predictions, to be freed: of a regression those that are given, and of
   either what its sets or intervals hold. */
int predict_calibration_metrics(struct predict_calibration *calibrated,
                                const struct ivon_predict_metric *given, size_t given_count,
                                struct ivon_predict_metric **metrics, size_t *count,
                                struct ivon_error *error);

/* Metrics beside those of the library's predictor; predict_further_close releases them in any case.
   Blocks have labels or targets. */
enum { PREDICT_FURTHER_MAX = 6 };
int predict_further_open(struct predict_further **further, const struct predict_command *command,
                         const struct ivon_predict_shape *shape, uint64_t rows,
                         struct ivon_error *error);
void predict_further_close(struct predict_further *further);
int predict_further_add(struct predict_further *further, const struct ivon_predictions *predictions,
                        struct ivon_error *error);
int predict_further_metrics(const struct predict_further *further,
                            struct ivon_metric metrics[PREDICT_FURTHER_MAX], size_t *count,
                            struct ivon_error *error);
/* Prints classes and groups, or adds them to the object, unless that is null. */
void predict_further_print(const struct predict_further *further, json_t *json);

/* Returns the acquisition of that name, or ends the program. */
int predict_acquisition_of(struct argp_state *state, const char *name);

/* Ends the program where options do not go with --acquire, or --top goes without; after all others
   are taken. */
void predict_check_acquire(const struct predict_command *command, struct argp_state *state);

/* Chooses examples to label among `rows`, and prints them in the end. predict_acquire_close
   releases it in any case. */
int predict_acquire_open(struct predict_acquired **acquired, const struct predict_command *command,
                         const struct ivon_predict_shape *shape, uint64_t rows,
                         const char *provenance, struct ivon_error *error);
void predict_acquire_close(struct predict_acquired *acquired);
int predict_acquire_add(struct predict_acquired *acquired, const struct ivon_predictions *p,
                        struct ivon_error *error);
int predict_acquire_finish(struct predict_acquired *acquired, struct ivon_error *error);

/* Takes --shift and --image-shape, or ends the program; predict_check_shift does where the latter
   goes without. */
void predict_parse_shift(struct predict_command *command, struct argp_state *state,
                         const char *argument);
void predict_parse_image_shape(struct predict_command *command, struct argp_state *state,
                               const char *argument);
void predict_check_shift(const struct predict_command *command, struct argp_state *state);

/* Finds the images and the range of their pixels. predict_shift_close releases it in any case. */
int predict_shift_open(struct predict_shift **shift, const struct predict_command *command,
                       const struct ivon_network *network, struct ivon_error *error);
void predict_shift_close(struct predict_shift *shift);
/* The data so corrupted; null where they are the data themselves. */
int predict_shift_examples(const struct predict_shift *shift, const struct predict_shifted *row,
                           struct ivon_examples **corrupted, struct ivon_error *error);

/* A sheet of metrics, which --output or standard output receives in the end.
   predict_sheet_close releases it in any case. */
int predict_sheet_open(struct predict_sheet **sheet, const struct predict_command *command,
                       struct ivon_error *error);
void predict_sheet_close(struct predict_sheet *sheet);
/* Adds a row: `keys`, strings and numbers by name, which it takes, and those metrics that have a
   column. */
void predict_sheet_add(struct predict_sheet *sheet, json_t *keys, const struct ivon_metric *metrics,
                       size_t count);
int predict_sheet_finish(struct predict_sheet *sheet, struct ivon_error *error);

/* A metric as an object, or as a line, or several as an object (predict/metric.c). */
json_t *predict_metric_json(const struct ivon_metric *metric, double monte_carlo_error);
void predict_print_metric(const char *prefix, const struct ivon_metric *metric,
                          double monte_carlo_error);
json_t *predict_metrics_json(const struct ivon_metric *metrics, size_t count);

/* Averages files of predictions, with the data's targets where they are given. */
int predict_average(struct predict_command *command, const char *provenance,
                    struct ivon_error *error);

#endif
