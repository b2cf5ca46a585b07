#include "train/optimizer/basis.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/blas.h"
#include "core/error.h"
#include "core/memory.h"
#include "core/thread_pool.h"
#include "train/optimizer/private.h"

enum {
    PANEL = 128, /* rows of a piece: how many there are does not depend on the threads */
    PRODUCTS_PER_THREAD = 1 << 20 /* that are worth waking a thread */
};

void basis_free(struct optimizer_basis *basis)
{
    if (!basis)
        return;
    for (int s = 0; s < BASIS_SIDES; s++) {
        free(basis->sides[s].basis);
        free(basis->sides[s].moment);
        free(basis->sides[s].order);
    }
    free(basis->gradient);
    free(basis->mean);
    free(basis->parameter);
    free(basis->scratch);
    free(basis);
}

/* An array of zeros; null: there is no memory. */
static float *basis_array(size_t rows, size_t columns)
{
    size_t size;
    if (__builtin_mul_overflow(rows, columns, &size) ||
        __builtin_mul_overflow(size, sizeof(float), &size))
        return NULL;
    float *array = memory_aligned(size);
    if (array)
        memset(array, 0, size);
    return array;
}

static bool basis_side_init(struct basis_side *side, size_t size)
{
    side->size = size;
    side->basis = basis_array(size, size);
    side->moment = basis_array(size, size);
    side->order = calloc(size + 1, sizeof *side->order);
    if (!side->basis || !side->moment || !side->order)
        return false;
    for (size_t i = 0; i < size; i++)
        side->basis[i * size + i] = 1;
    return true;
}

int basis_new(struct optimizer_basis **out, const struct optimizer_tensor *tensor,
              struct ivon_error *error)
{
    struct optimizer_basis *basis = calloc(1, sizeof *basis);
    if (!basis)
        return ivon_error_memory(error);
    basis->rows = tensor->rows;
    basis->columns = tensor->columns;
    bool fine = !tensor->left || basis_side_init(&basis->sides[BASIS_LEFT], tensor->rows);
    fine = fine && (!tensor->right || basis_side_init(&basis->sides[BASIS_RIGHT], tensor->columns));
    float **arrays[] = {&basis->gradient, &basis->mean, &basis->parameter, &basis->scratch};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays && fine; i++)
        fine = (*arrays[i] = basis_array(tensor->rows, tensor->columns)) != NULL;
    if (!fine) {
        basis_free(basis);
        return ivon_error_memory(error);
    }
    *out = basis;
    return 0;
}

/* Pieces: rows of a matrix, and columns of those whose right moment is kept. */

static void basis_list_pieces(const struct optimizer *optimizer, struct basis_piece *pieces,
                              size_t *count, bool columns)
{
    for (size_t i = 0; i < optimizer->tensor_count; i++) {
        const struct optimizer_basis *basis = optimizer->tensors[i].basis;
        size_t extent = !basis ? 0 : columns ? basis->sides[BASIS_RIGHT].size : basis->rows;
        for (size_t first = 0; first < extent; first += PANEL, ++*count)
            if (pieces)
                pieces[*count] = (struct basis_piece){
                    .tensor = i,
                    .first = first,
                    .count = extent - first < PANEL ? extent - first : PANEL};
    }
}

int basis_divide(struct optimizer *optimizer, struct ivon_error *error)
{
    struct basis_plan *plan = &optimizer->bases;
    size_t all = 0;
    basis_list_pieces(optimizer, NULL, &all, false);
    basis_list_pieces(optimizer, NULL, &all, true);
    plan->pieces = calloc(all + 1, sizeof *plan->pieces);
    plan->gradients = calloc(optimizer->tensor_count + 1, sizeof *plan->gradients);
    plan->from = calloc(optimizer->tensor_count + 1, sizeof *plan->from);
    plan->to = calloc(optimizer->tensor_count + 1, sizeof *plan->to);
    plan->with = calloc(optimizer->tensor_count + 1, sizeof *plan->with);
    if (!plan->pieces || !plan->gradients || !plan->from || !plan->to || !plan->with)
        return ivon_error_memory(error);
    basis_list_pieces(optimizer, plan->pieces, &plan->row_pieces, false);
    plan->all_pieces = plan->row_pieces;
    basis_list_pieces(optimizer, plan->pieces, &plan->all_pieces, true);
    double products = 0;
    for (size_t i = 0; i < optimizer->tensor_count; i++) {
        const struct optimizer_basis *basis = optimizer->tensors[i].basis;
        if (!basis)
            continue;
        plan->with[plan->with_count++] = i;
        products += (double)optimizer->tensors[i].count *
                    (double)(basis->sides[BASIS_LEFT].size + basis->sides[BASIS_RIGHT].size);
    }
    plan->threads = (int)fmin(1 + products / PRODUCTS_PER_THREAD, INT32_MAX);
    return 0;
}

