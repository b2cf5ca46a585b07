/* Comparisons, logic, choice and conversion, one element at a time. */
#include "elementwise.h"

#include "core/error.h"
#include "ivon/dtype.h"

static const int64_t few[] = {-2, 0, 1, 1, INT64_MAX, INT64_MIN};

enum { FEW = sizeof few / sizeof few[0] };

/* Floats from a small set, so that equal ones meet, with NaN, infinities and both zeros. */
static void add_few_floats(struct trial *trial, int rank, const int64_t *shape)
{
    static const float choices[] = {0, -0.0F, 1, 1, -1, NAN, INFINITY, -INFINITY};
    struct net_tensor *tensor = trial_floats(trial, rank, shape, NULL, 0, 8);
    float *data = tensor->data;
    for (size_t i = 0; i < tensor->count; i++)
        data[i] = choices[(size_t)data[i]];
}

static void add_input(struct trial *trial, enum net_type type, int rank, const int64_t *shape)
{
    if (type == NET_FLOAT)
        add_few_floats(trial, rank, shape);
    else if (type == NET_INTEGER)
        add_integers(trial, rank, shape, few, FEW);
    else
        add_booleans(trial, rank, shape);
}

static const void *at(const struct net_tensor *tensor, size_t i)
{
    return (const char *)tensor->data + i * net_type_size(tensor->type);
}

/* -1, 0 or 1 where a is less, equal, greater; 2 where they have no order. */
static int order(const struct net_tensor *a, size_t i, const struct net_tensor *b, size_t j)
{
    if (a->type == NET_FLOAT) {
        float x = *(const float *)at(a, i), y = *(const float *)at(b, j);
        return isnan(x) || isnan(y) ? 2 : x < y ? -1 : x > y;
    }
    if (a->type == NET_INTEGER) {
        int64_t x = *(const int64_t *)at(a, i), y = *(const int64_t *)at(b, j);
        return x < y ? -1 : x > y;
    }
    return *(const unsigned char *)at(a, i) - *(const unsigned char *)at(b, j);
}

static bool expected(const char *name, int order, const unsigned char *a, const unsigned char *b)
{
    if (strcmp(name, "Equal") == 0)
        return order == 0;
    if (strcmp(name, "Less") == 0)
        return order == -1;
    if (strcmp(name, "LessOrEqual") == 0)
        return order == -1 || order == 0;
    if (strcmp(name, "Greater") == 0)
        return order == 1;
    if (strcmp(name, "GreaterOrEqual") == 0)
        return order == 1 || order == 0;
    if (strcmp(name, "And") == 0)
        return *a && *b;
    return strcmp(name, "Or") == 0 ? *a || *b : *a != *b;
}

static void compares(void **state)
{
    (void)state;
    static const char *const names[] = {"Equal",          "Less", "LessOrEqual", "Greater",
                                        "GreaterOrEqual", "And",  "Or",          "Xor"};
    for (size_t k = 0; k < 8; k++)
        for (enum net_type type = NET_FLOAT; type <= NET_BOOLEAN; type++)
            for (size_t j = 0; j < PAIR_COUNT; j++) {
                if (type == NET_BOOLEAN ? k > 0 && k < 5 : k >= 5)
                    continue;
                struct trial trial;
                trial_begin(&trial, names[k], 1);
                add_input(&trial, type, pairs[j].rank[0], pairs[j].shape[0]);
                add_input(&trial, type, pairs[j].rank[1], pairs[j].shape[1]);
                assert_int_equal(trial_run(&trial, NULL), 0);
                const struct net_tensor *a = &trial.inputs[0], *b = &trial.inputs[1];
                const struct net_tensor *y = &trial.outputs[0];
                assert_int_equal(y->type, NET_BOOLEAN);
                for (size_t i = 0; i < y->count; i++) {
                    size_t left = element(a, y, i), right = element(b, y, i);
                    assert_int_equal(
                        *(const unsigned char *)at(y, i),
                        expected(names[k], order(a, left, b, right), at(a, left), at(b, right)));
                }
                trial_end(&trial);
            }
}

static void negates_and_finds_nan(void **state)
{
    (void)state;
    struct trial trial;
    trial_begin(&trial, "Not", 1);
    add_booleans(&trial, 1, (const int64_t[]){3000});
    assert_int_equal(trial_run(&trial, NULL), 0);
    for (size_t i = 0; i < 3000; i++)
        assert_int_equal(((const unsigned char *)trial.outputs[0].data)[i],
                         !((const unsigned char *)trial.inputs[0].data)[i]);
    trial_end(&trial);
    trial_begin(&trial, "IsNaN", 1);
    add_few_floats(&trial, 1, (const int64_t[]){3000});
    assert_int_equal(trial_run(&trial, NULL), 0);
    for (size_t i = 0; i < 3000; i++)
        assert_int_equal(((const unsigned char *)trial.outputs[0].data)[i],
                         isnan(((const float *)trial.inputs[0].data)[i]) != 0);
    trial_end(&trial);
}

