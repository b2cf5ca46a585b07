/* What all operators' derivatives have in common: which rows have them, those of rows that only
   rename axes, and that an example alone adds to a shared operand what it adds among others. */

#include "operator.h"

/* Their outputs are no floats, or depend on shapes alone; those of Range, NonZero and Unique are
   known with the plan. */
static const char *const constants[] = {"And",
                                        "ArgMax",
                                        "ArgMin",
                                        "BitCast",
                                        "BitShift",
                                        "BitwiseAnd",
                                        "BitwiseNot",
                                        "BitwiseOr",
                                        "BitwiseXor",
                                        "ConstantOfShape",
                                        "ConvInteger",
                                        "DynamicQuantizeLinear",
                                        "Equal",
                                        "EyeLike",
                                        "Greater",
                                        "GreaterOrEqual",
                                        "IsInf",
                                        "IsNaN",
                                        "Less",
                                        "LessOrEqual",
                                        "MatMulInteger",
                                        "NonZero",
                                        "Not",
                                        "Or",
                                        "QLinearConv",
                                        "QLinearMatMul",
                                        "QuantizeLinear",
                                        "Range",
                                        "Shape",
                                        "Size",
                                        "Unique",
                                        "Xor"};

enum { CONSTANT_COUNT = sizeof constants / sizeof constants[0] };

static void every_row(void **state)
{
    (void)state;
    bool found[CONSTANT_COUNT] = {false};
    const struct net_operator *row;
    for (size_t at = 0; (row = net_operator_row(at)); at++) {
        bool constant = false;
        for (size_t i = 0; i < CONSTANT_COUNT; i++)
            if (strcmp(constants[i], row->name) == 0)
                found[i] = constant = true;
        if (!row->backward != constant || !row->tangent != constant)
            fail_msg("%s-%d: backward %s, tangent %s", row->name, row->since,
                     row->backward ? "there" : "missing", row->tangent ? "there" : "missing");
    }
    for (size_t i = 0; i < CONSTANT_COUNT; i++)
        if (!found[i])
            fail_msg("%s is no row", constants[i]);
}

/* Linear, of size 1: a difference over a step of 1/4 rounds to 2^-24 / (1/4); the identity sums 48
   products, and adjoints that were added to 1. */
static void renamed_axes(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int64_t list[4];
        int64_t count; /* of the second input; -1: there is none */
    } cases[] = {{"Identity", {0}, -1},          {"Dropout", {0}, -1}, {"Flatten", {0}, -1},
                 {"Reshape", {6, -1, 2, 1}, 4},  {"Squeeze", {1}, 1},  {"Squeeze", {-1, 1}, 2},
                 {"Unsqueeze", {0, 2, -1, 4}, 4}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct trial trial;
        trial_begin(&trial, cases[i].name, 1);
        trial_floats(&trial, 4, (const int64_t[]){6, 1, 8, 1}, NULL, -1, 1);
        if (cases[i].count >= 0)
            trial_integers(&trial, 1, &cases[i].count, cases[i].list);
        assert_int_equal(trial_run(&trial, NULL), 0);
        trial_check_derivatives(&trial, 1, 0.25, 0x1p-20, 0x1p-18);
        trial_end(&trial);
    }
}

/* Operands beside the examples' x, as parameters are: biases, scales, embeddings of positions. */
static const struct {
    int rank_x, rank;
    int64_t x[4], shape[4];
} operands[] = {
    {2, 1, {6, 5}, {5}},
    {2, 2, {6, 5}, {1, 5}},
    {2, 0, {6, 5}, {0}},
    {4, 3, {6, 3, 4, 5}, {3, 1, 1}},
    {4, 4, {6, 3, 4, 5}, {1, 3, 1, 1}},
    {3, 2, {6, 7, 5}, {7, 5}},
    {3, 3, {6, 7, 5}, {1, 7, 1}},
    {3, 1, {6, 7, 700}, {700}},
    {3, 2, {6, 7, 1}, {7, 9}},
    {1, 0, {6}, {0}},
    {2, 2, {6, 1}, {1, 4}},
    {3, 3, {6, 2, 3}, {1, 1, 1}},
    {2, 2, {12, 6}, {1, 6}},
};

enum { OPERAND_COUNT = sizeof operands / sizeof operands[0] };

/*
 * Sums in double, in different orders, that round to float once, of terms that are the same: within
 * 2^-24 of the element, and of what cancels 2^-53 for each of up to 8400 terms.
 */
static const double same_sums = 0x1p-23;

