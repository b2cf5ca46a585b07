#include "bayes/predict/rows.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "metrics/probabilities.h"
#include "core/dispatch.h"
#include "core/error.h"
#include "core/vector_math.h"

enum { TILE = 1024 /* outputs that are worked on at a time */ };

static const double LOG_2_PI = 1.8378770664093454836;

int rows_init(struct row_sums *sums, enum ivon_likelihood likelihood, size_t outputs, size_t groups,
              size_t capacity, double noise_std, struct ivon_error *error)
{
    *sums = (struct row_sums){.likelihood = likelihood,
                              .outputs = outputs,
                              .groups = groups,
                              .capacity = capacity,
                              .noise_std = noise_std};
    size_t rows = groups * capacity;
    if (likelihood == IVON_GAUSSIAN) {
        sums->first = calloc(rows * outputs, sizeof *sums->first);
        sums->second = calloc(rows * outputs, sizeof *sums->second);
        sums->density_log = calloc(rows, sizeof *sums->density_log);
        sums->density_sum = calloc(rows, sizeof *sums->density_sum);
    } else {
        sums->probabilities = calloc(rows * outputs, sizeof *sums->probabilities);
        sums->expected = calloc(capacity, sizeof *sums->expected);
    }
    bool fine = likelihood == IVON_GAUSSIAN
                    ? sums->first && sums->second && sums->density_log && sums->density_sum
                    : sums->probabilities && sums->expected;
    return fine ? 0 : ivon_error_memory(error);
}

void rows_release(struct row_sums *sums)
{
    free(sums->probabilities);
    free(sums->expected);
    free(sums->first);
    free(sums->second);
    free(sums->density_log);
    free(sums->density_sum);
    *sums = (struct row_sums){0};
}

size_t rows_size(enum ivon_likelihood likelihood, size_t outputs, size_t groups)
{
    return likelihood == IVON_GAUSSIAN ? groups * (outputs + 1) * 2 * sizeof(double)
                                       : groups * outputs * sizeof(float) + sizeof(double);
}

void rows_clear(struct row_sums *sums)
{
    size_t rows = sums->groups * sums->capacity;
    memset(sums->group_weight, 0, sizeof sums->group_weight);
    if (sums->likelihood == IVON_GAUSSIAN) {
        memset(sums->first, 0, rows * sums->outputs * sizeof *sums->first);
        memset(sums->second, 0, rows * sums->outputs * sizeof *sums->second);
        memset(sums->density_sum, 0, rows * sizeof *sums->density_sum);
        for (size_t i = 0; i < rows; i++)
            sums->density_log[i] = -INFINITY;
    } else {
        memset(sums->probabilities, 0, rows * sums->outputs * sizeof *sums->probabilities);
        memset(sums->expected, 0, sums->capacity * sizeof *sums->expected);
    }
}

IVON_DISPATCH static void predict_rows_exponentials(float *out, size_t count)
{
    for (size_t i = 0; i < count; i++)
        out[i] = vector_exp(out[i]);
}

IVON_DISPATCH static void predict_rows_events(float *probability, float *softplus, const float *x,
                                              size_t count)
{
    for (size_t i = 0; i < count; i++) {
        probability[i] = vector_sigmoid(x[i]);
        softplus[i] = vector_softplus(x[i]);
    }
}

IVON_DISPATCH static void add_scaled(float *sum, const float *values, float scale, size_t count)
{
    for (size_t i = 0; i < count; i++)
        sum[i] += scale * values[i];
}

static float predict_rows_largest(const float *values, size_t count)
{
    float most = values[0];
    for (size_t i = 1; i < count; i++)
        most = values[i] > most ? values[i] : most;
    return most;
}

/*
 * One sample's softmax of one row. With x = f − max f and Z = Σ exp x: p = exp(x)/Z,
 * H[p] = log Z − Σ p x, log p_y = x_y − log Z.
 */
struct softmax {
    double z, moment; /* Σ exp x, Σ x exp x */
};

static void shift_and_exponentiate(float *exps, const float *f, float most, size_t count)
{
    for (size_t i = 0; i < count; i++)
        exps[i] = f[i] - most;
    predict_rows_exponentials(exps, count);
}

static void predict_rows_add_moments(struct softmax *softmax, const float *exps, const float *f,
                                     float most, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        softmax->z += (double)exps[i];
        softmax->moment += exps[i] > 0 ? (double)exps[i] * ((double)f[i] - (double)most) : 0;
    }
}

/* Sums a row of any width, piece by piece, computing its exponentials twice. */
static struct softmax add_wide(float *sum, double weight, const float *f, float most, size_t count)
{
    float exps[TILE];
    struct softmax softmax = {0, 0};
    for (size_t at = 0; at < count; at += TILE) {
        size_t piece = count - at < TILE ? count - at : TILE;
        shift_and_exponentiate(exps, f + at, most, piece);
        predict_rows_add_moments(&softmax, exps, f + at, most, piece);
    }
    for (size_t at = 0; at < count; at += TILE) {
        size_t piece = count - at < TILE ? count - at : TILE;
        shift_and_exponentiate(exps, f + at, most, piece);
        add_scaled(sum + at, exps, (float)(weight / softmax.z), piece);
    }
    return softmax;
}

