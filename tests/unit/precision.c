/*
 * Products with a posterior's precision, against the dense covariance: P Σ x = x, and the diagonal
 * of the dense inverse.
 *
 * Rounding: a product is a sum of at most a hundred products of floats, nested four deep, and bases
 * and vectors are orthonormal to 2^-22: 164 · 2^-24 of the largest, as in covariance_structured.c.
 * Σ, in double, then makes of an error of y one of at most |Σ| |P| = cond Σ times its share of x.
 */
#include "structured_network.h"

#include "bayes/precision.h"
#include "core/thread_pool.h"

static const double BOUND = 164 * 0x1p-24, DIVISOR = 40;

static bool all(void *context, const char *name)
{
    (void)context;
    (void)name;
    return true;
}

static bool all_but_b1(void *context, const char *name)
{
    (void)context;
    return strcmp(name, "b1") != 0;
}

/* Arrays for each tensor of a source, of those means alone that are selected. */
struct arrays {
    float *of[MODEL_TENSORS];
    bool wanted[MODEL_TENSORS];
};

static void arrays_begin(struct arrays *arrays, const struct ivon_source *source,
                         bool (*selected)(void *, const char *))
{
    *arrays = (struct arrays){0};
    for (size_t t = 0; t < ivon_source_tensor_count(source); t++) {
        const struct ivon_tensor *tensor = ivon_source_tensor(source, t);
        arrays->wanted[t] = tensor->part == IVON_MEAN && selected(NULL, tensor->name);
        if (arrays->wanted[t])
            assert_non_null(arrays->of[t] = calloc(tensor->count, sizeof(float)));
    }
}

static void arrays_end(struct arrays *arrays)
{
    for (size_t t = 0; t < MODEL_TENSORS; t++)
        free(arrays->of[t]);
}

static struct precision *precision_of(const struct structured *structured,
                                      const struct arrays *arrays)
{
    struct precision *precision = NULL;
    struct ivon_error error = {0};
    if (precision_new(&precision, structured->model.source, arrays->wanted, DIVISOR, &error))
        fail_msg("%s", error.message);
    for (size_t t = 0; t < MODEL_TENSORS; t++)
        assert_true(!arrays->wanted[t] || precision_covers(precision, t));
    assert_false(precision_is_diagonal(precision));
    return precision;
}

static void expect(const char *what, size_t i, double found, double expected, double most)
{
    if (!(fabs(found - expected) <= BOUND * most))
        fail_msg("%s %zu: %.9g, expected %.9g", what, i, found, expected);
}

/* Vectors of the dense covariance from arrays. */
static void arrays_to_dense(const struct arrays *arrays, const struct dense *dense, double *vector)
{
    for (size_t t = 0; t < MODEL_TENSORS; t++)
        for (size_t i = 0; arrays->of[t] && i < ivon_source_tensor(dense->source, t)->count; i++)
            vector[dense_index(dense, t, i)] = (double)arrays->of[t][i];
}

static double dense_norm(dense_matrix a, size_t n)
{
    double squares = 0;
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++)
            squares += a[i][j] * a[i][j];
    return sqrt(squares);
}

static void check_precision(struct structured *structured, bool (*selected)(void *, const char *))
{
    static dense_matrix copy, inverse, root;
    struct arrays x;
    double given[DENSE_MOST] = {0}, y[DENSE_MOST] = {0}, back[DENSE_MOST], most = 0;
    struct dense *dense = dense_new(structured->model.source, selected);
    size_t n = dense->size;
    memcpy(copy, dense->covariance, sizeof copy);
    dense_invert(n, copy, inverse, root);
    double condition = dense_norm(dense->covariance, n) * dense_norm(inverse, n);
    arrays_begin(&x, structured->model.source, selected);
    for (size_t t = 0; t < MODEL_TENSORS; t++)
        for (size_t i = 0; x.of[t] && i < ivon_source_tensor(dense->source, t)->count; i++)
            x.of[t][i] = model_random(&structured->model, -1, 1);
    arrays_to_dense(&x, dense, given);
    struct precision *precision = precision_of(structured, &x);
    assert_int_equal(precision_multiply(precision, (const float *const *)x.of, x.of, NULL, NULL),
                     0);
    arrays_to_dense(&x, dense, y);
    dense_multiply(dense, y, back);
    for (size_t i = 0; i < n; i++)
        expect("identity", i, back[i] * DIVISOR, given[i], condition);
    assert_int_equal(precision_diagonal(precision, x.of, NULL, NULL), 0);
    arrays_to_dense(&x, dense, y);
    for (size_t i = 0; i < n; i++)
        most = fmax(most, inverse[i][i] / DIVISOR);
    for (size_t i = 0; i < n; i++)
        expect("diagonal", i, y[i], inverse[i][i] / DIVISOR, most);
    precision_free(precision);
    arrays_end(&x);
    dense_free(dense);
}