void basis_divide_free(struct optimizer *optimizer)
{
    struct basis_plan *plan = &optimizer->bases;
    free(plan->pieces);
    free(plan->gradients);
    free(plan->from);
    free(plan->to);
    free(plan->with);
}

/* Passes. */

struct basis_pass {
    struct optimizer *optimizer;
    bool back;
    float keep, add; /* of moments */
    bool first;      /* bases are decomposed */
};

static int basis_run(struct basis_pass *pass, size_t count,
                     int (*job)(void *, size_t, int, struct ivon_error *), struct ivon_error *error)
{
    struct thread_pool *pool = pass->optimizer->options.thread_pool;
    int code = 0;
    if (pool)
        return thread_pool_run(pool, pass->optimizer->bases.threads, count, job, pass, error);
    for (size_t i = 0; i < count && !code; i++)
        code = job(pass, i, 0, error);
    return code;
}

/* Rows of X Q_R, or of X Q_Rᵀ on the way back. */
static int basis_turn_right(void *context, size_t i, int thread, struct ivon_error *error)
{
    const struct basis_pass *pass = context;
    const struct basis_plan *plan = &pass->optimizer->bases;
    const struct basis_piece *piece = &plan->pieces[i];
    const struct optimizer_basis *basis = pass->optimizer->tensors[piece->tensor].basis;
    const struct basis_side *right = &basis->sides[BASIS_RIGHT];
    float *to = basis->sides[BASIS_LEFT].size ? basis->scratch : plan->to[piece->tensor];
    int64_t n = (int64_t)basis->columns;
    size_t at = piece->first * basis->columns;
    (void)thread;
    (void)error;
    if (right->size)
        blas_product(false, pass->back, (int64_t)piece->count, n, n, 1,
                     plan->from[piece->tensor] + at, n, right->basis, n, 0, to + at, n);
    return 0;
}

/* Rows of Q_Lᵀ Y, or of Q_L Y on the way back; Y is what the right side made. */
static int basis_turn_left(void *context, size_t i, int thread, struct ivon_error *error)
{
    const struct basis_pass *pass = context;
    const struct basis_plan *plan = &pass->optimizer->bases;
    const struct basis_piece *piece = &plan->pieces[i];
    const struct optimizer_basis *basis = pass->optimizer->tensors[piece->tensor].basis;
    const struct basis_side *left = &basis->sides[BASIS_LEFT];
    const float *from = basis->sides[BASIS_RIGHT].size ? basis->scratch : plan->from[piece->tensor];
    int64_t m = (int64_t)basis->rows, n = (int64_t)basis->columns;
    (void)thread;
    (void)error;
    if (left->size)
        blas_product(!pass->back, false, (int64_t)piece->count, n, m, 1,
                     left->basis + piece->first * (pass->back ? left->size : 1), m, from, n, 0,
                     plan->to[piece->tensor] + piece->first * basis->columns, n);
    return 0;
}

/* Turns plan->from, of each tensor with a basis, to plan->to, which must be other memory. */
static int basis_turn(struct optimizer *optimizer, bool back, struct ivon_error *error)
{
    struct basis_pass pass = {.optimizer = optimizer, .back = back};
    if (!optimizer->bases.with_count)
        return 0;
    int code = basis_run(&pass, optimizer->bases.row_pieces, basis_turn_right, error);
    return code ? code : basis_run(&pass, optimizer->bases.row_pieces, basis_turn_left, error);
}

