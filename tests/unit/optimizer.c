/*
 * The optimizers against float64 numpy over a thousand steps (tests/oracle/optimizer_reference.py),
 * and what must hold beside the formulas.
 *
 * Tolerance of the former, 1e-5: a step rounds each number of the state a few times, by 2^-24 of it
 * each. Errors of m and g shrink with every step by a factor of at most 1 − α k/(h + δ) <= 0.95,
 * so some 20 steps' worth remain: 20 · 3 · 2^-24 = 3.6e-6. Errors of h are kept for 1/(1 − β₂) =
 * 1000 steps, but their signs are random: √1000 · 3 · 2^-24 = 5.7e-6. g is small where ĝ vanishes:
 * it is compared on the scale of the gradients' terms, k |x − target| and 0.3.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/thread_pool.h"
#include "ivon/sample.h"
#include "optimizer_groups.h"
#include "train/optimizer/optimizer.h"

enum { COUNT = 21, STEPS = 1000, SEED = 5 };

static const struct reference {
    const char *name;
    double arrays[2][3][COUNT]; /* mean, Hessian, momentum */
} references[] = {
#include "optimizer_reference.h"
};

static const struct reference *reference_of(const char *name)
{
    for (size_t i = 0; i < sizeof references / sizeof *references; i++)
        if (strcmp(references[i].name, name) == 0)
            return &references[i];
    fail_msg("no reference '%s'", name);
    return NULL;
}

static float gradient(size_t tensor, size_t i, float x)
{
    double k = 0.5 + (double)i / COUNT, target = 1 + (double)tensor / 2 + (double)i / 10;
    return (float)(k * ((double)x - target) + 0.3 * sin(2 * (double)x));
}

static const struct optimizer_tensor tensors[] = {{.name = "a.weight", .count = COUNT},
                                                  {.name = "b.weight", .count = COUNT, .group = 1}};

static struct optimizer_options ivon_options(void)
{
    return (struct optimizer_options){.samples = 1, .seed = SEED, .norm_clip = INFINITY};
}

static struct optimizer *make(const struct optimizer_options *options,
                              const struct optimizer_group groups[2])
{
    struct optimizer *optimizer = NULL;
    struct ivon_error error = {0};
    if (optimizer_new(&optimizer, options, groups, 2, tensors, 2, &error))
        fail_msg("%s", error.message);
    return optimizer;
}

/* Calls of optimizer_step, `samples` for each of so many steps. */
static void run(struct optimizer *optimizer, unsigned samples, uint64_t steps)
{
    float gradients[2][COUNT];
    const float *both[2] = {gradients[0], gradients[1]};
    struct optimizer_report report;
    for (uint64_t call = 0; call < samples * steps; call++) {
        for (size_t t = 0; t < 2; t++)
            for (size_t i = 0; i < COUNT; i++)
                gradients[t][i] = gradient(t, i, optimizer_parameter(optimizer, t)[i]);
        assert_int_equal(optimizer_step(optimizer, both, 1, true, &report, NULL), 0);
        assert_int_equal(report.updated, (call + 1) % samples == 0);
        assert_int_equal(report.bad_gradients + report.overflows, 0);
    }
    assert_int_equal(optimizer_steps(optimizer) % steps, 0);
}

/* Lanes, as the reference has them: each has a share of a step's losses, whose gradient is a little
   more in each. The sums over the lanes. */
static const double shares[] = {1.0 / 6, 1.0 / 3, 1.0 / 2};

enum { LANES = sizeof shares / sizeof *shares };

static void sum_lanes(const struct optimizer *optimizer, float gradients[2][COUNT],
                      float products[2][COUNT])
{
    memset(gradients, 0, 2 * sizeof *gradients);
    memset(products, 0, 2 * sizeof *products);
    for (size_t lane = 0; lane < LANES; lane++) {
        float weights[2][COUNT], own[2][COUNT];
        float *const drawn[2] = {weights[0], weights[1]};
        const float *const both[2] = {own[0], own[1]};
        optimizer_draw_lane(optimizer, lane, drawn);
        for (size_t t = 0; t < 2; t++)
            for (size_t i = 0; i < COUNT; i++) {
                double g = (double)gradient(t, i, weights[t][i]) + 0.4 * (double)lane;
                own[t][i] = (float)(shares[lane] * g);
            }
        optimizer_multiply_lane(optimizer, both, drawn);
        for (size_t t = 0; t < 2; t++)
            for (size_t i = 0; i < COUNT; i++) {
                gradients[t][i] += own[t][i];
                products[t][i] += weights[t][i];
            }
    }
}

