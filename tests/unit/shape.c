/* Operators that reshape, and those that make tensors: against worked examples. */
#include <stdio.h>

#include "tests/unit/elements.h"

/* Runs the trial as a plan would run a node alone; aliases have no forward. */
static int run(struct trial *trial, struct ivon_error *error)
{
    return net_call_evaluate(&trial->call, error);
}

static void refuse_run(struct trial *trial, const char *why)
{
    struct ivon_error error = {0};
    assert_int_equal(run(trial, &error), IVON_ERROR_DATA);
    if (!strstr(error.message, why))
        fail_msg("'%s' does not say '%s'", error.message, why);
    trial_end(trial);
}

/* The output is the input in another shape. */
static void check_alias(struct trial *trial, size_t rank, const int64_t *shape)
{
    const struct net_tensor *in = trial->inputs, *out = trial->outputs;
    assert_int_equal(run(trial, NULL), 0);
    check_shape(out, rank, shape);
    assert_true(trial->node.op->flags & NET_ALIAS);
    assert_int_equal(out->count, in->count);
    assert_memory_equal(out->data, in->data, in->count * net_type_size(in->type));
    trial_end(trial);
}

struct reshaping {
    size_t from_rank, list_rank, to_rank;
    int64_t from[4], list[9], to[4];
    const char *why; /* it is refused; null: it is not */
};

static void try_reshaping(const char *op, const struct reshaping *reshaping, bool zeros)
{
    struct trial trial;
    for (enum net_type type = NET_FLOAT; type <= NET_BOOLEAN; type++) {
        trial_begin(&trial, op, 1);
        if (zeros)
            trial_int(&trial, "allowzero", 1);
        add_numbered(&trial, type, (int)reshaping->from_rank, reshaping->from);
        add_list(&trial, reshaping->list_rank, reshaping->list);
        if (reshaping->why)
            refuse_run(&trial, reshaping->why);
        else
            check_alias(&trial, reshaping->to_rank, reshaping->to);
    }
}

