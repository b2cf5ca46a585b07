#include <math.h>
#include <stdlib.h>

#include "metrics/log_likelihoods.h"
#include "metrics/pareto.h"
#include "core/error.h"

enum { TAIL_MIN = 5 };

static int compare_doubles(const void *a, const void *b)
{
    double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

/* ⌈min(S/5, 3 √S)⌉ */
static size_t tail_length(size_t samples)
{
    return (size_t)ceil(fmin((double)samples / 5, 3 * sqrt((double)samples)));
}

/* Smooths the tail, which is the start of the log weights: they are sorted in descending order, and
   the first one is 0. Returns k. `tail` has space for `length` numbers. */
static double smooth_tail(double *log_weights, size_t length, double *tail)
{
    if (length < TAIL_MIN)
        return INFINITY;
    if (log_weights[0] == log_weights[length - 1])
        return NAN;
    /* A range beyond e^709 gives infinity or NaN and is not fitted. */
    double cutoff = log_weights[length];
    for (size_t z = 0; z < length; z++)
        tail[z] = exp(cutoff) * expm1(log_weights[length - 1 - z] - cutoff);
    struct pareto pareto = pareto_fit(tail, length);
    for (size_t z = 0; z < length && isfinite(pareto.k); z++) {
        double quantile = pareto_quantile(&pareto, ((double)z + 0.5) / (double)length);
        log_weights[length - 1 - z] = fmin(log(quantile + exp(cutoff)), 0);
    }
    return pareto.k;
}

/* The leave-one-out loss of one example, whose log-likelihoods it sorts: weights fall as they rise,
   so the tail is at the front. `scratch` has space for S numbers and a tail. */
static double leave_one_out(double *values, size_t samples, double exponent, double *scratch,
                            double *pareto_k)
{
    double *log_weights = scratch, *tail = scratch + samples;
    qsort(values, samples, sizeof *values, compare_doubles);
    if (isinf(values[0]) && exponent > 0) {
        *pareto_k = INFINITY;
        return INFINITY;
    }
    for (size_t s = 0; s < samples; s++)
        log_weights[s] = exponent > 0 ? -exponent * (values[s] - values[0]) : 0;
    *pareto_k = smooth_tail(log_weights, tail_length(samples), tail);
    double total = log_sum_exp(log_weights, samples);
    for (size_t s = 0; s < samples; s++)
        log_weights[s] += values[s];
    return total - log_sum_exp(log_weights, samples);
}

int ivon_psis_loo(const struct ivon_log_likelihoods *block, double exponent, double *loo,
                  double *pareto_k, struct ivon_error *error)
{
    size_t samples = block->samples;
    int code = log_likelihoods_check(block, exponent, error);
    if (code)
        return code;
    double *values = malloc(samples * sizeof *values);
    double *scratch = malloc((samples + tail_length(samples)) * sizeof *scratch);
    if (values && scratch) {
        for (size_t i = 0; i < block->examples; i++) {
            log_likelihoods_copy(block, i, values);
            loo[i] = leave_one_out(values, samples, exponent, scratch, &pareto_k[i]);
        }
    } else {
        code = ivon_error_memory(error);
    }
    free(values);
    free(scratch);
    return code;
}

double ivon_pareto_k_threshold(size_t samples)
{
    return fmin(1 - 1 / log10((double)samples), 0.7);
}
