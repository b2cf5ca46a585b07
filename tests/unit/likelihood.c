/*
 * Losses and residuals against their formulas in double, and against differences.
 *
 * Rounding: an exponential of x = f − max f is right to 2^-23, and to 2^-24 |x| for what rounding x
 * cut off; where that is beyond FAR, the exponential is too small to count. So every probability
 * and what is summed of them are right to BOUND, relative to themselves, however small they are.
 */
#include <inttypes.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "metrics/likelihood/likelihood.h"

enum {
    WIDE = 2600, /* three pieces, the last of them not full */
    ROWS = 5,
    IGNORED = -100,
    FAR = 30
};

static const double BOUND = (4 + FAR / 2) * 0x1p-23;

static uint64_t state;

static float uniform(double low, double high)
{
    state = state * 6364136223846793005U + 1442695040888963407U;
    return (float)(low + (high - low) * (double)(state >> 40) / 16777216.0);
}

static void expect(const char *what, size_t i, double found, double expected)
{
    if (!(fabs(found - expected) <= BOUND * fabs(expected) + 0x1p-149))
        fail_msg("%s %zu: %.9g, expected %.9g", what, i, found, expected);
}

/* Probabilities, and those of everything else, which 1 − p is not precise enough for. */
static double softmax(const float *f, size_t k, double *p, double *others)
{
    double most = (double)f[0], sum = 0;
    for (size_t i = 1; i < k; i++)
        most = fmax(most, (double)f[i]);
    for (size_t i = 0; i < k; i++)
        sum += exp((double)f[i] - most);
    for (size_t i = 0; i < k; i++) {
        p[i] = exp((double)f[i] - most) / sum;
        others[i] = 0;
    }
    for (size_t i = 0; i < k; i++)
        for (size_t j = 0; j < k && k <= 16; j++)
            others[i] += j == i ? 0 : p[j];
    for (size_t i = 0; i < k && k > 16; i++)
        others[i] = 1 - p[i];
    return most + log(sum);
}

static void check_categorical(const float *f, size_t k, int64_t label)
{
    static double expected[WIDE], others[WIDE];
    static float p[WIDE], e[WIDE];
    const struct likelihood likelihood = {IVON_CATEGORICAL, k, NAN};
    const struct row_targets targets = {.labels = &label, .ignored = IGNORED};
    double loss = NAN, alone = NAN, normalizer = softmax(f, k, expected, others);
    likelihood_evaluate(&likelihood, 1, f, &targets, p, &loss);
    likelihood_evaluate(&likelihood, 1, f, &targets, NULL, &alone);
    assert_memory_equal(&loss, &alone, sizeof loss);
    if (label == IGNORED)
        assert_true(loss == 0);
    else if (others[label] < 0.5)
        expect("loss", 0, loss, -log1p(-others[label]));
    else
        expect("loss", 0, loss, normalizer - (double)f[label]);
    likelihood_residual(&likelihood, 1, p, &targets, e);
    for (size_t i = 0; i < k; i++) {
        if (expected[i] < 0x1p-126) /* subnormal, or 0 */
            assert_true(p[i] >= 0 && p[i] <= 0x1p-126F);
        else
            expect("probability", i, (double)p[i], expected[i]);
        if (label == IGNORED)
            assert_true(e[i] == 0);
        else if ((int64_t)i == label)
            expect("residual of the target", i, (double)e[i], -others[i]);
        else
            assert_true(e[i] == p[i]);
    }
    likelihood_residual(&likelihood, 1, p, &targets, p); /* in place */
    assert_memory_equal(p, e, k * sizeof *p);
}

static void categorical(void **unused)
{
    (void)unused;
    static const size_t sizes[] = {2, 3, 10, 1024, 1025, WIDE};
    static float f[WIDE];
    state = 1;
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
        for (int round = 0; round < 20; round++) {
            for (size_t i = 0; i < sizes[s]; i++)
                f[i] = uniform(-6, 6);
            check_categorical(f, sizes[s], (int64_t)uniform(0, (double)sizes[s]));
            check_categorical(f, sizes[s], (int64_t)sizes[s] - 1);
            check_categorical(f, sizes[s], IGNORED);
        }
}

/* Logits that overflow an exponential, and targets that are certain: nothing is lost of what is
   small. */
