/*
 * Matrices with bases, against float64 numpy over a thousand steps
 * (tests/oracle/optimizer_reference.py bases), and what must hold beside the formulas.
 *
 * Tolerance of the former, 1e-5: L and R, of some tens of gradients, are rounded with every step,
 * and their eigenvectors err by that over the gaps, of half an eigenvalue and more:
 * 2^-24 √20 / (1/2) = 5e-7. A basis that is off by an angle puts the noise of its draws off by as
 * much, which stays in h for some hundred steps and 10 refreshes: √10 · 5e-7 = 1.6e-6, beside the
 * 5.7e-6 that rounding alone leaves there (optimizer.c). Numbers are compared on the scale of the
 * largest of the array; momenta, which vanish, on that of the gradients' terms, 1.
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
#include "optimizer_groups.h"
#include "train/optimizer/optimizer.h"

enum { ROWS = 4, COLUMNS = 5, COUNT = ROWS * COLUMNS, STEPS = 1000, SEED = 5, EVERY = 10 };

static const struct reference {
    const char *name;
    struct {
        double mean[COUNT], hessian[COUNT], momentum[COUNT], left[25], right[25], left_moment[25],
            right_moment[25];
    } tensors[2];
} references[] = {
#include "bases_reference.h"
};

static const struct reference *reference_of(const char *name)
{
    for (size_t i = 0; i < sizeof references / sizeof *references; i++)
        if (strcmp(references[i].name, name) == 0)
            return &references[i];
    fail_msg("no reference '%s'", name);
    return references;
}

/* H D H, n × n, with the reflection H along (1, 2, 3, …), and D = largest, largest/ratio, … */
static void spread(size_t n, double largest, double ratio, double *matrix)
{
    double square = 0;
    for (size_t i = 0; i < n; i++)
        square += (double)((i + 1) * (i + 1));
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++) {
            matrix[i * n + j] = 0;
            for (size_t k = 0; k < n; k++) {
                double left = (double)(i == k) - 2 * (double)((i + 1) * (k + 1)) / square;
                double right = (double)(j == k) - 2 * (double)((j + 1) * (k + 1)) / square;
                matrix[i * n + j] += left * largest / pow(ratio, (double)k) * right;
            }
        }
}

/* A (X − T) B + 0.3 sin 2X, T = 1 + i/10 + sin(1.7 (i + 1) (step + 1)) for element i. */
static void gradient_of(size_t rows, size_t columns, const float *x, uint64_t step, float *g)
{
    double a[25], b[25], product[COUNT];
    spread(rows, 2, 2, a);
    spread(columns, 2, 2.5, b);
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < columns; j++) {
            product[i * columns + j] = 0;
            for (size_t k = 0; k < rows; k++) {
                size_t at = k * columns + j;
                double target = 1 + (double)at / 10 + sin(1.7 * (double)((at + 1) * (step + 1)));
                product[i * columns + j] += a[i * rows + k] * ((double)x[at] - target);
            }
        }
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < columns; j++) {
            double sum = 0.3 * sin(2 * (double)x[i * columns + j]);
            for (size_t k = 0; k < columns; k++)
                sum += product[i * columns + k] * b[k * columns + j];
            g[i * columns + j] = (float)sum;
        }
}

static const struct optimizer_tensor tensors[] = {
    {"a.weight", COUNT, 0, .rows = ROWS, .columns = COLUMNS, .left = true, .right = true},
    {"b.weight", COUNT, 1, .rows = COLUMNS, .columns = ROWS, .right = true}};

static struct optimizer_options options_of(unsigned samples)
{
    return (struct optimizer_options){.samples = samples,
                                      .seed = SEED,
                                      .norm_clip = INFINITY,
                                      .basis_every = EVERY,
                                      .basis_beta = 0.9};
}

