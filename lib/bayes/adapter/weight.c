#include "bayes/adapter/weight.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bayes/adapter/kernel.h"
#include "bayes/posterior.h"
#include "bayes/transfer.h"
#include "core/error.h"

enum { PIECE = 512 /* elements converted at once */ };

/* The numbers that a product is made of. */
enum use { USE_VALUE, USE_SQUARE, USE_VARIANCE };

struct tile {
    double left[ADAPTER_ROWS * ADAPTER_RANKS], right[ADAPTER_RANKS * ADAPTER_COLUMNS];
    double sum[ADAPTER_ROWS * ADAPTER_COLUMNS];
    double line[ADAPTER_COLUMNS]; /* on its way to a column */
};

/* The elements of a tensor's rows [row, row + rows) and columns [column, column + columns). */
struct rectangle {
    size_t row, rows, column, columns;
};

int adapter_load(struct ivon_source *source, size_t tensor, size_t first, size_t count, double *out,
                 struct ivon_error *error)
{
    double block[PIECE];
    enum ivon_dtype dtype = ivon_source_tensor(source, tensor)->dtype;
    const unsigned char *at = ivon_source_view(source, tensor, first);
    if (at) {
        ivon_dtype_to_f64(out, at, dtype, count);
        return 0;
    }
    for (size_t done = 0; done < count; done += PIECE) {
        size_t piece = count - done < PIECE ? count - done : PIECE;
        int code = ivon_source_read(source, tensor, first + done, piece, block, error);
        if (code)
            return code;
        ivon_dtype_to_f64(out + done, block, dtype, piece);
    }
    return 0;
}

int adapter_load_precision(struct ivon_source *source, size_t hessian, size_t first, size_t count,
                           double *out, struct ivon_error *error)
{
    const struct ivon_tensor *tensor = ivon_source_tensor(source, hessian);
    int code = adapter_load(source, hessian, first, count, out, error);
    for (size_t i = 0; i < count && !code; i++) {
        double h = out[i];
        out[i] = tensor->ess * (h + tensor->weight_decay);
        if (!(out[i] > 0) || !isfinite(out[i]))
            return posterior_refuse_hessian(source, tensor, h, first + i, error);
    }
    return code;
}

static int weight_load(const struct adapter_weight *weight, bool is_a, enum use use, size_t first,
                       size_t count, double *out, struct ivon_error *error)
{
    ptrdiff_t hessian = is_a ? weight->a_hessian : weight->b_hessian;
    if (use == USE_VARIANCE && hessian < 0) {
        memset(out, 0, count * sizeof *out);
        return 0;
    }
    if (use == USE_VARIANCE) {
        int code = adapter_load_precision(weight->factors, (size_t)hessian, first, count, out,
                                          error);
        for (size_t i = 0; i < count && !code; i++)
            out[i] = 1 / out[i];
        return code;
    }
    int code = adapter_load(weight->factors, is_a ? weight->a : weight->b, first, count, out,
                            error);
    for (size_t i = 0; i < count && !code && use == USE_SQUARE; i++)
        out[i] *= out[i];
    return code;
}

/* Ranks [rank, rank + ranks) of the left factor: rows of B, or columns of A. */
static int weight_load_left(const struct adapter_weight *weight, struct tile *tile,
                            const struct rectangle *at, size_t rank, size_t ranks, enum use use,
                            struct ivon_error *error)
{
    int code = 0;
    for (size_t i = 0; i < at->rows && !weight->transposed && !code; i++)
        code = weight_load(weight, false, use, (at->row + i) * weight->rank + rank, ranks,
                           tile->left + i * ADAPTER_RANKS, error);
    for (size_t k = 0; k < ranks && weight->transposed && !code; k++) {
        code = weight_load(weight, true, use, (rank + k) * weight->rows + at->row, at->rows,
                           tile->line, error);
        for (size_t i = 0; i < at->rows && !code; i++)
            tile->left[i * ADAPTER_RANKS + k] = tile->line[i];
    }
    return code;
}

/* Ranks [rank, rank + ranks) of the right factor: columns of A, or rows of B. */
static int weight_load_right(const struct adapter_weight *weight, struct tile *tile,
                             const struct rectangle *at, size_t rank, size_t ranks, enum use use,
                             struct ivon_error *error)
{
    int code = 0;
    for (size_t k = 0; k < ranks && !weight->transposed && !code; k++)
        code = weight_load(weight, true, use, (rank + k) * weight->columns + at->column,
                           at->columns, tile->right + k * ADAPTER_COLUMNS, error);
    for (size_t j = 0; j < at->columns && weight->transposed && !code; j++) {
        code = weight_load(weight, false, use, (at->column + j) * weight->rank + rank, ranks,
                           tile->line, error);
        for (size_t k = 0; k < ranks && !code; k++)
            tile->right[k * ADAPTER_COLUMNS + j] = tile->line[k];
    }
    return code;
}

/* Adds the product of what `a` and `b` say of the factors to the tile's sums. */
static int weight_add_product(const struct adapter_weight *weight, struct tile *tile,
                              const struct rectangle *at, enum use a, enum use b,
                              struct ivon_error *error)
{
    enum use left = weight->transposed ? a : b, right = weight->transposed ? b : a;
    int code = 0;
    for (size_t rank = 0; rank < weight->rank && !code; rank += ADAPTER_RANKS) {
        size_t rest = weight->rank - rank, ranks = rest < ADAPTER_RANKS ? rest : ADAPTER_RANKS;
        code = weight_load_left(weight, tile, at, rank, ranks, left, error);
        if (!code)
            code = weight_load_right(weight, tile, at, rank, ranks, right, error);
        if (!code)
            adapter_multiply(tile->sum, tile->left, tile->right, at->rows, ranks, at->columns);
    }
    return code;
}

