/* One of K classes: p = softmax f. */
#include <math.h>

#include "core/dispatch.h"
#include "core/vector_math.h"
#include "metrics/likelihood/likelihood.h"
#include "metrics/likelihood/probabilities.h"

enum { TILE = LIKELIHOOD_TILE, LANES = 16 /* sums side by side, for vectors */ };

IVON_DISPATCH static void categorical_exponentials(float *restrict out, const float *restrict f,
                                                   float max_logit, size_t count)
{
    for (size_t i = 0; i < count; i++)
        out[i] = vector_exp_negative(f[i] - max_logit);
}

IVON_DISPATCH static void categorical_exponentials_in_place(float *out, size_t count)
{
    for (size_t i = 0; i < count; i++)
        out[i] = vector_exp_negative(out[i]);
}

IVON_DISPATCH static void categorical_divide(float *a, float divisor, size_t count)
{
    for (size_t i = 0; i < count; i++)
        a[i] /= divisor;
}

/* −log p_y = log Σ exp(f − max f) − (f_y − max f) */
static double categorical_loss(const struct likelihood *likelihood, const float *f,
                               const struct row_targets *targets, bool counts, float *p)
{
    size_t k = likelihood->k;
    float scratch[TILE], max_logit = likelihood_largest(f, k);
    double sum = 0;
    for (size_t at = 0; at < k; at += TILE) {
        size_t piece = k - at < TILE ? k - at : TILE;
        float *exps = p ? p + at : scratch;
        categorical_exponentials(exps, f + at, max_logit, piece);
        for (size_t i = 0; i < piece; i++)
            sum += (double)exps[i];
    }
    if (p)
        categorical_divide(p, (float)sum, k);
    return counts ? log(sum) - ((double)f[*targets->labels] - (double)max_logit) : 0;
}

/* p_y − 1 is computed as −Σ p over the other classes: the difference would lose small values. */
static void categorical_residual(const struct likelihood *likelihood,
                                 const struct row_targets *targets, float *p)
{
    size_t label = (size_t)*targets->labels;
    double others = 0;
    for (size_t i = 0; i < likelihood->k; i++)
        others += i == label ? 0 : (double)p[i];
    p[label] = (float)-others;
}

static double categorical_curvature(const struct likelihood *likelihood, const float *p, size_t c)
{
    (void)likelihood;
    return (double)p[c] - (double)p[c] * (double)p[c];
}

static double categorical_nll(const struct likelihood *likelihood, double loss)
{
    (void)likelihood;
    return loss;
}

/*
 * One sample's softmax of one row. With x = f − max f and Z = Σ exp x: p = exp(x)/Z,
 * H[p] = log Z − Σ p x, log p_y = x_y − log Z.
 */
struct softmax {
    double z, moment; /* Σ exp x, Σ x exp x */
};

static void softmax_shift_and_exponentiate(float *exps, const float *f, float max_logit,
                                           size_t count)
{
    for (size_t i = 0; i < count; i++)
        exps[i] = f[i] - max_logit;
    categorical_exponentials_in_place(exps, count);
}

/* Sums in lanes. The moment is of use to the entropy alone. */
IVON_DISPATCH static void softmax_add_moments(struct softmax *softmax, const float *exps,
                                              const float *f, float max_logit, size_t count,
                                              bool entropy)
{
    double z[LANES] = {0}, moment[LANES] = {0};
    size_t whole = count / LANES * LANES;
    for (size_t i = 0; i < whole; i += LANES)
        for (size_t j = 0; j < LANES; j++)
            z[j] += (double)exps[i + j];
    for (size_t i = 0; i < whole && entropy; i += LANES)
        for (size_t j = 0; j < LANES; j++) {
            double e = (double)exps[i + j], x = (double)f[i + j] - (double)max_logit;
            moment[j] += e > 0 ? e * x : 0;
        }
    for (size_t j = 0; j < LANES && whole; j++) {
        softmax->z += z[j];
        softmax->moment += moment[j];
    }
    for (size_t i = whole; i < count; i++) {
        double e = (double)exps[i], x = (double)f[i] - (double)max_logit;
        softmax->z += e;
        softmax->moment += e > 0 && entropy ? e * x : 0;
    }
}

/* Sums a row of any width in pieces; computes its exponentials twice. */
static struct softmax softmax_add_wide(const struct likelihood_sums *sums, size_t first,
                                       double weight, const float *f, float max_logit, size_t count)
{
    float exps[TILE];
    struct softmax softmax = {0, 0};
    for (size_t at = 0; at < count; at += TILE) {
        size_t piece = count - at < TILE ? count - at : TILE;
        softmax_shift_and_exponentiate(exps, f + at, max_logit, piece);
        softmax_add_moments(&softmax, exps, f + at, max_logit, piece, sums->expected != NULL);
    }
    for (size_t at = 0; at < count; at += TILE) {
        size_t piece = count - at < TILE ? count - at : TILE;
        softmax_shift_and_exponentiate(exps, f + at, max_logit, piece);
        likelihood_add_scaled(sums, first + at, exps, (float)(weight / softmax.z), piece);
    }
    return softmax;
}

