/* Operators that find elements by an index: against references and worked examples for every
   element type, and their derivatives. */
#include <inttypes.h>
#include <stdio.h>

#include "tests/unit/elements.h"

/* Gather and GatherElements. */

static void gathers(void **state)
{
    (void)state;
    static const int64_t indices[6] = {2, -1, 0, 2, -3, 1};
    for (int axis = -3; axis < 3; axis++)
        for (enum net_type type = NET_FLOAT; type <= NET_BOOLEAN; type++) {
            struct trial trial;
            int at = axis < 0 ? axis + 3 : axis;
            trial_begin(&trial, "Gather", 1);
            trial_int(&trial, "axis", axis);
            struct net_tensor *in = add_numbered(&trial, type, 3, (const int64_t[]){3, 3, 3});
            trial_integers(&trial, 2, (const int64_t[]){2, 3}, indices);
            assert_int_equal(trial_run(&trial, NULL), 0);
            const struct net_tensor *out = trial.outputs;
            assert_int_equal(out->rank, 4);
            assert_int_equal(out->count, 54);
            for (size_t n = 0; n < out->count; n++) {
                int64_t index[4], from[3];
                index_of(out, n, index);
                for (int i = 0; i < at; i++)
                    from[i] = index[i];
                from[at] = (indices[index[at] * 3 + index[at + 1]] + 3) % 3;
                for (int i = at + 1; i < 3; i++)
                    from[i] = index[i + 1];
                same_element(out, n, in, number(in, from), "Gather");
            }
            if (type == NET_FLOAT) {
                for (size_t n = 0; n < in->count; n++)
                    ((float *)in->data)[n] = trial_random(&trial, -1, 1);
                check_derivatives(&trial);
            }
            trial_end(&trial);
        }
}

static void gathers_with_a_scalar(void **state)
{
    (void)state;
    static const int64_t index = 1;
    struct trial trial;
    trial_begin(&trial, "Gather", 1);
    struct net_tensor *in = add_numbered(&trial, NET_INTEGER, 1, (const int64_t[]){3});
    trial_integers(&trial, 0, NULL, &index);
    assert_int_equal(trial_run(&trial, NULL), 0);
    check_shape(trial.outputs, 0, NULL);
    same_element(trial.outputs, 0, in, 1, "Gather");
    trial_end(&trial);
}

static void gathers_from_a_parameter(void **state)
{
    (void)state;
    static const int64_t indices[12] = {2, -1, 0, 2, -3, 1, 6, 6, 6, 5, -7, 3};
    struct trial trial;
    trial_begin(&trial, "Gather", 1);
    trial_floats(&trial, 2, (const int64_t[]){7, 4}, NULL, -1, 1);
    trial_integers(&trial, 2, (const int64_t[]){4, 3}, indices);
    assert_int_equal(trial_run(&trial, NULL), 0);
    trial_check_examples(&trial, 0, 1, 4, 0); /* the same sums */
    trial_check_examples(&trial, 0, 1, 2, 0);
    trial_end(&trial);
}

static void refuses_indices(void **state)
{
    (void)state;
    static const char *const names[] = {"Gather", "GatherElements"};
    static const int64_t bad[] = {3, -4, INT64_MAX, INT64_MIN};
    struct trial trial;
    for (size_t i = 0; i < 8; i++) {
        char why[100];
        int64_t indices[2] = {1, bad[i % 4]};
        trial_begin(&trial, names[i / 4], 1);
        trial_floats(&trial, 2, (const int64_t[]){3, 2}, NULL, -1, 1);
        trial_integers(&trial, 2, (const int64_t[]){1, 2}, indices);
        snprintf(why, sizeof why,
                 "index %" PRId64 " at position 1 is out of range for an axis of "
                 "extent 3",
                 bad[i % 4]);
        refuse(&trial, why);
    }
    trial_begin(&trial, "Gather", 1); /* nothing to take from */
    trial_floats(&trial, 2, (const int64_t[]){0, 2}, NULL, -1, 1);
    add_list(&trial, LIST(0));
    refuse(&trial, "extent 0");
    trial_begin(&trial, "Gather", 1);
    trial_floats(&trial, 2, (const int64_t[]){3, 2}, NULL, -1, 1);
    trial_floats(&trial, 1, (const int64_t[]){3}, NULL, -1, 1);
    refuse(&trial, "indices of type float");
    trial_begin(&trial, "Gather", 1);
    trial_floats(&trial, 8, (const int64_t[]){1, 1, 1, 1, 1, 1, 1, 1}, NULL, -1, 1);
    trial_integers(&trial, 2, (const int64_t[]){1, 1}, (const int64_t[]){0});
    refuse(&trial, "9 dimensions");
    trial_begin(&trial, "GatherElements", 1);
    trial_floats(&trial, 2, (const int64_t[]){3, 1}, NULL, -1, 1);
    trial_integers(&trial, 2, (const int64_t[]){1, 2}, (const int64_t[]){0, 0});
    refuse(&trial, "indices of shape 1x2 for an input of shape 3x1");
    trial_begin(&trial, "GatherElements", 1);
    trial_int(&trial, "axis", 1);
    trial_floats(&trial, 2, (const int64_t[]){1, 3}, NULL, -1, 1);
    trial_integers(&trial, 2, (const int64_t[]){2, 1}, (const int64_t[]){0, 0});
    refuse(&trial, "indices of shape 2x1 for an input of shape 1x3");
}

