/* Element-wise operators against definitions applied to one element at a time. */
#include <stdio.h>

#include "elementwise.h"

#include "core/error.h"

/* Of floats. */

static double relu(double x, double y)
{
    (void)y;
    return x < 0 ? 0 : x;
}
#define UNARY(name, value)                                                                         \
    static double name(double x, double y)                                                         \
    {                                                                                              \
        (void)y;                                                                                   \
        return value;                                                                              \
    }
#define BINARY(name, value)                                                                        \
    static double name(double x, double y)                                                         \
    {                                                                                              \
        return value;                                                                              \
    }
UNARY(negative, -x)
UNARY(absolute, fabs(x))
UNARY(sign, x > 0 ? 1 : x < 0 ? -1 : x)
UNARY(reciprocal, 1 / x)
UNARY(root, sqrt(x))
UNARY(exponential, exp(x))
UNARY(logarithm, log(x))
UNARY(rounded, rint(x))
UNARY(lower, floor(x))
UNARY(upper, ceil(x))
UNARY(error_function, erf(x))
UNARY(hyperbolic_tangent, tanh(x))
UNARY(sigmoid, 1 / (1 + exp(-x)))
UNARY(softplus, x > 30 ? x : log1p(exp(x)))
UNARY(leaky_relu, x < 0 ? (double)0.3F * x : x)
UNARY(elu, x < 0 ? 0.75 * expm1(x) : x)
UNARY(hard_sigmoid, isnan(x) ? x : fmin(1, fmax(0, 0.25 * x + 0.625)))
/* Products in arguments of macros would be taken for declarations. */
/* clang-format off */
UNARY(hard_swish, isnan(x) ? x : x * fmin(1, fmax(0, x / 6 + 0.5)))
BINARY(sum, x + y)
BINARY(difference, x - y)
BINARY(product, x * y)
/* clang-format on */
BINARY(quotient, x / y)
BINARY(power, pow(x, y))
BINARY(larger, isnan(x) || isnan(y) ? NAN : x > y ? x : y)
BINARY(smaller, isnan(x) || isnan(y) ? NAN : x < y ? x : y)
BINARY(mean, (double)(float)(x + y) / 2)

/*
 * Errors in ulp: 0 where the operation is one IEEE operation, which double rounds twice without
 * harm (53 digits are more than 2·24 + 1); the bounds of core/vector_math.h; hard_sigmoid rounds
 * twice before the clamp, and hard_swish three times, with cancellation next to -3: an absolute
 * error.
 */
static const struct float_case {
    const char *name;
    int inputs;
    double (*oracle)(double, double);
    double ulps, absolute;
    float alpha, beta; /* attributes, where not 0 */
} float_cases[] = {
    {"Neg", 1, negative, 0, 0, 0, 0},
    {"Abs", 1, absolute, 0, 0, 0, 0},
    {"Sign", 1, sign, 0, 0, 0, 0},
    {"Reciprocal", 1, reciprocal, 0, 0, 0, 0},
    {"Sqrt", 1, root, 0, 0, 0, 0},
    {"Exp", 1, exponential, 1, 0, 0, 0},
    {"Log", 1, logarithm, 1, 0, 0, 0},
    {"Round", 1, rounded, 0, 0, 0, 0},
    {"Floor", 1, lower, 0, 0, 0, 0},
    {"Ceil", 1, upper, 0, 0, 0, 0},
    {"Erf", 1, error_function, 1.5, 0, 0, 0},
    {"Tanh", 1, hyperbolic_tangent, 2.5, 0, 0, 0},
    {"Sigmoid", 1, sigmoid, 2.5, 0, 0, 0},
    {"Softplus", 1, softplus, 2, 0, 0, 0},
    {"Relu", 1, relu, 0, 0, 0, 0},
    {"LeakyRelu", 1, leaky_relu, 0, 0, 0.3F, 0},
    {"Elu", 1, elu, 2.5, 0, 0.75F, 0},
    {"HardSigmoid", 1, hard_sigmoid, 1, 0x1p-23, 0.25F, 0.625F},
    {"HardSwish", 1, hard_swish, 2, 0x1p-21, 0, 0},
    {"Add", 2, sum, 0, 0, 0, 0},
    {"Sub", 2, difference, 0, 0, 0, 0},
    {"Mul", 2, product, 0, 0, 0, 0},
    {"Div", 2, quotient, 0, 0, 0, 0},
    {"Pow", 2, power, 0.5 + 0x1p-10, 0, 0, 0},
    {"Max", 2, larger, 0, 0, 0, 0},
    {"Min", 2, smaller, 0, 0, 0, 0},
    {"Sum", 2, sum, 0, 0, 0, 0},
    {"Mean", 2, mean, 0, 0, 0, 0},
};

