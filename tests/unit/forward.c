/*
 * Every operator forward, against answers that tests/oracle/forward_cases.py computed in double
 * from ONNX's definitions; and the derivatives of each case. A row without a case fails, and so
 * does an attribute that no case gives.
 */
#include <limits.h>

#include "operator.h"

enum { CASE_RANK_MAX = 6, CASE_ATTRIBUTES_MAX = 5, CASE_INPUTS_MAX = 5, CASE_OUTPUTS_MAX = 3 };

struct case_tensor {
    enum net_type type;
    int rank;
    int64_t shape[CASE_RANK_MAX];
    const void *data; /* null: an input that is left out */
};

struct case_attribute {
    const char *name;
    enum net_attribute_kind kind;
    int64_t integer;
    double number;
    const char *text;
    size_t count; /* of integers or numbers */
    const int64_t *integers;
    const double *numbers;
    struct case_tensor tensor;
};

#define SCALAR .rank = 0
#define SHAPE(...)                                                                                 \
    .rank = sizeof(const int64_t[]){__VA_ARGS__} / sizeof(int64_t), .shape = {__VA_ARGS__}
#define FLOATS(extents, ...)                                                                       \
    {                                                                                              \
        .type = NET_FLOAT, extents, .data = (const float[])                                        \
        {                                                                                          \
            __VA_ARGS__                                                                            \
        }                                                                                          \
    }
#define INTEGERS(extents, ...)                                                                     \
    {                                                                                              \
        .type = NET_INTEGER, extents, .data = (const int64_t[])                                    \
        {                                                                                          \
            __VA_ARGS__                                                                            \
        }                                                                                          \
    }
#define BOOLEANS(extents, ...)                                                                     \
    {                                                                                              \
        .type = NET_BOOLEAN, extents, .data = (const unsigned char[])                              \
        {                                                                                          \
            __VA_ARGS__                                                                            \
        }                                                                                          \
    }

static const struct forward_case {
    const char *op;
    const char *domain;
    int opset; /* 0: the newest */
    size_t input_count, output_count;
    struct case_tensor inputs[CASE_INPUTS_MAX], outputs[CASE_OUTPUTS_MAX];
    struct case_attribute attributes[CASE_ATTRIBUTES_MAX];
} cases[] = {
#include "forward_fixture.h"
};

enum { CASE_COUNT = sizeof cases / sizeof cases[0] };

static void case_tensor_fill(struct net_tensor *tensor, const struct case_tensor *from)
{
    assert_int_equal(net_tensor_set(tensor, from->type, from->rank, from->shape, NULL), 0);
    assert_int_equal(net_tensor_allocate(tensor, NULL), 0);
    memcpy(tensor->data, from->data, tensor->count * net_type_size(tensor->type));
}

static void case_attribute_add(struct trial *trial, const struct case_attribute *from)
{
    struct net_attribute *attribute = trial_attribute(trial, from->name, from->kind);
    attribute->integer = from->integer;
    attribute->number = from->number;
    attribute->text = (char *)from->text;
    attribute->count = from->count;
    attribute->integers = (int64_t *)from->integers;
    attribute->numbers = (double *)from->numbers;
    if (from->kind == NET_TENSOR)
        case_tensor_fill(&attribute->tensor, &from->tensor);
}

static const struct net_operator *case_row(const struct forward_case *test)
{
    return net_operator_find(test->domain, test->op, test->opset ? test->opset : NET_OPSET_MOST);
}

/* Infers and runs a case; released by case_end. */
static void case_begin(struct trial *trial, const struct forward_case *test)
{
    struct ivon_error error = {0};
    trial_begin_row(trial, case_row(test), test->output_count);
    for (size_t i = 0; i < CASE_ATTRIBUTES_MAX && test->attributes[i].name; i++)
        case_attribute_add(trial, &test->attributes[i]);
    for (size_t i = 0; i < test->input_count; i++) {
        trial_skip(trial);
        if (!test->inputs[i].data)
            continue;
        trial->input_list[i] = &trial->inputs[i];
        case_tensor_fill(&trial->inputs[i], &test->inputs[i]);
    }
    if (trial_run(trial, &error))
        fail_msg("case %zu: %s", (size_t)(test - cases), error.message);
}

static void case_end(struct trial *trial)
{
    for (size_t i = 0; i < trial->node.attribute_count; i++)
        free(trial->attributes[i].tensor.data);
    trial_end(trial);
}