/* Each of the three operands in each of two shapes, elements kept to the bit. */
static void chooses(void **state)
{
    (void)state;
    for (enum net_type type = NET_FLOAT; type <= NET_BOOLEAN; type++)
        for (size_t j = 0; j < PAIR_COUNT; j++)
            for (unsigned sides = 0; sides < 8; sides++) {
                struct trial trial;
                trial_begin(&trial, "Where", 1);
                for (unsigned k = 0; k < 3; k++) {
                    unsigned side = sides >> k & 1;
                    add_input(&trial, k ? type : NET_BOOLEAN, pairs[j].rank[side],
                              pairs[j].shape[side]);
                }
                assert_int_equal(trial_run(&trial, NULL), 0);
                const struct net_tensor *y = &trial.outputs[0], *c = &trial.inputs[0];
                assert_int_equal(y->type, type);
                for (size_t i = 0; i < y->count; i++) {
                    bool yes = *(const unsigned char *)at(c, element(c, y, i));
                    const struct net_tensor *from = &trial.inputs[yes ? 1 : 2];
                    assert_memory_equal(at(y, i), at(from, element(from, y, i)),
                                        net_type_size(type));
                }
                trial_end(&trial);
            }
}

static void cast(struct trial *trial, int64_t to, enum net_type type)
{
    trial_int(trial, "to", to);
    assert_int_equal(trial_run(trial, NULL), 0);
    assert_int_equal(trial->outputs[0].type, type);
}

static void converts_floats(void **state)
{
    (void)state;
    static const float values[] = {0,    -0.0F, 0.9F,   -0.9F, 1.5F,     -1.5F,     200,      -200,
                                   3e9F, 1e19F, -1e19F, NAN,   INFINITY, -INFINITY, 0x1p-149F};
    static const int64_t truncated[] = {
        0, 0, 0, 0, 1, -1, 200, -200, 3000000000, INT64_MAX, INT64_MIN, 0, INT64_MAX, INT64_MIN, 0};
    static const int64_t bytes[] = {0,  0, 0, 0,  1, -1, -56, 56, (int8_t)(3000000000 & 0xff),
                                    -1, 0, 0, -1, 0, 0};
    enum { COUNT = sizeof values / sizeof values[0] };
    static const int64_t count = COUNT;
    static const struct {
        int64_t to;
        enum net_type type;
    } targets[] = {
        {1, NET_FLOAT}, {11, NET_FLOAT}, {7, NET_INTEGER}, {3, NET_INTEGER}, {9, NET_BOOLEAN}};
    for (size_t k = 0; k < 5; k++) {
        struct trial trial;
        trial_begin(&trial, "Cast", 1);
        trial_floats(&trial, 1, &count, values, 0, 0);
        cast(&trial, targets[k].to, targets[k].type);
        const struct net_tensor *y = &trial.outputs[0];
        for (size_t i = 0; i < COUNT; i++) {
            if (targets[k].type == NET_FLOAT)
                assert_int_equal(bits_of(*(const float *)at(y, i)), bits_of(values[i]));
            else if (targets[k].type == NET_INTEGER)
                assert_int_equal(*(const int64_t *)at(y, i), (k == 2 ? truncated : bytes)[i]);
            else
                assert_int_equal(*(const unsigned char *)at(y, i), values[i] != 0);
        }
        trial_end(&trial);
    }
}

/* Every 509th of all floats, and of the middles between two numbers of 16 bits, against the
   library's conversion to such numbers and back. The derivative is the identity. */
static void rounds_to_sixteen_bits(void **state)
{
    (void)state;
    enum { COUNT = 4096 };
    static const struct {
        int64_t to;
        enum ivon_dtype dtype;
        uint32_t middle;
    } targets[] = {{10, IVON_F16, 0x1000}, {16, IVON_BF16, 0x8000}};
    static const int64_t count = COUNT;
    static float x[COUNT], sum[COUNT], moved[COUNT];
    static double wide[COUNT];
    static uint16_t narrow[COUNT];
    for (size_t k = 0; k < 4; k++)
        for (uint64_t bits = 0; bits < UINT64_C(1) << 32;) {
            struct trial trial;
            for (size_t i = 0; i < COUNT; i++, bits += 509) {
                uint32_t some = (uint32_t)bits, middle = targets[k / 2].middle;
                some = k % 2 ? (some & ~(2 * middle - 1)) | middle : some;
                memcpy(&x[i], &some, sizeof some);
                wide[i] = (double)x[i];
            }
            trial_begin(&trial, "Cast", 1);
            trial_floats(&trial, 1, &count, x, 0, 0);
            cast(&trial, targets[k / 2].to, NET_FLOAT);
            ivon_dtype_from_f64(narrow, targets[k / 2].dtype, wide, COUNT);
            ivon_dtype_to_f64(wide, narrow, targets[k / 2].dtype, COUNT);
            const float *y = trial.outputs[0].data;
            for (size_t i = 0; i < COUNT; i++)
                if (!same_float(y[i], (float)wide[i]))
                    fail_msg("%a to type %d is %a, expected %a", (double)x[i],
                             (int)targets[k / 2].to, (double)y[i], wide[i]);
            memset(sum, 0, sizeof sum);
            trial.node.op->backward(&trial.call, (const float *[]){x}, (float *[]){sum});
            trial.node.op->tangent(&trial.call, (const float *[]){x}, (float *[]){moved});
            for (size_t i = 0; i < COUNT; i++)
                assert_true(same_float(moved[i], x[i]) && (sum[i] == x[i] || isnan(x[i])));
            trial_end(&trial);
        }
}

