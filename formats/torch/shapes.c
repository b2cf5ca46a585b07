/*
 * Names for Adam's second moments, which have their parameters' shapes. Each group's parameters are
 * taken to be some of the state dict's tensors, in its order. Which tensor is whose is known only
 * where that leaves one way: where groups share a shape, it is not. Where no order says anything,
 * or it is not followed, each parameter must have a shape that no other has.
 */
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "formats/torch/private.h"

bool torch_same_shape(const struct torch_tensor *a, const struct torch_tensor *b)
{
    return a->rank == b->rank && memcmp(a->shape, b->shape, sizeof a->shape) == 0;
}

/* True if an entry of unknown role may be the parameter: any of them if it was never updated. */
static bool torch_shapes_fits(const struct torch_state *state, size_t entry,
                              const struct torch_moment *moment)
{
    const struct torch_entry *candidate = &state->entries[entry];
    return candidate->role == TORCH_UNKNOWN &&
           (!moment->known || torch_same_shape(&moment->tensor, &candidate->tensor));
}

/* The first entries, in order, that fit a group's parameters; or, backwards, the last. Each other
   choice lies between these two. */
static bool embed(const struct torch_state *state, const struct torch_optimizer *optimizer,
                  const struct torch_group *group, bool backwards, size_t *entries)
{
    size_t done = 0, count = group->parameter_count;
    for (size_t i = 0; i < state->count && done < count; i++) {
        size_t entry = backwards ? state->count - 1 - i : i;
        size_t parameter = group->first + (backwards ? count - 1 - done : done);
        if (!torch_shapes_fits(state, entry, &optimizer->moments[parameter]))
            continue;
        entries[parameter] = entry;
        done++;
    }
    return done == count;
}

static bool embed_all(const struct torch_state *state, const struct torch_optimizer *optimizer,
                      bool backwards, size_t *entries)
{
    bool fine = !state->sorted;
    for (size_t g = 0; g < optimizer->group_count && fine; g++)
        fine = embed(state, optimizer, &optimizer->groups[g], backwards, entries);
    return fine;
}

