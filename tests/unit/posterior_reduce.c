/*
 * Reductions of a posterior with every structure against the diagonals of its dense covariance and
 * precision. h is rounded once; the vectors of the correction turn in binary32, in bases of 5
 * columns: 32 · 2^-24 of a base's diagonal that is no more than a hundred times what remains.
 */
#include "structured_network.h"

#include "ivon/convert.h"
#include "ivon/summary.h"

enum { MEANS = 4 };

static const double BOUND = 3200 * 0x1p-24;

static struct ivon_source *reduce(struct ivon_source *source, enum ivon_reduction reduction,
                                  int threads)
{
    struct ivon_reduce_options options = ivon_reduce_defaults();
    struct ivon_source *reduced = NULL;
    struct ivon_error error = {0};
    options.reduction = reduction;
    options.resources.threads = threads;
    if (ivon_reduce(&reduced, source, &options, &error))
        fail_msg("%s", error.message);
    return reduced;
}

/* The diagonal of the precision of a dense covariance. */
static void invert_diagonal(const struct dense *dense, double *diagonal)
{
    static dense_matrix covariance, inverse, root;
    memcpy(covariance, dense->covariance, sizeof covariance);
    dense_invert(dense->size, covariance, inverse, root);
    for (size_t i = 0; i < dense->size; i++)
        diagonal[i] = inverse[i][i];
}

/* Returns the least h. */
static double check_diagonal(const struct dense *dense, const double *precision,
                             struct ivon_source *reduced)
{
    double least = INFINITY;
    for (size_t m = 0; m < MEANS; m++) {
        const struct ivon_tensor *mean = ivon_source_tensor(dense->source, m);
        ptrdiff_t at = ivon_source_find(reduced, IVON_HESSIAN, mean->name);
        assert_true(at >= 0);
        const struct ivon_tensor *tensor = ivon_source_tensor(reduced, (size_t)at);
        assert_int_equal(tensor->count, mean->count);
        assert_int_equal(tensor->dtype, IVON_F32);
        for (size_t i = 0; i < mean->count; i++) {
            double h = (double)dense_floats(reduced, at)[i];
            double found = tensor->ess * (h + tensor->weight_decay);
            double expected = precision[dense_index(dense, m, i)];
            if (!(fabs(found / expected - 1) <= BOUND))
                fail_msg("%s, %zu: %.9g, expected %.9g", mean->name, i, found, expected);
            least = h < least ? h : least;
        }
    }
    return least;
}

static void check_parts(struct ivon_source *reduced, bool blocks)
{
    struct ivon_structure structure;
    struct ivon_error error = {0};
    assert_int_equal(ivon_structure_describe(&structure, reduced, &error), 0);
    assert_int_equal(structure.blocks, blocks ? 2 : 0);
    assert_int_equal(structure.rank, 0);
    assert_true(isnan(ivon_source_header(reduced)->decrement));
    for (size_t i = 0; i < ivon_source_tensor_count(reduced); i++)
        assert_true(blocks || ivon_source_tensor(reduced, i)->part <= IVON_HESSIAN);
}

static void diagonals_are_those_of_the_matrices(void **state)
{
    (void)state;
    for (int low_rank = 0; low_rank < 2; low_rank++) {
        struct structured structured;
        structured_begin(&structured, low_rank);
        struct ivon_source *source = structured.model.source, *reduced;
        struct dense *dense = dense_new(source, NULL);
        double expected[DENSE_MOST] = {0};
        for (int threads = 1; threads < 4; threads += 2) {
            reduced = reduce(source, IVON_REDUCE_COVARIANCE, threads);
            for (size_t i = 0; i < dense->size; i++)
                expected[i] = 1 / dense->covariance[i][i];
            check_diagonal(dense, expected, reduced);
            check_parts(reduced, false);
            ivon_source_close(reduced);
            reduced = reduce(source, IVON_REDUCE_PRECISION, threads);
            invert_diagonal(dense, expected);
            check_diagonal(dense, expected, reduced);
            check_parts(reduced, false);
            ivon_source_close(reduced);
        }
        dense_free(dense);
        structured_end(&structured);
    }
}

