#include "bayes/low_rank.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bayes/transfer.h"
#include "core/blas.h"
#include "core/error.h"

enum { PIECE = 1 << 12 /* elements of each vector at a time */ };

int low_rank_vectors(struct ivon_source *source, const struct structure *structure, size_t hessian,
                     size_t first, size_t count, float *vectors, struct ivon_error *error)
{
    size_t tensor = (size_t)structure->vectors[hessian];
    size_t all = ivon_source_tensor(source, hessian)->count;
    int code = 0;
    for (size_t k = 0; k < structure->rank && !code; k++)
        code = transfer_floats(source, tensor, k * all + first, count, vectors + k * count, error);
    return code;
}

/* gram += vectors vectorsᵀ, of `count` elements. */
static void low_rank_add_gram(size_t rank, const float *vectors, double *wide, size_t count,
                              double *gram)
{
    for (size_t i = 0; i < rank * count; i++)
        wide[i] = (double)vectors[i];
    blas_product_double(false, true, (int64_t)rank, (int64_t)rank, (int64_t)count, 1, wide,
                        (int64_t)count, wide, (int64_t)count, 1, gram, (int64_t)rank);
}

int low_rank_gram(struct ivon_source *source, const struct structure *structure, const bool *random,
                  double *gram, struct ivon_error *error)
{
    size_t rank = structure->rank;
    float *vectors = calloc(rank, PIECE * sizeof *vectors);
    double *wide = calloc(rank, PIECE * sizeof *wide);
    int code = vectors && wide ? 0 : ivon_error_memory(error);
    for (size_t i = 0; i < ivon_source_tensor_count(source) && !code; i++) {
        size_t count = ivon_source_tensor(source, i)->count;
        if (!random[i] || structure->vectors[i] < 0)
            continue;
        for (size_t first = 0; first < count && !code; first += PIECE) {
            size_t piece = count - first < PIECE ? count - first : PIECE;
            code = low_rank_vectors(source, structure, i, first, piece, vectors, error);
            if (!code)
                low_rank_add_gram(rank, vectors, wide, piece, gram);
        }
    }
    free(vectors);
    free(wide);
    return code;
}

/*
 * With Uᵀ U = V g Vᵀ, of which values below rounding are left out: U V g^(−1/2) is orthonormal, and
 * R = g^(1/2) Vᵀ. `gram` is overwritten.
 */
static int low_rank_turn(struct low_rank *low_rank, const double *values, double *gram,
                         struct ivon_error *error)
{
    size_t r = low_rank->rank, kept = 0;
    double *g = calloc(r + 1, sizeof *g), *inner = calloc(r * r + 1, sizeof *inner);
    int code = g && inner ? blas_eigen((int64_t)r, gram, g, error) : ivon_error_memory(error);
    while (!code && kept < r && g[r - 1 - kept] > 1e-6 * g[r - 1] && g[r - 1] > 0)
        kept++;
    low_rank->kept = kept;
    const double *v = gram + (r - kept) * r; /* rows are eigenvectors */
    for (size_t i = 0; i < kept && !code; i++)
        for (size_t j = 0; j < kept; j++) {
            double sum = 0;
            for (size_t k = 0; k < r; k++)
                sum += v[i * r + k] * values[k] * v[j * r + k];
            inner[i * kept + j] = sum * sqrt(g[r - kept + i] * g[r - kept + j]);
        }
    if (!code)
        code = blas_eigen((int64_t)kept, inner, low_rank->values, error);
    for (size_t k = 0; k < r && !code; k++)
        for (size_t i = 0; i < kept; i++) {
            double sum = 0;
            for (size_t j = 0; j < kept; j++)
                sum += v[j * r + k] / sqrt(g[r - kept + j]) * inner[i * kept + j];
            low_rank->turn[k * kept + i] = sum;
        }
    free(g);
    free(inner);
    return code;
}

static bool is_whole(const struct ivon_source *source, const struct structure *structure,
                     const bool *random)
{
    bool whole = true;
    for (size_t i = 0; i < ivon_source_tensor_count(source); i++)
        whole &= structure->vectors[i] < 0 || random[i];
    return whole;
}

int low_rank_new(struct low_rank **out, struct ivon_source *source,
                 const struct structure *structure, const bool *random, struct ivon_error *error)
{
    size_t r = structure->rank;
    struct low_rank *low_rank = calloc(1, sizeof *low_rank);
    double *gram = calloc(r * r + 1, sizeof *gram);
    int code = 0;
    if (low_rank) {
        low_rank->rank = low_rank->kept = r;
        low_rank->values = calloc(r + 1, sizeof *low_rank->values);
        low_rank->turn = calloc(r * r + 1, sizeof *low_rank->turn);
    }
    if (!low_rank || !gram || !low_rank->values || !low_rank->turn)
        code = ivon_error_memory(error);
    if (!code && is_whole(source, structure, random)) {
        memcpy(low_rank->values, structure->values, r * sizeof *low_rank->values);
        for (size_t i = 0; i < r; i++)
            low_rank->turn[i * r + i] = 1;
    } else if (!code) {
        code = low_rank_gram(source, structure, random, gram, error);
        if (!code)
            code = low_rank_turn(low_rank, structure->values, gram, error);
    }
    free(gram);
    if (code) {
        low_rank_free(low_rank);
        return code;
    }
    *out = low_rank;
    return 0;
}

void low_rank_free(struct low_rank *low_rank)
{
    if (!low_rank)
        return;
    free(low_rank->values);
    free(low_rank->turn);
    free(low_rank);
}

int low_rank_matrix(const struct low_rank *low_rank, enum low_rank_function function,
                    double *matrix, struct ivon_error *error)
{
    size_t r = low_rank->rank, kept = low_rank->kept;
    double *scaled = calloc(r * kept + 1, sizeof *scaled);
    if (!scaled)
        return ivon_error_memory(error);
    for (size_t i = 0; i < r; i++)
        for (size_t j = 0; j < kept; j++) {
            double l = low_rank->values[j];
            double value = function == LOW_RANK_COVARIANCE ? l / (1 + l) : 1 / sqrt(1 + l) - 1;
            scaled[i * kept + j] = value * low_rank->turn[i * kept + j];
        }
    if (kept)
        blas_product_double(false, true, (int64_t)r, (int64_t)r, (int64_t)kept, 1, scaled,
                            (int64_t)kept, low_rank->turn, (int64_t)kept, 0, matrix, (int64_t)r);
    else
        memset(matrix, 0, r * r * sizeof *matrix);
    free(scaled);
    return 0;
}

double low_rank_log_determinant(const struct low_rank *low_rank)
{
    double sum = 0;
    for (size_t i = 0; i < low_rank->kept; i++)
        sum += log1p(low_rank->values[i]);
    return sum;
}