static struct optimizer *make(const struct optimizer_options *options,
                              const struct optimizer_group groups[2],
                              const struct optimizer_tensor both[2])
{
    struct optimizer *optimizer = NULL;
    struct ivon_error error = {0};
    if (optimizer_new(&optimizer, options, groups, 2, both, 2, &error))
        fail_msg("%s", error.message);
    return optimizer;
}

static void run(struct optimizer *optimizer, uint64_t calls)
{
    float gradients[2][COUNT];
    const float *both[2] = {gradients[0], gradients[1]};
    struct optimizer_report report;
    for (uint64_t call = 0; call < calls; call++) {
        for (size_t t = 0; t < 2; t++)
            gradient_of(t ? COLUMNS : ROWS, t ? ROWS : COLUMNS, optimizer_parameter(optimizer, t),
                        optimizer_steps(optimizer), gradients[t]);
        assert_int_equal(optimizer_step(optimizer, both, 1, true, &report, NULL), 0);
        assert_int_equal(report.bad_gradients + report.overflows, 0);
    }
}

static void compare(const char *name, const char *what, const float *found, const double *expected,
                    double scale, size_t count)
{
    for (size_t i = 0; i < count; i++)
        scale = fmax(scale, fabs(expected[i]));
    for (size_t i = 0; i < count; i++)
        if (!(fabs((double)found[i] - expected[i]) <= 1e-5 * scale))
            fail_msg("%s: %s %zu is %.9g, expected %.9g", name, what, i, (double)found[i],
                     expected[i]);
}

static void check(const char *name, struct optimizer *optimizer, unsigned samples)
{
    const struct reference *reference = reference_of(name);
    assert_int_equal(optimizer_draw(optimizer, NULL), 0);
    run(optimizer, (uint64_t)samples * STEPS);
    assert_int_equal(optimizer_steps(optimizer), STEPS);
    assert_int_equal(optimizer_place_means(optimizer, NULL), 0);
    assert_null(optimizer_basis(optimizer, 1, false));
    for (size_t t = 0; t < 2; t++) {
        size_t rows = t ? COLUMNS : ROWS, columns = t ? ROWS : COLUMNS;
        compare(name, "mean", optimizer_network_mean(optimizer, t), reference->tensors[t].mean, 0,
                COUNT);
        compare(name, "Hessian", optimizer_hessian(optimizer, t), reference->tensors[t].hessian, 0,
                COUNT);
        compare(name, "momentum", optimizer_momentum(optimizer, t), reference->tensors[t].momentum,
                1, COUNT);
        if (t == 0) {
            compare(name, "left basis", optimizer_basis(optimizer, t, false),
                    reference->tensors[t].left, 0, rows * rows);
            compare(name, "left moment", optimizer_basis_moment(optimizer, t, false),
                    reference->tensors[t].left_moment, 0, rows * rows);
        }
        compare(name, "right basis", optimizer_basis(optimizer, t, true),
                reference->tensors[t].right, 0, columns * columns);
        compare(name, "right moment", optimizer_basis_moment(optimizer, t, true),
                reference->tensors[t].right_moment, 0, columns * columns);
    }
    optimizer_free(optimizer);
}

static void evon_follows_its_formulas(void **state)
{
    (void)state;
    struct optimizer_options options = options_of(1);
    check("evon", make(&options, ivon_groups, tensors), 1);
    options = options_of(3);
    options.norm_clip = 0.5;
    check("evon samples", make(&options, ivon_groups, tensors), 3);
    options = options_of(1);
    options.hessian_every = 3;
    check("evon every", make(&options, ivon_groups, tensors), 1);
}

static void soap_follows_its_formulas(void **state)
{
    (void)state;
    struct optimizer_options options = options_of(1);
    options.method = OPTIMIZER_ADAMW;
    check("soap", make(&options, adamw_groups, tensors), 1);
}