int basis_place(struct optimizer *optimizer, struct ivon_error *error)
{
    struct basis_plan *plan = &optimizer->bases;
    for (size_t k = 0; k < plan->with_count; k++) {
        const struct optimizer_array *tensor = &optimizer->tensors[plan->with[k]];
        plan->from[plan->with[k]] = tensor->sample ? tensor->sample : tensor->mean;
        plan->to[plan->with[k]] = tensor->basis->parameter;
    }
    return basis_turn(optimizer, true, error);
}

/* Moments. */

/* Rows of a moment up to the diagonal; what is above it is not used. */
static int basis_add_moment(void *context, size_t i, int thread, struct ivon_error *error)
{
    const struct basis_pass *pass = context;
    const struct basis_plan *plan = &pass->optimizer->bases;
    const struct basis_piece *piece = &plan->pieces[i];
    const struct optimizer_basis *basis = pass->optimizer->tensors[piece->tensor].basis;
    bool right = i >= plan->row_pieces;
    const struct basis_side *side = &basis->sides[right ? BASIS_RIGHT : BASIS_LEFT];
    int64_t m = (int64_t)basis->rows, n = (int64_t)basis->columns, size = (int64_t)side->size;
    int64_t count = (int64_t)piece->count, end = (int64_t)(piece->first + piece->count);
    const float *g = plan->from[piece->tensor];
    float *to = side->moment + (size ? piece->first * side->size : 0);
    (void)thread;
    (void)error;
    if (size && right)
        blas_product(true, false, count, end, m, pass->add, g + piece->first, n, g, n, pass->keep,
                     to, size);
    else if (size)
        blas_product(false, true, count, end, n, pass->add, g + piece->first * basis->columns, n, g,
                     n, pass->keep, to, size);
    return 0;
}

/* Completes a moment above its diagonal; returns whether all of it is finite. */
static bool basis_complete_moment(struct basis_side *side)
{
    size_t n = side->size;
    bool finite = true;
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j <= i; j++) {
            side->moment[j * n + i] = side->moment[i * n + j];
            finite &= isfinite(side->moment[i * n + j]) != 0;
        }
    return finite;
}

/* New bases. */

static int basis_refuse(const char *name, struct ivon_error *error)
{
    return ivon_error_set(error, IVON_ERROR_DATA,
                          "tensor '%s': the second moments of its gradients are not finite: lower "
                          "the learning rate, or clip the gradient's norm",
                          name);
}

/* Sets Q to the eigenvectors of S, the largest value first. */
static int basis_decompose(struct basis_side *side, struct ivon_error *error)
{
    size_t n = side->size;
    double *matrix = calloc(n * n + 1, sizeof *matrix), *values = calloc(n + 1, sizeof *values);
    int code = matrix && values ? 0 : ivon_error_memory(error);
    for (size_t i = 0; i < n * n && !code; i++)
        matrix[i] = (double)side->moment[i];
    if (!code)
        code = blas_eigen((int64_t)n, matrix, values, error);
    for (size_t i = 0; i < n && !code; i++)
        for (size_t j = 0; j < n; j++)
            side->basis[i * n + j] = (float)matrix[(n - 1 - j) * n + i];
    free(matrix);
    free(values);
    return code;
}

struct basis_value {
    double value;
    size_t column;
};

static int basis_compare(const void *a, const void *b)
{
    const struct basis_value *x = a, *y = b;
    if (x->value != y->value)
        return x->value > y->value ? -1 : 1;
    return x->column < y->column ? -1 : 1;
}

/* While a basis goes on: its columns, and those of S Q, as rows of n numbers. */
struct basis_rows {
    float *old, *product;
    double *new;
    struct basis_value *values;
};

static bool basis_rows_init(struct basis_rows *rows, size_t n)
{
    *rows = (struct basis_rows){.old = memory_aligned(n * n * sizeof *rows->old),
                                .product = memory_aligned(n * n * sizeof *rows->product),
                                .new = memory_aligned(n * n * sizeof *rows->new),
                                .values = calloc(n + 1, sizeof *rows->values)};
    return rows->old && rows->product && rows->new && rows->values;
}

