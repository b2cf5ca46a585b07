/*
 * What the library should say of a problem: f, J, Σ and all that follows, written out in double.
 *
 * Rounding: the library's numbers are sums of at most a hundred products of floats, nested five
 * deep. Their errors, of 2^-24 each, stay below ROUNDING of the largest number of their kind.
 */
#ifndef TESTS_UNIT_SENSITIVITY_DENSE_H
#define TESTS_UNIT_SENSITIVITY_DENSE_H

#include "sensitivity_problem.h"

static const double ROUNDING = 64 * 0x1p-24;

struct reference {
    double rho;
    double f[EXAMPLES][WIDTH], e[EXAMPLES][WIDTH], jacobian[EXAMPLES][WIDTH][PARAMETERS];
    double gradient[EXAMPLES][PARAMETERS];
    double covariance[EXAMPLES][WIDTH][WIDTH], moved[EXAMPLES][WIDTH]; /* Δf */
    double loss[EXAMPLES], residual[EXAMPLES], deviation[EXAMPLES], mpe[EXAMPLES];
    double self_influence[EXAMPLES], loo_loss[EXAMPLES];
    double row_loss[EXAMPLES * TOKENS], row_loo_loss[EXAMPLES * TOKENS];
    double row_deviation[EXAMPLES * TOKENS];
};

/* One row: f, and its derivatives with respect to all parameters, in their order. */
static inline void differentiate(const struct problem *problem, const float *x, double *f,
                                 double (*jacobian)[PARAMETERS])
{
    size_t hidden = problem->hidden, inner = hidden ? hidden : INPUTS;
    size_t first = hidden ? INPUTS * hidden + hidden : 0;
    double a[INPUTS + HIDDEN];
    for (size_t j = 0; j < inner; j++) {
        a[j] = hidden ? (double)problem->b1[j] : (double)x[j];
        for (size_t d = 0; d < INPUTS && hidden; d++)
            a[j] += (double)x[d] * (double)problem->w1[d * hidden + j];
        a[j] = hidden ? tanh(a[j]) : a[j];
    }
    for (size_t c = 0; c < CLASSES; c++) {
        memset(jacobian[c], 0, sizeof jacobian[c]);
        f[c] = (double)problem->b2[c];
        for (size_t j = 0; j < inner; j++) {
            double weight = (double)problem->w2[j * CLASSES + c];
            f[c] += a[j] * weight;
            jacobian[c][first + j * CLASSES + c] = a[j];
            double slope = weight * (1 - a[j] * a[j]);
            for (size_t d = 0; d < INPUTS && hidden; d++)
                jacobian[c][d * hidden + j] = slope * (double)x[d];
            if (hidden)
                jacobian[c][INPUTS * hidden + j] = slope;
        }
        jacobian[c][first + inner * CLASSES + c] = 1;
    }
}

static inline bool ignored(const struct problem *problem, size_t row)
{
    return problem->likelihood == IVON_CATEGORICAL && problem->token_axis &&
           problem->labels[row] == IGNORED;
}

/* How many positions count: N, where the checkpoint says none. */
static inline double counted(const struct problem *problem)
{
    size_t count = 0;
    for (size_t row = 0; row < EXAMPLES * problem->tokens; row++)
        count += !ignored(problem, row);
    return (double)count;
}

/* p of one row of outputs. */
static inline void probabilities(const struct problem *problem, const double *f, double *p)
{
    double sum = 0;
    for (size_t c = 0; c < CLASSES; c++)
        sum += exp(f[c]);
    for (size_t c = 0; c < CLASSES; c++)
        p[c] = problem->likelihood == IVON_CATEGORICAL ? exp(f[c]) / sum
               : problem->likelihood == IVON_BERNOULLI ? 1 / (1 + exp(-f[c]))
               : problem->likelihood == IVON_POISSON   ? exp(f[c])
                                                       : f[c];
}

/* (y − μ) exp(−t/2) of target c of a row whose second half are the logarithms t of variances. */
static inline double scaled_error(const struct problem *problem, size_t row, const double *f,
                                  size_t c)
{
    return ((double)problem->numbers[row * HALF + c] - f[c]) / sqrt(exp(f[HALF + c]));
}

static inline double loss_of(const struct problem *problem, size_t row, const double *f)
{
    double p[CLASSES], loss = 0;
    for (size_t c = 0; c < HALF && problem->likelihood == IVON_HETEROSCEDASTIC; c++)
        loss += (f[HALF + c] + pow(scaled_error(problem, row, f, c), 2)) / 2;
    if (problem->likelihood == IVON_HETEROSCEDASTIC)
        return loss;
    probabilities(problem, f, p);
    if (problem->likelihood == IVON_CATEGORICAL)
        return ignored(problem, row) ? 0 : -log(p[problem->labels[row]]);
    for (size_t c = 0; c < CLASSES; c++) {
        size_t at = row * CLASSES + c;
        double y = (double)problem->numbers[at], error = (f[c] - y) / 0.5;
        if (problem->likelihood == IVON_POISSON)
            loss += p[c] - y * f[c] + log(tgamma(y + 1));
        else
            loss += problem->likelihood == IVON_GAUSSIAN
                        ? error * error / 2
                        : -log(problem->labels[at] ? p[c] : 1 - p[c]);
    }
    return loss;
}

