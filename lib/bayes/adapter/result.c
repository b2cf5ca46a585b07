/* The tensors and the configuration of an adapter that was extracted. */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bayes/adapter/description.h"
#include "bayes/adapter/extract.h"
#include "bayes/adapter/names.h"
#include "core/error.h"
#include "core/names.h"

static int result_add(struct ivon_extraction *extraction, char *name, int rank,
                      const int64_t *shape, enum ivon_dtype dtype, const unsigned char *data,
                      struct ivon_error *error)
{
    struct ivon_tensor tensor = {.name = name,
                                 .part = IVON_MEAN,
                                 .dtype = dtype,
                                 .rank = rank,
                                 .ess = NAN,
                                 .weight_decay = NAN};
    if (!name)
        return ivon_error_memory(error);
    for (int i = 0; i < rank; i++)
        tensor.shape[i] = shape[i];
    extraction->data[extraction->tensors.count] = data;
    int code = tensor_list_append(&extraction->tensors, &tensor, error);
    free(name);
    return code;
}

/* Adds a module's name, unless it is the last one: its tensors lie side by side. */
static void list_name(json_t *list, const char *name, size_t length)
{
    size_t count = json_array_size(list);
    const char *last = count ? json_string_value(json_array_get(list, count - 1)) : NULL;
    if (!last || strlen(last) != length || memcmp(last, name, length) != 0)
        json_array_append_new(list, json_stringn(name, length));
}

static int result_add_factors(struct ivon_extraction *extraction, const struct extract_layer *layer,
                              struct adapter_description *lists, struct ivon_error *error)
{
    const struct ivon_tensor *tensor = ivon_source_tensor(extraction->base, layer->base);
    enum ivon_dtype dtype = extraction->options.dtype == IVON_DTYPE_KEEP
                                ? IVON_F32
                                : (enum ivon_dtype)extraction->options.dtype;
    size_t module = strlen(tensor->name) - strlen(".weight");
    int64_t rank = (int64_t)layer->rank;
    bool linear = layer->form == LAYER_LINEAR, table = layer->form == LAYER_TABLE;
    const int64_t a[2] = {rank, tensor->shape[linear]}, b[2] = {tensor->shape[!linear], rank};
    int code = result_add(
        extraction,
        adapter_name_make(tensor->name, module, table ? ".lora_embedding_A" : ".lora_A.weight"), 2,
        a, dtype, layer->first, error);
    if (!code)
        code = result_add(
            extraction,
            adapter_name_make(tensor->name, module, table ? ".lora_embedding_B" : ".lora_B.weight"),
            2, b, dtype, layer->second, error);
    json_array_append_new(lists->targets, json_stringn(tensor->name, module));
    if (rank == extraction->options.rank)
        return code;
    char *name = strndup(tensor->name, module);
    if (name) {
        json_object_set_new(lists->ranks, name, json_integer(rank));
        json_object_set_new(lists->alphas, name, json_integer(rank));
    }
    free(name);
    return code || name ? code : ivon_error_memory(error);
}

/* Returns whether a module's weight stands as factors. */
static bool module_has_factors(const struct ivon_extraction *extraction, const char *name,
                               size_t module)
{
    for (size_t i = 0; i < extraction->layer_count; i++) {
        const struct extract_layer *layer = &extraction->layers[i];
        const char *other = layer->changed && layer->rank
                                ? ivon_source_tensor(extraction->base, layer->base)->name
                                : "";
        if (strncmp(other, name, module) == 0 && strcmp(other + module, ".weight") == 0)
            return true;
    }
    return false;
}

/* A bias stands where the wrapped layer has it; anything else makes its module one that PEFT
   saves. */
static int result_add_whole(struct ivon_extraction *extraction, const struct extract_layer *layer,
                            struct adapter_description *lists, struct ivon_error *error)
{
    char ending[32] = "";
    const struct ivon_tensor *tensor = ivon_source_tensor(extraction->base, layer->base);
    size_t length = strlen(tensor->name), last = name_last(tensor->name, length);
    size_t module = last ? last - 1 : 0;
    enum ivon_dtype dtype = extraction->options.dtype == IVON_DTYPE_KEEP
                                ? tensor->dtype
                                : (enum ivon_dtype)extraction->options.dtype;
    if (module && strcmp(tensor->name + last, "bias") == 0) {
        lists->bias = true;
        if (module_has_factors(extraction, tensor->name, module)) {
            length = module;
            strcpy(ending, ".base_layer.bias");
        }
    } else if (module) {
        list_name(lists->saved, tensor->name, module);
    }
    return result_add(extraction, adapter_name_make(tensor->name, length, ending), tensor->rank,
                      tensor->shape, dtype, layer->first, error);
}

static int result_list(struct ivon_extraction *extraction, struct adapter_description *lists,
                       struct ivon_error *error)
{
    int code = 0;
    for (size_t i = 0; i < extraction->layer_count && !code; i++) {
        const struct extract_layer *layer = &extraction->layers[i];
        if (!layer->changed)
            continue;
        code = layer->form == LAYER_WHOLE ? result_add_whole(extraction, layer, lists, error)
                                          : result_add_factors(extraction, layer, lists, error);
        extraction->extracted[extraction->extracted_count++] = (struct ivon_extracted){
            ivon_source_tensor(extraction->base, layer->base)->name, layer->rank, layer->norm,
            layer->error};
    }
    if (!code && !extraction->extracted_count)
        code = ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: no tensor changed, of which an adapter could be made",
                              ivon_source_path(extraction->base));
    return code;
}

int ivon_extraction_finish(struct ivon_extraction *extraction, struct ivon_source **source,
                           char **config, struct ivon_error *error)
{
    const char *base = extraction->options.base_name;
    struct adapter_description lists = adapter_description_new(
        base ? base : ivon_source_path(extraction->base), extraction->options.rank,
        (double)extraction->options.rank);
    struct ivon_header header = ivon_header_empty();
    extraction->extracted = calloc(extraction->layer_count + 1, sizeof *extraction->extracted);
    extraction->data = calloc(2 * extraction->layer_count + 1, sizeof *extraction->data);
    *config = NULL;
    int code = extraction->extracted && extraction->data ? result_list(extraction, &lists, error)
                                                         : ivon_error_memory(error);
    lists.turned = extraction->turned;
    if (!code && !(*config = adapter_description_text(&lists)))
        code = ivon_error_memory(error);
    if (!code)
        code = ivon_source_from_memory(source, "the adapter", &header, extraction->tensors.items,
                                       extraction->data, extraction->tensors.count, error);
    if (code) {
        free(*config);
        *config = NULL;
    }
    adapter_description_release(&lists);
    return code;
}

const struct ivon_extracted *ivon_extraction_tensors(const struct ivon_extraction *extraction,
                                                     size_t *count)
{
    *count = extraction->extracted_count;
    return extraction->extracted;
}