static void extreme_logits(void **unused)
{
    (void)unused;
    const float rows[][4] = {{1e4F, -1e4F, 0, 1}, {-1e4F, -1e4F, -1e4F, -1e4F}, {1e4F, 1e4F, 0, 0},
                             {20, 0, 1, -3},      {3e38F, -3e38F, 0, 0},        {12, 11, -12, -11}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (int64_t label = 0; label < 4; label++)
            check_categorical(rows[i], 4, label);
    const struct likelihood likelihood = {IVON_BERNOULLI, 1, NAN};
    for (int64_t label = 0; label < 2; label++)
        for (int i = -20; i <= 20; i++) {
            float f = i == -20 ? -1e4F : i == 20 ? 1e4F : (float)i * 4, p, e;
            double loss, x = label ? -(double)f : (double)f;
            const struct row_targets targets = {.labels = &label, .ignored = IGNORED};
            likelihood_evaluate(&likelihood, 1, &f, &targets, &p, &loss);
            likelihood_residual(&likelihood, 1, &p, &targets, &e);
            expect("loss", 0, loss, x > 0 ? x + log1p(exp(-x)) : log1p(exp(x)));
            expect("probability", 0, (double)p, 1 / (1 + exp(-(double)f)));
            /* p − 1 is right to what p is. */
            assert_true(fabs((double)e - (1 / (1 + exp(-(double)f)) - (double)label)) <= BOUND);
        }
}

static void bernoulli(void **unused)
{
    (void)unused;
    static float f[WIDE], p[WIDE], e[WIDE];
    static int64_t labels[WIDE];
    state = 2;
    const size_t sizes[] = {1, 3, 1024, WIDE};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        size_t k = sizes[s];
        const struct likelihood likelihood = {IVON_BERNOULLI, k, NAN};
        double expected = 0, loss, alone;
        for (size_t i = 0; i < k; i++) {
            f[i] = uniform(-8, 8);
            labels[i] = uniform(0, 1) < 0.5F;
            expected += log1p(exp(labels[i] ? -(double)f[i] : (double)f[i]));
        }
        const struct row_targets targets = {.labels = labels, .ignored = INT64_MIN};
        likelihood_evaluate(&likelihood, 1, f, &targets, p, &loss);
        likelihood_evaluate(&likelihood, 1, f, &targets, NULL, &alone);
        assert_memory_equal(&loss, &alone, sizeof loss);
        expect("loss", k, loss, expected);
        likelihood_residual(&likelihood, 1, p, &targets, e);
        for (size_t i = 0; i < k; i++) {
            expect("probability", i, (double)p[i], 1 / (1 + exp(-(double)f[i])));
            assert_true(e[i] == p[i] - (float)labels[i]);
        }
    }
}

static void gaussian(void **unused)
{
    (void)unused;
    enum { K = 3 };
    const struct likelihood likelihood = {IVON_GAUSSIAN, K, 0.25};
    float f[ROWS * K], y[ROWS * K], p[ROWS * K], e[ROWS * K];
    double loss[ROWS];
    const struct row_targets targets = {.numbers = y};
    state = 3;
    for (size_t i = 0; i < ROWS * K; i++) {
        f[i] = uniform(-2, 2);
        y[i] = uniform(-2, 2);
    }
    likelihood_evaluate(&likelihood, ROWS, f, &targets, p, loss);
    likelihood_residual(&likelihood, ROWS, p, &targets, e);
    assert_memory_equal(p, f, sizeof f);
    for (size_t i = 0; i < ROWS; i++) {
        double expected = 0;
        for (size_t k = i * K; k < (i + 1) * K; k++) {
            double error = ((double)f[k] - (double)y[k]) / 0.25;
            expected += error * error / 2;
            expect("residual", k, (double)e[k], error / 0.25);
        }
        expect("loss", i, loss[i], expected);
    }
}

/* Loss, residual, curvature and density of counts by their formulas. Exponentials and log y! are
   right to a few units of double; p and e are rounded to binary32. */
