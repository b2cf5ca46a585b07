/* Reductions against loops over every element, their derivatives, hostile axes. */
#include "operator.h"

static int64_t pick(struct trial *trial, int64_t low, int64_t high)
{
    return low + (int64_t)trial_random(trial, 0, (double)(high - low + 1) - 1e-3);
}

enum { OLD = 12, NEW = NET_OPSET_MOST }; /* axes are an attribute, and an input */

static void reduce_begin(struct trial *trial, const char *op, int opset)
{
    trial_begin_row(trial, net_operator_find(NULL, op, opset), 1);
}

/* After the input. */
static void reduce_axes(struct trial *trial, const int64_t *axes, size_t count)
{
    if (trial->node.op->inputs_max > 1)
        trial_integers(trial, 1, (int64_t[]){(int64_t)count}, axes);
    else
        trial_ints(trial, "axes", axes, count);
}

static double join(const char *op, double a, double b)
{
    if (strcmp(op, "ReduceMax") == 0)
        return fmax(a, b);
    if (strcmp(op, "ReduceMin") == 0)
        return fmin(a, b);
    return strcmp(op, "ReduceProd") == 0 ? a * b : a + b;
}

/* Of norms: what an element adds, and what becomes of the sum. */
static double term(const char *op, double x)
{
    if (strcmp(op, "ReduceL1") == 0)
        return fabs(x);
    if (strcmp(op, "ReduceL2") == 0 || strcmp(op, "ReduceSumSquare") == 0)
        return x * x;
    return strcmp(op, "ReduceLogSumExp") == 0 ? exp(x) : x;
}

static double finish(const char *op, double sum)
{
    return strncmp(op, "ReduceLog", 9) == 0 ? log(sum)
           : strcmp(op, "ReduceL2") == 0    ? sqrt(sum)
                                            : sum;
}

struct expected {
    int rank;
    int64_t shape[5];
    size_t count;
    double values[4096], sizes[4096]; /* and sums of sizes */
};

/* Every element's output is found from its index. */
static void reference(const char *op, const struct net_tensor *x, const bool *reduced, bool keep,
                      struct expected *expected)
{
    bool mean = strcmp(op, "ReduceMean") == 0;
    size_t terms = 1;
    expected->rank = 0;
    expected->count = 1;
    for (int i = 0; i < x->rank; i++) {
        if (!reduced[i] || keep)
            expected->shape[expected->rank++] = reduced[i] ? 1 : x->shape[i];
        expected->count *= reduced[i] ? 1 : (size_t)x->shape[i];
        terms *= reduced[i] ? (size_t)x->shape[i] : 1;
    }
    assert_true(expected->count <= 4096);
    bool started[4096] = {false};
    for (size_t at = 0; at < x->count; at++) {
        size_t rest = at, output = 0, step = 1;
        for (int i = x->rank - 1; i >= 0; i--) {
            if (!reduced[i]) {
                output += rest % (size_t)x->shape[i] * step;
                step *= (size_t)x->shape[i];
            }
            rest /= (size_t)x->shape[i];
        }
        double value = x->type == NET_FLOAT ? (double)((float *)x->data)[at]
                                            : (double)((int64_t *)x->data)[at];
        value = term(op, value);
        expected->values[output] = started[output] ? join(op, expected->values[output], value)
                                                   : value;
        expected->sizes[output] = (started[output] ? expected->sizes[output] : 0) + fabs(value);
        started[output] = true;
    }
    for (size_t i = 0; i < expected->count; i++) {
        expected->values[i] = finish(op, expected->values[i]) / (mean ? (double)terms : 1);
        expected->sizes[i] /= mean ? (double)terms : 1;
        if (x->type == NET_INTEGER)
            expected->values[i] = trunc(expected->values[i]);
    }
}

/*
 * Sums of n terms in double differ by less than n 2^-53 of the sum of sizes between two orders, and
 * round once to float: 2^-24 of the result. Extrema are exact. Products in double of up to 1000
 * terms: 1000 * 2^-53 of the result, and the one rounding. Exponentials are floats, right to 2^-23,
 * and so are what they are functions of: their logarithms are right to 2 * 2^-23.
 */