enum { FLOAT_CASE_COUNT = sizeof float_cases / sizeof float_cases[0] };

static void begin_case(struct trial *trial, const struct float_case *test)
{
    trial_begin(trial, test->name, 1);
    if (test->alpha != 0)
        trial_number(trial, "alpha", (double)test->alpha);
    if (test->beta != 0)
        trial_number(trial, "beta", (double)test->beta);
}

static void check_floats(const struct trial *trial, const struct float_case *test)
{
    const struct net_tensor *output = &trial->outputs[0];
    const struct net_tensor *a = &trial->inputs[0], *b = &trial->inputs[test->inputs - 1];
    for (size_t i = 0; i < output->count; i++) {
        double x = (double)((const float *)a->data)[element(a, output, i)];
        double y = (double)((const float *)b->data)[element(b, output, i)];
        double exact = test->oracle(x, y);
        float found = ((const float *)output->data)[i], nearest = (float)exact;
        int exponent;
        (void)frexp(exact, &exponent);
        double ulp = exponent < -125 ? 0x1p-149 : ldexp(1, exponent - 24);
        bool fine = test->ulps > 0 && isfinite(nearest) && nearest != 0
                        ? fabs((double)found - exact) <= test->ulps * ulp + test->absolute
                        : found == nearest || (isnan(found) && isnan(nearest));
        if (!fine)
            fail_msg("%s(%a, %a) = %a, expected %a", test->name, x, y, (double)found, exact);
    }
}

static void maps_floats(void **state)
{
    (void)state;
    for (size_t i = 0; i < FLOAT_CASE_COUNT; i++)
        for (size_t j = 0; j < PAIR_COUNT; j++) {
            struct trial trial;
            begin_case(&trial, &float_cases[i]);
            for (int k = 0; k < float_cases[i].inputs; k++)
                trial_floats(&trial, pairs[j].rank[k], pairs[j].shape[k], NULL, -5, 5);
            assert_int_equal(trial_run(&trial, NULL), 0);
            check_floats(&trial, &float_cases[i]);
            trial_end(&trial);
        }
}

static const float edges[] = {0,     -0.0F,    1,         -1,       0.5F,    -0.5F,    2,
                              -2,    2.5F,     -2.5F,     3,        -3,      1e-45F,   -1e-45F,
                              1e38F, -1e38F,   3.4e38F,   -3.4e38F, 8388609, INFINITY, -INFINITY,
                              NAN,   1.1e-38F, -1.1e-38F, 88.9F,    -103.9F, 16777216, 1e-20F};

enum { EDGE_COUNT = sizeof edges / sizeof edges[0] };

/* Each to each: what IEEE and C say of infinities, NaN and zeros. */
static void maps_edges(void **state)
{
    (void)state;
    for (size_t i = 0; i < FLOAT_CASE_COUNT; i++) {
        struct trial trial;
        begin_case(&trial, &float_cases[i]);
        trial_floats(&trial, 2, (const int64_t[]){EDGE_COUNT, 1}, edges, 0, 0);
        if (float_cases[i].inputs == 2)
            trial_floats(&trial, 1, (const int64_t[]){EDGE_COUNT}, edges, 0, 0);
        assert_int_equal(trial_run(&trial, NULL), 0);
        check_floats(&trial, &float_cases[i]);
        trial_end(&trial);
    }
}

static void keeps_the_sign_of_zero(void **state)
{
    (void)state;
    static const char *const odd[] = {"Abs",   "Neg",  "Sqrt",  "Erf", "Tanh",
                                      "Floor", "Ceil", "Round", "Relu"};
    for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++) {
        struct trial trial;
        trial_begin(&trial, odd[i], 1);
        trial_floats(&trial, 1, (const int64_t[]){1}, (const float[]){-0.0F}, 0, 0);
        assert_int_equal(trial_run(&trial, NULL), 0);
        float expected = i < 2 ? 0.0F : -0.0F;
        assert_true(same_float(*(const float *)trial.outputs[0].data, expected));
        trial_end(&trial);
    }
}

