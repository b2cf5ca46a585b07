/* Derivatives of element-wise operators: differences, adjoints, sums over broadcast axes. */
#include "elementwise.h"

/*
 * Inputs keep clear of kinks by more than the step. With a step of 2^-7 the difference is wrong by
 * 2^-23/2^-7 times the output's size (below 8), and by step²/6 times the third derivative, which is
 * below 10 for these ranges: 2^-13 and 2^-13.3; 2^-11 leaves room for their sum over two inputs.
 * The identity is a sum of products of up to six rounded factors, each relative to its size, and of
 * adjoints that were added to 1: 8·2^-24.
 */
static const double step = 0x1p-7, difference_tolerance = 0x1p-11, identity_tolerance = 0x1p-21;

static const struct derivative_case {
    const char *name;
    size_t inputs;
    double low[2], high[2];
    float alpha, beta;
} cases[] = {
    {"Neg", 1, {-2}, {2}, 0, 0},
    {"Abs", 1, {0.1}, {2}, 0, 0},
    {"Abs", 1, {-2}, {-0.1}, 0, 0},
    {"Sign", 1, {-2}, {-0.1}, 0, 0},
    {"Reciprocal", 1, {-2}, {-1.2}, 0, 0},
    {"Sqrt", 1, {0.6}, {3}, 0, 0},
    {"Exp", 1, {-2}, {2}, 0, 0},
    {"Log", 1, {0.8}, {3}, 0, 0},
    {"Round", 1, {0.6}, {1.4}, 0, 0},
    {"Floor", 1, {-0.9}, {-0.1}, 0, 0},
    {"Ceil", 1, {2.1}, {2.9}, 0, 0},
    {"Erf", 1, {-2}, {2}, 0, 0},
    {"Tanh", 1, {-2}, {2}, 0, 0},
    {"Sigmoid", 1, {-4}, {4}, 0, 0},
    {"Softplus", 1, {-4}, {4}, 0, 0},
    {"Relu", 1, {0.1}, {2}, 0, 0},
    {"Relu", 1, {-2}, {-0.1}, 0, 0},
    {"LeakyRelu", 1, {0.1}, {2}, 0.3F, 0},
    {"LeakyRelu", 1, {-2}, {-0.1}, 0.3F, 0},
    {"Elu", 1, {0.1}, {2}, 0.75F, 0},
    {"Elu", 1, {-2}, {-0.1}, 0.75F, 0},
    {"HardSigmoid", 1, {-2.4}, {1.4}, 0.25F, 0.625F},
    {"HardSigmoid", 1, {1.6}, {3}, 0.25F, 0.625F},
    {"HardSigmoid", 1, {-4}, {-2.6}, 0.25F, 0.625F},
    {"HardSwish", 1, {-2.9}, {2.9}, 0, 0},
    {"HardSwish", 1, {3.1}, {4}, 0, 0},
    {"HardSwish", 1, {-4}, {-3.1}, 0, 0},
    {"Sin", 1, {-4}, {4}, 0, 0},
    {"Cos", 1, {-4}, {4}, 0, 0},
    {"Tan", 1, {-0.8}, {0.8}, 0, 0},
    {"Asin", 1, {-0.6}, {0.6}, 0, 0},
    {"Acos", 1, {-0.6}, {0.6}, 0, 0},
    {"Atan", 1, {-2}, {2}, 0, 0},
    {"Sinh", 1, {-2}, {2}, 0, 0},
    {"Cosh", 1, {-2}, {2}, 0, 0},
    {"Asinh", 1, {-2}, {2}, 0, 0},
    {"Acosh", 1, {1.6}, {3}, 0, 0},
    {"Atanh", 1, {-0.5}, {0.5}, 0, 0},
    {"Celu", 1, {0.1}, {2}, 0.75F, 0},
    {"Celu", 1, {-2}, {-0.1}, 0.75F, 0},
    {"Selu", 1, {0.1}, {2}, 1.5F, 0},
    {"Selu", 1, {-2}, {-0.1}, 1.5F, 0},
    {"ThresholdedRelu", 1, {0.3}, {2}, 0.2F, 0},
    {"ThresholdedRelu", 1, {-2}, {0.1}, 0.2F, 0},
    {"Shrink", 1, {0.6}, {2}, 0, 0},
    {"Shrink", 1, {-2}, {-0.6}, 0, 0},
    {"Shrink", 1, {-0.4}, {0.4}, 0, 0},
    {"Softsign", 1, {0.1}, {2}, 0, 0},
    {"Softsign", 1, {-2}, {-0.1}, 0, 0},
    {"Mish", 1, {-4}, {4}, 0, 0},
    {"Swish", 1, {-4}, {4}, 0.5F, 0},
    {"Gelu", 1, {-4}, {4}, 0, 0},
    {"Add", 2, {-2, -2}, {2, 2}, 0, 0},
    {"Sub", 2, {-2, -2}, {2, 2}, 0, 0},
    {"Mul", 2, {-2, -2}, {2, 2}, 0, 0},
    {"Div", 2, {-2, 1.2}, {2, 2}, 0, 0},
    {"Pow", 2, {1, -1}, {2, 2}, 0, 0},
    {"Max", 2, {-2, -2}, {2, 2}, 0, 0},
    {"Min", 2, {-2, -2}, {2, 2}, 0, 0},
    {"Sum", 2, {-2, -2}, {2, 2}, 0, 0},
    {"Mean", 2, {-2, -2}, {2, 2}, 0, 0},
    {"Cast", 1, {-2}, {2}, 0, 0},
    {"CastLike", 1, {-2}, {2}, 0, 0}, /* as Cast */
    {"Clip", 1, {-2}, {2}, 0, 0},     /* in tests of their own */
    {"Where", 1, {-2}, {2}, 0, 0},
    {"PRelu", 2, {-2, -2}, {2, 2}, 0, 0},
    {"Identity", 1, {-2}, {2}, 0, 0},
    {"Dropout", 1, {-2}, {2}, 0, 0},
};

