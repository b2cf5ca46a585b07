/* Matrices of doubles: products on several threads, and tensors as matrices. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bayes/merge/structured/system.h"
#include "bayes/transfer.h"
#include "core/blas.h"
#include "core/error.h"

enum {
    TILE_ROWS = 320, /* of a product that are one piece of work: enough that copying its factors */
    TILE_COLUMNS = 640, /* into the order in which they are multiplied takes little */
    PANEL = 128,        /* rows of other work that are one piece */
    PIECE = 4096        /* elements read at once */
};

struct matrix_work {
    bool transpose_a, transpose_b, narrow; /* narrow: of floats, else doubles */
    size_t m, n, k;
    const void *a, *b;
    void *c;
};

static int multiply_tile(void *context, size_t i, int thread, struct ivon_error *error)
{
    const struct matrix_work *work = context;
    size_t across = (work->n + TILE_COLUMNS - 1) / TILE_COLUMNS;
    size_t row = i / across * TILE_ROWS, column = i % across * TILE_COLUMNS;
    int64_t m = (int64_t)(work->m - row < TILE_ROWS ? work->m - row : TILE_ROWS);
    int64_t n = (int64_t)(work->n - column < TILE_COLUMNS ? work->n - column : TILE_COLUMNS);
    int64_t lda = (int64_t)(work->transpose_a ? work->m : work->k), k = (int64_t)work->k;
    int64_t ldb = (int64_t)(work->transpose_b ? work->k : work->n), ldc = (int64_t)work->n;
    size_t at_a = work->transpose_a ? row : row * work->k;
    size_t at_b = work->transpose_b ? column * work->k : column, at_c = row * work->n + column;
    (void)thread, (void)error;
    if (work->narrow)
        blas_product(work->transpose_a, work->transpose_b, m, n, k, 1,
                     (const float *)work->a + at_a, lda, (const float *)work->b + at_b, ldb, 0,
                     (float *)work->c + at_c, ldc);
    else
        blas_product_double(work->transpose_a, work->transpose_b, m, n, k, 1,
                            (const double *)work->a + at_a, lda, (const double *)work->b + at_b,
                            ldb, 0, (double *)work->c + at_c, ldc);
    return 0;
}

static int multiply_tiles(struct thread_pool *pool, struct matrix_work *work,
                          struct ivon_error *error)
{
    size_t down = (work->m + TILE_ROWS - 1) / TILE_ROWS;
    size_t across = (work->n + TILE_COLUMNS - 1) / TILE_COLUMNS;
    return thread_pool_run(pool, INT32_MAX, down * across, multiply_tile, work, error);
}

int matrix_product(struct thread_pool *pool, bool transpose_a, bool transpose_b, size_t m, size_t n,
                   size_t k, const double *a, const double *b, double *c, struct ivon_error *error)
{
    struct matrix_work work = {transpose_a, transpose_b, false, m, n, k, a, b, c};
    return multiply_tiles(pool, &work, error);
}

/* U a Uᵀ, by panels of its rows up to the diagonal. */
struct symmetric_work {
    size_t n;
    const double *basis, *values;
    double *sum;
};

static int add_symmetric_panel(void *context, size_t i, int thread, struct ivon_error *error)
{
    const struct symmetric_work *work = context;
    size_t n = work->n, first = i * PANEL, count = n - first < PANEL ? n - first : PANEL;
    double *scaled = malloc(count * n * sizeof *scaled);
    (void)thread;
    if (!scaled)
        return ivon_error_memory(error);
    for (size_t k = 0; k < count * n; k++)
        scaled[k] = work->basis[first * n + k] * work->values[k % n];
    blas_product_double(false, true, (int64_t)count, (int64_t)(first + count), (int64_t)n, 1,
                        scaled, (int64_t)n, work->basis, (int64_t)n, 1, work->sum + first * n,
                        (int64_t)n);
    free(scaled);
    return 0;
}

int matrix_add_symmetric(struct thread_pool *pool, size_t n, const double *basis,
                         const double *values, double *sum, struct ivon_error *error)
{
    struct symmetric_work work = {n, basis, values, sum};
    return thread_pool_run(pool, INT32_MAX, (n + PANEL - 1) / PANEL, add_symmetric_panel, &work,
                           error);
}

static int refuse_element(struct ivon_source *source, const struct ivon_tensor *tensor,
                          double value, size_t element, struct ivon_error *error)
{
    return ivon_error_set(error, IVON_ERROR_DATA,
                          "%s: %s of '%s' is %g at element %zu, expected a finite number",
                          ivon_source_path(source),
                          tensor->part == IVON_HESSIAN ? "Hessian" : ivon_part_name(tensor->part),
                          tensor->name, value, element);
}

/* Reads elements [first, first + count), at most PIECE. */
static int read_piece(struct ivon_source *source, size_t tensor, size_t first, size_t count,
                      unsigned char **block, double *out, struct ivon_error *error)
{
    const struct ivon_tensor *description = ivon_source_tensor(source, tensor);
    int code = transfer_numbers(source, tensor, first, count, PIECE, block, out, error);
    for (size_t i = 0; i < count && !code; i++)
        if (!isfinite(out[i]))
            code = refuse_element(source, description, out[i], first + i, error);
    return code;
}

int matrix_read(struct ivon_source *source, size_t tensor, double *out, struct ivon_error *error)
{
    size_t count = ivon_source_tensor(source, tensor)->count;
    unsigned char *block = NULL;
    int code = 0;
    for (size_t first = 0; first < count && !code; first += PIECE)
        code = read_piece(source, tensor, first, count - first < PIECE ? count - first : PIECE,
                          &block, out + first, error);
    free(block);
    return code;
}

