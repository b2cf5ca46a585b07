/* K events, each of its own: p = σ(f). */
#include <math.h>

#include "core/dispatch.h"
#include "core/vector_math.h"
#include "metrics/likelihood/likelihood.h"
#include "metrics/likelihood/probabilities.h"

enum { TILE = LIKELIHOOD_TILE };

IVON_DISPATCH static void bernoulli_probabilities(float *restrict p, const float *restrict f,
                                                  size_t count)
{
    for (size_t i = 0; i < count; i++)
        p[i] = vector_sigmoid(f[i]);
}

IVON_DISPATCH static void bernoulli_softplus(float *a, size_t count)
{
    for (size_t i = 0; i < count; i++)
        a[i] = vector_softplus(a[i]);
}

IVON_DISPATCH static void bernoulli_sigmoid_and_softplus(float *p, float *softplus, const float *f,
                                                         size_t count)
{
    for (size_t i = 0; i < count; i++) {
        p[i] = vector_sigmoid(f[i]);
        softplus[i] = vector_softplus(f[i]);
    }
}

/* softplus f − y f is softplus(−f) where y is 1: the difference would lose small values. */
static double bernoulli_loss(const struct likelihood *likelihood, const float *f,
                             const struct row_targets *targets, bool counts, float *p)
{
    (void)counts; /* labels that do not count are nonzero, and their loss is not used */
    size_t k = likelihood->k;
    float losses[TILE];
    double loss = 0;
    for (size_t at = 0; at < k; at += TILE) {
        size_t piece = k - at < TILE ? k - at : TILE;
        for (size_t i = 0; i < piece; i++)
            losses[i] = targets->labels[at + i] ? -f[at + i] : f[at + i];
        bernoulli_softplus(losses, piece);
        for (size_t i = 0; i < piece; i++)
            loss += (double)losses[i];
        if (p)
            bernoulli_probabilities(p + at, f + at, piece);
    }
    return loss;
}

static void bernoulli_residual(const struct likelihood *likelihood,
                               const struct row_targets *targets, float *p)
{
    for (size_t c = 0; c < likelihood->k; c++)
        p[c] -= (float)targets->labels[c];
}

static double bernoulli_curvature(const struct likelihood *likelihood, const float *p, size_t c)
{
    (void)likelihood;
    return (double)p[c] - (double)p[c] * (double)p[c];
}

/* The mean over the events. */
static double bernoulli_nll(const struct likelihood *likelihood, double loss)
{
    return 1 / (double)likelihood->k * loss;
}

/* Of each event: p = σ(f), H[p] = softplus(f) − p f, log p(y) = y f − softplus(f). */
static void bernoulli_add(const struct likelihood *likelihood, const struct likelihood_sums *sums,
                          double weight, size_t count, const float *outputs,
                          const struct row_targets *targets, double *log_likelihoods)
{
    float probability[TILE], softplus[TILE];
    size_t k = likelihood->k, total = count * k;
    for (size_t i = 0; log_likelihoods && i < count; i++)
        log_likelihoods[i] = 0;
    for (size_t at = 0; at < total; at += TILE) {
        size_t piece = total - at < TILE ? total - at : TILE;
        const float *f = outputs + at;
        bernoulli_sigmoid_and_softplus(probability, softplus, f, piece);
        likelihood_add_scaled(sums, at, probability, (float)weight, piece);
        for (size_t i = 0; i < piece; i++) {
            size_t row = (at + i) / k;
            double entropy = (double)softplus[i] -
                             (probability[i] > 0 ? (double)probability[i] * (double)f[i] : 0);
            if (sums->expected)
                sums->expected[row] += weight * entropy;
            if (log_likelihoods && targets->labels &&
                targets_count(targets, IVON_BERNOULLI, k, row))
                log_likelihoods[row] += (targets->labels[at + i] ? (double)f[i] : 0) -
                                        (double)softplus[i];
        }
    }
}

static double bernoulli_draw(const struct likelihood *likelihood, const float *f, size_t i,
                             double normal)
{
    (void)likelihood;
    double u = likelihood_uniform(normal);
    return u * (1 + exp(-(double)f[i])) < 1;
}

static float bernoulli_error(const struct likelihood *likelihood, const float *f,
                             const struct row_targets *targets, bool counts, int64_t *prediction)
{
    size_t missed = 0;
    for (size_t i = 0; i < likelihood->k; i++) {
        bool event = f[i] > 0;
        if (prediction)
            prediction[i] = event;
        missed += event != (targets->labels[i] != 0);
    }
    return counts ? (float)missed / (float)likelihood->k : 0;
}

static double bernoulli_describe(const float *p, size_t k, int64_t *prediction,
                                 float *max_probability)
{
    double entropy = 0, confidence = 0;
    for (size_t i = 0; i < k; i++) {
        entropy += probability_entropy_term((double)p[i]) +
                   probability_entropy_term(1 - (double)p[i]);
        prediction[i] = probability_best(p[i]);
        confidence += prediction[i] ? (double)p[i] : 1 - (double)p[i];
    }
    *max_probability = (float)(confidence / (double)k);
    return entropy;
}

static double bernoulli_uniform_loss(size_t k)
{
    return (double)k * log(2);
}

const struct likelihood_kind likelihood_bernoulli = {
    .traits = {.name = "bernoulli"},
    .loss = bernoulli_loss,
    .residual = bernoulli_residual,
    .curvature = bernoulli_curvature,
    .nll = bernoulli_nll,
    .add = bernoulli_add,
    .draw = bernoulli_draw,
    .error = bernoulli_error,
    .describe = bernoulli_describe,
    .uniform_loss = bernoulli_uniform_loss,
};
