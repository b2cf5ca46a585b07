/* The weights of models, for results and for single tensors. */
#include <math.h>

#include "bayes/merge/private.h"
#include "core/error.h"

double merge_weight(const struct ivon_merge *merge, const struct merge_entry *entry,
                    const struct merge_result *result, size_t t)
{
    double weight = entry && entry->weights ? entry->weights[t] : merge->models[t].weight;
    return result->factors ? result->factors[t] * weight : weight;
}

double merge_weight_sum(const struct ivon_merge *merge, const struct merge_entry *entry,
                        const struct merge_result *result)
{
    double sum = 0;
    for (size_t t = 0; t < merge->model_count; t++)
        sum += merge_weight(merge, entry, result, t);
    return sum;
}

const char *merge_weights_problem(const struct ivon_merge *merge, const struct merge_entry *entry,
                                  const struct merge_result *result)
{
    for (size_t t = 0; t < merge->model_count; t++) {
        double weight = merge_weight(merge, entry, result, t);
        if (!isfinite(weight))
            return "weights must be finite numbers";
        if (merge->method->unweighted && weight != 1)
            return "model stock finds its own weights: all must be 1";
    }
    if (!merge->base_in_formula && !merge->method->copies &&
        merge_weight_sum(merge, entry, result) == 0)
        return "the weights add up to zero, which leaves no average";
    return NULL;
}

int merge_find_weight(const struct ivon_merge *merge, size_t t, const char *name, double *weight,
                      struct ivon_error *error)
{
    const struct ivon_merge_options *options = &merge->options;
    *weight = merge->models[t].weight;
    if (options->weight)
        *weight = options->weight(options->weight_context, merge->models[t].caller_index, name);
    return isfinite(*weight)
               ? 0
               : ivon_error_set(error, IVON_ERROR_ARGUMENT,
                                "tensor '%s': a model's weight is %g, expected a finite number",
                                name, *weight);
}