size_t matrix_index(const struct merge_group *group, bool is_bias, size_t element)
{
    size_t inputs = group->columns - (group->bias >= 0), rows = group->rows;
    size_t row = is_bias ? element : group->transposed ? element % rows : element / inputs;
    size_t column = is_bias ? inputs : group->transposed ? element / rows : element % inputs;
    return row * group->columns + column;
}

int matrix_place(struct ivon_source *source, size_t tensor, size_t first, size_t count,
                 const struct merge_group *group, bool is_bias, double slope, double intercept,
                 double *x, struct ivon_error *error)
{
    double piece[PIECE];
    unsigned char *block = NULL;
    int code = 0;
    for (size_t done = 0; done < count && !code; done += PIECE) {
        size_t length = count - done < PIECE ? count - done : PIECE;
        code = read_piece(source, tensor, first + done, length, &block, piece, error);
        for (size_t i = 0; i < length && !code; i++)
            x[matrix_index(group, is_bias, done + i)] = slope * piece[i] + intercept;
    }
    free(block);
    return code;
}

int matrix_means(const struct ivon_merge *merge, size_t input, const struct merge_group *group,
                 double *x, struct ivon_error *error)
{
    struct ivon_source *source = merge_input_source(merge, input);
    int code = 0;
    for (int bias = 0; bias < 1 + (group->bias >= 0) && !code; bias++) {
        const struct merge_entry *entry = merge_group_entry(merge, group, bias);
        code = matrix_place(source, (size_t)merge_entry_input(entry, input)->mean, 0, entry->count,
                            group, bias, 1, 0, x, error);
    }
    return code;
}

int matrix_rotate(struct thread_pool *pool, double *const turn[MERGE_SIDES], bool back, size_t rows,
                  size_t columns, double *x, double *scratch, struct ivon_error *error)
{
    int code = 0;
    if (turn[MERGE_INPUT]) {
        memcpy(scratch, x, rows * columns * sizeof *x);
        code = matrix_product(pool, false, !back, rows, columns, columns, scratch,
                              turn[MERGE_INPUT], x, error);
    }
    if (!code && turn[MERGE_OUTPUT]) {
        memcpy(scratch, x, rows * columns * sizeof *x);
        code = matrix_product(pool, back, false, rows, columns, rows, turn[MERGE_OUTPUT], scratch,
                              x, error);
    }
    return code;
}

int matrix_rotate_floats(struct thread_pool *pool, float *const turn[MERGE_SIDES], bool back,
                         size_t rows, size_t columns, float **x, float **scratch,
                         struct ivon_error *error)
{
    int code = 0;
    for (int side = 0; side < MERGE_SIDES && !code; side++) {
        if (!turn[side])
            continue;
        bool input = side == MERGE_INPUT;
        float *from = *x, *to = *scratch;
        struct matrix_work work = {input ? false : back,
                                   input ? !back : false,
                                   true,
                                   rows,
                                   columns,
                                   input ? columns : rows,
                                   input ? from : turn[side],
                                   input ? turn[side] : from,
                                   to};
        code = multiply_tiles(pool, &work, error);
        *x = to;
        *scratch = from;
    }
    return code;
}

/* The squares of a panel of rows of V, times the rows of x (out: one column for each of the panel's
   rows), or times x itself (one row for each). */
struct square_work {
    const float *turn;
    const double *x;
    double *out;
    size_t rows, columns;
    bool input;
};

static int square_panel(void *context, size_t i, int thread, struct ivon_error *error)
{
    const struct square_work *work = context;
    size_t size = work->input ? work->columns : work->rows;
    size_t first = i * PANEL, count = size - first < PANEL ? size - first : PANEL;
    double *squares = malloc(count * size * sizeof *squares);
    (void)thread;
    if (!squares)
        return ivon_error_memory(error);
    for (size_t k = 0; k < count * size; k++)
        squares[k] = (double)work->turn[first * size + k] * (double)work->turn[first * size + k];
    if (work->input)
        blas_product_double(false, true, (int64_t)work->rows, (int64_t)count, (int64_t)size, 1,
                            work->x, (int64_t)size, squares, (int64_t)size, 0, work->out + first,
                            (int64_t)size);
    else
        blas_product_double(false, false, (int64_t)count, (int64_t)work->columns, (int64_t)size, 1,
                            squares, (int64_t)size, work->x, (int64_t)work->columns, 0,
                            work->out + first * work->columns, (int64_t)work->columns);
    free(squares);
    return 0;
}

int matrix_add_diagonal(struct thread_pool *pool, float *const turn[MERGE_SIDES], size_t rows,
                        size_t columns, double c, const double *x, double *out,
                        double *const work[2], struct ivon_error *error)
{
    const double *from = x;
    int code = 0;
    for (int side = 0; side < MERGE_SIDES && !code; side++) {
        struct square_work square = {turn[side], from,    work[side],
                                     rows,       columns, side == MERGE_INPUT};
        size_t size = side == MERGE_INPUT ? columns : rows;
        if (!turn[side])
            continue;
        code = thread_pool_run(pool, INT32_MAX, (size + PANEL - 1) / PANEL, square_panel, &square,
                               error);
        from = work[side];
    }
    for (size_t i = 0; i < rows * columns && !code; i++)
        out[i] += c * from[i];
    return code;
}