/* Max, Min, Sum and Mean of any number. */
static void takes_any_number(void **state)
{
    (void)state;
    static const char *const names[] = {"Max", "Min", "Sum", "Mean"};
    for (size_t n = 1; n <= 7; n++)
        for (size_t k = 0; k < 4; k++) {
            struct trial trial;
            trial_begin(&trial, names[k], 1);
            for (size_t i = 0; i < n; i++)
                trial_floats(&trial, 2, (const int64_t[]){i % 2 ? 1 : 45, i % 3 ? 31 : 1}, NULL, -1,
                             1);
            assert_int_equal(trial_run(&trial, NULL), 0);
            for (size_t i = 0; i < trial.outputs[0].count; i++) {
                float expected = 0;
                for (size_t j = 0; j < n; j++) {
                    const struct net_tensor *input = &trial.inputs[j];
                    float x = ((const float *)input->data)[element(input, &trial.outputs[0], i)];
                    expected = j == 0   ? x
                               : k == 0 ? fmaxf(expected, x)
                               : k == 1 ? fminf(expected, x)
                                        : expected + x;
                }
                expected = k == 3 ? expected / (float)n : expected;
                assert_true(((const float *)trial.outputs[0].data)[i] == expected);
            }
            trial_end(&trial);
        }
}

/* Of integers. */

static const int64_t whole[] = {0,
                                1,
                                -1,
                                2,
                                -2,
                                3,
                                7,
                                -7,
                                63,
                                64,
                                1000,
                                -1000,
                                INT64_MAX,
                                INT64_MIN,
                                INT64_MAX - 1,
                                INT64_MIN + 1,
                                3037000500,
                                1 << 30};

enum { WHOLE_COUNT = sizeof whole / sizeof whole[0] };

static int64_t power_by_products(int64_t a, int64_t b)
{
    uint64_t result = 1;
    for (int64_t i = 0; i < b && i < 5000; i++)
        result *= (uint64_t)a;
    return (int64_t)result;
}

static int64_t expected_integer(const char *name, int64_t a, int64_t b)
{
    uint64_t x = (uint64_t)a, y = (uint64_t)b;
    if (strcmp(name, "Add") == 0)
        return (int64_t)(x + y);
    if (strcmp(name, "Sub") == 0)
        return (int64_t)(x - y);
    if (strcmp(name, "Mul") == 0)
        return (int64_t)(x * y);
    if (strcmp(name, "Div") == 0)
        return b == -1 ? (int64_t)(0 - x) : a / b;
    if (strcmp(name, "Max") == 0)
        return a > b ? a : b;
    if (strcmp(name, "Min") == 0)
        return a < b ? a : b;
    if (strcmp(name, "Pow") == 0)
        return power_by_products(a, b);
    if (strcmp(name, "Neg") == 0)
        return (int64_t)(0 - x);
    if (strcmp(name, "Abs") == 0)
        return a < 0 ? (int64_t)(0 - x) : a;
    assert_string_equal(name, "Sign");
    return a > 0 ? 1 : a < 0 ? -1 : 0;
}

static void maps_integers(void **state)
{
    (void)state;
    static const char *const names[] = {"Add", "Sub", "Mul", "Div", "Max",
                                        "Min", "Pow", "Neg", "Abs", "Sign"};
    static const int64_t exponents[] = {0, 1, 2, 3, 5, 62, 63, 64, 65, 4999};
    for (size_t k = 0; k < 10; k++)
        for (size_t j = 0; j < PAIR_COUNT; j++) {
            struct trial trial;
            trial_begin(&trial, names[k], 1);
            add_integers(&trial, pairs[j].rank[0], pairs[j].shape[0], whole, WHOLE_COUNT);
            if (k == 6)
                add_integers(&trial, pairs[j].rank[1], pairs[j].shape[1], exponents, 10);
            else if (k < 7) /* Div: without the 0 */
                add_integers(&trial, pairs[j].rank[1], pairs[j].shape[1], whole + (k == 3),
                             WHOLE_COUNT - (k == 3));
            assert_int_equal(trial_run(&trial, NULL), 0);
            const struct net_tensor *output = &trial.outputs[0];
            const struct net_tensor *a = &trial.inputs[0], *b = &trial.inputs[k < 7];
            assert_int_equal(output->type, NET_INTEGER);
            const int64_t *left = a->data, *right = b->data, *found = output->data;
            for (size_t i = 0; i < output->count; i++)
                assert_int_equal(found[i], expected_integer(names[k], left[element(a, output, i)],
                                                            right[element(b, output, i)]));
            trial_end(&trial);
        }
}