static void basis_rows_release(struct basis_rows *rows)
{
    free(rows->old);
    free(rows->product);
    free(rows->new);
    free(rows->values);
}

/* Sets side->order by diag(Qᵀ S Q). */
static void basis_sort(struct basis_side *side, const struct basis_rows *rows)
{
    size_t n = side->size;
    for (size_t j = 0; j < n; j++) {
        rows->values[j] = (struct basis_value){.column = j};
        for (size_t i = 0; i < n; i++)
            rows->values[j].value += (double)rows->old[j * n + i] *
                                     (double)rows->product[j * n + i];
    }
    qsort(rows->values, n, sizeof *rows->values, basis_compare);
    for (size_t j = 0; j < n; j++)
        side->order[j] = rows->values[j].column;
}

/* Q's columns ← the orthonormal rows, each turned towards the old column. */
static void basis_adopt(struct basis_side *side, const struct basis_rows *rows)
{
    size_t n = side->size;
    for (size_t j = 0; j < n; j++) {
        const double *new = rows->new + j *n;
        const float *old = rows->old + side->order[j] * n;
        double overlap = 0;
        for (size_t i = 0; i < n; i++)
            overlap += new[i] * (double)old[i];
        for (size_t i = 0; i < n; i++)
            side->basis[i * n + j] = (float)(overlap < 0 ? -new[i] : new[i]);
    }
}

/* One power iteration, and the orthonormal factor of what it gives. */
static int basis_follow(struct basis_side *side, struct ivon_error *error)
{
    struct basis_rows rows;
    size_t n = side->size;
    int64_t size = (int64_t)n;
    int code = basis_rows_init(&rows, n) ? 0 : ivon_error_memory(error);
    for (size_t i = 0; i < n && !code; i++)
        for (size_t j = 0; j < n; j++)
            rows.old[j * n + i] = side->basis[i * n + j];
    if (!code) {
        blas_product(false, false, size, size, size, 1, rows.old, size, side->moment, size, 0,
                     rows.product, size);
        basis_sort(side, &rows);
        for (size_t j = 0; j < n; j++)
            for (size_t i = 0; i < n; i++)
                rows.new[j * n + i] = (double)rows.product[side->order[j] * n + i];
        code = blas_orthonormal_rows(size, size, rows.new, error);
    }
    if (!code)
        basis_adopt(side, &rows);
    basis_rows_release(&rows);
    return code;
}

float *optimizer_basis_moment(const struct optimizer *optimizer, size_t tensor, bool right)
{
    struct optimizer_basis *basis = optimizer->tensors[tensor].basis;
    if (!basis)
        return NULL;
    basis_complete_moment(&basis->sides[right ? BASIS_RIGHT : BASIS_LEFT]);
    return basis->sides[right ? BASIS_RIGHT : BASIS_LEFT].moment;
}

static int basis_renew(void *context, size_t i, int thread, struct ivon_error *error)
{
    const struct basis_pass *pass = context;
    struct optimizer_array *tensor =
        &pass->optimizer->tensors[pass->optimizer->bases.with[i / BASIS_SIDES]];
    struct basis_side *side = &tensor->basis->sides[i % BASIS_SIDES];
    (void)thread;
    if (!side->size)
        return 0;
    if (!basis_complete_moment(side))
        return basis_refuse(tensor->name, error);
    return pass->first ? basis_decompose(side, error) : basis_follow(side, error);
}

/* Puts Hessians, or second moments, into the order of the columns they belong to. */
static int basis_reorder(void *context, size_t i, int thread, struct ivon_error *error)
{
    const struct basis_pass *pass = context;
    struct optimizer_array *tensor = &pass->optimizer->tensors[pass->optimizer->bases.with[i]];
    struct optimizer_basis *basis = tensor->basis;
    const struct basis_side *left = &basis->sides[BASIS_LEFT], *right = &basis->sides[BASIS_RIGHT];
    size_t n = basis->columns;
    (void)thread;
    (void)error;
    memcpy(basis->scratch, tensor->hessian, tensor->count * sizeof *tensor->hessian);
    for (size_t r = 0; r < basis->rows; r++) {
        const float *from = basis->scratch + (left->size ? left->order[r] : r) * n;
        for (size_t c = 0; c < n; c++)
            tensor->hessian[r * n + c] = from[right->size ? right->order[c] : c];
    }
    return 0;
}

