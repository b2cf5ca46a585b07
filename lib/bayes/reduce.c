/*
 * Posteriors with a structure as simpler ones. With D = 1/(h + δ) in a block's basis, X ∘ X the
 * squares of a matrix's elements and T u = U_B (D^(1/2) ∘ u) U_Aᵀ,
 *
 *   λ diag Σ        = (U_B ∘ U_B) D (U_A ∘ U_A)ᵀ − Σ_k ℓ/(1 + ℓ) (T u) ∘ (T u)
 *   diag P / λ − δ  = (U_B ∘ U_B) h (U_A ∘ U_A)ᵀ + Σ_k ℓ (T' u) ∘ (T' u),   T' with D^(−1/2)
 *
 * of which the second is h of the diagonal of the precision, and 1/(λ diag Σ) − δ that of the
 * covariance's. Either may be negative, where a correction has ℓ < 0, but not below −δ.
 */
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "bayes/block.h"
#include "bayes/low_rank.h"
#include "bayes/posterior.h"
#include "bayes/transfer.h"
#include "core/blas.h"
#include "core/error.h"
#include "core/memory.h"
#include "core/options.h"
#include "core/parallel.h"
#include "core/stream.h"
#include "ivon/convert.h"
#include "net/graph/graph.h"

enum {
    PANEL = 128,     /* rows or columns of a block at a time */
    WAVE = 8,        /* vectors at a time */
    PIECE = 1 << 14, /* elements that a thread sums at a time */
};

/* The source of a reduced posterior: tensors of another, but for those that it has of its own. */
struct reduced {
    struct ivon_source *source;
    size_t count;      /* of the source's tensors */
    float **own;       /* of each mean of the source: its new Hessian; null: as it was */
    char *text;        /* of the new structure; null: as it was, or none */
    size_t *tensors;   /* of each tensor of this: the source's; an own Hessian's: the mean's */
    const void **data; /* of each tensor of this: its own elements; or null */
    size_t listed;
};

static void reduced_close(void *self)
{
    struct reduced *reduced = self;
    if (!reduced)
        return;
    for (size_t i = 0; reduced->own && i < reduced->count; i++)
        free(reduced->own[i]);
    free(reduced->own);
    free(reduced->text);
    free(reduced->tensors);
    free(reduced->data);
    free(reduced);
}

static int reduced_read(void *self, size_t tensor, size_t first, size_t count, void *buffer,
                        struct ivon_error *error)
{
    const struct reduced *reduced = self;
    const char *data = reduced->data[tensor];
    if (!data)
        return ivon_source_read(reduced->source, reduced->tensors[tensor], first, count, buffer,
                                error);
    size_t size = data == reduced->text ? 1 : sizeof(float);
    memcpy(buffer, data + first * size, count * size);
    return 0;
}

static const void *reduced_view(void *self, size_t tensor)
{
    const struct reduced *reduced = self;
    return reduced->data[tensor] ? reduced->data[tensor]
                                 : ivon_source_view(reduced->source, reduced->tensors[tensor], 0);
}

static void reduced_advise(void *self, size_t tensor, size_t first, size_t count, int advice)
{
    const struct reduced *reduced = self;
    if (!reduced->data[tensor])
        (advice == MADV_WILLNEED ? ivon_source_will_need : ivon_source_done_with)(
            reduced->source, reduced->tensors[tensor], first, count);
}

/* One Hessian, as a block, while its diagonal is computed. */
struct reduction {
    struct ivon_source *source;
    const struct structure *structure;
    enum ivon_reduction kind;
    int threads;
    const struct structure_block *from;
    struct block block;  /* its diagonal is 1/(h + δ) */
    size_t size;         /* o n */
    double *inner, *sum; /* o × n: D or h; the diagonal */
    float *vectors;      /* WAVE × 2 × o n: T u, and scratch */
    size_t first;        /* vector of the wave */
};

/* The squares of rows [first, first + count) of a basis. */
static void square_rows(const float *basis, size_t n, size_t first, size_t count, double *squares)
{
    for (size_t i = 0; i < count * n; i++) {
        double u = (double)basis[first * n + i];
        squares[i] = u * u;
    }
}

static size_t panel_width(size_t extent, size_t first)
{
    return extent - first < PANEL ? extent - first : PANEL;
}

