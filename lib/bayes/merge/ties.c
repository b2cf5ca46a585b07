/*
 * Tied weights: one tensor of a model under two names, of which files hold both or one. A name that
 * some inputs lack is tied to another when every input that has both holds the same bits under
 * them, and those that lack it have the other. Tensors of one value alone, such as zeros, say
 * nothing: they are equal without being one.
 */
#include <stdlib.h>
#include <string.h>

#include "bayes/merge/private.h"
#include "bayes/transfer.h"
#include "core/error.h"

enum {
    BLOCK = 1 << 16,    /* elements compared at once */
    MISSING_MAX = 1000, /* names that inputs lack: those of other models are not compared */
};

struct search {
    struct ivon_merge *merge;
    struct ivon_source **inputs; /* base, if any, and models */
    size_t input_count;
    unsigned char *blocks[2];
};

ptrdiff_t merge_find_mean(const struct ivon_merge *merge, const struct ivon_source *source,
                          const char *name)
{
    ptrdiff_t found = ivon_source_find(source, IVON_MEAN, name);
    const char *other = found < 0 ? ivon_source_alias(source, name) : NULL;
    if (other)
        found = ivon_source_find(source, IVON_MEAN, other);
    for (size_t i = 0; i < merge->tie_count && found < 0; i++)
        if (strcmp(merge->ties[i].name, name) == 0)
            found = ivon_source_find(source, IVON_MEAN, merge->ties[i].other);
    return found;
}

static bool has_mean(const struct ivon_source *source, const char *name)
{
    return ivon_source_find(source, IVON_MEAN, name) >= 0;
}

static bool merge_ties_is_missing(const struct ivon_source *source, const char *name)
{
    return !has_mean(source, name) && !ivon_source_alias(source, name);
}

/* The first input that lacks a name; null for none. */
static const struct ivon_source *first_without(const struct search *search, const char *name)
{
    for (size_t i = 0; i < search->input_count; i++)
        if (merge_ties_is_missing(search->inputs[i], name))
            return search->inputs[i];
    return NULL;
}

static bool is_alias(const struct ivon_source *source, const char *name, const char *other)
{
    const char *target = ivon_source_alias(source, name);
    return target && strcmp(target, other) == 0;
}

/* Returns whether any element of a block differs from the first one. */
static bool varies(const unsigned char *block, size_t size, size_t count)
{
    return count > 1 && memcmp(block, block + size, (count - 1) * size) != 0;
}

/* Compares two tensors of a source. *same receives true if they hold the same bits. *varied becomes
   true if their elements are not all equal; otherwise it stays. */
static int merge_ties_compare(struct search *search, struct ivon_source *source, size_t a, size_t b,
                              bool *same, bool *varied, struct ivon_error *error)
{
    const struct ivon_tensor *tensor = ivon_source_tensor(source, a);
    size_t size = ivon_dtype_size(tensor->dtype);
    unsigned char before[sizeof(double)];
    *same = true;
    for (size_t first = 0; first < tensor->count && *same; first += BLOCK) {
        size_t count = tensor->count - first < BLOCK ? tensor->count - first : BLOCK;
        const unsigned char *left, *right;
        int code = transfer_fetch(source, a, first, count, BLOCK, &search->blocks[0], &left, error);
        if (!code)
            code = transfer_fetch(source, b, first, count, BLOCK, &search->blocks[1], &right,
                                  error);
        if (code)
            return code;
        *same = memcmp(left, right, count * size) == 0;
        *varied = *varied || varies(left, size, count) ||
                  (first && memcmp(before, left, size) != 0);
        memcpy(before, left, size);
    }
    return 0;
}

/* Returns whether `name` can be a second name of `other`, by names, types and shapes alone. */
static bool merge_ties_is_candidate(const struct search *search, const char *name,
                                    const char *other)
{
    for (size_t i = 0; i < search->input_count; i++) {
        const struct ivon_source *source = search->inputs[i];
        ptrdiff_t a = ivon_source_find(source, IVON_MEAN, name);
        ptrdiff_t b = ivon_source_find(source, IVON_MEAN, other);
        if (merge_ties_is_missing(source, name) && b < 0)
            return false;
        if (a < 0 || b < 0)
            continue;
        const struct ivon_tensor *left = ivon_source_tensor(source, (size_t)a);
        const struct ivon_tensor *right = ivon_source_tensor(source, (size_t)b);
        if (left->dtype != right->dtype || !posterior_same_shape(left, right))
            return false;
    }
    return true;
}

