/* Decides which tensors are merged as matrices. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bayes/merge/structured/structured.h"
#include "bayes/posterior.h"
#include "core/error.h"

static int map_entries(struct ivon_merge *merge, struct ivon_error *error)
{
    struct merge_structured *structured = merge->structured;
    for (size_t i = merge->base ? 0 : 1; i <= merge->model_count; i++) {
        size_t count = ivon_source_tensor_count(merge_input_source(merge, i));
        ptrdiff_t *entry_of = calloc(count + 1, sizeof *entry_of);
        if (!entry_of)
            return ivon_error_memory(error);
        structured->entry_of[i] = entry_of;
        for (size_t k = 0; k < count; k++)
            entry_of[k] = -1;
        for (size_t e = 0; e < merge->entry_count; e++)
            if (merge->entries[e].models)
                entry_of[merge_entry_input(&merge->entries[e], i)->mean] = (ptrdiff_t)e;
    }
    return 0;
}

static const char *group_name(const struct ivon_merge *merge, const struct merge_group *group)
{
    return merge->outputs.items[merge->entries[group->weight].output].name;
}

static int refuse_split(const struct ivon_merge *merge, size_t input,
                        const struct structure_block *block, struct ivon_error *error)
{
    struct ivon_source *source = merge_input_source(merge, input);
    return ivon_error_hint(
        error, IVON_HINT_SELECTION,
        ivon_error_set(error, IVON_ERROR_DATA,
                       "%s: '%s' and '%s' have one covariance: merge both, or neither",
                       ivon_source_path(source), ivon_source_tensor(source, block->weight)->name,
                       ivon_source_tensor(source, (size_t)block->bias)->name));
}

/* Sets a group's tensors from the first input that has a block of the entry. */
static int group_from_block(const struct ivon_merge *merge, struct merge_group *group, size_t input,
                            const struct structure_block *block, struct ivon_error *error)
{
    const ptrdiff_t *entry_of = merge->structured->entry_of[input];
    ptrdiff_t weight = entry_of[block->weight];
    group->bias = block->bias < 0 ? -1 : entry_of[block->bias];
    if (weight < 0 || (block->bias >= 0 && group->bias < 0))
        return refuse_split(merge, input, block, error);
    group->weight = (size_t)weight;
    group->rows = block->rows;
    group->columns = block->columns;
    group->transposed = block->transposed;
    return 0;
}

/* Fails unless an input has the group as one block, or its tensors in none. */
static int check_agreement(const struct ivon_merge *merge, const struct merge_group *group,
                           size_t input, struct ivon_error *error)
{
    const ptrdiff_t *entry_of = merge->structured->entry_of[input];
    const struct merge_entry *entries = merge->entries;
    bool same = true;
    for (int member = 0; member < 2; member++) {
        ptrdiff_t entry = member ? group->bias : (ptrdiff_t)group->weight;
        const struct structure_block *block =
            entry < 0
                ? NULL
                : merge_group_block(merge, input, merge_entry_input(&entries[entry], input)->mean);
        if (!block)
            continue;
        same &= entry_of[block->weight] == (ptrdiff_t)group->weight &&
                (block->bias < 0 ? -1 : entry_of[block->bias]) == group->bias &&
                block->transposed == group->transposed && block->columns == group->columns;
    }
    return same ? 0
                : ivon_error_set(error, IVON_ERROR_DATA,
                                 "%s: '%s' has its covariance with another bias, or stands the "
                                 "other way round, than in another input",
                                 ivon_source_path(merge_input_source(merge, input)),
                                 group_name(merge, group));
}

static void share_bases(const struct ivon_merge *merge, struct merge_group *group)
{
    const struct merge_entry *entry = &merge->entries[group->weight];
    for (int side = 0; side < MERGE_SIDES; side++)
        group->shared[side].tensor = -1;
    for (size_t i = merge->base ? 0 : 1; i <= merge->model_count; i++) {
        const struct structure_block *block = merge_group_block(merge, i,
                                                                merge_entry_input(entry, i)->mean);
        if (!block)
            continue;
        const ptrdiff_t bases[MERGE_SIDES] = {block->input_basis, block->output_basis};
        for (int side = 0; side < MERGE_SIDES; side++)
            if (group->shared[side].tensor < 0) {
                group->shared[side].from = i;
                group->shared[side].tensor = bases[side];
            }
    }
}

/* One covariance has one weight. */
static int check_weights(const struct ivon_merge *merge, const struct merge_group *group,
                         struct ivon_error *error)
{
    for (size_t t = 0; t < merge->model_count && merge->options.weight; t++) {
        const struct merge_entry *entries = merge->entries;
        if (merge_has_correction(merge) && !merge->method->grams)
            return ivon_error_set(
                error, IVON_ERROR_ARGUMENT,
                "single tensors cannot have weights of their own where a low-rank "
                "correction is of all");
        if (group->bias >= 0 &&
            entries[group->weight].weights[t] != entries[group->bias].weights[t])
            return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                                  "'%s' and its bias have one covariance, and weights %g and %g: "
                                  "give both the same",
                                  group_name(merge, group), entries[group->weight].weights[t],
                                  entries[group->bias].weights[t]);
    }
    return 0;
}

