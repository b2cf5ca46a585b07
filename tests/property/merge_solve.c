/*
 * How near merging with structure comes to the solution, in the norm of the merged precision: of
 * one weight of 4 x 16 in three posteriors. Their bases are Hadamard's matrices with rows exchanged
 * and of other signs, which are orthonormal exactly in binary32, as are the products of two. The
 * solution is that of the precision as a dense matrix, by Cholesky's decomposition.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ivon/ivon.h"

enum { ROWS = 4, COLUMNS = 16, SIZE = ROWS * COLUMNS, INPUTS = 3, TRIALS = 16 };

static const double ESS = 100, DECAY = 0.0078125;

static uint64_t state = 1;

static double uniform(void)
{
    state = state * 6364136223846793005ULL + 1442695040888963407ULL;
    return (double)(state >> 11) * 0x1p-53;
}

struct posterior {
    struct ivon_source *source;
    double weight[SIZE];
    float h[SIZE], input[COLUMNS * COLUMNS], output[ROWS * ROWS];
};

/* n x n, with elements of that size. */
static void hadamard(float *basis, size_t n, float size)
{
    size_t place[COLUMNS];
    for (size_t i = 0; i < n; i++) {
        size_t j = (size_t)(uniform() * (double)(i + 1));
        place[i] = i;
        place[i] = place[j];
        place[j] = i;
    }
    for (size_t i = 0; i < n; i++) {
        float sign = uniform() < 0.5 ? -size : size;
        for (size_t j = 0; j < n; j++)
            basis[place[i] * n + j] = __builtin_parityll(i & j) ? -sign : sign;
    }
}

/* Precisions of three decades. */
static void posterior_init(struct posterior *posterior)
{
    static const char text[] = "{\"blocks\":{\"w\":{}}}";
    struct ivon_header header = ivon_header_empty();
    struct ivon_tensor tensors[5];
    header.ess = ESS;
    header.weight_decay = DECAY;
    for (size_t i = 0; i < SIZE; i++) {
        posterior->weight[i] = 2 * uniform() - 1;
        posterior->h[i] = (float)pow(10, -3 * uniform());
    }
    hadamard(posterior->input, COLUMNS, 0.25F);
    hadamard(posterior->output, ROWS, 0.5F);
    for (int i = 0; i < 4; i++)
        tensors[i] = (struct ivon_tensor){
            .name = "w",
            .part = i == 1   ? IVON_HESSIAN
                    : i == 2 ? IVON_BASIS_INPUT
                             : IVON_BASIS_OUTPUT,
            .dtype = i ? IVON_F32 : IVON_F64,
            .rank = 2,
            .shape = {i == 3 ? ROWS : COLUMNS, i == 3 ? ROWS : COLUMNS},
            .ess = i == 1 ? ESS : (double)NAN,
            .weight_decay = i == 1 ? DECAY : (double)NAN};
    tensors[0].part = IVON_MEAN;
    tensors[0].shape[0] = tensors[1].shape[0] = ROWS;
    tensors[4] = (struct ivon_tensor){.name = ivon_part_name(IVON_STRUCTURE),
                                      .part = IVON_STRUCTURE,
                                      .dtype = IVON_U8,
                                      .rank = 1,
                                      .shape = {sizeof text - 1},
                                      .ess = NAN,
                                      .weight_decay = NAN};
    const void *data[] = {posterior->weight, posterior->h, posterior->input, posterior->output,
                          text};
    assert_int_equal(
        ivon_source_from_memory(&posterior->source, "posterior", &header, tensors, data, 5, NULL),
        0);
}

/* sum += c U diag(λ(h + δ)) Uᵀ, U the Kronecker product of both bases. */
static void add_precision(double (*sum)[SIZE], const struct posterior *posterior, double c,
                          double decay)
{
    static double basis[SIZE][SIZE];
    for (size_t i = 0; i < SIZE; i++)
        for (size_t k = 0; k < SIZE; k++)
            basis[i][k] = (double)posterior->output[i / COLUMNS * ROWS + k / COLUMNS] *
                          (double)posterior->input[i % COLUMNS * COLUMNS + k % COLUMNS];
    for (size_t k = 0; k < SIZE; k++) {
        double s = c * ESS * ((double)posterior->h[k] + decay);
        for (size_t i = 0; i < SIZE; i++)
            for (size_t j = 0; j < SIZE; j++)
                sum[i][j] += s * basis[i][k] * basis[j][k];
    }
}

static void multiply(const double (*a)[SIZE], const double *x, double *out)
{
    for (size_t i = 0; i < SIZE; i++) {
        double sum = 0;
        for (size_t j = 0; j < SIZE; j++)
            sum += a[i][j] * x[j];
        out[i] += sum;
    }
}