static void reshapes(void **state)
{
    (void)state;
    static const struct reshaping cases[] = {
        {3, 2, 2, {2, 3, 4}, {6, 4}, {6, 4}, NULL},
        {3, 1, 1, {2, 3, 4}, {-1}, {24}, NULL},
        {3, 3, 3, {2, 3, 4}, {0, -1, 2}, {2, 6, 2}, NULL},
        {3, 4, 4, {2, 3, 4}, {-1, 0, 4, 1}, {2, 3, 4, 1}, NULL},
        {1, 0, 0, {1}, {0}, {0}, NULL},
        {0, 2, 2, {0}, {1, 1}, {1, 1}, NULL},
        {2, 2, 2, {0, 3}, {-1, 3}, {0, 3}, NULL},
        {2, 2, 2, {0, 3}, {0, 5}, {0, 5}, NULL},
        {2, 2, 0, {2, 3}, {4, -1}, {0}, "shape 2x3 cannot become 4x?"},
        {2, 2, 0, {2, 3}, {2, 2}, {0}, "shape 2x3 cannot become 2x2"},
        {2, 2, 0, {2, 3}, {-1, -1}, {0}, "two free extents"},
        {2, 2, 0, {2, 3}, {-2, -3}, {0}, "an extent below -1"},
        {1, 2, 0, {6}, {6, 0}, {0}, "extent 2 is to be copied from an input of 1 axes"},
        {2, 2, 0, {0, 3}, {0, -1}, {0}, "shape 0x3 cannot become 0x?"},
        {1, 9, 0, {1}, {1, 1, 1, 1, 1, 1, 1, 1, 1}, {0}, "9 extents"},
        {1, 3, 0, {6}, {INT64_C(1) << 40, INT64_C(1) << 40, -1}, {0}, "cannot become"},
        {1, 2, 0, {6}, {INT64_C(1) << 40, INT64_C(1) << 40}, {0}, "too large"},
    };
    static const struct reshaping with_zeros[] = {
        {2, 2, 2, {0, 3}, {3, 0}, {3, 0}, NULL},
        {2, 2, 0, {0, 3}, {0, -1}, {0}, "cannot become"},
        {2, 2, 0, {2, 3}, {0, 3}, {0}, "shape 2x3 cannot become 0x3"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        try_reshaping("Reshape", &cases[i], false);
    for (size_t i = 0; i < sizeof with_zeros / sizeof with_zeros[0]; i++)
        try_reshaping("Reshape", &with_zeros[i], true);
}

static void squeezes_and_unsqueezes(void **state)
{
    (void)state;
    static const struct reshaping squeezes[] = {
        {4, 1, 3, {1, 3, 1, 5}, {0}, {3, 1, 5}, NULL},
        {4, 2, 2, {1, 3, 1, 5}, {-2, 0}, {3, 5}, NULL},
        {4, 0, 4, {1, 3, 1, 5}, {0}, {1, 3, 1, 5}, NULL},
        {2, 1, 0, {1, 3}, {1}, {0}, "axis 1 has extent 3, expected 1"},
        {2, 1, 0, {1, 3}, {2}, {0}, "axis 2 is out of range"},
        {2, 1, 0, {1, 3}, {-3}, {0}, "axis -3 is out of range"},
        {2, 2, 0, {1, 3}, {0, -2}, {0}, "axis -2 is named twice"},
    };
    static const struct reshaping unsqueezes[] = {
        {2, 1, 3, {3, 5}, {0}, {1, 3, 5}, NULL},
        {2, 1, 3, {3, 5}, {-1}, {3, 5, 1}, NULL},
        {1, 3, 4, {3}, {3, 0, 1}, {1, 1, 3, 1}, NULL},
        {0, 2, 2, {0}, {0, 1}, {1, 1}, NULL},
        {2, 1, 0, {3, 5}, {3}, {0}, "axis 3 is out of range"},
        {2, 2, 0, {3, 5}, {1, -3}, {0}, "axis -3 is named twice"},
        {2, 7, 0, {3, 5}, {0, 1, 2, 3, 4, 5, 6}, {0}, "at most 8 are supported"},
    };
    for (size_t i = 0; i < sizeof squeezes / sizeof squeezes[0]; i++)
        try_reshaping("Squeeze", &squeezes[i], false);
    for (size_t i = 0; i < sizeof unsqueezes / sizeof unsqueezes[0]; i++)
        try_reshaping("Unsqueeze", &unsqueezes[i], false);
    struct trial trial;
    trial_begin(&trial, "Squeeze", 1);
    add_numbered(&trial, NET_FLOAT, 4, (const int64_t[]){1, 3, 1, 5});
    check_alias(&trial, LIST(3, 5));
}

static void flattens(void **state)
{
    (void)state;
    static const struct {
        int64_t axis, shape[2];
    } cases[] = {{0, {1, 120}}, {1, {2, 60}},  {2, {6, 20}},  {3, {24, 5}},  {4, {120, 1}},
                 {-1, {24, 5}}, {-2, {6, 20}}, {-3, {2, 60}}, {-4, {1, 120}}};
    struct trial trial;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        trial_begin(&trial, "Flatten", 1);
        if (cases[i].axis != 1)
            trial_int(&trial, "axis", cases[i].axis);
        add_numbered(&trial, NET_FLOAT, 4, (const int64_t[]){2, 3, 4, 5});
        check_alias(&trial, 2, cases[i].shape);
    }
    for (int64_t axis = -5; axis < 6; axis += 10) {
        trial_begin(&trial, "Flatten", 1);
        trial_int(&trial, "axis", axis);
        add_numbered(&trial, NET_FLOAT, 4, (const int64_t[]){2, 3, 4, 5});
        refuse_run(&trial, "is none of the input's");
    }
}

static void aliases_differentiate(void **state)
{
    (void)state;
    const float weights[6] = {1, 2, 3, 4, 5, 6};
    float adjoint[6] = {10, 10, 10, 10, 10, 10}, tangent[6];
    struct trial trial;
    trial_begin(&trial, "Reshape", 1);
    trial_floats(&trial, 2, (const int64_t[]){2, 3}, NULL, -1, 1);
    add_list(&trial, LIST(3, 2));
    assert_int_equal(run(&trial, NULL), 0);
    const struct net_operator *op = trial.node.op;
    op->backward(&trial.call, (const float *const[]){weights}, (float *const[]){adjoint, NULL});
    op->tangent(&trial.call, (const float *const[]){weights, NULL}, (float *const[]){tangent});
    for (int i = 0; i < 6; i++)
        assert_true(adjoint[i] == 10 + weights[i] && tangent[i] == weights[i]);
    op->tangent(&trial.call, (const float *const[]){NULL, NULL}, (float *const[]){tangent});
    for (int i = 0; i < 6; i++)
        assert_true(tangent[i] == 0);
    trial_end(&trial);
}

static void needs_known_shapes(void **state)
{
    (void)state;
    static const struct {
        const char *op, *why;
        size_t input;
    } cases[] = {{"Reshape", "the shape depends on the data, which is not supported", 1},
                 {"Squeeze", "axes depends on the data", 1},
                 {"Unsqueeze", "axes depends on the data", 1},
                 {"Expand", "the shape depends on the data", 1},
                 {"ConstantOfShape", "the shape depends on the data", 0}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct trial trial;
        trial_begin(&trial, cases[i].op, 1);
        if (cases[i].input)
            trial_floats(&trial, 1, (const int64_t[]){1}, NULL, -1, 1);
        add_list(&trial, LIST(1));
        free(trial.inputs[cases[i].input].data);
        trial.inputs[cases[i].input].data = NULL;
        refuse_run(&trial, cases[i].why);
        trial_begin(&trial, cases[i].op, 1);
        if (cases[i].input)
            trial_floats(&trial, 1, (const int64_t[]){1}, NULL, -1, 1);
        trial_floats(&trial, 1, (const int64_t[]){1}, NULL, -1, 1);
        refuse_run(&trial, "expected a list of integers");
    }
}

/* Makers. */

/* The allocation of an output ends with padding, which stays zero. */
static void check_padding(const struct trial *trial)
{
    const struct net_tensor *output = trial->outputs;
    size_t size = output->count * net_type_size(output->type);
    for (size_t i = size; i < (size / 64 + 1) * 64; i++)
        assert_int_equal(((const unsigned char *)output->data)[i], 0);
}

static void check_integers(struct trial *trial, size_t count, const int64_t *values, int rank)
{
    assert_int_equal(run(trial, NULL), 0);
    assert_int_equal(trial->outputs->type, NET_INTEGER);
    assert_int_equal(trial->outputs->rank, rank);
    assert_int_equal(trial->outputs->count, count);
    assert_memory_equal(trial->outputs->data, values, count * sizeof *values);
    if (trial->node.op->forward)
        check_padding(trial);
    trial_end(trial);
}

static void begin_shape(struct trial *trial, const char *op)
{
    trial_begin(trial, op, 1);
    add_numbered(trial, NET_BOOLEAN, 3, (const int64_t[]){2, 3, 4});
    free(trial->inputs[0].data); /* only its shape is needed */
    trial->inputs[0].data = NULL;
    assert_true(trial->node.op->flags & NET_SHAPE_ONLY);
}

static void tells_shapes(void **state)
{
    (void)state;
    static const struct {
        int64_t start, end;
        size_t count;
        int64_t shape[3];
    } cases[] = {{0, 3, 3, {2, 3, 4}},
                 {1, 2, 1, {3}},
                 {-1, 9, 1, {4}},
                 {-9, -1, 2, {2, 3}},
                 {2, 1, 0, {0}},
                 {9, 10, 0, {0}},
                 {INT64_MIN, INT64_MAX, 3, {2, 3, 4}}};
    struct trial trial;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        begin_shape(&trial, "Shape");
        trial_int(&trial, "start", cases[i].start);
        trial_int(&trial, "end", cases[i].end);
        check_integers(&trial, cases[i].count, cases[i].shape, 1);
    }
    begin_shape(&trial, "Shape");
    check_integers(&trial, LIST(2, 3, 4), 1);
    begin_shape(&trial, "Size");
    check_integers(&trial, LIST(24), 0);
    trial_begin(&trial, "Shape", 1);
    add_numbered(&trial, NET_FLOAT, 0, NULL);
    check_integers(&trial, 0, (const int64_t[]){0}, 1);
}

