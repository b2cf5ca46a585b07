/*
 * The covariance of a small posterior, of whatever structure, as the dense matrix that it is: from
 * the tensors and the definition alone, in double.
 *
 *   Σ = T M^(−1) Tᵀ,   T = Q diag s,   M = I + U diag ℓ Uᵀ,   s = (λ(h + δ))^(−1/2)
 *
 * Q has U_B ⊗ U_A for each block. Where only some Hessians are random, M loses the rows and columns
 * of the others. Its functions come from Jacobi's rotations (Golub & Van Loan 2013, 8.5).
 *
 * Vectors have the elements of the random Hessians one after the other, a block's as [W | b], row
 * by row.
 */
#ifndef TESTS_UNIT_DENSE_COVARIANCE_H
#define TESTS_UNIT_DENSE_COVARIANCE_H

#include "bayes/structure.h"
#include "model.h"

enum { DENSE_MOST = 64 };

typedef double dense_matrix[DENSE_MOST][DENSE_MOST];

struct dense {
    struct ivon_source *source;
    struct structure *structure;
    size_t size;
    size_t at[MODEL_TENSORS]; /* of each tensor that is a random Hessian: its first element */
    bool random[MODEL_TENSORS];
    double scale[DENSE_MOST];                     /* s */
    dense_matrix rotation, inverse, inverse_root; /* Q, M^(−1), M^(−1/2) */
    dense_matrix covariance, root; /* Σ, and T M^(−1/2), which makes a draw of ε */
    double log_determinant;        /* of Σ */
};

static inline const float *dense_floats(struct ivon_source *source, ptrdiff_t tensor)
{
    const float *data = ivon_source_view(source, (size_t)tensor, 0);
    assert_non_null(data);
    assert_int_equal(ivon_source_tensor(source, (size_t)tensor)->dtype, IVON_F32);
    return data;
}

static inline double dense_basis(const float *basis, size_t n, size_t row, size_t column)
{
    return basis ? (double)basis[row * n + column] : row == column;
}

/* Rotates rows and columns p and q of a symmetric matrix, and the eigenvectors in the columns. */
static inline void dense_rotate(size_t n, dense_matrix a, dense_matrix vectors, size_t p, size_t q)
{
    if (a[p][q] == 0)
        return;
    double tau = (a[q][q] - a[p][p]) / (2 * a[p][q]);
    double t = (tau < 0 ? -1 : 1) / (fabs(tau) + sqrt(1 + tau * tau));
    double c = 1 / sqrt(1 + t * t), s = t * c;
    for (size_t k = 0; k < n; k++) {
        double x = a[k][p], y = a[k][q], u = vectors[k][p], v = vectors[k][q];
        a[k][p] = c * x - s * y;
        a[k][q] = s * x + c * y;
        vectors[k][p] = c * u - s * v;
        vectors[k][q] = s * u + c * v;
    }
    for (size_t k = 0; k < n; k++) {
        double x = a[p][k], y = a[q][k];
        a[p][k] = c * x - s * y;
        a[q][k] = s * x + c * y;
    }
}

/* The eigenvalues of a symmetric matrix on its diagonal, its eigenvectors in the columns. */
static inline void dense_eigen(size_t n, dense_matrix a, dense_matrix vectors)
{
    enum { SWEEPS = 30 };
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++)
            vectors[i][j] = i == j;
    for (int sweep = 0; sweep < SWEEPS; sweep++)
        for (size_t p = 0; p < n; p++)
            for (size_t q = p + 1; q < n; q++)
                dense_rotate(n, a, vectors, p, q);
}

/* out ← a bᵀ */
static inline void dense_product(size_t n, dense_matrix a, dense_matrix b, dense_matrix out)
{
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++) {
            out[i][j] = 0;
            for (size_t k = 0; k < n; k++)
                out[i][j] += a[i][k] * b[j][k];
        }
}

/* M^(−1), M^(−1/2), and log |M|. */
static inline double dense_invert(size_t n, dense_matrix m, dense_matrix inverse, dense_matrix root)
{
    static dense_matrix vectors, scaled;
    double log_determinant = 0;
    dense_eigen(n, m, vectors);
    for (int power = 1; power <= 2; power++) {
        for (size_t i = 0; i < n; i++)
            for (size_t k = 0; k < n; k++)
                scaled[i][k] = vectors[i][k] / (power == 1 ? sqrt(m[k][k]) : m[k][k]);
        dense_product(n, scaled, vectors, power == 1 ? root : inverse);
    }
    for (size_t k = 0; k < n; k++)
        log_determinant += log(m[k][k]);
    return log_determinant;
}