static void check(const char *op, int opset, uint64_t seed, bool integers)
{
    struct trial trial;
    reduce_begin(&trial, op, opset);
    trial.state += seed * 7919;
    bool sum = strcmp(op, "ReduceSum") == 0, logarithm = strncmp(op, "ReduceLog", 9) == 0;
    bool by_input = trial.node.op->inputs_max > 1;
    bool positive = strcmp(op, "ReduceLogSum") == 0;
    bool reduced[5], keep = pick(&trial, 0, 1);
    int rank = (int)pick(&trial, 0, 5);
    int64_t shape[5], axes[5], data[6 * 6 * 6 * 6 * 6 + 64];
    for (int i = 0; i < rank; i++)
        shape[i] = pick(&trial, 0, 3) ? pick(&trial, 2, rank > 2 ? 6 : 60) : 1;
    size_t count = 0;
    for (int i = rank - 1; i >= 0; i--) {
        reduced[i] = pick(&trial, 0, 1);
        if (reduced[i])
            axes[count++] = pick(&trial, 0, 1) ? i : i - rank;
    }
    const struct net_tensor *x;
    if (integers) {
        for (size_t i = 0; i < sizeof data / sizeof data[0]; i++)
            data[i] = pick(&trial, positive ? 1 : -3, 3);
        x = trial_integers(&trial, rank, shape, data);
    } else {
        x = trial_floats(&trial, rank, shape, NULL, positive ? 0.5 : -1, 1);
    }
    bool empty = count == 0, noop = by_input && pick(&trial, 0, 1);
    if (empty && !noop)
        for (int i = 0; i < rank; i++)
            reduced[i] = true;
    if (!empty || pick(&trial, 0, 1))
        reduce_axes(&trial, axes, count);
    trial_int(&trial, "keepdims", keep);
    if (by_input)
        trial_int(&trial, "noop_with_empty_axes", noop);
    assert_int_equal(trial_run(&trial, NULL), 0);

    struct expected expected;
    reference(op, x, reduced, keep, &expected);
    const struct net_tensor *y = &trial.outputs[0];
    assert_int_equal(y->rank, expected.rank);
    for (int i = 0; i < y->rank; i++)
        assert_int_equal(y->shape[i], expected.shape[i]);
    for (size_t i = 0; i < y->count; i++) {
        if (integers) {
            assert_true((double)((int64_t *)y->data)[i] == expected.values[i]);
            continue;
        }
        double found = (double)((float *)y->data)[i];
        double bound = ldexp(fabs(expected.values[i]), -24) +
                       ldexp(fmax(expected.sizes[i], fabs(expected.values[i])), -40);
        if (!(fabs(found - expected.values[i]) <= bound + ldexp(1, logarithm ? -22 : -149)))
            fail_msg("%s, seed %zu, output %zu: %.9g, expected %.9g", op, (size_t)seed, i, found,
                     expected.values[i]);
    }
    /* Linear: a difference over a step of 1/4 rounds to 2^-24 * 60 / (1/4). */
    if (!integers && (sum || strcmp(op, "ReduceMean") == 0))
        trial_check_derivatives(&trial, 1, 0.25, 1e-4, 1e-5);
    trial_end(&trial);
}

static void random_axes(void **state)
{
    (void)state;
    static const char *const operators[] = {
        "ReduceSum", "ReduceMean", "ReduceMax",       "ReduceMin",    "ReduceProd",
        "ReduceL1",  "ReduceL2",   "ReduceSumSquare", "ReduceLogSum", "ReduceLogSumExp"};
    for (size_t i = 0; i < sizeof operators / sizeof operators[0]; i++)
        for (uint64_t seed = 0; seed < 240; seed++)
            check(operators[i], seed % 2 ? NEW : OLD, seed / 2, seed / 2 % 2);
}

/* Elements apart by more than twice a step, so that no other becomes the largest: differences are
   exact but for roundings of 2^-24 / 2^-10. */
