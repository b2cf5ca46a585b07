#include "bayes/covariance.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bayes/block.h"
#include "bayes/posterior.h"
#include "core/error.h"
#include "core/memory.h"
#include "core/parallel.h"
#include "net/derivative/uses.h"

/* Making. */

static size_t parameter_of(const struct covariance *covariance, size_t tensor)
{
    const struct ivon_network *network = covariance->network;
    for (size_t p = 0; p < network->parameter_count; p++)
        if (network->parameters[p] == tensor)
            return p;
    return NET_NONE;
}

/* A block whose weight the network does not have moves nothing. */
static int covariance_place_block(struct covariance *covariance, size_t number,
                                  struct ivon_error *error)
{
    const struct structure_block *from = &covariance->draw->structure->blocks[number];
    struct net_block *block = &covariance->blocks[number].net;
    size_t weight = parameter_of(covariance, from->weight);
    size_t bias = from->bias < 0 ? NET_NONE : parameter_of(covariance, (size_t)from->bias);
    if (weight == NET_NONE || !draw_block_of(covariance->draw, from->weight))
        return 0;
    if (from->bias >= 0 && bias == NET_NONE)
        return ivon_error_set(
            error, IVON_ERROR_DATA,
            "%s: '%s' and '%s' have one covariance, and the network has no place for the second",
            ivon_source_path(covariance->source),
            ivon_source_tensor(covariance->source, from->weight)->name,
            ivon_source_tensor(covariance->source, (size_t)from->bias)->name);
    *block = (struct net_block){.weight = weight,
                                .bias = bias,
                                .rows = from->rows,
                                .columns = from->columns,
                                .transposed = from->transposed};
    covariance->block_list[weight] = block;
    if (bias != NET_NONE)
        covariance->block_list[bias] = block;
    return 0;
}

static int covariance_fill(struct covariance *covariance, const struct ivon_sample_options *options,
                           struct ivon_error *error)
{
    const struct ivon_network *network = covariance->network;
    size_t count = network->parameter_count;
    int code = draw_new(&covariance->draw, covariance->source, options, error);
    if (code)
        return code;
    size_t blocks = covariance->draw->structure->block_count;
    covariance->random = calloc(count + 1, sizeof *covariance->random);
    covariance->block_list = calloc(count + 1, sizeof *covariance->block_list);
    covariance->blocks = calloc(blocks + 1, sizeof *covariance->blocks);
    if (!covariance->random || !covariance->block_list || !covariance->blocks)
        return ivon_error_memory(error);
    covariance->block_of = covariance->block_list;
    for (size_t p = 0; p < count; p++)
        covariance->random[p] = covariance->draw->random[network->parameters[p]];
    for (size_t b = 0; b < blocks && !code; b++)
        code = covariance_place_block(covariance, b, error);
    return code;
}

int covariance_new(struct covariance **out, const struct ivon_network *network,
                   struct ivon_source *source, const struct ivon_sample_options *options,
                   struct ivon_error *error)
{
    struct covariance *covariance = calloc(1, sizeof *covariance);
    if (!covariance)
        return ivon_error_memory(error);
    covariance->network = network;
    covariance->source = source;
    int code = covariance_fill(covariance, options, error);
    if (code) {
        covariance_free(covariance);
        return code;
    }
    *out = covariance;
    return 0;
}

static size_t covariance_rank(const struct covariance *covariance)
{
    return covariance->draw->structure->rank;
}

static void covariance_unload(struct covariance *covariance)
{
    size_t blocks = covariance->draw ? covariance->draw->structure->block_count : 0;
    weights_release(&covariance->variance);
    for (size_t k = 0; covariance->vectors && k < covariance_rank(covariance); k++)
        weights_release(&covariance->vectors[k]);
    for (size_t b = 0; b < blocks && covariance->blocks; b++) {
        struct net_block kept = covariance->blocks[b].net;
        block_release(&covariance->blocks[b]);
        kept.diagonal = kept.input_basis = kept.output_basis = NULL;
        covariance->blocks[b].net = kept;
    }
    free(covariance->vectors);
    free(covariance->correction);
    covariance->vectors = NULL;
    covariance->correction = NULL;
}

void covariance_free(struct covariance *covariance)
{
    if (!covariance)
        return;
    covariance_unload(covariance);
    draw_free(covariance->draw);
    free(covariance->random);
    free(covariance->blocks);
    free(covariance->block_list);
    free(covariance);
}

/* Samples. */

struct covariance_sample {
    const struct covariance *covariance;
    const struct ivon_sample_options *options;
    uint64_t number;
    double *c;
    struct weights *weights;
};