static void run_lanes(struct optimizer *optimizer, unsigned samples, uint64_t steps)
{
    float gradients[2][COUNT], products[2][COUNT];
    const float *const sums[2] = {gradients[0], gradients[1]};
    const float *const product_sums[2] = {products[0], products[1]};
    struct optimizer_report report;
    for (uint64_t call = 0; call < samples * steps; call++) {
        sum_lanes(optimizer, gradients, products);
        assert_int_equal(optimizer_step_lanes(optimizer, sums, product_sums, 1, &report, NULL), 0);
        assert_int_equal(report.updated, (call + 1) % samples == 0);
        assert_int_equal(report.bad_gradients + report.overflows, 0);
    }
}

static void compare(const char *name, const char *what, const float *found, const double *expected,
                    double scale)
{
    for (size_t i = 0; found && i < COUNT; i++) {
        double tolerance = 1e-5 * fmax(fabs(expected[i]), scale);
        if (!(fabs((double)found[i] - expected[i]) <= tolerance))
            fail_msg("%s: %s %zu is %.9g, expected %.9g", name, what, i, (double)found[i],
                     expected[i]);
    }
}

static void check(const char *name, struct optimizer *optimizer, unsigned samples)
{
    const struct reference *reference = reference_of(name);
    assert_int_equal(optimizer_draw(optimizer, NULL), 0);
    (strncmp(name, "lanes", 5) == 0 ? run_lanes : run)(optimizer, samples, STEPS);
    assert_int_equal(optimizer_steps(optimizer), STEPS);
    for (size_t t = 0; t < 2; t++) {
        compare(name, "mean", optimizer_mean(optimizer, t), reference->arrays[t][0], 0);
        compare(name, "hessian", optimizer_hessian(optimizer, t), reference->arrays[t][1], 0);
        compare(name, "momentum", optimizer_momentum(optimizer, t), reference->arrays[t][2], 1);
    }
    optimizer_free(optimizer);
}

static void prior_of(float *mean, float *decay)
{
    for (size_t i = 0; i < COUNT; i++) {
        mean[i] = 0.5F + (float)i / 20;
        decay[i] = 0.25F + (float)i / 100;
    }
}

static void ivon_follows_algorithm_1(void **state)
{
    (void)state;
    struct optimizer_options options = ivon_options();
    check("price", make(&options, ivon_groups), 1);
    options.estimator = OPTIMIZER_SQUARED;
    check("squared", make(&options, ivon_groups), 1);
}

static void the_hessian_stays_between_its_estimates(void **state)
{
    (void)state;
    struct optimizer_options options = ivon_options();
    float mean[COUNT], decay[COUNT];
    options.hessian_every = 4;
    check("every", make(&options, ivon_groups), 1);
    options.samples = 2;
    struct optimizer *optimizer = make(&options, ivon_groups);
    prior_of(mean, decay);
    assert_int_equal(optimizer_set_prior(optimizer, 1, mean, decay, NULL, NULL), 0);
    check("prior every", optimizer, 2);
}

static void samples_of_a_step_are_averaged(void **state)
{
    (void)state;
    struct optimizer_options options = ivon_options();
    options.samples = 3;
    check("samples", make(&options, ivon_groups), 3);
    options.samples = 2;
    options.estimator = OPTIMIZER_SQUARED;
    check("squared samples", make(&options, ivon_groups), 2);
}

/* Within a step, the two weights of a pair lie on opposite sides of the mean, the first where it
   would be without pairs; pairs of steps are numpy's. */
static void samples_go_in_opposite_pairs(void **state)
{
    (void)state;
    struct optimizer_options options = ivon_options();
    struct optimizer_report report;
    static const float zeros[COUNT];
    const float *gradients[2] = {zeros, zeros};
    float plain[COUNT], first[COUNT];
    options.samples = 2;
    struct optimizer *optimizer = make(&options, ivon_groups);
    assert_int_equal(optimizer_draw(optimizer, NULL), 0);
    memcpy(plain, optimizer_parameter(optimizer, 1), sizeof plain);
    optimizer_free(optimizer);
    options.antithetic = true;
    optimizer = make(&options, ivon_groups);
    assert_int_equal(optimizer_draw(optimizer, NULL), 0);
    memcpy(first, optimizer_parameter(optimizer, 1), sizeof first);
    assert_memory_equal(first, plain, sizeof first);
    assert_int_equal(optimizer_step(optimizer, gradients, 1, true, &report, NULL), 0);
    for (size_t i = 0; i < COUNT; i++) /* the means are 0 still, where nothing is rounded */
        assert_true(optimizer_parameter(optimizer, 1)[i] == -first[i] && first[i] != 0);
    optimizer_free(optimizer);
    options.samples = 1;
    check("antithetic", make(&options, ivon_groups), 1);
}

