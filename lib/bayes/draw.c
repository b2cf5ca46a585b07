#include "bayes/draw.h"

#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bayes/block.h"
#include "bayes/posterior.h"
#include "bayes/sample_private.h"
#include "bayes/transfer.h"
#include "core/blas.h"
#include "core/error.h"
#include "core/memory.h"
#include "core/parallel.h"
#include "core/random.h"
#include "net/graph/graph.h"

enum { PIECE = 1 << 12 /* elements of each low-rank vector at a time */ };

static bool draw_selects(const struct ivon_sample_options *options, const char *name)
{
    return !options->selected || options->selected(options->selected_context, name);
}

/* Marks a block's tensors as random. It is so as a whole. */
static int draw_mark_block(struct draw *draw, const struct structure_block *block,
                           const struct ivon_sample_options *options, struct ivon_error *error)
{
    const struct ivon_source *source = draw->source;
    const char *weight = ivon_source_tensor(source, block->weight)->name;
    bool selected = draw_selects(options, weight);
    if (block->hessian < 0)
        return 0;
    if (block->bias >= 0) {
        const char *bias = ivon_source_tensor(source, (size_t)block->bias)->name;
        if (draw_selects(options, bias) != selected)
            return ivon_error_hint(
                error, IVON_HINT_SELECTION,
                ivon_error_set(error, IVON_ERROR_DATA,
                               "%s: '%s' and '%s' have one covariance: select both, or neither",
                               ivon_source_path(source), weight, bias));
        draw->random[block->bias] = selected;
    }
    draw->random[block->weight] = draw->random[block->hessian] = selected;
    return selected ? posterior_check_scale(
                          source, ivon_source_tensor(source, (size_t)block->hessian), true, error)
                    : 0;
}

/* Of the mean alone. */
static int draw_nothing(struct draw *draw, struct ivon_error *error)
{
    size_t count = ivon_source_tensor_count(draw->source);
    draw->structure = calloc(1, sizeof *draw->structure);
    if (!draw->structure)
        return ivon_error_memory(error);
    draw->structure->block_of = calloc(count + 1, sizeof *draw->structure->block_of);
    draw->structure->vectors = calloc(count + 1, sizeof *draw->structure->vectors);
    if (!draw->structure->block_of || !draw->structure->vectors)
        return ivon_error_memory(error);
    for (size_t i = 0; i < count; i++)
        draw->structure->block_of[i] = draw->structure->vectors[i] = -1;
    return 0;
}

static int draw_mark(struct draw *draw, const struct ivon_sample_options *options,
                     struct ivon_error *error)
{
    const struct ivon_source *source = draw->source;
    int code = 0;
    for (size_t i = 0; i < ivon_source_tensor_count(source) && !code; i++) {
        const struct ivon_tensor *mean = ivon_source_tensor(source, i);
        if (mean->part != IVON_MEAN || draw->structure->block_of[i] >= 0 ||
            !draw_selects(options, mean->name))
            continue;
        ptrdiff_t hessian = ivon_source_find(source, IVON_HESSIAN, mean->name);
        if (hessian < 0) {
            code = ivon_source_refuse_opaque(source, IVON_HESSIAN, mean->name, error);
            continue;
        }
        draw->random[i] = draw->random[hessian] = true;
        code = posterior_check_hessian(source, mean, ivon_source_tensor(source, (size_t)hessian),
                                       true, error);
    }
    for (size_t b = 0; b < draw->structure->block_count && !code; b++)
        code = draw_mark_block(draw, &draw->structure->blocks[b], options, error);
    return code;
}