static void poisson(void **unused)
{
    (void)unused;
    enum { K = 4 };
    static const double factorials[] = {1, 1, 2, 6, 24, 120, 720, 5040};
    const struct likelihood likelihood = {IVON_POISSON, K, NAN};
    const struct likelihood_kind *kind = likelihood_kind_of(IVON_POISSON);
    float f[ROWS * K], y[ROWS * K], p[ROWS * K], e[ROWS * K];
    double loss[ROWS];
    const struct row_targets targets = {.numbers = y};
    state = 6;
    for (size_t i = 0; i < ROWS * K; i++) {
        f[i] = uniform(-3, 3);
        y[i] = (float)(i % 8);
    }
    likelihood_evaluate(&likelihood, ROWS, f, &targets, p, loss);
    likelihood_residual(&likelihood, ROWS, p, &targets, e);
    for (size_t i = 0; i < ROWS; i++) {
        double expected = 0;
        for (size_t k = i * K; k < (i + 1) * K; k++) {
            double rate = exp((double)f[k]), count = (double)y[k];
            expected -= log(pow(rate, count) * exp(-rate) / factorials[k % 8]);
            assert_true(fabs((double)p[k] - rate) <= 0x1p-24 * rate);
            assert_true(fabs((double)e[k] - (rate - count)) <= 0x1p-23 * (rate + count));
            assert_true(kind->curvature(&likelihood, p, k) == (double)p[k]);
        }
        assert_true(fabs(loss[i] - expected) <= 1e-13 * (1 + fabs(expected)));
        assert_true(kind->nll(&likelihood, loss[i]) == loss[i]);
    }
    assert_true(kind->valid(0) && kind->valid(7) && !kind->valid(-1) && !kind->valid(0.5));
    assert_true(likelihood_is_known(&likelihood));
    assert_true(isnan(ivon_guessing_loss(IVON_POISSON, K)));
}

/* Means and logarithms of variances: sums of a few numbers up to 100 are right to a few units of
   double; p is f, and e is rounded to binary32. Λ is the mean of e eᵀ over y ~ N(μ, exp t), by the
   trapezoidal rule, whose error is far below 1e-9 where the density and nine derivatives end. */
static void heteroscedastic(void **unused)
{
    (void)unused;
    enum { HALF = 2, K = 2 * HALF, STEPS = 2000 };
    const struct likelihood likelihood = {IVON_HETEROSCEDASTIC, K, NAN};
    const struct likelihood_kind *kind = likelihood_kind_of(IVON_HETEROSCEDASTIC);
    float f[ROWS * K], y[ROWS * HALF], p[ROWS * K], e[ROWS * K];
    double loss[ROWS];
    const struct row_targets targets = {.numbers = y};
    state = 7;
    for (size_t i = 0; i < ROWS * K; i++)
        f[i] = uniform(-3, 3);
    for (size_t i = 0; i < ROWS * HALF; i++)
        y[i] = uniform(-3, 3);
    likelihood_evaluate(&likelihood, ROWS, f, &targets, p, loss);
    likelihood_residual(&likelihood, ROWS, p, &targets, e);
    assert_memory_equal(p, f, sizeof p);
    for (size_t i = 0; i < ROWS; i++) {
        double density = 0;
        for (size_t c = 0; c < HALF; c++) {
            double mean = (double)f[i * K + c], variance = exp((double)f[i * K + HALF + c]);
            double off = mean - (double)y[i * HALF + c], second[2] = {0}, mixed = 0;
            density += log(exp(-off * off / (2 * variance)) / sqrt(2 * acos(-1.0) * variance));
            assert_true(fabs((double)e[i * K + c] - off / variance) <= 1e-7 * fabs(off / variance));
            double slope = (1 - off * off / variance) / 2;
            assert_true(fabs((double)e[i * K + HALF + c] - slope) <= 1e-7 * (1 + fabs(slope)));
            for (int s = -STEPS; s <= STEPS; s++) {
                double z = 12.0 * s / STEPS, weight = exp(-z * z / 2) * 12 / STEPS;
                weight /= sqrt(2 * acos(-1.0));
                second[0] += weight * z * z / variance;
                second[1] += weight * (1 - z * z) * (1 - z * z) / 4;
                mixed += weight * z * (1 - z * z);
            }
            assert_true(fabs(mixed) < 1e-9);
            for (size_t half = 0; half < 2; half++)
                assert_true(
                    fabs(kind->curvature(&likelihood, p + i * K, half * HALF + c) / second[half] -
                         1) < 1e-9);
        }
        assert_true(fabs(kind->nll(&likelihood, loss[i]) + density) <= 1e-12 * (1 + fabs(density)));
    }
    assert_true(likelihood_is_known(&likelihood));
    assert_true(isnan(ivon_guessing_loss(IVON_HETEROSCEDASTIC, K)));
}

/* e = ∂L/∂f by central differences with step h: the loss is right to 2^-21, its third derivative is
   below 1/8 (of softmax and sigmoid), a Gaussian's 0, that of counts exp f, below 8, and of
   variances (y − μ)² exp(−t)/2, below 60. */