static void lanes_draw_for_themselves(void **state)
{
    (void)state;
    struct optimizer_options options = ivon_options();
    float mean[COUNT], decay[COUNT];
    options.lanes = LANES;
    check("lanes", make(&options, ivon_groups), 1);
    options.samples = 2;
    options.norm_clip = 0.5;
    options.hessian_every = 4;
    options.antithetic = true;
    struct optimizer *optimizer = make(&options, ivon_groups);
    prior_of(mean, decay);
    assert_int_equal(optimizer_set_prior(optimizer, 1, mean, decay, NULL, NULL), 0);
    check("lanes samples", optimizer, 2);
}

static double precision_of(size_t group)
{
    return ivon_groups[group].ess *
           (ivon_groups[group].hessian_init + ivon_groups[group].weight_decay);
}

/*
 * Of four lanes with equal shares, the gradient of lane l being a_l + k (θ − m), the estimates are
 * means over the lanes of a_l ε/σ + k ε². Their variance is
 *
 *   of θ_l of each lane   ((Σ a_l²/4)/σ² + 2 k²)/4
 *   of one θ of all       (Σ a_l/4)²/σ² + 2 k²
 *
 * a quarter where the lanes' gradients at the mean are alike. What these have of noise that cancels
 * in their sum is only in the former. Whoever draws, the expected estimate is k.
 *
 * Of n = COUNT · STEPS · 2 estimates with a kurtosis of at most 15, which ε² has, the variance has
 * a standard error of at most √(14/n) = 1.9 %.
 */
static void check_variance(const double a[4], double k, size_t lanes, double expected)
{
    struct optimizer_options options = ivon_options();
    options.lanes = lanes;
    struct optimizer *optimizer = make(&options, ivon_groups);
    double sum = 0, squares = 0, count = 2.0 * COUNT * STEPS;
    for (uint64_t step = 0; step < STEPS; step++) {
        double estimates[2][COUNT] = {{0}};
        optimizer_resume(optimizer, step); /* whose means are 0, and Hessians h₀ */
        for (size_t part = 0; part < 4; part++) {
            float weights[2][COUNT], own[2][COUNT];
            float *const drawn[2] = {weights[0], weights[1]};
            const float *const both[2] = {own[0], own[1]};
            optimizer_draw_lane(optimizer, lanes == 1 ? 0 : part, drawn);
            for (size_t i = 0; i < (size_t)2 * COUNT; i++)
                own[i / COUNT][i % COUNT] =
                    (float)((a[part] + k * (double)weights[i / COUNT][i % COUNT]) / 4);
            optimizer_multiply_lane(optimizer, both, drawn);
            for (size_t i = 0; i < (size_t)2 * COUNT; i++)
                estimates[i / COUNT][i % COUNT] += (double)weights[i / COUNT][i % COUNT];
        }
        for (size_t i = 0; i < (size_t)2 * COUNT; i++) {
            double estimate = estimates[i / COUNT][i % COUNT] * precision_of(i / COUNT);
            sum += estimate;
            squares += estimate * estimate;
        }
    }
    optimizer_free(optimizer);
    double mean = sum / count, variance = squares / count - mean * mean;
    assert_true(fabs(mean - k) <= 5 * sqrt(variance / count));
    if (!(fabs(variance / expected - 1) <= 0.1))
        fail_msg("%zu lanes: a variance of %g, expected %g", lanes, variance, expected);
}

static void lanes_estimate_with_less_variance(void **state)
{
    (void)state;
    static const double alike[4] = {0.05, 0.05, 0.05, 0.05};
    static const double noise[4] = {-0.05, 0.05, -0.05, 0.05};
    const double k = 0.7, curve = 2 * k * k;
    double slope = 0.05 * 0.05 * (precision_of(0) + precision_of(1)) / 2;
    check_variance(alike, k, 1, slope + curve);
    check_variance(alike, k, 4, (slope + curve) / 4);
    check_variance(noise, k, 1, curve);
    check_variance(noise, k, 4, (slope + curve) / 4);
}