static void refuses_integer_division_by_zero(void **state)
{
    (void)state;
    for (int64_t zero = 0; zero < 3; zero++) {
        struct ivon_error error;
        struct trial trial;
        char expected[64];
        int64_t divisor[] = {1, 2, 3};
        divisor[zero] = 0;
        trial_begin(&trial, "Div", 1);
        trial_integers(&trial, 1, (const int64_t[]){3}, (const int64_t[]){1, 2, 3});
        trial_integers(&trial, 1, (const int64_t[]){3}, divisor);
        assert_int_equal(trial_run(&trial, &error), IVON_ERROR_DATA);
        snprintf(expected, sizeof expected,
                 "node 'trial' (Div): element %d of its integer divisor is 0", (int)zero);
        assert_string_equal(error.message, expected);
        trial_end(&trial);
    }
}

static void mixes_types_in_powers(void **state)
{
    (void)state;
    struct trial trial;
    trial_begin(&trial, "Pow", 1); /* floats to integers */
    trial_floats(&trial, 1, (const int64_t[]){6}, (const float[]){2, -2, 1.5F, 0, 3, -1.1F}, 0, 0);
    trial_integers(&trial, 1, (const int64_t[]){6}, (const int64_t[]){-1, 3, 2, 0, 1, 5});
    assert_int_equal(trial_run(&trial, NULL), 0);
    static const float expected[] = {0.5F, -8, 2.25F, 1, 3, -1.61051F};
    for (size_t i = 0; i < 6; i++)
        assert_true(fabsf(((const float *)trial.outputs[0].data)[i] - expected[i]) < 1e-6F);
    trial_end(&trial);

    trial_begin(&trial, "Pow", 1); /* integers to floats, which are truncated */
    trial_integers(&trial, 1, (const int64_t[]){6}, (const int64_t[]){2, -2, 2, 0, 10, -2});
    trial_floats(&trial, 1, (const int64_t[]){6}, (const float[]){10, 3, 0.5F, -1, -1, 0.5F}, 0, 0);
    assert_int_equal(trial_run(&trial, NULL), 0);
    static const int64_t integers[] = {1024, -8, 1, 0, 0, 0};
    for (size_t i = 0; i < 6; i++)
        assert_int_equal(((const int64_t *)trial.outputs[0].data)[i], integers[i]);
    trial_end(&trial);

    static const int64_t bases[] = {1, -1, -1, 5, 0}, negative_powers[] = {-3, -3, -4, -1, -1};
    static const int64_t inverse[] = {1, -1, 1, 0, 0};
    trial_begin(&trial, "Pow", 1);
    trial_integers(&trial, 1, (const int64_t[]){5}, bases);
    trial_integers(&trial, 1, (const int64_t[]){5}, negative_powers);
    assert_int_equal(trial_run(&trial, NULL), 0);
    for (size_t i = 0; i < 5; i++)
        assert_int_equal(((const int64_t *)trial.outputs[0].data)[i], inverse[i]);
    trial_end(&trial);
}

/* A variance's square takes the short way for a scalar, and another for a tensor of twos. */
static void gives_one_power_the_same_bits(void **state)
{
    (void)state;
    static const float powers[] = {1, 2, 3};
    for (size_t k = 0; k < 3; k++) {
        struct trial trial;
        trial_begin(&trial, "Pow", 1);
        trial_floats(&trial, 1, (const int64_t[]){2000}, NULL, -3, 3);
        struct net_tensor *power = trial_floats(&trial, 1, (const int64_t[]){2000}, NULL, 0.5, 0.6);
        for (size_t i = 1; i < 2000; i++)
            if (i != 1024)
                ((float *)power->data)[i] = powers[k];
        assert_int_equal(trial_run(&trial, NULL), 0);
        float kept[2000];
        memcpy(kept, trial.outputs[0].data, sizeof kept);
        for (size_t i = 0; i < 2000; i++)
            ((float *)power->data)[i] = powers[k];
        assert_int_equal(trial.node.op->forward(&trial.call, NULL), 0);
        for (size_t i = 1; i < 2000; i++)
            if (i != 1024)
                assert_true(same_float(((const float *)trial.outputs[0].data)[i], kept[i]));
        trial_end(&trial);
    }
}

