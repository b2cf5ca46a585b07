/* Results as sums of the models' changes, for those who know these in another form. */
#include <math.h>

#include "bayes/merge/private.h"

/* The entry of an output, of which entries have rising ones; null for a Hessian. */
static const struct merge_entry *find_entry(const struct ivon_merge *merge, size_t output)
{
    size_t low = 0, high = merge->entry_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (merge->entries[middle].output < output)
            low = middle + 1;
        else
            high = middle;
    }
    const struct merge_entry *entry = low < merge->entry_count ? &merge->entries[low] : NULL;
    return entry && entry->output == output ? entry : NULL;
}

/* An output's number among all of them, those included that results of means alone lack. */
static size_t whole_output(const struct ivon_merge *merge, size_t output)
{
    size_t i = output;
    while (merge->place_in_means && merge->place_in_means[i] != (ptrdiff_t)output)
        i++;
    return i;
}

double ivon_merge_coefficient(const struct ivon_merge *merge, size_t output, size_t model,
                              size_t result)
{
    const struct merge_entry *entry = find_entry(merge, whole_output(merge, output));
    size_t t = 0;
    if (!entry || !entry->models)
        return 0;
    while (merge->models[t].caller_index != model)
        t++;
    double weight = merge_weight(merge, entry, &merge->results[result], t);
    if (merge->options.method == IVON_MERGE_TASK_ARITHMETIC)
        return merge->results[result].scale * weight;
    return merge->options.method == IVON_MERGE_AVERAGE && merge->base
               ? weight / merge_weight_sum(merge, entry, &merge->results[result])
               : NAN;
}