static void converts_integers(void **state)
{
    (void)state;
    static const int64_t values[] = {0,
                                     1,
                                     -1,
                                     127,
                                     128,
                                     255,
                                     256,
                                     32768,
                                     65537,
                                     -32769,
                                     INT64_C(1) << 31,
                                     INT64_C(1) << 32,
                                     INT64_MIN,
                                     INT64_MAX};
    enum { COUNT = sizeof values / sizeof values[0] };
    static const int64_t count = COUNT, kinds[] = {2, 3, 4, 5, 6, 7, 12};
    for (size_t k = 0; k < 9; k++) {
        struct trial trial;
        trial_begin(&trial, "Cast", 1);
        trial_integers(&trial, 1, &count, values);
        cast(&trial,
             k < 7    ? kinds[k]
             : k == 7 ? 1
                      : 9,
             k < 7    ? NET_INTEGER
             : k == 7 ? NET_FLOAT
                      : NET_BOOLEAN);
        for (size_t i = 0; i < COUNT; i++) {
            const void *y = at(&trial.outputs[0], i);
            const int64_t wrapped[] = {(uint8_t)values[i], (int8_t)values[i],  (uint16_t)values[i],
                                       (int16_t)values[i], (int32_t)values[i], values[i],
                                       (uint32_t)values[i]};
            if (k < 7)
                assert_int_equal(*(const int64_t *)y, wrapped[k]);
            else if (k == 7)
                assert_true(*(const float *)y == (float)values[i]);
            else
                assert_int_equal(*(const unsigned char *)y, values[i] != 0);
        }
        trial_end(&trial);
    }
}

static void converts_booleans(void **state)
{
    (void)state;
    for (size_t k = 0; k < 3; k++) {
        struct trial trial;
        trial_begin(&trial, "Cast", 1);
        add_booleans(&trial, 1, (const int64_t[]){3000});
        cast(&trial,
             k == 0   ? 1
             : k == 1 ? 6
                      : 9,
             k == 0   ? NET_FLOAT
             : k == 1 ? NET_INTEGER
                      : NET_BOOLEAN);
        for (size_t i = 0; i < 3000; i++) {
            unsigned char x = ((const unsigned char *)trial.inputs[0].data)[i];
            const void *y = at(&trial.outputs[0], i);
            if (k == 0)
                assert_true(*(const float *)y == (float)x);
            else if (k == 1)
                assert_int_equal(*(const int64_t *)y, x);
            else
                assert_int_equal(*(const unsigned char *)y, x);
        }
        trial_end(&trial);
    }
}

static void refuses(const char *op, const char *message, int64_t to, const enum net_type *types,
                    size_t count)
{
    struct ivon_error error;
    struct trial trial;
    trial_begin(&trial, op, 1);
    if (to >= 0)
        trial_int(&trial, "to", to);
    for (size_t i = 0; i < count; i++)
        add_input(&trial, types[i], 1, (const int64_t[]){2});
    assert_int_equal(trial_run(&trial, &error), IVON_ERROR_DATA);
    assert_string_equal(error.message, message);
    trial_end(&trial);
}

static void refuses_strange_inputs(void **state)
{
    (void)state;
    static const enum net_type mixed[] = {NET_FLOAT, NET_INTEGER, NET_FLOAT};
    static const enum net_type truths[] = {NET_BOOLEAN, NET_BOOLEAN, NET_FLOAT};
    refuses("Equal", "node 'trial' (Equal): input 1 is of type integer, expected float", -1, mixed,
            2);
    refuses("Less", "node 'trial' (Less): input 0 is of type boolean, expected float or integer",
            -1, truths, 2);
    refuses("And", "node 'trial' (And): input 0 is of type float, expected boolean", -1, mixed, 2);
    refuses("Not", "node 'trial' (Not): input 0 is of type float, expected boolean", -1, mixed, 1);
    refuses("Where", "node 'trial' (Where): input 0 is of type float, expected boolean", -1, mixed,
            3);
    refuses("Where", "node 'trial' (Where): input 2 is of type float, expected boolean", -1, truths,
            3);
    refuses("Cast", "node 'trial' (Cast): it has no attribute 'to'", -1, mixed, 1);
    refuses("Cast",
            "node 'trial' (Cast): type 8 is not supported, expected a float, an integer or bool", 8,
            mixed, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(compares),
        cmocka_unit_test(negates_and_finds_nan),
        cmocka_unit_test(chooses),
        cmocka_unit_test(converts_floats),
        cmocka_unit_test(rounds_to_sixteen_bits),
        cmocka_unit_test(converts_integers),
        cmocka_unit_test(converts_booleans),
        cmocka_unit_test(refuses_strange_inputs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
