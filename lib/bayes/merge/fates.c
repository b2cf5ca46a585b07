/* The fate of a tensor: copies of it, what is left out, and how inputs differ. */
#include <stdlib.h>
#include <string.h>

#include "bayes/merge/private.h"
#include "core/error.h"

size_t merge_copy_input(const struct ivon_merge *merge)
{
    size_t first = 0;
    while (!merge->base && merge->models[first].caller_index != 0)
        first++;
    return merge->base ? 0 : first + 1;
}

struct ivon_source *merge_copy_source(const struct ivon_merge *merge)
{
    size_t input = merge_copy_input(merge);
    return input ? merge->models[input - 1].source : merge->base;
}

int merge_add_fate(struct ivon_merge *merge, const struct ivon_tensor *mean,
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
        .name = mean->name,
        .fate = fate,
        .reason = reason,
        .count = mean->part == IVON_OPAQUE ? 0 : mean->count};
    return 0;
}

struct merge_entry *merge_add_entry(struct ivon_merge *merge, struct ivon_error *error)
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
    *entry = (struct merge_entry){.output_hessian = -1, .base = {-1, -1}, .alone = -1, .group = -1};
    return entry;
}

void merge_release_entry(struct merge_entry *entry)
{
    free(entry->models);
    free(entry->weights);
}

int merge_plan_copy(struct ivon_merge *merge, struct ivon_source *from, size_t index,
                    const char *name, struct ivon_error *error)
{
    struct ivon_tensor tensor = *ivon_source_tensor(from, index);
    tensor.name = name;
    if (tensor.part == IVON_MEAN && merge->options.dtype != IVON_DTYPE_KEEP)
        tensor.dtype = (enum ivon_dtype)merge->options.dtype;
    struct merge_entry *entry = merge_add_entry(merge, error);
    if (!entry)
        return error ? error->code : IVON_ERROR_MEMORY;
    entry->count = tensor.count;
    entry->output = merge->outputs.count;
    entry->from = from;
    entry->from_tensor = index;
    entry->compare = tensor.part == IVON_BUFFER;
    return tensor_list_append(&merge->outputs, &tensor, error);
}

int merge_keep_tensor(struct ivon_merge *merge, const struct ivon_tensor *mean, const char *reason,
                      struct ivon_error *error)
{
    struct ivon_source *from = merge_copy_source(merge);
    ptrdiff_t index = ivon_source_find(from, IVON_MEAN, mean->name);
    ptrdiff_t hessian = ivon_source_find(from, IVON_HESSIAN, mean->name);
    if (index < 0)
        return merge_add_fate(merge, mean, IVON_SKIPPED, reason, error);
    int code = merge_add_fate(merge, ivon_source_tensor(from, (size_t)index), IVON_KEPT, reason,
                              error);
    if (!code)
        code = merge_plan_copy(merge, from, (size_t)index, mean->name, error);
    /* A block's Hessian is kept with the block. */
    if (!code && hessian >= 0 && merge->with_hessian &&
        !merge_in_block(merge, merge_copy_input(merge), index)) {
        code = posterior_check_hessian(from, ivon_source_tensor(from, (size_t)index),
                                       ivon_source_tensor(from, (size_t)hessian), true, error);
        if (!code)
            code = merge_plan_copy(merge, from, (size_t)hessian, mean->name, error);
    }
    return code;
}

static int mismatch_error(const struct ivon_merge *merge, const struct ivon_tensor *mean,
                          const struct merge_mismatch *mismatch, struct ivon_error *error)
{
    char found[256], expected[256];
    const struct ivon_source *source = mismatch->source;
    const char *path = ivon_source_path(source);
    if (mismatch->input.mean < 0)
        return ivon_error_hint(error, IVON_HINT_MISMATCH,
                               ivon_error_set(error, IVON_ERROR_DATA,
                                              "%s: tensor '%s' is missing, %s has it", path,
                                              mean->name, mismatch->reference_path));
    if (strcmp(mismatch->reason, "other shape") == 0) {
        const struct ivon_tensor *other = ivon_source_tensor(source, (size_t)mismatch->input.mean);
        bool rows = merge_only_rows_differ(other, mismatch->reference);
        return ivon_error_hint(
            error, rows ? IVON_HINT_VOCABULARY : IVON_HINT_MISMATCH,
            ivon_error_set(error, IVON_ERROR_DATA, "%s: tensor '%s': shape %s, %s has %s", path,
                           mean->name, ivon_tensor_shape_text(other, found),
                           mismatch->reference_path,
                           ivon_tensor_shape_text(mismatch->reference, expected)));
    }
    return ivon_error_hint(
        error, source == merge->base ? IVON_HINT_BASE_PRECISION : IVON_HINT_NO_HESSIAN,
        ivon_error_set(error, IVON_ERROR_DATA, "%s: tensor '%s' has no Hessian", path, mean->name));
}

int merge_plan_mismatch(struct ivon_merge *merge, const struct ivon_tensor *mean,
                        const struct merge_mismatch *mismatch, struct ivon_error *error)
{
    if (!merge->missing) {
        merge->missing = mean->name;
        merge->missing_from = ivon_source_path(mismatch->source);
    }
    switch (merge->options.on_mismatch) {
    case IVON_MISMATCH_ERROR:
        return mismatch_error(merge, mean, mismatch, error);
    case IVON_MISMATCH_BASE:
        return merge_keep_tensor(merge, mean, mismatch->reason, error);
    default:
        return merge_add_fate(merge, mean, IVON_SKIPPED, mismatch->reason, error);
    }
}
