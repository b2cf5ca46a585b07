#include "metrics/calibrate/calibration.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/options.h"
#include "metrics/likelihood/probabilities.h"

static const struct options_kind calibrate_options = {.defaults = "ivon_calibrate_defaults"};

void ivon_calibrate_options_init(struct ivon_calibrate_options *options, size_t size)
{
    const struct ivon_calibrate_options defaults = {.size = sizeof defaults,
                                                    .method = IVON_CALIBRATION_TEMPERATURE,
                                                    .coverage = 0.9,
                                                    .penalty = 0.01,
                                                    .free_ranks = 5};
    options_init(options, size, &defaults);
}

int calibration_read_options(struct ivon_calibrate_options *own,
                             const struct ivon_calibrate_options *given, struct ivon_error *error)
{
    *own = ivon_calibrate_defaults();
    int code = options_read(&calibrate_options, own, given, error);
    return code ? code : calibration_check_options(own, error);
}

static int calibration_refuse(struct ivon_error *error, const char *why)
{
    return ivon_error_set(error, IVON_ERROR_ARGUMENT, "%s", why);
}

static bool calibration_is_of_events(enum ivon_likelihood likelihood)
{
    const struct ivon_likelihood_traits *traits = ivon_likelihood_traits(likelihood);
    return !traits->classes && !traits->regression;
}

size_t calibration_scalings(const struct ivon_calibration *calibration)
{
    return calibration->outputs * (calibration_is_of_events(calibration->likelihood) ? 2 : 1);
}

int calibration_check_options(const struct ivon_calibrate_options *options,
                              struct ivon_error *error)
{
    const struct ivon_likelihood_traits *traits = ivon_likelihood_traits(options->likelihood);
    bool of_numbers = options->conformal >= IVON_CONFORMAL_ABSOLUTE;
    if (!traits)
        return calibration_refuse(error, "no such likelihood");
    if (!options->outputs || options->outputs > PTRDIFF_MAX / sizeof(double))
        return calibration_refuse(error, "the number of outputs is not one or more");
    if ((unsigned)options->method > IVON_CALIBRATION_ISOTONIC ||
        (unsigned)options->conformal > IVON_CONFORMAL_NORMALISED)
        return calibration_refuse(error, "no such method of calibration");
    if (traits->regression && options->method != IVON_CALIBRATION_NONE)
        return calibration_refuse(error,
                                  "probabilities are recalibrated, and a regression has none");
    if (options->conformal != IVON_CONFORMAL_NONE && of_numbers != traits->regression)
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "these conformal scores are of %s, and the predictions of %s",
                              of_numbers ? "regression" : "classes",
                              of_numbers ? "classes" : "regression");
    if (options->conformal != IVON_CONFORMAL_NONE && calibration_is_of_events(options->likelihood))
        return calibration_refuse(error, "conformal sets are of classes, and events have none");
    if (options->conformal == IVON_CONFORMAL_NONE && options->method == IVON_CALIBRATION_NONE)
        return calibration_refuse(error, "neither a recalibration nor conformal scores are asked "
                                         "for");
    if (options->conformal != IVON_CONFORMAL_NONE &&
        !(options->coverage > 0 && options->coverage < 1))
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "a coverage of %g, expected more than 0 and less than 1",
                              options->coverage);
    if (options->conformal == IVON_CONFORMAL_RAPS &&
        !(options->penalty >= 0 && isfinite(options->penalty)))
        return ivon_error_set(error, IVON_ERROR_ARGUMENT, "a penalty of %g, expected 0 or more",
                              options->penalty);
    return 0;
}

static int check_class_row(const struct ivon_calibrate_options *options,
                           const struct ivon_calibration_data *data, size_t i,
                           struct ivon_error *error)
{
    size_t k = options->outputs;
    bool events = calibration_is_of_events(options->likelihood);
    for (size_t c = 0; c < k && events; c++)
        if (data->labels[i * k + c] != 0 && data->labels[i * k + c] != 1)
            return ivon_error_set(
                error, IVON_ERROR_DATA, "row %llu has event %lld, expected 0 or 1",
                (unsigned long long)data->numbers[i], (long long)data->labels[i * k + c]);
    if (!events && (data->labels[i] < 0 || (uint64_t)data->labels[i] >= k))
        return ivon_error_set(error, IVON_ERROR_DATA, "row %llu has class %lld, expected 0 to %zu",
                              (unsigned long long)data->numbers[i], (long long)data->labels[i],
                              k - 1);
    return (events ? probabilities_check : probabilities_check_classes)(data->probabilities + i * k,
                                                                        k, data->numbers[i], error);
}

