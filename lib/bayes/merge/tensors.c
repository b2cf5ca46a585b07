/* Decides which tensors are merged, copied or left out. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bayes/merge/private.h"
#include "core/error.h"

struct ivon_source *merge_copy_source(const struct ivon_merge *merge)
{
    if (merge->base)
        return merge->base;
    size_t first = 0;
    while (merge->models[first].caller_index != 0)
        first++;
    return merge->models[first].source;
}

static int add_fate(struct ivon_merge *merge, const struct ivon_tensor *mean,
                    enum ivon_merge_fate fate, const char *reason, struct ivon_error *error)
{
    if (merge->tensor_count == merge->tensor_capacity) {
        size_t capacity = merge->tensor_capacity ? 2 * merge->tensor_capacity : 64;
        struct ivon_merge_tensor *grown = realloc(merge->tensors, capacity * sizeof *grown);
        if (!grown)
            return ivon_error_memory(error);
        merge->tensors = grown;
        merge->tensor_capacity = capacity;
    }
    merge->tensors[merge->tensor_count++] = (struct ivon_merge_tensor){
        mean->name, fate, reason, mean->part == IVON_OPAQUE ? 0 : mean->count};
    return 0;
}

static struct merge_entry *add_entry(struct ivon_merge *merge, struct ivon_error *error)
{
    if (merge->entry_count == merge->entry_capacity) {
        size_t capacity = merge->entry_capacity ? 2 * merge->entry_capacity : 64;
        struct merge_entry *grown = realloc(merge->entries, capacity * sizeof *grown);
        if (!grown) {
            ivon_error_memory(error);
            return NULL;
        }
        merge->entries = grown;
        merge->entry_capacity = capacity;
    }
    struct merge_entry *entry = &merge->entries[merge->entry_count++];
    *entry = (struct merge_entry){.output_hessian = -1, .base = {-1, -1}};
    return entry;
}

void merge_release_entry(struct merge_entry *entry)
{
    free(entry->models);
    free(entry->weights);
}

/* The models' weights for the tensor of that name. */
static int set_weights(const struct ivon_merge *merge, struct merge_entry *entry, const char *name,
                       struct ivon_error *error)
{
    const struct ivon_merge_options *options = &merge->options;
    if (!options->weight)
        return 0;
    entry->weights = calloc(merge->model_count + 1, sizeof *entry->weights);
    if (!entry->weights)
        return ivon_error_memory(error);
    for (size_t t = 0; t < merge->model_count; t++) {
        double weight = options->weight(options->weight_context, merge->models[t].caller_index,
                                        name);
        if (!isfinite(weight))
            return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                                  "tensor '%s': a model's weight is %g, expected a finite number",
                                  name, weight);
        entry->weights[t] = weight;
    }
    for (size_t r = 0; r < merge->result_count && !merge->base_in_formula; r++)
        if (merge_weight_sum(merge, entry, &merge->results[r]) == 0)
            return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                                  "tensor '%s': the weights add up to zero, which leaves no "
                                  "average",
                                  name);
    return 0;
}

/* Plans the copy of one tensor of a source, in its own dtype or, for a mean, in the asked one. */
static int merge_tensors_copy_tensor(struct ivon_merge *merge, struct ivon_source *from,
                                     size_t index, struct ivon_error *error)
{
    struct ivon_tensor tensor = *ivon_source_tensor(from, index);
    if (tensor.part == IVON_MEAN && merge->options.dtype != IVON_DTYPE_KEEP)
        tensor.dtype = (enum ivon_dtype)merge->options.dtype;
    struct merge_entry *entry = add_entry(merge, error);
    if (!entry)
        return error ? error->code : IVON_ERROR_MEMORY;
    entry->count = tensor.count;
    entry->output = merge->outputs.count;
    entry->from = from;
    entry->from_tensor = index;
    entry->compare = tensor.part == IVON_BUFFER;
    return tensor_list_append(&merge->outputs, &tensor, error);
}