/* The arrays that a refresh turns, there and back. */
enum basis_state { BASIS_MEAN, BASIS_MOMENTUM, BASIS_SAMPLE };

/* Turns one of them out of the bases, or into them. A sample is with the network already. */
static int basis_turn_state(struct optimizer *optimizer, enum basis_state which, bool back,
                            struct ivon_error *error)
{
    struct basis_plan *plan = &optimizer->bases;
    for (size_t k = 0; k < plan->with_count; k++) {
        struct optimizer_array *tensor = &optimizer->tensors[plan->with[k]];
        struct optimizer_basis *basis = tensor->basis;
        float *inside[] = {tensor->mean, tensor->momentum, tensor->sample};
        float *outside[] = {basis->mean, basis->gradient, basis->parameter};
        plan->from[plan->with[k]] = back ? inside[which] : outside[which];
        plan->to[plan->with[k]] = back ? outside[which] : inside[which];
    }
    return basis_turn(optimizer, back, error);
}

int optimizer_place_means(struct optimizer *optimizer, struct ivon_error *error)
{
    return basis_turn_state(optimizer, BASIS_MEAN, true, error);
}

int basis_refresh(struct optimizer *optimizer, struct ivon_error *error)
{
    struct basis_plan *plan = &optimizer->bases;
    struct basis_pass pass = {.optimizer = optimizer, .first = optimizer->steps == 0};
    int code = basis_turn_state(optimizer, BASIS_MEAN, true, error);
    if (!code)
        code = basis_turn_state(optimizer, BASIS_MOMENTUM, true, error);
    if (!code)
        code = basis_run(&pass, plan->with_count * BASIS_SIDES, basis_renew, error);
    if (!code && !pass.first)
        code = basis_run(&pass, plan->with_count, basis_reorder, error);
    if (!code)
        code = basis_turn_state(optimizer, BASIS_MEAN, false, error);
    if (!code)
        code = basis_turn_state(optimizer, BASIS_MOMENTUM, false, error);
    return code;
}

bool basis_due(const struct optimizer *optimizer)
{
    uint64_t every = optimizer->options.basis_every;
    return optimizer->bases.with_count && every && (optimizer->steps + 1) % every == 0;
}

/* The first bases are those of the first gradient, before it is used. Until then all Hessians are
   the same number, of which the first draw's noise has the same law in any basis. */
static int basis_begin(struct optimizer *optimizer, struct ivon_error *error)
{
    int code = basis_refresh(optimizer, error);
    if (!code && optimizer->options.method == OPTIMIZER_IVON)
        code = basis_turn_state(optimizer, BASIS_SAMPLE, false, error);
    return code;
}

int basis_take(struct optimizer *optimizer, const float *const *gradients, float factor,
               struct ivon_error *error)
{
    struct basis_plan *plan = &optimizer->bases;
    const struct optimizer_options *options = &optimizer->options;
    double gain = (1 - options->basis_beta) / options->samples;
    struct basis_pass pass = {.optimizer = optimizer,
                              .keep = optimizer->sample ? 1 : (float)options->basis_beta,
                              .add = (float)(gain * (double)factor * (double)factor)};
    int code = 0;
    memcpy(plan->gradients, gradients, optimizer->tensor_count * sizeof *plan->gradients);
    memcpy(plan->from, gradients, optimizer->tensor_count * sizeof *plan->from);
    if (options->basis_every)
        code = basis_run(&pass, plan->all_pieces, basis_add_moment, error);
    if (!code && options->basis_every && !optimizer->steps && !optimizer->sample)
        code = basis_begin(optimizer, error);
    memcpy(plan->from, gradients, optimizer->tensor_count * sizeof *plan->from);
    for (size_t k = 0; k < plan->with_count; k++) {
        size_t i = plan->with[k];
        plan->gradients[i] = plan->to[i] = optimizer->tensors[i].basis->gradient;
    }
    return code ? code : basis_turn(optimizer, false, error);
}