/* Solves a x = b, in its place; the decomposition takes a's place. */
static void solve(double (*a)[SIZE], double *x)
{
    for (size_t j = 0; j < SIZE; j++) {
        for (size_t k = 0; k < j; k++)
            a[j][j] -= a[j][k] * a[j][k];
        a[j][j] = sqrt(a[j][j]);
        for (size_t i = j + 1; i < SIZE; i++) {
            for (size_t k = 0; k < j; k++)
                a[i][j] -= a[i][k] * a[j][k];
            a[i][j] /= a[j][j];
        }
    }
    for (size_t i = 0; i < SIZE; i++) {
        for (size_t k = 0; k < i; k++)
            x[i] -= a[i][k] * x[k];
        x[i] /= a[i][i];
    }
    for (size_t i = SIZE; i-- > 0;) {
        for (size_t k = i + 1; k < SIZE; k++)
            x[i] -= a[k][i] * x[k];
        x[i] /= a[i][i];
    }
}

static double norm(const double (*a)[SIZE], const double *x)
{
    double image[SIZE] = {0}, sum = 0;
    multiply(a, x, image);
    for (size_t i = 0; i < SIZE; i++)
        sum += x[i] * image[i];
    return sqrt(sum);
}

/* Merges two models with the first one as the base, by gradient matching. */
static void merge(const struct posterior *posteriors, double *mean)
{
    struct ivon_merge_options options = ivon_merge_defaults();
    const struct ivon_merge_model models[] = {{posteriors[1].source, 0.75},
                                              {posteriors[2].source, 0.5}};
    struct ivon_merge *merge;
    struct ivon_sink *sink;
    size_t count, solved;
    void *data[8];
    assert_int_equal(ivon_merge_plan(&merge, posteriors[0].source, models, 2, &options, NULL), 0);
    const struct ivon_tensor *outputs = ivon_merge_outputs(merge, &count);
    assert_true(count <= 8 && outputs[0].part == IVON_MEAN && outputs[0].dtype == IVON_F64);
    for (size_t i = 0; i < count; i++)
        data[i] = calloc(outputs[i].count + 1, ivon_dtype_size(outputs[i].dtype));
    assert_int_equal(ivon_sink_to_memory(&sink, outputs, data, count, NULL), 0);
    assert_int_equal(ivon_merge_run(merge, &sink, NULL), 0);
    memcpy(mean, data[0], SIZE * sizeof *mean);
    const struct ivon_merge_solve *solves = ivon_merge_solves(merge, &solved);
    assert_true(solved == 1 && solves->converged);
    ivon_sink_close(sink);
    for (size_t i = 0; i < count; i++)
        free(data[i]);
    ivon_merge_free(merge);
}

/* Makes three posteriors, and what merging them should give: the precision, and the step from the
   base. */
static void pose(struct posterior *posteriors, double (*precision)[SIZE], double *step)
{
    static const double weights[INPUTS] = {1, 0.75, 0.5};
    static double own[SIZE][SIZE], factor[SIZE][SIZE];
    memset(precision, 0, sizeof factor);
    memset(step, 0, SIZE * sizeof *step);
    for (int t = 0; t < INPUTS; t++)
        posterior_init(&posteriors[t]);
    add_precision(precision, &posteriors[0], 1, DECAY);
    for (int t = 1; t < INPUTS; t++) {
        double moved[SIZE];
        memset(own, 0, sizeof own);
        add_precision(own, &posteriors[0], weights[t], DECAY);
        add_precision(own, &posteriors[t], weights[t], 0);
        for (size_t i = 0; i < SIZE; i++)
            moved[i] = posteriors[t].weight[i] - posteriors[0].weight[i];
        multiply((const double(*)[SIZE])own, moved, step);
        add_precision(precision, &posteriors[t], weights[t], 0);
    }
    memcpy(factor, precision, sizeof factor);
    solve(factor, step);
}

/*
 * The promise is 1e-5 of the step. Errors are estimated some iterations late, of which each makes
 * them less by a quarter, so that they come to a tenth of it: over all trials, whose logarithms
 * differ by 0.3, the mean is between half of that and one and a half. A tolerance twice as large,
 * or half as large, is not.
 */
static void test_nearness(void **unused)
{
    (void)unused;
    static double precision[SIZE][SIZE];
    static struct posterior posteriors[INPUTS];
    double sum = 0;
    for (int trial = 0; trial < TRIALS; trial++) {
        double found[SIZE], step[SIZE];
        pose(posteriors, precision, step);
        merge(posteriors, found);
        for (size_t i = 0; i < SIZE; i++)
            found[i] -= posteriors[0].weight[i] + step[i];
        double error = norm((const double(*)[SIZE])precision, found) /
                       norm((const double(*)[SIZE])precision, step);
        assert_true(error < 1e-5);
        sum += log(error);
        for (int t = 0; t < INPUTS; t++)
            ivon_source_close(posteriors[t].source);
    }
    double mean = exp(sum / TRIALS);
    if (!(mean > 0.6e-6 && mean < 1.4e-6))
        fail_msg("the mean error is %g", mean);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_nearness)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
