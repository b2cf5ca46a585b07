/* Names for the optimizer's numbers out of the optimizer's state itself. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "formats/torch/private.h"

/* Of all groups' parameters, in order. */
struct names {
    struct torch_text *names;
    char *copies; /* without what wrappers put into them */
    size_t count, prefix;
};

/* The name of each parameter in one of the ways in which groups have them; null when one has
   none. */
static const struct pickle_node *name_node(const struct torch_group *group, size_t i,
                                           bool as_parameters)
{
    struct pickle_node **nodes = as_parameters ? group->parameters : group->names;
    return nodes && nodes[i]->kind == PICKLE_STRING ? nodes[i] : NULL;
}

static bool gather_names(const struct torch_optimizer *optimizer, bool as_parameters,
                         struct names *names)
{
    names->count = 0;
    for (size_t g = 0; g < optimizer->group_count; g++) {
        const struct torch_group *group = &optimizer->groups[g];
        for (size_t i = 0; i < group->parameter_count; i++) {
            const struct pickle_node *node = name_node(group, i, as_parameters);
            if (!node)
                return false;
            names->names[names->count++] = (struct torch_text){node->text, node->length};
        }
    }
    return true;
}

static int gather_list(const struct torch_optimizer *optimizer,
                       const struct ivon_open_options *options, struct names *names,
                       struct ivon_error *error)
{
    if (options->parameter_count != optimizer->parameter_count)
        return ivon_error_set(
            error, IVON_ERROR_DATA, "%s: the optimizer has %zu parameters, and %zu are listed",
            optimizer->path, optimizer->parameter_count, options->parameter_count);
    for (size_t i = 0; i < options->parameter_count; i++)
        names->names[i] = (struct torch_text){options->parameters[i],
                                              strlen(options->parameters[i])};
    names->count = options->parameter_count;
    return 0;
}

/* The same changes as are made to the state dict's. */
static int torch_names_strip_wrappers(struct names *names, struct ivon_error *error)
{
    size_t size = 0, at = 0;
    for (size_t i = 0; i < names->count; i++)
        size += names->names[i].length;
    names->copies = malloc(size + 1);
    if (!names->copies)
        return ivon_error_memory(error);
    for (size_t i = 0; i < names->count; i++) {
        struct torch_text *name = &names->names[i];
        char *copy = names->copies + at;
        memcpy(copy, name->start, name->length);
        at += name->length;
        *name = (struct torch_text){copy, torch_unwrap(copy, name->length)};
    }
    names->prefix = torch_prefix(names->names, names->count);
    return 0;
}

static int compare_entries(const void *a, const void *b)
{
    const struct torch_entry *const *left = a, *const *right = b;
    return strcmp((*left)->name, (*right)->name);
}

/* The entry of that name, or the earlier one that it is tied to; null when there is none. */
static struct torch_entry *torch_names_find_entry(struct torch_state *state,
                                                  struct torch_entry **sorted, const char *name,
                                                  size_t length)
{
    size_t low = 0, high = state->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        struct torch_entry *entry = sorted[middle];
        /* NOLINTNEXTLINE(clang-analyzer-core.NonNullParamChecker): all are gathered */
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

static int torch_names_assign(struct torch_state *state, struct torch_entry **sorted,
                              const struct names *names, size_t i, size_t group, size_t place,
                              struct torch_entry **assigned, struct ivon_error *error)
{
    size_t length = names->names[i].length, prefix = names->prefix;
    const char *name = names->names[i].start;
    struct torch_entry *entry = torch_names_find_entry(state, sorted, name + prefix,
                                                       length - prefix);
    int shown = length - prefix < 256 ? (int)(length - prefix) : 256;
    if (!entry)
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: the optimizer's parameter '%.*s' is not in the state dict",
                              state->path, shown, name + prefix);
    if (entry->role != TORCH_UNKNOWN)
        return ivon_error_set(error, IVON_ERROR_DATA, "%s: the optimizer's parameter '%.*s' is %s",
                              state->path, shown, name + prefix,
                              entry->role == TORCH_MEAN ? "named twice" : "a buffer");
    torch_assign(state, (size_t)(entry - state->entries), group, place);
    *assigned = entry;
    return 0;
}

static int torch_names_assign_group(struct torch_state *state,
                                    const struct torch_optimizer *optimizer,
                                    struct torch_entry **sorted, const struct names *names,
                                    size_t g, struct ivon_error *error)
{
    const struct torch_group *group = &optimizer->groups[g];
    const struct torch_moment *moments = optimizer->moments;
    size_t start = 0;
    for (size_t i = group->first; i < group->first + group->parameter_count; i++) {
        struct torch_entry *entry = NULL;
        int code = torch_names_assign(state, sorted, names, i, g, moments ? i : start, &entry,
                                      error);
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

static int torch_names_assign_groups(struct torch_state *state,
                                     const struct torch_optimizer *optimizer,
                                     const struct names *names, struct ivon_error *error)
{
    struct torch_entry **sorted = calloc(state->count + 1, sizeof *sorted);
    int code = sorted ? 0 : ivon_error_memory(error);
    for (size_t i = 0; i < state->count && !code; i++)
        sorted[i] = &state->entries[i];
    if (!code)
        qsort(sorted, state->count, sizeof *sorted, compare_entries);
    for (size_t g = 0; g < optimizer->group_count && !code; g++)
        code = torch_names_assign_group(state, optimizer, sorted, names, g, error);
    free(sorted);
    return code;
}

int torch_map_names(struct torch_state *state, const struct torch_optimizer *optimizer,
                    const struct ivon_open_options *options, enum torch_rule *rule,
                    struct ivon_error *error)
{
    struct names names = {.names = calloc(optimizer->parameter_count + 1, sizeof *names.names)};
    int code = names.names ? 0 : ivon_error_memory(error);
    *rule = TORCH_NO_RULE;
    if (!code && options->parameters) {
        *rule = TORCH_BY_LIST;
        code = gather_list(optimizer, options, &names, error);
    } else if (!code && gather_names(optimizer, true, &names)) {
        *rule = TORCH_BY_PARAMS;
    } else if (!code && gather_names(optimizer, false, &names)) {
        *rule = TORCH_BY_PARAM_NAMES;
    }
    if (!code && *rule != TORCH_NO_RULE)
        code = torch_names_strip_wrappers(&names, error);
    if (!code && *rule != TORCH_NO_RULE)
        code = torch_names_assign_groups(state, optimizer, &names, error);
    free(names.copies);
    free(names.names);
    return code;
}