static void extrema(void **state)
{
    (void)state;
    static const int64_t shape[] = {3, 4, 5}, axes[][2] = {{0, 1}, {1, 1}, {2, 2}, {0, 2}};
    for (size_t i = 0; i < 8; i++) {
        struct trial trial;
        trial_begin(&trial, i % 2 ? "ReduceMax" : "ReduceMin", 1);
        float *x = trial_floats(&trial, 3, shape, NULL, 0, 1)->data;
        for (size_t j = 0; j < 60; j++)
            x[j] = (float)(j * 37 % 61) / 61;
        reduce_axes(&trial, axes[i / 2], 2);
        assert_int_equal(trial_run(&trial, NULL), 0);
        trial_check_derivatives(&trial, 1, ldexp(1, -10), ldexp(1, -12), 1e-6);
        trial_end(&trial);
    }
}

/*
 * Products of up to 60 terms in [0.97, 1.03], below 1.03^60 = 5.9, with none to three zeros. With a
 * step of 2^-14, two roundings make a difference wrong by 5.9 * 2^-24 * 2^14 < 2^-7, and the third
 * derivative, below 60^3 * 5.9, by 60^3 * 5.9 / 6 * 2^-28 < 2^-10.
 */
static void products(void **state)
{
    (void)state;
    static const int64_t shapes[][3] = {{3, 4, 5}, {1, 60, 2}, {2, 2, 4}, {3, 1, 2}};
    static const int64_t axes[][2] = {{0, 1}, {1, 1}, {2, 2}, {0, 2}};
    for (size_t shape = 0; shape < 4; shape++)
        for (size_t i = 0; i < 4; i++)
            for (size_t zeros = 0; zeros < 4; zeros++) {
                struct trial trial;
                trial_begin(&trial, "ReduceProd", 1);
                const struct net_tensor *x = trial_floats(&trial, 3, shapes[shape], NULL, 0.97,
                                                          1.03);
                for (size_t zero = 0; zero < zeros; zero++)
                    ((float *)x->data)[zero * 7 % x->count] = 0;
                reduce_axes(&trial, axes[i], 2);
                assert_int_equal(trial_run(&trial, NULL), 0);
                trial_check_derivatives(&trial, 1, ldexp(1, -14), ldexp(1, -6), 1e-6);
                trial_end(&trial);
            }
}

static void special(void **state)
{
    (void)state;
    static const int64_t row[] = {40}, none[] = {3, 0};
    for (int i = 0; i < 2; i++)
        for (size_t at = 0; at < 40; at++) {
            struct trial trial;
            trial_begin(&trial, i ? "ReduceMax" : "ReduceMin", 1);
            ((float *)trial_floats(&trial, 1, row, NULL, -1, 1)->data)[at] = NAN;
            assert_int_equal(trial_run(&trial, NULL), 0);
            assert_true(isnan(*(float *)trial.outputs[0].data));
            trial_end(&trial);
        }
    /* Of equal extrema the first has all of the slope. */
    for (int i = 0; i < 2; i++) {
        const float x[] = {1, i ? 2 : -2, i ? 2 : -2, 0}, v[] = {5, 6, 7, 8}, dy = 3;
        float dx[4] = {1, 1, 1, 1}, moved = NAN;
        static const int64_t four[] = {4};
        struct trial trial;
        trial_begin(&trial, i ? "ReduceMax" : "ReduceMin", 1);
        memcpy(trial_floats(&trial, 1, four, NULL, 0, 1)->data, x, sizeof x);
        assert_int_equal(trial_run(&trial, NULL), 0);
        trial.node.op->backward(&trial.call, (const float *[]){&dy}, (float *[]){dx});
        trial.node.op->tangent(&trial.call, (const float *[]){v}, (float *[]){&moved});
        assert_memory_equal(dx, ((const float[]){1, 4, 1, 1}), sizeof dx);
        assert_true(moved == 6);
        trial_end(&trial);
    }
    /* nothing to reduce */
    static const struct {
        const char *op;
        double value;
    } cases[] = {{"ReduceSum", 0},
                 {"ReduceProd", 1},
                 {"ReduceMax", -INFINITY},
                 {"ReduceMin", INFINITY},
                 {"ReduceL1", 0},
                 {"ReduceL2", 0},
                 {"ReduceLogSum", -INFINITY},
                 {"ReduceLogSumExp", -INFINITY}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct trial trial;
        trial_begin(&trial, cases[i].op, 1);
        trial_floats(&trial, 2, none, NULL, 0, 1);
        static const int64_t last[] = {-1};
        reduce_axes(&trial, last, 1);
        assert_int_equal(trial_run(&trial, NULL), 0);
        assert_int_equal(trial.outputs[0].count, 3);
        for (size_t j = 0; j < 3; j++)
            assert_true((double)((float *)trial.outputs[0].data)[j] == cases[i].value);
        trial_end(&trial);
    }
    /* A million tenths: float sums would be off by 1e-3 of the result. */
    struct trial trial;
    trial_begin(&trial, "ReduceSum", 1);
    static const int64_t million[] = {1000000};
    float *x = trial_floats(&trial, 1, million, NULL, 0, 1)->data;
    for (size_t i = 0; i < 1000000; i++)
        x[i] = 0.1F;
    assert_int_equal(trial_run(&trial, NULL), 0);
    assert_true(*(float *)trial.outputs[0].data == (float)(1e6 * (double)0.1F));
    trial_end(&trial);
}