/* Clip. */

static void clips(void **state)
{
    (void)state;
    static const float low = -0.5F, high = 0.75F;
    for (unsigned bounds = 0; bounds < 4; bounds++)
        for (int integers = 0; integers < 2; integers++) {
            struct trial trial;
            trial_begin(&trial, "Clip", 1);
            static const int64_t least = -7, most = 63;
            if (integers)
                add_integers(&trial, 2, (const int64_t[]){30, 50}, whole, WHOLE_COUNT);
            else
                trial_floats(&trial, 2, (const int64_t[]){30, 50}, NULL, -2, 2);
            if (!(bounds & 1))
                trial_skip(&trial);
            else if (integers)
                trial_integers(&trial, 0, NULL, &least);
            else
                trial_floats(&trial, 0, NULL, &low, 0, 0);
            if (bounds & 2 && integers)
                trial_integers(&trial, 1, (const int64_t[]){1}, &most);
            else if (bounds & 2)
                trial_floats(&trial, 1, (const int64_t[]){1}, &high, 0, 0);
            assert_int_equal(trial_run(&trial, NULL), 0);
            assert_int_equal(trial.outputs[0].rank, 2);
            for (size_t i = 0; i < 1500; i++) {
                if (integers) {
                    int64_t x = ((const int64_t *)trial.inputs[0].data)[i];
                    x = bounds & 1 && x < least ? least : x;
                    x = bounds & 2 && x > most ? most : x;
                    assert_int_equal(((const int64_t *)trial.outputs[0].data)[i], x);
                } else {
                    float x = ((const float *)trial.inputs[0].data)[i];
                    x = bounds & 1 && x < low ? low : x;
                    x = bounds & 2 && x > high ? high : x;
                    assert_true(((const float *)trial.outputs[0].data)[i] == x);
                }
            }
            trial_end(&trial);
        }
}

static void check_rectified(const struct trial *trial)
{
    const struct net_tensor *x = &trial->inputs[0], *slope = &trial->inputs[1];
    const struct net_tensor *y = &trial->outputs[0];
    assert_true(net_same_shape(x, y));
    for (size_t i = 0; i < y->count; i++) {
        float a = ((const float *)x->data)[i],
              b = ((const float *)slope->data)[element(slope, y, i)];
        assert_true(same_float(((const float *)y->data)[i], a < 0 ? a * b : a));
    }
}

/* PRelu: its slope is broadcast to x alone. */
static void rectifies(void **state)
{
    (void)state;
    for (size_t j = 0; j < PAIR_COUNT; j++) {
        struct trial trial;
        bool fits = pair_keeps_first(&pairs[j]);
        trial_begin(&trial, "PRelu", 1);
        for (int k = 0; k < 2; k++)
            trial_floats(&trial, pairs[j].rank[k], pairs[j].shape[k], NULL, -5, 5);
        assert_int_equal(trial_run(&trial, NULL), fits ? 0 : IVON_ERROR_DATA);
        if (fits)
            check_rectified(&trial);
        trial_end(&trial);
    }
}

