/* The layers of an extraction: how a matrix of the base takes an adapter, and its factors. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bayes/adapter/extract.h"
#include "bayes/transfer.h"
#include "core/error.h"
#include "core/names.h"

static const struct ivon_tensor *layer_tensor(const struct ivon_extraction *extraction,
                                              const struct extract_layer *layer)
{
    return ivon_source_tensor(extraction->base, layer->base);
}

/* Returns whether a component names a table that PEFT adapts as an embedding: "embed_tokens",
   "word_embeddings", GPT-2's "wte" and "wpe", T5's "shared". */
static bool is_table(const char *component, size_t length)
{
    for (size_t i = 0; i + 5 <= length; i++)
        if (memcmp(component + i, "embed", 5) == 0)
            return true;
    return name_is_word(component, length, "wte") || name_is_word(component, length, "wpe") ||
           name_is_word(component, length, "shared");
}

/* The length of the module's name in that of its weight; 0 for none. */
static size_t layer_module(const char *name)
{
    static const char ending[] = ".weight";
    size_t length = strlen(name), last = sizeof ending - 1;
    return length > last && strcmp(name + length - last, ending) == 0 ? length - last : 0;
}

/* The number of elements of a module's bias; 0 for none. */
static size_t layer_bias(const struct ivon_source *base, const char *name, size_t module)
{
    char *bias = malloc(module + sizeof ".bias");
    if (!bias)
        return 0;
    memcpy(bias, name, module);
    strcpy(bias + module, ".bias");
    ptrdiff_t found = ivon_source_find(base, IVON_MEAN, bias);
    free(bias);
    return found < 0 ? 0 : ivon_source_tensor(base, (size_t)found)->count;
}

/* By its name and bias. A bias as long as the last extent alone is that of a layer that lies the
   other way round; of a square one nothing tells. */
static enum layer_form layer_form_of(const struct ivon_source *base,
                                     const struct ivon_tensor *tensor)
{
    size_t module = layer_module(tensor->name);
    if (tensor->rank != 2 || !tensor->count || !module)
        return LAYER_WHOLE;
    size_t last = name_last(tensor->name, module);
    if (is_table(tensor->name + last, module - last))
        return LAYER_TABLE;
    size_t bias = layer_bias(base, tensor->name, module);
    return tensor->shape[0] != tensor->shape[1] && bias == (size_t)tensor->shape[1] ? LAYER_TURNED
                                                                                    : LAYER_LINEAR;
}

/* Collects the products that a layer's change is the sum of; where it is another sum, or its ranks
   are no fewer than its rows or columns, there are no terms. */
static int layer_find_terms(const struct ivon_extraction *extraction, struct extract_layer *layer,
                            const struct ivon_merge *merge, size_t output, size_t result,
                            struct ivon_error *error)
{
    const struct ivon_tensor *tensor = layer_tensor(extraction, layer);
    size_t ranks = 0, least = 0;
    bool known = true;
    layer->terms = calloc(extraction->model_count, sizeof *layer->terms);
    if (!layer->terms)
        return ivon_error_memory(error);
    for (size_t t = 0; t < extraction->model_count; t++) {
        struct ivon_source *source = extraction->models[t].source;
        ptrdiff_t mean = ivon_source_find(source, IVON_MEAN, tensor->name);
        bool same = source == extraction->base;
        const struct adapter_weight *weight =
            mean < 0 ? NULL : adapter_source_weight(source, (size_t)mean, extraction->base, &same);
        double coefficient = ivon_merge_coefficient(merge, output, t, result);
        known = known && (weight || same) && isfinite(coefficient);
        if (!weight)
            continue;
        layer->form = weight->embedding    ? LAYER_TABLE
                      : weight->transposed ? LAYER_TURNED
                                           : LAYER_LINEAR;
        layer->terms[layer->term_count++] = (struct truncate_term){weight, coefficient};
        ranks += weight->rank;
        least = weight->rows < weight->columns ? weight->rows : weight->columns;
    }
    if (tensor->rank != 2)
        layer->form = LAYER_WHOLE;
    if (!known || !layer->term_count || ranks > least || tensor->rank != 2) {
        free(layer->terms);
        layer->terms = NULL;
    }
    return 0;
}

int extract_plan_layers(struct ivon_extraction *extraction, const struct ivon_merge *merge,
                        size_t result, struct ivon_error *error)
{
    const struct ivon_tensor *outputs = ivon_merge_outputs(merge, &extraction->layer_count);
    extraction->layers = calloc(extraction->layer_count + 1, sizeof *extraction->layers);
    int code = extraction->layers ? 0 : ivon_error_memory(error);
    for (size_t i = 0; i < extraction->layer_count && !code; i++) {
        struct extract_layer *layer = &extraction->layers[i];
        ptrdiff_t base = outputs[i].part == IVON_MEAN
                             ? ivon_source_find(extraction->base, IVON_MEAN, outputs[i].name)
                             : -1;
        if (base < 0)
            continue;
        layer->base = (size_t)base;
        layer->merged = outputs[i].dtype;
        layer->form = layer_form_of(extraction->base, layer_tensor(extraction, layer));
        code = layer_find_terms(extraction, layer, merge, i, result, error);
        extraction->turned = extraction->turned || layer->form == LAYER_TURNED;
    }
    for (size_t i = 0; i < extraction->layer_count && !code; i++) {
        struct extract_layer *layer = &extraction->layers[i];
        const struct ivon_tensor *tensor = layer_tensor(extraction, layer);
        if (layer->form == LAYER_LINEAR && extraction->turned &&
            tensor->shape[0] == tensor->shape[1])
            layer->form = LAYER_TURNED;
    }
    return code;
}

