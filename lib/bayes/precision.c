#include "bayes/precision.h"

#include <float.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "bayes/low_rank.h"
#include "bayes/posterior.h"
#include "bayes/transfer.h"
#include "core/dispatch.h"
#include "core/error.h"
#include "core/memory.h"
#include "core/thread_pool.h"
#include "net/derivative/metric.h"
#include "net/derivative/vectors.h"
#include "net/graph/graph.h"
#include "net/ops/sum.h"

/* A Hessian: of a block, or of a mean outside of blocks, which is a block of one row without
   bases. */
struct precision_part {
    size_t weight, hessian; /* tensors of the source */
    ptrdiff_t bias;         /* likewise; -1: there is none */
    struct net_block net;   /* whose diagonal is S */
    float *scale, *input_basis, *output_basis;
    float *vectors; /* r × o n: those of the correction */
    float *x;       /* o × n, and as much for rotating */
    double *along;  /* r: Uᵀ S^½ x of this Hessian */
};

struct precision {
    struct precision_part *parts;
    size_t count;
    ptrdiff_t *part_of; /* of each tensor of the source: its part; -1: none */
    size_t rank;
    double *values; /* ℓ */
    double *along;  /* r: ℓ Uᵀ S^½ x */
};

static size_t precision_size(const struct precision_part *part)
{
    return part->net.rows * part->net.columns;
}

/* Reading. */

static int precision_read(float **out, struct ivon_source *source, ptrdiff_t tensor,
                          struct ivon_error *error)
{
    size_t count = tensor < 0 ? 0 : ivon_source_tensor(source, (size_t)tensor)->count;
    if (tensor < 0)
        return 0;
    *out = memory_aligned(count * sizeof **out);
    return *out ? transfer_floats(source, (size_t)tensor, 0, count, *out, error)
                : ivon_error_memory(error);
}

/* S/divisor in place of h. */
static int precision_read_scale(struct precision_part *part, struct ivon_source *source,
                                double divisor, struct ivon_error *error)
{
    const struct ivon_tensor *hessian = ivon_source_tensor(source, part->hessian);
    int code = precision_read(&part->scale, source, (ptrdiff_t)part->hessian, error);
    for (size_t i = 0; i < hessian->count && !code; i++) {
        double h = (double)part->scale[i];
        double scale = hessian->ess * (h + hessian->weight_decay) / divisor;
        part->scale[i] = (float)scale;
        if (!(scale >= 0))
            code = posterior_refuse_hessian(source, hessian, h, i, error);
        else if (!(part->scale[i] <= FLT_MAX))
            code = ivon_error_set(error, IVON_ERROR_DATA,
                                  "%s: the precision of '%s' over %g is %g at element %zu, beyond "
                                  "single precision",
                                  ivon_source_path(source), hessian->name, divisor, scale, i);
    }
    part->net.diagonal = part->scale;
    return code;
}

static int precision_read_vectors(const struct precision *precision, struct precision_part *part,
                                  struct ivon_source *source, const struct structure *structure,
                                  struct ivon_error *error)
{
    size_t size = precision_size(part), bytes;
    if (structure->vectors[part->hessian] < 0)
        return 0;
    if (__builtin_mul_overflow(precision->rank * sizeof(float), size, &bytes))
        return ivon_error_memory(error);
    part->vectors = memory_aligned(bytes);
    return part->vectors
               ? low_rank_vectors(source, structure, part->hessian, 0, size, part->vectors, error)
               : ivon_error_memory(error);
}

/* `block` null: the mean is in none. */
static int precision_add(struct precision *precision, struct ivon_source *source,
                         const struct structure *structure, const struct structure_block *block,
                         size_t weight, size_t hessian, double divisor, struct ivon_error *error)
{
    struct precision_part *part = &precision->parts[precision->count];
    size_t count = ivon_source_tensor(source, hessian)->count;
    *part = (struct precision_part){.weight = weight, .hessian = hessian, .bias = -1};
    part->net = (struct net_block){.bias = NET_NONE, .rows = 1, .columns = count};
    precision->part_of[weight] = (ptrdiff_t)precision->count++;
    int code = 0;
    if (block) {
        part->net.rows = block->rows;
        part->net.columns = block->columns;
        part->net.transposed = block->transposed;
        part->net.bias = block->bias < 0 ? NET_NONE : 0;
        part->bias = block->bias;
        if (block->bias >= 0)
            precision->part_of[block->bias] = precision->part_of[weight];
        code = precision_read(&part->input_basis, source, block->input_basis, error);
        if (!code)
            code = precision_read(&part->output_basis, source, block->output_basis, error);
        part->net.input_basis = part->input_basis;
        part->net.output_basis = part->output_basis;
    }
    if (!code)
        code = precision_read_scale(part, source, divisor, error);
    if (!code && precision->rank)
        code = precision_read_vectors(precision, part, source, structure, error);
    part->x = memory_aligned(2 * count * sizeof *part->x);
    part->along = calloc(precision->rank + 1, sizeof *part->along);
    return code || (part->x && part->along) ? code : ivon_error_memory(error);
}