enum { CASE_COUNT = sizeof cases / sizeof cases[0] };

static bool has_own_test(const char *name)
{
    return strcmp(name, "Clip") == 0 || strcmp(name, "Where") == 0 || strcmp(name, "PRelu") == 0 ||
           strcmp(name, "CastLike") == 0 || strcmp(name, "Identity") == 0 ||
           strcmp(name, "Dropout") == 0;
}

/* Numbers on two grids that are 1/8 apart at least: no extreme changes within a step. */
static void space(struct net_tensor *tensor, float offset)
{
    float *data = tensor->data;
    for (size_t i = 0; i < tensor->count; i++)
        data[i] = roundf(data[i] * 4) / 4 + offset;
}

static void differentiates(void **state)
{
    (void)state;
    for (size_t i = 0; i < CASE_COUNT; i++)
        for (size_t j = 0; j < PAIR_COUNT; j++) {
            const struct derivative_case *test = &cases[i];
            struct trial trial;
            if (has_own_test(test->name))
                continue;
            trial_begin(&trial, test->name, 1);
            if (test->alpha != 0)
                trial_number(&trial, "alpha", (double)test->alpha);
            if (test->beta != 0)
                trial_number(&trial, "beta", (double)test->beta);
            if (strcmp(test->name, "Cast") == 0)
                trial_int(&trial, "to", 1);
            for (size_t k = 0; k < test->inputs; k++) {
                struct net_tensor *input = trial_floats(&trial, pairs[j].rank[k], pairs[j].shape[k],
                                                        NULL, test->low[k], test->high[k]);
                if (strcmp(test->name, "Max") == 0 || strcmp(test->name, "Min") == 0)
                    space(input, k ? 0.125F : 0);
            }
            assert_int_equal(trial_run(&trial, NULL), 0);
            trial_check_derivatives(&trial, 3, step, difference_tolerance, identity_tolerance);
            if (test->inputs == 2) {
                trial_check_derivatives(&trial, 1, step, difference_tolerance, identity_tolerance);
                trial_check_derivatives(&trial, 2, step, difference_tolerance, identity_tolerance);
            }
            trial_end(&trial);
        }
}

