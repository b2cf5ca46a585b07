#include "ivon/inspect.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bayes/low_rank.h"
#include "bayes/transfer.h"
#include "core/blas.h"
#include "core/error.h"
#include "core/memory.h"
#include "core/options.h"
#include "core/parallel.h"

enum {
    PANEL = 128,     /* columns of a basis at a time */
    PIECE = 1 << 13, /* elements of a Hessian, and of each vector, at a time */
};

static const double SKEW_MOST = 1e-3;

struct ivon_inspection {
    struct ivon_source *source;
    struct structure *structure;
    struct ivon_inspect_options options;
    int threads;
    struct ivon_block *blocks;
    size_t count;
    struct ivon_low_rank low_rank;
    const char **indefinite;
    size_t indefinite_count;
};

/* A type's rounding of numbers up to 1: half of the distance of neighbours there. */
static double inspect_rounding(enum ivon_dtype dtype)
{
    return dtype == IVON_BF16 ? 0x1p-9 : dtype == IVON_F16 ? 0x1p-12 : 0x1p-25;
}

/* The products of two unit vectors, whose elements are rounded by r of their size, are off by 4 r
   at most. */
static bool inspect_is_skewed(double skew, enum ivon_dtype dtype)
{
    return !(skew <= SKEW_MOST + 4 * inspect_rounding(dtype));
}

/* A tensor as floats, where it lies or in *memory, which is to be freed. */
static int inspect_floats(const struct ivon_inspection *inspection, size_t index,
                          const float **floats, float **memory, struct ivon_error *error)
{
    const struct ivon_tensor *tensor = ivon_source_tensor(inspection->source, index);
    *memory = NULL;
    *floats = tensor->dtype == IVON_F32 ? ivon_source_view(inspection->source, index, 0) : NULL;
    if (*floats)
        return 0;
    *memory = malloc((tensor->count + 1) * sizeof **memory);
    *floats = *memory;
    return *memory ? transfer_floats(inspection->source, index, 0, tensor->count, *memory, error)
                   : ivon_error_memory(error);
}

/* Spectra. */

static int inspect_by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void inspect_quantiles(const double *sorted, size_t count, double *quantiles)
{
    for (int q = 0; q < IVON_QUANTILE_COUNT; q++) {
        double position = ivon_quantile_levels[q] * (double)(count - 1);
        size_t low = (size_t)position, high = low + 1 < count ? low + 1 : low;
        quantiles[q] = sorted[low] + (sorted[high] - sorted[low]) * (position - (double)low);
    }
}

static int inspect_spectrum(const struct ivon_inspection *inspection, size_t index,
                            struct ivon_factor *factor, struct ivon_error *error)
{
    size_t count = 0;
    const float *floats;
    float *memory = NULL;
    double *sorted = calloc(factor->rows + 1, sizeof *sorted);
    int code = sorted ? inspect_floats(inspection, index, &floats, &memory, error)
                      : ivon_error_memory(error);
    for (size_t i = 0; i < factor->rows && !code; i++)
        if (isfinite(floats[i]))
            sorted[count++] = (double)floats[i];
    factor->spectrum = !code;
    factor->nonfinite = factor->rows - count;
    if (!code && count) {
        qsort(sorted, count, sizeof *sorted, inspect_by_value);
        factor->least = sorted[0];
        factor->greatest = sorted[count - 1];
        inspect_quantiles(sorted, count, factor->quantiles);
        double most = fmax(-factor->least, factor->greatest);
        double rounding = (double)factor->rows * 0x1p-23 * most;
        for (size_t i = 0; i < count; i++) {
            factor->negative += sorted[i] < -rounding;
            factor->rank += sorted[i] > rounding;
        }
    }
    free(sorted);
    free(memory);
    return code;
}

/* Bases. */

struct inspect_basis {
    const float *u;
    size_t rows;
    double *skews; /* of each panel */
};