/* e = (p − y), over s² for a Gaussian. */
static inline void residual_of(const struct problem *problem, size_t row, const double *p,
                               double *e)
{
    for (size_t c = 0; c < CLASSES; c++) {
        size_t at = row * CLASSES + c;
        if (problem->likelihood == IVON_CATEGORICAL)
            e[c] = ignored(problem, row) ? 0 : p[c] - ((int64_t)c == problem->labels[row]);
        else if (problem->likelihood == IVON_BERNOULLI)
            e[c] = p[c] - (double)problem->labels[at];
        else if (problem->likelihood == IVON_POISSON)
            e[c] = p[c] - (double)problem->numbers[at];
        else if (problem->likelihood == IVON_HETEROSCEDASTIC && c < HALF)
            e[c] = -scaled_error(problem, row, p, c) / sqrt(exp(p[HALF + c]));
        else if (problem->likelihood == IVON_HETEROSCEDASTIC)
            e[c] = (1 - pow(scaled_error(problem, row, p, c - HALF), 2)) / 2;
        else
            e[c] = (p[c] - (double)problem->numbers[at]) / 0.25;
    }
}

/* C = J Σ Jᵀ of an example, and g = Jᵀ e. */
static inline void square(const struct problem *problem, struct reference *reference, size_t i)
{
    size_t wide = problem->tokens * CLASSES;
    for (size_t j = 0; j < wide; j++)
        for (size_t k = 0; k < wide; k++)
            for (size_t p = 0; p < problem->parameters; p++)
                reference->covariance[i][j][k] += reference->jacobian[i][j][p] *
                                                  problem->variance[p] *
                                                  reference->jacobian[i][k][p];
    for (size_t p = 0; p < problem->parameters; p++)
        for (size_t j = 0; j < wide; j++)
            reference->gradient[i][p] += reference->jacobian[i][j][p] * reference->e[i][j];
}

static inline void score(const struct problem *problem, struct reference *reference, size_t i,
                         bool full)
{
    size_t tokens = problem->tokens, wide = tokens * CLASSES;
    double rho = reference->rho, *e = reference->e[i], (*c)[WIDTH] = reference->covariance[i];
    for (size_t j = 0; j < wide; j++)
        for (size_t k = 0; k < wide; k++) {
            reference->moved[i][j] += full || j == k ? rho * c[j][k] * e[k] : 0;
            reference->self_influence[i] += rho * e[j] * c[j][k] * e[k];
        }
    for (size_t t = 0; t < tokens; t++) {
        size_t row = i * tokens + t, at = t * CLASSES;
        double moved[CLASSES], before[CLASSES], after[CLASSES];
        for (size_t k = 0; k < CLASSES; k++)
            moved[k] = reference->f[i][at + k] + reference->moved[i][at + k];
        probabilities(problem, reference->f[i] + at, before);
        probabilities(problem, moved, after);
        for (size_t k = 0; k < CLASSES; k++) {
            double curvature = problem->likelihood == IVON_GAUSSIAN  ? 4
                               : problem->likelihood == IVON_POISSON ? before[k]
                               : problem->likelihood == IVON_HETEROSCEDASTIC
                                   ? k < HALF ? exp(-before[HALF + k]) : 0.5
                                   : before[k] * (1 - before[k]);
            reference->residual[i] += fabs(e[at + k]);
            reference->mpe[i] += fabs(curvature * rho * c[at + k][at + k] * e[at + k]);
            if (!ignored(problem, row))
                reference->row_deviation[row] += fabs(after[k] - before[k]);
        }
        reference->row_loss[row] = loss_of(problem, row, reference->f[i] + at);
        reference->row_loo_loss[row] = loss_of(problem, row, moved);
        reference->loss[i] += reference->row_loss[row];
        reference->loo_loss[i] += reference->row_loo_loss[row];
        reference->deviation[i] += reference->row_deviation[row];
    }
}

/* `expected`: p, or where variances are predicted e, averaged over samples; or null. */
static inline void refer(const struct problem *problem, double rho, bool full,
                         const double *expected, struct reference *reference)
{
    memset(reference, 0, sizeof *reference);
    reference->rho = rho;
    size_t tokens = problem->tokens;
    for (size_t i = 0; i < EXAMPLES; i++) {
        for (size_t t = 0; t < tokens; t++) {
            size_t row = i * tokens + t, at = t * CLASSES;
            double p[CLASSES];
            differentiate(problem, problem->x + row * INPUTS, reference->f[i] + at,
                          reference->jacobian[i] + at);
            probabilities(problem, reference->f[i] + at, p);
            residual_of(problem, row, expected ? expected + row * CLASSES : p,
                        reference->e[i] + at);
            if (expected && problem->likelihood == IVON_HETEROSCEDASTIC)
                memcpy(reference->e[i] + at, expected + row * CLASSES, sizeof p);
        }
        square(problem, reference, i);
        score(problem, reference, i, full);
    }
}