/* With l near -1 a correction takes nearly all precision, the prior's too: h is negative. */
static void less_precision_than_the_priors_is_a_negative_h(void **state)
{
    (void)state;
    struct structured structured;
    structured_begin(&structured, true);
    struct ivon_source *source = structured.model.source;
    for (size_t i = 0; i < structured.model.count; i++)
        if (structured.model.tensors[i].part == IVON_HESSIAN) {
            ptrdiff_t at = ivon_source_find(source, IVON_HESSIAN, structured.model.tensors[i].name);
            float *h = (float *)dense_floats(source, at);
            for (size_t j = 0; j < structured.model.tensors[i].count; j++)
                h[j] *= 1e-4f;
        }
    struct dense *dense = dense_new(source, NULL);
    double expected[DENSE_MOST] = {0};
    struct ivon_source *reduced = reduce(source, IVON_REDUCE_COVARIANCE, 1);
    for (size_t i = 0; i < dense->size; i++)
        expected[i] = 1 / dense->covariance[i][i];
    assert_true(check_diagonal(dense, expected, reduced) < 0);
    ivon_source_close(reduced);
    reduced = reduce(source, IVON_REDUCE_PRECISION, 1);
    invert_diagonal(dense, expected);
    assert_true(check_diagonal(dense, expected, reduced) < 0);
    ivon_source_close(reduced);
    dense_free(dense);
    structured_end(&structured);
}

/* Whatever it had is there, bit by bit. */
static void a_base_has_everything_but_the_correction(void **state)
{
    (void)state;
    struct structured structured;
    structured_begin(&structured, true);
    struct ivon_source *source = structured.model.source;
    struct ivon_source *base = reduce(source, IVON_REDUCE_BASE, 1);
    check_parts(base, true);
    for (size_t i = 0; i < ivon_source_tensor_count(source); i++) {
        const struct ivon_tensor *tensor = ivon_source_tensor(source, i);
        ptrdiff_t at = ivon_source_find(base, tensor->part, tensor->name);
        assert_int_equal(at >= 0, tensor->part != IVON_LOW_RANK);
        if (at >= 0 && tensor->part != IVON_STRUCTURE)
            assert_memory_equal(ivon_source_view(base, (size_t)at, 0),
                                ivon_source_view(source, i, 0),
                                tensor->count * ivon_dtype_size(tensor->dtype));
    }
    ivon_source_close(base);
    structured_end(&structured);
}

static void what_has_no_positive_diagonal_is_refused(void **state)
{
    (void)state;
    struct structured structured;
    structured_begin(&structured, true);
    struct ivon_source *source = structured.model.source, *reduced = NULL;
    struct ivon_reduce_options options = ivon_reduce_defaults();
    struct ivon_error error = {0};
    ptrdiff_t at = ivon_source_find(source, IVON_LOW_RANK, "b2");
    float *vectors = (float *)dense_floats(source, at);
    for (size_t i = 0; i < OUT; i++)
        vectors[i] *= 100;
    assert_int_equal(ivon_reduce(&reduced, source, &options, &error), IVON_ERROR_DATA);
    assert_string_equal(error.message, "posterior: the diagonal of 'b2' is not positive at element "
                                       "0: are bases and low-rank vectors orthonormal?");
    options.reduction = (enum ivon_reduction)3;
    assert_int_equal(ivon_reduce(&reduced, source, &options, &error), IVON_ERROR_ARGUMENT);
    options.size = 0;
    assert_int_equal(ivon_reduce(&reduced, source, &options, &error), IVON_ERROR_ARGUMENT);
    assert_null(reduced);
    structured_end(&structured);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(diagonals_are_those_of_the_matrices),
        cmocka_unit_test(less_precision_than_the_priors_is_a_negative_h),
        cmocka_unit_test(a_base_has_everything_but_the_correction),
        cmocka_unit_test(what_has_no_positive_diagonal_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