/* Columns [first, first + width) of X (U_A ∘ U_A)ᵀ: o × width. */
static void multiply_inputs(const struct reduction *reduction, size_t first, size_t width,
                            double *squares, double *product)
{
    const struct net_block *block = &reduction->block.net;
    size_t o = block->rows, n = block->columns;
    for (size_t r = 0; r < o && !block->input_basis; r++)
        memcpy(product + r * width, reduction->inner + r * n + first, width * sizeof *product);
    if (!block->input_basis)
        return;
    square_rows(block->input_basis, n, first, width, squares);
    blas_product_double(false, true, (int64_t)o, (int64_t)width, (int64_t)n, 1, reduction->inner,
                        (int64_t)n, squares, (int64_t)n, 0, product, (int64_t)width);
}

/* A panel of columns of (U_B ∘ U_B) X (U_A ∘ U_A)ᵀ. */
static int reduce_panel(void *context, size_t i, int thread, struct ivon_error *error)
{
    (void)thread;
    const struct reduction *reduction = context;
    const struct net_block *block = &reduction->block.net;
    size_t o = block->rows, n = block->columns, first = i * PANEL, width = panel_width(n, first);
    double *squares = malloc(PANEL * (n > o ? n : o) * sizeof *squares);
    double *product = malloc(o * width * sizeof *product);
    if (squares && product)
        multiply_inputs(reduction, first, width, squares, product);
    for (size_t r = 0; r < o && squares && product; r += PANEL) {
        size_t height = panel_width(o, r);
        for (size_t j = r; j < r + height && !block->output_basis; j++)
            memcpy(reduction->sum + j * n + first, product + j * width, width * sizeof *product);
        if (!block->output_basis)
            continue;
        square_rows(block->output_basis, o, r, height, squares);
        blas_product_double(false, false, (int64_t)height, (int64_t)width, (int64_t)o, 1, squares,
                            (int64_t)o, product, (int64_t)width, 0, reduction->sum + r * n + first,
                            (int64_t)n);
    }
    bool fine = squares && product;
    free(squares);
    free(product);
    return fine ? 0 : ivon_error_memory(error);
}

/* T u, or T' u, of one vector of the wave. */
static int reduce_turn(void *context, size_t i, int thread, struct ivon_error *error)
{
    (void)thread;
    const struct reduction *reduction = context;
    size_t size = reduction->size;
    size_t index = (size_t)reduction->structure->vectors[reduction->from->hessian];
    float *x = reduction->vectors + 2 * i * size;
    int code = transfer_floats(reduction->source, index, (reduction->first + i) * size, size, x,
                               error);
    for (size_t j = 0; j < size && !code; j++) {
        double root = sqrt((double)reduction->block.diagonal[j]);
        double scale = reduction->kind == IVON_REDUCE_COVARIANCE ? root : 1 / root;
        x[j] = (float)((double)x[j] * scale);
    }
    if (!code)
        net_block_rotate_back(&reduction->block.net, x, x + size);
    return code;
}

/* Adds the squares of the wave's vectors to a piece, in their order. */
static int reduce_add(void *context, size_t i, int thread, struct ivon_error *error)
{
    (void)thread;
    (void)error;
    const struct reduction *reduction = context;
    size_t size = reduction->size, at = i * PIECE, rank = reduction->structure->rank;
    size_t end = size - at < PIECE ? size : at + PIECE;
    for (size_t k = 0; k < WAVE && reduction->first + k < rank; k++) {
        const float *x = reduction->vectors + 2 * k * size;
        double l = reduction->structure->values[reduction->first + k];
        double factor = reduction->kind == IVON_REDUCE_COVARIANCE ? -l / (1 + l) : l;
        for (size_t j = at; j < end; j++)
            reduction->sum[j] += factor * (double)x[j] * (double)x[j];
    }
    return 0;
}

static int reduce_correct(struct reduction *reduction, struct ivon_error *error)
{
    size_t rank = reduction->structure->rank, pieces = (reduction->size + PIECE - 1) / PIECE;
    int code = 0;
    if (!rank || reduction->structure->vectors[reduction->from->hessian] < 0)
        return 0;
    reduction->vectors = memory_aligned((size_t)2 * WAVE * reduction->size *
                                        sizeof *reduction->vectors);
    if (!reduction->vectors)
        return ivon_error_memory(error);
    for (reduction->first = 0; reduction->first < rank && !code; reduction->first += WAVE) {
        size_t left = rank - reduction->first;
        code = ivon_parallel_run(reduction->threads, left < WAVE ? left : WAVE, reduce_turn,
                                 reduction, error);
        if (!code)
            code = ivon_parallel_run(reduction->threads, pieces, reduce_add, reduction, error);
    }
    free(reduction->vectors);
    return code;
}