/* Takes a mean, and its Hessian with its own ess and weight decay, from the base or first model. */
static int merge_tensors_keep(struct ivon_merge *merge, const struct ivon_tensor *mean,
                              const char *reason, struct ivon_error *error)
{
    struct ivon_source *from = merge_copy_source(merge);
    ptrdiff_t index = ivon_source_find(from, IVON_MEAN, mean->name);
    ptrdiff_t hessian = ivon_source_find(from, IVON_HESSIAN, mean->name);
    if (index < 0)
        return add_fate(merge, mean, IVON_SKIPPED, reason, error);
    int code = add_fate(merge, ivon_source_tensor(from, (size_t)index), IVON_KEPT, reason, error);
    if (!code)
        code = merge_tensors_copy_tensor(merge, from, (size_t)index, error);
    if (!code && hessian >= 0 && merge->with_hessian) {
        code = posterior_check_hessian(from, ivon_source_tensor(from, (size_t)index),
                                       ivon_source_tensor(from, (size_t)hessian), true, error);
        if (!code)
            code = merge_tensors_copy_tensor(merge, from, (size_t)hessian, error);
    }
    return code;
}

/* Finds a tensor in one input and compares it with the reference, which is null for the first
   input. Returns the reason why the tensor is not merged, or null. */
static const char *match_input(const struct ivon_merge *merge, const struct ivon_source *source,
                               const char *name, bool needs_hessian,
                               const struct ivon_tensor *reference, struct merge_input *input)
{
    input->mean = merge_find_mean(merge, source, name);
    if (input->mean < 0)
        return "missing";
    input->hessian = ivon_source_find(source, IVON_HESSIAN,
                                      ivon_source_tensor(source, (size_t)input->mean)->name);
    if (reference &&
        !posterior_same_shape(ivon_source_tensor(source, (size_t)input->mean), reference))
        return "other shape";
    return needs_hessian && input->hessian < 0 ? "no Hessian" : NULL;
}

static int mismatch_error(const struct ivon_merge *merge, const struct ivon_source *source,
                          const struct ivon_tensor *mean, const struct merge_input *input,
                          const char *reason, const struct ivon_tensor *reference,
                          const char *reference_path, struct ivon_error *error)
{
    char found[256], expected[256];
    const char *path = ivon_source_path(source);
    if (input->mean < 0)
        return ivon_error_hint(error, IVON_HINT_MISMATCH,
                               ivon_error_set(error, IVON_ERROR_DATA,
                                              "%s: tensor '%s' is missing, %s has it", path,
                                              mean->name, reference_path));
    if (strcmp(reason, "other shape") == 0)
        return ivon_error_hint(
            error, IVON_HINT_MISMATCH,
            ivon_error_set(
                error, IVON_ERROR_DATA, "%s: tensor '%s': shape %s, %s has %s", path, mean->name,
                ivon_tensor_shape_text(ivon_source_tensor(source, (size_t)input->mean), found),
                reference_path, ivon_tensor_shape_text(reference, expected)));
    return ivon_error_hint(
        error, source == merge->base ? IVON_HINT_BASE_PRECISION : IVON_HINT_NO_HESSIAN,
        ivon_error_set(error, IVON_ERROR_DATA, "%s: tensor '%s' has no Hessian", path, mean->name));
}

/* Checks the Hessians that the formula or the result needs. */
static int check_hessians(const struct ivon_merge *merge, const struct merge_entry *entry,
                          struct ivon_error *error)
{
    if (!merge->with_hessian)
        return 0;
    int code = 0;
    if (merge->base && entry->base.hessian >= 0)
        code = posterior_check_hessian(
            merge->base, ivon_source_tensor(merge->base, (size_t)entry->base.mean),
            ivon_source_tensor(merge->base, (size_t)entry->base.hessian), true, error);
    for (size_t t = 0; t < merge->model_count && !code; t++) {
        struct ivon_source *source = merge->models[t].source;
        code = posterior_check_hessian(source,
                                       ivon_source_tensor(source, (size_t)entry->models[t].mean),
                                       ivon_source_tensor(source, (size_t)entry->models[t].hessian),
                                       !merge->base_in_formula, error);
    }
    return code;
}