static inline void compare(const char *what, const double *found, const double *expected,
                           size_t count)
{
    double most = 0;
    for (size_t i = 0; i < count; i++)
        most = fmax(most, fabs(expected[i]));
    assert_true(most > 0);
    for (size_t i = 0; i < count; i++)
        if (!(fabs(found[i] - expected[i]) <= ROUNDING * most))
            fail_msg("%s %zu: %.9g, expected %.9g, to %.2g", what, i, found[i], expected[i],
                     ROUNDING * most);
}

static inline void compare_floats(const char *what, const float *found, const double *expected,
                                  size_t count)
{
    double *wide = calloc(count, sizeof *wide);
    assert_non_null(wide);
    for (size_t i = 0; i < count; i++)
        wide[i] = (double)found[i];
    compare(what, wide, expected, count);
    free(wide);
}

/* Differences of probabilities are right to what the probabilities are, which are below 1. */
static inline void compare_differences(const char *what, const double *found,
                                       const double *expected, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (!(fabs(found[i] - expected[i]) <= ROUNDING * (1 + fabs(expected[i]))))
            fail_msg("%s %zu: %.9g, expected %.9g", what, i, found[i], expected[i]);
}

static inline void compare_all(const struct problem *problem, const struct collected *collected,
                               const struct reference *reference, bool covariances)
{
    size_t tokens = problem->tokens, wide = tokens * CLASSES, rows = EXAMPLES * tokens;
    compare("loss", collected->loss, reference->loss, EXAMPLES);
    compare("residual", collected->residual, reference->residual, EXAMPLES);
    compare("mpe", collected->mpe, reference->mpe, EXAMPLES);
    compare("self-influence", collected->self_influence, reference->self_influence, EXAMPLES);
    compare("loo loss", collected->loo_loss, reference->loo_loss, EXAMPLES);
    compare("row's loss", collected->row_loss, reference->row_loss, rows);
    compare("row's loo loss", collected->row_loo_loss, reference->row_loo_loss, rows);
    compare_differences("deviation", collected->deviation, reference->deviation, EXAMPLES);
    compare_differences("row's deviation", collected->row_deviation, reference->row_deviation,
                        rows);
    for (size_t i = 0; i < EXAMPLES; i++) {
        compare_floats("output", collected->outputs + i * wide, reference->f[i], wide);
        double variance[WIDTH], covariance[WIDTH * WIDTH];
        for (size_t j = 0; j < wide; j++) {
            variance[j] = reference->covariance[i][j][j];
            for (size_t k = 0; k < wide; k++)
                covariance[j * wide + k] = reference->covariance[i][j][k];
        }
        compare_floats("variance", collected->variance + i * wide, variance, wide);
        if (covariances)
            compare_floats("covariance", collected->covariance + i * wide * wide, covariance,
                           wide * wide);
        bool any = false;
        for (size_t j = 0; j < wide; j++)
            any |= reference->e[i][j] != 0;
        if (!any) {
            assert_true(collected->self_influence[i] == 0 && collected->loss[i] == 0);
            continue;
        }
        compare_floats("residual", collected->residual_vector + i * wide, reference->e[i], wide);
        compare_floats("deviation", collected->deviation_vector + i * wide, reference->moved[i],
                       wide);
    }
}

/* Predictions, and whether they miss, follow from the outputs. */
static inline void check_errors(const struct problem *problem, const struct collected *collected)
{
    for (size_t row = 0; row < EXAMPLES * problem->tokens; row++) {
        const float *f = collected->outputs + row * CLASSES;
        const float *moved = collected->deviation_vector + row * CLASSES;
        size_t best = 0, moved_best = 0, missed = 0, moved_missed = 0;
        for (size_t c = 0; c < CLASSES; c++) {
            best = f[c] > f[best] ? c : best;
            moved_best = f[c] + moved[c] > f[moved_best] + moved[moved_best] ? c : moved_best;
            size_t at = row * CLASSES + c;
            missed += (f[c] > 0) != problem->labels[at];
            moved_missed += (f[c] + moved[c] > 0) != problem->labels[at];
            if (problem->likelihood == IVON_BERNOULLI)
                assert_int_equal(collected->prediction[at], f[c] > 0);
        }
        float error = (float)missed / CLASSES, moved_error = (float)moved_missed / CLASSES;
        if (problem->likelihood == IVON_CATEGORICAL) {
            assert_int_equal(collected->prediction[row], best);
            error = ignored(problem, row) ? 0 : (int64_t)best != problem->labels[row];
            moved_error = ignored(problem, row) ? 0 : (int64_t)moved_best != problem->labels[row];
        }
        assert_true(collected->row_error[row] == error);
        assert_true(collected->row_loo_error[row] == moved_error);
    }
}

#endif
