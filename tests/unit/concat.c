/* Concat and Split: against index-by-index references for every element type, and their
   derivatives. */
#include "tests/unit/elements.h"

static void concatenates(void **state)
{
    (void)state;
    static const int64_t extents[] = {2, 0, 1, 5};
    for (int axis = -1; axis < 3; axis++)
        for (enum net_type type = NET_FLOAT; type <= NET_BOOLEAN; type++) {
            struct trial trial;
            int at = axis < 0 ? 2 : axis;
            trial_begin(&trial, "Concat", 1);
            trial_int(&trial, "axis", axis);
            for (size_t i = 0; i < 4; i++) {
                int64_t shape[3] = {3, 4, 2};
                shape[at] = extents[i];
                add_numbered(&trial, type, 3, shape);
            }
            assert_int_equal(trial_run(&trial, NULL), 0);
            assert_int_equal(trial.outputs->shape[at], 8);
            for (size_t n = 0; n < trial.outputs->count; n++) {
                int64_t index[3];
                size_t from = 0;
                index_of(trial.outputs, n, index);
                for (; index[at] >= extents[from]; from++)
                    index[at] -= extents[from];
                same_element(trial.outputs, n, &trial.inputs[from],
                             number(&trial.inputs[from], index), "Concat");
            }
            if (type == NET_FLOAT) {
                for (size_t i = 0; i < 4; i++)
                    for (size_t n = 0; n < trial.inputs[i].count; n++)
                        ((float *)trial.inputs[i].data)[n] = trial_random(&trial, -1, 1);
                trial_check_derivatives(&trial, 15, 1.0, difference_tolerance, identity_tolerance);
                trial_check_derivatives(&trial, 4, 1.0, difference_tolerance, identity_tolerance);
            }
            trial_end(&trial);
        }
}

static void refuses_to_concatenate(void **state)
{
    (void)state;
    struct trial trial;
    for (int i = 0; i < 4; i++) {
        trial_begin(&trial, "Concat", 1);
        trial_int(&trial, "axis", i == 0 ? 2 : 1);
        trial_floats(&trial, 2, (const int64_t[]){2, 3}, NULL, -1, 1);
        if (i == 1)
            trial_floats(&trial, 2, (const int64_t[]){3, 3}, NULL, -1, 1);
        else if (i == 2)
            trial_floats(&trial, 3, (const int64_t[]){2, 3, 1}, NULL, -1, 1);
        else if (i == 3)
            add_numbered(&trial, NET_INTEGER, 2, (const int64_t[]){2, 3});
        refuse(&trial, i == 0 ? "axis 2 is none" : "input 2 of shape");
    }
    trial_begin(&trial, "Concat", 1); /* extents whose sum overflows */
    trial_int(&trial, "axis", 0);
    trial_floats(&trial, 2, (const int64_t[]){INT64_MAX / 4, 0}, NULL, -1, 1);
    for (int i = 0; i < 5; i++)
        trial_floats(&trial, 2, (const int64_t[]){INT64_MAX / 4, 0}, NULL, -1, 1);
    refuse(&trial, "cannot follow");
}

static void splits(void **state)
{
    (void)state;
    static const int64_t sizes[] = {2, 0, 4};
    for (int equal = 0; equal < 2; equal++)
        for (int axis = -1; axis < 3; axis++)
            for (enum net_type type = NET_FLOAT; type <= NET_BOOLEAN; type++) {
                struct trial trial;
                int at = axis < 0 ? 2 : axis;
                int64_t shape[3] = {3, 4, 2}, first = 0;
                shape[at] = 6;
                trial_begin(&trial, "Split", 3);
                trial_int(&trial, "axis", axis);
                add_numbered(&trial, type, 3, shape);
                if (!equal)
                    add_list(&trial, 3, sizes);
                assert_int_equal(trial_run(&trial, NULL), 0);
                for (size_t j = 0; j < 3; j++) {
                    const struct net_tensor *out = &trial.outputs[j];
                    assert_int_equal(out->shape[at], equal ? 2 : sizes[j]);
                    for (size_t n = 0; n < out->count; n++) {
                        int64_t index[3];
                        index_of(out, n, index);
                        index[at] += first;
                        same_element(out, n, trial.inputs, number(trial.inputs, index), "Split");
                    }
                    first += out->shape[at];
                }
                if (type == NET_FLOAT) {
                    for (size_t n = 0; n < trial.inputs->count; n++)
                        ((float *)trial.inputs->data)[n] = trial_random(&trial, -1, 1);
                    check_derivatives(&trial);
                }
                trial_end(&trial);
            }
}

static void splits_off_what_is_wanted(void **state)
{
    (void)state;
    struct trial trial;
    trial_begin(&trial, "Split", 3);
    struct net_tensor *in = trial_floats(&trial, 1, (const int64_t[]){6}, NULL, -1, 1);
    add_list(&trial, LIST(1, 2, 3));
    trial.output_list[0] = trial.output_list[1] = NULL;
    struct net_tensor *out = &trial.outputs[2];
    assert_int_equal(trial.node.op->infer(&trial.call, NULL), 0);
    assert_int_equal(net_tensor_allocate(out, NULL), 0);
    assert_int_equal(trial.node.op->forward(&trial.call, NULL), 0);
    check_shape(out, LIST(3));
    for (size_t i = 0; i < 3; i++)
        same_element(out, i, in, 3 + i, "Split");
    float adjoint[6] = {0}, tangent[3] = {NAN, NAN, NAN};
    const float weights[3] = {1, 2, 4}, direction[6] = {1, 2, 3, 4, 5, 6};
    trial.node.op->backward(&trial.call, (const float *const[]){NULL, NULL, weights},
                            (float *const[]){adjoint, NULL});
    trial.node.op->tangent(&trial.call, (const float *const[]){direction, NULL},
                           (float *const[]){NULL, NULL, tangent});
    for (int i = 0; i < 3; i++) {
        assert_true(adjoint[i] == 0 && adjoint[3 + i] == weights[i]);
        assert_true(tangent[i] == direction[3 + i]);
    }
    trial_end(&trial);
}

static void refuses_to_split(void **state)
{
    (void)state;
    static const struct {
        size_t count;
        int64_t sizes[3];
        const char *why;
    } cases[] = {{2, {2, 3}, "do not add up"},    {2, {6, 1}, "do not add up"},
                 {2, {7, -1}, "do not add up"},   {2, {-1, 7}, "do not add up"},
                 {3, {2, 2, 2}, "3 sizes for 2"}, {2, {INT64_MAX, INT64_MAX}, "do not add up"}};
    struct trial trial;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        trial_begin(&trial, "Split", 2);
        trial_floats(&trial, 1, (const int64_t[]){6}, NULL, -1, 1);
        add_list(&trial, cases[i].count, cases[i].sizes);
        refuse(&trial, cases[i].why);
    }
    trial_begin(&trial, "Split", 4);
    trial_floats(&trial, 1, (const int64_t[]){6}, NULL, -1, 1);
    refuse(&trial, "no 4 equal parts");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(concatenates),     cmocka_unit_test(refuses_to_concatenate),
        cmocka_unit_test(splits),           cmocka_unit_test(splits_off_what_is_wanted),
        cmocka_unit_test(refuses_to_split),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
