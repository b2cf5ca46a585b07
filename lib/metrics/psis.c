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

/* Smooths the tail, the first of the log weights in falling order, of which the first is 0. Returns
   k. `tail` is room for `length` numbers. */
static double smooth_tail(double *log_weights, size_t length, double *tail)
{
    if (length < TAIL_MIN)
        return INFINITY;
    if (log_weights[0] == log_weights[length - 1])
        return NAN;
    /* Beyond a range of e^709 this is no number, and is not fitted. */
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

/* Of one example's log-likelihoods, which it sorts: ratios fall as those rise, so that the tail is
   at the front. `room` is for S numbers and a tail. */
static double leave_one_out(double *values, size_t samples, double exponent, double *room,
                            double *pareto_k)
{
    double *log_weights = room, *tail = room + samples;
    qsort(values, samples, sizeof *values, compare_doubles);
    if (isinf(values[0]) && exponent > 0) {
        *pareto_k = INFINITY;
        return INFINITY;
    }
    for (size_t s = 0; s < samples; s++)
        log_weights[s] = exponent > 0 ? -exponent * (values[s] - values[0]) : 0;
    *pareto_k = smooth_tail(log_weights, tail_length(samples), tail);
    double total = log_sum_of_exponentials(log_weights, samples);
    for (size_t s = 0; s < samples; s++)
        log_weights[s] += values[s];
    return total - log_sum_of_exponentials(log_weights, samples);
}

int ivon_psis_loo(const struct ivon_log_likelihoods *block, double exponent, double *loo,
                  double *pareto_k, struct ivon_error *error)
{
    size_t samples = block->samples;
    int code = log_likelihoods_check(block, exponent, error);
    if (code)
        return code;
    double *values = malloc(samples * sizeof *values);
    double *room = malloc((samples + tail_length(samples)) * sizeof *room);
    if (values && room) {
        for (size_t i = 0; i < block->examples; i++) {
            log_likelihoods_of(block, i, values);
            loo[i] = leave_one_out(values, samples, exponent, room, &pareto_k[i]);
        }
    } else {
        code = ivon_error_memory(error);
    }
    free(values);
    free(room);
    return code;
}

double ivon_pareto_k_threshold(size_t samples)
{
    return fmin(1 - 1 / log10((double)samples), 0.7);
}