/* h of every element from the sums: o × n floats. Of a base's covariance it is no less than the
   least h of the basis, but for rounding, as variances are means of those in the basis. */
static int reduce_finish(const struct reduction *reduction, float *h, struct ivon_error *error)
{
    const struct ivon_tensor *hessian = ivon_source_tensor(reduction->source,
                                                           (size_t)reduction->from->hessian);
    double delta = hessian->weight_decay, least = -delta;
    bool covariance = reduction->kind == IVON_REDUCE_COVARIANCE;
    if (covariance && !reduction->structure->rank)
        for (size_t i = 0; i < reduction->size; i++)
            least = i && 1 / reduction->inner[i] - delta >= least ? least
                                                                  : 1 / reduction->inner[i] - delta;
    for (size_t i = 0; i < reduction->size; i++) {
        double sum = reduction->sum[i], value = covariance ? 1 / sum - delta : sum;
        h[i] = (float)(value < least ? least : value);
        if (!(covariance ? sum > 0 : sum + delta > 0) || !((double)h[i] + delta > 0) ||
            !isfinite(h[i]))
            return ivon_error_set(error, IVON_ERROR_DATA,
                                  "%s: the diagonal of '%s' is not positive at element %zu: are "
                                  "bases and low-rank vectors orthonormal?",
                                  ivon_source_path(reduction->source), hessian->name, i);
    }
    return 0;
}

/* The new h of a block, or of a Hessian outside of blocks: o × n floats. */
static int reduce_diagonal(struct reduction *reduction, float *h, struct ivon_error *error)
{
    size_t n = reduction->from->columns, hessian = (size_t)reduction->from->hessian;
    const struct ivon_tensor *tensor = ivon_source_tensor(reduction->source, hessian);
    int code = posterior_check_scale(reduction->source, tensor, true, error);
    reduction->inner = malloc((reduction->size + 1) * sizeof *reduction->inner);
    reduction->sum = malloc((reduction->size + 1) * sizeof *reduction->sum);
    if (!code && (!reduction->inner || !reduction->sum))
        code = ivon_error_memory(error);
    if (!code)
        code = block_load(&reduction->block, reduction->source, reduction->from, 1, error);
    if (!code)
        code = transfer_floats(reduction->source, hessian, 0, reduction->size, h, error);
    for (size_t i = 0; i < reduction->size && !code; i++)
        reduction->inner[i] = reduction->kind == IVON_REDUCE_PRECISION
                                  ? (double)h[i]
                                  : 1 / ((double)h[i] + tensor->weight_decay);
    if (!code)
        code = ivon_parallel_run(reduction->threads, (n + PANEL - 1) / PANEL, reduce_panel,
                                 reduction, error);
    if (!code)
        code = reduce_correct(reduction, error);
    if (!code)
        code = reduce_finish(reduction, h, error);
    block_release(&reduction->block);
    free(reduction->inner);
    free(reduction->sum);
    return code;
}

/* Sets the new Hessians of a block's weight and bias. */
static int reduce_block(struct reduced *reduced, struct reduction *reduction,
                        struct ivon_error *error)
{
    const struct structure_block *from = reduction->from;
    bool biased = from->bias >= 0;
    reduction->size = from->rows * from->columns;
    float *h = memory_aligned(reduction->size * sizeof *h);
    float *weight = calloc(ivon_source_tensor(reduced->source, from->weight)->count + 1,
                           sizeof *weight);
    float *bias = biased ? calloc(from->rows + 1, sizeof *bias) : NULL;
    reduced->own[from->weight] = weight;
    if (biased)
        reduced->own[from->bias] = bias;
    int code = h && weight && (!biased || bias) ? reduce_diagonal(reduction, h, error)
                                                : ivon_error_memory(error);
    const struct net_block shape = {.rows = from->rows,
                                    .columns = from->columns,
                                    .bias = biased ? 0 : NET_NONE,
                                    .transposed = from->transposed};
    if (!code)
        net_block_scatter(&shape, h, weight, bias);
    free(h);
    return code;
}

