#include "bayes/likelihood.h"

#include <math.h>
#include <string.h>

#include "metrics/probabilities.h"
#include "core/dispatch.h"
#include "core/error.h"
#include "core/vector_math.h"

IVON_DISPATCH static void likelihood_exponentials(float *restrict out, const float *restrict f,
                                                  float most, size_t count)
{
    for (size_t i = 0; i < count; i++)
        out[i] = vector_exp(f[i] - most);
}

IVON_DISPATCH static void likelihood_events(float *restrict probability, const float *restrict f,
                                            size_t count)
{
    for (size_t i = 0; i < count; i++)
        probability[i] = vector_sigmoid(f[i]);
}

IVON_DISPATCH static void soften(float *a, size_t count)
{
    for (size_t i = 0; i < count; i++)
        a[i] = vector_softplus(a[i]);
}

IVON_DISPATCH static void likelihood_divide(float *a, float divisor, size_t count)
{
    for (size_t i = 0; i < count; i++)
        a[i] /= divisor;
}

enum { TILE = 1024 /* outputs that are worked on at a time */ };

static float likelihood_largest(const float *f, size_t count)
{
    float most = f[0];
    for (size_t i = 1; i < count; i++)
        most = f[i] > most ? f[i] : most;
    return most;
}

/* −log p_y = log Σ exp(f − max f) − (f_y − max f) */
static double categorical_row(const float *f, size_t k, int64_t label, bool counts, float *p)
{
    float room[TILE], most = likelihood_largest(f, k);
    double sum = 0;
    for (size_t at = 0; at < k; at += TILE) {
        size_t piece = k - at < TILE ? k - at : TILE;
        float *exps = p ? p + at : room;
        likelihood_exponentials(exps, f + at, most, piece);
        for (size_t i = 0; i < piece; i++)
            sum += (double)exps[i];
    }
    if (p)
        likelihood_divide(p, (float)sum, k);
    return counts ? log(sum) - ((double)f[label] - (double)most) : 0;
}

/* softplus f − y f is softplus (−f) where y is 1: the difference would lose what is small. */
static double bernoulli_row(const float *f, size_t k, const int64_t *labels, float *p)
{
    float losses[TILE];
    double loss = 0;
    for (size_t at = 0; at < k; at += TILE) {
        size_t piece = k - at < TILE ? k - at : TILE;
        for (size_t i = 0; i < piece; i++)
            losses[i] = labels[at + i] ? -f[at + i] : f[at + i];
        soften(losses, piece);
        for (size_t i = 0; i < piece; i++)
            loss += (double)losses[i];
        if (p)
            likelihood_events(p + at, f + at, piece);
    }
    return loss;
}

static double gaussian_row(const float *f, size_t k, const float *y, double s)
{
    double loss = 0;
    for (size_t i = 0; i < k; i++) {
        double e = ((double)f[i] - (double)y[i]) / s;
        loss += 0.5 * e * e;
    }
    return loss;
}

void likelihood_evaluate(const struct likelihood *likelihood, size_t rows, const float *f,
                         const struct row_targets *targets, float *p, double *loss)
{
    enum ivon_likelihood kind = likelihood->kind;
    size_t k = likelihood->k;
    if (kind == IVON_GAUSSIAN && p && p != f)
        memcpy(p, f, rows * k * sizeof *p);
    for (size_t i = 0; i < rows; i++) {
        const float *row = f + i * k;
        const struct row_targets own = targets_from(targets, kind, k, i);
        bool counts = targets_count(&own, kind, k, 0);
        double value;
        if (kind == IVON_CATEGORICAL)
            value = categorical_row(row, k, *own.labels, counts, p ? p + i * k : NULL);
        else if (kind == IVON_BERNOULLI)
            value = bernoulli_row(row, k, own.labels, p ? p + i * k : NULL);
        else
            value = gaussian_row(row, k, own.numbers, likelihood->noise_std);
        if (loss)
            loss[i] = counts ? value : 0;
    }
}

/* p_y − 1 is −Σ p over the others, of which 1 − p_y would lose what is small. */
static void categorical_residual(float *e, size_t k, size_t label)
{
    double others = 0;
    for (size_t i = 0; i < k; i++)
        others += i == label ? 0 : (double)e[i];
    e[label] = (float)-others;
}

void likelihood_residual(const struct likelihood *likelihood, size_t rows, const float *p,
                         const struct row_targets *targets, float *e)
{
    size_t k = likelihood->k;
    double precision = 1 / (likelihood->noise_std * likelihood->noise_std);
    if (likelihood->kind == IVON_GAUSSIAN) {
        for (size_t i = 0; i < rows * k; i++)
            e[i] = (float)(((double)p[i] - (double)targets->numbers[i]) * precision);
        return;
    }
    if (e != p)
        memcpy(e, p, rows * k * sizeof *e);
    for (size_t i = 0; i < rows; i++) {
        const struct row_targets own = targets_from(targets, likelihood->kind, k, i);
        float *row = e + i * k;
        if (!targets_count(&own, likelihood->kind, k, 0))
            memset(row, 0, k * sizeof *row);
        else if (likelihood->kind == IVON_CATEGORICAL)
            categorical_residual(row, k, (size_t)*own.labels);
        else
            for (size_t c = 0; c < k; c++)
                row[c] -= (float)own.labels[c];
    }
}

float likelihood_error(const struct likelihood *likelihood, const float *f,
                       const struct row_targets *target, int64_t *prediction)
{
    size_t k = likelihood->k, missed = 0;
    bool counts = targets_count(target, likelihood->kind, k, 0);
    if (likelihood->kind == IVON_CATEGORICAL) {
        size_t best = probabilities_best(f, k);
        if (prediction)
            *prediction = (int64_t)best;
        return counts && (int64_t)best != *target->labels;
    }
    for (size_t i = 0; i < k; i++) {
        bool event = f[i] > 0;
        if (prediction)
            prediction[i] = event;
        missed += event != (target->labels[i] != 0);
    }
    return counts ? (float)missed / (float)k : 0;
}
