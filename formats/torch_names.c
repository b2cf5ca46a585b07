/* Names for the optimizer's numbers out of the optimizer's state itself. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "formats/torch_private.h"

struct names {
    const struct pickle_node **nodes; /* of all groups' parameters, in order */
    size_t count, prefix;
};

static const char *node_name(const void *context, size_t i, size_t *length)
{
    const struct names *names = context;
    *length = names->nodes[i]->length;
    return names->nodes[i]->text;
}

/* Whether every group names each of its parameters, in one of the two ways. */
static bool gather_names(const struct torch_optimizer *optimizer, bool as_parameters,
                         struct names *names)
{
    names->count = 0;
    for (size_t g = 0; g < optimizer->group_count; g++) {
        const struct torch_group *group = &optimizer->groups[g];
        struct pickle_node **nodes = as_parameters ? group->parameters : group->names;
        for (size_t i = 0; i < group->parameter_count; i++) {
            if (!nodes || nodes[i]->kind != PICKLE_STRING)
                return false;
            names->nodes[names->count++] = nodes[i];
        }
    }
    return true;
}

static int compare_entries(const void *a, const void *b)
{
    const struct torch_entry *const *left = a, *const *right = b;
    return strcmp((*left)->name, (*right)->name);
}

/* The entry of that name, or the earlier one that it is tied to; null when there is none. */
static struct torch_entry *find_entry(struct torch_state *state, struct torch_entry **sorted,
                                      const char *name, size_t length)
{
    size_t low = 0, high = state->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        struct torch_entry *entry = sorted[middle];
        int order = strncmp(entry->name, name, length);
        if (order == 0 && !entry->name[length])
            return entry->role == TORCH_TIED ? &state->entries[entry->tied_to] : entry;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

static int take_named(struct torch_state *state, struct torch_entry **sorted,
                      const struct names *names, size_t i, size_t group, size_t place,
                      struct torch_entry **taken, struct ivon_error *error)
{
    size_t length, prefix = names->prefix;
    const char *name = node_name(names, i, &length);
    struct torch_entry *entry = find_entry(state, sorted, name + prefix, length - prefix);
    int shown = length - prefix < 256 ? (int)(length - prefix) : 256;
    if (!entry)
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: the optimizer's parameter '%.*s' is not in the state dict",
                              state->path, shown, name + prefix);
    if (entry->role != TORCH_UNKNOWN)
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: the optimizer's parameter '%.*s' is %s", state->path, shown,
                              name + prefix,
                              entry->role == TORCH_MEAN ? "named twice" : "a buffer");
    torch_take(state, (size_t)(entry - state->entries), group, place);
    *taken = entry;
    return 0;
}

static int take_group(struct torch_state *state, const struct torch_optimizer *optimizer,
                      struct torch_entry **sorted, const struct names *names, size_t g,
                      struct ivon_error *error)
{
    const struct torch_group *group = &optimizer->groups[g];
    const struct torch_moment *moments = optimizer->moments;
    size_t start = 0;
    for (size_t i = group->first; i < group->first + group->parameter_count; i++) {
        struct torch_entry *entry = NULL;
        int code = take_named(state, sorted, names, i, g, moments ? i : start, &entry, error);
        if (code)
            return code;
        start += entry->tensor.count;
        if (moments && moments[i].known && !torch_same_shape(&moments[i].tensor, &entry->tensor))
            return ivon_error_set(error, IVON_ERROR_DATA,
                                  "%s: tensor '%s': its second moment has another shape",
                                  state->path, entry->name);
    }
    if (!moments && start != group->hessian.count)
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: the parameters of group %zu have %zu elements, hess has %zu",
                              state->path, g, start, group->hessian.count);
    return 0;
}

int torch_map_names(struct torch_state *state, const struct torch_optimizer *optimizer,
                    enum torch_rule *rule, struct ivon_error *error)
{
    struct names names = {.nodes = calloc(optimizer->parameter_count + 1, sizeof *names.nodes)};
    struct torch_entry **sorted = calloc(state->count + 1, sizeof *sorted);
    int code = names.nodes && sorted ? 0 : ivon_error_memory(error);
    *rule = TORCH_NO_RULE;
    if (!code && gather_names(optimizer, true, &names))
        *rule = TORCH_BY_PARAMS;
    else if (!code && gather_names(optimizer, false, &names))
        *rule = TORCH_BY_PARAM_NAMES;
    if (*rule != TORCH_NO_RULE) {
        names.prefix = torch_prefix(names.count, node_name, &names);
        for (size_t i = 0; i < state->count; i++)
            sorted[i] = &state->entries[i];
        qsort(sorted, state->count, sizeof *sorted, compare_entries);
        for (size_t g = 0; g < optimizer->group_count && !code; g++)
            code = take_group(state, optimizer, sorted, &names, g, error);
    }
    free(sorted);
    free(names.nodes);
    return code;
}