static int reduce_all(struct reduced *reduced, const struct reduction *common,
                      struct ivon_error *error)
{
    const struct structure *structure = common->structure;
    struct reduction reduction = *common;
    int code = 0;
    for (size_t b = 0; b < structure->block_count && !code; b++) {
        reduction.from = &structure->blocks[b];
        if (structure->blocks[b].hessian >= 0)
            code = reduce_block(reduced, &reduction, error);
    }
    for (size_t i = 0; i < reduced->count && !code; i++) {
        const struct ivon_tensor *tensor = ivon_source_tensor(reduced->source, i);
        ptrdiff_t mean = ivon_source_find(reduced->source, IVON_MEAN, tensor->name);
        if (structure->vectors[i] < 0 || structure->block_of[i] >= 0 || mean < 0)
            continue;
        const struct structure_block row = {.weight = (size_t)mean,
                                            .bias = -1,
                                            .hessian = (ptrdiff_t)i,
                                            .input_basis = -1,
                                            .output_basis = -1,
                                            .rows = 1,
                                            .columns = tensor->count};
        reduction.from = &row;
        code = reduce_block(reduced, &reduction, error);
    }
    return code;
}

/* The list of tensors. */

static int reduced_append(struct reduced *reduced, struct tensor_list *list, size_t tensor,
                          const struct ivon_tensor *described, const void *data,
                          struct ivon_error *error)
{
    reduced->tensors[reduced->listed] = tensor;
    reduced->data[reduced->listed++] = data;
    return tensor_list_append(list, described, error);
}

/* The new Hessian of a mean, with the numbers of an old one. */
static int reduced_append_own(struct reduced *reduced, struct tensor_list *list, size_t mean,
                              const struct ivon_tensor *old, struct ivon_error *error)
{
    struct ivon_tensor tensor = *ivon_source_tensor(reduced->source, mean);
    tensor.part = IVON_HESSIAN;
    tensor.dtype = IVON_F32;
    tensor.ess = old->ess;
    tensor.weight_decay = old->weight_decay;
    return reduced_append(reduced, list, mean, &tensor, reduced->own[mean], error);
}

static int reduced_append_hessian(struct reduced *reduced, const struct structure *structure,
                                  struct tensor_list *list, size_t i, struct ivon_error *error)
{
    const struct ivon_tensor *tensor = ivon_source_tensor(reduced->source, i);
    ptrdiff_t mean = ivon_source_find(reduced->source, IVON_MEAN, tensor->name);
    if (mean < 0 || !reduced->own[mean])
        return reduced_append(reduced, list, i, tensor, NULL, error);
    int code = reduced_append_own(reduced, list, (size_t)mean, tensor, error);
    ptrdiff_t block = structure->block_of[i];
    ptrdiff_t bias = block < 0 ? -1 : structure->blocks[block].bias;
    return code || bias < 0 ? code : reduced_append_own(reduced, list, (size_t)bias, tensor, error);
}

static int reduced_append_text(struct reduced *reduced, struct tensor_list *list, size_t i,
                               struct ivon_error *error)
{
    struct ivon_tensor tensor = *ivon_source_tensor(reduced->source, i);
    tensor.count = strlen(reduced->text);
    tensor.shape[0] = (int64_t)tensor.count;
    return reduced_append(reduced, list, i, &tensor, reduced->text, error);
}

static int reduced_list(struct reduced *reduced, const struct structure *structure,
                        enum ivon_reduction kind, struct tensor_list *list,
                        struct ivon_error *error)
{
    int code = 0;
    for (size_t i = 0; i < reduced->count && !code; i++) {
        const struct ivon_tensor *tensor = ivon_source_tensor(reduced->source, i);
        if (tensor->part == IVON_HESSIAN)
            code = reduced_append_hessian(reduced, structure, list, i, error);
        else if (tensor->part == IVON_STRUCTURE && reduced->text)
            code = reduced_append_text(reduced, list, i, error);
        else if (kind == IVON_REDUCE_BASE
                     ? tensor->part != IVON_LOW_RANK && tensor->part != IVON_STRUCTURE
                     : !part_is_structural(tensor->part))
            code = reduced_append(reduced, list, i, tensor, NULL, error);
    }
    return code ? code : tensor_list_aliases_of(list, reduced->source, error);
}