int draw_new(struct draw **out, struct ivon_source *source,
             const struct ivon_sample_options *options, struct ivon_error *error)
{
    struct draw *draw = calloc(1, sizeof *draw);
    if (!draw)
        return ivon_error_memory(error);
    draw->source = source;
    draw->random = calloc(ivon_source_tensor_count(source) + 1, sizeof *draw->random);
    int code = draw->random ? 0 : ivon_error_memory(error);
    if (!code && !(options->temperature >= 0 && !isinf(options->temperature)))
        code = ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "the temperature is %g, expected zero or more", options->temperature);
    if (!code && options->temperature == 0)
        code = draw_nothing(draw, error);
    else if (!code)
        code = structure_read(&draw->structure, source, error);
    if (!code && options->temperature > 0)
        code = draw_mark(draw, options, error);
    size_t rank = code ? 0 : draw->structure->rank;
    if (rank)
        code = low_rank_new(&draw->low_rank, source, draw->structure, draw->random, error);
    if (!code && rank) {
        draw->root = calloc(rank * rank, sizeof *draw->root);
        code = draw->root ? low_rank_matrix(draw->low_rank, LOW_RANK_ROOT, draw->root, error)
                          : ivon_error_memory(error);
    }
    if (code) {
        draw_free(draw);
        return code;
    }
    *out = draw;
    return 0;
}

void draw_free(struct draw *draw)
{
    if (!draw)
        return;
    structure_free(draw->structure);
    low_rank_free(draw->low_rank);
    free(draw->root);
    free(draw->random);
    free(draw);
}

struct draw_counts draw_count(const struct draw *draw, const struct ivon_sample_options *options)
{
    struct draw_counts counts = {0};
    for (size_t i = 0; i < ivon_source_tensor_count(draw->source); i++) {
        const struct ivon_tensor *mean = ivon_source_tensor(draw->source, i);
        if (mean->part != IVON_MEAN)
            continue;
        bool selected = draw_selects(options, mean->name), random = draw->random[i];
        bool drawn = random || (!options->temperature &&
                                ivon_source_find(draw->source, IVON_HESSIAN, mean->name) >= 0);
        counts.means++;
        counts.random += random;
        counts.selected += selected;
        counts.lacking += selected && !drawn;
    }
    return counts;
}

int draw_refuse(const struct ivon_source *source, const struct draw_counts *counts,
                const char *consequence, struct ivon_error *error)
{
    const char *why = !counts->means                     ? "it has no means"
                      : !counts->selected                ? "no mean is selected"
                      : counts->selected < counts->means ? "no mean selected has a Hessian"
                                                         : "no mean has a Hessian";
    enum ivon_hint hint = !counts->means      ? IVON_HINT_NONE
                          : !counts->selected ? IVON_HINT_SELECTION
                                              : IVON_HINT_HESSIAN;
    return ivon_error_hint(error, hint,
                           ivon_error_set(error, IVON_ERROR_DATA, "%s: %s: %s",
                                          ivon_source_path(source), consequence, why));
}

size_t draw_memory(struct ivon_source *source, const struct structure *structure)
{
    size_t most = 0;
    for (size_t b = 0; b < structure->block_count; b++) {
        const struct structure_block *block = &structure->blocks[b];
        size_t bytes = block_memory(source, block) +
                       2 * block->rows * block->columns * sizeof(float);
        most = block->hessian >= 0 && bytes > most ? bytes : most;
    }
    return most + structure->rank * PIECE * sizeof(float);
}

const struct structure_block *draw_block_of(const struct draw *draw, size_t index)
{
    ptrdiff_t block = draw->structure->block_of[index];
    return block >= 0 && draw->random[index] ? &draw->structure->blocks[block] : NULL;
}

/* Uᵀ ε. */

struct projection {
    const struct draw *draw;
    uint64_t seed, sample;
    struct projection_piece {
        size_t hessian, first, count;
    } * pieces;
    size_t count;
    double *sums; /* of each piece: r */
};

