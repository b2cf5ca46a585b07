#include <math.h>
#include <stdlib.h>

#include "metrics/log_likelihoods.h"
#include "metrics/pareto.h"
#include "core/error.h"

enum { TAIL_MIN = 5 };

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

/* A draw, and what it says of an example. */
struct psis_draw {
    double log_weight, value;
    size_t sample;
};

static int compare_draws(const void *a, const void *b)
{
    const struct psis_draw *left = a, *right = b;
    if (left->log_weight != right->log_weight)
        return left->log_weight < right->log_weight ? 1 : -1;
    if (left->value != right->value)
        return left->value < right->value ? -1 : 1;
    return (left->sample > right->sample) - (left->sample < right->sample);
}

struct psis_scratch {
    struct psis_draw *draws; /* S */
    double *log_weights;     /* S numbers, a tail, and S numbers */
};

static void psis_scratch_release(struct psis_scratch *scratch)
{
    free(scratch->draws);
    free(scratch->log_weights);
}

/* To be released in any case. */
static int psis_scratch_init(struct psis_scratch *scratch, size_t samples, struct ivon_error *error)
{
    scratch->draws = calloc(samples, sizeof *scratch->draws);
    scratch->log_weights = calloc(2 * samples + tail_length(samples), sizeof(double));
    return scratch->draws && scratch->log_weights ? 0 : ivon_error_memory(error);
}

/* Sorts the draws by their weights, the greatest first, and sets log_weights to theirs, smoothed.
   Returns k. */
static double psis_smooth(struct psis_scratch *scratch, size_t samples)
{
    struct psis_draw *draws = scratch->draws;
    qsort(draws, samples, sizeof *draws, compare_draws);
    if (isinf(draws->log_weight))
        return INFINITY;
    for (size_t s = 0; s < samples; s++)
        scratch->log_weights[s] = draws[s].log_weight - draws->log_weight;
    return smooth_tail(scratch->log_weights, tail_length(samples), scratch->log_weights + samples);
}

/* The leave-one-out loss of one example, by its log-likelihoods, and the logarithms of the ratios
   that the draws have in any case, or null. */
static double leave_one_out(const double *values, const double *log_ratios, size_t samples,
                            double exponent, struct psis_scratch *scratch, double *pareto_k)
{
    double *log_weights = scratch->log_weights;
    double *sums = log_weights + samples + tail_length(samples);
    double least = values[0];
    for (size_t s = 1; s < samples; s++)
        least = fmin(least, values[s]);
    *pareto_k = INFINITY;
    if (isinf(least) && exponent > 0)
        return INFINITY;
    for (size_t s = 0; s < samples; s++) {
        double own = exponent > 0 ? -exponent * (values[s] - least) : 0;
        scratch->draws[s] = (struct psis_draw){own + (log_ratios ? log_ratios[s] : 0), values[s],
                                               s};
    }
    *pareto_k = psis_smooth(scratch, samples);
    if (isinf(scratch->draws->log_weight))
        return INFINITY; /* no draw has any weight */
    for (size_t s = 0; s < samples; s++)
        sums[s] = log_weights[s] + scratch->draws[s].value;
    return log_sum_exp(log_weights, samples) - log_sum_exp(sums, samples);
}

/* Fails on a ratio that is no weight. */
static int psis_check_ratios(const double *log_ratios, size_t samples, struct ivon_error *error)
{
    for (size_t s = 0; s < samples; s++)
        if (isnan(log_ratios[s]) || log_ratios[s] == (double)INFINITY)
            return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                                  "the logarithm of importance ratio %zu is %g", s, log_ratios[s]);
    return 0;
}

int ivon_psis_loo_weighted(const struct ivon_log_likelihoods *block, double exponent,
                           const double *log_ratios, double *loo, double *pareto_k,
                           struct ivon_error *error)
{
    size_t samples = block->samples;
    struct psis_scratch scratch = {0};
    int code = log_likelihoods_check(block, exponent, error);
    if (!code && log_ratios)
        code = psis_check_ratios(log_ratios, samples, error);
    if (!code)
        code = psis_scratch_init(&scratch, samples, error);
    double *values = code ? NULL : malloc(samples * sizeof *values);
    if (!code && !values)
        code = ivon_error_memory(error);
    for (size_t i = 0; i < block->examples && !code; i++) {
        log_likelihoods_copy(block, i, values);
        loo[i] = leave_one_out(values, log_ratios, samples, exponent, &scratch, &pareto_k[i]);
    }
    free(values);
    psis_scratch_release(&scratch);
    return code;
}

int ivon_psis_loo(const struct ivon_log_likelihoods *block, double exponent, double *loo,
                  double *pareto_k, struct ivon_error *error)
{
    return ivon_psis_loo_weighted(block, exponent, NULL, loo, pareto_k, error);
}

int ivon_psis_k(const double *log_ratios, size_t samples, double *pareto_k,
                struct ivon_error *error)
{
    struct psis_scratch scratch = {0};
    int code = psis_check_ratios(log_ratios, samples, error);
    if (!code)
        code = psis_scratch_init(&scratch, samples, error);
    for (size_t s = 0; s < samples && !code; s++)
        scratch.draws[s] = (struct psis_draw){log_ratios[s], 0, s};
    if (!code)
        *pareto_k = psis_smooth(&scratch, samples);
    psis_scratch_release(&scratch);
    return code;
}

double ivon_pareto_k_threshold(size_t samples)
{
    return fmin(1 - 1 / log10((double)samples), 0.7);
}