/* Adds the entropy of a row whose probabilities are already summed, and sets its log-likelihood. */
static void close_row(struct row_sums *sums, double weight, size_t row,
                      const struct softmax *softmax, const float *f, float most, size_t index,
                      const struct row_targets *targets, double *log_likelihoods)
{
    double log_z = log(softmax->z);
    sums->expected[row + index] += weight * (log_z - softmax->moment / softmax->z);
    bool counts = targets->labels && targets_count(targets, IVON_CATEGORICAL, sums->outputs, index);
    if (log_likelihoods)
        log_likelihoods[index] = counts ? (double)f[targets->labels[index]] - (double)most - log_z
                                        : 0;
}

/* Narrow rows are worked on several at a time: exponentials are fast in long loops. */
static void predict_rows_add_categorical(struct row_sums *sums, float *sum, double weight,
                                         size_t row, size_t count, const float *outputs,
                                         const struct row_targets *targets, double *log_likelihoods)
{
    float exps[TILE];
    size_t k = sums->outputs, together = k < TILE ? TILE / k : 1;
    for (size_t at = 0; at < count; at += together) {
        size_t rows = count - at < together ? count - at : together;
        const float *f = outputs + at * k;
        for (size_t r = 0; r < rows && k <= TILE; r++) {
            float most = predict_rows_largest(f + r * k, k);
            for (size_t i = 0; i < k; i++)
                exps[r * k + i] = f[r * k + i] - most;
        }
        if (k <= TILE)
            predict_rows_exponentials(exps, rows * k);
        for (size_t r = 0; r < rows; r++) {
            struct softmax softmax = {0, 0};
            const float *own = f + r * k;
            float most = predict_rows_largest(own, k);
            if (k > TILE) {
                softmax = add_wide(sum + at * k, weight, own, most, k);
            } else {
                predict_rows_add_moments(&softmax, exps + r * k, own, most, k);
                add_scaled(sum + (at + r) * k, exps + r * k, (float)(weight / softmax.z), k);
            }
            close_row(sums, weight, row, &softmax, own, most, at + r, targets, log_likelihoods);
        }
    }
}

/* Of each event: p = σ(f), H[p] = softplus(f) − p f, log p(y) = y f − softplus(f). */
static void predict_rows_add_bernoulli(struct row_sums *sums, float *sum, double weight, size_t row,
                                       size_t count, const float *outputs,
                                       const struct row_targets *targets, double *log_likelihoods)
{
    float probability[TILE], softplus[TILE];
    size_t k = sums->outputs, total = count * k;
    for (size_t i = 0; log_likelihoods && i < count; i++)
        log_likelihoods[i] = 0;
    for (size_t at = 0; at < total; at += TILE) {
        size_t piece = total - at < TILE ? total - at : TILE;
        const float *f = outputs + at;
        predict_rows_events(probability, softplus, f, piece);
        add_scaled(sum + at, probability, (float)weight, piece);
        for (size_t i = 0; i < piece; i++) {
            size_t index = (at + i) / k;
            double entropy = (double)softplus[i] -
                             (probability[i] > 0 ? (double)probability[i] * (double)f[i] : 0);
            sums->expected[row + index] += weight * entropy;
            if (log_likelihoods && targets->labels &&
                targets_count(targets, IVON_BERNOULLI, k, index))
                log_likelihoods[index] += (targets->labels[at + i] ? (double)f[i] : 0) -
                                          (double)softplus[i];
        }
    }
}

/* Adds ω exp(value) to a sum that is kept as sum · exp(log). */
static void add_log(double *log_scale, double *sum, double value)
{
    if (value > *log_scale) {
        *sum = *sum * exp(*log_scale - value) + 1;
        *log_scale = value;
    } else if (value > -INFINITY) {
        *sum += exp(value - *log_scale);
    }
}

static void add_gaussian(struct row_sums *sums, size_t group, double weight, size_t row,
                         size_t count, const float *outputs, const struct row_targets *targets,
                         double *log_likelihoods)
{
    size_t k = sums->outputs, base = group * sums->capacity + row;
    double s = sums->noise_std;
    for (size_t i = 0; i < count; i++) {
        double density = 0;
        for (size_t j = 0; j < k; j++) {
            double f = (double)outputs[i * k + j];
            sums->first[(base + i) * k + j] += weight * f;
            sums->second[(base + i) * k + j] += weight * f * f;
            if (targets->numbers && s > 0) {
                double e = ((double)targets->numbers[i * k + j] - f) / s;
                density -= 0.5 * (e * e + LOG_2_PI) + log(s);
            }
        }
        if (targets->numbers && s > 0)
            add_log(&sums->density_log[base + i], &sums->density_sum[base + i],
                    density + log(weight));
        if (log_likelihoods)
            log_likelihoods[i] = density;
    }
}

