/* Cross-validation: every example is judged by a calibration that was fitted to others. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "ivon/selective.h"
#include "metrics/calibrate/calibration.h"

struct validation {
    const struct ivon_calibrate_options *options;
    const struct ivon_calibration_data *data;
    size_t folds;
    size_t *list;          /* rows to fit to, of one fold */
    float *probabilities;  /* rows × K, recalibrated */
    int64_t *set, *before; /* K */
    struct ranked *ranked; /* K */
    double *scores;        /* K */
    double *hits, *sizes;  /* of each row: truths that are covered, and classes or widths */
    double *hits_before, *sizes_before;
    float *lower, *upper; /* K */
};

static int validate_set(struct validation *v, const struct ivon_calibration *calibration, size_t i,
                        struct ivon_error *error)
{
    size_t k = v->options->outputs;
    double promised = v->options->coverage;
    const struct conformal naive = {
        .score = IVON_CONFORMAL_APS, .seed = v->options->seed, .quantiles = &promised, .tie = 1};
    int64_t size, label = v->data->labels[i];
    int code = ivon_calibration_sets(calibration, v->data->numbers[i], 1, v->probabilities + i * k,
                                     v->set, &size, error);
    v->hits[i] = (double)v->set[label];
    v->sizes[i] = (double)size;
    v->sizes_before[i] = (double)conformal_set(&naive, k, v->data->numbers[i],
                                               v->data->probabilities + i * k, v->ranked, v->scores,
                                               v->before);
    v->hits_before[i] = (double)v->before[label];
    return code;
}

/* The intervals of a row: hits and widths are sums over outputs. */
static int validate_interval(struct validation *v, const struct ivon_calibration *calibration,
                             size_t i, struct ivon_error *error)
{
    size_t k = v->options->outputs;
    const struct ivon_calibration_data *data = v->data;
    const float *deviations = data->deviations ? data->deviations + i * k : NULL;
    double z = ivon_normal_bound(v->options->coverage);
    int code = ivon_calibration_intervals(calibration, data->numbers[i], 1, data->means + i * k,
                                          deviations, v->lower, v->upper, error);
    v->hits[i] = v->sizes[i] = v->hits_before[i] = v->sizes_before[i] = 0;
    for (size_t c = 0; c < k; c++) {
        double target = (double)data->targets[i * k + c];
        double half = deviations ? z * (double)deviations[c] : NAN;
        v->hits[i] += target >= (double)v->lower[c] && target <= (double)v->upper[c];
        v->sizes[i] += (double)v->upper[c] - (double)v->lower[c];
        v->hits_before[i] += deviations ? fabs(target - (double)data->means[i * k + c]) <= half
                                        : NAN;
        v->sizes_before[i] += 2 * half;
    }
    return code;
}

static size_t validate_fold_of(const struct validation *v, size_t row)
{
    uint64_t tokens = v->data->tokens ? v->data->tokens : 1;
    double u = calibration_uniform(v->options->seed, "calibration.fold",
                                   v->data->numbers[row] / tokens, 0);
    size_t fold = (size_t)(u * (double)v->folds);
    return fold < v->folds ? fold : v->folds - 1;
}

/* Judges the rows of a fold by what the others say. */
static int validate_fold(struct validation *v, size_t fold, struct ivon_error *error)
{
    size_t k = v->options->outputs, count = 0;
    struct ivon_calibration *calibration = NULL;
    for (size_t i = 0; i < v->data->rows; i++)
        if (validate_fold_of(v, i) != fold)
            v->list[count++] = i;
    if (count == v->data->rows)
        return 0;
    if (!count)
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%zu rows in %zu folds: too few to fit to some and judge by others",
                              v->data->rows, v->folds);
    const struct calibration_rows rows = {v->data, v->list, count};
    int code = calibration_fit_rows(&calibration, v->options, &rows, error);
    for (size_t i = 0; i < v->data->rows && !code; i++) {
        if (validate_fold_of(v, i) != fold)
            continue;
        if (v->data->probabilities)
            code = ivon_calibration_apply(calibration, v->data->numbers[i], 1,
                                          v->data->probabilities + i * k, v->probabilities + i * k,
                                          error);
        if (code || v->options->conformal == IVON_CONFORMAL_NONE)
            continue;
        code = v->data->probabilities ? validate_set(v, calibration, i, error)
                                      : validate_interval(v, calibration, i, error);
    }
    ivon_calibration_free(calibration);
    return code;
}

/* The mean of values over rows, `each` of which they are sums of, with the error over examples. */
static struct ivon_metric validate_mean(const struct validation *v, const char *name,
                                        const double *values, double each)
{
    struct ivon_ratio ratio = {0};
    uint64_t tokens = v->data->tokens ? v->data->tokens : 1;
    size_t end;
    for (size_t i = 0; i < v->data->rows; i = end) {
        uint64_t example = v->data->numbers[i] / tokens;
        double sum = 0;
        for (end = i; end < v->data->rows && v->data->numbers[end] / tokens == example; end++)
            sum += values[end];
        ivon_ratio_add(&ratio, sum, (double)(end - i) * each);
    }
    return ivon_ratio_metric(name, &ratio);
}