/* In bases that stay identities, products with them are exact: IVON to the bit. */
static void identities_give_ivon(void **state)
{
    (void)state;
    static const struct optimizer_tensor plain[] = {
        {.name = "a.weight", .count = COUNT}, {.name = "b.weight", .count = COUNT, .group = 1}};
    struct optimizer_options options = options_of(2);
    options.basis_every = 0;
    options.norm_clip = 2;
    struct optimizer *evon = make(&options, ivon_groups, tensors);
    struct optimizer *ivon = make(&options, ivon_groups, plain);
    assert_int_equal(optimizer_draw(evon, NULL), 0);
    assert_int_equal(optimizer_draw(ivon, NULL), 0);
    run(evon, 300);
    run(ivon, 300);
    assert_int_equal(optimizer_place_means(evon, NULL), 0);
    for (size_t t = 0; t < 2; t++) {
        size_t size = COUNT * sizeof(float);
        const float *mean = optimizer_network_mean(evon, t);
        assert_ptr_not_equal(mean, optimizer_mean(evon, t));
        assert_memory_equal(mean, optimizer_network_mean(ivon, t), size);
        assert_memory_equal(optimizer_hessian(evon, t), optimizer_hessian(ivon, t), size);
        assert_memory_equal(optimizer_momentum(evon, t), optimizer_momentum(ivon, t), size);
        assert_memory_equal(optimizer_parameter(evon, t), optimizer_parameter(ivon, t), size);
    }
    optimizer_free(evon);
    optimizer_free(ivon);
}

static void copy_state(struct optimizer *to, struct optimizer *from)
{
    for (size_t t = 0; t < 2; t++) {
        memcpy(optimizer_mean(to, t), optimizer_mean(from, t), COUNT * sizeof(float));
        memcpy(optimizer_hessian(to, t), optimizer_hessian(from, t), COUNT * sizeof(float));
        memcpy(optimizer_momentum(to, t), optimizer_momentum(from, t), COUNT * sizeof(float));
        for (int right = t == 1; right < 2; right++) {
            size_t n = right == (t == 0) ? COLUMNS : ROWS, size = n * n * sizeof(float);
            memcpy(optimizer_basis(to, t, right), optimizer_basis(from, t, right), size);
            memcpy(optimizer_basis_moment(to, t, right), optimizer_basis_moment(from, t, right),
                   size);
        }
    }
}

static void resumed_trainings_go_on_to_the_same_bits(void **state)
{
    (void)state;
    struct optimizer_options options = options_of(2);
    options.basis_every = 3;
    struct optimizer *whole = make(&options, ivon_groups, tensors);
    assert_int_equal(optimizer_draw(whole, NULL), 0);
    for (uint64_t steps = 1; steps < 5; steps++) { /* with new bases at the end, and without */
        struct optimizer *second = make(&options, ivon_groups, tensors);
        run(whole, 2);
        copy_state(second, whole);
        optimizer_resume(second, steps);
        assert_int_equal(optimizer_draw(second, NULL), 0);
        for (size_t t = 0; t < 2; t++)
            assert_memory_equal(optimizer_parameter(second, t), optimizer_parameter(whole, t),
                                COUNT * sizeof(float));
        optimizer_free(second);
    }
    struct optimizer *second = make(&options, ivon_groups, tensors);
    copy_state(second, whole);
    optimizer_resume(second, 4);
    assert_int_equal(optimizer_draw(second, NULL), 0);
    run(whole, 14);
    run(second, 14);
    for (size_t t = 0; t < 2; t++)
        assert_memory_equal(optimizer_parameter(second, t), optimizer_parameter(whole, t),
                            COUNT * sizeof(float));
    optimizer_free(second);
    optimizer_free(whole);
}

