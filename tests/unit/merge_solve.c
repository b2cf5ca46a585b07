/*
 * Conjugate gradients of lib/bayes/merge/structured/solve.c on a dense matrix, whose products are
 * this test's own: curvatures that are rounding in float.
 */
#define system_solve        other_system_solve /* the library has them already */
#define system_apply        other_system_apply
#define system_apply_floats other_system_apply_floats
#include "bayes/merge/structured/solve.c"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "bayes/merge/private.h"

enum { SIZE = 160 };

static double matrix[SIZE][SIZE];

int system_apply(struct merge_system *system, const double *factors, const double *x, double *out,
                 struct ivon_error *error)
{
    (void)system;
    (void)factors;
    (void)error;
    for (size_t i = 0; i < SIZE; i++) {
        out[i] = 0;
        for (size_t j = 0; j < SIZE; j++)
            out[i] += matrix[i][j] * x[j];
    }
    return 0;
}

int system_apply_floats(struct merge_system *system, const double *factors, const double *x,
                        double *out, struct ivon_error *error)
{
    (void)system;
    (void)factors;
    (void)error;
    for (size_t i = 0; i < SIZE; i++) {
        float sum = 0;
        for (size_t j = 0; j < SIZE; j++)
            sum += (float)matrix[i][j] * (float)x[j];
        out[i] = (double)sum;
    }
    return 0;
}

static double vector[SIZE]; /* of length 1 */

/* I − (1 − least) v vᵀ: all curvatures are 1, but along v it is `least`. */
static void make_matrix(double least)
{
    double squares = 0;
    for (size_t i = 0; i < SIZE; i++) {
        vector[i] = 1 + 0.9 * sin(1.7 * (double)i);
        squares += vector[i] * vector[i];
    }
    for (size_t i = 0; i < SIZE; i++)
        vector[i] /= sqrt(squares);
    for (size_t i = 0; i < SIZE; i++)
        for (size_t j = 0; j < SIZE; j++)
            matrix[i][j] = (i == j) - (1 - least) * vector[i] * vector[j];
}

/* Solves for a known solution, by the matrix's own diagonal. */
static struct system_solution solve(const double *known, double *found)
{
    double right[SIZE], diagonal[SIZE];
    float turn = 1; /* what it is does not matter: there is one */
    struct merge_structured structured = {0};
    struct ivon_merge merge = {.structured = &structured};
    struct merge_run run = {.merge = &merge};
    struct merge_operator operators[] = {{.turn = {&turn, NULL}}};
    struct merge_segment segment = {.operators = operators};
    struct merge_system system = {
        .run = &run, .segments = &segment, .segment_count = 1, .inputs = 1, .size = SIZE};
    struct system_solution solution;
    for (size_t i = 0; i < SIZE; i++)
        diagonal[i] = matrix[i][i];
    system_apply(NULL, NULL, known, right, NULL);
    assert_int_equal(system_solve(&system, NULL, diagonal, right, 1e-5, found, &solution, NULL), 0);
    return solution;
}

/*
 * Along v a curvature of 1e-9 is rounding in float, 2^-24 of terms around 1, of either sign. It is
 * most of the norm of the solution: 1e6² · 1e-9, beside that of the rest, 160/3. In double the
 * curvature errs by 2^-53 of the terms, 1e-7 of itself.
 */
static void curvatures_are_not_rounding(void **unused)
{
    (void)unused;
    static const double least[] = {1e-9, 3e-9, 1e-8};
    for (size_t l = 0; l < 3; l++) {
        double known[SIZE], found[SIZE], along = 0;
        make_matrix(least[l]);
        for (size_t i = 0; i < SIZE; i++)
            known[i] = 1e6 * vector[i] + cos(2.3 * (double)i);
        struct system_solution solution = solve(known, found);
        assert_true(solution.converged && solution.curvature > 0);
        for (size_t i = 0; i < SIZE; i++)
            along += vector[i] * (found[i] - known[i]);
        assert_true(fabs(along) < 1e-4 * 1e6);
    }
}

/* A curvature below zero is none, however small: there is no solution. */
static void curvatures_below_zero_are_found(void **unused)
{
    (void)unused;
    static const double least[] = {-1e-9, -3e-9, -1e-8};
    for (size_t l = 0; l < 3; l++) {
        double known[SIZE], found[SIZE];
        make_matrix(least[l]);
        for (size_t i = 0; i < SIZE; i++)
            known[i] = 1e6 * vector[i] + cos(2.3 * (double)i);
        struct system_solution solution = solve(known, found);
        /* The direction has other parts than v, too. */
        assert_true(solution.curvature <= 0 && solution.curvature > 1.001 * least[l]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(curvatures_are_not_rounding),
        cmocka_unit_test(curvatures_below_zero_are_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