/* The metrics of classes that ivon_metrics_values knows. */
static int validate_classes(const struct validation *v, const float *probabilities,
                            struct ivon_metric out[4], struct ivon_error *error)
{
    static const char *const names[4] = {"accuracy", "nll", "brier", "ece"};
    struct ivon_metrics_options options = ivon_metrics_defaults();
    struct ivon_metrics *metrics = NULL;
    size_t count = 0;
    options.likelihood = v->options->likelihood;
    options.outputs = v->options->outputs;
    int code = ivon_metrics_new(&metrics, &options, error);
    if (!code)
        code = ivon_metrics_add(metrics, 0, v->data->rows, probabilities, v->data->labels,
                                INT64_MIN, error);
    const struct ivon_metric *values = code ? NULL : ivon_metrics_values(metrics, &count);
    if (!code && !values)
        code = ivon_error_memory(error);
    for (size_t i = 0; i < count && values; i++)
        for (size_t n = 0; n < 4; n++)
            if (strcmp(values[i].name, names[n]) == 0)
                out[n] = values[i];
    ivon_metrics_free(metrics);
    return code;
}

static int validate_collect(const struct validation *v, struct ivon_calibration_effect *effects,
                            size_t *count, struct ivon_error *error)
{
    bool classes = v->data->probabilities;
    double each = classes ? 1 : (double)v->options->outputs;
    struct ivon_metric before[4], after[4];
    int code = 0;
    *count = 0;
    if (classes)
        code = validate_classes(v, v->data->probabilities, before, error);
    if (classes && !code)
        code = validate_classes(v, v->probabilities, after, error);
    for (size_t i = 0; i < 4 && classes && !code; i++)
        effects[(*count)++] = (struct ivon_calibration_effect){before[i], after[i]};
    if (code || v->options->conformal == IVON_CONFORMAL_NONE)
        return code;
    const char *size = classes ? "set_size" : "width";
    effects[(*count)++] = (struct ivon_calibration_effect){
        validate_mean(v, "coverage", v->hits_before, each),
        validate_mean(v, "coverage", v->hits, each)};
    effects[(*count)++] = (struct ivon_calibration_effect){
        validate_mean(v, size, v->sizes_before, each), validate_mean(v, size, v->sizes, each)};
    for (size_t i = 0; i < v->data->rows; i++) {
        v->sizes[i] = v->sizes[i] == 0;
        v->sizes_before[i] = v->sizes_before[i] == 0;
    }
    if (classes)
        effects[(*count)++] = (struct ivon_calibration_effect){
            validate_mean(v, "empty", v->sizes_before, 1), validate_mean(v, "empty", v->sizes, 1)};
    return 0;
}

static int validate_allocate(struct validation *v, struct ivon_error *error)
{
    size_t rows = v->data->rows, k = v->options->outputs;
    v->list = calloc(rows, sizeof *v->list);
    v->probabilities = calloc(v->data->probabilities ? rows * k : 1, sizeof *v->probabilities);
    v->set = calloc(k, 2 * sizeof *v->set);
    v->before = v->set ? v->set + k : NULL;
    v->ranked = calloc(k, sizeof *v->ranked);
    v->scores = calloc(k, sizeof *v->scores);
    v->hits = calloc(rows, 4 * sizeof *v->hits);
    v->lower = calloc(k, 2 * sizeof *v->lower);
    if (!v->list || !v->probabilities || !v->set || !v->ranked || !v->scores || !v->hits ||
        !v->lower)
        return ivon_error_memory(error);
    v->sizes = v->hits + rows;
    v->hits_before = v->sizes + rows;
    v->sizes_before = v->hits_before + rows;
    v->upper = v->lower + k;
    return 0;
}

int ivon_calibration_validate(struct ivon_calibration_effect effects[IVON_CALIBRATION_EFFECTS_MAX],
                              size_t *count, const struct ivon_calibrate_options *given,
                              size_t folds, const struct ivon_calibration_data *data,
                              struct ivon_error *error)
{
    struct ivon_calibrate_options options;
    struct validation v = {.options = &options, .data = data, .folds = folds};
    int code = calibration_read_options(&options, given, error);
    if (!code && folds < 2)
        code = ivon_error_set(error, IVON_ERROR_ARGUMENT, "%zu folds, expected 2 or more", folds);
    if (!code)
        code = calibration_check_data(&options, data, error);
    if (!code)
        code = validate_allocate(&v, error);
    for (size_t fold = 0; fold < folds && !code; fold++)
        code = validate_fold(&v, fold, error);
    if (!code)
        code = validate_collect(&v, effects, count, error);
    free(v.list);
    free(v.probabilities);
    free(v.set);
    free(v.ranked);
    free(v.scores);
    free(v.hits);
    free(v.lower);
    return code;
}