/* Each to each, and in place. */
static void rectifies_edges(void **state)
{
    (void)state;
    enum { COUNT = EDGE_COUNT * EDGE_COUNT };
    float x[COUNT], slopes[COUNT], kept[COUNT];
    for (size_t i = 0; i < COUNT; i++) {
        x[i] = edges[i / EDGE_COUNT];
        slopes[i] = edges[i % EDGE_COUNT];
    }
    for (size_t shared = 0; shared < 2; shared++) {
        struct trial trial;
        trial_begin(&trial, "PRelu", 1);
        trial_floats(&trial, 1, (const int64_t[]){COUNT}, x, 0, 0);
        trial_floats(&trial, 1, (const int64_t[]){COUNT}, slopes, 0, 0);
        assert_int_equal(trial_run(&trial, NULL), 0);
        check_rectified(&trial);
        void *own = trial.outputs[0].data;
        memcpy(kept, own, sizeof kept);
        trial.outputs[0].data = trial.inputs[shared].data;
        assert_int_equal(trial.node.op->forward(&trial.call, NULL), 0);
        for (size_t i = 0; i < COUNT; i++)
            assert_true(same_float(((const float *)trial.outputs[0].data)[i], kept[i]));
        trial.outputs[0].data = own;
        trial_end(&trial);
    }
}

static void refuses(const char *op, const char *message, void (*build)(struct trial *))
{
    struct ivon_error error;
    struct trial trial;
    trial_begin(&trial, op, 1);
    build(&trial);
    assert_int_equal(trial_run(&trial, &error), IVON_ERROR_DATA);
    assert_string_equal(error.message, message);
    trial_end(&trial);
}

static const int64_t three = 3, four = 4;

static void float_and_integers(struct trial *trial)
{
    trial_floats(trial, 0, NULL, NULL, 0, 1);
    trial_integers(trial, 1, &three, whole);
}

static void two_shapes(struct trial *trial)
{
    trial_floats(trial, 2, (const int64_t[]){2, 3}, NULL, 0, 1);
    trial_floats(trial, 1, &four, NULL, 0, 1);
}

static void larger_slope(struct trial *trial)
{
    trial_floats(trial, 1, &three, NULL, 0, 1);
    trial_floats(trial, 2, (const int64_t[]){2, 3}, NULL, 0, 1);
}

static void booleans(struct trial *trial)
{
    add_booleans(trial, 1, &three);
    add_booleans(trial, 1, &three);
}

static void integers(struct trial *trial)
{
    trial_integers(trial, 1, &three, whole);
}

static void one_left_out(struct trial *trial)
{
    trial_floats(trial, 1, &three, NULL, 0, 1);
    trial_skip(trial);
    trial_floats(trial, 1, &three, NULL, 0, 1);
}

static void two_bounds(struct trial *trial)
{
    trial_floats(trial, 1, &three, NULL, 0, 1);
    trial_floats(trial, 1, &three, NULL, 0, 1);
}

static void integer_bound(struct trial *trial)
{
    trial_floats(trial, 1, &three, NULL, 0, 1);
    trial_integers(trial, 0, NULL, whole);
}

static void too_large(struct trial *trial) /* together only: nothing has 2^64 elements */
{
    trial_floats(trial, 2, (const int64_t[]){1, 1}, NULL, 0, 1);
    trial_floats(trial, 2, (const int64_t[]){1, 1}, NULL, 0, 1);
    trial->inputs[0].shape[0] = trial->inputs[1].shape[1] = INT64_C(1) << 32;
    trial->inputs[0].count = trial->inputs[1].count = (size_t)1 << 32;
}

static void refuses_strange_inputs(void **state)
{
    (void)state;
    refuses("Add", "node 'trial' (Add): input 1 is of type integer, input 0 of type float",
            float_and_integers);
    refuses("Max", "node 'trial' (Max): input 1 is of type integer, input 0 of type float",
            float_and_integers);
    refuses("Mul", "node 'trial' (Mul): input 1 is 4, which does not broadcast to 2x3", two_shapes);
    refuses("Sub", "node 'trial' (Sub): input 0 is of type boolean, expected float or integer",
            booleans);
    refuses("Exp", "node 'trial' (Exp): input 0 is of type integer, expected float", integers);
    refuses("Max", "node 'trial' (Max): input 1 is left out", one_left_out);
    refuses("Clip", "node 'trial' (Clip): input 1 is 3, expected a scalar", two_bounds);
    refuses("Clip", "node 'trial' (Clip): input 1 is of type integer, expected float",
            integer_bound);
    refuses("PRelu",
            "node 'trial' (PRelu): its slope of shape 2x3 does not broadcast to the input's, 3",
            larger_slope);
    refuses("Pow", "node 'trial' (Pow): input 0 is of type boolean, expected float or integer",
            booleans);
    refuses("Add", "a tensor of shape 4294967296x4294967296 is too large", too_large);
}