static void a_posterior_can_be_the_prior(void **state)
{
    (void)state;
    struct optimizer_options options = ivon_options();
    struct optimizer *optimizer = make(&options, ivon_groups);
    float mean[COUNT], decay[COUNT];
    prior_of(mean, decay);
    assert_int_equal(optimizer_set_prior(optimizer, 1, mean, decay, NULL, NULL), 0);
    check("prior", optimizer, 1);
    struct ivon_error error = {0};
    optimizer = make(&options, ivon_groups);
    decay[7] = -0.5F; /* with h₀ = 0.5, a sum of 0 */
    assert_int_equal(optimizer_set_prior(optimizer, 1, mean, decay, NULL, &error), IVON_ERROR_DATA);
    assert_string_equal(error.message, "prior of 'b.weight' has precision/ess -0.5 at element 7, "
                                       "with a Hessian of 0.5 expected a positive sum");
    optimizer_free(optimizer);
}

static void norms_are_clipped(void **state)
{
    (void)state;
    struct optimizer_options options = ivon_options();
    options.norm_clip = 0.5;
    struct optimizer *optimizer = make(&options, ivon_groups);
    check("norm clip", optimizer, 1);
    optimizer = make(&options, ivon_groups);
    float a[COUNT] = {3}, b[COUNT] = {[4] = -4};
    const float *gradients[2] = {a, b};
    struct optimizer_report report;
    assert_int_equal(optimizer_step(optimizer, gradients, 0, false, &report, NULL), 0);
    assert_true(report.norm == 5);
    a[3] = NAN;
    assert_int_equal(optimizer_step(optimizer, gradients, 1, false, &report, NULL), 0);
    assert_true(isnan(report.norm));
    assert_int_equal(report.bad_gradients, (size_t)2 * COUNT);
    assert_int_equal(report.tensor, 0);
    assert_true(optimizer_mean(optimizer, 0)[0] == 0);
    optimizer_free(optimizer);
}

static void adamw_and_sgd_follow_their_formulas(void **state)
{
    (void)state;
    static const struct optimizer_group sgd[] = {{.rate = 0.02, .beta1 = 0.9},
                                                 {.rate = 0.05, .weight_decay = 0.1, .beta1 = 0}};
    struct optimizer_options options = ivon_options();
    options.method = OPTIMIZER_ADAMW;
    check("adamw", make(&options, adamw_groups), 1);
    options.method = OPTIMIZER_SGD;
    check("sgd", make(&options, sgd), 1);
}

static const struct optimizer_group backprop_groups[] = {{.rate = 0.01,
                                                          .weight_decay = 0.01,
                                                          .beta1 = 0.9,
                                                          .beta2 = 0.999,
                                                          .debias = true,
                                                          .ess = 50,
                                                          .hessian_init = 1,
                                                          .epsilon = 1e-8},
                                                         {.rate = 0.003,
                                                          .weight_decay = 0.1,
                                                          .beta1 = 0.8,
                                                          .beta2 = 0.99,
                                                          .ess = 200,
                                                          .hessian_init = 0.5,
                                                          .epsilon = 1e-3}};

/* The posterior's σ, and its Hessian 1/(λ σ²) − δ, is that of ρ, which the reference has in place
   of a Hessian. */
static void bayes_by_backprop_follows_its_formulas(void **state)
{
    (void)state;
    struct optimizer_options options = ivon_options();
    options.method = OPTIMIZER_BACKPROP;
    for (unsigned samples = 1; samples <= 3; samples += 2) {
        const char *name = samples > 1 ? "backprop samples" : "backprop";
        options.samples = samples;
        options.estimator = samples > 1 ? OPTIMIZER_SQUARED : OPTIMIZER_PRICE; /* IVON's alone */
        struct optimizer *optimizer = make(&options, backprop_groups);
        assert_int_equal(optimizer_draw(optimizer, NULL), 0);
        run(optimizer, samples, STEPS);
        for (size_t t = 0; t < 2; t++) {
            const struct optimizer_group *group = &backprop_groups[t];
            const double(*arrays)[COUNT] = reference_of(name)->arrays[t];
            float hessian[COUNT];
            compare(name, "mean", optimizer_mean(optimizer, t), arrays[0], 0);
            compare(name, "rho", optimizer_rho(optimizer, t), arrays[1], 0);
            compare(name, "momentum", optimizer_momentum(optimizer, t), arrays[2], 1);
            optimizer_rho_hessian(optimizer, t, hessian);
            for (size_t i = 0; i < COUNT; i++) {
                double deviation = log1p(exp((double)optimizer_rho(optimizer, t)[i]));
                double precision = group->ess * ((double)hessian[i] + group->weight_decay);
                assert_true(fabs(precision * deviation * deviation - 1) < 1e-6);
            }
        }
        optimizer_free(optimizer);
    }
}