static void gathers_elements(void **state)
{
    (void)state;
    for (int axis = 0; axis < 2; axis++)
        for (enum net_type type = NET_FLOAT; type <= NET_BOOLEAN; type++) {
            static const int64_t indices[8] = {1, -2, 0, 2, -3, 1, 1, -1};
            struct trial trial;
            trial_begin(&trial, "GatherElements", 1);
            trial_int(&trial, "axis", axis);
            struct net_tensor *in = add_numbered(&trial, type, 2,
                                                 (const int64_t[]){axis ? 4 : 3, axis ? 3 : 4});
            trial_integers(&trial, 2, (const int64_t[]){4 - 2 * !axis, 2 + 2 * !axis}, indices);
            assert_int_equal(trial_run(&trial, NULL), 0);
            for (size_t n = 0; n < 8; n++) {
                int64_t index[2];
                index_of(trial.outputs, n, index);
                index[axis] = (indices[n] + 3) % 3;
                same_element(trial.outputs, n, in, number(in, index), "GatherElements");
            }
            if (type == NET_FLOAT) {
                for (size_t n = 0; n < in->count; n++)
                    ((float *)in->data)[n] = trial_random(&trial, -1, 1);
                check_derivatives(&trial);
            }
            trial_end(&trial);
        }
}

/* Pad. */

/* numpy.pad(range(4), …) by (before, after), per mode; -1 is the constant. */
static const struct {
    const char *mode;
    int64_t before, after;
    size_t count;
    int elements[12];
} pads[] = {{"constant", 2, 1, 7, {-1, -1, 0, 1, 2, 3, -1}},
            {"constant", 0, 0, 4, {0, 1, 2, 3}},
            {"constant", -1, 2, 5, {1, 2, 3, -1, -1}},
            {"constant", -2, -2, 0, {0}},
            {"constant", -5, 6, 5, {-1, -1, -1, -1, -1}},
            {"edge", 3, 2, 9, {0, 0, 0, 0, 1, 2, 3, 3, 3}},
            {"reflect", 3, 2, 9, {3, 2, 1, 0, 1, 2, 3, 2, 1}},
            {"reflect", 5, 0, 9, {1, 2, 3, 2, 1, 0, 1, 2, 3}},
            {"reflect", 1, 0, 5, {1, 0, 1, 2, 3}},
            {"wrap", 5, 1, 10, {3, 0, 1, 2, 3, 0, 1, 2, 3, 0}},
            {"wrap", -1, 0, 3, {1, 2, 3}}};

static void pads_like_numpy(void **state)
{
    (void)state;
    for (size_t p = 0; p < sizeof pads / sizeof pads[0]; p++)
        for (int axis = 0; axis < 3; axis++)
            for (enum net_type type = NET_FLOAT; type <= NET_BOOLEAN; type++) {
                int64_t shape[3] = {2, 3, 2}, amounts[6] = {0};
                struct trial trial;
                shape[axis] = 4;
                amounts[axis] = pads[p].before;
                amounts[axis + 3] = pads[p].after;
                trial_begin(&trial, "Pad", 1);
                if (p)
                    trial_text(&trial, "mode", pads[p].mode);
                struct net_tensor *in = add_numbered(&trial, type, 3, shape);
                add_list(&trial, 6, amounts);
                struct net_tensor *constant = add_numbered(&trial, type, 0, NULL);
                if (type == NET_BOOLEAN)
                    *(uint8_t *)constant->data = 1;
                assert_int_equal(trial_run(&trial, NULL), 0);
                shape[axis] = (int64_t)pads[p].count;
                check_shape(trial.outputs, 3, shape);
                for (size_t n = 0; n < trial.outputs->count; n++) {
                    int64_t index[3];
                    index_of(trial.outputs, n, index);
                    int element = pads[p].elements[index[axis]];
                    index[axis] = element;
                    same_element(trial.outputs, n, element < 0 ? constant : in,
                                 element < 0 ? 0 : number(in, index), pads[p].mode);
                }
                if (type == NET_FLOAT) {
                    for (size_t n = 0; n < in->count; n++)
                        ((float *)in->data)[n] = trial_random(&trial, -1, 1);
                    *(float *)constant->data = 0.5F;
                    for (unsigned wanted = 1; wanted < 6; wanted++) /* 2: no input that has any */
                        trial_check_derivatives(&trial, wanted, 1.0, difference_tolerance,
                                                identity_tolerance);
                }
                trial_end(&trial);
            }
}