static void residuals_are_derivatives(void **unused)
{
    (void)unused;
    enum { K = 4 };
    const double step = 0x1p-5;
    const float y[K] = {0.5F, 1, 2, 0};
    const int64_t labels[K] = {1, 0, 1, 1};
    const struct row_targets targets = {.labels = labels, .numbers = y, .ignored = IGNORED};
    state = 4;
    static const double third[] = {0.125, 0.125, 0.125, 8, 60};
    for (int kind = IVON_CATEGORICAL; kind <= IVON_HETEROSCEDASTIC; kind++) {
        const struct likelihood likelihood = {(enum ivon_likelihood)kind, K, 1.5};
        float f[K], p[K], e[K];
        for (size_t i = 0; i < K; i++)
            f[i] = uniform(-2, 2);
        likelihood_evaluate(&likelihood, 1, f, &targets, p, NULL);
        likelihood_residual(&likelihood, 1, p, &targets, e);
        for (size_t i = 0; i < K; i++) {
            float kept = f[i];
            double above, below;
            f[i] = (float)((double)kept + step);
            double moved = (double)f[i];
            likelihood_evaluate(&likelihood, 1, f, &targets, NULL, &above);
            f[i] = (float)((double)kept - step);
            moved -= (double)f[i];
            likelihood_evaluate(&likelihood, 1, f, &targets, NULL, &below);
            f[i] = kept;
            if (!(fabs((above - below) / moved - (double)e[i]) <=
                  0x1p-21 / step + step * step / 6 * third[kind]))
                fail_msg("likelihood %d, output %zu: difference %.9g, residual %.9g", kind, i,
                         (above - below) / moved, (double)e[i]);
        }
    }
}

/* Rows are told apart, with targets of their own. */
static void several_rows(void **unused)
{
    (void)unused;
    enum { K = 3 };
    const struct likelihood likelihood = {IVON_CATEGORICAL, K, NAN};
    const int64_t labels[ROWS] = {0, 2, IGNORED, 1, 1};
    const struct row_targets targets = {.labels = labels, .ignored = IGNORED};
    float f[ROWS * K], p[ROWS * K], e[ROWS * K], one_p[K], one_e[K];
    double loss[ROWS], one_loss;
    state = 5;
    for (size_t i = 0; i < ROWS * K; i++)
        f[i] = uniform(-2, 2);
    likelihood_evaluate(&likelihood, ROWS, f, &targets, p, loss);
    likelihood_residual(&likelihood, ROWS, p, &targets, e);
    for (size_t i = 0; i < ROWS; i++) {
        const struct row_targets own = {.labels = labels + i, .ignored = IGNORED};
        likelihood_evaluate(&likelihood, 1, f + i * K, &own, one_p, &one_loss);
        likelihood_residual(&likelihood, 1, one_p, &own, one_e);
        assert_memory_equal(one_p, p + i * K, sizeof one_p);
        assert_memory_equal(one_e, e + i * K, sizeof one_e);
        assert_true(one_loss == loss[i]);
    }
}

/* A Bernoulli row of ignored labels has probabilities, but neither loss nor residual. */
static void events_that_do_not_count(void **unused)
{
    (void)unused;
    enum { K = 2 };
    const struct likelihood events = {IVON_BERNOULLI, K, NAN};
    const float f[2 * K] = {1, -1, 0.5F, 2};
    const int64_t labels[2 * K] = {IGNORED, IGNORED, 1, 0};
    const struct row_targets targets = {.labels = labels, .ignored = IGNORED};
    const struct row_targets own = {.labels = labels + K, .ignored = IGNORED};
    float p[2 * K], e[2 * K];
    double loss[2], alone;
    likelihood_evaluate(&events, 2, f, &targets, p, loss);
    likelihood_residual(&events, 2, p, &targets, e);
    likelihood_evaluate(&events, 1, f + K, &own, NULL, &alone);
    assert_true(loss[0] == 0 && loss[1] == alone && alone > 0);
    assert_true(e[0] == 0 && e[1] == 0 && e[2] == p[2] - 1 && e[3] == p[3]);
    assert_true(p[0] > 0.5F && p[1] < 0.5F);
}

static void errors_of_predictions(void **unused)
{
    (void)unused;
    const struct likelihood classes = {IVON_CATEGORICAL, 3, NAN}, events = {IVON_BERNOULLI, 4, NAN};
    const float f[] = {-1, 2, 2, -0.5F};
    const int64_t one = 1, two = 2, ignored = IGNORED, all[] = {0, 1, 0, 1};
    const int64_t none[] = {IGNORED, IGNORED, IGNORED, IGNORED};
    const struct row_targets first = {.labels = &one, .ignored = IGNORED};
    const struct row_targets second = {.labels = &two, .ignored = IGNORED};
    const struct row_targets neither = {.labels = &ignored, .ignored = IGNORED};
    const struct row_targets four = {.labels = all, .ignored = INT64_MIN};
    const struct row_targets uncounted = {.labels = none, .ignored = IGNORED};
    int64_t best = -1, said[4];
    assert_true(likelihood_error(&classes, f, &first, &best) == 0); /* the first of equals */
    assert_int_equal(best, 1);
    assert_true(likelihood_error(&classes, f, &second, NULL) == 1);
    assert_true(likelihood_error(&classes, f, &neither, &best) == 0);
    assert_true(likelihood_error(&events, f, &uncounted, said) == 0);
    assert_true(likelihood_error(&events, f, &four, said) == 0.5F);
    assert_true(!said[0] && said[1] && said[2] && !said[3]);
}

