/* The inputs of an entry. */
#include "bayes/merge/private.h"

struct ivon_source *merge_source(const struct ivon_merge *merge, size_t input)
{
    return input ? merge->models[input - 1].source : merge->base;
}

const struct merge_input *merge_input_of(const struct merge_entry *entry, size_t input)
{
    return input ? &entry->models[input - 1] : &entry->base;
}

bool merge_reads(const struct ivon_merge *merge, const struct merge_entry *entry, size_t input)
{
    return merge_source(merge, input) && (entry->alone < 0 || entry->alone == (ptrdiff_t)input);
}

bool merge_only_rows_differ(const struct ivon_tensor *a, const struct ivon_tensor *b)
{
    return a->rank == b->rank && (a->rank == 1 || a->rank == 2) && a->shape[0] != b->shape[0] &&
           (a->rank == 1 || a->shape[1] == b->shape[1]);
}