/* No operator of these families that takes floats to floats goes without a test of derivatives. */
static void leaves_none_out(void **state)
{
    (void)state;
    static const struct net_operator *const families[] = {
        net_elementwise_operators, net_activation_operators, net_trigonometry_operators,
        net_arithmetic_operators,  net_power_operators,      net_logic_operators};
    enum { FAMILIES = sizeof families / sizeof families[0] };
    static const char *const without[] = {
        "Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "And",
        "Or",    "Xor",  "Not",         "IsNaN",   "IsInf",          "BitCast"};
    for (size_t f = 0; f < FAMILIES; f++)
        for (const struct net_operator *row = families[f]; row->name; row++) {
            bool found = false, boolean = false;
            if (row->domain) /* unit-forward has cases of them */
                continue;
            for (size_t i = 0; i < CASE_COUNT; i++)
                found |= strcmp(cases[i].name, row->name) == 0;
            for (size_t i = 0; i < 12; i++)
                boolean |= strcmp(without[i], row->name) == 0;
            if (found == boolean || found != (row->backward && row->tangent))
                fail_msg("%s", row->name);
        }
}

static void differentiates_several(void **state)
{
    (void)state;
    static const char *const names[] = {"Max", "Min", "Sum", "Mean"};
    for (size_t k = 0; k < 4; k++) {
        struct trial trial;
        trial_begin(&trial, names[k], 1);
        for (size_t i = 0; i < 4; i++)
            space(trial_floats(&trial, 2, (const int64_t[]){i % 2 ? 1 : 40, i % 3 ? 31 : 1}, NULL,
                               -2, 2),
                  (float)i / 16);
        assert_int_equal(trial_run(&trial, NULL), 0);
        trial_check_derivatives(&trial, 15, step, difference_tolerance, identity_tolerance);
        trial_check_derivatives(&trial, 5, step, difference_tolerance, identity_tolerance);
        trial_end(&trial);
    }
}

/* Among equals the slope is shared. */
static void shares_between_equals(void **state)
{
    (void)state;
    struct trial trial;
    trial_begin(&trial, "Max", 1);
    for (int i = 0; i < 3; i++)
        trial_floats(&trial, 1, (const int64_t[]){2},
                     i ? (const float[]){5, 5} : (const float[]){5, 4}, 0, 0);
    assert_int_equal(trial_run(&trial, NULL), 0);
    float adjoints[3][2] = {{0}}, one[2] = {3, 4};
    trial.node.op->backward(&trial.call, (const float *const[]){one},
                            (float *const[]){adjoints[0], adjoints[1], adjoints[2]});
    for (int i = 0; i < 3; i++) {
        assert_true(fabsf(adjoints[i][0] - 1) < 1e-6F);
        assert_true(adjoints[i][1] == (i ? 2.0F : 0.0F));
    }
    trial_end(&trial);
}

static void differentiates_powers(void **state)
{
    (void)state;
    static const float powers[] = {2, 3, 1, 0, -1, 0.5F, 4};
    for (size_t k = 0; k < 7; k++) {
        struct trial trial;
        trial_begin(&trial, "Pow", 1);
        trial_floats(&trial, 1, (const int64_t[]){1500}, NULL, 0.8, 1.6);
        trial_floats(&trial, 0, NULL, &powers[k], 0, 0);
        for (size_t i = 0; i < 1500 && k < 4; i += 2)
            ((float *)trial.inputs[0].data)[i] *= -1;
        assert_int_equal(trial_run(&trial, NULL), 0);
        /* the fourth derivative and the size are larger here: 24·1.6 and 6.6 */
        trial_check_derivatives(&trial, 1, step, 4 * difference_tolerance, identity_tolerance);
        trial_end(&trial);
    }
    struct trial trial; /* an exponent of integers has no derivative */
    trial_begin(&trial, "Pow", 1);
    trial_floats(&trial, 2, (const int64_t[]){3, 1}, NULL, 0.8, 1.6);
    trial_integers(&trial, 1, (const int64_t[]){4}, (const int64_t[]){0, 1, 2, -1});
    assert_int_equal(trial_run(&trial, NULL), 0);
    trial_check_derivatives(&trial, 3, step, difference_tolerance, identity_tolerance);
    trial_end(&trial);
}