/* Dropout and Identity pass their input on. */

static void drops_nothing(void **state)
{
    (void)state;
    struct ivon_error error;
    for (unsigned training = 0; training < 3; training++) {
        struct trial trial;
        trial_begin(&trial, "Dropout", 2);
        trial_floats(&trial, 2, (const int64_t[]){7, 11}, NULL, -1, 1);
        trial_floats(&trial, 0, NULL, (const float[]){0.5F}, 0, 0);
        struct net_tensor *mode = add_booleans(&trial, 0, NULL);
        *(unsigned char *)mode->data = training == 1;
        void *data = mode->data;
        if (training == 2)
            mode->data = NULL; /* not known when the plan is made */
        int code = trial_run(&trial, &error);
        if (training) {
            assert_int_equal(code, IVON_ERROR_DATA);
            assert_non_null(strstr(error.message, "training mode"));
        } else {
            assert_int_equal(code, 0);
            assert_memory_equal(trial.outputs[0].data, trial.inputs[0].data, 77 * sizeof(float));
            for (size_t i = 0; i < 77; i++)
                assert_int_equal(((const unsigned char *)trial.outputs[1].data)[i], 1);
        }
        mode->data = data;
        trial_end(&trial);
    }
}

/* Steps that may write where an input is do so to the same effect. */
static void works_in_place(void **state)
{
    (void)state;
    for (size_t i = 0; i < FLOAT_CASE_COUNT; i++)
        for (int shared = 0; shared < float_cases[i].inputs; shared++) {
            struct trial trial;
            begin_case(&trial, &float_cases[i]);
            if (!(trial.node.op->flags & NET_IN_PLACE))
                continue;
            for (int k = 0; k < float_cases[i].inputs; k++)
                trial_floats(&trial, 2, (const int64_t[]){k == shared ? 30 : 1, 70}, NULL, -5, 5);
            assert_int_equal(trial_run(&trial, NULL), 0);
            float kept[2100];
            memcpy(kept, trial.outputs[0].data, sizeof kept);
            void *own = trial.outputs[0].data;
            trial.outputs[0].data = trial.inputs[shared].data;
            assert_int_equal(trial.node.op->forward(&trial.call, NULL), 0);
            for (size_t j = 0; j < 2100; j++)
                assert_true(same_float(((const float *)trial.outputs[0].data)[j], kept[j]));
            trial.outputs[0].data = own;
            trial_end(&trial);
        }
}

/* Integers in place too, with both operands of the output's size. */
static void works_in_place_on_integers(void **state)
{
    (void)state;
    static const char *const names[] = {"Add", "Sub", "Mul"};
    for (size_t k = 0; k < 3; k++)
        for (size_t shared = 0; shared < 2; shared++) {
            struct trial trial;
            trial_begin(&trial, names[k], 1);
            for (size_t i = 0; i < 2; i++)
                add_integers(&trial, 1, (const int64_t[]){1500}, whole, WHOLE_COUNT);
            assert_int_equal(trial_run(&trial, NULL), 0);
            int64_t kept[1500];
            memcpy(kept, trial.outputs[0].data, sizeof kept);
            void *own = trial.outputs[0].data;
            trial.outputs[0].data = trial.inputs[shared].data;
            assert_int_equal(trial.node.op->forward(&trial.call, NULL), 0);
            assert_memory_equal(trial.outputs[0].data, kept, sizeof kept);
            trial.outputs[0].data = own;
            trial_end(&trial);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(maps_floats),
        cmocka_unit_test(maps_edges),
        cmocka_unit_test(keeps_the_sign_of_zero),
        cmocka_unit_test(takes_any_number),
        cmocka_unit_test(maps_integers),
        cmocka_unit_test(refuses_integer_division_by_zero),
        cmocka_unit_test(mixes_types_in_powers),
        cmocka_unit_test(gives_one_power_the_same_bits),
        cmocka_unit_test(clips),
        cmocka_unit_test(rectifies),
        cmocka_unit_test(rectifies_edges),
        cmocka_unit_test(refuses_strange_inputs),
        cmocka_unit_test(drops_nothing),
        cmocka_unit_test(works_in_place),
        cmocka_unit_test(works_in_place_on_integers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