/* Gives up the pages of a range of a mean and its Hessian, which a file may be mapped to: what was
   read is in memory of its own. */
static void covariance_read(const struct covariance *covariance, size_t mean,
                            const struct weights_range *range)
{
    struct ivon_source *source = covariance->source;
    ptrdiff_t hessian = ivon_source_find(source, IVON_HESSIAN,
                                         ivon_source_tensor(source, mean)->name);
    ivon_source_done_with(source, mean, range->first, range->count);
    if (hessian >= 0 && covariance->draw->structure->block_of[mean] < 0)
        ivon_source_done_with(source, (size_t)hessian, range->first, range->count);
}

static bool is_drawn_in_block(const struct covariance_sample *sample, size_t parameter)
{
    return sample->options->temperature > 0 && sample->covariance->block_of[parameter];
}

static int covariance_draw_range(void *context, const struct weights_range *range, float *out,
                                 struct ivon_error *error)
{
    const struct covariance_sample *sample = context;
    const struct covariance *covariance = sample->covariance;
    size_t mean = covariance->network->parameters[range->parameter];
    if (is_drawn_in_block(sample, range->parameter))
        return 0;
    int code = draw_range(covariance->draw, sample->options, sample->number, sample->c, mean,
                          range->first, range->count, out, error);
    covariance_read(covariance, mean, range);
    return code;
}

static int covariance_draw_block(void *context, size_t number, int thread, struct ivon_error *error)
{
    (void)thread;
    const struct covariance_sample *sample = context;
    const struct covariance *covariance = sample->covariance;
    const struct net_block *block = &covariance->blocks[number].net;
    if (!block->rows || !is_drawn_in_block(sample, block->weight))
        return 0;
    float **arrays = sample->weights->arrays;
    return draw_block(covariance->draw, sample->options, sample->number, sample->c,
                      &covariance->draw->structure->blocks[number], arrays[block->weight],
                      block->bias == NET_NONE ? NULL : arrays[block->bias], error);
}

int covariance_draw(const struct covariance *covariance, struct weights *weights,
                    const struct ivon_sample_options *options, uint64_t number, int threads,
                    struct ivon_error *error)
{
    size_t blocks = covariance->draw->structure->block_count, rank = covariance_rank(covariance);
    struct covariance_sample sample = {.covariance = covariance,
                                       .options = options,
                                       .number = number,
                                       .c = calloc(rank + 1, sizeof(double)),
                                       .weights = weights};
    int code = sample.c ? 0 : ivon_error_memory(error);
    if (!code && options->temperature > 0)
        code = draw_begin(covariance->draw, options, number, threads, sample.c, error);
    if (!code)
        code = weights_fill(weights, covariance->network, covariance->source, threads,
                            covariance_draw_range, &sample, error);
    if (!code && threads != 1 && blocks)
        code = ivon_parallel_run(threads, blocks, covariance_draw_block, &sample, error);
    for (size_t b = 0; b < blocks && !code && threads == 1; b++)
        code = covariance_draw_block(&sample, b, 0, error);
    free(sample.c);
    return code;
}

/* ρΣ in memory. */

struct covariance_loading {
    struct covariance *covariance;
    const struct covariance_scale *scale;
};

static double scale_of(const struct covariance_loading *loading, size_t hessian)
{
    double ess = ivon_source_tensor(loading->covariance->source, hessian)->ess;
    double rho = loading->scale->rho;
    return isnan(rho) ? 1 / loading->scale->n_train : rho / ess;
}

static int covariance_load_range(void *context, const struct weights_range *range, float *out,
                                 struct ivon_error *error)
{
    const struct covariance_loading *loading = context;
    const struct covariance *covariance = loading->covariance;
    struct ivon_source *source = covariance->source;
    size_t mean = covariance->network->parameters[range->parameter];
    if (!covariance->random[range->parameter] || covariance->block_of[range->parameter]) {
        memset(out, 0, range->count * sizeof *out);
        return 0;
    }
    ptrdiff_t hessian = ivon_source_find(source, IVON_HESSIAN,
                                         ivon_source_tensor(source, mean)->name);
    int code = posterior_inverse_precision(source, (size_t)hessian,
                                           scale_of(loading, (size_t)hessian), range->first,
                                           range->count, out, error);
    covariance_read(covariance, mean, range);
    return code;
}