/* Adds the entropy of a row whose probabilities are already summed, and returns log p_y; without
   either where it is not asked for. */
static double softmax_finish_row(const struct softmax *softmax, double weight, const float *f,
                                 float max_logit, const int64_t *label, double *expected)
{
    double log_z = expected || label ? log(softmax->z) : 0;
    if (expected)
        *expected += weight * (log_z - softmax->moment / softmax->z);
    return label ? (double)f[*label] - (double)max_logit - log_z : 0;
}

/* Several narrow rows are computed together: exponentials are fast in long loops. */
static void categorical_add(const struct likelihood *likelihood, const struct likelihood_sums *sums,
                            double weight, size_t count, const float *outputs,
                            const struct row_targets *targets, double *log_likelihoods)
{
    float exps[TILE];
    size_t k = likelihood->k, rows_at_once = k < TILE ? TILE / k : 1;
    for (size_t at = 0; at < count; at += rows_at_once) {
        size_t rows = count - at < rows_at_once ? count - at : rows_at_once;
        const float *f = outputs + at * k;
        for (size_t r = 0; r < rows && k <= TILE; r++) {
            float max_logit = likelihood_largest(f + r * k, k);
            for (size_t i = 0; i < k; i++)
                exps[r * k + i] = f[r * k + i] - max_logit;
        }
        if (k <= TILE)
            categorical_exponentials_in_place(exps, rows * k);
        for (size_t r = 0; r < rows; r++) {
            struct softmax softmax = {0, 0};
            const float *logits = f + r * k;
            float max_logit = likelihood_largest(logits, k);
            if (k > TILE) {
                softmax = softmax_add_wide(sums, at * k, weight, logits, max_logit, k);
            } else {
                softmax_add_moments(&softmax, exps + r * k, logits, max_logit, k,
                                    sums->expected != NULL);
                likelihood_add_scaled(sums, (at + r) * k, exps + r * k, (float)(weight / softmax.z),
                                      k);
            }
            size_t row = at + r;
            bool counts = log_likelihoods && targets->labels &&
                          targets_count(targets, IVON_CATEGORICAL, k, row);
            double value = softmax_finish_row(&softmax, weight, logits, max_logit,
                                              counts ? targets->labels + row : NULL,
                                              sums->expected ? &sums->expected[row] : NULL);
            if (log_likelihoods)
                log_likelihoods[row] = value;
        }
    }
}

/* Returns the class at which the cumulative probability exceeds a uniform number. */
static double categorical_draw(const struct likelihood *likelihood, const float *f, size_t i,
                               double normal)
{
    size_t k = likelihood->k;
    double u = likelihood_uniform(normal);
    double max_logit = (double)likelihood_largest(f, k), total = 0, sum = 0;
    for (size_t c = 0; c < k; c++)
        total += exp((double)f[c] - max_logit);
    for (i = 0; i + 1 < k; i++) {
        sum += exp((double)f[i] - max_logit);
        if (u * total < sum)
            break;
    }
    return (double)i;
}

static float categorical_error(const struct likelihood *likelihood, const float *f,
                               const struct row_targets *targets, bool counts, int64_t *prediction)
{
    size_t best = probabilities_best(f, likelihood->k);
    if (prediction)
        *prediction = (int64_t)best;
    return counts && (int64_t)best != *targets->labels;
}

/* −p log p */
static inline double entropy_term(float p)
{
    double term = -(double)p * (double)vector_log(p);
    return p > 0 ? term : 0;
}

IVON_DISPATCH static double categorical_entropy(const float *p, size_t count)
{
    double lanes[LANES] = {0}, sum = 0;
    size_t whole = count / LANES * LANES;
    for (size_t i = 0; i < whole; i += LANES)
        for (size_t j = 0; j < LANES; j++)
            lanes[j] += entropy_term(p[i + j]);
    for (size_t j = 0; j < LANES && whole; j++)
        sum += lanes[j];
    for (size_t i = whole; i < count; i++)
        sum += entropy_term(p[i]);
    return sum;
}

static double categorical_describe(const float *p, size_t k, int64_t *prediction,
                                   float *max_probability)
{
    *prediction = (int64_t)probabilities_best(p, k);
    *max_probability = p[*prediction];
    return categorical_entropy(p, k);
}

static double categorical_uniform_loss(size_t k)
{
    return log((double)k);
}

const struct likelihood_kind likelihood_categorical = {
    .traits = {.name = "categorical", .classes = true},
    .loss = categorical_loss,
    .residual = categorical_residual,
    .curvature = categorical_curvature,
    .nll = categorical_nll,
    .add = categorical_add,
    .draw = categorical_draw,
    .error = categorical_error,
    .describe = categorical_describe,
    .uniform_loss = categorical_uniform_loss,
};