/* With σ far above that of the prior h is near −δ, where a float's sum with δ could vanish. */
static void hessians_of_wide_posteriors_keep_a_positive_sum(void **state)
{
    (void)state;
    struct optimizer_options options = ivon_options();
    options.method = OPTIMIZER_BACKPROP;
    struct optimizer *optimizer = make(&options, backprop_groups);
    float hessian[COUNT];
    for (size_t i = 0; i < COUNT; i++)
        optimizer_rho(optimizer, 1)[i] = powf(10, (float)i);
    optimizer_rho_hessian(optimizer, 1, hessian);
    for (size_t i = 0; i < COUNT; i++)
        assert_true((double)hessian[i] + backprop_groups[1].weight_decay > 0);
    optimizer_free(optimizer);
}

/* Bayes by Backprop begins with IVON's posterior, and draws as it does: of σ ε, ρ is rounded by
   half a unit of up to 4, and softplus by two. */
static void bayes_by_backprop_begins_as_ivon(void **state)
{
    (void)state;
    struct optimizer_options options = ivon_options();
    struct optimizer *ivon = make(&options, ivon_groups);
    struct optimizer_group groups[2] = {ivon_groups[0], ivon_groups[1]};
    groups[0].epsilon = groups[1].epsilon = 1e-8;
    options.method = OPTIMIZER_BACKPROP;
    struct optimizer *backprop = make(&options, groups);
    assert_int_equal(optimizer_draw(ivon, NULL), 0);
    assert_int_equal(optimizer_draw(backprop, NULL), 0);
    for (size_t t = 0; t < 2; t++)
        for (size_t i = 0; i < COUNT; i++) {
            double expected = (double)optimizer_parameter(ivon, t)[i];
            double found = (double)optimizer_parameter(backprop, t)[i];
            assert_true(fabs(found - expected) <= 8 * 0x1p-23 * fabs(expected));
            assert_true(expected != 0);
        }
    optimizer_free(ivon);
    optimizer_free(backprop);
}

/* What is saved between two steps is all there is. */
static void resumed_trainings_go_on_to_the_same_bits(void **state)
{
    (void)state;
    struct optimizer_options options = ivon_options();
    options.samples = 2;
    struct optimizer *whole = make(&options, ivon_groups), *second = make(&options, ivon_groups);
    optimizer_draw(whole, NULL);
    run(whole, 2, 7);
    for (size_t t = 0; t < 2; t++) {
        memcpy(optimizer_mean(second, t), optimizer_mean(whole, t), COUNT * sizeof(float));
        memcpy(optimizer_hessian(second, t), optimizer_hessian(whole, t), COUNT * sizeof(float));
        memcpy(optimizer_momentum(second, t), optimizer_momentum(whole, t), COUNT * sizeof(float));
    }
    optimizer_resume(second, 7);
    optimizer_draw(second, NULL);
    run(whole, 2, 7);
    run(second, 2, 7);
    for (size_t t = 0; t < 2; t++) {
        size_t size = COUNT * sizeof(float);
        assert_memory_equal(optimizer_mean(second, t), optimizer_mean(whole, t), size);
        assert_memory_equal(optimizer_hessian(second, t), optimizer_hessian(whole, t), size);
        assert_memory_equal(optimizer_momentum(second, t), optimizer_momentum(whole, t), size);
        assert_memory_equal(optimizer_parameter(second, t), optimizer_parameter(whole, t), size);
    }
    optimizer_free(whole);
    optimizer_free(second);
}