static int covariance_load_block(void *context, size_t number, int thread, struct ivon_error *error)
{
    (void)thread;
    const struct covariance_loading *loading = context;
    const struct structure_block *from = &loading->covariance->draw->structure->blocks[number];
    struct block *block = &loading->covariance->blocks[number];
    size_t weight = block->net.weight, bias = block->net.bias;
    if (!block->net.rows)
        return 0;
    int code = block_load(block, loading->covariance->source, from,
                          scale_of(loading, (size_t)from->hessian), error);
    block->net.weight = weight;
    block->net.bias = bias;
    return code;
}

/* Sets arrays of parameters to S y, y being a vector in the base's whitened coordinates of one
   Hessian. */
static void covariance_unwhiten(const struct covariance *covariance, size_t parameter, float *y,
                                float *scratch, struct weights *out)
{
    const struct net_block *block = covariance->block_of[parameter];
    const float *variance = block ? block->diagonal : covariance->variance.arrays[parameter];
    size_t mean = covariance->network->parameters[parameter];
    size_t count = block ? block->rows * block->columns
                         : ivon_source_tensor(covariance->source, mean)->count;
    for (size_t i = 0; i < count; i++)
        y[i] = (float)(sqrt((double)variance[i]) * (double)y[i]);
    if (!block) {
        memcpy(out->arrays[parameter], y, count * sizeof *y);
        return;
    }
    net_block_rotate_back(block, y, scratch);
    net_block_scatter(block, y, out->arrays[block->weight],
                      block->bias == NET_NONE ? NULL : out->arrays[block->bias]);
}

/* The vectors ρ^½ S u of one Hessian. */
static int covariance_load_vectors(void *context, size_t parameter, int thread,
                                   struct ivon_error *error)
{
    (void)thread;
    struct covariance *covariance = ((struct covariance_loading *)context)->covariance;
    const struct structure *structure = covariance->draw->structure;
    const struct net_block *block = covariance->block_of[parameter];
    const char *name =
        ivon_source_tensor(covariance->source, covariance->network->parameters[parameter])->name;
    if (!covariance->random[parameter] || (block && block->weight != parameter))
        return 0;
    ptrdiff_t hessian = ivon_source_find(covariance->source, IVON_HESSIAN, name);
    if (hessian < 0 || structure->vectors[hessian] < 0)
        return 0;
    size_t count = ivon_source_tensor(covariance->source, (size_t)hessian)->count;
    float *vectors = malloc((structure->rank + 1) * count * sizeof *vectors + 1);
    int code = vectors ? low_rank_vectors(covariance->source, structure, (size_t)hessian, 0, count,
                                          vectors, error)
                       : ivon_error_memory(error);
    for (size_t k = 0; k < structure->rank && !code; k++)
        covariance_unwhiten(covariance, parameter, vectors + k * count,
                            vectors + structure->rank * count, &covariance->vectors[k]);
    free(vectors);
    return code;
}

static int covariance_load_correction(struct covariance_loading *loading, int threads,
                                      struct ivon_error *error)
{
    struct covariance *covariance = loading->covariance;
    size_t rank = covariance_rank(covariance);
    if (!rank)
        return 0;
    covariance->vectors = calloc(rank, sizeof *covariance->vectors);
    covariance->correction = calloc(rank, rank * sizeof *covariance->correction);
    int code = covariance->vectors && covariance->correction ? 0 : ivon_error_memory(error);
    for (size_t k = 0; k < rank && !code; k++) {
        code = weights_init(&covariance->vectors[k], covariance->network, error);
        if (!code)
            memset(covariance->vectors[k].data, 0, covariance->vectors[k].size);
    }
    if (!code)
        code = low_rank_matrix(covariance->draw->low_rank, LOW_RANK_COVARIANCE,
                               covariance->correction, error);
    return code ? code
                : ivon_parallel_run(threads, covariance->network->parameter_count,
                                    covariance_load_vectors, loading, error);
}

int covariance_load(struct covariance *covariance, const struct covariance_scale *scale,
                    int threads, struct ivon_error *error)
{
    struct covariance_loading loading = {covariance, scale};
    covariance_unload(covariance);
    int code = weights_init(&covariance->variance, covariance->network, error);
    if (!code)
        code = weights_fill(&covariance->variance, covariance->network, covariance->source, threads,
                            covariance_load_range, &loading, error);
    if (!code)
        code = ivon_parallel_run(threads, covariance->draw->structure->block_count,
                                 covariance_load_block, &loading, error);
    return code ? code : covariance_load_correction(&loading, threads, error);
}

