/*
 * The sum of low-rank corrections upon diagonals: with D = Σ c D_t and the columns of
 * W = D^(−1/2) D_t^(1/2) V_t of all inputs t side by side, c ℓ their values,
 *
 *   Σ c S_t = D^(1/2) (I + W (c ℓ) Wᵀ) D^(1/2).
 *
 * Wᵀ W = E g Eᵀ, of which values below rounding are left out; O = W E g^(−1/2) is orthonormal, and
 * with F ℓ' Fᵀ = g^(1/2) Eᵀ (c ℓ) E g^(1/2) the correction is (O F) ℓ' (O F)ᵀ.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bayes/merge/structured/system.h"
#include "core/blas.h"
#include "core/error.h"

struct low_rank_sum {
    size_t rank;    /* r, of all inputs together */
    double *values; /* c ℓ, and then ℓ' */
    double *rows;   /* Wᵀ: r × the system's size */
    double *turn;   /* r × r: rows of the result are these sums of the rows of Wᵀ */
};

/* Sets the rows of W, from D. */
static void stack_vectors(const struct merge_system *system, const double *factors,
                          const double *base, struct low_rank_sum *sum)
{
    const struct merge_structured *structured = system->run->merge->structured;
    size_t row = 0;
    for (size_t i = 0; i < system->inputs && row < sum->rank; i++) {
        const struct structure *structure = structured->structures[i];
        if (!structure || !structure->rank || !system->segments[0].operators[i].values)
            continue;
        for (size_t r = 0; r < structure->rank; r++, row++) {
            sum->values[row] = factors[i] * structure->values[r];
            for (size_t g = 0; g < system->segment_count; g++) {
                const struct merge_segment *segment = &system->segments[g];
                const double *from = segment->operators[i].vectors + r * segment->size;
                double *to = sum->rows + row * system->size + segment->offset;
                for (size_t k = 0; k < segment->size; k++)
                    to[k] = from[k] / sqrt(base[segment->offset + k]);
            }
        }
    }
}

/* Sets `turn` and the new values. Memory: `gram` r × r, overwritten, and `inner` likewise. */
static int diagonalise(struct low_rank_sum *sum, double *gram, double *inner, double *g,
                       struct ivon_error *error)
{
    size_t r = sum->rank, kept = 0;
    int code = blas_eigen((int64_t)r, gram, g, error);
    while (!code && kept < r && g[r - 1 - kept] > 1e-12 * g[r - 1] && g[r - 1] > 0)
        kept++;
    const double *e = gram + (r - kept) * r; /* rows are eigenvectors */
    for (size_t i = 0; i < kept && !code; i++)
        for (size_t j = 0; j < kept; j++) {
            double total = 0;
            for (size_t k = 0; k < r; k++)
                total += e[i * r + k] * sum->values[k] * e[j * r + k];
            inner[i * kept + j] = total * sqrt(g[r - kept + i] * g[r - kept + j]);
        }
    memset(sum->values, 0, r * sizeof *sum->values);
    if (!code)
        code = blas_eigen((int64_t)kept, inner, sum->values, error);
    for (size_t i = 0; i < kept && !code; i++)
        for (size_t k = 0; k < r; k++) {
            double total = 0;
            for (size_t j = 0; j < kept; j++)
                total += inner[i * kept + j] * e[j * r + k] / sqrt(g[r - kept + j]);
            sum->turn[i * r + k] = total;
        }
    return code;
}

static int turn_vectors(const struct merge_system *system, struct low_rank_sum *sum,
                        struct ivon_error *error)
{
    size_t r = sum->rank;
    double *gram = calloc(r * r, sizeof *gram), *inner = calloc(r * r, sizeof *inner);
    double *g = calloc(r, sizeof *g);
    int code = gram && inner && g ? 0 : ivon_error_memory(error);
    if (!code) {
        blas_product_double(false, true, (int64_t)r, (int64_t)r, (int64_t)system->size, 1,
                            sum->rows, (int64_t)system->size, sum->rows, (int64_t)system->size, 0,
                            gram, (int64_t)r);
        code = diagonalise(sum, gram, inner, g, error);
    }
    free(gram);
    free(inner);
    free(g);
    return code;
}

/* Writes row r of the result's vectors, beside the Hessians that it has. */
static int write_vector(const struct merge_system *system, size_t result, size_t r,
                        const double *vector, double *scratch, struct ivon_error *error)
{
    const struct ivon_merge *merge = system->run->merge;
    int code = 0;
    for (size_t g = 0; g < system->segment_count && !code; g++) {
        const struct merge_segment *segment = &system->segments[g];
        const struct merge_group *group = segment->group;
        for (int bias = 0; bias < 1 + (group->bias >= 0) && !code; bias++) {
            size_t count = merge_group_entry(merge, group, bias)->count;
            for (size_t i = 0; i < count; i++)
                scratch[i] = vector[segment->offset + matrix_index(group, bias, i)];
            code = write_floats(system->run, result, bias ? group->bias_vectors : group->vectors,
                                r * count, scratch, count, error);
        }
    }
    return code;
}

static int write_vectors(struct merge_system *system, size_t result, const struct low_rank_sum *sum,
                         struct ivon_error *error)
{
    size_t r = sum->rank;
    double *vector = calloc(system->size + 1, sizeof *vector);
    int code = vector ? 0 : ivon_error_memory(error);
    for (size_t i = 0; i < r && !code; i++) {
        blas_product_double(false, false, 1, (int64_t)system->size, (int64_t)r, 1,
                            sum->turn + i * r, (int64_t)r, sum->rows, (int64_t)system->size, 0,
                            vector, (int64_t)system->size);
        code = write_vector(system, result, i, vector, system->work[0], error);
    }
    free(vector);
    return code;
}

int write_text(struct merge_run *run, size_t result, const double *values, struct ivon_error *error)
{
    const struct merge_structured *structured = run->merge->structured;
    char *text = merge_structure_text(structured, values);
    int code = text ? ivon_sink_write(run->sinks[result], (size_t)structured->text, 0,
                                      structured->text_size, text, error)
                    : ivon_error_memory(error);
    free(text);
    return code;
}

int write_low_rank(struct merge_system *system, size_t result, const double *factors,
                   const double *base, struct ivon_error *error)
{
    struct low_rank_sum sum = {.rank = system->run->merge->structured->rank};
    sum.values = calloc(sum.rank + 1, sizeof *sum.values);
    sum.rows = calloc(sum.rank * system->size + 1, sizeof *sum.rows);
    sum.turn = calloc(sum.rank * sum.rank + 1, sizeof *sum.turn);
    int code = sum.values && sum.rows && sum.turn ? 0 : ivon_error_memory(error);
    if (!code && sum.rank) {
        stack_vectors(system, factors, base, &sum);
        code = turn_vectors(system, &sum, error);
    }
    if (!code && sum.rank && !(sum.values[0] > -1)) /* the least: they rise, or are none */
        code = ivon_error_set(error, IVON_ERROR_DATA,
                              "the merged precision is not positive along some direction of the "
                              "low-rank corrections");
    if (!code)
        code = write_vectors(system, result, &sum, error);
    if (!code)
        code = write_text(system->run, result, sum.values, error);
    free(sum.values);
    free(sum.rows);
    free(sum.turn);
    return code;
}
