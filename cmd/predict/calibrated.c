/* Predictions after a calibration, which ivon-calibrate fitted: their sets or intervals, and their
   metrics. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/predict/predict.h"
#include "cmd/shared/inputs/calibration.h"
#include "cmd/shared/report.h"

struct predict_calibration {
    const struct predict_command *command;
    struct ivon_calibration *calibration;
    struct ivon_calibration_summary summary;
    size_t tokens; /* rows of an example */
    bool sets, intervals;
    /* Of a block, K for each row or one: */
    size_t capacity; /* rows */
    float *probabilities, *max_probability, *entropy, *deviations, *lower, *upper;
    double *loss;
    int64_t *prediction, *set, *size;
    /* Of all blocks, where metrics are asked for: */
    struct ivon_metrics *metrics;
    struct ivon_ratio coverage, width, empty;
};

static int check_calibration(const struct predict_calibration *calibrated,
                             const struct ivon_predict_shape *shape, struct ivon_error *error)
{
    const struct predict_command *command = calibrated->command;
    const struct ivon_calibration_summary *summary = &calibrated->summary;
    const char *expected = ivon_likelihood_traits(command->options.task.likelihood)->name;
    if (summary->likelihood != command->options.task.likelihood)
        return error_fill(
            error, IVON_ERROR_DATA,
            "%s: a calibration of likelihood %s, expected %s, that of the predictions",
            command->calibration, ivon_likelihood_traits(summary->likelihood)->name, expected);
    size_t outputs = calibration_outputs(summary->likelihood, shape->outputs);
    if (summary->outputs != outputs)
        return error_fill(
            error, IVON_ERROR_DATA,
            "%s: a calibration of %zu outputs, expected %zu, those of the predictions",
            command->calibration, summary->outputs, outputs);
    return 0;
}

int predict_calibration_open(struct predict_calibration **out,
                             const struct predict_command *command,
                             const struct ivon_predict_shape *shape, struct ivon_error *error)
{
    struct predict_calibration *calibrated = calloc(1, sizeof *calibrated);
    if (!calibrated)
        return error_memory(error);
    *out = calibrated;
    calibrated->command = command;
    calibrated->tokens = shape->tokens ? (size_t)shape->tokens : 1;
    int code = calibration_read(&calibrated->calibration, command->calibration, error);
    if (code)
        return code;
    calibrated->summary = ivon_calibration_summary(calibrated->calibration);
    calibrated->intervals = calibrated->summary.conformal >= IVON_CONFORMAL_ABSOLUTE;
    calibrated->sets = calibrated->summary.conformal != IVON_CONFORMAL_NONE &&
                       !calibrated->intervals;
    code = check_calibration(calibrated, shape, error);
    if (!code && isinf(calibrated->summary.quantile) && !command->common.quiet)
        report_warning("%s: its threshold is infinite, from %llu rows: %s", command->calibration,
                       (unsigned long long)calibrated->summary.scored,
                       calibrated->sets ? "sets hold all classes" : "intervals are infinite");
    struct ivon_metrics_options options = ivon_metrics_defaults();
    options.likelihood = calibrated->summary.likelihood;
    options.outputs = shape->outputs;
    options.bins = command->options.bins;
    if (!code && command->metrics && !calibrated->intervals)
        code = ivon_metrics_new(&calibrated->metrics, &options, error);
    return code;
}

static void calibrated_release(struct predict_calibration *calibrated)
{
    free(calibrated->probabilities);
    free(calibrated->max_probability);
    free(calibrated->entropy);
    free(calibrated->deviations);
    free(calibrated->loss);
    free(calibrated->lower);
    free(calibrated->upper);
    free(calibrated->prediction);
    free(calibrated->set);
    free(calibrated->size);
}

void predict_calibration_close(struct predict_calibration *calibrated)
{
    if (!calibrated)
        return;
    calibrated_release(calibrated);
    ivon_metrics_free(calibrated->metrics);
    ivon_calibration_free(calibrated->calibration);
    free(calibrated);
}

/* Makes place for the rows of a block, of which the first is the largest. */
static int calibrated_reserve(struct predict_calibration *calibrated, size_t rows,
                              struct ivon_error *error)
{
    size_t all = rows * calibrated->summary.outputs;
    if (rows <= calibrated->capacity)
        return 0;
    calibrated_release(calibrated);
    bool fine;
    if (calibrated->intervals) {
        calibrated->deviations = calloc(all, sizeof(float));
        calibrated->lower = calloc(all, sizeof(float));
        calibrated->upper = calloc(all, sizeof(float));
        fine = calibrated->deviations && calibrated->lower && calibrated->upper;
    } else {
        calibrated->probabilities = calloc(all, sizeof(float));
        calibrated->max_probability = calloc(rows, sizeof(float));
        calibrated->entropy = calloc(rows, sizeof(float));
        calibrated->loss = calloc(rows, sizeof(double));
        calibrated->prediction = calloc(all, sizeof(int64_t)); /* of events K for each row */
        calibrated->set = calloc(calibrated->sets ? all : 1, sizeof(int64_t));
        calibrated->size = calloc(rows, sizeof(int64_t));
        fine = calibrated->probabilities && calibrated->max_probability && calibrated->entropy &&
               calibrated->loss && calibrated->prediction && calibrated->set && calibrated->size;
    }
    calibrated->capacity = fine ? rows : 0;
    return fine ? 0 : error_memory(error);
}