static int torch_shapes_ambiguous(const struct torch_state *state, const size_t *first,
                                  const size_t *last, size_t count, struct ivon_error *error)
{
    char list[TORCH_NAMES];
    bool *chosen = calloc(state->count + 1, sizeof *chosen);
    if (!chosen)
        return ivon_error_memory(error);
    for (size_t i = 0; i < count; i++)
        if (first[i] != last[i])
            chosen[first[i]] = chosen[last[i]] = true;
    int code = ivon_error_hint(
        error, IVON_HINT_BUFFERS,
        ivon_error_set(error, IVON_ERROR_DATA,
                       "%s: which of %s are buffers, that is, no parameters of the "
                       "optimizer?",
                       state->path, torch_name_list(state, chosen, list)));
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

/* The parameters, and the entries that they may be, by shape. */
struct shapes {
    struct shaped *parameters, *entries;
    size_t parameter_count, entry_count;
    bool all_known;
};

static int list_shapes(struct shapes *shapes, const struct torch_state *state,
                       const struct torch_optimizer *optimizer, struct ivon_error *error)
{
    *shapes = (struct shapes){
        .parameters = calloc(optimizer->parameter_count + 1, sizeof *shapes->parameters),
        .entries = calloc(state->unknown + 1, sizeof *shapes->entries),
        .parameter_count = optimizer->parameter_count,
        .all_known = true};
    if (!shapes->parameters || !shapes->entries)
        return ivon_error_memory(error);
    for (size_t g = 0; g < optimizer->group_count; g++) {
        const struct torch_group *group = &optimizer->groups[g];
        for (size_t i = group->first; i < group->first + group->parameter_count; i++) {
            shapes->parameters[i] = (struct shaped){&optimizer->moments[i].tensor, i, g};
            shapes->all_known &= optimizer->moments[i].known;
        }
    }
    for (size_t i = 0; i < state->count; i++)
        if (state->entries[i].role == TORCH_UNKNOWN)
            shapes->entries[shapes->entry_count++] = (struct shaped){&state->entries[i].tensor, i,
                                                                     0};
    qsort(shapes->parameters, shapes->parameter_count, sizeof *shapes->parameters, compare_shaped);
    qsort(shapes->entries, shapes->entry_count, sizeof *shapes->entries, compare_shaped);
    return 0;
}

static void release_shapes(struct shapes *shapes)
{
    free(shapes->parameters);
    free(shapes->entries);
}

static bool same_shape_as_before(const struct shaped *shaped, size_t i)
{
    return i && compare_shapes(shaped[i - 1].tensor, shaped[i].tensor) == 0;
}

/* Two parameters of different groups that have one shape; null when there are none. */
static const struct shaped *shared_shape(const struct shapes *shapes)
{
    for (size_t i = 1; i < shapes->parameter_count; i++)
        if (same_shape_as_before(shapes->parameters, i) &&
            shapes->parameters[i - 1].group != shapes->parameters[i].group)
            return &shapes->parameters[i - 1];
    return NULL;
}

/* Matches by shape; true if each parameter has a known shape of its own, which one entry has. */
static bool match_by_shape(const struct shapes *shapes, size_t *matched)
{
    size_t entry = 0;
    for (size_t i = 0; i < shapes->parameter_count; i++) {
        const struct shaped *parameter = &shapes->parameters[i];
        while (entry < shapes->entry_count &&
               compare_shapes(shapes->entries[entry].tensor, parameter->tensor) < 0)
            entry++;
        bool fits = entry < shapes->entry_count &&
                    compare_shapes(shapes->entries[entry].tensor, parameter->tensor) == 0;
        bool another = entry + 1 < shapes->entry_count &&
                       same_shape_as_before(shapes->entries, entry + 1);
        if (!fits || another || same_shape_as_before(shapes->parameters, i))
            return false;
        matched[parameter->index] = shapes->entries[entry].index;
    }
    return shapes->all_known;
}

static void torch_shapes_assign(struct torch_state *state, const struct torch_optimizer *optimizer,
                                const size_t *matched)
{
    for (size_t g = 0; g < optimizer->group_count; g++) {
        const struct torch_group *group = &optimizer->groups[g];
        for (size_t i = group->first; i < group->first + group->parameter_count; i++)
            torch_assign(state, matched[i], g, i);
    }
}

/* The tensors between which a shape does not decide. */
static int refuse_shape(const struct torch_state *state, const struct shaped *pair,
                        struct ivon_error *error)
{
    char list[TORCH_NAMES];
    bool *chosen = calloc(state->count + 1, sizeof *chosen);
    if (!chosen)
        return ivon_error_memory(error);
    for (size_t i = 0; i < state->count; i++)
        chosen[i] = state->entries[i].role == TORCH_UNKNOWN &&
                    compare_shapes(&state->entries[i].tensor, pair->tensor) == 0;
    int code = ivon_error_hint(
        error, IVON_HINT_PARAMETERS,
        ivon_error_set(error, IVON_ERROR_DATA,
                       "%s: groups %zu and %zu of the optimizer have parameters of the same "
                       "shape: which of %s is whose?",
                       state->path, pair[0].group, pair[1].group,
                       torch_name_list(state, chosen, list)));
    free(chosen);
    return code;
}

static int refuse_order(const struct torch_state *state, const struct torch_optimizer *optimizer,
                        struct ivon_error *error)
{
    return state->sorted && optimizer->parameter_count > 1
               ? ivon_error_hint(
                     error, IVON_HINT_PARAMETERS,
                     ivon_error_set(error, IVON_ERROR_DATA,
                                    "%s: has its tensors by name, which is not the order of the "
                                    "optimizer's %zu parameters, and several have one shape",
                                    state->path, optimizer->parameter_count))
               : ivon_error_hint(
                     error, IVON_HINT_PARAMETERS,
                     ivon_error_set(
                         error, IVON_ERROR_DATA,
                         "%s: the shapes of the optimizer's %zu parameters do not follow "
                         "the %zu tensors of the state dict that are not buffers",
                         state->path, optimizer->parameter_count, state->unknown));
}

static int torch_shapes_settle(struct torch_state *state, const struct torch_optimizer *optimizer,
                               const struct shapes *shapes, size_t *first, size_t *last,
                               struct ivon_error *error)
{
    size_t count = optimizer->parameter_count;
    if (optimizer->group_count > 1 && !shapes->all_known)
        return ivon_error_hint(
            error, IVON_HINT_PARAMETERS,
            ivon_error_set(error, IVON_ERROR_DATA,
                           "%s: some of the optimizer's parameters have no state, so that "
                           "nothing tells which tensors they are",
                           state->path));
    const struct shaped *shared = shared_shape(shapes);
    if (shared)
        return refuse_shape(state, shared, error);
    if (!match_by_shape(shapes, first)) {
        if (!embed_all(state, optimizer, false, first) || !embed_all(state, optimizer, true, last))
            return refuse_order(state, optimizer, error);
        if (memcmp(first, last, count * sizeof *first) != 0)
            return torch_shapes_ambiguous(state, first, last, count, error);
    }
    torch_shapes_assign(state, optimizer, first);
    return 0;
}

int torch_map_shapes(struct torch_state *state, const struct torch_optimizer *optimizer,
                     struct ivon_error *error)
{
    size_t count = optimizer->parameter_count;
    size_t *first = calloc(count + 1, sizeof *first), *last = calloc(count + 1, sizeof *last);
    struct shapes shapes = {0};
    int code = first && last ? list_shapes(&shapes, state, optimizer, error)
                             : ivon_error_memory(error);
    if (!code)
        code = torch_shapes_settle(state, optimizer, &shapes, first, last, error);
    release_shapes(&shapes);
    free(first);
    free(last);
    return code;
}
