/* Elements whose merged precision is not positive. */
#include <math.h>
#include <stdio.h>

#include "bayes/merge/run.h"
#include "core/error.h"

static void record_shortfall(struct merge_run *run, size_t entry, size_t result, size_t at,
                             double value)
{
    struct merge_shortfall *shortfall = &run->shortfall;
    pthread_mutex_lock(&run->lock);
    if (entry < shortfall->entry || (entry == shortfall->entry && result < shortfall->result))
        *shortfall = (struct merge_shortfall){.entry = entry, .result = result, .worst = INFINITY};
    if (entry == shortfall->entry && result == shortfall->result) {
        shortfall->count++;
        if (value < shortfall->worst ||
            (value == shortfall->worst && at < shortfall->worst_index)) {
            shortfall->worst = value;
            shortfall->worst_index = at;
        }
    }
    pthread_mutex_unlock(&run->lock);
}

void merge_handle_nonpositive(struct merge_run *run, struct merge_scratch *scratch,
                              size_t entry_index, size_t result, size_t at, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        scratch->dropped[i] = scratch->precision[i] <= 0 && isfinite(scratch->precision[i]);
        if (!scratch->dropped[i])
            continue;
        if (run->merge->options.on_nonpositive == IVON_NONPOSITIVE_BASE &&
            scratch->base_precision[i] > 0) {
            scratch->mean[i] = scratch->base_mean[i];
            scratch->precision[i] = scratch->base_precision[i];
            scratch->nonpositive[result]++;
        } else {
            record_shortfall(run, entry_index, result, at + i, scratch->precision[i]);
            scratch->mean[i] = 0;
            scratch->precision[i] = 1;
        }
    }
}

bool merge_earlier_failed(struct merge_run *run, size_t entry)
{
    pthread_mutex_lock(&run->lock);
    bool later = entry > run->shortfall.entry;
    pthread_mutex_unlock(&run->lock);
    return later;
}

int merge_report_shortfall(const struct merge_run *run, struct ivon_error *error)
{
    const struct ivon_merge *merge = run->merge;
    const struct merge_shortfall *shortfall = &run->shortfall;
    if (shortfall->entry == SIZE_MAX)
        return 0;
    const struct merge_entry *entry = &merge->entries[shortfall->entry];
    const struct merge_result *result = &merge->results[shortfall->result];
    char scale[48] = "";
    if (result->factors)
        snprintf(scale, sizeof scale, " of result %zu", shortfall->result + 1);
    else if (merge->result_count > 1)
        snprintf(scale, sizeof scale, " at scale %g", result->scale);
    enum ivon_hint hint = merge->options.on_nonpositive == IVON_NONPOSITIVE_BASE ? IVON_HINT_NONE
                          : merge->base ? IVON_HINT_NONPOSITIVE
                                        : IVON_HINT_NONPOSITIVE_BASE;
    int code = ivon_error_set(
        error, IVON_ERROR_DATA,
        "tensor '%s': the merged precision%s is not positive for %llu of %zu elements, the worst "
        "%g at element %zu%s",
        merge->outputs.items[entry->output].name, scale, (unsigned long long)shortfall->count,
        entry->count, shortfall->worst, shortfall->worst_index,
        hint == IVON_HINT_NONE ? "; nor is the base's" : "");
    return ivon_error_hint(error, hint, code);
}
