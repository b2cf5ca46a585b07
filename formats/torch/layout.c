/*
 * Names for IVON's flat vectors by where the parameters lie. A step leaves all parameters of a
 * group as views of one storage, in the group's order, so that the offset in the storage is the
 * index in the vector. After drawing a sample and restoring the mean, it is one storage over all
 * groups.
 */
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "formats/torch/private.h"

/* The unknown entries in one storage; flat: they fill it from its start without holes. */
struct run {
    size_t first, count; /* in the sorted entries */
    size_t elements;
    bool flat, used;
};

struct layout {
    size_t *entries; /* by storage, then offset */
    size_t entry_count;
    struct run *runs;
    size_t run_count;
};

struct place {
    size_t storage, entry;
    uint64_t offset;
};

static int torch_layout_compare_places(const void *a, const void *b)
{
    const struct place *left = a, *right = b;
    if (left->storage != right->storage)
        return left->storage < right->storage ? -1 : 1;
    if (left->offset != right->offset)
        return left->offset < right->offset ? -1 : 1;
    return (left->entry > right->entry) - (left->entry < right->entry);
}

static int compare_size(const struct run *run, size_t count, size_t elements)
{
    if (run->count != count)
        return run->count < count ? -1 : 1;
    return (run->elements > elements) - (run->elements < elements);
}

static int compare_runs(const void *a, const void *b)
{
    const struct run *left = a, *right = b;
    int order = compare_size(left, right->count, right->elements);
    return order ? order : (left->first > right->first) - (left->first < right->first);
}

static void add_to_run(struct layout *layout, const struct torch_state *state, size_t at)
{
    const struct torch_tensor *tensor = &state->entries[layout->entries[at]].tensor;
    const struct torch_tensor *before = at ? &state->entries[layout->entries[at - 1]].tensor : NULL;
    bool begins = !before || before->storage != tensor->storage;
    if (begins)
        layout->runs[layout->run_count++] = (struct run){.first = at, .flat = true};
    struct run *run = &layout->runs[layout->run_count - 1];
    run->flat = run->flat && tensor->contiguous && tensor->offset == run->elements &&
                (begins || before->stored == tensor->stored);
    run->count++;
    run->elements += tensor->count;
}

static int layout_init(struct layout *layout, const struct torch_state *state,
                       struct ivon_error *error)
{
    struct place *places = calloc(state->count + 1, sizeof *places);
    *layout = (struct layout){.entries = calloc(state->count + 1, sizeof *layout->entries),
                              .runs = calloc(state->count + 1, sizeof *layout->runs)};
    int code = places && layout->entries && layout->runs ? 0 : ivon_error_memory(error);
    for (size_t i = 0; i < state->count && !code; i++) {
        const struct torch_entry *entry = &state->entries[i];
        if (entry->role == TORCH_UNKNOWN && entry->tensor.count)
            places[layout->entry_count++] = (struct place){entry->tensor.storage, i,
                                                           entry->tensor.offset};
    }
    if (!code)
        qsort(places, layout->entry_count, sizeof *places, torch_layout_compare_places);
    for (size_t i = 0; i < layout->entry_count; i++) {
        layout->entries[i] = places[i].entry;
        add_to_run(layout, state, i);
    }
    if (!code)
        qsort(layout->runs, layout->run_count, sizeof *layout->runs, compare_runs);
    free(places);
    return code;
}

static void layout_release(struct layout *layout)
{
    free(layout->entries);
    free(layout->runs);
}