/* The text without its correction; none where no block remains. */
static int reduced_write_text(struct reduced *reduced, const struct structure *structure,
                              struct ivon_error *error)
{
    ptrdiff_t index = ivon_source_find(reduced->source, IVON_STRUCTURE,
                                       ivon_part_name(IVON_STRUCTURE));
    if (index < 0 || !structure->block_count)
        return 0;
    size_t size = ivon_source_tensor(reduced->source, (size_t)index)->count;
    char *text = malloc(size + 1);
    int code = text ? ivon_source_read(reduced->source, (size_t)index, 0, size, text, error)
                    : ivon_error_memory(error);
    json_t *root = code ? NULL : json_loadb(text, size, JSON_REJECT_DUPLICATES, NULL);
    json_object_del(root, "low_rank");
    reduced->text = json_dumps(root, JSON_COMPACT | JSON_REAL_PRECISION(17));
    if (!code && !reduced->text)
        code = ivon_error_memory(error);
    json_decref(root);
    free(text);
    return code;
}

static const struct options_kind reduce_options = {
    .defaults = "ivon_reduce_defaults",
    .reserved = {OPTIONS_RESERVED(struct ivon_reduce_options, resources.reserved)}};

void ivon_reduce_options_init(struct ivon_reduce_options *options, size_t size)
{
    const struct ivon_reduce_options defaults = {.size = sizeof defaults};
    options_init(options, size, &defaults);
}

static int reduced_allocate(struct reduced *reduced, struct ivon_error *error)
{
    size_t most = 2 * reduced->count + 1;
    reduced->own = calloc(most, sizeof *reduced->own);
    reduced->tensors = calloc(most, sizeof *reduced->tensors);
    reduced->data = calloc(most, sizeof *reduced->data);
    return reduced->own && reduced->tensors && reduced->data ? 0 : ivon_error_memory(error);
}

static int reduced_open(struct reduced *reduced, const struct structure *structure,
                        const struct ivon_reduce_options *options, struct ivon_source **out,
                        struct ivon_error *error)
{
    static const struct ivon_source_class class = {.read = reduced_read,
                                                   .view = reduced_view,
                                                   .advise = reduced_advise,
                                                   .close = reduced_close};
    const struct reduction common = {.source = reduced->source,
                                     .structure = structure,
                                     .kind = options->reduction,
                                     .threads = ivon_parallel_threads(options->resources.threads)};
    struct tensor_list list = {0};
    struct ivon_header header = *ivon_source_header(reduced->source);
    bool changed = options->reduction == IVON_REDUCE_BASE ? structure->rank > 0
                                                          : !structure_is_diagonal(structure);
    int code = reduced_allocate(reduced, error);
    if (!code)
        code = options->reduction == IVON_REDUCE_BASE
                   ? reduced_write_text(reduced, structure, error)
                   : reduce_all(reduced, &common, error);
    if (!code)
        code = reduced_list(reduced, structure, options->reduction, &list, error);
    if (changed)
        header.decrement = NAN;
    if (!code)
        code = ivon_source_new(out, &class, reduced, ivon_source_path(reduced->source), &header,
                               &list, error);
    if (code)
        tensor_list_release(&list);
    return code;
}

int ivon_reduce(struct ivon_source **out, struct ivon_source *source,
                const struct ivon_reduce_options *given, struct ivon_error *error)
{
    struct ivon_reduce_options options = ivon_reduce_defaults();
    struct structure *structure = NULL;
    struct reduced *reduced = calloc(1, sizeof *reduced);
    int code = reduced ? options_read(&reduce_options, &options, given, error)
                       : ivon_error_memory(error);
    if (!code &&
        (options.reduction < IVON_REDUCE_COVARIANCE || options.reduction > IVON_REDUCE_BASE))
        code = ivon_error_set(error, IVON_ERROR_ARGUMENT, "there is no reduction %d",
                              (int)options.reduction);
    if (!code)
        code = structure_read(&structure, source, error);
    if (!code) {
        reduced->source = source;
        reduced->count = ivon_source_tensor_count(source);
        code = reduced_open(reduced, structure, &options, out, error);
    }
    structure_free(structure);
    if (code)
        reduced_close(reduced);
    return code;
}