static int check_number_row(const struct ivon_calibrate_options *options,
                            const struct ivon_calibration_data *data, size_t i,
                            struct ivon_error *error)
{
    size_t k = options->outputs;
    for (size_t at = i * k; at < (i + 1) * k; at++) {
        if (!isfinite(data->means[at]) || !isfinite(data->targets[at]))
            return ivon_error_set(error, IVON_ERROR_DATA,
                                  "row %llu has the mean %g and the target %g, expected finite "
                                  "numbers",
                                  (unsigned long long)data->numbers[i], (double)data->means[at],
                                  (double)data->targets[at]);
        if (options->conformal == IVON_CONFORMAL_NORMALISED &&
            !(data->deviations[at] > 0 && isfinite(data->deviations[at])))
            return ivon_error_set(error, IVON_ERROR_DATA,
                                  "row %llu has the standard deviation %g, expected more than 0",
                                  (unsigned long long)data->numbers[i],
                                  (double)data->deviations[at]);
    }
    return 0;
}

int calibration_check_data(const struct ivon_calibrate_options *options,
                           const struct ivon_calibration_data *data, struct ivon_error *error)
{
    bool regression = ivon_likelihood_traits(options->likelihood)->regression;
    size_t all;
    if (!data->rows)
        return ivon_error_set(error, IVON_ERROR_DATA, "no rows to calibrate by, expected some");
    if (!data->numbers || (!regression && (!data->probabilities || !data->labels)) ||
        (regression && (!data->means || !data->targets)))
        return calibration_refuse(error, "the rows' numbers, predictions or targets are missing");
    if (options->conformal == IVON_CONFORMAL_NORMALISED && !data->deviations)
        return calibration_refuse(error, "normalised residuals need standard deviations");
    if (__builtin_mul_overflow(data->rows, options->outputs, &all) ||
        all > PTRDIFF_MAX / sizeof(double))
        return ivon_error_memory(error);
    int code = 0;
    for (size_t i = 0; i < data->rows && !code; i++)
        code = regression ? check_number_row(options, data, i, error)
                          : check_class_row(options, data, i, error);
    return code;
}

/* Fitting. */

static int fit_isotonic(struct ivon_calibration *calibration, const struct calibration_rows *rows,
                        struct ivon_error *error)
{
    size_t k = calibration->outputs, count = rows->count;
    bool events = calibration_is_of_events(calibration->likelihood);
    float *x = calloc(count, sizeof *x);
    bool *y = calloc(count, sizeof *y);
    calibration->isotonic = calloc(k, sizeof *calibration->isotonic);
    int code = x && y && calibration->isotonic ? 0 : ivon_error_memory(error);
    for (size_t c = 0; c < k && !code; c++) {
        for (size_t i = 0; i < count; i++) {
            x[i] = rows->data->probabilities[rows->list[i] * k + c];
            y[i] = events ? rows->data->labels[rows->list[i] * k + c]
                          : (size_t)rows->data->labels[rows->list[i]] == c;
        }
        code = isotonic_fit(&calibration->isotonic[c], x, y, count, error);
    }
    free(x);
    free(y);
    return code;
}

static int fit_scaling(struct ivon_calibration *calibration, const struct calibration_rows *rows,
                       struct ivon_error *error)
{
    size_t k = calibration->outputs, count = rows->count;
    bool vector = calibration->method == IVON_CALIBRATION_VECTOR;
    double *logs = calloc(count * k, sizeof *logs);
    int64_t *labels = calloc(count, sizeof *labels);
    int code = logs && labels ? 0 : ivon_error_memory(error);
    for (size_t i = 0; i < count && !code; i++) {
        labels[i] = rows->data->labels[rows->list[i]];
        for (size_t c = 0; c < k; c++)
            logs[i * k + c] = calibration_log(rows->data->probabilities[rows->list[i] * k + c]);
    }
    if (!code && !vector)
        calibration->temperature = scaling_fit_temperature(logs, labels, count, k);
    if (!code && vector) {
        calibration->weights = calloc(k, sizeof *calibration->weights);
        calibration->biases = calloc(k, sizeof *calibration->biases);
        code = calibration->weights && calibration->biases ? 0 : ivon_error_memory(error);
        for (size_t c = 0; c < k && !code; c++)
            calibration->weights[c] = 1;
        if (!code)
            code = scaling_fit_vector(logs, labels, count, k, calibration->weights,
                                      calibration->biases, error);
    }
    free(logs);
    free(labels);
    return code;
}

static int fit_conformal(struct ivon_calibration *calibration, const struct calibration_rows *rows,
                         struct ivon_error *error)
{
    size_t k = calibration->outputs;
    const struct ivon_calibration_data *data = rows->data;
    if (!data->probabilities)
        return conformal_fit(&calibration->conformal, rows, k, NULL, error);
    float *calibrated = calloc(rows->count * k, sizeof *calibrated);
    int code = calibrated ? 0 : ivon_error_memory(error);
    for (size_t i = 0; i < rows->count && !code; i++)
        code = ivon_calibration_apply(calibration, data->numbers[rows->list[i]], 1,
                                      data->probabilities + rows->list[i] * k, calibrated + i * k,
                                      error);
    if (!code)
        code = conformal_fit(&calibration->conformal, rows, k, calibrated, error);
    free(calibrated);
    return code;
}