static int project_piece(void *context, size_t i, int thread, struct ivon_error *error)
{
    (void)thread;
    const struct projection *projection = context;
    const struct draw *draw = projection->draw;
    const struct projection_piece *piece = &projection->pieces[i];
    size_t rank = draw->structure->rank;
    float *normals = malloc(PIECE * sizeof *normals);
    float *vectors = malloc(rank * piece->count * sizeof *vectors);
    int code = normals && vectors ? low_rank_vectors(draw->source, draw->structure, piece->hessian,
                                                     piece->first, piece->count, vectors, error)
                                  : ivon_error_memory(error);
    const struct random_stream stream = random_stream_of(
        projection->seed, projection->sample,
        ivon_source_tensor(draw->source, piece->hessian)->name);
    if (!code)
        random_normal(&stream, piece->first, piece->count, normals);
    for (size_t k = 0; k < rank && !code; k++) {
        double sum = 0;
        for (size_t j = 0; j < piece->count; j++)
            sum += (double)vectors[k * piece->count + j] * (double)normals[j];
        projection->sums[i * rank + k] = sum;
    }
    free(normals);
    free(vectors);
    return code;
}

static size_t list_pieces(const struct draw *draw, struct projection_piece *pieces)
{
    size_t count = 0;
    for (size_t i = 0; i < ivon_source_tensor_count(draw->source); i++) {
        const struct ivon_tensor *tensor = ivon_source_tensor(draw->source, i);
        if (tensor->part != IVON_HESSIAN || !draw->random[i] || draw->structure->vectors[i] < 0)
            continue;
        for (size_t first = 0; first < tensor->count; first += PIECE, count++)
            if (pieces)
                pieces[count] = (struct projection_piece){
                    i, first, tensor->count - first < PIECE ? tensor->count - first : PIECE};
    }
    return count;
}

int draw_begin(const struct draw *draw, const struct ivon_sample_options *options, uint64_t sample,
               int threads, double *c, struct ivon_error *error)
{
    size_t rank = draw->structure->rank;
    struct projection projection = {.draw = draw, .seed = options->seed, .sample = sample};
    if (!rank)
        return 0;
    projection.count = list_pieces(draw, NULL);
    projection.pieces = calloc(projection.count + 1, sizeof *projection.pieces);
    projection.sums = calloc(projection.count + 1, (rank + 1) * sizeof *projection.sums);
    int code = projection.pieces && projection.sums ? 0 : ivon_error_memory(error);
    if (!code)
        list_pieces(draw, projection.pieces);
    if (!code && threads != 1)
        code = ivon_parallel_run(threads, projection.count, project_piece, &projection, error);
    for (size_t i = 0; i < projection.count && !code && threads == 1; i++)
        code = project_piece(&projection, i, 0, error);
    double *total = projection.sums; /* of the first piece, to which the others are added */
    for (size_t i = 1; i < projection.count && !code; i++)
        for (size_t k = 0; k < rank; k++)
            total[k] += projection.sums[i * rank + k];
    for (size_t k = 0; k < rank && !code; k++) {
        c[k] = 0;
        for (size_t l = 0; l < rank; l++)
            c[k] += draw->root[k * rank + l] * total[l];
    }
    free(projection.pieces);
    free(projection.sums);
    return code;
}

/* ε' of a range of a Hessian. */
static int draw_normals(const struct draw *draw, const struct ivon_sample_options *options,
                        uint64_t sample, const double *c, size_t hessian, size_t first,
                        size_t count, float *out, struct ivon_error *error)
{
    size_t rank = draw->structure->rank;
    const struct random_stream stream = random_stream_of(
        options->seed, sample, ivon_source_tensor(draw->source, hessian)->name);
    int code = 0;
    random_normal(&stream, first, count, out);
    if (!rank || draw->structure->vectors[hessian] < 0)
        return 0;
    float *vectors = malloc(rank * PIECE * sizeof *vectors);
    if (!vectors)
        return ivon_error_memory(error);
    for (size_t done = 0; done < count && !code; done += PIECE) {
        size_t piece = count - done < PIECE ? count - done : PIECE;
        code = low_rank_vectors(draw->source, draw->structure, hessian, first + done, piece,
                                vectors, error);
        for (size_t j = 0; j < piece && !code; j++) {
            double sum = (double)out[done + j];
            for (size_t k = 0; k < rank; k++)
                sum += (double)vectors[k * piece + j] * c[k];
            out[done + j] = (float)sum;
        }
    }
    free(vectors);
    return code;
}

