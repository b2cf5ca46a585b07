/*
 * Low-rank corrections against dense algebra in double: of all parameters, and of some given the
 * others, where the vectors are no longer orthonormal.
 *
 * Rounding: the vectors are floats that are orthonormal to 2^-22, which the formulas take for
 * exact: an error of that, times a condition of M below 25.
 */
#include "structured_network.h"

#include "bayes/low_rank.h"

static const double BOUND = 25 * 0x1p-22;

/* Element i of vector k, in the order of a dense covariance. */
static void dense_vectors(const struct dense *dense, double u[RANK][DENSE_MOST])
{
    for (size_t t = 0; t < ivon_source_tensor_count(dense->source); t++) {
        size_t count = ivon_source_tensor(dense->source, t)->count;
        float vectors[RANK * RANDOM];
        if (!dense->random[t])
            continue;
        assert_int_equal(
            low_rank_vectors(dense->source, dense->structure, t, 0, count, vectors, NULL), 0);
        for (size_t k = 0; k < RANK; k++)
            for (size_t i = 0; i < count; i++)
                u[k][dense->at[t] + i] = (double)vectors[k * count + i];
    }
}

/* I + sign U F Uᵀ is the matrix that is expected. */
static void check_function(const struct dense *dense, const struct low_rank *low_rank,
                           enum low_rank_function function, double sign,
                           const double (*expected)[DENSE_MOST])
{
    static double u[RANK][DENSE_MOST];
    double matrix[RANK * RANK];
    assert_int_equal(low_rank_matrix(low_rank, function, matrix, NULL), 0);
    dense_vectors(dense, u);
    for (size_t i = 0; i < dense->size; i++)
        for (size_t j = 0; j < dense->size; j++) {
            double found = i == j;
            for (size_t k = 0; k < RANK; k++)
                for (size_t l = 0; l < RANK; l++)
                    found += sign * u[k][i] * matrix[k * RANK + l] * u[l][j];
            if (!(fabs(found - expected[i][j]) <= BOUND))
                fail_msg("%zu, %zu: %.9g, expected %.9g", i, j, found, expected[i][j]);
        }
}

static void check_subset(struct ivon_source *source, bool (*selected)(void *, const char *),
                         size_t kept)
{
    struct low_rank *low_rank = NULL;
    struct dense *dense = dense_new(source, selected);
    assert_int_equal(low_rank_new(&low_rank, source, dense->structure, dense->random, NULL), 0);
    assert_int_equal(low_rank->kept, kept);
    check_function(dense, low_rank, LOW_RANK_COVARIANCE, -1,
                   (const double(*)[DENSE_MOST])dense->inverse);
    check_function(dense, low_rank, LOW_RANK_ROOT, 1,
                   (const double(*)[DENSE_MOST])dense->inverse_root);
    double base = 0;
    for (size_t i = 0; i < dense->size; i++)
        base += 2 * log(dense->scale[i]);
    double found = low_rank_log_determinant(low_rank), expected = base - dense->log_determinant;
    if (!(fabs(found - expected) <= BOUND * RANK))
        fail_msg("log determinant %.9g, expected %.9g", found, expected);
    low_rank_free(low_rank);
    dense_free(dense);
}

static bool only_b2(void *context, const char *name)
{
    (void)context;
    return strcmp(name, "b2") == 0;
}

static bool nothing(void *context, const char *name)
{
    (void)context;
    (void)name;
    return false;
}

/* b2 has three elements, where four vectors have a common direction. */
static void subsets_are_conditioned_on_the_rest(void **state)
{
    (void)state;
    struct structured structured;
    structured_begin(&structured, true);
    check_subset(structured.model.source, NULL, RANK);
    check_subset(structured.model.source, all_but_b2, RANK);
    check_subset(structured.model.source, only_w2, RANK);
    check_subset(structured.model.source, only_b2, OUT);
    structured_end(&structured);
}

static void of_nothing_nothing_is_left(void **state)
{
    (void)state;
    struct structured structured;
    struct low_rank *low_rank = NULL;
    double matrix[RANK * RANK];
    structured_begin(&structured, true);
    struct dense *dense = dense_new(structured.model.source, nothing);
    assert_int_equal(
        low_rank_new(&low_rank, structured.model.source, dense->structure, dense->random, NULL), 0);
    assert_int_equal(low_rank->kept, 0);
    assert_true(low_rank_log_determinant(low_rank) == 0);
    assert_int_equal(low_rank_matrix(low_rank, LOW_RANK_ROOT, matrix, NULL), 0);
    for (size_t i = 0; i < RANK * RANK; i++)
        assert_true(matrix[i] == 0);
    low_rank_free(low_rank);
    dense_free(dense);
    structured_end(&structured);
}

static void any_range_of_vectors_is_read(void **state)
{
    (void)state;
    struct structured structured;
    structured_begin(&structured, true);
    struct dense *dense = dense_new(structured.model.source, NULL);
    float whole[RANK * OUT], part[RANK * 2];
    size_t b2 = (size_t)ivon_source_find(dense->source, IVON_HESSIAN, "b2");
    assert_int_equal(low_rank_vectors(dense->source, dense->structure, b2, 0, OUT, whole, NULL), 0);
    assert_int_equal(low_rank_vectors(dense->source, dense->structure, b2, 1, 2, part, NULL), 0);
    for (size_t k = 0; k < RANK; k++)
        assert_memory_equal(part + 2 * k, whole + OUT * k + 1, 2 * sizeof *part);
    dense_free(dense);
    structured_end(&structured);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(subsets_are_conditioned_on_the_rest),
        cmocka_unit_test(of_nothing_nothing_is_left),
        cmocka_unit_test(any_range_of_vectors_is_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