static void precision_is_the_inverse_of_the_covariance(void **state)
{
    (void)state;
    for (int low_rank = 0; low_rank < 2; low_rank++) {
        struct structured structured;
        structured_begin(&structured, low_rank);
        check_precision(&structured, all);
        check_precision(&structured, all_but_b2);
        check_precision(&structured, only_w2);
        structured_end(&structured);
    }
}

/* Given b1, the precision of the others has their rows and columns, to the bit, though b1 shares a
   block with w1. Bits are those of any number of threads. */
static void means_that_are_given_take_rows_and_columns(void **state)
{
    (void)state;
    struct structured structured;
    struct arrays whole, part;
    struct thread_pool *pool = NULL;
    structured_begin(&structured, true);
    struct ivon_source *source = structured.model.source;
    arrays_begin(&whole, source, all);
    arrays_begin(&part, source, all_but_b1);
    struct precision *precision = precision_of(&structured, &whole);
    struct precision *given = precision_of(&structured, &part);
    assert_int_equal(thread_pool_new(&pool, 3, NULL), 0);
    for (int diagonal = 0; diagonal < 2; diagonal++) {
        for (size_t t = 0; t < MODEL_TENSORS; t++)
            for (size_t i = 0; part.of[t] && i < ivon_source_tensor(source, t)->count; i++)
                part.of[t][i] = whole.of[t][i] = model_random(&structured.model, -1, 1);
        size_t b1 = (size_t)ivon_source_find(source, IVON_MEAN, "b1");
        memset(whole.of[b1], 0, HIDDEN * sizeof(float));
        if (diagonal) {
            assert_int_equal(precision_diagonal(precision, whole.of, pool, NULL), 0);
            assert_int_equal(precision_diagonal(given, part.of, NULL, NULL), 0);
        } else {
            assert_int_equal(
                precision_multiply(precision, (const float *const *)whole.of, whole.of, pool, NULL),
                0);
            assert_int_equal(
                precision_multiply(given, (const float *const *)part.of, part.of, NULL, NULL), 0);
        }
        for (size_t t = 0; t < MODEL_TENSORS; t++)
            if (part.of[t])
                assert_memory_equal(part.of[t], whole.of[t],
                                    ivon_source_tensor(source, t)->count * sizeof(float));
    }
    thread_pool_free(pool);
    precision_free(precision);
    precision_free(given);
    arrays_end(&whole);
    arrays_end(&part);
    structured_end(&structured);
}

/* One mean with a Hessian, one without: elements of a diagonal are those of the Hessian. */
static void a_diagonal_multiplies_elements(void **state)
{
    (void)state;
    enum { COUNT = 5 };
    static const float m[COUNT] = {0}, x[COUNT] = {1, -2, 3, 4, 0.5F};
    float h[COUNT] = {1, 2, 0, 0.25F, 7}, product[COUNT];
    const struct ivon_header header = {.step = -1, .n_train = -1, .ess = 30, .weight_decay = 0.5};
    const struct ivon_tensor tensor = {.name = "a",
                                       .part = IVON_MEAN,
                                       .dtype = IVON_F32,
                                       .rank = 1,
                                       .shape = {COUNT},
                                       .count = COUNT,
                                       .ess = 30,
                                       .weight_decay = 0.5};
    struct ivon_tensor tensors[3] = {tensor, tensor, tensor};
    tensors[1].part = IVON_HESSIAN;
    tensors[2].name = "b";
    struct ivon_source *source = NULL;
    struct precision *precision = NULL;
    struct ivon_error error = {0};
    const bool wanted[3] = {true, false, true};
    assert_int_equal(ivon_source_from_memory(&source, "memory", &header, tensors,
                                             (const void *const[]){m, h, m}, 3, NULL),
                     0);
    assert_int_equal(precision_new(&precision, source, wanted, 4, NULL), 0);
    assert_true(precision_is_diagonal(precision));
    assert_true(precision_covers(precision, 0));
    assert_false(precision_covers(precision, 2));
    assert_int_equal(precision_multiply(precision, (const float *const[]){x, NULL, NULL},
                                        (float *const[]){product, NULL, NULL}, NULL, NULL),
                     0);
    for (size_t i = 0; i < COUNT; i++)
        assert_true(product[i] == (float)(30 * ((double)h[i] + 0.5) / 4) * x[i]);
    precision_free(precision);
    h[3] = -0.75F;
    assert_int_equal(precision_new(&precision, source, wanted, 4, &error), IVON_ERROR_DATA);
    assert_string_equal(error.message, "memory: Hessian of 'a' is -0.75 at element 3, with "
                                       "weight_decay 0.5 expected above -0.5");
    ivon_source_close(source);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(precision_is_the_inverse_of_the_covariance),
        cmocka_unit_test(means_that_are_given_take_rows_and_columns),
        cmocka_unit_test(a_diagonal_multiplies_elements),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
