#include "bayes/adapter/truncate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/blas.h"
#include "core/error.h"

static double *truncate_allocate(size_t rows, size_t columns)
{
    return columns && rows > PTRDIFF_MAX / sizeof(double) / columns
               ? NULL
               : calloc(rows * columns + 1, sizeof(double));
}

void truncated_release(struct truncated *truncated)
{
    free(truncated->left);
    free(truncated->right);
    truncated->left = truncated->right = NULL;
}

/* Allocates the result and measures it, of all `count` singular values. */
static int truncate_begin(struct truncated *out, size_t rows, size_t columns, size_t rank,
                          const double *values, size_t count, struct ivon_error *error)
{
    size_t least = rows < columns ? rows : columns;
    double whole = 0, rest = 0;
    rank = rank < least ? rank : least;
    for (size_t i = count; i-- > 0;) {
        whole += values[i] * values[i];
        rest += i >= rank ? values[i] * values[i] : 0;
    }
    *out = (struct truncated){.rows = rows,
                              .columns = columns,
                              .rank = rank,
                              .norm = sqrt(whole),
                              .error = whole > 0 ? sqrt(rest / whole) : 0};
    out->left = truncate_allocate(rows, rank);
    out->right = truncate_allocate(rank, columns);
    return out->left && out->right ? 0 : ivon_error_memory(error);
}

int truncate_matrix(struct truncated *out, double *matrix, size_t rows, size_t columns, size_t rank,
                    struct ivon_error *error)
{
    size_t least = rows < columns ? rows : columns;
    double *values = truncate_allocate(least, 1), *left = truncate_allocate(rows, least);
    double *right = truncate_allocate(least, columns);
    *out = (struct truncated){0};
    int code = values && left && right ? blas_singular((int64_t)rows, (int64_t)columns, matrix,
                                                       values, left, right, error)
                                       : ivon_error_memory(error);
    if (!code)
        code = truncate_begin(out, rows, columns, rank, values, least, error);
    for (size_t k = 0; k < out->rank && !code; k++) {
        double root = sqrt(values[k]);
        for (size_t i = 0; i < rows; i++)
            out->left[i * out->rank + k] = root * left[i * least + k];
        for (size_t j = 0; j < columns; j++)
            out->right[k * columns + j] = root * right[k * columns + j];
    }
    free(values);
    free(left);
    free(right);
    return code;
}

/* A sum of products L Rᵀ, L rows × ranks, R columns × ranks; its singular values and vectors are
   found from L = Q S, R = P T and S Tᵀ, which is as small as the ranks. */
struct sum {
    size_t rows, columns, ranks;
    double *left, *right;             /* L and R, then Q and P */
    double *left_small, *right_small; /* S and T, ranks × ranks */
    double *core, *values, *u, *v;    /* S Tᵀ = u values v */
};

static void sum_release(struct sum *sum)
{
    double *all[] = {sum->left, sum->right,  sum->left_small, sum->right_small,
                     sum->core, sum->values, sum->u,          sum->v};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        free(all[i]);
}

static int sum_allocate(struct sum *sum, struct ivon_error *error)
{
    size_t ranks = sum->ranks;
    sum->left = truncate_allocate(sum->rows, ranks);
    sum->right = truncate_allocate(sum->columns, ranks);
    sum->left_small = truncate_allocate(ranks, ranks);
    sum->right_small = truncate_allocate(ranks, ranks);
    sum->core = truncate_allocate(ranks, ranks);
    sum->values = truncate_allocate(ranks, 1);
    sum->u = truncate_allocate(ranks, ranks);
    sum->v = truncate_allocate(ranks, ranks);
    return sum->left && sum->right && sum->left_small && sum->right_small && sum->core &&
                   sum->values && sum->u && sum->v
               ? 0
               : ivon_error_memory(error);
}