/* The largest number of |UᵀU − I| in a panel of columns and those before; NaN wins. */
static int inspect_panel(void *context, size_t i, int thread, struct ivon_error *error)
{
    (void)thread;
    const struct inspect_basis *basis = context;
    size_t n = basis->rows, first = i * PANEL, width = n - first < PANEL ? n - first : PANEL;
    size_t before = first + width;
    float *products = malloc(width * before * sizeof *products);
    double skew = 0;
    if (!products)
        return ivon_error_memory(error);
    blas_product(true, false, (int64_t)width, (int64_t)before, (int64_t)n, 1, basis->u + first,
                 (int64_t)n, basis->u, (int64_t)n, 0, products, (int64_t)before);
    for (size_t r = 0; r < width; r++)
        for (size_t c = 0; c < before; c++) {
            double off = fabs((double)products[r * before + c] - (first + r == c));
            skew = off <= skew ? skew : off;
            if (isnan(off))
                skew = INFINITY;
        }
    basis->skews[i] = skew;
    free(products);
    return 0;
}

static int inspect_basis(const struct ivon_inspection *inspection, size_t index,
                         struct ivon_factor *factor, struct ivon_error *error)
{
    size_t panels = (factor->rows + PANEL - 1) / PANEL;
    float *memory;
    struct inspect_basis basis = {.rows = factor->rows,
                                  .skews = calloc(panels + 1, sizeof *basis.skews)};
    int code = inspect_floats(inspection, index, &basis.u, &memory, error);
    if (!code && !basis.skews)
        code = ivon_error_memory(error);
    if (!code)
        code = ivon_parallel_run(inspection->threads, panels, inspect_panel, &basis, error);
    factor->skew = 0;
    for (size_t i = 0; i < panels && !code; i++)
        factor->skew = fmax(factor->skew, basis.skews[i]);
    if (isinf(factor->skew))
        factor->skew = NAN;
    factor->skewed = inspect_is_skewed(factor->skew,
                                       ivon_source_tensor(inspection->source, index)->dtype);
    free(basis.skews);
    free(memory);
    return code;
}

static int inspect_factor(const struct ivon_inspection *inspection, ptrdiff_t basis,
                          ptrdiff_t spectrum, size_t rows, struct ivon_factor *factor,
                          struct ivon_error *error)
{
    int code = 0;
    *factor = (struct ivon_factor){
        .rows = rows, .rotated = basis >= 0, .least = NAN, .greatest = NAN, .skew = NAN};
    for (int q = 0; q < IVON_QUANTILE_COUNT; q++)
        factor->quantiles[q] = NAN;
    if (spectrum >= 0)
        code = inspect_spectrum(inspection, (size_t)spectrum, factor, error);
    if (!code && basis >= 0 && inspection->options.orthonormal)
        code = inspect_basis(inspection, (size_t)basis, factor, error);
    return code;
}

/* Gram matrices. */

static bool inspect_is_indefinite(const float *a, size_t n)
{
    const double MORE = 1 + 1e-3; /* beside rounding of sums of floats */
    bool indefinite = false;
    for (size_t i = 0; i < n; i++) {
        double diagonal = (double)a[i * n + i];
        indefinite |= !(diagonal >= 0) || isinf(diagonal);
        for (size_t j = 0; j < i; j++) {
            double other = (double)a[j * n + j], element = (double)a[i * n + j];
            indefinite |= !(element * element <= MORE * diagonal * other);
        }
    }
    return indefinite;
}

static int inspect_grams(struct ivon_inspection *inspection, struct ivon_error *error)
{
    size_t count = ivon_source_tensor_count(inspection->source);
    int code = 0;
    inspection->indefinite = calloc(count + 1, sizeof *inspection->indefinite);
    if (!inspection->indefinite)
        return ivon_error_memory(error);
    for (size_t i = 0; i < count && !code; i++) {
        const struct ivon_tensor *gram = ivon_source_tensor(inspection->source, i);
        const float *a;
        float *memory;
        if (gram->part != IVON_GRAM)
            continue;
        code = inspect_floats(inspection, i, &a, &memory, error);
        if (!code && inspect_is_indefinite(a, (size_t)gram->shape[0]))
            inspection->indefinite[inspection->indefinite_count++] = gram->name;
        free(memory);
    }
    return code;
}

