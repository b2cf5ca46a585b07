/* Groups whose merged precision is not positive. */
#include <math.h>
#include <stdio.h>

#include "bayes/merge/structured/structured.h"
#include "core/error.h"

int merge_refuse_group(struct merge_run *run, size_t result, const struct merge_group *group,
                       double worst, struct ivon_error *error)
{
    struct ivon_merge *merge = run->merge;
    const struct ivon_merge_options *options = &merge->options;
    char scale[48] = "", value[48] = "";
    if (options->on_nonpositive == IVON_NONPOSITIVE_BASE) {
        merge->nonpositive[result] += merge_group_size(group);
        return 0;
    }
    if (merge->results[result].factors)
        snprintf(scale, sizeof scale, " of result %zu", result + 1);
    else if (merge->result_count > 1)
        snprintf(scale, sizeof scale, " at scale %g", merge->results[result].scale);
    if (!isnan(worst))
        snprintf(value, sizeof value, ", where it is %g", worst);
    return ivon_error_hint(
        error, merge->base ? IVON_HINT_NONPOSITIVE : IVON_HINT_NONPOSITIVE_BASE,
        ivon_error_set(error, IVON_ERROR_DATA,
                       "tensor '%s': the merged precision%s is not positive along some "
                       "direction%s",
                       merge->outputs.items[merge->entries[group->weight].output].name, scale,
                       value));
}