/* Clears *same if both names have Hessians that differ. */
static int compare_hessians(struct search *search, struct ivon_source *source, const char *name,
                            const char *other, bool *same, struct ivon_error *error)
{
    ptrdiff_t a = ivon_source_find(source, IVON_HESSIAN, name);
    ptrdiff_t b = ivon_source_find(source, IVON_HESSIAN, other);
    bool varied = false;
    if (a < 0 || b < 0)
        return 0;
    const struct ivon_tensor *left = ivon_source_tensor(source, (size_t)a);
    const struct ivon_tensor *right = ivon_source_tensor(source, (size_t)b);
    *same = left->dtype == right->dtype && posterior_same_shape(left, right);
    return *same ? merge_ties_compare(search, source, (size_t)a, (size_t)b, same, &varied, error)
                 : 0;
}

/* Compares the two names in every input. *evidence is the first input that shows them to be one
   tensor, by equal elements or by its own list of aliases. */
static int check_tie(struct search *search, const char *name, const char *other,
                     const struct ivon_source **evidence, struct ivon_error *error)
{
    const struct ivon_source *first = NULL;
    bool same = true, varied = false;
    *evidence = NULL;
    for (size_t i = 0; i < search->input_count && same; i++) {
        struct ivon_source *source = search->inputs[i];
        if (is_alias(source, name, other) || is_alias(source, other, name)) {
            varied = true;
            first = first ? first : source;
            continue;
        }
        ptrdiff_t a = ivon_source_find(source, IVON_MEAN, name);
        ptrdiff_t b = ivon_source_find(source, IVON_MEAN, other);
        if (a < 0 || b < 0)
            continue;
        int code = merge_ties_compare(search, source, (size_t)a, (size_t)b, &same, &varied, error);
        if (!code && same)
            code = compare_hessians(search, source, name, other, &same, error);
        if (code)
            return code;
        first = first ? first : source;
    }
    *evidence = same && varied ? first : NULL;
    return 0;
}

/* Searches an input that lacks a name for the tensor that the name is tied to. */
static int find_tie(struct search *search, const struct ivon_source *incomplete, const char *name,
                    struct ivon_error *error)
{
    struct ivon_merge *merge = search->merge;
    for (size_t i = 0; i < ivon_source_tensor_count(incomplete); i++) {
        const struct ivon_tensor *other = ivon_source_tensor(incomplete, i);
        const struct ivon_source *evidence;
        if (other->part != IVON_MEAN || !merge_ties_is_candidate(search, name, other->name))
            continue;
        int code = check_tie(search, name, other->name, &evidence, error);
        if (code)
            return code;
        if (!evidence)
            continue;
        merge->ties[merge->tie_count++] = (struct ivon_merge_tie){name, other->name,
                                                                  ivon_source_path(evidence)};
        return 0;
    }
    return 0;
}

/* Searches for a tie, once, for each name that some inputs have and others lack. */
static int merge_ties_search_all(struct search *search, struct ivon_error *error)
{
    size_t missing = 0;
    for (size_t i = 0; i < search->input_count; i++) {
        const struct ivon_source *source = search->inputs[i];
        for (size_t k = 0; k < ivon_source_tensor_count(source); k++) {
            const struct ivon_tensor *mean = ivon_source_tensor(source, k);
            const struct ivon_source *incomplete = mean->part == IVON_MEAN
                                                       ? first_without(search, mean->name)
                                                       : NULL;
            if (!incomplete)
                continue;
            bool seen = false;
            for (size_t before = 0; before < i && !seen; before++)
                seen = has_mean(search->inputs[before], mean->name);
            if (seen)
                continue;
            if (++missing > MISSING_MAX)
                return 0;
            int code = find_tie(search, incomplete, mean->name, error);
            if (code)
                return code;
        }
    }
    return 0;
}

int merge_find_ties(struct ivon_merge *merge, struct ivon_error *error)
{
    struct search search = {.merge = merge};
    search.inputs = calloc(merge->model_count + 1, sizeof *search.inputs);
    merge->ties = calloc(MISSING_MAX, sizeof *merge->ties);
    int code = search.inputs && merge->ties ? 0 : ivon_error_memory(error);
    if (!code) {
        if (merge->base)
            search.inputs[search.input_count++] = merge->base;
        for (size_t t = 0; t < merge->model_count; t++)
            search.inputs[search.input_count++] = merge->models[t].source;
        code = merge_ties_search_all(&search, error);
    }
    free(search.inputs);
    free(search.blocks[0]);
    free(search.blocks[1]);
    return code;
}

const struct ivon_merge_tie *ivon_merge_ties(const struct ivon_merge *merge, size_t *count)
{
    *count = merge->tie_count;
    return merge->ties;
}
