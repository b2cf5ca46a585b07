#include "bayes/likelihood.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "bayes/probabilities.h"
#include "core/dispatch.h"
#include "core/error.h"
#include "core/vector_math.h"

IVON_DISPATCH static void exponentials(float *restrict out, const float *restrict f, float most,
                                       size_t count)
{
    for (size_t i = 0; i < count; i++)
        out[i] = vector_exp(f[i] - most);
}

IVON_DISPATCH static void events(float *restrict probability, const float *restrict f,
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

IVON_DISPATCH static void divide(float *a, float divisor, size_t count)
{
    for (size_t i = 0; i < count; i++)
        a[i] /= divisor;
}

enum { TILE = 1024 /* outputs that are worked on at a time */ };

static float largest(const float *f, size_t count)
{
    float most = f[0];
    for (size_t i = 1; i < count; i++)
        most = f[i] > most ? f[i] : most;
    return most;
}

/* −log p_y = log Σ exp(f − max f) − (f_y − max f) */
static double categorical_row(const float *f, size_t k, int64_t label, bool counts, float *p)
{
    float room[TILE], most = largest(f, k);
    double sum = 0;
    for (size_t at = 0; at < k; at += TILE) {
        size_t piece = k - at < TILE ? k - at : TILE;
        float *exps = p ? p + at : room;
        exponentials(exps, f + at, most, piece);
        for (size_t i = 0; i < piece; i++)
            sum += (double)exps[i];
    }
    if (p)
        divide(p, (float)sum, k);
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
            events(p + at, f + at, piece);
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
    size_t k = likelihood->k;
    if (likelihood->kind == IVON_GAUSSIAN && p && p != f)
        memcpy(p, f, rows * k * sizeof *p);
    for (size_t i = 0; i < rows; i++) {
        const float *row = f + i * k;
        float *own = p ? p + i * k : NULL;
        double value;
        if (likelihood->kind == IVON_CATEGORICAL)
            value = categorical_row(row, k, targets->labels[i],
                                    targets->labels[i] != targets->ignored, own);
        else if (likelihood->kind == IVON_BERNOULLI)
            value = bernoulli_row(row, k, targets->labels + i * k, own);
        else
            value = gaussian_row(row, k, targets->numbers + i * k, likelihood->noise_std);
        if (loss)
            loss[i] = value;
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
    if (likelihood->kind == IVON_BERNOULLI) {
        for (size_t i = 0; i < rows * k; i++)
            e[i] -= (float)targets->labels[i];
        return;
    }
    for (size_t i = 0; i < rows; i++)
        if (targets->labels[i] == targets->ignored)
            memset(e + i * k, 0, k * sizeof *e);
        else
            categorical_residual(e + i * k, k, (size_t)targets->labels[i]);
}

float likelihood_error(const struct likelihood *likelihood, const float *f, const int64_t *labels,
                       int64_t ignored, int64_t *prediction)
{
    size_t k = likelihood->k, missed = 0;
    if (likelihood->kind == IVON_CATEGORICAL) {
        size_t best = probabilities_best(f, k);
        if (prediction)
            *prediction = (int64_t)best;
        return *labels == ignored ? -1 : (int64_t)best != *labels;
    }
    for (size_t i = 0; i < k; i++) {
        bool said = f[i] > 0;
        if (prediction)
            prediction[i] = said;
        missed += said != (labels[i] != 0);
    }
    return (float)missed / (float)k;
}

int likelihood_check_labels(const struct likelihood *likelihood, const char *path,
                            uint64_t first_row, size_t rows, const struct row_targets *targets,
                            struct ivon_error *error)
{
    bool categorical = likelihood->kind == IVON_CATEGORICAL;
    size_t each = categorical ? 1 : likelihood->k, classes = categorical ? likelihood->k : 2;
    if (!targets->labels)
        return 0;
    for (size_t i = 0; i < rows * each; i++) {
        int64_t label = targets->labels[i];
        bool passed_over = categorical && label == targets->ignored;
        if (!passed_over && (label < 0 || (uint64_t)label >= classes))
            return ivon_error_set(error, IVON_ERROR_DATA,
                                  "%s: row %" PRIu64 ": target %" PRId64
                                  ", expected a class from 0 to %zu",
                                  path, first_row + i / each, label, classes - 1);
    }
    return 0;
}