static int inspect_block(const struct ivon_inspection *inspection,
                         const struct structure_block *from, struct ivon_block *block,
                         struct ivon_error *error)
{
    const struct ivon_source *source = inspection->source;
    *block = (struct ivon_block){
        .weight = ivon_source_tensor(source, from->weight)->name,
        .bias = from->bias < 0 ? NULL : ivon_source_tensor(source, (size_t)from->bias)->name,
        .rows = from->rows,
        .columns = from->columns,
        .input_rows = from->input_rows};
    int code = inspect_factor(inspection, from->input_basis, from->input_spectrum, from->columns,
                              &block->input, error);
    if (!code)
        code = inspect_factor(inspection, from->output_basis, from->output_spectrum, from->rows,
                              &block->output, error);
    return code;
}

/* The low-rank correction. */

struct inspect_piece {
    size_t hessian, first, count;
};

struct inspect_vectors {
    struct ivon_inspection *inspection;
    struct inspect_piece *pieces;
    double *sums; /* of each piece */
};

static size_t inspect_list_pieces(const struct ivon_inspection *inspection,
                                  struct inspect_piece *pieces)
{
    size_t count = 0;
    for (size_t i = 0; i < ivon_source_tensor_count(inspection->source); i++) {
        size_t elements = ivon_source_tensor(inspection->source, i)->count;
        for (size_t first = 0; first < elements && inspection->structure->vectors[i] >= 0;
             first += PIECE, count++)
            if (pieces)
                pieces[count] = (struct inspect_piece){
                    i, first, elements - first < PIECE ? elements - first : PIECE};
    }
    return count;
}

/* With γ = P − Σ λδ Σ_ii a correction adds Σ_k ℓ/(1 + ℓ) Σ_i u_i² δ/(h_i + δ). */
static int inspect_add_piece(void *context, size_t i, int thread, struct ivon_error *error)
{
    (void)thread;
    const struct inspect_vectors *vectors = context;
    const struct structure *structure = vectors->inspection->structure;
    struct ivon_source *source = vectors->inspection->source;
    const struct inspect_piece *piece = &vectors->pieces[i];
    double delta = ivon_source_tensor(source, piece->hessian)->weight_decay;
    float *u = malloc((structure->rank + 1) * piece->count * sizeof *u);
    if (!u)
        return ivon_error_memory(error);
    float *h = u + structure->rank * piece->count;
    int code = transfer_floats(source, piece->hessian, piece->first, piece->count, h, error);
    if (!code)
        code = low_rank_vectors(source, structure, piece->hessian, piece->first, piece->count, u,
                                error);
    for (size_t k = 0; k < structure->rank && !code; k++) {
        double sum = 0, l = structure->values[k];
        for (size_t j = 0; j < piece->count; j++) {
            double element = (double)u[k * piece->count + j], precision = (double)h[j] + delta;
            sum += element * element * (precision > 0 ? delta / precision : NAN);
        }
        vectors->sums[i] += l / (1 + l) * sum;
    }
    free(u);
    return code;
}

static int inspect_effective(struct ivon_inspection *inspection, struct ivon_error *error)
{
    size_t count = inspect_list_pieces(inspection, NULL);
    struct inspect_vectors vectors = {.inspection = inspection,
                                      .pieces = calloc(count + 1, sizeof *vectors.pieces),
                                      .sums = calloc(count + 1, sizeof *vectors.sums)};
    int code = vectors.pieces && vectors.sums ? 0 : ivon_error_memory(error);
    if (!code) {
        inspect_list_pieces(inspection, vectors.pieces);
        code = ivon_parallel_run(inspection->threads, count, inspect_add_piece, &vectors, error);
    }
    for (size_t i = 0; i < count && !code; i++)
        inspection->low_rank.effective += vectors.sums[i];
    free(vectors.pieces);
    free(vectors.sums);
    return code;
}