static int precision_fill(struct precision *precision, struct ivon_source *source,
                          const struct structure *structure, const bool *wanted, double divisor,
                          struct ivon_error *error)
{
    int code = 0;
    for (size_t b = 0; b < structure->block_count && !code; b++) {
        const struct structure_block *block = &structure->blocks[b];
        if (block->hessian < 0 ||
            !(wanted[block->weight] || (block->bias >= 0 && wanted[block->bias])))
            continue;
        code = posterior_check_scale(source, ivon_source_tensor(source, (size_t)block->hessian),
                                     true, error);
        if (!code)
            code = precision_add(precision, source, structure, block, block->weight,
                                 (size_t)block->hessian, divisor, error);
    }
    for (size_t i = 0; i < ivon_source_tensor_count(source) && !code; i++) {
        const struct ivon_tensor *mean = ivon_source_tensor(source, i);
        if (mean->part != IVON_MEAN || !wanted[i] || structure->block_of[i] >= 0)
            continue;
        ptrdiff_t hessian = ivon_source_find(source, IVON_HESSIAN, mean->name);
        if (hessian < 0)
            continue;
        code = posterior_check_hessian(source, mean, ivon_source_tensor(source, (size_t)hessian),
                                       true, error);
        if (!code)
            code = precision_add(precision, source, structure, NULL, i, (size_t)hessian, divisor,
                                 error);
    }
    return code;
}

static int precision_begin(struct precision *precision, const struct ivon_source *source,
                           const struct structure *structure, struct ivon_error *error)
{
    size_t count = ivon_source_tensor_count(source), rank = structure->rank;
    precision->rank = rank;
    precision->parts = calloc(count + 1, sizeof *precision->parts);
    precision->part_of = calloc(count + 1, sizeof *precision->part_of);
    precision->values = calloc(rank + 1, sizeof *precision->values);
    precision->along = calloc(rank + 1, sizeof *precision->along);
    if (!precision->parts || !precision->part_of || !precision->values || !precision->along)
        return ivon_error_memory(error);
    for (size_t i = 0; i < count; i++)
        precision->part_of[i] = -1;
    if (rank)
        memcpy(precision->values, structure->values, rank * sizeof *precision->values);
    return 0;
}

int precision_new(struct precision **out, struct ivon_source *source, const bool *wanted,
                  double divisor, struct ivon_error *error)
{
    struct structure *structure = NULL;
    struct precision *precision = calloc(1, sizeof *precision);
    if (!precision)
        return ivon_error_memory(error);
    int code = structure_read(&structure, source, error);
    if (!code)
        code = precision_begin(precision, source, structure, error);
    if (!code)
        code = precision_fill(precision, source, structure, wanted, divisor, error);
    structure_free(structure);
    if (code) {
        precision_free(precision);
        return code;
    }
    *out = precision;
    return 0;
}

void precision_free(struct precision *precision)
{
    if (!precision)
        return;
    for (size_t i = 0; i < precision->count; i++) {
        struct precision_part *part = &precision->parts[i];
        free(part->scale);
        free(part->input_basis);
        free(part->output_basis);
        free(part->vectors);
        free(part->x);
        free(part->along);
    }
    free(precision->parts);
    free(precision->part_of);
    free(precision->values);
    free(precision->along);
    free(precision);
}

bool precision_covers(const struct precision *precision, size_t mean)
{
    return precision->part_of[mean] >= 0;
}

bool precision_is_diagonal(const struct precision *precision)
{
    bool diagonal = !precision->rank;
    for (size_t i = 0; i < precision->count; i++)
        diagonal &= !precision->parts[i].input_basis && !precision->parts[i].output_basis;
    return diagonal;
}

/* Products. */

struct precision_run {
    struct precision *precision;
    const float *const *x;
    float *const *out;
};

static int precision_run_parts(const struct precision_run *run, struct thread_pool *pool,
                               int (*job)(void *, size_t, int, struct ivon_error *),
                               struct ivon_error *error)
{
    size_t count = run->precision->count;
    int code = 0, threads = count < INT_MAX ? (int)count + 1 : INT_MAX;
    if (pool)
        return thread_pool_run(pool, threads, count, job, (void *)run, error);
    for (size_t i = 0; i < count && !code; i++)
        code = job((void *)run, i, 0, error);
    return code;
}

/* x ← S^½ x */
IVON_DISPATCH static void precision_scale_by_root(float *restrict x, const float *restrict scale,
                                                  size_t count)
{
    for (size_t i = 0; i < count; i++)
        x[i] *= __builtin_sqrtf(scale[i]);
}

IVON_DISPATCH static void precision_add_multiple(float *restrict x, double factor,
                                                 const float *restrict vector, size_t count)
{
    for (size_t i = 0; i < count; i++)
        x[i] += (float)(factor * (double)vector[i]);
}