/*
 * Sums and products of two of these inputs are exact, and longer products are taken in double.
 * What remains are functions, right to 2.5 ulp (core/vector_math.h), 5·2^-24 of their values, and
 * at most a difference, a quotient and a sum after them, of 2^-24 each: 8·2^-24 of 1 + |expected|.
 */
static const double tolerance = 0x1p-21;

static void case_compare(const struct forward_case *test, const struct net_tensor *found,
                         const struct case_tensor *expected)
{
    size_t number = (size_t)(test - cases), size = net_type_size(found->type);
    char text[256];
    assert_int_equal(found->type, expected->type);
    if (found->rank != expected->rank ||
        memcmp(found->shape, expected->shape, (size_t)found->rank * sizeof *found->shape) != 0)
        fail_msg("%s, case %zu: an output of shape %s", test->op, number,
                 net_shape_text(found, text));
    for (size_t i = 0; i < found->count; i++) {
        if (found->type != NET_FLOAT) {
            if (memcmp((char *)found->data + i * size, (const char *)expected->data + i * size,
                       size) != 0)
                fail_msg("%s, case %zu: element %zu differs", test->op, number, i);
            continue;
        }
        double value = (double)((const float *)found->data)[i];
        double wanted = (double)((const float *)expected->data)[i];
        if (!(fabs(value - wanted) <= tolerance * (1 + fabs(wanted))))
            fail_msg("%s, case %zu: element %zu is %.9g, expected %.9g", test->op, number, i, value,
                     wanted);
    }
}

static void gives_the_answers(void **state)
{
    (void)state;
    for (size_t i = 0; i < CASE_COUNT; i++) {
        struct trial trial;
        case_begin(&trial, &cases[i]);
        for (size_t j = 0; j < cases[i].output_count; j++)
            case_compare(&cases[i], &trial.outputs[j], &cases[i].outputs[j]);
        case_end(&trial);
    }
}

/*
 * Inputs are 1/16 or more from any kink, and 1/8 from one another where that matters. With a step
 * of 2^-8 in directions of size 1, a difference is off by what rounds outputs below 32, 2^-20, over
 * the step: 2^-12; and by step²/6 times a third derivative below 100 (1 + |tangent|): 2^-12 of
 * that. The identity adds products of up to six factors, 8·2^-24, and adjoints that were added
 * to 1.
 */
static const double step = 0x1p-8, difference_tolerance = 0x1p-11, identity_tolerance = 0x1p-21;

static void has_derivatives(void **state)
{
    (void)state;
    for (size_t i = 0; i < CASE_COUNT; i++) {
        struct trial trial;
        case_begin(&trial, &cases[i]);
        for (size_t j = 0; j < cases[i].output_count && trial.node.op->backward; j++)
            if (trial.outputs[j].type == NET_FLOAT)
                trial_check_output_derivatives(&trial, j, UINT_MAX, step, difference_tolerance,
                                               identity_tolerance);
        case_end(&trial);
    }
}

static const struct case_attribute *case_attribute_find(const struct forward_case *test,
                                                        const char *name)
{
    for (size_t i = 0; i < CASE_ATTRIBUTES_MAX && test->attributes[i].name; i++)
        if (strcmp(test->attributes[i].name, name) == 0)
            return &test->attributes[i];
    return NULL;
}

/* The number of cases of a row; where `attribute` is not null, of those that give it. */
static size_t cases_of(const struct net_operator *row, const char *attribute)
{
    size_t count = 0;
    for (size_t i = 0; i < CASE_COUNT; i++)
        if (case_row(&cases[i]) == row)
            count += !attribute || case_attribute_find(&cases[i], attribute);
    return count;
}

static void leaves_none_out(void **state)
{
    (void)state;
    const struct net_operator *row;
    for (size_t at = 0; (row = net_operator_row(at)); at++) {
        if (!cases_of(row, NULL))
            fail_msg("%s-%d has no case: see tests/oracle/forward_cases.py", row->name, row->since);
        for (size_t i = 0; i < NET_OPERATOR_ATTRIBUTES_MAX && row->attributes[i].name; i++)
            if (!cases_of(row, row->attributes[i].name))
                fail_msg("%s-%d: no case gives '%s'", row->name, row->since,
                         row->attributes[i].name);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gives_the_answers),
        cmocka_unit_test(has_derivatives),
        cmocka_unit_test(leaves_none_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