/* Λ of one row, from its p in double. */
static double curvature_of(const struct likelihood *likelihood, const float *p, size_t i, size_t j)
{
    double own = (double)p[i], others = 0;
    switch (likelihood->kind) {
    case IVON_CATEGORICAL:
        for (size_t k = 0; k < likelihood->k; k++)
            others += k == i ? 0 : (double)p[k];
        return i == j ? own * others : -own * (double)p[j];
    case IVON_BERNOULLI:
        return i == j ? own * (1 - own) : 0;
    case IVON_GAUSSIAN:
        return i == j ? 1 / (likelihood->noise_std * likelihood->noise_std) : 0;
    case IVON_HETEROSCEDASTIC:
        return i != j ? 0 : i < likelihood->k / 2 ? exp(-(double)p[i + likelihood->k / 2]) : 0.5;
    default:
        return i == j ? own : 0;
    }
}

/* Sums of K products, of which the columns and p are floats: K + 4 roundings of the largest. */
static void check_curvature(const struct likelihood *likelihood, const float *p)
{
    enum { K = 6 };
    float columns[K][K], x[K], product[K];
    double direction[K], most = 0;
    const double bound = (K + 4) * 0x1p-24;
    for (size_t i = 0; i < K; i++) {
        likelihood_curvature_column(likelihood, p, i, columns[i]);
        x[i] = product[i] = uniform(-1, 1);
        direction[i] = (double)x[i];
        most = fmax(most, curvature_of(likelihood, p, i, i));
    }
    likelihood_curvature_apply(likelihood, p, product);
    for (size_t i = 0; i < K; i++) {
        double expected = 0;
        for (size_t j = 0; j < K; j++) {
            double sum = 0;
            for (size_t r = 0; r < K; r++)
                sum += (double)columns[r][i] * (double)columns[r][j];
            assert_true(fabs(sum - curvature_of(likelihood, p, i, j)) <= bound * most);
            expected += curvature_of(likelihood, p, i, j) * (double)x[j];
        }
        assert_true(fabs((double)product[i] - expected) <= bound * K * most);
    }
    for (int transposed = 0; transposed < 2; transposed++) {
        double moved[K];
        memcpy(moved, direction, sizeof moved);
        likelihood_curvature_root(likelihood, p, transposed, moved);
        for (size_t i = 0; i < K; i++) {
            double expected = 0;
            for (size_t j = 0; j < K; j++)
                expected += (double)(transposed ? columns[i][j] : columns[j][i]) * direction[j];
            assert_true(fabs(moved[i] - expected) <= bound * K * sqrt(most));
        }
    }
}

/* Columns of R, Λ x, R x and Rᵀ x against Λ, entry by entry. */
static void curvatures(void **unused)
{
    (void)unused;
    static const int64_t labels[6] = {0};
    static const float numbers[6] = {0};
    static const struct row_targets targets = {labels, numbers, IGNORED};
    for (enum ivon_likelihood kind = IVON_CATEGORICAL; kind <= IVON_HETEROSCEDASTIC; kind++) {
        const struct likelihood likelihood = {kind, 6, kind == IVON_GAUSSIAN ? 0.5 : NAN};
        state = 3;
        for (int trial = 0; trial < 20; trial++) {
            float f[6], p[6];
            for (size_t i = 0; i < 6; i++)
                f[i] = uniform(-trial, trial);
            likelihood_evaluate(&likelihood, 1, f, &targets, p, NULL);
            check_curvature(&likelihood, p);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(categorical),
        cmocka_unit_test(extreme_logits),
        cmocka_unit_test(bernoulli),
        cmocka_unit_test(gaussian),
        cmocka_unit_test(poisson),
        cmocka_unit_test(heteroscedastic),
        cmocka_unit_test(residuals_are_derivatives),
        cmocka_unit_test(several_rows),
        cmocka_unit_test(events_that_do_not_count),
        cmocka_unit_test(errors_of_predictions),
        cmocka_unit_test(curvatures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