/* Matrices of several pieces, the last of them not whole. */
static void threads_change_no_bit(void **state)
{
    (void)state;
    enum { TALL = 150, WIDE = 90, LARGE = TALL * WIDE, RUNS = 2 };
    const struct optimizer_tensor both[] = {
        {"w", LARGE, 0, .rows = TALL, .columns = WIDE, .left = true, .right = true},
        {"v", LARGE, 1, .rows = WIDE, .columns = TALL, .left = true}};
    struct optimizer_options options = options_of(1);
    struct optimizer *optimizers[RUNS];
    struct thread_pool *pool;
    float *gradient = malloc(LARGE * sizeof *gradient);
    const float *gradients[2] = {gradient, gradient};
    options.basis_every = 2;
    assert_int_equal(thread_pool_new(&pool, 3, NULL), 0);
    for (int r = 0; r < RUNS; r++) {
        struct optimizer_report report;
        options.thread_pool = r ? pool : NULL;
        optimizers[r] = make(&options, ivon_groups, both);
        assert_int_equal(optimizer_draw(optimizers[r], NULL), 0);
        for (size_t step = 0; step < 4; step++) {
            for (size_t i = 0; i < LARGE; i++)
                gradient[i] = 1e-3F * (float)((i + 3 * step) * 7919 % 1000) - 0.5F;
            assert_int_equal(optimizer_step(optimizers[r], gradients, 1, true, &report, NULL), 0);
        }
    }
    for (size_t t = 0; t < 2; t++) {
        assert_memory_equal(optimizer_mean(optimizers[1], t), optimizer_mean(optimizers[0], t),
                            LARGE * sizeof(float));
        assert_memory_equal(optimizer_parameter(optimizers[1], t),
                            optimizer_parameter(optimizers[0], t), LARGE * sizeof(float));
    }
    const float *moment = optimizer_basis_moment(optimizers[0], 0, false);
    for (size_t i = 0; i < TALL; i++)
        for (size_t j = 0; j < TALL; j++)
            assert_true(moment[i * TALL + j] == moment[j * TALL + i] && moment[i * TALL + j] != 0);
    for (int r = 0; r < RUNS; r++)
        optimizer_free(optimizers[r]);
    thread_pool_free(pool);
    free(gradient);
}

static void refused(struct optimizer_options options, struct optimizer_tensor tensor,
                    const char *message)
{
    struct optimizer *optimizer = NULL;
    struct ivon_error error = {0};
    assert_int_equal(optimizer_new(&optimizer, &options, ivon_groups, 1, &tensor, 1, &error),
                     IVON_ERROR_ARGUMENT);
    assert_string_equal(error.message, message);
}

static void errors(void **state)
{
    (void)state;
    struct optimizer_options options = options_of(1), wrong = options;
    struct optimizer_tensor tensor = tensors[0];
    struct optimizer *optimizer = make(&options, ivon_groups, tensors);
    struct optimizer_report report;
    struct ivon_error error = {0};
    float large[COUNT];
    const float *gradients[2] = {large, large};
    for (size_t i = 0; i < COUNT; i++)
        large[i] = 1e25F; /* whose square is beyond floats */
    assert_int_equal(optimizer_draw(optimizer, NULL), 0);
    assert_int_equal(optimizer_step(optimizer, gradients, 1, true, &report, &error),
                     IVON_ERROR_DATA);
    assert_string_equal(error.message,
                        "tensor 'a.weight': the second moments of its gradients are not finite: "
                        "lower the learning rate, or clip the gradient's norm");
    optimizer_free(optimizer);
    wrong.basis_beta = 1;
    refused(wrong, tensor, "beta3 is 1, expected at least 0 and below 1");
    tensor.columns = 7;
    refused(options, tensor,
            "tensor 'a.weight': a basis of 4 rows and 7 columns, expected one of its 20 elements, "
            "and a method that has bases");
    wrong = options;
    wrong.method = OPTIMIZER_SGD;
    refused(wrong, tensors[0],
            "tensor 'a.weight': a basis of 4 rows and 5 columns, expected one of its 20 elements, "
            "and a method that has bases");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(evon_follows_its_formulas),
        cmocka_unit_test(soap_follows_its_formulas),
        cmocka_unit_test(identities_give_ivon),
        cmocka_unit_test(resumed_trainings_go_on_to_the_same_bits),
        cmocka_unit_test(threads_change_no_bit),
        cmocka_unit_test(errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
