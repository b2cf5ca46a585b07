/* Refuses inputs that cannot be merged: adapters, and models that share no tensor. */
#include <string.h>

#include "bayes/adapter/names.h"
#include "bayes/merge/private.h"
#include "core/error.h"
#include "core/names.h"

static bool selected_mean(const struct ivon_merge *merge, const struct ivon_tensor *tensor)
{
    const struct ivon_merge_options *options = &merge->options;
    return tensor->part == IVON_MEAN &&
           (!options->selected || options->selected(options->selected_context, tensor->name));
}

static int refuse_factors(const struct ivon_merge *merge, const struct ivon_source *source,
                          struct ivon_error *error)
{
    for (size_t i = 0; i < ivon_source_tensor_count(source); i++) {
        const struct ivon_tensor *tensor = ivon_source_tensor(source, i);
        if (selected_mean(merge, tensor) && name_any_component(tensor->name, adapter_is_factor))
            return ivon_error_hint(
                error, merge->base ? IVON_HINT_NONE : IVON_HINT_BASE,
                ivon_error_set(error, IVON_ERROR_DATA,
                               "%s: '%s' is a factor of a low-rank adapter (LoRA): factors merged "
                               "apart are not those of the merged product; what is merged is the "
                               "model that an adapter makes of its base, by the "
                               "adapter_config.json beside it",
                               ivon_source_path(source), tensor->name));
    }
    return 0;
}

int merge_refuse_adapters(const struct ivon_merge *merge, struct ivon_error *error)
{
    int code = merge->base ? refuse_factors(merge, merge->base, error) : 0;
    for (size_t t = 0; t < merge->model_count && !code; t++)
        code = refuse_factors(merge, merge->models[t].source, error);
    return code;
}

/* The length of the common prefix and suffix of two names, as a share of the longer name. */
static double name_similarity(const char *a, const char *b)
{
    size_t length_a = strlen(a), length_b = strlen(b), front = 0, back = 0;
    size_t shorter = length_a < length_b ? length_a : length_b;
    while (front < shorter && a[front] == b[front])
        front++;
    while (front + back < shorter && a[length_a - 1 - back] == b[length_b - 1 - back])
        back++;
    return (double)(front + back) / (double)(length_a > length_b ? length_a : length_b);
}

/* Reports a model that has none of the reference's tensors, with the two most similar names. */
static int refuse_unrelated(const struct ivon_merge *merge, const struct ivon_source *model,
                            const struct ivon_source *reference, struct ivon_error *error)
{
    enum { COMPARED_MAX = 64 /* tensors of the model */ };
    const char *model_name = NULL, *reference_name = NULL;
    double nearest = -1;
    size_t compared = 0;
    for (size_t i = 0; i < ivon_source_tensor_count(model) && compared < COMPARED_MAX; i++) {
        const struct ivon_tensor *mean = ivon_source_tensor(model, i);
        if (!selected_mean(merge, mean))
            continue;
        compared++;
        for (size_t k = 0; k < ivon_source_tensor_count(reference); k++) {
            const struct ivon_tensor *other = ivon_source_tensor(reference, k);
            double similarity = selected_mean(merge, other)
                                    ? name_similarity(mean->name, other->name)
                                    : -1;
            if (similarity > nearest) {
                nearest = similarity;
                model_name = mean->name;
                reference_name = other->name;
            }
        }
    }
    const char *path = ivon_source_path(model), *other = ivon_source_path(reference);
    if (!model_name)
        return ivon_error_set(error, IVON_ERROR_DATA, "%s: has no tensor to merge with those of %s",
                              path, other);
    return ivon_error_set(error, IVON_ERROR_DATA,
                          "%s: none of its tensors is in %s: the nearest names are '%s' and '%s' "
                          "there; rename the tensors of one file",
                          path, other, model_name, reference_name);
}

/* Returns whether a model has a mean that may be merged and that the reference also knows, under
   this or another name. */
static bool is_related(const struct ivon_merge *merge, const struct ivon_source *model,
                       const struct ivon_source *reference)
{
    for (size_t i = 0; i < ivon_source_tensor_count(model); i++) {
        const struct ivon_tensor *mean = ivon_source_tensor(model, i);
        if (selected_mean(merge, mean) && merge_find_mean(merge, reference, mean->name) >= 0)
            return true;
    }
    return false;
}

static bool any_selected(const struct ivon_merge *merge)
{
    for (size_t t = 0; t < merge->model_count; t++) {
        const struct ivon_source *source = merge->models[t].source;
        for (size_t i = 0; i < ivon_source_tensor_count(source); i++)
            if (selected_mean(merge, ivon_source_tensor(source, i)))
                return true;
    }
    return false;
}

int merge_refuse_unrelated(const struct ivon_merge *merge, struct ivon_error *error)
{
    const struct ivon_source *first = merge_copy_source(merge);
    if (!any_selected(merge))
        return merge->options.selected
                   ? ivon_error_hint(error, IVON_HINT_SELECTION,
                                     ivon_error_set(error, IVON_ERROR_DATA,
                                                    "nothing to merge: no tensor of the models is "
                                                    "selected"))
                   : ivon_error_set(error, IVON_ERROR_DATA,
                                    "nothing to merge: the models have no means");
    for (size_t t = 0; t < merge->model_count && !merge->method->copies; t++) {
        const struct ivon_source *source = merge->models[t].source;
        if (source != first && !is_related(merge, source, first))
            return refuse_unrelated(merge, source, first, error);
    }
    return 0;
}

int merge_refuse_empty(const struct ivon_merge *merge, struct ivon_error *error)
{
    const struct ivon_merge_tensor *example = NULL;
    for (size_t i = 0; i < merge->tensor_count; i++) {
        if (merge->tensors[i].fate == IVON_MERGED)
            return 0;
        if (!example || strcmp(example->reason, "not selected") == 0)
            example = &merge->tensors[i];
    }
    bool known = example && merge->missing && strcmp(merge->missing, example->name) == 0;
    return example ? ivon_error_set(error, IVON_ERROR_DATA,
                                    "nothing to merge: of no tensor have all inputs what it takes "
                                    "('%s': %s%s%s)",
                                    example->name, example->reason, known ? " in " : "",
                                    known ? merge->missing_from : "")
                   : ivon_error_set(error, IVON_ERROR_DATA, "nothing to merge: there is no tensor");
}