/* The weights of step 2, sample 1 of 3 are sample 2 · 3 + 1 of the posterior at that time. */
static void parameters_are_samples_of_the_posterior(void **state)
{
    (void)state;
    struct optimizer_options options = ivon_options();
    struct ivon_sample_options sampling = ivon_sample_defaults();
    struct optimizer *optimizer;
    options.samples = 3;
    sampling.seed = SEED;
    optimizer = make(&options, ivon_groups);
    optimizer_draw(optimizer, NULL);
    run(optimizer, 3, 2);
    float zeros[COUNT] = {0};
    const float *gradients[2] = {zeros, zeros};
    struct optimizer_report report;
    assert_int_equal(optimizer_step(optimizer, gradients, 1, true, &report, NULL), 0);
    for (size_t t = 0; t < 2; t++) {
        struct ivon_tensor both[2] = {{.name = tensors[t].name,
                                       .part = IVON_MEAN,
                                       .dtype = IVON_F32,
                                       .rank = 1,
                                       .shape = {COUNT}},
                                      {.name = tensors[t].name,
                                       .part = IVON_HESSIAN,
                                       .dtype = IVON_F32,
                                       .rank = 1,
                                       .shape = {COUNT},
                                       .ess = ivon_groups[t].ess,
                                       .weight_decay = ivon_groups[t].weight_decay}};
        const float *mean = optimizer_mean(optimizer, t);
        const void *data[2] = {mean, optimizer_hessian(optimizer, t)};
        struct ivon_header header = ivon_header_empty();
        struct ivon_source *source;
        float expected[COUNT];
        assert_int_equal(ivon_source_from_memory(&source, "m", &header, both, data, 2, NULL), 0);
        assert_int_equal(ivon_sample_draw(source, 0, &sampling, 7, 0, COUNT, expected, NULL), 0);
        for (size_t i = 0; i < COUNT; i++) {
            /* σ in float: four roundings, with that of the product; and each sum is rounded. */
            double x = (double)expected[i], noise = x - (double)mean[i];
            double tolerance = 5 * 0x1p-24 * fabs(noise) + 0x1p-23 * fabs(x);
            double found = (double)optimizer_parameter(optimizer, t)[i];
            if (!(fabs(found - x) <= tolerance))
                fail_msg("%zu is %.9g, expected %.9g", i, found, x);
        }
        ivon_source_close(source);
    }
    optimizer_free(optimizer);
}

static float *large(float low, float step, size_t count)
{
    float *values = malloc(count * sizeof *values);
    for (size_t i = 0; i < count; i++)
        values[i] = low + step * (float)(i * 7919 % 1000);
    return values;
}

/* Blocks, tiles and threads: many blocks in one tensor, and each run with other threads. */
static void threads_change_no_bit(void **state)
{
    (void)state;
    enum { LARGE = 300001, RUNS = 2 };
    struct optimizer_options options = ivon_options();
    struct optimizer_tensor both[] = {{.name = "w", .count = LARGE},
                                      {.name = "b", .count = 3, .group = 1}};
    struct optimizer *optimizers[RUNS];
    struct thread_pool *pool;
    float *gradient_of_w = large(-0.5F, 1e-3F, LARGE);
    const float *gradients[2] = {gradient_of_w, gradient_of_w};
    options.samples = 2;
    options.norm_clip = 10;
    assert_int_equal(thread_pool_new(&pool, 3, NULL), 0);
    for (int r = 0; r < RUNS; r++) {
        struct optimizer_report report;
        options.thread_pool = r ? pool : NULL;
        assert_int_equal(optimizer_new(&optimizers[r], &options, ivon_groups, 2, both, 2, NULL), 0);
        assert_int_equal(optimizer_draw(optimizers[r], NULL), 0);
        for (int step = 0; step < 4; step++)
            assert_int_equal(optimizer_step(optimizers[r], gradients, 1, true, &report, NULL), 0);
        assert_int_equal(report.bad_gradients + report.overflows, 0);
    }
    assert_memory_equal(optimizer_mean(optimizers[1], 0), optimizer_mean(optimizers[0], 0),
                        LARGE * sizeof(float));
    assert_memory_equal(optimizer_hessian(optimizers[1], 0), optimizer_hessian(optimizers[0], 0),
                        LARGE * sizeof(float));
    assert_memory_equal(optimizer_parameter(optimizers[1], 0),
                        optimizer_parameter(optimizers[0], 0), LARGE * sizeof(float));
    assert_true(optimizer_mean(optimizers[0], 0)[LARGE - 1] != 0);
    for (int r = 0; r < RUNS; r++)
        optimizer_free(optimizers[r]);
    thread_pool_free(pool);
    free(gradient_of_w);
}

/* Without noise an element's new value depends on that element alone: gradients that repeat make
   numbers that repeat, through all blocks of a tensor. */