static void check_floats(struct trial *trial, int rank, const int64_t *shape, size_t count,
                         const float *values)
{
    assert_int_equal(run(trial, NULL), 0);
    assert_int_equal(trial->outputs->type, NET_FLOAT);
    check_shape(trial->outputs, (size_t)rank, shape);
    assert_int_equal(trial->outputs->count, count);
    assert_memory_equal(trial->outputs->data, values, count * sizeof *values);
    if (trial->node.op->forward)
        check_padding(trial);
    trial_end(trial);
}

static void fills_shapes(void **state)
{
    (void)state;
    struct trial trial;
    static const float zeros[6];
    int64_t value = -5;
    trial_begin(&trial, "ConstantOfShape", 1);
    add_list(&trial, LIST(3, 2));
    check_floats(&trial, 2, (const int64_t[]){3, 2}, 6, zeros);
    for (size_t rank = 0; rank < 2; rank++) {
        trial_begin(&trial, "ConstantOfShape", 1);
        add_list(&trial, rank, (const int64_t[]){3});
        struct net_attribute *attribute = trial_attribute(&trial, "value", NET_TENSOR);
        net_tensor_set(&attribute->tensor, NET_INTEGER, 1, (const int64_t[]){1}, NULL);
        attribute->tensor.data = &value;
        check_integers(&trial, rank ? 3 : 1, (const int64_t[]){-5, -5, -5}, (int)rank);
    }
    static const struct {
        size_t count;
        int64_t shape[9];
        const char *why;
    } cases[] = {{1, {-1}, "an extent of -1"},
                 {9, {1}, "9 extents"},
                 {2, {INT64_C(1) << 31, 2}, "at most 2147483648 elements"},
                 {3, {INT64_C(1) << 31, INT64_C(1) << 31, 4}, "too large"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        trial_begin(&trial, "ConstantOfShape", 1);
        add_list(&trial, cases[i].count, cases[i].shape);
        refuse_run(&trial, cases[i].why);
    }
}

static void begin_range(struct trial *trial, int64_t start, int64_t limit, int64_t delta)
{
    trial_begin(trial, "Range", 1);
    trial_integers(trial, 0, NULL, &start);
    trial_integers(trial, 0, NULL, &limit);
    trial_integers(trial, 0, NULL, &delta);
}

static void begin_float_range(struct trial *trial, float start, float limit, float delta)
{
    trial_begin(trial, "Range", 1);
    trial_floats(trial, 0, NULL, &start, 0, 0);
    trial_floats(trial, 0, NULL, &limit, 0, 0);
    trial_floats(trial, 0, NULL, &delta, 0, 0);
}

static void counts(void **state)
{
    (void)state;
    struct trial trial;
    static const struct {
        int64_t start, limit, delta;
        size_t count;
        int64_t values[4];
    } integers[] = {{0, 4, 1, 4, {0, 1, 2, 3}},
                    {10, 4, -3, 2, {10, 7}},
                    {10, 3, -3, 3, {10, 7, 4}},
                    {1, 1, 1, 0, {0}},
                    {1, 1, -2, 0, {0}},
                    {3, 1, 1, 0, {0}},
                    {1, 3, -1, 0, {0}},
                    {INT64_MIN, INT64_MAX, INT64_MAX, 3, {INT64_MIN, -1, INT64_MAX - 1}},
                    {INT64_MAX, INT64_MIN, INT64_MIN, 2, {INT64_MAX, -1}}};
    for (size_t i = 0; i < sizeof integers / sizeof integers[0]; i++) {
        begin_range(&trial, integers[i].start, integers[i].limit, integers[i].delta);
        check_integers(&trial, integers[i].count, integers[i].values, 1);
    }
    begin_float_range(&trial, 1, 5, 2);
    check_floats(&trial, 1, (const int64_t[]){2}, 2, (const float[]){1, 3});
    begin_float_range(&trial, 1, 0, -0.25F);
    check_floats(&trial, 1, (const int64_t[]){4}, 4, (const float[]){1, 0.75F, 0.5F, 0.25F});
    begin_float_range(&trial, 1, 0, INFINITY);
    check_floats(&trial, 1, (const int64_t[]){0}, 0, (const float[]){0});
    begin_range(&trial, 0, 1, 0);
    refuse_run(&trial, "elements, at most");
    begin_range(&trial, INT64_MIN, INT64_MAX, 1);
    refuse_run(&trial, "it would make 1.84467e+19 elements, at most 2147483648");
    begin_float_range(&trial, 0, 1, 0);
    refuse_run(&trial, "it would make inf elements");
    begin_float_range(&trial, 0, NAN, 1);
    refuse_run(&trial, "elements, at most");
    begin_range(&trial, 0, 1, 1);
    free(trial.inputs[1].data);
    trial.inputs[1].data = NULL;
    refuse_run(&trial, "limit depends on the data, which is not supported");
    trial_begin(&trial, "Range", 1);
    for (int i = 0; i < 3; i++)
        add_numbered(&trial, NET_BOOLEAN, 0, NULL);
    refuse_run(&trial, "start is no single integer");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reshapes),           cmocka_unit_test(squeezes_and_unsqueezes),
        cmocka_unit_test(flattens),           cmocka_unit_test(aliases_differentiate),
        cmocka_unit_test(needs_known_shapes), cmocka_unit_test(tells_shapes),
        cmocka_unit_test(fills_shapes),       cmocka_unit_test(counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