size_t covariance_memory(const struct covariance *covariance)
{
    size_t bytes = covariance->variance.size;
    for (size_t b = 0; b < covariance->draw->structure->block_count; b++) {
        const struct block *block = &covariance->blocks[b];
        size_t n = block->net.columns, o = block->net.rows;
        bytes += ((block->diagonal ? o * n : 0) + (block->input_basis ? n * n : 0) +
                  (block->output_basis ? o * o : 0)) *
                 sizeof(float);
    }
    for (size_t k = 0; covariance->vectors && k < covariance_rank(covariance); k++)
        bytes += covariance->vectors[k].size;
    return bytes;
}

size_t covariance_memory_of(struct ivon_source *source, const struct structure *structure)
{
    size_t weights = 0, blocks = 0;
    for (size_t i = 0; i < ivon_source_tensor_count(source); i++) {
        const struct ivon_tensor *tensor = ivon_source_tensor(source, i);
        if (tensor->part == IVON_MEAN)
            weights += weights_array_bytes(tensor->count);
    }
    for (size_t b = 0; b < structure->block_count; b++)
        if (structure->blocks[b].hessian >= 0)
            blocks += block_memory(source, &structure->blocks[b]);
    return (1 + structure->rank) * weights + blocks;
}

/* Products. */

/* product ← ρΣ x of the base. */
static int covariance_apply_base(const struct covariance *covariance, const double *x,
                                 struct weights *product, struct ivon_error *error)
{
    const float *variance = covariance->variance.data;
    int code = 0;
    for (size_t i = 0; i < product->size / sizeof(float); i++)
        product->data[i] = (float)x[i];
    for (size_t b = 0; b < covariance->draw->structure->block_count && !code; b++) {
        const struct net_block *block = &covariance->blocks[b].net;
        size_t size = block->rows * block->columns;
        if (!size)
            continue;
        float *matrix = memory_aligned(2 * size * sizeof *matrix);
        float *weight = product->arrays[block->weight];
        float *bias = block->bias == NET_NONE ? NULL : product->arrays[block->bias];
        if (!matrix)
            return ivon_error_memory(error);
        net_block_gather(block, weight, bias, matrix);
        net_block_multiply(block, matrix, matrix + size);
        net_block_scatter(block, matrix, weight, bias);
        free(matrix);
    }
    for (size_t p = 0; p < covariance->network->parameter_count; p++) {
        size_t at = (size_t)(product->arrays[p] - product->data);
        size_t count =
            ivon_source_tensor(covariance->source, covariance->network->parameters[p])->count;
        for (size_t i = at; i < at + count && !covariance->block_of[p]; i++)
            product->data[i] = (float)(x[i] * (double)variance[i]);
    }
    return code;
}

/* product −= V C Vᵀ x */
static int covariance_apply_correction(const struct covariance *covariance, const double *x,
                                       struct weights *product, struct ivon_error *error)
{
    size_t rank = covariance_rank(covariance), size = product->size / sizeof(float);
    double *z = calloc(2 * rank + 1, sizeof *z);
    if (!z)
        return ivon_error_memory(error);
    double *scaled = z + rank;
    for (size_t k = 0; k < rank; k++)
        for (size_t i = 0; i < size; i++)
            z[k] += x[i] * (double)covariance->vectors[k].data[i];
    for (size_t k = 0; k < rank; k++)
        for (size_t l = 0; l < rank; l++)
            scaled[k] += covariance->correction[k * rank + l] * z[l];
    for (size_t k = 0; k < rank; k++)
        for (size_t i = 0; i < size; i++)
            product->data[i] -= (float)(scaled[k] * (double)covariance->vectors[k].data[i]);
    free(z);
    return 0;
}

int covariance_apply(const struct covariance *covariance, const double *x, struct weights *product,
                     struct ivon_error *error)
{
    int code = covariance_apply_base(covariance, x, product, error);
    return code || !covariance->vectors
               ? code
               : covariance_apply_correction(covariance, x, product, error);
}

static double sum_logs(const float *variance, size_t count)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += log((double)variance[i]);
    return sum;
}

double covariance_log_determinant(const struct covariance *covariance)
{
    double sum = 0;
    for (size_t p = 0; p < covariance->network->parameter_count; p++) {
        const struct net_block *block = covariance->block_of[p];
        size_t mean = covariance->network->parameters[p];
        if (block && block->weight == p)
            sum += sum_logs(block->diagonal, block->rows * block->columns);
        else if (!block && covariance->random[p])
            sum += sum_logs(covariance->variance.arrays[p],
                            ivon_source_tensor(covariance->source, mean)->count);
    }
    return covariance->vectors ? sum - low_rank_log_determinant(covariance->draw->low_rank) : sum;
}

/* Single examples. */