/* Writes A or B of a term into columns [at, at + rank) of L or R, times a scale. */
static int sum_load_factor(const struct adapter_weight *weight, bool is_a, double scale,
                           double *out, size_t at, size_t ranks, struct ivon_error *error)
{
    size_t rank = weight->rank;
    size_t length = is_a ? adapter_inputs(weight) : adapter_outputs(weight);
    double *line = truncate_allocate(is_a ? length : rank, 1);
    int code = line ? 0 : ivon_error_memory(error);
    for (size_t k = 0; k < rank && is_a && !code; k++) {
        code = adapter_load(weight->factors, weight->a, k * length, length, line, error);
        for (size_t i = 0; i < length && !code; i++)
            out[i * ranks + at + k] = scale * line[i];
    }
    for (size_t i = 0; i < length && !is_a && !code; i++) {
        code = adapter_load(weight->factors, weight->b, i * rank, rank, line, error);
        for (size_t k = 0; k < rank && !code; k++)
            out[i * ranks + at + k] = scale * line[k];
    }
    free(line);
    return code;
}

static int sum_load(struct sum *sum, const struct truncate_term *terms, size_t count,
                    struct ivon_error *error)
{
    int code = 0;
    for (size_t t = 0, at = 0; t < count && !code; at += terms[t++].weight->rank) {
        const struct adapter_weight *weight = terms[t].weight;
        double scale = terms[t].coefficient * weight->scale;
        code = sum_load_factor(weight, weight->transposed, scale, sum->left, at, sum->ranks, error);
        if (!code)
            code = sum_load_factor(weight, !weight->transposed, 1, sum->right, at, sum->ranks,
                                   error);
    }
    return code;
}

static int sum_decompose(struct sum *sum, struct ivon_error *error)
{
    int64_t ranks = (int64_t)sum->ranks;
    int code = blas_orthogonal((int64_t)sum->rows, ranks, sum->left, sum->left_small, error);
    if (!code)
        code = blas_orthogonal((int64_t)sum->columns, ranks, sum->right, sum->right_small, error);
    if (code)
        return code;
    blas_product_double(false, true, ranks, ranks, ranks, 1, sum->left_small, ranks,
                        sum->right_small, ranks, 0, sum->core, ranks);
    return blas_singular(ranks, ranks, sum->core, sum->values, sum->u, sum->v, error);
}

/* left = Q u √values, right = √values v Pᵀ. Ranks beyond those of the sum are zeros. */
static void sum_finish(struct truncated *out, struct sum *sum)
{
    size_t ranks = sum->ranks, used = out->rank < ranks ? out->rank : ranks;
    for (size_t k = 0; k < used; k++) {
        double root = sqrt(sum->values[k]);
        for (size_t i = 0; i < ranks; i++) {
            sum->u[i * ranks + k] *= root;
            sum->v[k * ranks + i] *= root;
        }
    }
    blas_product_double(false, false, (int64_t)sum->rows, (int64_t)used, (int64_t)ranks, 1,
                        sum->left, (int64_t)ranks, sum->u, (int64_t)ranks, 0, out->left,
                        (int64_t)out->rank);
    blas_product_double(false, true, (int64_t)used, (int64_t)sum->columns, (int64_t)ranks, 1,
                        sum->v, (int64_t)ranks, sum->right, (int64_t)ranks, 0, out->right,
                        (int64_t)sum->columns);
}

int truncate_sum(struct truncated *out, const struct truncate_term *terms, size_t count,
                 size_t rank, struct ivon_error *error)
{
    struct sum sum = {.rows = terms[0].weight->rows, .columns = terms[0].weight->columns};
    *out = (struct truncated){0};
    for (size_t t = 0; t < count; t++)
        sum.ranks += terms[t].weight->rank;
    int code = sum_allocate(&sum, error);
    if (!code)
        code = sum_load(&sum, terms, count, error);
    if (!code)
        code = sum_decompose(&sum, error);
    if (!code)
        code = truncate_begin(out, sum.rows, sum.columns, rank, sum.values, sum.ranks, error);
    if (!code)
        sum_finish(out, &sum);
    sum_release(&sum);
    return code;
}