void rows_add(struct row_sums *sums, size_t group, double weight, size_t row, size_t count,
              const float *outputs, const struct row_targets *targets, double *log_likelihoods)
{
    if (sums->likelihood == IVON_GAUSSIAN) {
        add_gaussian(sums, group, weight, row, count, outputs, targets, log_likelihoods);
        return;
    }
    float *sum = sums->probabilities + (group * sums->capacity + row) * sums->outputs;
    if (sums->likelihood == IVON_CATEGORICAL)
        predict_rows_add_categorical(sums, sum, weight, row, count, outputs, targets,
                                     log_likelihoods);
    else
        predict_rows_add_bernoulli(sums, sum, weight, row, count, outputs, targets,
                                   log_likelihoods);
}

/* Σ of the weights of all groups but one. */
static double weight_without(const struct row_sums *sums, size_t without)
{
    double total = 0;
    for (size_t g = 0; g < sums->groups; g++)
        total += g == without ? 0 : sums->group_weight[g];
    return total;
}

void rows_probabilities(const struct row_sums *sums, size_t without, size_t row, size_t count,
                        float *out)
{
    double total = weight_without(sums, without), sum[TILE];
    size_t all = count * sums->outputs;
    for (size_t at = 0; at < all; at += TILE) {
        size_t piece = all - at < TILE ? all - at : TILE;
        memset(sum, 0, sizeof sum);
        for (size_t g = 0; g < sums->groups; g++) {
            const float *values = sums->probabilities + (g * sums->capacity + row) * sums->outputs +
                                  at;
            for (size_t i = 0; i < piece && g != without; i++)
                sum[i] += (double)values[i];
        }
        for (size_t i = 0; i < piece; i++)
            out[at + i] = (float)(sum[i] / total);
    }
}

void rows_densities(const struct row_sums *sums, size_t without, size_t row, size_t count,
                    double *means, double *log_densities)
{
    double total = weight_without(sums, without);
    size_t k = sums->outputs;
    for (size_t i = 0; i < count; i++) {
        double log_scale = -INFINITY, sum = 0;
        for (size_t j = 0; j < k; j++)
            means[i * k + j] = 0;
        for (size_t g = 0; g < sums->groups; g++) {
            size_t at = g * sums->capacity + row + i;
            if (g == without)
                continue;
            for (size_t j = 0; j < k; j++)
                means[i * k + j] += sums->first[at * k + j] / total;
            if (sums->density_sum[at] > 0)
                add_log(&log_scale, &sum, sums->density_log[at] + log(sums->density_sum[at]));
        }
        log_densities[i] = sums->noise_std > 0 ? log_scale + log(sum) - log(total) : NAN;
    }
}

/* Computes the results of one row from its averaged probabilities. */
static void finish_row(const struct row_sums *sums, size_t row, size_t at, const float *p,
                       const struct row_results *results)
{
    bool events = sums->likelihood == IVON_BERNOULLI;
    double entropy = probabilities_describe(
        sums->likelihood, p, sums->outputs,
        results->prediction + (events ? at * sums->outputs : at), &results->max_probability[at]);
    double expected = sums->same ? entropy
                                 : sums->expected[row] / weight_without(sums, ROWS_GROUPS_MAX);
    results->entropy[at] = (float)entropy;
    results->expected_entropy[at] = (float)expected;
    /* Never negative (Jensen), but for rounding. */
    results->mutual_information[at] = (float)(entropy > expected ? entropy - expected : 0);
}

static void finish_regression(const struct row_sums *sums, size_t row, size_t count,
                              const struct row_results *results)
{
    size_t k = sums->outputs;
    double total = weight_without(sums, ROWS_GROUPS_MAX);
    for (size_t i = 0; i < count * k; i++) {
        double first = 0, second = 0;
        for (size_t g = 0; g < sums->groups; g++) {
            first += sums->first[(g * sums->capacity + row) * k + i] / total;
            second += sums->second[(g * sums->capacity + row) * k + i] / total;
        }
        double variance = sums->same ? 0 : second - first * first;
        results->mean[i] = (float)first;
        results->epistemic_std[i] = (float)sqrt(variance > 0 ? variance : 0);
    }
}

void rows_finish(const struct row_sums *sums, size_t row, size_t count,
                 const struct row_results *results)
{
    if (sums->likelihood == IVON_GAUSSIAN) {
        finish_regression(sums, row, count, results);
        return;
    }
    rows_probabilities(sums, ROWS_GROUPS_MAX, row, count, results->probabilities);
    for (size_t i = 0; i < count; i++)
        finish_row(sums, row + i, i, results->probabilities + i * sums->outputs, results);
}
