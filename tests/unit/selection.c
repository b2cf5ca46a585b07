/* TopK, ArgMax and ArgMin against sorting; CumSum and TopK with hostile inputs. */
#include "operator.h"

/* The number of elements of a line that come before one, in the order of TopK. */
static size_t count_before(const float *line, size_t length, size_t inner, size_t i, bool largest)
{
    size_t count = 0;
    for (size_t j = 0; j < length; j++) {
        float a = line[j * inner], b = line[i * inner];
        bool a_nan = isnan(a), b_nan = isnan(b);
        bool equal = a_nan || b_nan ? a_nan && b_nan : a == b;
        bool larger = a_nan || b_nan ? a_nan && !b_nan : a > b;
        count += equal ? j < i : larger == largest;
    }
    return count;
}

/* Numbers of which many are equal, and NaN. */
static void chooses_the_largest(void **state)
{
    (void)state;
    enum { LENGTH = 37 };
    static const int64_t shape[] = {3, LENGTH, 5};
    for (int64_t k = 0; k <= LENGTH; k += k < 5 ? 1 : 8)
        for (int largest = 0; largest < 2; largest++) {
            struct trial trial;
            trial_begin(&trial, "TopK", 2);
            trial_int(&trial, "axis", 1);
            trial_int(&trial, "largest", largest);
            float *x = trial_floats(&trial, 3, shape, NULL, 0, 12)->data;
            for (size_t i = 0; i < trial.inputs[0].count; i++)
                x[i] = x[i] < 1 ? NAN : floorf(x[i]);
            trial_integers(&trial, 1, (const int64_t[]){1}, &k);
            assert_int_equal(trial_run(&trial, NULL), 0);
            assert_int_equal(trial.outputs[0].shape[1], k);
            const float *values = trial.outputs[0].data;
            const int64_t *indices = trial.outputs[1].data;
            for (size_t i = 0; i < trial.outputs[0].count; i++) {
                size_t row = i / (size_t)(k * 5), column = i % 5, at = i / 5 % (size_t)k;
                const float *line = x + row * LENGTH * 5 + column;
                size_t index = (size_t)indices[i];
                assert_int_equal(count_before(line, LENGTH, 5, index, largest), at);
                assert_memory_equal(&values[i], &line[index * 5], sizeof *values);
            }
            trial_end(&trial);
        }
}

/* Of the two outputs one may not be wanted; derivatives need no indices. */
static void leaves_outputs_out(void **state)
{
    (void)state;
    for (int missing = 0; missing < 2; missing++) {
        struct trial trial;
        trial_begin(&trial, "TopK", 2);
        trial.output_list[missing] = NULL;
        trial_floats(&trial, 1, (const int64_t[]){4}, (const float[]){2, 8, 4, 6}, 0, 0);
        trial_integers(&trial, 1, (const int64_t[]){1}, (const int64_t[]){2});
        assert_int_equal(trial.node.op->infer(&trial.call, NULL), 0);
        assert_int_equal(net_tensor_allocate(&trial.outputs[1 - missing], NULL), 0);
        trial.call.workspace = aligned_alloc(64, (trial.call.workspace_size / 64 + 1) * 64);
        assert_int_equal(trial.node.op->forward(&trial.call, NULL), 0);
        if (missing) {
            float dx[4] = {1, 1, 1, 1};
            trial.node.op->backward(&trial.call, (const float *[]){(const float[]){3, 5}, NULL},
                                    (float *[]){dx, NULL});
            assert_memory_equal(dx, ((const float[]){1, 4, 1, 6}), sizeof dx);
        } else {
            assert_memory_equal(trial.outputs[1].data, ((const int64_t[]){1, 3}), 16);
        }
        trial_end(&trial);
    }
}

