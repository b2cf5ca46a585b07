/*
 * Names for Adam's second moments, which have their parameters' shapes: the groups' parameters, in
 * their order, are some of the state dict's tensors, in its order. Where groups take turns (weights
 * with weight decay, biases without), it is still settled when each shape belongs to one group.
 */
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "formats/torch_private.h"

bool torch_same_shape(const struct torch_tensor *a, const struct torch_tensor *b)
{
    return a->rank == b->rank && memcmp(a->shape, b->shape, sizeof a->shape) == 0;
}

/* Whether an entry may be the parameter; one that was never updated may be anything. */
static bool fits(const struct torch_state *state, size_t entry, const struct torch_moment *moment)
{
    const struct torch_entry *candidate = &state->entries[entry];
    return candidate->role == TORCH_UNKNOWN &&
           (!moment->known || torch_same_shape(&moment->tensor, &candidate->tensor));
}

/* The first entries, in order, that fit the parameters; or, backwards, the last. Each other choice
   lies between these two. */
static bool embed(const struct torch_state *state, const struct torch_optimizer *optimizer,
                  bool backwards, size_t *entries)
{
    size_t done = 0, count = optimizer->parameter_count;
    for (size_t i = 0; i < state->count && done < count; i++) {
        size_t entry = backwards ? state->count - 1 - i : i;
        size_t parameter = backwards ? count - 1 - done : done;
        if (!fits(state, entry, &optimizer->moments[parameter]))
            continue;
        entries[parameter] = entry;
        done++;
    }
    return done == count;
}

static int ambiguous(const struct torch_state *state, const size_t *first, const size_t *last,
                     size_t count, struct ivon_error *error)
{
    char list[TORCH_NAMES];
    bool *chosen = calloc(state->count + 1, sizeof *chosen);
    if (!chosen)
        return ivon_error_memory(error);
    for (size_t i = 0; i < count; i++)
        if (first[i] != last[i])
            chosen[first[i]] = chosen[last[i]] = true;
    int code = ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: which of %s are buffers, that is, no parameters of the "
                              "optimizer? --buffers='PATTERN' settles it",
                              state->path, torch_name_list(state, chosen, list));
    free(chosen);
    return code;
}

/* A parameter, or an entry, in the order of shapes. */
struct shaped {
    const struct torch_tensor *tensor;
    size_t index, group;
};

static int compare_shapes(const struct torch_tensor *a, const struct torch_tensor *b)
{
    return a->rank != b->rank ? a->rank - b->rank : memcmp(a->shape, b->shape, sizeof a->shape);
}

static int compare_shaped(const void *a, const void *b)
{
    const struct shaped *left = a, *right = b;
    int order = compare_shapes(left->tensor, right->tensor);
    return order ? order : (left->index > right->index) - (left->index < right->index);
}

static bool list_shaped(const struct torch_state *state, const struct torch_optimizer *optimizer,
                        struct shaped *parameters, struct shaped *entries)
{
    size_t count = 0;
    if (state->unknown != optimizer->parameter_count)
        return false;
    for (size_t g = 0; g < optimizer->group_count; g++) {
        const struct torch_group *group = &optimizer->groups[g];
        for (size_t i = group->first; i < group->first + group->parameter_count; i++) {
            if (!optimizer->moments[i].known)
                return false;
            parameters[i] = (struct shaped){&optimizer->moments[i].tensor, i, g};
        }
    }
    for (size_t i = 0; i < state->count; i++)
        if (state->entries[i].role == TORCH_UNKNOWN)
            entries[count++] = (struct shaped){&state->entries[i].tensor, i, 0};
    qsort(parameters, count, sizeof *parameters, compare_shaped);
    qsort(entries, count, sizeof *entries, compare_shaped);
    return true;
}

/* Whether each shape is of as many parameters as entries, and of one group. */
static bool match_by_shape(const struct torch_state *state,
                           const struct torch_optimizer *optimizer, size_t *matched)
{
    size_t count = optimizer->parameter_count;
    struct shaped *parameters = calloc(count + 1, sizeof *parameters);
    struct shaped *entries = calloc(count + 1, sizeof *entries);
    bool fine = parameters && entries && list_shaped(state, optimizer, parameters, entries);
    for (size_t i = 0; i < count && fine; i++) {
        fine = compare_shapes(parameters[i].tensor, entries[i].tensor) == 0 &&
               (i == 0 || parameters[i - 1].group == parameters[i].group ||
                compare_shapes(parameters[i - 1].tensor, parameters[i].tensor) != 0);
        matched[parameters[i].index] = entries[i].index;
    }
    free(parameters);
    free(entries);
    return fine;
}

static void take_all(struct torch_state *state, const struct torch_optimizer *optimizer,
                     const size_t *matched)
{
    for (size_t g = 0; g < optimizer->group_count; g++) {
        const struct torch_group *group = &optimizer->groups[g];
        for (size_t i = group->first; i < group->first + group->parameter_count; i++)
            torch_take(state, matched[i], g, i);
    }
}

int torch_map_shapes(struct torch_state *state, const struct torch_optimizer *optimizer,
                     struct ivon_error *error)
{
    size_t count = optimizer->parameter_count;
    size_t *first = calloc(count + 1, sizeof *first), *last = calloc(count + 1, sizeof *last);
    int code = first && last ? 0 : ivon_error_memory(error);
    if (!code && embed(state, optimizer, false, first) && embed(state, optimizer, true, last)) {
        if (memcmp(first, last, count * sizeof *first) == 0)
            take_all(state, optimizer, first);
        else
            code = ambiguous(state, first, last, count, error);
    } else if (!code && match_by_shape(state, optimizer, first)) {
        take_all(state, optimizer, first);
    } else if (!code) {
        code = ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: the shapes of the optimizer's %zu parameters do not follow the "
                              "%zu tensors of the state dict that are not buffers: give the "
                              "optimizer names (named_parameters)",
                              state->path, count, state->unknown);
    }
    free(first);
    free(last);
    return code;
}