static int fit_method(struct ivon_calibration *calibration, const struct calibration_rows *rows,
                      struct ivon_error *error)
{
    calibration->rows = rows->count;
    if (calibration->method == IVON_CALIBRATION_ISOTONIC)
        return fit_isotonic(calibration, rows, error);
    return calibration_is_of_events(calibration->likelihood)
               ? events_fit_scaling(calibration, rows, error)
               : fit_scaling(calibration, rows, error);
}

/* Puts the rows of a random half of the examples first; returns how many these are. */
static size_t calibration_halve(const struct calibration_rows *rows, uint64_t seed, size_t *list)
{
    uint64_t tokens = rows->data->tokens ? rows->data->tokens : 1;
    size_t first = 0, last = rows->count;
    for (size_t i = 0; i < rows->count; i++) {
        uint64_t example = rows->data->numbers[rows->list[i]] / tokens;
        bool half = calibration_uniform(seed, "calibration.half", example, 0) < 0.5;
        list[half ? first++ : --last] = rows->list[i];
    }
    return first;
}

static int fit_halves(struct ivon_calibration *calibration, const struct calibration_rows *rows,
                      struct ivon_error *error)
{
    size_t *list = calloc(rows->count, sizeof *list);
    if (!list)
        return ivon_error_memory(error);
    size_t first = calibration_halve(rows, calibration->conformal.seed, list);
    const struct calibration_rows fitted = {rows->data, list, first};
    const struct calibration_rows scored = {rows->data, list + first, rows->count - first};
    int code = first && first < rows->count
                   ? 0
                   : ivon_error_set(error, IVON_ERROR_DATA,
                                    "%zu rows, of which one half would recalibrate and the other "
                                    "give the threshold: a half has none",
                                    rows->count);
    if (!code)
        code = fit_method(calibration, &fitted, error);
    if (!code)
        code = fit_conformal(calibration, &scored, error);
    free(list);
    return code;
}

int calibration_fit_rows(struct ivon_calibration **out,
                         const struct ivon_calibrate_options *options,
                         const struct calibration_rows *rows, struct ivon_error *error)
{
    struct ivon_calibration *calibration = calloc(1, sizeof *calibration);
    bool method = options->method != IVON_CALIBRATION_NONE;
    bool conformal = options->conformal != IVON_CONFORMAL_NONE;
    if (!calibration)
        return ivon_error_memory(error);
    *calibration = (struct ivon_calibration){.likelihood = options->likelihood,
                                             .outputs = options->outputs,
                                             .method = options->method,
                                             .temperature = NAN,
                                             .conformal = {.score = options->conformal,
                                                           .coverage = options->coverage,
                                                           .penalty = options->penalty,
                                                           .free_ranks = options->free_ranks,
                                                           .seed = options->seed}};
    int code = method && conformal ? fit_halves(calibration, rows, error)
               : method            ? fit_method(calibration, rows, error)
                                   : fit_conformal(calibration, rows, error);
    if (code)
        ivon_calibration_free(calibration);
    else
        *out = calibration;
    return code;
}

int ivon_calibration_fit(struct ivon_calibration **out, const struct ivon_calibrate_options *given,
                         const struct ivon_calibration_data *data, struct ivon_error *error)
{
    struct ivon_calibrate_options options;
    int code = calibration_read_options(&options, given, error);
    if (!code)
        code = calibration_check_data(&options, data, error);
    if (code)
        return code;
    size_t *list = calloc(data->rows, sizeof *list);
    if (!list)
        return ivon_error_memory(error);
    for (size_t i = 0; i < data->rows; i++)
        list[i] = i;
    const struct calibration_rows rows = {data, list, data->rows};
    code = calibration_fit_rows(out, &options, &rows, error);
    free(list);
    return code;
}

void ivon_calibration_free(struct ivon_calibration *calibration)
{
    if (!calibration)
        return;
    for (size_t c = 0; calibration->isotonic && c < calibration->outputs; c++)
        isotonic_release(&calibration->isotonic[c]);
    free(calibration->isotonic);
    free(calibration->weights);
    free(calibration->biases);
    free(calibration->conformal.quantiles);
    free(calibration);
}