/* d/db a^b at a = 0 is 0, and d/da at b = 0. */
static void has_no_slope_at_zero(void **state)
{
    (void)state;
    struct trial trial;
    trial_begin(&trial, "Pow", 1);
    trial_floats(&trial, 1, (const int64_t[]){3}, (const float[]){0, 0, 2}, 0, 0);
    trial_floats(&trial, 1, (const int64_t[]){3}, (const float[]){0, 2, 0}, 0, 0);
    assert_int_equal(trial_run(&trial, NULL), 0);
    float base[3] = {0}, exponent[3] = {0};
    trial.node.op->backward(&trial.call, (const float *const[]){(const float[]){1, 1, 1}},
                            (float *const[]){base, exponent});
    assert_true(base[0] == 0 && base[1] == 0 && base[2] == 0);
    assert_true(exponent[0] == 0 && exponent[1] == 0);
    assert_true(fabsf(exponent[2] - 0.693147F) < 1e-6F);
    trial_end(&trial);
}

static void differentiates_clip(void **state)
{
    (void)state;
    for (unsigned bounds = 0; bounds < 4; bounds++) {
        struct trial trial;
        trial_begin(&trial, "Clip", 1);
        space(trial_floats(&trial, 2, (const int64_t[]){30, 50}, NULL, -2, 2), 0.125F);
        if (bounds & 1)
            trial_floats(&trial, 0, NULL, (const float[]){-0.5F}, 0, 0);
        else
            trial_skip(&trial);
        if (bounds & 2)
            trial_floats(&trial, 1, (const int64_t[]){1}, (const float[]){1}, 0, 0);
        assert_int_equal(trial_run(&trial, NULL), 0);
        trial_check_derivatives(&trial, 7, step, difference_tolerance, identity_tolerance);
        trial_check_derivatives(&trial, 1, step, difference_tolerance, identity_tolerance);
        trial_end(&trial);
    }
}

/* Of x on both sides of 0, with slopes of its shape, of channels, of rows, and one. */
static void differentiates_rectifiers(void **state)
{
    (void)state;
    static const struct {
        int rank;
        int64_t shape[3];
    } slopes[] = {{3, {4, 30, 50}}, {2, {30, 1}}, {1, {50}}, {3, {4, 1, 1}}, {1, {1}}, {0, {0}}};
    for (size_t j = 0; j < sizeof slopes / sizeof slopes[0]; j++) {
        struct trial trial;
        trial_begin(&trial, "PRelu", 1);
        space(trial_floats(&trial, 3, (const int64_t[]){4, 30, 50}, NULL, -2, 2), 0.125F);
        trial_floats(&trial, slopes[j].rank, slopes[j].shape, NULL, -2, 2);
        assert_int_equal(trial_run(&trial, NULL), 0);
        for (unsigned wanted = 1; wanted <= 3; wanted++)
            trial_check_derivatives(&trial, wanted, step, difference_tolerance, identity_tolerance);
        trial_end(&trial);
    }
}

/* At 0 the derivative of PRelu in x is the slope, and in the slope 0. */
static void rectifies_at_zero(void **state)
{
    (void)state;
    struct trial trial;
    trial_begin(&trial, "PRelu", 1);
    trial_floats(&trial, 1, (const int64_t[]){3}, (const float[]){0, -2, 2}, 0, 0);
    trial_floats(&trial, 1, (const int64_t[]){1}, (const float[]){0.25F}, 0, 0);
    assert_int_equal(trial_run(&trial, NULL), 0);
    float x[3] = {0}, slope = 0;
    trial.node.op->backward(&trial.call, (const float *const[]){(const float[]){1, 1, 1}},
                            (float *const[]){x, &slope});
    assert_true(x[0] == 0.25F && x[1] == 0.25F && x[2] == 1 && slope == -2);
    trial_end(&trial);
}

