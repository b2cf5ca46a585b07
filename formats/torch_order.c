/*
 * Names for the optimizer's numbers by the order of the state dict, in which a model lists its
 * parameters too. What is not the optimizer's (buffers, frozen parameters) has to be left out; that
 * is settled when only one choice agrees with the optimizer's sizes or shapes.
 */
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "formats/torch_private.h"

enum { LEFT_OUT_MAX = 64, STEPS_MAX = 1 << 20, CHOICES_MAX = 1000 };

/* The unknown entries, in the state dict's order. */
static size_t *list_unknown(const struct torch_state *state, struct ivon_error *error)
{
    size_t *list = calloc(state->count + 1, sizeof *list), count = 0;
    for (size_t i = 0; list && i < state->count; i++)
        if (state->entries[i].role == TORCH_UNKNOWN)
            list[count++] = i;
    if (!list)
        ivon_error_memory(error);
    return list;
}

/* The choices of so many entries with so many elements together. */
struct choices {
    const struct torch_state *state;
    const size_t *unknown;
    size_t left_out[LEFT_OUT_MAX];
    size_t wanted;
    size_t *times; /* by entry: in how many choices it is left out */
    size_t found, steps;
};

static void choose(struct choices *choices, size_t from, size_t depth, size_t elements)
{
    if (depth == choices->wanted) {
        choices->found += elements == 0;
        for (size_t i = 0; i < depth && elements == 0; i++)
            choices->times[choices->left_out[i]]++;
        return;
    }
    size_t last = choices->state->unknown - (choices->wanted - depth);
    for (size_t i = from; i <= last && choices->found < CHOICES_MAX; i++) {
        size_t entry = choices->unknown[i], count = choices->state->entries[entry].tensor.count;
        if (++choices->steps > STEPS_MAX)
            return;
        if (count > elements)
            continue;
        choices->left_out[depth] = entry;
        choose(choices, i + 1, depth + 1, elements - count);
    }
}

static int ambiguous(const struct torch_state *state, const bool *chosen, size_t wanted,
                     struct ivon_error *error)
{
    char list[TORCH_NAMES];
    return ivon_error_set(error, IVON_ERROR_DATA,
                          "%s: which %zu of %s are buffers, that is, no parameters of the "
                          "optimizer? --buffers='PATTERN' settles it",
                          state->path, wanted, torch_name_list(state, chosen, list));
}

/* Whether exactly one choice was found; if several, or the search was given up, which tensors it
   is between. */
static int judge(const struct choices *choices, bool *chosen, struct ivon_error *error)
{
    const struct torch_state *state = choices->state;
    bool gave_up = choices->steps > STEPS_MAX;
    if (choices->found == 1 && !gave_up)
        return 0;
    if (!choices->found && !gave_up)
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: no %zu of the %zu floating-point tensors are as large as what "
                              "the optimizer does not have: is it another model's?",
                              state->path, choices->wanted, state->unknown);
    for (size_t i = 0; i < state->count; i++)
        chosen[i] = gave_up ? state->entries[i].role == TORCH_UNKNOWN
                            : choices->times[i] > 0 && choices->times[i] < choices->found;
    return ambiguous(state, chosen, choices->wanted, error);
}

/* Marks what is left out of the unknown entries, so that `elements` go with it. */
static int leave_out(const struct torch_state *state, const size_t *unknown, size_t wanted,
                     size_t elements, bool *chosen, struct ivon_error *error)
{
    struct choices choices = {.state = state, .unknown = unknown, .wanted = wanted,
                              .times = calloc(state->count + 1, sizeof *choices.times)};
    if (!choices.times)
        return ivon_error_memory(error);
    if (wanted > LEFT_OUT_MAX)
        choices.steps = STEPS_MAX + 1;
    else
        choose(&choices, 0, 0, elements);
    int code = judge(&choices, chosen, error);
    for (size_t i = 0; i < state->count && !code; i++)
        chosen[i] = choices.times[i] > 0;
    free(choices.times);
    return code;
}

static int take_in_order(struct torch_state *state, const struct torch_optimizer *optimizer,
                         const size_t *unknown, const bool *left_out, struct ivon_error *error)
{
    const size_t *next = unknown;
    for (size_t g = 0; g < optimizer->group_count; g++) {
        const struct torch_group *group = &optimizer->groups[g];
        size_t start = 0;
        for (size_t i = 0; i < group->parameter_count; i++, next++) {
            while (left_out[*next])
                next++;
            torch_take(state, *next, g, start);
            start += state->entries[*next].tensor.count;
        }
        if (start != group->hessian.count)
            return ivon_error_set(
                error, IVON_ERROR_DATA,
                "%s: hess of group %zu has %zu elements, the next %zu tensors of the state dict "
                "have %zu: give the optimizer names (named_parameters), or save the weights "
                "without copying them",
                state->path, g, group->hessian.count, group->parameter_count, start);
    }
    return 0;
}

int torch_map_order(struct torch_state *state, const struct torch_optimizer *optimizer,
                    struct ivon_error *error)
{
    size_t elements = 0, hessian = 0;
    for (size_t i = 0; i < state->count; i++)
        if (state->entries[i].role == TORCH_UNKNOWN &&
            __builtin_add_overflow(elements, state->entries[i].tensor.count, &elements))
            elements = 0;
    for (size_t g = 0; g < optimizer->group_count; g++)
        hessian += optimizer->groups[g].hessian.count;
    if (optimizer->parameter_count > state->unknown || hessian > elements)
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: the optimizer has %zu parameters of %zu elements, the state "
                              "dict %zu of %zu that are not buffers", state->path,
                              optimizer->parameter_count, hessian, state->unknown, elements);
    size_t *unknown = list_unknown(state, error);
    bool *chosen = calloc(state->count + 1, sizeof *chosen);
    int code = unknown && chosen ? 0 : ivon_error_memory(error);
    if (!code)
        code = leave_out(state, unknown, state->unknown - optimizer->parameter_count,
                         elements - hessian, chosen, error);
    if (!code)
        code = take_in_order(state, optimizer, unknown, chosen, error);
    free(chosen);
    free(unknown);
    return code;
}