static void refuses(void **state)
{
    (void)state;
    static const struct {
        const char *op;
        int64_t rank, number, count; /* of the input, and of the second */
        const char *message;
    } cases[] = {
        {"TopK", 2, 4, 1, "4 elements of the 3 along an axis"},
        {"TopK", 2, -1, 1, "-1 elements of the 3 along an axis"},
        {"TopK", 2, INT64_MIN, 1, "elements of the 3 along an axis"},
        {"TopK", 2, 1, 2, "k has 2 elements, expected one"},
        {"TopK", 0, 1, 1, "axis -1 of an input of shape scalar"},
        {"CumSum", 2, 2, 1, "axis 2 of an input of shape 2x3"},
        {"CumSum", 2, -3, 1, "axis -3 of an input of shape 2x3"},
        {"CumProd", 0, 0, 1, "axis 0 of an input of shape scalar"},
        {"CumProd", 2, 0, 2, "2 axes, expected one"},
        {"CumSum", 2, 0, 0, "the axis depends on the data"},
        {"TopK", 2, 0, 0, "k depends on the data"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct trial trial;
        struct ivon_error error = {0};
        const int64_t numbers[] = {cases[i].number, 1}, one = 1;
        trial_begin(&trial, cases[i].op, strcmp(cases[i].op, "TopK") == 0 ? 2 : 1);
        trial_floats(&trial, (int)cases[i].rank, (const int64_t[]){2, 3}, NULL, 0, 1);
        struct net_tensor *second = trial_integers(
            &trial, 1, cases[i].count ? &cases[i].count : &one, numbers);
        if (!cases[i].count) { /* elements that are not known */
            free(second->data);
            second->data = NULL;
        }
        assert_int_equal(trial.node.op->infer(&trial.call, &error), IVON_ERROR_DATA);
        if (!strstr(error.message, cases[i].message))
            fail_msg("case %zu: '%s'", i, error.message);
        trial_end(&trial);
    }
}

/* Derivatives of a singular matrix of rank n - 1, and those of lower rank, are cofactors. */
static void derives_singular_determinants(void **state)
{
    (void)state;
    static const float matrix[3][3] = {{1, 2, 3}, {2, 4, 6}, {-1, 0.5F, 2}};
    static const int64_t shape[] = {3, 3};
    float dx[9] = {0}, one = 1;
    struct trial trial;
    trial_begin(&trial, "Det", 1);
    trial_floats(&trial, 2, shape, &matrix[0][0], 0, 0);
    assert_int_equal(trial_run(&trial, NULL), 0);
    trial.node.op->backward(&trial.call, (const float *[]){&one}, (float *[]){dx});
    for (size_t i = 0; i < 3; i++)
        for (size_t j = 0; j < 3; j++) {
            size_t a = (i + 1) % 3, b = (i + 2) % 3, c = (j + 1) % 3, d = (j + 2) % 3;
            float cofactor = matrix[a][c] * matrix[b][d] - matrix[a][d] * matrix[b][c];
            assert_true(fabsf(dx[3 * i + j] - cofactor) < 1e-5F);
        }
    trial_end(&trial);
    struct ivon_error error = {0};
    trial_begin(&trial, "Det", 1);
    trial_floats(&trial, 2, (const int64_t[]){2, 3}, NULL, 0, 1);
    assert_int_equal(trial.node.op->infer(&trial.call, &error), IVON_ERROR_DATA);
    assert_non_null(strstr(error.message, "an input of shape 2x3, expected square matrices"));
    trial_end(&trial);
    trial_begin(&trial, "Det", 1); /* 1 without elements */
    trial_floats(&trial, 3, (const int64_t[]){2, 0, 0}, NULL, 0, 1);
    assert_int_equal(trial_run(&trial, NULL), 0);
    assert_true(((float *)trial.outputs[0].data)[1] == 1);
    trial_end(&trial);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chooses_the_largest),
        cmocka_unit_test(leaves_outputs_out),
        cmocka_unit_test(refuses),
        cmocka_unit_test(derives_singular_determinants),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