/* The first of the runs of that size, of which *count are flat and together in their order. */
static struct run *find_runs(const struct layout *layout, size_t tensors, size_t elements,
                             size_t *count)
{
    size_t low = 0, high = layout->run_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (compare_size(&layout->runs[middle], tensors, elements) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    struct run *first = NULL;
    *count = 0;
    for (size_t i = low; i < layout->run_count &&
                         compare_size(&layout->runs[i], tensors, elements) == 0 && *count < 2;
         i++) {
        if (!layout->runs[i].flat)
            continue;
        first = first ? first : &layout->runs[i];
        ++*count;
    }
    return first;
}

/* Gives a group the entries from `at` on that its vector covers; false when they do not. */
static bool covers(const struct layout *layout, const struct torch_state *state, size_t at,
                   const struct torch_group *group)
{
    size_t elements = 0;
    for (size_t i = 0; i < group->parameter_count; i++)
        elements += state->entries[layout->entries[at + i]].tensor.count;
    return elements == group->hessian.count;
}

static void torch_layout_assign(const struct layout *layout, struct torch_state *state, size_t at,
                                const struct torch_optimizer *optimizer, size_t group)
{
    size_t start = 0;
    for (size_t i = 0; i < optimizer->groups[group].parameter_count; i++) {
        size_t entry = layout->entries[at + i];
        torch_assign(state, entry, group, start);
        start += state->entries[entry].tensor.count;
    }
}

/* One storage over all groups. */
static bool map_one_storage(struct layout *layout, struct torch_state *state,
                            const struct torch_optimizer *optimizer)
{
    size_t elements = 0, fits;
    for (size_t g = 0; g < optimizer->group_count; g++)
        elements += optimizer->groups[g].hessian.count;
    struct run *run = find_runs(layout, optimizer->parameter_count, elements, &fits);
    if (fits != 1)
        return false;
    for (size_t g = 0; g < optimizer->group_count; g++)
        if (!covers(layout, state, run->first + optimizer->groups[g].first, &optimizer->groups[g]))
            return false;
    for (size_t g = 0; g < optimizer->group_count; g++)
        torch_layout_assign(layout, state, run->first + optimizer->groups[g].first, optimizer, g);
    return true;
}

static int torch_layout_ambiguous(const struct layout *layout, const struct torch_state *state,
                                  const struct torch_group *group, size_t index,
                                  struct ivon_error *error)
{
    char list[TORCH_NAMES];
    bool *chosen = calloc(state->count + 1, sizeof *chosen);
    if (!chosen)
        return ivon_error_memory(error);
    for (size_t i = 0; i < layout->run_count; i++)
        if (layout->runs[i].flat &&
            compare_size(&layout->runs[i], group->parameter_count, group->hessian.count) == 0)
            chosen[layout->entries[layout->runs[i].first]] = true;
    int code = ivon_error_set(
        error, IVON_ERROR_DATA,
        "%s: group %zu of the optimizer may be any of those that begin with %s, as large as each "
        "other: give the optimizer names (named_parameters), or save it when sampled_params() was "
        "left",
        state->path, index, torch_name_list(state, chosen, list));
    free(chosen);
    return code;
}

/* A storage for each group. *fits when each has one that no other has; a group of one tensor may
   also be a copy, and then the order has to decide. */
static int choose_runs(struct layout *layout, const struct torch_state *state,
                       const struct torch_optimizer *optimizer, struct run **chosen, bool *fits,
                       struct ivon_error *error)
{
    *fits = true;
    for (size_t g = 0; g < optimizer->group_count && *fits; g++) {
        const struct torch_group *group = &optimizer->groups[g];
        size_t count;
        chosen[g] = find_runs(layout, group->parameter_count, group->hessian.count, &count);
        *fits = count == 1 && !chosen[g]->used;
        if (!*fits && count && group->parameter_count > 1)
            return torch_layout_ambiguous(layout, state, group, g, error);
        if (*fits)
            chosen[g]->used = true;
    }
    return 0;
}

int torch_map_offsets(struct torch_state *state, const struct torch_optimizer *optimizer,
                      enum torch_rule *rule, struct ivon_error *error)
{
    struct layout layout;
    bool fits = false;
    struct run **chosen = calloc(optimizer->group_count + 1, sizeof *chosen);
    int code = layout_init(&layout, state, error);
    if (!code && !chosen)
        code = ivon_error_memory(error);
    *rule = TORCH_NO_RULE;
    if (!code && map_one_storage(&layout, state, optimizer))
        *rule = TORCH_BY_OFFSETS;
    else if (!code)
        code = choose_runs(&layout, state, optimizer, chosen, &fits, error);
    if (!code && fits) {
        for (size_t g = 0; g < optimizer->group_count; g++)
            torch_layout_assign(&layout, state, chosen[g]->first, optimizer, g);
        *rule = TORCH_BY_OFFSETS;
    }
    free(chosen);
    layout_release(&layout);
    return code;
}

bool torch_is_flat(const struct torch_state *state, const struct torch_optimizer *optimizer)
{
    const struct torch_tensor **first = calloc(optimizer->group_count + 1, sizeof *first);
    bool flat = first != NULL;
    for (size_t pass = 0; pass < 2 && flat; pass++) {
        for (size_t i = 0; i < state->count && flat; i++) {
            const struct torch_entry *entry = &state->entries[i];
            if (entry->group < 0 || (pass == 0 && entry->place))
                continue;
            const struct torch_tensor **start = &first[entry->group];
            if (pass == 0)
                *start = &entry->tensor;
            else
                flat = *start && entry->tensor.storage == (*start)->storage &&
                       entry->tensor.offset == (*start)->offset + entry->place;
        }
    }
    free(first);
    return flat;
}
