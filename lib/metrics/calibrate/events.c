/* Recalibration of events, each of which is two classes: that it does not happen, and that it
   does. */
#include <math.h>
#include <stdlib.h>

#include "core/error.h"
#include "metrics/calibrate/calibration.h"

enum { CLASSES = 2 };

/* The least 1 − p: half of what the float below 1 lacks to it. */
static const double least_rest = 0x1p-25;

static void event_logs(float p, double logs[CLASSES])
{
    double rest = 1 - (double)p;
    logs[0] = log(rest < least_rest ? least_rest : rest);
    logs[1] = calibration_log(p);
}

/* The two logarithms of each row's event c, or of all K events of it, with their labels. */
static void events_list(const struct calibration_rows *rows, size_t k, size_t first, size_t count,
                        double *logs, int64_t *labels)
{
    for (size_t i = 0; i < rows->count; i++)
        for (size_t c = 0; c < count; c++) {
            size_t from = rows->list[i] * k + first + c, to = i * count + c;
            event_logs(rows->data->probabilities[from], logs + CLASSES * to);
            labels[to] = rows->data->labels[from];
        }
}

static int events_fit_vector(struct ivon_calibration *calibration,
                             const struct calibration_rows *rows, double *logs, int64_t *labels,
                             struct ivon_error *error)
{
    size_t k = calibration->outputs;
    int code = 0;
    calibration->weights = calloc(CLASSES * k, sizeof *calibration->weights);
    calibration->biases = calloc(CLASSES * k, sizeof *calibration->biases);
    if (!calibration->weights || !calibration->biases)
        return ivon_error_memory(error);
    for (size_t c = 0; c < k && !code; c++) {
        double *weights = calibration->weights + CLASSES * c;
        weights[0] = weights[1] = 1;
        events_list(rows, k, c, 1, logs, labels);
        code = scaling_fit_vector(logs, labels, rows->count, CLASSES, weights,
                                  calibration->biases + CLASSES * c, error);
    }
    return code;
}

int events_fit_scaling(struct ivon_calibration *calibration, const struct calibration_rows *rows,
                       struct ivon_error *error)
{
    size_t k = calibration->outputs, all = rows->count * k, size;
    bool vector = calibration->method == IVON_CALIBRATION_VECTOR;
    size_t kept = vector ? rows->count : all; /* events at a time */
    if (__builtin_mul_overflow(kept, CLASSES * sizeof(double), &size) || size > PTRDIFF_MAX)
        return ivon_error_memory(error);
    double *logs = malloc(size);
    int64_t *labels = calloc(kept, sizeof *labels);
    int code = logs && labels ? 0 : ivon_error_memory(error);
    if (!code && vector)
        code = events_fit_vector(calibration, rows, logs, labels, error);
    if (!code && !vector) {
        events_list(rows, k, 0, k, logs, labels);
        calibration->temperature = scaling_fit_temperature(logs, labels, all, CLASSES);
    }
    free(logs);
    free(labels);
    return code;
}

static double event_value(const struct ivon_calibration *calibration, size_t c, float p)
{
    double logs[CLASSES], outputs[CLASSES];
    if (calibration->method == IVON_CALIBRATION_ISOTONIC)
        return isotonic_value(&calibration->isotonic[c], (double)p);
    event_logs(p, logs);
    for (size_t i = 0; i < CLASSES; i++)
        outputs[i] = calibration->method == IVON_CALIBRATION_VECTOR
                         ? calibration->weights[CLASSES * c + i] * logs[i] +
                               calibration->biases[CLASSES * c + i]
                         : logs[i] / calibration->temperature;
    return 1 / (1 + exp(outputs[0] - outputs[1]));
}

void events_apply(const struct ivon_calibration *calibration, const float *p, float *out)
{
    static const float greatest = 0x1.fffffep-1f; /* the float below 1 */
    for (size_t c = 0; c < calibration->outputs; c++) {
        float value = (float)event_value(calibration, c, p[c]);
        out[c] = value < greatest ? value : greatest;
    }
}