/* The base's dtype, else the widest of the models', f32 for a mixture of f16 and bf16. */
static enum ivon_dtype output_dtype(const struct ivon_merge *merge, const struct merge_entry *entry)
{
    if (merge->options.dtype != IVON_DTYPE_KEEP)
        return (enum ivon_dtype)merge->options.dtype;
    if (merge->base)
        return ivon_source_tensor(merge->base, (size_t)entry->base.mean)->dtype;
    enum ivon_dtype widest = IVON_DTYPE_COUNT;
    for (size_t t = 0; t < merge->model_count; t++) {
        size_t mean = (size_t)entry->models[t].mean;
        enum ivon_dtype dtype = ivon_source_tensor(merge->models[t].source, mean)->dtype;
        bool mixed = widest != dtype && widest != IVON_DTYPE_COUNT && widest >= IVON_F16 &&
                     dtype >= IVON_F16;
        widest = mixed ? IVON_F32 : dtype < widest ? dtype : widest;
    }
    return widest;
}

/* The outputs get the reference's shape and, if names differ, the first input's name. */
static int merge_tensors_add_outputs(struct ivon_merge *merge, struct merge_entry *entry,
                                     const struct ivon_tensor *mean,
                                     const struct ivon_tensor *reference, struct ivon_error *error)
{
    struct ivon_tensor output = *reference;
    output.name = mean->name;
    output.dtype = output_dtype(merge, entry);
    entry->count = reference->count;
    entry->output = merge->outputs.count;
    int code = tensor_list_append(&merge->outputs, &output, error);
    if (code || !merge->with_hessian)
        return code;
    output.part = IVON_HESSIAN;
    output.dtype = IVON_F32;
    entry->output_hessian = (ptrdiff_t)merge->outputs.count;
    return tensor_list_append(&merge->outputs, &output, error);
}

static bool is_tied(const struct ivon_merge *merge, const char *name)
{
    for (size_t i = 0; i < merge->tie_count; i++)
        if (strcmp(merge->ties[i].name, name) == 0)
            return true;
    return false;
}

/* Returns whether a file has a mean under exactly this name, or as a second name. */
static bool has_name(const struct ivon_source *source, const char *name)
{
    return ivon_source_find(source, IVON_MEAN, name) >= 0 || ivon_source_alias(source, name);
}

/* Plans one tensor that all inputs should have. */
static int plan_tensor(struct ivon_merge *merge, const struct ivon_tensor *mean,
                       struct ivon_error *error)
{
    const struct ivon_merge_options *options = &merge->options;
    if (options->selected && !options->selected(options->selected_context, mean->name))
        return merge_tensors_keep(merge, mean, "not selected", error);
    if (merge->base && is_tied(merge, mean->name) && !has_name(merge->base, mean->name))
        return add_fate(merge, mean, IVON_SKIPPED, "another name of a tensor", error);
    struct merge_entry *entry = add_entry(merge, error);
    if (!entry)
        return IVON_ERROR_MEMORY;
    entry->models = calloc(merge->model_count, sizeof *entry->models);
    if (!entry->models)
        return ivon_error_memory(error);
    const struct ivon_tensor *reference = NULL;
    const char *reference_path = NULL, *reason = NULL;
    const struct ivon_source *source = NULL;
    const struct merge_input *input = NULL;
    bool base_hessian = merge->with_hessian && merge->base_in_formula &&
                        !merge_base_precision_known(merge);
    for (size_t i = merge->base ? 0 : 1; i <= merge->model_count && !reason; i++) {
        bool is_base = i == 0;
        source = is_base ? merge->base : merge->models[i - 1].source;
        struct merge_input *slot = is_base ? &entry->base : &entry->models[i - 1];
        input = slot;
        reason = match_input(merge, source, mean->name,
                             is_base ? base_hessian : merge->with_hessian, reference, slot);
        if (!reason && !reference) {
            reference = ivon_source_tensor(source, (size_t)slot->mean);
            reference_path = ivon_source_path(source);
        }
    }
    if (!reason) { /* all inputs have it: `mean` is the first input's, which is the reference */
        int code = set_weights(merge, entry, mean->name, error);
        if (!code)
            code = check_hessians(merge, entry, error);
        if (!code)
            code = add_fate(merge, mean, IVON_MERGED, NULL, error);
        return code || !reference ? code
                                  : merge_tensors_add_outputs(merge, entry, mean, reference, error);
    }
    int code = 0;
    if (!merge->missing) {
        merge->missing = mean->name;
        merge->missing_from = ivon_source_path(source);
    }
    if (options->on_mismatch == IVON_MISMATCH_ERROR)
        code = mismatch_error(merge, source, mean, input, reason, reference,
                              reference_path ? reference_path : "another input", error);
    merge_release_entry(entry);
    merge->entry_count--;
    if (code)
        return code;
    return options->on_mismatch == IVON_MISMATCH_BASE
               ? merge_tensors_keep(merge, mean, reason, error)
               : add_fate(merge, mean, IVON_SKIPPED, reason, error);
}