static void differentiates_where(void **state)
{
    (void)state;
    for (size_t j = 0; j < PAIR_COUNT; j++)
        for (size_t order = 0; order < 3; order++) {
            struct trial trial;
            trial_begin(&trial, "Where", 1);
            for (size_t k = 0; k < 3; k++) {
                size_t side = (k + order) % 3 ? 1 : 0;
                if (k == 0)
                    add_booleans(&trial, pairs[j].rank[side], pairs[j].shape[side]);
                else
                    trial_floats(&trial, pairs[j].rank[side], pairs[j].shape[side], NULL, -2, 2);
            }
            assert_int_equal(trial_run(&trial, NULL), 0);
            trial_check_derivatives(&trial, 6, step, difference_tolerance, identity_tolerance);
            trial_end(&trial);
        }
}

static void passes_on(void **state)
{
    (void)state;
    static const char *const names[] = {"Identity", "Dropout"};
    for (size_t k = 0; k < 2; k++) {
        struct trial trial;
        trial_begin(&trial, names[k], 1);
        trial_floats(&trial, 1, (const int64_t[]){3}, NULL, -1, 1);
        assert_int_equal(trial.node.op->infer(&trial.call, NULL), 0);
        assert_int_equal(trial.outputs[0].count, 3);
        const float *adjoint = (const float[]){1, 2, 3};
        float sum[3] = {10, 20, 30}, tangent[3] = {NAN, NAN, NAN};
        trial.node.op->backward(&trial.call, &adjoint, (float *const[]){sum});
        assert_memory_equal(sum, ((const float[]){11, 22, 33}), sizeof sum);
        trial.node.op->tangent(&trial.call, &adjoint, (float *const[]){tangent});
        assert_memory_equal(tangent, adjoint, sizeof tangent);
        trial.node.op->tangent(&trial.call, (const float *const[]){NULL},
                               (float *const[]){tangent});
        assert_memory_equal(tangent, ((const float[]){0, 0, 0}), sizeof tangent);
        trial_end(&trial);
    }
}

/* A bias's adjoint over 2^20 elements: sums in float would be wrong by up to 2^-5, and are by 2^-14
   or so; sums in double are rounded once. */
static void sums_in_double(void **state)
{
    (void)state;
    static const int64_t shapes[2][2] = {{1 << 20, 1}, {1 << 18, 4}};
    for (size_t k = 0; k < 2; k++) {
        struct trial trial;
        trial_begin(&trial, "Add", 1);
        trial_floats(&trial, 2, shapes[k], NULL, 0, 1);
        size_t columns = (size_t)shapes[k][1];
        trial_floats(&trial, 1, &shapes[k][1], NULL, 0, 1);
        assert_int_equal(trial_run(&trial, NULL), 0);
        const float *adjoint = trial.inputs[0].data;
        float sum[4] = {0};
        trial.node.op->backward(&trial.call, &adjoint, (float *const[]){NULL, sum});
        for (size_t i = 0; i < columns; i++) {
            double expected = 0;
            for (size_t j = i; j < 1 << 20; j += columns)
                expected += (double)adjoint[j];
            assert_true(fabs((double)sum[i] - expected) <= 0x1p-23 * expected);
        }
        trial_end(&trial);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(differentiates),
        cmocka_unit_test(leaves_none_out),
        cmocka_unit_test(differentiates_several),
        cmocka_unit_test(shares_between_equals),
        cmocka_unit_test(differentiates_powers),
        cmocka_unit_test(has_no_slope_at_zero),
        cmocka_unit_test(differentiates_clip),
        cmocka_unit_test(differentiates_where),
        cmocka_unit_test(differentiates_rectifiers),
        cmocka_unit_test(rectifies_at_zero),
        cmocka_unit_test(passes_on),
        cmocka_unit_test(sums_in_double),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
