#include "bayes/predict/rows.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "core/dispatch.h"
#include "core/error.h"
#include "metrics/likelihood/probabilities.h"

enum { TILE = LIKELIHOOD_TILE };

/* Returns whether the probabilities of all groups are one sum in double. */
static bool rows_are_together(const struct likelihood *likelihood, size_t groups, bool together)
{
    return together && groups > 1 && !likelihood_kind_of(likelihood->kind)->traits.regression;
}

int rows_init(struct row_sums *sums, const struct likelihood *likelihood, size_t groups,
              bool together, size_t capacity, struct ivon_error *error)
{
    *sums = (struct row_sums){.likelihood = *likelihood,
                              .kind = likelihood_kind_of(likelihood->kind),
                              .groups = groups,
                              .together = rows_are_together(likelihood, groups, together),
                              .capacity = capacity};
    struct likelihood_sums *own = &sums->sums;
    size_t rows = groups * capacity, k = likelihood->k;
    bool regression = sums->kind->traits.regression;
    if (regression) {
        own->first = calloc(rows * k, sizeof *own->first);
        own->second = calloc(rows * k, sizeof *own->second);
        own->density_log = calloc(rows, sizeof *own->density_log);
        own->density_sum = calloc(rows, sizeof *own->density_sum);
    } else {
        if (sums->together)
            own->total = calloc(capacity * k, sizeof *own->total);
        else
            own->probabilities = calloc(rows * k, sizeof *own->probabilities);
        own->expected = calloc(capacity, sizeof *own->expected);
    }
    bool fine = regression ? own->first && own->second && own->density_log && own->density_sum
                           : (own->probabilities || own->total) && own->expected;
    return fine ? 0 : ivon_error_memory(error);
}

void rows_release(struct row_sums *sums)
{
    free(sums->sums.probabilities);
    free(sums->sums.total);
    free(sums->sums.expected);
    free(sums->sums.first);
    free(sums->sums.second);
    free(sums->sums.density_log);
    free(sums->sums.density_sum);
    *sums = (struct row_sums){0};
}

size_t rows_size(const struct likelihood *likelihood, size_t groups, bool together)
{
    size_t k = likelihood->k;
    if (likelihood_kind_of(likelihood->kind)->traits.regression)
        return groups * (k + 1) * 2 * sizeof(double);
    return (rows_are_together(likelihood, groups, together) ? k * sizeof(double)
                                                            : groups * k * sizeof(float)) +
           sizeof(double);
}

void rows_clear(struct row_sums *sums)
{
    struct likelihood_sums *own = &sums->sums;
    size_t rows = sums->groups * sums->capacity, all = rows * sums->likelihood.k;
    memset(sums->group_weight, 0, sizeof sums->group_weight);
    if (sums->kind->traits.regression) {
        memset(own->first, 0, all * sizeof *own->first);
        memset(own->second, 0, all * sizeof *own->second);
        memset(own->density_sum, 0, rows * sizeof *own->density_sum);
        for (size_t i = 0; i < rows; i++)
            own->density_log[i] = -INFINITY;
    } else {
        if (own->total)
            memset(own->total, 0, sums->capacity * sums->likelihood.k * sizeof *own->total);
        else
            memset(own->probabilities, 0, all * sizeof *own->probabilities);
        memset(own->expected, 0, sums->capacity * sizeof *own->expected);
    }
}

/* The sums from a row of a group on; what the likelihood does not have is null. */
static struct likelihood_sums rows_from(const struct row_sums *sums, size_t group, size_t row)
{
    const struct likelihood_sums *own = &sums->sums;
    size_t base = group * sums->capacity + row, k = sums->likelihood.k;
    bool regression = sums->kind->traits.regression;
    return (struct likelihood_sums){
        .probabilities = own->probabilities ? own->probabilities + base * k : NULL,
        .total = own->total ? own->total + row * k : NULL,
        .expected = regression || sums->same ? NULL : own->expected + row,
        .first = regression ? own->first + base * k : NULL,
        .second = regression ? own->second + base * k : NULL,
        .density_log = regression ? own->density_log + base : NULL,
        .density_sum = regression ? own->density_sum + base : NULL};
}

void rows_add(struct row_sums *sums, size_t group, double weight, size_t row, size_t count,
              const float *outputs, const struct row_targets *targets, double *log_likelihoods)
{
    const struct likelihood_sums at = rows_from(sums, group, row);
    sums->kind->add(&sums->likelihood, &at, weight, count, outputs, targets, log_likelihoods);
}

void rows_add_normal(struct row_sums *sums, size_t row, size_t count,
                     const struct likelihood_normal *outputs, const struct row_targets *targets)
{
    const struct likelihood_sums at = rows_from(sums, 0, row);
    sums->kind->add_normal(&sums->likelihood, &at, 1, count, outputs, targets);
}

/* Σ of the weights of all groups but one. */
static double weight_without(const struct row_sums *sums, size_t without)
{
    double total = 0;
    for (size_t g = 0; g < sums->groups; g++)
        total += g == without ? 0 : sums->group_weight[g];
    return total;
}

/* Sets `sum` to that of all groups but one, of the probabilities from number `at` of a group on. */
IVON_DISPATCH static void rows_add_groups(const struct row_sums *sums, size_t without, size_t at,
                                          size_t count, double *sum)
{
    if (sums->together) {
        memcpy(sum, sums->sums.total + at, count * sizeof *sum);
        return;
    }
    memset(sum, 0, count * sizeof *sum);
    for (size_t g = 0; g < sums->groups; g++) {
        const float *values = sums->sums.probabilities + g * sums->capacity * sums->likelihood.k +
                              at;
        for (size_t i = 0; i < count && g != without; i++)
            sum[i] += (double)values[i];
    }
}

