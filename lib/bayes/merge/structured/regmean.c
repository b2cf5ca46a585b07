/*
 * RegMean, in differences from the average W̄ = Σ α W_t / Σ α:
 *
 *   X = W̄ + [Σ α λ (W_t − W̄) A_t] (Σ α λ A_t + ε I)^(−1)
 *
 * so that directions which no input reaches keep the average. A_t is the mean of the products of a
 * layer's inputs (its Gram matrix), off its diagonal multiplied by `shrink`; λ the model's ess, or
 * 1. ε = √n 2^−23 tr(M)/n for the sum M: the size of the error that factors stored in binary32
 * bring, a random symmetric matrix of elements 2^−24 tr(M)/n. (Jin et al. 2023, arXiv:2212.09849.)
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bayes/merge/structured/system.h"
#include "core/blas.h"
#include "core/error.h"

struct regmean {
    struct merge_run *run;
    struct thread_pool *pool;
    const struct merge_group *group;
    size_t n, size;
    double *factor, *sum, *gram;           /* A_t, Σ α λ A_t shrunk, and not: n × n */
    double *mean, *average, *right, *pull; /* o × n: W_t, W̄, the right side, one term of it */
};

static double regmean_ess(const struct ivon_source *source)
{
    double ess = posterior_ess(source);
    return isnan(ess) ? 1 : ess;
}

/* A = U a Uᵀ, its lower triangle. */
static int factor_from_basis(struct regmean *regmean, struct ivon_source *source,
                             const struct structure_block *block, struct ivon_error *error)
{
    size_t n = regmean->n;
    double *basis = malloc(n * n * sizeof *basis), *spectrum = malloc(n * sizeof *spectrum);
    int code = basis && spectrum ? matrix_read(source, (size_t)block->input_basis, basis, error)
                                 : ivon_error_memory(error);
    if (!code)
        code = matrix_read(source, (size_t)block->input_spectrum, spectrum, error);
    if (!code) {
        memset(regmean->factor, 0, n * n * sizeof *regmean->factor);
        code = matrix_add_symmetric(regmean->pool, n, basis, spectrum, regmean->factor, error);
    }
    free(basis);
    free(spectrum);
    return code;
}

/* Sets the factor to A_t: symmetric, as its lower triangle says. */
static int load_factor(struct regmean *regmean, size_t input, struct ivon_error *error)
{
    const struct ivon_merge *merge = regmean->run->merge;
    struct ivon_source *source = merge_input_source(merge, input);
    const struct structure *structure = merge->structured->structures[input];
    const struct merge_entry *entry = merge_group_entry(merge, regmean->group, false);
    size_t mean = (size_t)merge_entry_input(entry, input)->mean, n = regmean->n;
    const struct structure_block *block = &structure->blocks[structure->block_of[mean]];
    int code = block->gram >= 0 ? matrix_read(source, (size_t)block->gram, regmean->factor, error)
                                : factor_from_basis(regmean, source, block, error);
    for (size_t i = 0; i < n && !code; i++)
        for (size_t j = 0; j < i; j++)
            regmean->factor[j * n + i] = regmean->factor[i * n + j];
    return code;
}

static void shrink(double *factor, size_t n, double by)
{
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++)
            factor[i * n + j] *= i == j ? 1 : by;
}

static void regmean_add(double *to, double a, const double *x, size_t count)
{
    for (size_t i = 0; i < count; i++)
        to[i] += a * x[i];
}

static int load_average(struct regmean *regmean, const struct merge_result *result,
                        struct ivon_error *error)
{
    const struct ivon_merge *merge = regmean->run->merge;
    const struct merge_entry *entry = merge_group_entry(merge, regmean->group, false);
    double sum = merge_weight_sum(merge, entry, result);
    int code = 0;
    memset(regmean->average, 0, regmean->size * sizeof *regmean->average);
    for (size_t t = 0; t < merge->model_count && !code; t++) {
        code = matrix_means(merge, t + 1, regmean->group, regmean->mean, error);
        regmean_add(regmean->average, merge_weight(merge, entry, result, t) / sum, regmean->mean,
                    regmean->size);
    }
    return code;
}

/* Adds a model to the sums; `pull` becomes (W_t − from) A_t. */
static int pull_model(struct regmean *regmean, size_t t, const double *from,
                      struct ivon_error *error)
{
    const struct ivon_merge *merge = regmean->run->merge;
    int code = load_factor(regmean, t + 1, error);
    if (!code)
        code = matrix_means(merge, t + 1, regmean->group, regmean->mean, error);
    regmean_add(regmean->mean, -1, from, regmean->size);
    return code;
}

static int pull_product(struct regmean *regmean, struct ivon_error *error)
{
    shrink(regmean->factor, regmean->n, regmean->run->merge->options.shrink);
    return matrix_product(regmean->pool, false, false, regmean->group->rows, regmean->n, regmean->n,
                          regmean->mean, regmean->factor, regmean->pull, error);
}

