/* LayerNormalization of rows without elements: y has none either, but each row still has a mean and
   a deviation. That of nothing is no number, and neither is what moves it; both are set. */

#include "operator.h"

static void expect_no_numbers(const float *values, size_t count)
{
    for (size_t i = 0; i < count; i++)
        assert_true(isnan(values[i]));
}

static void moments_of_nothing(void **state)
{
    (void)state;
    enum { ROWS = 6 };
    static const int64_t shape[] = {3, 2, 0};
    struct trial trial;
    float mean[ROWS] = {0}, inverse[ROWS] = {0}, adjoint[ROWS] = {0}, nothing = 0;
    trial_begin(&trial, "LayerNormalization", 3);
    trial_floats(&trial, 3, shape, NULL, -1, 1);
    trial_floats(&trial, 1, shape + 2, NULL, -1, 1);
    assert_int_equal(trial_run(&trial, NULL), 0);
    assert_int_equal(trial.outputs[0].count, 0);
    assert_int_equal(trial.outputs[1].count, ROWS);
    expect_no_numbers(trial.outputs[1].data, ROWS);
    expect_no_numbers(trial.outputs[2].data, ROWS);
    trial.node.op->tangent(&trial.call, (const float *const[]){&nothing, NULL},
                           (float *const[]){&nothing, mean, inverse});
    expect_no_numbers(mean, ROWS);
    expect_no_numbers(inverse, ROWS);
    trial.node.op->backward(&trial.call, (const float *const[]){&nothing, adjoint, adjoint},
                            (float *const[]){&nothing, &nothing});
    assert_true(nothing == 0);
    trial_end(&trial);
}

/* Where nobody asks for the moments, there is nothing to do, however many rows a file names. */
static void many_rows(void **state)
{
    (void)state;
    static const int64_t shape[] = {INT64_C(1) << 60, 0};
    struct trial trial;
    trial_begin(&trial, "LayerNormalization", 1);
    trial_floats(&trial, 2, shape, NULL, -1, 1);
    trial_floats(&trial, 1, shape + 1, NULL, -1, 1);
    assert_int_equal(trial_run(&trial, NULL), 0);
    assert_int_equal(trial.outputs[0].count, 0);
    trial_end(&trial);
}

static int infer_nothing(struct net_call *call, struct ivon_error *error)
{
    (void)call;
    (void)error;
    return 0;
}

static int expect_workspace(const struct net_call *call, struct ivon_error *error)
{
    (void)error;
    assert_int_equal(call->workspace_size, 0);
    assert_non_null(call->workspace);
    return 0;
}

/* A workspace of no bytes is somewhere, too: operators count from where it begins. */
static void a_workspace_is_always_there(void **state)
{
    (void)state;
    static const struct net_operator op = {
        .name = "Nothing", .infer = infer_nothing, .forward = expect_workspace};
    struct net_node node = {.op = &op, .name = (char *)"nothing"};
    struct net_call call = {.node = &node};
    assert_int_equal(net_call_evaluate(&call, NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(moments_of_nothing),
        cmocka_unit_test(many_rows),
        cmocka_unit_test(a_workspace_is_always_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