static void every_block_is_updated_alike(void **state)
{
    (void)state;
    enum { LARGE = 300001, PERIOD = 21 };
    static const enum optimizer_method methods[] = {OPTIMIZER_ADAMW, OPTIMIZER_SGD};
    struct optimizer_tensor tensor = {.name = "w", .count = LARGE};
    float *gradient_of_w = large(0, 0, LARGE);
    const float *gradients[1] = {gradient_of_w};
    for (size_t i = 0; i < LARGE; i++)
        gradient_of_w[i] = 0.1F * (float)(i % PERIOD) - 0.85F;
    for (size_t m = 0; m < 2; m++) {
        struct optimizer_options options = ivon_options();
        struct optimizer_group group = {.rate = 0.01,
                                        .weight_decay = 0.1,
                                        .beta1 = 0.9,
                                        .beta2 = 0.99,
                                        .debias = true,
                                        .epsilon = 1e-8};
        struct optimizer_report report;
        struct optimizer *optimizer;
        options.method = methods[m];
        assert_int_equal(optimizer_new(&optimizer, &options, &group, 1, &tensor, 1, NULL), 0);
        assert_int_equal(optimizer_draw(optimizer, NULL), 0);
        for (int step = 0; step < 3; step++)
            assert_int_equal(optimizer_step(optimizer, gradients, 1, true, &report, NULL), 0);
        const float *mean = optimizer_mean(optimizer, 0);
        const float *momentum = optimizer_momentum(optimizer, 0);
        for (size_t i = 0; i < LARGE; i++)
            if (mean[i] != mean[i % PERIOD] || momentum[i] != momentum[i % PERIOD] || !mean[i])
                fail_msg("element %zu moved by %g, expected %g", i, (double)mean[i],
                         (double)mean[i % PERIOD]);
        optimizer_free(optimizer);
    }
    free(gradient_of_w);
}

static void gradients_that_are_not_finite_move_nothing(void **state)
{
    (void)state;
    static const enum optimizer_method methods[] = {OPTIMIZER_IVON, OPTIMIZER_ADAMW, OPTIMIZER_SGD,
                                                    OPTIMIZER_BACKPROP};
    for (size_t m = 0; m < 4; m++) {
        struct optimizer_options options = ivon_options();
        struct optimizer_group groups[2] = {optimizer_group_defaults(methods[m]),
                                            optimizer_group_defaults(methods[m])};
        options.method = methods[m];
        groups[0].rate = groups[1].rate = 0.1;
        groups[0].ess = groups[1].ess = 100;
        struct optimizer *optimizer = make(&options, groups);
        float fine[COUNT], b[COUNT];
        const float *gradients[2] = {fine, b};
        struct optimizer_report report;
        for (size_t i = 0; i < COUNT; i++)
            fine[i] = b[i] = 1;
        b[2] = NAN;
        b[17] = -INFINITY;
        b[20] = 3e38F;                     /* its square overflows, or the ess times it does */
        for (size_t i = 0; i < COUNT; i++) /* SGD: g + wd m does */
            optimizer_mean(optimizer, 1)[i] = 1;
        optimizer_momentum(optimizer, 1)[20] = methods[m] == OPTIMIZER_SGD ? 3e38F : 0;
        assert_int_equal(optimizer_draw(optimizer, NULL), 0);
        assert_int_equal(optimizer_step(optimizer, gradients, 1, true, &report, NULL), 0);
        assert_int_equal(report.bad_gradients, 2);
        assert_int_equal(report.overflows, 1);
        assert_int_equal(report.tensor, 1);
        assert_true(report.updated);
        for (size_t i = 0; i < COUNT; i++)
            assert_int_equal(optimizer_mean(optimizer, 1)[i] == 1, i == 2 || i == 17 || i == 20);
        assert_int_equal(optimizer_steps(optimizer), 1);
        optimizer_free(optimizer);
    }
}

/* One bad sample spoils its element's step, and leaves no trace in the next. */
static void a_bad_sample_spoils_one_step(void **state)
{
    (void)state;
    struct optimizer_options options = ivon_options();
    options.samples = 2;
    struct optimizer *optimizer = make(&options, ivon_groups);
    float ones[COUNT], bad[COUNT];
    for (size_t i = 0; i < COUNT; i++)
        ones[i] = bad[i] = 1;
    bad[3] = INFINITY;
    const float *fine[2] = {ones, ones}, *spoilt[2] = {bad, ones};
    struct optimizer_report report;
    assert_int_equal(optimizer_draw(optimizer, NULL), 0);
    assert_int_equal(optimizer_step(optimizer, spoilt, 1, true, &report, NULL), 0);
    assert_int_equal(report.bad_gradients, 0); /* the step is not complete */
    assert_int_equal(optimizer_step(optimizer, fine, 1, true, &report, NULL), 0);
    assert_int_equal(report.bad_gradients, 1);
    assert_int_equal(report.overflows, 0);
    assert_true(optimizer_mean(optimizer, 0)[3] == 0 && optimizer_mean(optimizer, 0)[2] != 0);
    assert_true(optimizer_hessian(optimizer, 0)[3] == 1);
    for (int sample = 0; sample < 2; sample++)
        assert_int_equal(optimizer_step(optimizer, fine, 1, true, &report, NULL), 0);
    assert_int_equal(report.bad_gradients, 0);
    assert_true(optimizer_mean(optimizer, 0)[3] != 0);
    optimizer_free(optimizer);
}

