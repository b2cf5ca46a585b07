/*
 * Vocabularies of different size: embeddings and output layers of which one input has more rows
 * than another. As rows lie one behind the other, the common ones are the same elements in every
 * input and in the result.
 */
#include <math.h>
#include <stdlib.h>

#include "bayes/merge/private.h"
#include "core/error.h"

static const struct ivon_tensor *rows_tensor(const struct ivon_merge *merge,
                                             const struct merge_entry *entry, size_t input)
{
    return ivon_source_tensor(merge_source(merge, input),
                              (size_t)merge_input_of(entry, input)->mean);
}

size_t merge_rows_owner(const struct ivon_merge *merge, const struct merge_entry *entry)
{
    size_t first = merge->base ? 0 : 1, owner = first;
    if (merge->options.vocabulary == IVON_VOCABULARY_LONGEST) {
        for (size_t i = first + 1; i <= merge->model_count; i++)
            if (rows_tensor(merge, entry, i)->count > rows_tensor(merge, entry, owner)->count)
                owner = i;
    } else if (!merge->base && merge->options.vocabulary == IVON_VOCABULARY_BASE) {
        while (merge->models[owner - 1].caller_index != 0)
            owner++;
    }
    return owner;
}

/* Fails unless every input has as many rows as in the tensors before. */
static int check_vocabulary(struct ivon_merge *merge, const struct merge_entry *entry,
                            struct ivon_error *error)
{
    bool first = !merge->rows;
    if (first)
        merge->rows = calloc(merge->model_count + 1, sizeof *merge->rows);
    if (!merge->rows)
        return ivon_error_memory(error);
    for (size_t i = merge->base ? 0 : 1; i <= merge->model_count; i++) {
        const struct ivon_tensor *tensor = rows_tensor(merge, entry, i);
        if (first)
            merge->rows[i] = (struct merge_rows){tensor->shape[0], tensor->name};
        else if (merge->rows[i].count != tensor->shape[0])
            return ivon_error_hint(
                error, IVON_HINT_EXCLUSION,
                ivon_error_set(error, IVON_ERROR_DATA,
                               "%s: tensor '%s' has %lld rows and '%s' %lld: they are not those of "
                               "one vocabulary",
                               ivon_source_path(merge_source(merge, i)), tensor->name,
                               (long long)tensor->shape[0], merge->rows[i].name,
                               (long long)merge->rows[i].count));
    }
    return 0;
}

/* Fails unless the owner has the precision of its own rows, if one is to be written. */
static int check_other_rows(const struct ivon_merge *merge, size_t owner, struct ivon_error *error)
{
    const struct merge_entry *entry = &merge->entries[merge->entry_count - 1];
    const struct ivon_source *source = merge_source(merge, owner);
    const struct ivon_tensor *mean = rows_tensor(merge, entry, owner);
    ptrdiff_t hessian = merge_input_of(entry, owner)->hessian;
    if (!merge->with_hessian || (owner == 0 && hessian < 0 && !isnan(merge->options.delta0)))
        return 0;
    if (hessian < 0)
        return ivon_error_hint(error, IVON_HINT_NO_HESSIAN,
                               ivon_error_set(error, IVON_ERROR_DATA,
                                              "%s: tensor '%s' has no Hessian",
                                              ivon_source_path(source), mean->name));
    return posterior_check_hessian(source, mean, ivon_source_tensor(source, (size_t)hessian), true,
                                   error);
}

/* Plans the rows of the owner behind the common ones, `common` elements. */
static int add_other_rows(struct ivon_merge *merge, size_t owner, size_t common,
                          struct ivon_error *error)
{
    int code = check_other_rows(merge, owner, error);
    if (code)
        return code;
    struct merge_entry *others = merge_add_entry(merge, error);
    struct merge_input *inputs = calloc(merge->model_count, sizeof *inputs);
    if (!others || !inputs) {
        free(inputs);
        return ivon_error_memory(error);
    }
    struct merge_entry *entry = others - 1;
    *others = *entry;
    others->models = inputs;
    others->weights = NULL;
    for (size_t t = 0; t < merge->model_count; t++)
        inputs[t] = entry->models[t];
    others->first = common;
    others->count = entry->count - common;
    others->alone = (ptrdiff_t)owner;
    entry->count = common;
    return 0;
}

static int refuse_structured_rows(const struct ivon_merge *merge, const char *name,
                                  struct ivon_error *error)
{
    bool grams = merge->method->grams;
    return ivon_error_hint(
        error, grams ? IVON_HINT_EXCLUSION : IVON_HINT_DIAGONAL,
        ivon_error_set(error, IVON_ERROR_DATA,
                       grams ? "tensor '%s': rows of vocabularies of different size cannot be "
                               "merged by Gram matrices"
                             : "tensor '%s': rows of vocabularies of different size cannot be "
                               "told apart in a structured Hessian, expected a diagonal one",
                       name));
}

int merge_split_rows(struct ivon_merge *merge, size_t owner, struct ivon_error *error)
{
    struct merge_entry *entry = &merge->entries[merge->entry_count - 1];
    const struct ivon_tensor *all = rows_tensor(merge, entry, owner), *shortest = all;
    bool differ = false;
    for (size_t i = merge->base ? 0 : 1; i <= merge->model_count; i++) {
        const struct ivon_tensor *tensor = rows_tensor(merge, entry, i);
        differ |= merge_only_rows_differ(tensor, all);
        shortest = tensor->shape[0] < shortest->shape[0] ? tensor : shortest;
    }
    if (!differ)
        return 0;
    if (entry->structured)
        return refuse_structured_rows(merge, all->name, error);
    int code = check_vocabulary(merge, entry, error);
    if (code)
        return code;
    struct ivon_merge_tensor *fate = &merge->tensors[merge->tensor_count - 1];
    fate->merged_rows = (size_t)shortest->shape[0];
    fate->other_rows = (size_t)(all->shape[0] - shortest->shape[0]);
    fate->others_from = ivon_source_path(merge_source(merge, owner));
    return fate->other_rows ? add_other_rows(merge, owner, shortest->count, error) : 0;
}