/* Exponentials that floats do not hold; an infinity among them or alone. */
static void far_exponentials(void **state)
{
    (void)state;
    static const float x[][2] = {
        {500, 501}, {-500, -501}, {-INFINITY, 2}, {-INFINITY, -INFINITY}, {INFINITY, 1}};
    const double expected[] = {501 + log1p(exp(-1)), -500 + log1p(exp(-1)), 2, -INFINITY, INFINITY};
    const float dy = 1;
    for (size_t i = 0; i < 5; i++) {
        struct trial trial;
        float dx[2] = {0, 0};
        trial_begin(&trial, "ReduceLogSumExp", 1);
        trial_floats(&trial, 1, (const int64_t[]){2}, x[i], 0, 0);
        assert_int_equal(trial_run(&trial, NULL), 0);
        assert_true(*(float *)trial.outputs[0].data == (float)expected[i]);
        trial.node.op->backward(&trial.call, (const float *[]){&dy}, (float *[]){dx});
        for (size_t j = 0; j < 2 && i < 4; j++) {
            double share = x[i][j] == -INFINITY ? 0 : exp((double)x[i][j] - expected[i]);
            assert_true(fabs((double)dx[j] - share) < 1e-4); /* of an output of 500, rounded */
        }
        trial_end(&trial);
    }
}

static void refuse(struct trial *trial, const char *expected)
{
    struct ivon_error error;
    assert_int_equal(trial->node.op->infer(&trial->call, &error), IVON_ERROR_DATA);
    if (!strstr(error.message, expected))
        fail_msg("'%s' does not hold '%s'", error.message, expected);
    trial_end(trial);
}

static void refuses(void **state)
{
    (void)state;
    struct trial trial;
    static const int64_t shape[] = {2, 3}, axes[] = {2, -3, INT64_MIN, INT64_MAX};
    for (size_t i = 0; i < 4; i++) {
        reduce_begin(&trial, "ReduceMean", OLD);
        trial_floats(&trial, 2, shape, NULL, 0, 1);
        reduce_axes(&trial, axes + i, 1);
        refuse(&trial, "of an input of shape 2x3");
        trial_begin(&trial, "ReduceSum", 1);
        trial_floats(&trial, 2, shape, NULL, 0, 1);
        trial_integers(&trial, 1, (int64_t[]){1}, axes + i);
        refuse(&trial, "of an input of shape 2x3");
    }
    trial_begin(&trial, "ReduceSum", 1);
    trial_floats(&trial, 2, shape, NULL, 0, 1);
    trial_floats(&trial, 1, shape, NULL, 0, 1);
    refuse(&trial, "axes have type float");
    trial_begin(&trial, "ReduceSum", 1);
    trial_floats(&trial, 2, shape, NULL, 0, 1);
    struct net_tensor *unknown = trial_integers(&trial, 1, shape, axes);
    free(unknown->data);
    unknown->data = NULL;
    refuse(&trial, "axes that depend on the input");
    trial_begin(&trial, "ReduceMean", 1);
    trial_integers(&trial, 1, shape, axes)->type = NET_BOOLEAN;
    refuse(&trial, "input 0 is of type boolean, expected float or integer");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_axes),      cmocka_unit_test(extrema),
        cmocka_unit_test(products),         cmocka_unit_test(special),
        cmocka_unit_test(far_exponentials), cmocka_unit_test(refuses)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
