#include <math.h>
#include <stdlib.h>

#include "metrics/log_likelihoods.h"
#include "core/error.h"

static double waic_variance(const double *values, size_t count)
{
    double sum = 0, square = 0;
    for (size_t s = 0; s < count; s++)
        sum += values[s];
    double mean = sum / (double)count;
    if (isinf(mean))
        return INFINITY;
    for (size_t s = 0; s < count; s++)
        square += (values[s] - mean) * (values[s] - mean);
    return square / (double)(count - 1);
}

int ivon_waic(const struct ivon_log_likelihoods *block, double exponent, double *waic,
              double *penalty, struct ivon_error *error)
{
    size_t samples = block->samples;
    int code = log_likelihoods_check(block, exponent, error);
    if (code)
        return code;
    double *values = malloc(samples * sizeof *values);
    if (!values)
        return ivon_error_memory(error);
    for (size_t i = 0; i < block->examples; i++) {
        log_likelihoods_copy(block, i, values);
        double spread = exponent > 0 ? exponent * waic_variance(values, samples) : 0;
        waic[i] = log((double)samples) - log_sum_exp(values, samples) + spread;
        if (penalty)
            penalty[i] = spread;
    }
    free(values);
    return 0;
}