/* Stores numbers in a type, one of which may not fit. */
static int layer_store(const struct ivon_extraction *extraction, const struct extract_layer *layer,
                       unsigned char **out, const double *values, size_t count,
                       enum ivon_dtype dtype, struct ivon_error *error)
{
    *out = malloc(count * ivon_dtype_size(dtype) + 1);
    if (!*out)
        return ivon_error_memory(error);
    size_t at = transfer_convert(*out, dtype, values, IVON_F64, count);
    return at == count ? 0
                       : transfer_overflow(extraction->base, layer_tensor(extraction, layer)->name,
                                           0, values, IVON_F64, dtype, at, error);
}

/* The transpose of a matrix, rows × columns; null when memory is exhausted. */
static double *layer_transpose(const double *matrix, size_t rows, size_t columns)
{
    double *out = malloc(rows * columns * sizeof *out + 1);
    if (!out)
        return NULL;
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < columns; j++)
            out[j * rows + i] = matrix[i * columns + j];
    return out;
}

/* A and B of a layer that lies as outputs × inputs are right and left; else left and right,
   turned. */
static int layer_store_factors(const struct ivon_extraction *extraction,
                               struct extract_layer *layer, const struct truncated *cut,
                               struct ivon_error *error)
{
    enum ivon_dtype dtype = extraction->options.dtype == IVON_DTYPE_KEEP
                                ? IVON_F32
                                : (enum ivon_dtype)extraction->options.dtype;
    size_t left = cut->rows * cut->rank, right = cut->rank * cut->columns;
    if (layer->form == LAYER_LINEAR) {
        int code = layer_store(extraction, layer, &layer->first, cut->right, right, dtype, error);
        return code ? code
                    : layer_store(extraction, layer, &layer->second, cut->left, left, dtype, error);
    }
    double *a = layer_transpose(cut->left, cut->rows, cut->rank);
    double *b = layer_transpose(cut->right, cut->rank, cut->columns);
    int code = a && b ? layer_store(extraction, layer, &layer->first, a, left, dtype, error)
                      : ivon_error_memory(error);
    if (!code)
        code = layer_store(extraction, layer, &layer->second, b, right, dtype, error);
    free(a);
    free(b);
    return code;
}

/* Waits until so many bytes more may be used by decompositions; one may always run. */
static void decomposition_begin(struct ivon_extraction *extraction, size_t bytes)
{
    static const size_t DEFAULT_MEMORY = 256 << 20;
    size_t memory = extraction->options.resources.memory;
    memory = memory ? memory : DEFAULT_MEMORY;
    pthread_mutex_lock(&extraction->lock);
    while (extraction->decomposing && (bytes > memory || extraction->decomposing > memory - bytes))
        pthread_cond_wait(&extraction->room, &extraction->lock);
    extraction->decomposing += bytes;
    pthread_mutex_unlock(&extraction->lock);
}

static void decomposition_end(struct ivon_extraction *extraction, size_t bytes)
{
    pthread_mutex_lock(&extraction->lock);
    extraction->decomposing -= bytes;
    pthread_cond_broadcast(&extraction->room);
    pthread_mutex_unlock(&extraction->lock);
}

static int layer_factorise(struct ivon_extraction *extraction, struct extract_layer *layer,
                           struct ivon_error *error)
{
    const struct ivon_tensor *tensor = layer_tensor(extraction, layer);
    struct truncated cut = {0};
    size_t rank = (size_t)extraction->options.rank;
    struct ivon_error reason = {0};
    /* The matrix, its singular vectors and LAPACK's own; of a sum, its factors. */
    size_t bytes = 4 * sizeof(double) * (layer->terms ? 1 : tensor->count);
    decomposition_begin(extraction, bytes);
    int code = layer->terms ? truncate_sum(&cut, layer->terms, layer->term_count, rank, &reason)
                            : truncate_matrix(&cut, layer->values, (size_t)tensor->shape[0],
                                              (size_t)tensor->shape[1], rank, &reason);
    decomposition_end(extraction, bytes);
    if (code == IVON_ERROR_DATA)
        code = ivon_error_set(error, code, "tensor '%s': its change cannot be cut to a rank: %s",
                              tensor->name, reason.message);
    else if (code)
        code = ivon_error_set(error, code, "%s", reason.message);
    layer->changed = !code && cut.norm > 0;
    layer->norm = cut.norm;
    layer->error = cut.error;
    layer->rank = cut.rank;
    if (layer->changed)
        code = layer_store_factors(extraction, layer, &cut, error);
    truncated_release(&cut);
    return code;
}

int extract_finish_layer(struct ivon_extraction *extraction, struct extract_layer *layer,
                         struct ivon_error *error)
{
    const struct ivon_tensor *tensor = layer_tensor(extraction, layer);
    int code = 0;
    if (layer->form == LAYER_WHOLE && layer->values) {
        enum ivon_dtype dtype = extraction->options.dtype == IVON_DTYPE_KEEP
                                    ? tensor->dtype
                                    : (enum ivon_dtype)extraction->options.dtype;
        layer->changed = true;
        layer->norm = NAN;
        code = layer_store(extraction, layer, &layer->first, layer->values, tensor->count, dtype,
                           error);
    } else if (layer->terms || layer->values) {
        code = layer_factorise(extraction, layer, error);
    }
    free(layer->values);
    layer->values = NULL;
    return code;
}