/* out ← mean + out, for a range of a mean. */
static int draw_add_mean(const struct draw *draw, uint64_t sample, size_t index, size_t first,
                         size_t count, float *out, struct ivon_error *error)
{
    enum { TILE = 512 };
    const struct ivon_tensor *mean = ivon_source_tensor(draw->source, index);
    double means[TILE];
    unsigned char *block = NULL;
    int code = 0;
    for (size_t done = 0; done < count && !code; done += TILE) {
        size_t piece = count - done < TILE ? count - done : TILE;
        code = transfer_numbers(draw->source, index, first + done, piece, TILE, &block, means,
                                error);
        for (size_t i = 0; i < piece && !code; i++) {
            out[done + i] = (float)(means[i] + (double)out[done + i]);
            if (!isfinite(out[done + i]))
                code = ivon_error_set(
                    error, IVON_ERROR_DATA,
                    "%s: '%s' at element %zu of sample %" PRIu64 ", mean %g, does not fit into f32",
                    ivon_source_path(draw->source), mean->name, first + done + i, sample, means[i]);
        }
    }
    free(block);
    return code;
}

int draw_range(const struct draw *draw, const struct ivon_sample_options *options, uint64_t sample,
               const double *c, size_t index, size_t first, size_t count, float *out,
               struct ivon_error *error)
{
    struct ivon_sample_options own = *options;
    const struct ivon_tensor *mean = ivon_source_tensor(draw->source, index);
    bool random = draw->random[index] && options->temperature > 0;
    own.selected = NULL; /* draw->random replaces the filter, which is not made for threads */
    own.temperature = random ? options->temperature : 0;
    if (!random || !draw->structure->rank)
        return sample_draw_plain(draw->source, index, &own, sample, first, count, out, error);
    size_t hessian = (size_t)ivon_source_find(draw->source, IVON_HESSIAN, mean->name);
    double ess = ivon_source_tensor(draw->source, hessian)->ess;
    float *variance = malloc((count + 1) * sizeof *variance);
    int code = variance
                   ? posterior_inverse_precision(draw->source, hessian, options->temperature / ess,
                                                 first, count, variance, error)
                   : ivon_error_memory(error);
    if (!code)
        code = draw_normals(draw, options, sample, c, hessian, first, count, out, error);
    for (size_t i = 0; i < count && !code; i++)
        out[i] = (float)(sqrt((double)variance[i]) * (double)out[i]);
    free(variance);
    return code ? code : draw_add_mean(draw, sample, index, first, count, out, error);
}

int draw_block(const struct draw *draw, const struct ivon_sample_options *options, uint64_t sample,
               const double *c, const struct structure_block *from, float *weight, float *bias,
               struct ivon_error *error)
{
    struct block block = {0};
    size_t size = from->rows * from->columns;
    double ess = ivon_source_tensor(draw->source, (size_t)from->hessian)->ess;
    float *x = memory_aligned(2 * size * sizeof *x), *scratch = x ? x + size : NULL;
    int code = x ? 0 : ivon_error_memory(error);
    if (!code)
        code = block_load(&block, draw->source, from, options->temperature / ess, error);
    block.net.bias = from->bias < 0 ? NET_NONE : 0;
    if (!code)
        code = draw_normals(draw, options, sample, c, (size_t)from->hessian, 0, size, x, error);
    for (size_t i = 0; i < size && !code; i++)
        x[i] = (float)(sqrt((double)block.diagonal[i]) * (double)x[i]);
    if (!code) {
        net_block_rotate_back(&block.net, x, scratch);
        net_block_scatter(&block.net, x, weight, bias);
    }
    if (!code && weight)
        code = draw_add_mean(draw, sample, from->weight, 0,
                             ivon_source_tensor(draw->source, from->weight)->count, weight, error);
    if (!code && bias)
        code = draw_add_mean(draw, sample, (size_t)from->bias, 0, from->rows, bias, error);
    block_release(&block);
    free(x);
    return code;
}
