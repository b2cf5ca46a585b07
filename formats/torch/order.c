/*
 * Names for IVON's flat vectors by the order of the state dict, in which a model lists its
 * parameters too: each group's are some of the tensors, in that order. What is no group's (buffers,
 * frozen parameters) is left out. It is settled when only one choice agrees with the groups'
 * numbers of parameters and of elements.
 */
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "formats/torch/private.h"

enum { CHOSEN_MAX = 64, STEPS_MAX = 1 << 20, CHOICES_MAX = 1000 };

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

/* A share of the entries: those of a group, or those that are left out. */
struct share {
    size_t count, elements;
    ptrdiff_t group; /* -1: left out */
};

static int compare_shares(const void *a, const void *b)
{
    const struct share *left = a, *right = b;
    if (left->count != right->count)
        return left->count < right->count ? -1 : 1;
    return (left->group > right->group) - (left->group < right->group);
}

/* The choices of entries for every share. The last, which is the largest, takes what the others
   leave, so that its elements are right when theirs are. */
struct choices {
    const struct torch_state *state;
    const size_t *unknown;
    struct share *shares; /* by count */
    size_t share_count;
    size_t *owners; /* by unknown entry: the share that has it now */
    size_t *first;  /* the owners in the first choice that was found */
    bool *differs;  /* by unknown entry: whether another choice has it elsewhere */
    size_t found, steps;
};

static void torch_order_keep(struct choices *choices)
{
    size_t count = choices->state->unknown;
    if (!choices->found++)
        memcpy(choices->first, choices->owners, count * sizeof *choices->first);
    for (size_t i = 0; i < count; i++)
        choices->differs[i] |= choices->owners[i] != choices->first[i];
}

/* Chooses for a share from an entry on what it lacks: `count` entries of `elements` together. */
static void torch_order_choose(struct choices *choices, size_t share, size_t from, size_t count,
                               size_t elements)
{
    size_t last = choices->share_count - 1;
    if (share == last) {
        torch_order_keep(choices);
        return;
    }
    if (!count) {
        const struct share *next = &choices->shares[share + 1];
        if (!elements)
            torch_order_choose(choices, share + 1, 0, next->count, next->elements);
        return;
    }
    for (size_t i = from; i < choices->state->unknown && choices->found < CHOICES_MAX; i++) {
        size_t size = choices->state->entries[choices->unknown[i]].tensor.count;
        if (++choices->steps > STEPS_MAX)
            return;
        if (choices->owners[i] != last || size > elements)
            continue;
        choices->owners[i] = share;
        torch_order_choose(choices, share, i + 1, count - 1, elements - size);
        choices->owners[i] = last;
    }
}

/* Succeeds if exactly one choice was found; if several, or the search was given up, the error lists
   the tensors in question. */
static int torch_order_check_unique(const struct choices *choices,
                                    const struct torch_optimizer *optimizer,
                                    struct ivon_error *error)
{
    const struct torch_state *state = choices->state;
    char list[TORCH_NAMES];
    bool gave_up = choices->steps > STEPS_MAX;
    if (choices->found == 1 && !gave_up)
        return 0;
    if (!choices->found && !gave_up)
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: no choice of its %zu floating-point tensors is as large as the "
                              "optimizer's %zu group%s: is it another model's?",
                              state->path, state->unknown, optimizer->group_count,
                              optimizer->group_count == 1 ? "" : "s");
    bool *chosen = calloc(state->count + 1, sizeof *chosen);
    if (!chosen)
        return ivon_error_memory(error);
    for (size_t i = 0; i < state->unknown; i++)
        chosen[choices->unknown[i]] = gave_up || choices->differs[i];
    const char *names = torch_name_list(state, chosen, list);
    free(chosen);
    if (optimizer->group_count > 1)
        return ivon_error_hint(
            error, IVON_HINT_PARAMETERS,
            ivon_error_set(error, IVON_ERROR_DATA,
                           "%s: which of %s are in which of the optimizer's %zu groups?",
                           state->path, names, optimizer->group_count));
    return ivon_error_hint(
        error, IVON_HINT_BUFFERS,
        ivon_error_set(error, IVON_ERROR_DATA,
                       "%s: which %zu of %s are buffers, that is, no parameters of the "
                       "optimizer?",
                       state->path, state->unknown - optimizer->parameter_count, names));
}