/* Where no constant is given. */
static void pads_with_zeros(void **state)
{
    (void)state;
    for (enum net_type type = NET_FLOAT; type <= NET_BOOLEAN; type++) {
        struct trial trial;
        trial_begin(&trial, "Pad", 1);
        const struct net_tensor *in = add_numbered(&trial, type, 1, (const int64_t[]){2});
        add_list(&trial, 2, (const int64_t[]){1, 2});
        assert_int_equal(trial_run(&trial, NULL), 0);
        assert_int_equal(trial.outputs->count, 5);
        size_t size = net_type_size(type);
        static const unsigned char zeros[16];
        const char *data = trial.outputs->data;
        assert_memory_equal(data, zeros, size);
        assert_memory_equal(data + size, in->data, 2 * size);
        assert_memory_equal(data + 3 * size, zeros, 2 * size);
        trial_end(&trial);
    }
}

/* Only a Pad by nothing is its input. */
static void pads_by_nothing(void **state)
{
    (void)state;
    static const int64_t amounts[][4] = {
        {0, 0, 0, 0}, {1, 0, 0, 0}, {0, 1, 0, 0}, {0, 0, 1, 0}, {0, 0, 0, 1}};
    for (size_t i = 0; i < sizeof amounts / sizeof amounts[0]; i++) {
        struct trial trial;
        trial_begin(&trial, "Pad", 1);
        trial_floats(&trial, 2, (const int64_t[]){2, 3}, NULL, -1, 1);
        add_list(&trial, 4, amounts[i]);
        assert_int_equal(trial_run(&trial, NULL), 0);
        assert_int_equal(trial.call.alias, i == 0);
        trial_end(&trial);
    }
}

static void pads_several_axes(void **state)
{
    (void)state;
    static const float in[4] = {1, 2, 3, 4};
    struct trial trial;
    trial_begin(&trial, "Pad", 1);
    trial_text(&trial, "mode", "reflect");
    trial_floats(&trial, 3, (const int64_t[]){2, 1, 2}, in, 0, 0);
    add_list(&trial,
             LIST(1, 2, 0, 1, 0, 0)); /* an axis of extent 1 has itself for a mirror image */
    assert_int_equal(trial_run(&trial, NULL), 0);
    check_shape(trial.outputs, LIST(4, 3, 2));
    for (size_t i = 0; i < 24; i++) {
        size_t row = i / 6;
        assert_true(((float *)trial.outputs->data)[i] == in[(row % 2 ? 0 : 2) + i % 2]);
    }
    check_derivatives(&trial);
    trial_end(&trial);
    trial_begin(&trial, "Pad", 1); /* without a constant: 0 */
    trial_floats(&trial, 1, (const int64_t[]){1}, in, 0, 0);
    add_list(&trial, LIST(1, 1));
    assert_int_equal(trial_run(&trial, NULL), 0);
    assert_memory_equal(trial.outputs->data, ((const float[]){0, 1, 0}), 3 * sizeof(float));
    trial_end(&trial);
    trial_begin(&trial, "Pad", 1);
    trial_text(&trial, "mode", "edge");
    trial_floats(&trial, 0, NULL, in + 2, 0, 0);
    add_list(&trial, 0, (const int64_t[]){0});
    assert_int_equal(trial_run(&trial, NULL), 0);
    assert_true(*(float *)trial.outputs->data == 3);
    trial_end(&trial);
}

static void refuses_to_pad(void **state)
{
    (void)state;
    static const struct {
        const char *mode;
        int64_t size;
        size_t count;
        int64_t pads[3];
        const char *why;
    } cases[] = {{"fold", 3, 2, {0, 0}, "mode 'fold'"},
                 {"edge", 0, 2, {1, 0}, "axis 0 of extent 0 cannot be padded"},
                 {"reflect", 0, 2, {0, 1}, "axis 0 of extent 0 cannot be padded"},
                 {"constant", 3, 2, {-2, -2}, "cannot be padded by -2 and -2"},
                 {"constant", 3, 2, {INT64_MAX, 0}, "cannot be padded"},
                 {"constant", 3, 2, {INT64_MIN, INT64_MAX}, "cannot be padded"},
                 {"constant", 3, 3, {1, 1, 1}, "3 pads for 1 axes"},
                 {"constant", 3, 2, {0, INT64_C(1) << 31}, "at most 2147483648 elements"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct trial trial;
        trial_begin(&trial, "Pad", 1);
        trial_text(&trial, "mode", cases[i].mode);
        trial_floats(&trial, 1, &cases[i].size, NULL, -1, 1);
        add_list(&trial, cases[i].count, cases[i].pads);
        refuse(&trial, cases[i].why);
    }
    struct trial trial;
    trial_begin(&trial, "Pad", 1);
    trial_floats(&trial, 1, (const int64_t[]){2}, NULL, -1, 1);
    add_list(&trial, LIST(1, 1));
    add_list(&trial, LIST(1));
    refuse(&trial, "constant_value is no single float");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gathers),
        cmocka_unit_test(gathers_with_a_scalar),
        cmocka_unit_test(gathers_from_a_parameter),
        cmocka_unit_test(refuses_indices),
        cmocka_unit_test(gathers_elements),
        cmocka_unit_test(pads_like_numpy),
        cmocka_unit_test(pads_with_zeros),
        cmocka_unit_test(pads_by_nothing),
        cmocka_unit_test(pads_several_axes),
        cmocka_unit_test(refuses_to_pad),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