/* s B A of a rectangle that fits into a tile, or its variance, added to `out`, which begins with
   element `first`. */
static int weight_add_rectangle(const struct adapter_weight *weight, struct tile *tile,
                                const struct rectangle *at, bool variance, size_t first,
                                double *out, struct ivon_error *error)
{
    memset(tile->sum, 0, at->rows * ADAPTER_COLUMNS * sizeof tile->sum[0]);
    int code = weight_add_product(weight, tile, at, variance ? USE_VARIANCE : USE_VALUE,
                                  variance ? USE_SQUARE : USE_VALUE, error);
    if (!code && variance)
        code = weight_add_product(weight, tile, at, USE_SQUARE, USE_VARIANCE, error);
    double scale = variance ? weight->scale * weight->scale : weight->scale;
    for (size_t i = 0; i < at->rows && !code; i++)
        for (size_t j = 0; j < at->columns; j++)
            out[(at->row + i) * weight->columns + at->column + j - first] +=
                scale * tile->sum[i * ADAPTER_COLUMNS + j];
    return code;
}

/* The same of any range of elements: the rest of a row, whole rows, the beginning of a row. */
static int weight_add_range(const struct adapter_weight *weight, bool variance, size_t first,
                            size_t count, double *out, struct ivon_error *error)
{
    struct tile *tile = malloc(sizeof *tile);
    size_t columns = weight->columns, end = first + count;
    int code = tile ? 0 : ivon_error_memory(error);
    for (size_t at = first; at < end && !code;) {
        size_t row = at / columns, column = at % columns;
        size_t rows = column || end - at < columns ? 1 : (end - at) / columns;
        rows = rows < ADAPTER_ROWS ? rows : ADAPTER_ROWS;
        size_t width = columns - column < end - at ? columns - column : end - at;
        for (size_t done = 0; done < width && !code; done += ADAPTER_COLUMNS) {
            size_t piece = width - done < ADAPTER_COLUMNS ? width - done : ADAPTER_COLUMNS;
            struct rectangle rectangle = {row, rows, column + done, piece};
            code = weight_add_rectangle(weight, tile, &rectangle, variance, first, out, error);
        }
        at += rows > 1 ? rows * columns : width;
    }
    free(tile);
    return code;
}

static int weight_read_sum(const struct adapter_weight *weight, size_t first, size_t count,
                           double *out, struct ivon_error *error)
{
    int code = adapter_load(weight->from, weight->tensor, first, count, out, error);
    return code ? code : weight_add_range(weight, false, first, count, out, error);
}

static size_t weight_output(const struct adapter_weight *weight, size_t element)
{
    return weight->transposed ? element % weight->columns : element / weight->columns;
}

/* Computes ->factor, in one pass over the weight. */
static int weight_find_factor(struct adapter_weight *weight, struct ivon_error *error)
{
    enum { BLOCK = 1 << 15 };
    size_t outputs = adapter_outputs(weight), count = weight->rows * weight->columns;
    double *squares = calloc(outputs, sizeof *squares), *block = malloc(BLOCK * sizeof *block);
    double *factor = calloc(outputs, sizeof *factor);
    int code = squares && block && factor ? 0 : ivon_error_memory(error);
    for (size_t first = 0; first < count && !code; first += BLOCK) {
        size_t piece = count - first < BLOCK ? count - first : BLOCK;
        code = weight_read_sum(weight, first, piece, block, error);
        for (size_t i = 0; i < piece && !code; i++)
            squares[weight_output(weight, first + i)] += block[i] * block[i];
    }
    if (!code)
        code = adapter_load(weight->factors, (size_t)weight->magnitude, 0, outputs, factor, error);
    for (size_t o = 0; o < outputs && !code; o++)
        if (!isfinite(factor[o] /= sqrt(squares[o])))
            code = ivon_error_set(error, IVON_ERROR_DATA,
                                  "%s: tensor '%s': its magnitude at output %zu, for a weight of "
                                  "norm %g, makes no finite number",
                                  ivon_source_path(weight->factors),
                                  ivon_source_tensor(weight->from, weight->tensor)->name, o,
                                  sqrt(squares[o]));
    free(squares);
    free(block);
    if (code)
        free(factor);
    else
        weight->factor = factor;
    return code;
}

int adapter_weight_read(struct adapter_weight *weight, pthread_mutex_t *lock, size_t first,
                        size_t count, double *out, struct ivon_error *error)
{
    int code = weight_read_sum(weight, first, count, out, error);
    if (code || weight->magnitude < 0)
        return code;
    pthread_mutex_lock(lock);
    if (!weight->factor)
        code = weight_find_factor(weight, error);
    pthread_mutex_unlock(lock);
    for (size_t i = 0; i < count && !code; i++)
        out[i] *= weight->factor[weight_output(weight, first + i)];
    return code;
}

int adapter_weight_hessian(const struct adapter_weight *weight, double ess, size_t first,
                           size_t count, double *out, struct ivon_error *error)
{
    memset(out, 0, count * sizeof *out);
    int code = weight_add_range(weight, true, first, count, out, error);
    for (size_t i = 0; i < count && !code; i++) {
        double variance = out[i];
        out[i] = 1 / (ess * variance);
        if (!(variance > 0) || !isfinite(out[i]))
            code = ivon_error_set(error, IVON_ERROR_DATA,
                                  "%s: tensor '%s': its variance to first order is %g at element "
                                  "%zu, expected a positive number",
                                  ivon_source_path(weight->factors),
                                  ivon_source_tensor(weight->from, weight->tensor)->name, variance,
                                  first + i);
    }
    return code;
}
