/* ivon-calibrate: parsed by calibrate.c; held-out rows are collected by calibrate/rows.c, the
   result is written and printed by calibrate/output.c. */
#ifndef CMD_CALIBRATE_CALIBRATE_H
#define CMD_CALIBRATE_CALIBRATE_H

#include <jansson.h>

#include "cmd/shared/evaluation/evaluation.h"
#include "cmd/shared/inputs/open.h"
#include "cmd/shared/options/options.h"
#include "ivon/ivon.h"

/* Held-out rows that count. */
struct calibrate_rows {
    size_t count, capacity;
    uint64_t *numbers;
    float *probabilities, *means, *deviations, *targets; /* of what the likelihood has */
    int64_t *labels;
    bool deviations_known;
    uint64_t tokens; /* rows of an example */
};

struct calibrate_command {
    struct common_options common;
    struct evaluation_options evaluation;
    struct draw_options draw;
    struct file_options files;
    struct open_options open;
    struct ivon_predict_options predict;
    struct ivon_calibrate_options options;
    const char *argument, *output;
    size_t folds;
    bool mean, samples_given, method_given, conformal_given, coverage_given, raps_given, json;

    /* While it runs: */
    struct ivon_source *source;
    struct ivon_network *network;
    struct ivon_examples *examples, *predictions[3];
    struct ivon_predictor *predictor;
    struct calibrate_rows rows;
    struct ivon_calibration *calibration;
    struct ivon_calibration_effect effects[IVON_CALIBRATION_EFFECTS_MAX];
    size_t effect_count;
};

/* Collects the rows: of a file of predictions, or of what a posterior predicts. */
int calibrate_collect(struct calibrate_command *command, struct ivon_error *error);
void calibrate_rows_release(struct calibrate_rows *rows);

/* Writes the file, with the provenance, which may be null, and prints the report. */
int calibrate_write(const struct calibrate_command *command, json_t *provenance,
                    struct ivon_error *error);
void calibrate_print(const struct calibrate_command *command);

#endif