/* Adds the sets, or intervals, of an example to what is known of all. */
static void calibrated_count(struct predict_calibration *calibrated,
                             const struct ivon_predictions *p, size_t example)
{
    const struct ivon_task *task = &calibrated->command->options.task;
    size_t k = calibrated->summary.outputs;
    double rows = 0, hits = 0, width = 0, empty = 0;
    for (size_t r = example * calibrated->tokens; r < (example + 1) * calibrated->tokens; r++) {
        if (calibrated->sets &&
            ivon_target_counts(task->likelihood, k, p->labels + r, task->ignored)) {
            rows++;
            hits += (double)calibrated->set[r * k + (size_t)p->labels[r]];
            width += (double)calibrated->size[r];
            empty += calibrated->size[r] == 0;
        }
        for (size_t i = r * k; i < (r + 1) * k && calibrated->intervals; i++) {
            rows++;
            hits += p->targets[i] >= calibrated->lower[i] && p->targets[i] <= calibrated->upper[i];
            width += (double)calibrated->upper[i] - (double)calibrated->lower[i];
        }
    }
    ivon_ratio_add(&calibrated->coverage, hits, rows);
    ivon_ratio_add(&calibrated->width, width, rows);
    ivon_ratio_add(&calibrated->empty, empty, rows);
}

static int calibrated_probabilities(struct predict_calibration *calibrated, bool foreign,
                                    struct ivon_predictions *p, struct ivon_error *error)
{
    size_t k = calibrated->summary.outputs, rows = p->count * calibrated->tokens;
    uint64_t first = p->first * calibrated->tokens;
    int code = ivon_calibration_apply(calibrated->calibration, first, rows, p->probabilities,
                                      calibrated->probabilities, error);
    if (!code && calibrated->sets && !foreign)
        code = ivon_calibration_sets(calibrated->calibration, first, rows,
                                     calibrated->probabilities, calibrated->set, calibrated->size,
                                     error);
    if (!code)
        ivon_probabilities_describe(calibrated->summary.likelihood, rows, k,
                                    calibrated->probabilities, calibrated->prediction,
                                    calibrated->max_probability, calibrated->entropy);
    if (!code && p->labels && !foreign)
        code = ivon_probabilities_losses(
            calibrated->summary.likelihood, first, rows, k, calibrated->probabilities, p->labels,
            calibrated->command->options.task.ignored, calibrated->loss, error);
    if (!code && calibrated->metrics && !foreign)
        code = ivon_metrics_add(calibrated->metrics, first, rows, calibrated->probabilities,
                                p->labels, calibrated->command->options.task.ignored, error);
    p->probabilities = calibrated->probabilities;
    p->prediction = calibrated->prediction;
    p->max_probability = calibrated->max_probability;
    p->entropy = calibrated->entropy;
    p->loss = p->labels && !foreign ? calibrated->loss : NULL;
    p->expected_entropy = p->mutual_information = NULL;
    return code;
}

int predict_calibrate(struct predict_calibration *calibrated, bool foreign,
                      struct ivon_predictions *p, struct ivon_error *error)
{
    size_t rows = p->count * calibrated->tokens;
    int code = calibrated_reserve(calibrated, rows, error);
    if (code || !calibrated->intervals)
        code = code ? code : calibrated_probabilities(calibrated, foreign, p, error);
    else {
        calibration_deviations(calibrated->deviations, p->epistemic_std, p->aleatoric_std,
                               rows * calibrated->summary.outputs);
        code = ivon_calibration_intervals(calibrated->calibration, p->first * calibrated->tokens,
                                          rows, p->mean, calibrated->deviations, calibrated->lower,
                                          calibrated->upper, error);
    }
    bool counted = calibrated->command->metrics && (calibrated->sets || calibrated->intervals);
    for (size_t i = 0; i < p->count && counted && !foreign && !code; i++)
        calibrated_count(calibrated, p, i);
    return code;
}

struct predict_calibrated_columns predict_calibration_columns(
    const struct predict_calibration *calibrated)
{
    return (struct predict_calibrated_columns){.sets = calibrated->sets,
                                               .intervals = calibrated->intervals,
                                               .set = calibrated->set,
                                               .size = calibrated->size,
                                               .lower = calibrated->lower,
                                               .upper = calibrated->upper};
}

/* Appends a metric without a Monte-Carlo error. */
static void calibrated_append(struct ivon_predict_metric *metrics, size_t *count,
                              struct ivon_metric metric)
{
    metrics[(*count)++] = (struct ivon_predict_metric){metric, NAN};
}

int predict_calibration_metrics(struct predict_calibration *calibrated,
                                const struct ivon_predict_metric *given, size_t given_count,
                                struct ivon_predict_metric **out, size_t *count,
                                struct ivon_error *error)
{
    enum { MORE = 3 };
    size_t own = 0;
    const struct ivon_metric *values = calibrated->metrics
                                           ? ivon_metrics_values(calibrated->metrics, &own)
                                           : NULL;
    if (calibrated->metrics && !values)
        return error_memory(error);
    *count = values ? own : given_count;
    *out = calloc(*count + MORE, sizeof **out);
    if (!*out)
        return error_memory(error);
    for (size_t i = 0; i < *count; i++)
        (*out)[i] = values ? (struct ivon_predict_metric){values[i], NAN} : given[i];
    if (calibrated->sets || calibrated->intervals)
        calibrated_append(*out, count, ivon_ratio_metric("coverage", &calibrated->coverage));
    if (calibrated->sets) {
        calibrated_append(*out, count, ivon_ratio_metric("set_size", &calibrated->width));
        calibrated_append(*out, count, ivon_ratio_metric("empty", &calibrated->empty));
    }
    if (calibrated->intervals)
        calibrated_append(*out, count, ivon_ratio_metric("width", &calibrated->width));
    return 0;
}