/* U Uᵀ − I, the rows of U being the vectors over all Hessians. */
static int inspect_vectors(struct ivon_inspection *inspection, struct ivon_error *error)
{
    size_t rank = inspection->structure->rank, count = ivon_source_tensor_count(inspection->source);
    double *gram = calloc(rank * rank + 1, sizeof *gram), skew = 0;
    bool *all = calloc(count + 1, sizeof *all);
    enum ivon_dtype coarsest = IVON_F32;
    int code = gram && all ? 0 : ivon_error_memory(error);
    for (size_t i = 0; i < count && !code; i++) {
        ptrdiff_t vectors = inspection->structure->vectors[i];
        all[i] = vectors >= 0;
        enum ivon_dtype dtype = all[i]
                                    ? ivon_source_tensor(inspection->source, (size_t)vectors)->dtype
                                    : IVON_F32;
        coarsest = inspect_rounding(dtype) > inspect_rounding(coarsest) ? dtype : coarsest;
    }
    if (!code)
        code = low_rank_gram(inspection->source, inspection->structure, all, gram, error);
    for (size_t i = 0; i < rank * rank && !code; i++) {
        double off = fabs(gram[i] - (i / rank == i % rank));
        skew = off <= skew || isnan(skew) ? skew : off;
    }
    inspection->low_rank.skew = skew;
    inspection->low_rank.skewed = inspect_is_skewed(skew, coarsest);
    free(gram);
    free(all);
    return code;
}

/* All. */

static const struct options_kind inspect_options = {
    .defaults = "ivon_inspect_defaults",
    .reserved = {OPTIONS_RESERVED(struct ivon_inspect_options, resources.reserved)}};

void ivon_inspect_options_init(struct ivon_inspect_options *options, size_t size)
{
    const struct ivon_inspect_options defaults = {.size = sizeof defaults};
    options_init(options, size, &defaults);
}

static int inspect_all(struct ivon_inspection *inspection, struct ivon_error *error)
{
    int code = structure_read(&inspection->structure, inspection->source, error);
    if (code)
        return code;
    const struct structure *structure = inspection->structure;
    inspection->threads = ivon_parallel_threads(inspection->options.resources.threads);
    inspection->low_rank = (struct ivon_low_rank){
        .rank = structure->rank, .values = structure->values, .skew = NAN};
    inspection->blocks = calloc(structure->block_count + 1, sizeof *inspection->blocks);
    if (!inspection->blocks)
        return ivon_error_memory(error);
    for (size_t b = 0; b < structure->block_count && !code; b++)
        if (structure->blocks[b].hessian >= 0)
            code = inspect_block(inspection, &structure->blocks[b],
                                 &inspection->blocks[inspection->count++], error);
    if (!code)
        code = inspect_grams(inspection, error);
    if (!code && structure->rank)
        code = inspect_effective(inspection, error);
    if (!code && structure->rank && inspection->options.orthonormal)
        code = inspect_vectors(inspection, error);
    return code;
}

int ivon_inspect_new(struct ivon_inspection **out, struct ivon_source *source,
                     const struct ivon_inspect_options *options, struct ivon_error *error)
{
    struct ivon_inspection *inspection = calloc(1, sizeof *inspection);
    if (!inspection)
        return ivon_error_memory(error);
    inspection->source = source;
    inspection->options = ivon_inspect_defaults();
    int code = options_read(&inspect_options, &inspection->options, options, error);
    if (!code)
        code = inspect_all(inspection, error);
    if (code) {
        ivon_inspect_free(inspection);
        return code;
    }
    *out = inspection;
    return 0;
}

void ivon_inspect_free(struct ivon_inspection *inspection)
{
    if (!inspection)
        return;
    structure_free(inspection->structure);
    free(inspection->blocks);
    free(inspection->indefinite);
    free(inspection);
}

const struct ivon_block *ivon_inspect_blocks(const struct ivon_inspection *inspection,
                                             size_t *count)
{
    *count = inspection->count;
    return inspection->blocks;
}

const struct ivon_low_rank *ivon_inspect_low_rank(const struct ivon_inspection *inspection)
{
    return &inspection->low_rank;
}

const char *const *ivon_inspect_indefinite(const struct ivon_inspection *inspection, size_t *count)
{
    *count = inspection->indefinite_count;
    return inspection->indefinite;
}