IVON_DISPATCH void rows_probabilities(const struct row_sums *sums, size_t without, size_t row,
                                      size_t count, float *out)
{
    double total = weight_without(sums, without), sum[TILE];
    size_t all = count * sums->likelihood.k;
    if (sums->groups == 1 && without && total == 1) {
        memcpy(out, sums->sums.probabilities + row * sums->likelihood.k, all * sizeof *out);
        return;
    }
    for (size_t at = 0; at < all; at += TILE) {
        size_t piece = all - at < TILE ? all - at : TILE;
        rows_add_groups(sums, without, row * sums->likelihood.k + at, piece, sum);
        for (size_t i = 0; i < piece; i++)
            out[at + i] = (float)(sum[i] / total);
    }
}

void rows_densities(const struct row_sums *sums, size_t without, size_t row, size_t count,
                    double *means, double *log_densities)
{
    double total = weight_without(sums, without);
    size_t k = sums->likelihood.k, width = ivon_likelihood_targets(sums->likelihood.kind, k);
    for (size_t i = 0; i < count; i++) {
        double log_scale = -INFINITY, sum = 0;
        for (size_t j = 0; j < width && means; j++)
            means[i * width + j] = 0;
        for (size_t g = 0; g < sums->groups; g++) {
            size_t at = g * sums->capacity + row + i;
            if (g == without)
                continue;
            for (size_t j = 0; j < width && means; j++)
                means[i * width + j] += sums->sums.first[at * k + j] / total;
            if (sums->sums.density_sum[at] > 0)
                likelihood_add_log(&log_scale, &sum,
                                   sums->sums.density_log[at] + log(sums->sums.density_sum[at]));
        }
        log_densities[i] = likelihood_is_known(&sums->likelihood)
                               ? log_scale + log(sum) - log(total)
                               : NAN;
    }
}

void rows_losses(const struct row_sums *sums, size_t row, size_t count, const float *probabilities,
                 const struct row_targets *targets, double *losses)
{
    enum ivon_likelihood likelihood = sums->likelihood.kind;
    size_t k = sums->likelihood.k, width = ivon_likelihood_targets(likelihood, k);
    bool regression = sums->kind->traits.regression;
    if (regression)
        rows_densities(sums, ROWS_GROUPS_MAX, row, count, NULL, losses);
    for (size_t i = 0; i < count; i++) {
        if (regression)
            losses[i] = -losses[i];
        else
            losses[i] = targets_count(targets, likelihood, k, i)
                            ? probabilities_loss(likelihood, probabilities + i * k, k,
                                                 targets->labels + i * width)
                            : NAN;
    }
}

/* Computes the results of one row from its averaged probabilities. */
static void finish_row(const struct row_sums *sums, size_t row, size_t at, const float *p,
                       const struct row_results *results)
{
    size_t k = sums->likelihood.k, width = ivon_likelihood_targets(sums->likelihood.kind, k);
    if (!results->entropy)
        return;
    double entropy = sums->kind->describe(p, k, results->prediction + at * width,
                                          &results->max_probability[at]);
    double expected = sums->same ? entropy
                                 : sums->sums.expected[row] / weight_without(sums, ROWS_GROUPS_MAX);
    results->entropy[at] = (float)entropy;
    if (!results->expected_entropy)
        return;
    results->expected_entropy[at] = (float)expected;
    /* Never negative (Jensen), but for rounding. */
    results->mutual_information[at] = (float)(entropy > expected ? entropy - expected : 0);
}

/* The mean over samples of number `at` of a group's sums, from which it begins. */
static double rows_average(const struct row_sums *sums, const double *values, size_t at)
{
    double total = weight_without(sums, ROWS_GROUPS_MAX), sum = 0;
    for (size_t g = 0; g < sums->groups; g++)
        sum += values[g * sums->capacity * sums->likelihood.k + at] / total;
    return sum;
}

static void finish_regression(const struct row_sums *sums, size_t row, size_t count,
                              const struct row_results *results)
{
    const struct likelihood_sums *own = &sums->sums;
    size_t k = sums->likelihood.k, width = ivon_likelihood_targets(sums->likelihood.kind, k);
    for (size_t i = 0; i < count * width; i++) {
        size_t at = (row + i / width) * k + i % width;
        double first = rows_average(sums, own->first, at);
        double variance = sums->same ? 0 : rows_average(sums, own->second, at) - first * first;
        results->mean[i] = (float)first;
        results->epistemic_std[i] = (float)sqrt(variance > 0 ? variance : 0);
        double noise = width < k ? rows_average(sums, own->first, at + width) : NAN;
        if (results->aleatoric_std)
            results->aleatoric_std[i] = (float)sums->kind->noise_std(&sums->likelihood, first,
                                                                     noise);
    }
}

void rows_finish(const struct row_sums *sums, size_t row, size_t count,
                 const struct row_results *results)
{
    if (sums->kind->traits.regression) {
        finish_regression(sums, row, count, results);
        return;
    }
    rows_probabilities(sums, ROWS_GROUPS_MAX, row, count, results->probabilities);
    for (size_t i = 0; i < count; i++)
        finish_row(sums, row + i, i, results->probabilities + i * sums->likelihood.k, results);
}
