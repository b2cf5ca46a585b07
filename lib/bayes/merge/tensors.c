/* Decides which tensors are merged, copied or left out. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bayes/merge/private.h"
#include "core/error.h"

/* The models' weights for the tensor of that name. */
static int set_weights(const struct ivon_merge *merge, struct merge_entry *entry, const char *name,
                       struct ivon_error *error)
{
    if (!merge->options.weight)
        return 0;
    entry->weights = calloc(merge->model_count + 1, sizeof *entry->weights);
    if (!entry->weights)
        return ivon_error_memory(error);
    for (size_t t = 0; t < merge->model_count; t++) {
        int code = merge_find_weight(merge, t, name, &entry->weights[t], error);
        if (code)
            return code;
    }
    for (size_t r = 0; r < merge->result_count; r++) {
        const char *problem = merge_weights_problem(merge, entry, &merge->results[r]);
        if (problem)
            return ivon_error_set(error, IVON_ERROR_ARGUMENT, "tensor '%s': %s", name, problem);
    }
    return 0;
}

/* Finds a tensor in one input and compares it with the reference, which is null for the first
   input. Returns the reason why the tensor is not merged, or null. */
static const char *match_input(const struct ivon_merge *merge, size_t index, const char *name,
                               bool needs_hessian, const struct ivon_tensor *reference,
                               struct merge_input *input)
{
    const struct ivon_source *source = index ? merge->models[index - 1].source : merge->base;
    input->mean = merge_find_mean(merge, source, name);
    if (input->mean < 0)
        return "missing";
    input->hessian = ivon_source_find(source, IVON_HESSIAN,
                                      ivon_source_tensor(source, (size_t)input->mean)->name);
    const struct ivon_tensor *mean = ivon_source_tensor(source, (size_t)input->mean);
    bool by_rows = merge->options.vocabulary != IVON_VOCABULARY_MISMATCH;
    if (reference && !posterior_same_shape(mean, reference) &&
        !(by_rows && merge_only_rows_differ(mean, reference)))
        return "other shape";
    return needs_hessian && !merge_hessian_of(merge, index, input) ? "no Hessian" : NULL;
}

/* Checks the Hessians that the formula or the result needs. */
static int check_hessians(const struct ivon_merge *merge, const struct merge_entry *entry,
                          struct ivon_error *error)
{
    if (!merge->with_hessian)
        return 0;
    int code = 0;
    for (size_t i = merge->base ? 0 : 1; i <= merge->model_count && !code; i++) {
        struct ivon_source *source = i ? merge->models[i - 1].source : merge->base;
        const struct merge_input *input = i ? &entry->models[i - 1] : &entry->base;
        const struct ivon_tensor *hessian = merge_hessian_of(merge, i, input);
        bool with_weight_decay = i == 0 || !merge->base_in_formula;
        if (!hessian)
            continue;
        code = merge_in_block(merge, i, input->mean)
                   ? posterior_check_scale(source, hessian, with_weight_decay, error)
                   : posterior_check_hessian(source,
                                             ivon_source_tensor(source, (size_t)input->mean),
                                             hessian, with_weight_decay, error);
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
    entry->structured = merge_is_structured(merge, entry);
    if (code || !merge->with_hessian || entry->structured)
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

/* Plans a tensor that all inputs have; `mean` is the first one's. */
static int plan_merged(struct ivon_merge *merge, struct merge_entry *entry,
                       const struct ivon_tensor *mean, struct ivon_error *error)
{
    size_t owner = merge_rows_owner(merge, entry);
    struct ivon_tensor reference = *ivon_source_tensor(merge_source(merge, owner),
                                                       (size_t)merge_input_of(entry, owner)->mean);
    reference.name = mean->name;
    int code = set_weights(merge, entry, mean->name, error);
    if (!code)
        code = check_hessians(merge, entry, error);
    if (!code)
        code = merge_add_fate(merge, &reference, IVON_MERGED, NULL, error);
    if (!code)
        code = merge_tensors_add_outputs(merge, entry, mean, &reference, error);
    return code ? code : merge_split_rows(merge, owner, error);
}

/* Plans one tensor that all inputs should have. */
static int plan_tensor(struct ivon_merge *merge, const struct ivon_tensor *mean,
                       struct ivon_error *error)
{
    const struct ivon_merge_options *options = &merge->options;
    if (options->selected && !options->selected(options->selected_context, mean->name))
        return merge_keep_tensor(merge, mean, "not selected", error);
    if (merge->base && is_tied(merge, mean->name) && !has_name(merge->base, mean->name))
        return merge_add_fate(merge, mean, IVON_SKIPPED, "another name of a tensor", error);
    if (merge->method->copies)
        return merge_plan_passage(merge, mean, error);
    struct merge_entry *entry = merge_add_entry(merge, error);
    if (!entry)
        return IVON_ERROR_MEMORY;
    entry->models = calloc(merge->model_count, sizeof *entry->models);
    if (!entry->models)
        return ivon_error_memory(error);
    struct merge_mismatch match = {.reference_path = "another input"};
    bool base_hessian = merge->with_hessian && merge->base_in_formula &&
                        !merge_base_precision_known(merge);
    for (size_t i = merge->base ? 0 : 1; i <= merge->model_count && !match.reason; i++) {
        bool is_base = i == 0;
        match.source = is_base ? merge->base : merge->models[i - 1].source;
        struct merge_input *slot = is_base ? &entry->base : &entry->models[i - 1];
        match.reason = match_input(merge, i, mean->name,
                                   is_base ? base_hessian : merge->with_hessian, match.reference,
                                   slot);
        match.input = *slot;
        if (!match.reason && !match.reference) {
            match.reference = ivon_source_tensor(match.source, (size_t)slot->mean);
            match.reference_path = ivon_source_path(match.source);
        }
    }
    if (!match.reason)
        return plan_merged(merge, entry, mean, error);
    merge_release_entry(entry);
    merge->entry_count--;
    return merge_plan_mismatch(merge, mean, &match, error);
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
    int code = merge_add_fate(merge, tensor, kept ? IVON_KEPT : IVON_SKIPPED, "not selected",
                              error);
    return code || !kept ? code : merge_plan_copy(merge, from, index, tensor->name, error);
}

/* Means alone are for those who know of no posterior, and of no tensor that is a graph. */
static bool keeps_graph(const struct ivon_merge *merge, const struct ivon_tensor *graph)
{
    const struct ivon_merge_options *options = &merge->options;
    return !merge_is_of_means(merge) ||
           (options->carries && options->carries(options->carries_context, graph));
}

/* Plans the buffers and the graph of the base or, without one, of the first model. */
static int plan_buffers_and_graph(struct ivon_merge *merge, struct ivon_error *error)
{
    struct ivon_source *from = merge_copy_source(merge);
    int code = 0;
    for (size_t i = 0; i < ivon_source_tensor_count(from) && !code; i++) {
        const struct ivon_tensor *tensor = ivon_source_tensor(from, i);
        if (tensor->part == IVON_BUFFER ||
            (tensor->part == IVON_GRAPH && keeps_graph(merge, tensor)))
            code = merge_plan_copy(merge, from, i, tensor->name, error);
        else if (tensor->part == IVON_OPAQUE)
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
