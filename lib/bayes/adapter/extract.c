#include "bayes/adapter/extract.h"

#include <stdlib.h>
#include <string.h>

#include "core/blas.h"
#include "core/error.h"
#include "core/options.h"
#include "core/parallel.h"

enum { PIECE = 512 /* elements compared at once */ };

static const struct options_kind extraction_options = {
    .defaults = "ivon_extraction_defaults",
    .reserved = {OPTIONS_RESERVED(struct ivon_extraction_options, resources.reserved)}};

void ivon_extraction_options_init(struct ivon_extraction_options *options, size_t size)
{
    const struct ivon_extraction_options defaults = {
        .size = sizeof defaults, .rank = 16, .dtype = IVON_DTYPE_KEEP};
    options_init(options, size, &defaults);
}

static int extract_check_options(const struct ivon_extraction_options *options,
                                 struct ivon_error *error)
{
    enum { RANK_MAX = 1 << 20 };
    if (options->rank < 1 || options->rank > RANK_MAX)
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "the rank must be a whole number from 1 to %d", RANK_MAX);
    if (options->dtype != IVON_DTYPE_KEEP &&
        (options->dtype < 0 || options->dtype >= IVON_DTYPE_COUNT ||
         !ivon_dtype_is_float((enum ivon_dtype)options->dtype)))
        return ivon_error_set(error, IVON_ERROR_ARGUMENT, "factors are floating-point numbers");
    return 0;
}

int ivon_extraction_new(struct ivon_extraction **out, struct ivon_source *base,
                        const struct ivon_merge_model *models, size_t model_count,
                        const struct ivon_merge *merge, size_t result,
                        const struct ivon_extraction_options *options, struct ivon_error *error)
{
    struct ivon_extraction *extraction = calloc(1, sizeof *extraction);
    if (!extraction)
        return ivon_error_memory(error);
    extraction->options = ivon_extraction_defaults();
    extraction->base = base;
    extraction->models = models;
    extraction->model_count = model_count;
    pthread_mutex_init(&extraction->lock, NULL);
    pthread_cond_init(&extraction->room, NULL);
    int code = options_read(&extraction_options, &extraction->options, options, error);
    if (!code)
        code = extract_check_options(&extraction->options, error);
    if (!code)
        code = blas_reserve(ivon_parallel_threads(extraction->options.resources.threads), error);
    if (!code)
        code = extract_plan_layers(extraction, merge, result, error);
    if (code)
        ivon_extraction_free(extraction);
    else
        *out = extraction;
    return code;
}

void ivon_extraction_free(struct ivon_extraction *extraction)
{
    if (!extraction)
        return;
    for (size_t i = 0; i < extraction->layer_count && extraction->layers; i++) {
        struct extract_layer *layer = &extraction->layers[i];
        free(layer->terms);
        free(layer->values);
        free(layer->first);
        free(layer->second);
    }
    pthread_mutex_destroy(&extraction->lock);
    pthread_cond_destroy(&extraction->room);
    tensor_list_release(&extraction->tensors);
    free(extraction->layers);
    free(extraction->extracted);
    free(extraction->data);
    free(extraction);
}

/* Makes the room of a layer's values: the base's own, or zeros of a change. */
static int layer_open_values(struct ivon_extraction *extraction, struct extract_layer *layer,
                             struct ivon_error *error)
{
    size_t count = ivon_source_tensor(extraction->base, layer->base)->count;
    int code = 0;
    pthread_mutex_lock(&extraction->lock);
    if (!layer->values) {
        double *values = count > PTRDIFF_MAX / sizeof *values ? NULL
                                                              : calloc(count, sizeof *values);
        code = values ? 0 : ivon_error_memory(error);
        if (!code && layer->form == LAYER_WHOLE)
            code = adapter_load(extraction->base, layer->base, 0, count, values, error);
        if (code)
            free(values);
        else
            layer->values = values;
    }
    pthread_mutex_unlock(&extraction->lock);
    return code;
}

/* Notes up to PIECE elements of a layer, where they differ from the base's. */
static int layer_note(struct ivon_extraction *extraction, struct extract_layer *layer, size_t first,
                      size_t count, const unsigned char *data, struct ivon_error *error)
{
    double base[PIECE], merged[PIECE];
    bool differs = false;
    int code = adapter_load(extraction->base, layer->base, first, count, base, error);
    ivon_dtype_to_f64(merged, data, layer->merged, count);
    for (size_t i = 0; i < count && !code; i++)
        differs = differs || !(merged[i] == base[i]);
    if (!code && differs)
        code = layer_open_values(extraction, layer, error);
    for (size_t i = 0; i < count && !code && differs; i++)
        layer->values[first + i] = layer->form == LAYER_WHOLE ? merged[i] : merged[i] - base[i];
    return code;
}

static int extract_write(void *self, size_t tensor, size_t first, size_t count, const void *buffer,
                         struct ivon_error *error)
{
    struct ivon_extraction *extraction = self;
    struct extract_layer *layer = &extraction->layers[tensor];
    int code = 0;
    if (layer->form == LAYER_IGNORED)
        return 0;
    size_t size = ivon_dtype_size(layer->merged);
    for (size_t done = 0; done < count && !layer->terms && !code; done += PIECE) {
        size_t piece = count - done < PIECE ? count - done : PIECE;
        code = layer_note(extraction, layer, first + done, piece,
                          (const unsigned char *)buffer + done * size, error);
    }
    if (code)
        return code;
    pthread_mutex_lock(&extraction->lock);
    layer->written += count;
    bool whole = layer->written == ivon_source_tensor(extraction->base, layer->base)->count;
    pthread_mutex_unlock(&extraction->lock);
    return whole ? extract_finish_layer(extraction, layer, error) : 0;
}

static int extract_commit(void *self, struct ivon_error *error)
{
    (void)self;
    (void)error;
    return 0;
}

static void extract_close(void *self)
{
    (void)self;
}

int ivon_extraction_sink(struct ivon_extraction *extraction, struct ivon_sink **sink,
                         struct ivon_error *error)
{
    static const struct ivon_sink_class class = {
        .write = extract_write, .commit = extract_commit, .close = extract_close};
    return ivon_sink_new(sink, &class, extraction, error);
}