static int add_models(struct regmean *regmean, const struct merge_result *result, double *total,
                      struct ivon_error *error)
{
    const struct ivon_merge *merge = regmean->run->merge;
    const struct merge_entry *entry = merge_group_entry(merge, regmean->group, false);
    size_t n = regmean->n;
    int code = 0;
    *total = 0;
    memset(regmean->sum, 0, n * n * sizeof *regmean->sum);
    memset(regmean->gram, 0, n * n * sizeof *regmean->gram);
    memset(regmean->right, 0, regmean->size * sizeof *regmean->right);
    for (size_t t = 0; t < merge->model_count && !code; t++) {
        double weight = merge_weight(merge, entry, result, t) *
                        regmean_ess(merge->models[t].source);
        *total += weight;
        code = pull_model(regmean, t, regmean->average, error);
        regmean_add(regmean->gram, weight, regmean->factor, n * n);
        if (!code)
            code = pull_product(regmean, error);
        regmean_add(regmean->sum, weight, regmean->factor, n * n);
        regmean_add(regmean->right, weight, regmean->pull, regmean->size);
    }
    return code;
}

/* Factors Σ α λ A_t + ε I. *singular: it is not positive. */
static int factorise(struct regmean *regmean, bool *singular, struct ivon_error *error)
{
    size_t n = regmean->n;
    double trace = 0;
    for (size_t i = 0; i < n; i++)
        trace += regmean->sum[i * n + i];
    for (size_t i = 0; i < n; i++)
        regmean->sum[i * n + i] += 0x1p-23 * trace / sqrt((double)n);
    return blas_cholesky((int64_t)n, regmean->sum, singular, error);
}

/* Of each model its pull α λ (W_t − X) A_t M^(−1); `x` is X. */
static int regmean_add_movement(struct regmean *regmean, size_t index, const double *x,
                                struct ivon_error *error)
{
    const struct ivon_merge *merge = regmean->run->merge;
    const struct merge_entry *entry = merge_group_entry(merge, regmean->group, false);
    size_t group = (size_t)(regmean->group - merge->structured->groups);
    double *squares = merge_group_squares(regmean->run, group, index);
    int code = 0;
    for (size_t t = 0; t < merge->model_count && !code; t++) {
        double weight = merge_weight(merge, entry, &merge->results[index], t) *
                        regmean_ess(merge->models[t].source);
        code = pull_model(regmean, t, x, error);
        if (!code)
            code = pull_product(regmean, error);
        if (code)
            break;
        blas_cholesky_solve((int64_t)regmean->n, (int64_t)regmean->group->rows, regmean->sum,
                            regmean->pull);
        for (size_t i = 0; i < regmean->size; i++)
            squares[merge->models[t].caller_index] += weight * weight * regmean->pull[i] *
                                                      regmean->pull[i];
    }
    return code;
}

static int regmean_result(struct regmean *regmean, size_t index, struct ivon_error *error)
{
    struct merge_run *run = regmean->run;
    const struct ivon_merge *merge = run->merge;
    const struct merge_group *group = regmean->group;
    double total, *x = regmean->average;
    bool singular = false;
    int code = load_average(regmean, &merge->results[index], error);
    if (!code)
        code = add_models(regmean, &merge->results[index], &total, error);
    for (size_t i = 0; i < regmean->n * regmean->n && !code; i++)
        regmean->gram[i] /= total;
    if (!code)
        code = factorise(regmean, &singular, error);
    if (!code && singular) {
        code = merge_refuse_group(run, index, group, NAN, error);
        if (!code) /* the base's is kept */
            code = matrix_means(merge, 0, group, x, error);
    } else if (!code) {
        blas_cholesky_solve((int64_t)regmean->n, (int64_t)group->rows, regmean->sum,
                            regmean->right);
        regmean_add(x, 1, regmean->right, regmean->size);
        if (run->movement)
            code = regmean_add_movement(regmean, index, x, error);
    }
    if (!code && merge->model_count == 1) /* the only model is copied without rounding */
        code = matrix_means(merge, 1, group, x, error);
    if (!code)
        code = write_matrix(run, index, group, x, error);
    return code ? code
                : write_floats(run, index, group->gram, 0, regmean->gram, regmean->n * regmean->n,
                               error);
}

int merge_regmean(struct merge_run *run, struct thread_pool *pool, const struct merge_group *group,
                  struct ivon_error *error)
{
    size_t n = group->columns, size = merge_group_size(group);
    struct regmean regmean = {.run = run, .pool = pool, .group = group, .n = n, .size = size};
    double **squares[] = {&regmean.factor, &regmean.sum, &regmean.gram};
    double **arrays[] = {&regmean.mean, &regmean.average, &regmean.right, &regmean.pull};
    int code = 0;
    for (int i = 0; i < 3 && !code; i++)
        code = (*squares[i] = malloc((n * n + 1) * sizeof(double))) ? 0 : ivon_error_memory(error);
    for (int i = 0; i < 4 && !code; i++)
        code = (*arrays[i] = malloc((size + 1) * sizeof(double))) ? 0 : ivon_error_memory(error);
    for (size_t r = 0; r < run->merge->result_count && !code; r++)
        code = regmean_result(&regmean, r, error);
    for (int i = 0; i < 3; i++)
        free(*squares[i]);
    for (int i = 0; i < 4; i++)
        free(*arrays[i]);
    return code;
}