static void refused(struct optimizer_options options, struct optimizer_group group,
                    const char *message)
{
    struct optimizer *optimizer = NULL;
    struct ivon_error error = {0};
    struct optimizer_tensor tensor = {.name = "w", .count = 1};
    assert_int_equal(optimizer_new(&optimizer, &options, &group, 1, &tensor, 1, &error),
                     IVON_ERROR_ARGUMENT);
    assert_string_equal(error.message, message);
    assert_null(optimizer);
}

static void settings_out_of_range_are_refused(void **state)
{
    (void)state;
    struct optimizer_options options = ivon_options(), other = options;
    struct optimizer_group group = ivon_groups[0], wrong = group;
    wrong.rate = NAN;
    refused(options, wrong,
            "tensor 'w': the learning rate is nan, expected a finite number from 0");
    wrong = group;
    wrong.beta2 = 1;
    refused(options, wrong, "tensor 'w': beta2 is 1, expected at least 0 and below 1");
    wrong = group;
    wrong.ess = 0;
    refused(options, wrong,
            "tensor 'w': the effective sample size is 0, expected a finite number above 0");
    wrong = group;
    wrong.hessian_init = wrong.weight_decay = 0;
    refused(options, wrong,
            "tensor 'w': Hessian plus weight decay is 0, expected a finite number above 0");
    wrong = group;
    wrong.clip = 0;
    refused(options, wrong, "tensor 'w': the clip is 0, expected a finite number above 0");
    other.method = OPTIMIZER_ADAMW;
    wrong = (struct optimizer_group){.rate = 0.1, .beta1 = 0.9, .beta2 = 1.5, .epsilon = 1e-8};
    refused(other, wrong, "tensor 'w': beta2 is 1.5, expected at least 0 and below 1");
    other = options;
    other.samples = 0;
    refused(other, group, "0 Monte-Carlo samples in a step, expected at least 1");
    other.samples = 2;
    other.method = OPTIMIZER_SGD;
    refused(other, group,
            "2 Monte-Carlo samples in a step, expected 1 unless the method draws weights");
    other = options;
    other.norm_clip = 0;
    refused(other, group, "the gradient's norm is clipped at 0, expected a positive number");
    other = options;
    other.method = OPTIMIZER_SGD;
    wrong.beta1 = -1;
    refused(other, wrong, "tensor 'w': the momentum is -1, expected at least 0 and below 1");
    other.method = OPTIMIZER_ADAMW;
    refused(other, group, "tensor 'w': epsilon is 0, expected a finite number above 0");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ivon_follows_algorithm_1),
        cmocka_unit_test(samples_of_a_step_are_averaged),
        cmocka_unit_test(the_hessian_stays_between_its_estimates),
        cmocka_unit_test(samples_go_in_opposite_pairs),
        cmocka_unit_test(lanes_draw_for_themselves),
        cmocka_unit_test(lanes_estimate_with_less_variance),
        cmocka_unit_test(a_posterior_can_be_the_prior),
        cmocka_unit_test(norms_are_clipped),
        cmocka_unit_test(adamw_and_sgd_follow_their_formulas),
        cmocka_unit_test(bayes_by_backprop_follows_its_formulas),
        cmocka_unit_test(hessians_of_wide_posteriors_keep_a_positive_sum),
        cmocka_unit_test(bayes_by_backprop_begins_as_ivon),
        cmocka_unit_test(resumed_trainings_go_on_to_the_same_bits),
        cmocka_unit_test(parameters_are_samples_of_the_posterior),
        cmocka_unit_test(threads_change_no_bit),
        cmocka_unit_test(every_block_is_updated_alike),
        cmocka_unit_test(gradients_that_are_not_finite_move_nothing),
        cmocka_unit_test(a_bad_sample_spoils_one_step),
        cmocka_unit_test(settings_out_of_range_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