/* Plans every mean of `source` that no earlier input has. */
static int plan_means(struct ivon_merge *merge, const struct ivon_source *source,
                      size_t earlier_models, struct ivon_error *error)
{
    int code = 0;
    for (size_t i = 0; i < ivon_source_tensor_count(source) && !code; i++) {
        const struct ivon_tensor *tensor = ivon_source_tensor(source, i);
        if (tensor->part != IVON_MEAN)
            continue;
        bool seen = merge->base && source != merge->base &&
                    ivon_source_find(merge->base, IVON_MEAN, tensor->name) >= 0;
        for (size_t t = 0; t < earlier_models && !seen; t++)
            seen = ivon_source_find(merge->models[t].source, IVON_MEAN, tensor->name) >= 0;
        if (!seen)
            code = plan_tensor(merge, tensor, error);
    }
    return code;
}

static int plan_all_means(struct ivon_merge *merge, struct ivon_error *error)
{
    int code = merge->base ? plan_means(merge, merge->base, 0, error) : 0;
    for (size_t t = 0; t < merge->model_count && !code; t++)
        code = plan_means(merge, merge->models[t].source, t, error);
    return code;
}

/* Fails on selected opaque tensors: they are not read, so the caller has to exclude them. */
static int refuse_opaque(const struct ivon_merge *merge, const struct ivon_source *source,
                         struct ivon_error *error)
{
    const struct ivon_merge_options *options = &merge->options;
    for (size_t i = 0; i < ivon_source_tensor_count(source); i++) {
        const struct ivon_tensor *tensor = ivon_source_tensor(source, i);
        if (tensor->part == IVON_OPAQUE &&
            (!options->selected ||
             options->selected(options->selected_context, ivon_tensor_bare_name(tensor))))
            return ivon_error_hint(
                error, IVON_HINT_EXCLUSION,
                ivon_error_set(error, IVON_ERROR_DATA,
                               "%s: tensor '%s' is stored as %s, which cannot be merged: leave "
                               "it out",
                               ivon_source_path(source), tensor->name, tensor->stored_as));
    }
    return 0;
}

static int refuse_all_opaque(const struct ivon_merge *merge, struct ivon_error *error)
{
    int code = merge->base ? refuse_opaque(merge, merge->base, error) : 0;
    for (size_t t = 0; t < merge->model_count && !code; t++)
        code = refuse_opaque(merge, merge->models[t].source, error);
    return code;
}

/* Plans an opaque tensor: it is kept where the result can hold it, else left out. */
static int plan_opaque(struct ivon_merge *merge, struct ivon_source *from, size_t index,
                       struct ivon_error *error)
{
    const struct ivon_merge_options *options = &merge->options;
    const struct ivon_tensor *tensor = ivon_source_tensor(from, index);
    bool kept = options->carries && options->carries(options->carries_context, tensor);
    int code = add_fate(merge, tensor, kept ? IVON_KEPT : IVON_SKIPPED, "not selected", error);
    return code || !kept ? code : merge_tensors_copy_tensor(merge, from, index, error);
}

/* Plans the buffers and the graph of the base or, without one, of the first model. */
static int plan_buffers_and_graph(struct ivon_merge *merge, struct ivon_error *error)
{
    struct ivon_source *from = merge_copy_source(merge);
    int code = 0;
    for (size_t i = 0; i < ivon_source_tensor_count(from) && !code; i++) {
        enum ivon_part part = ivon_source_tensor(from, i)->part;
        if (part == IVON_BUFFER || part == IVON_GRAPH)
            code = merge_tensors_copy_tensor(merge, from, i, error);
        else if (part == IVON_OPAQUE)
            code = plan_opaque(merge, from, i, error);
    }
    return code;
}

int merge_plan_tensors(struct ivon_merge *merge, struct ivon_error *error)
{
    int code = refuse_all_opaque(merge, error);
    if (!code)
        code = plan_all_means(merge, error);
    return code ? code : plan_buffers_and_graph(merge, error);
}