static void torch_order_assign(struct torch_state *state, const struct choices *choices,
                               size_t *starts)
{
    size_t count = state->unknown;
    for (size_t i = 0; i < count; i++) {
        ptrdiff_t group = choices->shares[choices->first[i]].group;
        if (group < 0)
            continue;
        torch_assign(state, choices->unknown[i], (size_t)group, starts[group]);
        starts[group] += state->entries[choices->unknown[i]].tensor.count;
    }
}

/* Deals the entries out: `left` elements are no group's. */
static int torch_order_settle(struct torch_state *state, const struct torch_optimizer *optimizer,
                              size_t left, const size_t *unknown, struct ivon_error *error)
{
    size_t groups = optimizer->group_count, count = state->unknown, small = 0;
    struct choices choices = {.state = state,
                              .unknown = unknown,
                              .shares = calloc(groups + 1, sizeof *choices.shares),
                              .owners = calloc(count + 1, sizeof *choices.owners),
                              .first = calloc(count + 1, sizeof *choices.first),
                              .differs = calloc(count + 1, sizeof *choices.differs)};
    size_t *starts = calloc(groups + 1, sizeof *starts);
    bool fine = choices.shares && choices.owners && choices.first && choices.differs && starts;
    int code = fine ? 0 : ivon_error_memory(error);
    for (size_t g = 0; g < groups && fine; g++)
        choices.shares[choices.share_count++] = (struct share){
            optimizer->groups[g].parameter_count, optimizer->groups[g].hessian.count, (ptrdiff_t)g};
    if (fine && count > optimizer->parameter_count)
        choices.shares[choices.share_count++] = (struct share){count - optimizer->parameter_count,
                                                               left, -1};
    if (fine)
        qsort(choices.shares, choices.share_count, sizeof *choices.shares, compare_shares);
    for (size_t i = 0; i + 1 < choices.share_count; i++)
        small += choices.shares[i].count;
    for (size_t i = 0; i < count && fine; i++)
        choices.owners[i] = choices.share_count - 1;
    if (small > CHOSEN_MAX)
        choices.steps = STEPS_MAX + 1;
    else if (fine)
        torch_order_choose(&choices, 0, 0, choices.shares[0].count, choices.shares[0].elements);
    if (!code)
        code = torch_order_check_unique(&choices, optimizer, error);
    if (!code)
        torch_order_assign(state, &choices, starts);
    free(choices.shares);
    free(choices.owners);
    free(choices.first);
    free(choices.differs);
    free(starts);
    return code;
}

/* True if tensors are not sorted by name, or sizes suffice, since each group has one parameter. */
static bool follows_order(const struct torch_state *state, const struct torch_optimizer *optimizer)
{
    return !state->sorted || optimizer->parameter_count == optimizer->group_count;
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
    if (optimizer->parameter_count > state->unknown || hessian > elements ||
        (optimizer->parameter_count == state->unknown && hessian != elements))
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: the optimizer has %zu parameters of %zu elements, the state "
                              "dict %zu of %zu that are not buffers",
                              state->path, optimizer->parameter_count, hessian, state->unknown,
                              elements);
    if (!follows_order(state, optimizer))
        return ivon_error_hint(
            error, IVON_HINT_PARAMETERS,
            ivon_error_set(error, IVON_ERROR_DATA,
                           "%s: has its tensors by name, which is not the order of the "
                           "optimizer's %zu parameters",
                           state->path, optimizer->parameter_count));
    size_t *unknown = list_unknown(state, error);
    int code = unknown ? torch_order_settle(state, optimizer, elements - hessian, unknown, error)
                       : IVON_ERROR_MEMORY;
    free(unknown);
    return code;
}