/* The group of an entry that is in none yet. */
static int add_group(struct ivon_merge *merge, size_t index, struct ivon_error *error)
{
    struct merge_structured *structured = merge->structured;
    struct merge_group *group = &structured->groups[structured->group_count];
    struct merge_entry *entry = &merge->entries[index];
    bool regmean = merge->method->grams;
    size_t first = merge->base && !regmean ? 0 : 1;
    *group = (struct merge_group){
        .weight = index, .bias = -1, .rows = 1, .columns = entry->count, .transposed = false};
    int code = 0;
    for (size_t i = first; i <= merge->model_count; i++) {
        const struct structure_block *block = merge_group_block(merge, i,
                                                                merge_entry_input(entry, i)->mean);
        if (!block)
            continue;
        code = group_from_block(merge, group, i, block, error);
        break;
    }
    for (size_t i = first; i <= merge->model_count && !code; i++)
        code = check_agreement(merge, group, i, error);
    if (!code)
        code = check_weights(merge, group, error);
    if (code)
        return code;
    share_bases(merge, group);
    merge->entries[group->weight].group = (ptrdiff_t)structured->group_count;
    if (group->bias >= 0)
        merge->entries[group->bias].group = (ptrdiff_t)structured->group_count;
    structured->group_count++;
    return 0;
}

/* Vectors of a correction have parts in all tensors: leaving some out would change the others'. */
static int refuse_partial_vectors(const struct ivon_merge *merge, struct ivon_error *error)
{
    const struct merge_structured *structured = merge->structured;
    for (size_t i = merge->base ? 0 : 1; i <= merge->model_count; i++) {
        struct ivon_source *source = merge_input_source(merge, i);
        const struct structure *structure = structured->structures[i];
        for (size_t k = 0; k < ivon_source_tensor_count(source) && structure->rank; k++) {
            const struct ivon_tensor *hessian = ivon_source_tensor(source, k);
            if (hessian->part != IVON_HESSIAN || structure->vectors[k] < 0)
                continue;
            ptrdiff_t mean = ivon_source_find(source, IVON_MEAN, hessian->name);
            if (structured->entry_of[i][mean] < 0)
                return ivon_error_hint(
                    error, IVON_HINT_SELECTION,
                    ivon_error_set(error, IVON_ERROR_DATA,
                                   "%s: '%s' is in a low-rank correction with others that are "
                                   "merged: merge all of them, or none",
                                   ivon_source_path(source), hessian->name));
        }
    }
    return 0;
}

size_t merge_group_count(const struct ivon_merge *merge)
{
    return merge->structured->group_count;
}

static uint64_t group_tensor_bytes(const struct ivon_source *source, ptrdiff_t tensor)
{
    const struct ivon_tensor *found = tensor < 0 ? NULL
                                                 : ivon_source_tensor(source, (size_t)tensor);
    return found ? found->count * ivon_dtype_size(found->dtype) : 0;
}

uint64_t merge_group_bytes(const struct ivon_merge *merge, size_t index)
{
    const struct merge_group *group = &merge->structured->groups[index];
    bool means = !merge_is_streamed(merge, &merge->entries[group->weight]);
    uint64_t bytes = 0;
    for (size_t i = merge->base ? 0 : 1; i <= merge->model_count; i++) {
        const struct ivon_source *source = merge_input_source(merge, i);
        for (int bias = 0; bias < 1 + (group->bias >= 0); bias++) {
            const struct merge_input *input = merge_entry_input(
                merge_group_entry(merge, group, bias), i);
            const struct structure_block *block = merge_group_block(merge, i, input->mean);
            bytes += means ? group_tensor_bytes(source, input->mean) : 0;
            if (block && bias)
                continue;
            bytes += group_tensor_bytes(source, block ? block->hessian : input->hessian);
            bytes += block ? group_tensor_bytes(source, block->input_basis) +
                                 group_tensor_bytes(source, block->output_basis) +
                                 group_tensor_bytes(source, block->gram)
                           : 0;
        }
    }
    return bytes;
}

int merge_structured_plan(struct ivon_merge *merge, struct ivon_error *error)
{
    struct merge_structured *structured = merge->structured;
    if (!structured)
        return 0;
    structured->groups = calloc(merge->entry_count + 1, sizeof *structured->groups);
    structured->solves = calloc(merge->entry_count + 1, sizeof *structured->solves);
    int code = structured->groups && structured->solves ? map_entries(merge, error)
                                                        : ivon_error_memory(error);
    for (size_t e = 0; e < merge->entry_count && !code; e++) {
        const struct merge_entry *entry = &merge->entries[e];
        if (entry->models && entry->structured && entry->group < 0)
            code = add_group(merge, e, error);
    }
    if (!code && !structured->group_count && merge->method->grams)
        code = ivon_error_hint(
            error, IVON_HINT_GRAM,
            ivon_error_set(error, IVON_ERROR_DATA,
                           "of no weight has every model the Gram matrix of its inputs, nor an "
                           "input basis with its spectrum"));
    if (!code && structured->low_rank && structured->group_count && !merge->method->grams)
        code = refuse_partial_vectors(merge, error);
    return code ? code : merge_list_structure(merge, error);
}