static void broadcast_operands(void **state)
{
    (void)state;
    static const char *const names[] = {"Add", "Sub", "Mul", "Div", "Pow",
                                        "Max", "Min", "Sum", "Mean"};
    for (size_t name = 0; name < sizeof names / sizeof names[0]; name++)
        for (size_t i = 0; i < OPERAND_COUNT; i++)
            for (size_t input = 0; input < 2; input++) {
                struct trial trial;
                trial_begin(&trial, names[name], 1);
                if (!input)
                    trial_floats(&trial, operands[i].rank, operands[i].shape, NULL, 0.5, 2);
                trial_floats(&trial, operands[i].rank_x, operands[i].x, NULL, 0.5, 2);
                if (input)
                    trial_floats(&trial, operands[i].rank, operands[i].shape, NULL, 0.5, 2);
                assert_int_equal(trial_run(&trial, NULL), 0);
                for (size_t examples = 1; examples <= 6; examples++)
                    if (6 % examples == 0)
                        trial_check_examples(&trial, input, 1U << input, examples, same_sums);
                trial_end(&trial);
            }
}

/* The slopes of PRelu, which alone are broadcast. */
static void slopes_of_rectifiers(void **state)
{
    (void)state;
    for (size_t i = 0; i < OPERAND_COUNT; i++) {
        struct trial trial;
        struct net_tensor common = {0};
        trial_begin(&trial, "PRelu", 1);
        trial_floats(&trial, operands[i].rank_x, operands[i].x, NULL, -1, 1);
        trial_floats(&trial, operands[i].rank, operands[i].shape, NULL, -1, 1);
        assert_true(net_broadcast(&trial.inputs[0], &trial.inputs[1], &common.rank, common.shape));
        if (net_same_shape(&trial.inputs[0], &common)) {
            assert_int_equal(trial_run(&trial, NULL), 0);
            trial_check_examples(&trial, 1, 2, 6, same_sums);
        }
        trial_end(&trial);
    }
}

/* Several shared inputs: a mask or bounds beside the parameter, two parameters in one node. */
static void several_shared(void **state)
{
    (void)state;
    static const int64_t x[] = {6, 4, 5}, row[] = {5}, table[] = {9, 4, 5}, plane[] = {4, 5};
    for (size_t i = 0; i < OPERAND_COUNT; i++)
        for (size_t input = 1; input < 3; input++) {
            struct trial trial;
            trial_begin(&trial, "Where", 1);
            struct net_tensor *mask = &trial.inputs[0];
            trial.input_list[trial.node.input_count++] = mask;
            assert_int_equal(
                net_tensor_set(mask, NET_BOOLEAN, operands[i].rank, operands[i].shape, NULL), 0);
            assert_int_equal(net_tensor_allocate(mask, NULL), 0);
            for (size_t j = 0; j < mask->count; j++)
                ((unsigned char *)mask->data)[j] = j % 3 != 0;
            for (size_t j = 1; j < 3; j++)
                trial_floats(&trial, j == input ? operands[i].rank : operands[i].rank_x,
                             j == input ? operands[i].shape : operands[i].x, NULL, -1, 1);
            assert_int_equal(trial_run(&trial, NULL), 0);
            trial_check_examples(&trial, input, 1U << input | 1, 6, same_sums);
            trial_end(&trial);
        }
    for (size_t input = 1; input < 3; input++) {
        struct trial trial;
        trial_begin(&trial, "Clip", 1);
        trial_floats(&trial, 3, x, NULL, -1, 1);
        trial_floats(&trial, 0, x, (const float[]){-0.25F}, 0, 0);
        trial_floats(&trial, 0, x, (const float[]){0.5F}, 0, 0);
        assert_int_equal(trial_run(&trial, NULL), 0);
        trial_check_examples(&trial, input, 6, 3, same_sums);
        trial_end(&trial);
        trial_begin(&trial, "Max", 1);
        trial_floats(&trial, 3, x, NULL, -1, 1);
        trial_floats(&trial, 1, row, NULL, -1, 1);
        trial_floats(&trial, 2, plane, NULL, -1, 1);
        assert_int_equal(trial_run(&trial, NULL), 0);
        trial_check_examples(&trial, input, 6, 6, same_sums);
        trial_end(&trial);
    }
    struct trial trial;
    int64_t indices[6 * 4 * 5];
    trial_begin(&trial, "GatherElements", 1);
    trial_floats(&trial, 3, table, NULL, -1, 1);
    for (int64_t i = 0; i < 6 * 4 * 5; i++)
        indices[i] = i * 7 % 9 - (i % 2 ? 9 : 0);
    trial_integers(&trial, 3, x, indices);
    assert_int_equal(trial_run(&trial, NULL), 0);
    trial_check_examples(&trial, 0, 1, 3, same_sums);
    trial_end(&trial);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_row),          cmocka_unit_test(renamed_axes),
        cmocka_unit_test(broadcast_operands), cmocka_unit_test(slopes_of_rectifiers),
        cmocka_unit_test(several_shared),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