/* s and Q of one Hessian. */
static inline void dense_place(struct dense *dense, size_t hessian)
{
    const struct ivon_tensor *tensor = ivon_source_tensor(dense->source, hessian);
    const float *h = dense_floats(dense->source, (ptrdiff_t)hessian);
    ptrdiff_t number = dense->structure->block_of[hessian];
    size_t at = dense->size;
    assert_true(at + tensor->count <= DENSE_MOST);
    dense->at[hessian] = at;
    dense->size += tensor->count;
    for (size_t i = 0; i < tensor->count; i++) {
        dense->scale[at + i] = 1 / sqrt(tensor->ess * ((double)h[i] + tensor->weight_decay));
        dense->rotation[at + i][at + i] = 1;
    }
    if (number < 0)
        return;
    const struct structure_block *block = &dense->structure->blocks[number];
    size_t o = block->rows, n = block->columns;
    const float *a = block->input_basis < 0 ? NULL
                                            : dense_floats(dense->source, block->input_basis);
    const float *b = block->output_basis < 0 ? NULL
                                             : dense_floats(dense->source, block->output_basis);
    for (size_t i = 0; i < o * n; i++)
        for (size_t j = 0; j < o * n; j++)
            dense->rotation[at + i][at + j] = dense_basis(b, o, i / n, j / n) *
                                              dense_basis(a, n, i % n, j % n);
}

/* Adds U ℓ Uᵀ. */
static inline void dense_add_low_rank(const struct dense *dense, dense_matrix m)
{
    const struct structure *structure = dense->structure;
    static double u[DENSE_MOST];
    for (size_t k = 0; k < structure->rank; k++) {
        memset(u, 0, sizeof u);
        for (size_t t = 0; t < ivon_source_tensor_count(dense->source); t++) {
            size_t count = ivon_source_tensor(dense->source, t)->count;
            for (size_t i = 0; i < count && dense->random[t] && structure->vectors[t] >= 0; i++)
                u[dense->at[t] + i] = (double)dense_floats(dense->source,
                                                           structure->vectors[t])[k * count + i];
        }
        for (size_t i = 0; i < dense->size; i++)
            for (size_t j = 0; j < dense->size; j++)
                m[i][j] += structure->values[k] * u[i] * u[j];
    }
}

/* `selected` says of a mean's name whether it is random; null: all with a Hessian are. */
static inline struct dense *dense_new(struct ivon_source *source,
                                      bool (*selected)(void *context, const char *name))
{
    static dense_matrix m, scaled;
    struct dense *dense = calloc(1, sizeof *dense);
    assert_non_null(dense);
    dense->source = source;
    struct ivon_error error = {0};
    if (structure_read(&dense->structure, source, &error))
        fail_msg("%s", error.message);
    for (size_t t = 0; t < ivon_source_tensor_count(source); t++) {
        const struct ivon_tensor *tensor = ivon_source_tensor(source, t);
        dense->random[t] = tensor->part == IVON_HESSIAN &&
                           (!selected || selected(NULL, tensor->name));
        if (dense->random[t])
            dense_place(dense, t);
    }
    size_t n = dense->size;
    memset(m, 0, sizeof m);
    for (size_t i = 0; i < n; i++)
        m[i][i] = 1;
    dense_add_low_rank(dense, m);
    dense->log_determinant = -dense_invert(n, m, dense->inverse, dense->inverse_root);
    for (size_t i = 0; i < n; i++)
        dense->log_determinant += 2 * log(dense->scale[i]);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++)
            scaled[i][j] = dense->rotation[i][j] * dense->scale[j];
    dense_product(n, scaled, dense->inverse_root, dense->root); /* M^(−1/2) is symmetric */
    dense_product(n, dense->root, dense->root, dense->covariance);
    return dense;
}

static inline void dense_free(struct dense *dense)
{
    structure_free(dense->structure);
    free(dense);
}

/* The place of an element of a mean in vectors; DENSE_MOST: it is not random. */
static inline size_t dense_index(const struct dense *dense, size_t mean, size_t element)
{
    ptrdiff_t number = dense->structure->block_of[mean];
    const char *name = ivon_source_tensor(dense->source, mean)->name;
    if (number < 0) {
        ptrdiff_t hessian = ivon_source_find(dense->source, IVON_HESSIAN, name);
        return hessian >= 0 && dense->random[hessian] ? dense->at[hessian] + element : DENSE_MOST;
    }
    const struct structure_block *block = &dense->structure->blocks[number];
    size_t n = block->columns, inputs = n - (block->bias >= 0), row = element, column = inputs;
    if (block->weight == mean) {
        row = block->transposed ? element % block->rows : element / inputs;
        column = block->transposed ? element / block->rows : element % inputs;
    }
    return dense->random[block->hessian] ? dense->at[block->hessian] + row * n + column
                                         : DENSE_MOST;
}

static inline double dense_quadratic(const struct dense *dense, const double *g)
{
    double sum = 0;
    for (size_t i = 0; i < dense->size; i++)
        for (size_t j = 0; j < dense->size; j++)
            sum += g[i] * dense->covariance[i][j] * g[j];
    return sum;
}

static inline void dense_multiply(const struct dense *dense, const double *x, double *out)
{
    for (size_t i = 0; i < dense->size; i++) {
        out[i] = 0;
        for (size_t j = 0; j < dense->size; j++)
            out[i] += dense->covariance[i][j] * x[j];
    }
}

#endif