/* Rotates a part of x, and multiplies it by S, or finds where it lies along the vectors. */
static int precision_enter(void *context, size_t i, int thread, struct ivon_error *error)
{
    (void)thread;
    (void)error;
    const struct precision_run *run = context;
    struct precision_part *part = &run->precision->parts[i];
    size_t size = precision_size(part), rank = run->precision->rank;
    net_block_gather(&part->net, run->x[part->weight], part->bias < 0 ? NULL : run->x[part->bias],
                     part->x);
    net_block_rotate(&part->net, part->x, part->x + size);
    if (rank)
        precision_scale_by_root(part->x, part->scale, size);
    else
        derivative_multiply(part->x, part->scale, size);
    for (size_t k = 0; k < rank && part->vectors; k++)
        part->along[k] = net_sum_products(part->vectors + k * size, part->x, size);
    return 0;
}

static int precision_leave(void *context, size_t i, int thread, struct ivon_error *error)
{
    (void)thread;
    (void)error;
    const struct precision_run *run = context;
    const struct precision *precision = run->precision;
    const struct precision_part *part = &precision->parts[i];
    size_t size = precision_size(part);
    for (size_t k = 0; k < precision->rank && part->vectors; k++)
        precision_add_multiple(part->x, precision->along[k], part->vectors + k * size, size);
    if (precision->rank)
        precision_scale_by_root(part->x, part->scale, size);
    net_block_rotate_back(&part->net, part->x, part->x + size);
    net_block_scatter(&part->net, part->x, run->out[part->weight],
                      part->bias < 0 ? NULL : run->out[part->bias]);
    return 0;
}

int precision_multiply(struct precision *precision, const float *const *x, float *const *product,
                       struct thread_pool *pool, struct ivon_error *error)
{
    const struct precision_run run = {.precision = precision, .x = x, .out = product};
    int code = precision_run_parts(&run, pool, precision_enter, error);
    for (size_t k = 0; k < precision->rank; k++) {
        double along = 0;
        for (size_t i = 0; i < precision->count; i++)
            along += precision->parts[i].along[k];
        precision->along[k] = precision->values[k] * along;
    }
    return code ? code : precision_run_parts(&run, pool, precision_leave, error);
}

/* The diagonal: (U_B ⊙ U_B) S (U_A ⊙ U_A)ᵀ, and Σ ℓ v² with v = U_B (S^½ u) U_Aᵀ. */

static float *precision_square(const float *basis, size_t n)
{
    float *square = memory_aligned(n * n * sizeof *square);
    if (square)
        derivative_products(square, basis, basis, n * n);
    return square;
}

/* Sets x to the diagonal of the base. */
static int precision_square_block(const struct precision_part *part, struct ivon_error *error)
{
    const struct net_block *net = &part->net;
    struct net_block squared = *net;
    float *input = net->input_basis ? precision_square(net->input_basis, net->columns) : NULL;
    float *output = net->output_basis ? precision_square(net->output_basis, net->rows) : NULL;
    bool fine = (input || !net->input_basis) && (output || !net->output_basis);
    squared.input_basis = input;
    squared.output_basis = output;
    memcpy(part->x, part->scale, precision_size(part) * sizeof *part->x);
    if (fine)
        net_block_rotate_back(&squared, part->x, part->x + precision_size(part));
    free(input);
    free(output);
    return fine ? 0 : ivon_error_memory(error);
}

static int precision_diagonal_part(void *context, size_t i, int thread, struct ivon_error *error)
{
    (void)thread;
    const struct precision_run *run = context;
    const struct precision_part *part = &run->precision->parts[i];
    size_t size = precision_size(part);
    double *sum = calloc(size + 1, sizeof *sum);
    int code = sum ? precision_square_block(part, error) : ivon_error_memory(error);
    for (size_t j = 0; j < size && !code; j++)
        sum[j] = (double)part->x[j];
    for (size_t k = 0; k < run->precision->rank && part->vectors && !code; k++) {
        memcpy(part->x, part->vectors + k * size, size * sizeof *part->x);
        precision_scale_by_root(part->x, part->scale, size);
        net_block_rotate_back(&part->net, part->x, part->x + size);
        for (size_t j = 0; j < size; j++)
            sum[j] += run->precision->values[k] * (double)part->x[j] * (double)part->x[j];
    }
    for (size_t j = 0; j < size && !code; j++)
        part->x[j] = (float)sum[j];
    if (!code)
        net_block_scatter(&part->net, part->x, run->out[part->weight],
                          part->bias < 0 ? NULL : run->out[part->bias]);
    free(sum);
    return code;
}

int precision_diagonal(struct precision *precision, float *const *diagonal,
                       struct thread_pool *pool, struct ivon_error *error)
{
    const struct precision_run run = {.precision = precision, .out = diagonal};
    return precision_run_parts(&run, pool, precision_diagonal_part, error);
}