struct covariance_worker {
    const struct covariance *covariance;
    struct net_derivative *derivative;
    struct net_metric metric;
    size_t tile, width;
    bool current; /* `moves` belong to the derivative's last run */
    float *moves; /* tile × K × r: J_i v of each vector v of the correction; null: none */
    float *result;
    double *projected; /* 2 r */
};

int covariance_worker_new(struct covariance_worker **out, const struct covariance *covariance,
                          struct net_derivative *derivative, size_t tile, size_t width,
                          struct ivon_error *error)
{
    size_t rank = covariance->vectors ? covariance_rank(covariance) : 0;
    struct covariance_worker *worker = calloc(1, sizeof *worker);
    if (!worker)
        return ivon_error_memory(error);
    worker->covariance = covariance;
    worker->derivative = derivative;
    worker->tile = tile;
    worker->width = width;
    worker->metric = (struct net_metric){
        .diagonal = (const float *const *)covariance->variance.arrays,
        .blocks = covariance->block_of};
    if (rank) {
        worker->moves = calloc(tile * width, rank * sizeof *worker->moves);
        worker->result = calloc(tile, width * sizeof *worker->result);
        worker->projected = calloc(2 * rank, sizeof *worker->projected);
        if (!worker->moves || !worker->result || !worker->projected) {
            covariance_worker_free(worker);
            return ivon_error_memory(error);
        }
    }
    *out = worker;
    return 0;
}

void covariance_worker_free(struct covariance_worker *worker)
{
    if (!worker)
        return;
    free(worker->moves);
    free(worker->result);
    free(worker->projected);
    free(worker);
}

void covariance_worker_begin(struct covariance_worker *worker)
{
    worker->current = false;
}

/* J_i v of every vector, by a tangent pass each, once for all adjoints. */
static void covariance_find_moves(struct covariance_worker *worker)
{
    size_t rank = covariance_rank(worker->covariance), all = worker->tile * worker->width;
    for (size_t k = 0; k < rank && !worker->current; k++) {
        const float *move = net_derivative_tangent(
            worker->derivative, (const float *const *)worker->covariance->vectors[k].arrays);
        for (size_t i = 0; i < all; i++)
            worker->moves[i * rank + k] = move ? move[i] : 0;
    }
    worker->current = true;
}

/* Sets `scaled` to C z with z = Vᵀ g of example e, and returns zᵀ C z. */
static double covariance_project(const struct covariance_worker *worker, size_t e, double *scaled)
{
    const struct covariance *covariance = worker->covariance;
    size_t rank = covariance_rank(covariance);
    const float *adjoints = net_derivative_output_adjoint(worker->derivative);
    const float *adjoint = adjoints ? adjoints + e * worker->width : NULL;
    const float *moves = worker->moves + e * worker->width * rank;
    double *z = worker->projected, sum = 0;
    memset(z, 0, rank * sizeof *z);
    for (size_t i = 0; i < worker->width && adjoint; i++)
        for (size_t k = 0; k < rank && adjoint[i] != 0; k++)
            z[k] += (double)adjoint[i] * (double)moves[i * rank + k];
    for (size_t k = 0; k < rank; k++) {
        scaled[k] = 0;
        for (size_t l = 0; l < rank; l++)
            scaled[k] += covariance->correction[k * rank + l] * z[l];
        sum += scaled[k] * z[k];
    }
    return sum;
}

void covariance_quadratic(struct covariance_worker *worker, size_t count, double *q)
{
    if (worker->moves)
        covariance_find_moves(worker);
    net_derivative_quadratic(worker->derivative, &worker->metric, count, q);
    for (size_t e = 0; e < count && worker->moves; e++)
        q[e] -= covariance_project(worker, e,
                                   worker->projected + covariance_rank(worker->covariance));
}

const float *covariance_tangent(struct covariance_worker *worker, size_t count)
{
    size_t rank = covariance_rank(worker->covariance), width = worker->width;
    if (worker->moves)
        covariance_find_moves(worker);
    const float *base = net_derivative_own_tangent(worker->derivative, &worker->metric, count);
    if (!worker->moves || !base)
        return base;
    double *scaled = worker->projected + rank;
    for (size_t e = 0; e < count; e++) {
        covariance_project(worker, e, scaled);
        for (size_t i = e * width; i < (e + 1) * width; i++) {
            double sum = (double)base[i];
            for (size_t k = 0; k < rank; k++)
                sum -= (double)worker->moves[i * rank + k] * scaled[k];
            worker->result[i] = (float)sum;
        }
    }
    return worker->result;
}