struct ivon_calibration_summary ivon_calibration_summary(const struct ivon_calibration *calibration)
{
    const struct conformal *conformal = &calibration->conformal;
    bool scored = conformal->score != IVON_CONFORMAL_NONE;
    struct ivon_calibration_summary summary = {.likelihood = calibration->likelihood,
                                               .outputs = calibration->outputs,
                                               .method = calibration->method,
                                               .conformal = conformal->score,
                                               .temperature = calibration->method ==
                                                                      IVON_CALIBRATION_TEMPERATURE
                                                                  ? calibration->temperature
                                                                  : NAN,
                                               .coverage = scored ? conformal->coverage : NAN,
                                               .quantile = scored ? conformal->quantiles[0] : NAN,
                                               .fitted = calibration->rows,
                                               .scored = conformal->rows};
    for (size_t i = 1; i < conformal->quantile_count; i++)
        summary.quantile = fmax(summary.quantile, conformal->quantiles[i]);
    return summary;
}

/* Applying. */

static void apply_scaling(const struct ivon_calibration *calibration, const float *p, double *z)
{
    size_t k = calibration->outputs;
    double largest = -INFINITY;
    for (size_t c = 0; c < k; c++) {
        double l = calibration_log(p[c]);
        z[c] = calibration->method == IVON_CALIBRATION_VECTOR
                   ? calibration->weights[c] * l + calibration->biases[c]
                   : l / calibration->temperature;
        largest = fmax(largest, z[c]);
    }
    for (size_t c = 0; c < k; c++)
        z[c] = exp(z[c] - largest);
}

int ivon_calibration_apply(const struct ivon_calibration *calibration, uint64_t first, size_t rows,
                           const float *probabilities, float *out, struct ivon_error *error)
{
    size_t k = calibration->outputs;
    bool events = calibration_is_of_events(calibration->likelihood);
    double *z = calloc(k, sizeof *z);
    int code = z ? 0 : ivon_error_memory(error);
    for (size_t i = 0; i < rows && !code; i++) {
        const float *p = probabilities + i * k;
        double total = 0;
        code = (events ? probabilities_check : probabilities_check_classes)(p, k, first + i, error);
        if (code)
            break;
        if (calibration->method == IVON_CALIBRATION_NONE) {
            memmove(out + i * k, p, k * sizeof *out);
            continue;
        }
        if (events) {
            events_apply(calibration, p, out + i * k);
            continue;
        }
        if (calibration->method == IVON_CALIBRATION_ISOTONIC)
            for (size_t c = 0; c < k; c++)
                z[c] = isotonic_value(&calibration->isotonic[c], (double)p[c]);
        else
            apply_scaling(calibration, p, z);
        for (size_t c = 0; c < k; c++)
            total += z[c];
        for (size_t c = 0; c < k; c++)
            out[i * k + c] = (float)(z[c] / total);
    }
    free(z);
    return code;
}

int ivon_calibration_sets(const struct ivon_calibration *calibration, uint64_t first, size_t rows,
                          const float *probabilities, int64_t *sets, int64_t *sizes,
                          struct ivon_error *error)
{
    size_t k = calibration->outputs;
    enum ivon_conformal score = calibration->conformal.score;
    if (score == IVON_CONFORMAL_NONE || score >= IVON_CONFORMAL_ABSOLUTE)
        return calibration_refuse(error, "this calibration makes no sets of classes");
    struct ranked *ranked = calloc(k, sizeof *ranked);
    double *scores = calloc(k, sizeof *scores);
    int code = ranked && scores ? 0 : ivon_error_memory(error);
    for (size_t i = 0; i < rows && !code; i++) {
        code = probabilities_check_classes(probabilities + i * k, k, first + i, error);
        if (!code)
            sizes[i] = conformal_set(&calibration->conformal, k, first + i, probabilities + i * k,
                                     ranked, scores, sets + i * k);
    }
    free(ranked);
    free(scores);
    return code;
}

int ivon_calibration_intervals(const struct ivon_calibration *calibration, uint64_t first,
                               size_t rows, const float *means, const float *deviations,
                               float *lower, float *upper, struct ivon_error *error)
{
    size_t k = calibration->outputs;
    bool normalised = calibration->conformal.score == IVON_CONFORMAL_NORMALISED;
    if (calibration->conformal.score < IVON_CONFORMAL_ABSOLUTE)
        return calibration_refuse(error, "this calibration makes no intervals");
    if (normalised && !deviations)
        return calibration_refuse(error, "normalised residuals need standard deviations");
    for (size_t i = 0; i < rows * k; i++) {
        double half = calibration->conformal.quantiles[i % k];
        if (normalised && !(deviations[i] > 0 && isfinite(deviations[i])))
            return ivon_error_set(error, IVON_ERROR_DATA,
                                  "row %llu has the standard deviation %g, expected more than 0",
                                  (unsigned long long)(first + i / k), (double)deviations[i]);
        half *= normalised ? (double)deviations[i] : 1;
        lower[i] = (float)((double)means[i] - half);
        upper[i] = (float)((double)means[i] + half);
    }
    return 0;
}
