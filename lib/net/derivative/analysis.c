/* The analysis of a network: which values to differentiate, which of them examples have of their
   own, and how each step is differentiated. */
#include <stdlib.h>

#include "core/error.h"
#include "net/derivative/private.h"

static bool is_needed(const struct net_derivative *derivative, const struct plan_step *step)
{
    bool needed = false;
    for (size_t i = 0; i < step->output_count && step->kind != PLAN_DROPPED; i++)
        needed |= step->outputs[i] != NET_NONE && derivative->values[step->outputs[i]].needed;
    return needed;
}

void derivative_find_needed(struct net_derivative *derivative)
{
    const struct ivon_network *network = derivative->network;
    derivative->values[network->outputs[0]].needed = true;
    for (size_t i = network->node_count; i-- > 0;) {
        const struct plan_step *step = &derivative->plan->steps[i];
        bool needed = is_needed(derivative, step);
        for (size_t j = 0; j < step->input_count && needed; j++)
            if (step->inputs[j] != NET_NONE)
                derivative->values[step->inputs[j]].needed = true;
    }
}

/* Returns whether the tile's elements are the examples' elements, one example after the other: the
   first axis that is not 1 is `examples` times as long as for one example, and all others are
   equal. */
static bool is_concatenation(const struct net_tensor *tile, const struct net_tensor *unit,
                             size_t examples)
{
    if (tile->rank != unit->rank || tile->type != unit->type)
        return false;
    int axis = 0;
    while (axis < tile->rank && tile->shape[axis] == unit->shape[axis]) {
        if (tile->shape[axis] != 1)
            return false;
        axis++;
    }
    if (axis == tile->rank || tile->shape[axis] != (int64_t)examples * unit->shape[axis])
        return false;
    for (axis++; axis < tile->rank; axis++)
        if (tile->shape[axis] != unit->shape[axis])
            return false;
    return true;
}

/* Returns whether a needed step has an input that differs by example and an output that all
   examples share. */
static bool mixes_examples(const struct net_derivative *derivative, const struct plan_step *step)
{
    bool per_example = false, shared = false;
    for (size_t i = 0; i < step->input_count; i++)
        per_example |= step->inputs[i] != NET_NONE &&
                       derivative->values[step->inputs[i]].per_example;
    for (size_t i = 0; i < step->output_count; i++)
        shared |= step->outputs[i] != NET_NONE && !derivative->values[step->outputs[i]].per_example;
    return is_needed(derivative, step) && per_example && shared;
}

/* Returns whether a needed step computes a tile of examples as it does each of them alone. */
static bool is_separable(const struct net_derivative *derivative, size_t i)
{
    const struct plan_step *step = &derivative->plan->steps[i];
    const struct net_operator *op = step->call.node->op;
    bool concerned = derivative->tile > 1 && op->separable && step->stage != PLAN_KNOWN &&
                     is_needed(derivative, step);
    return !concerned || op->separable(&step->call, &derivative->unit->steps[i].call);
}

bool derivative_classify(struct net_derivative *derivative)
{
    const struct ivon_network *network = derivative->network;
    bool fine = true;
    for (size_t i = 0; i < network->value_count; i++) {
        const struct plan_value *value = &derivative->plan->values[i];
        const struct net_tensor *unit = &derivative->unit->values[i].tensor;
        struct derivative_value *own = &derivative->values[i];
        if (value->stage == PLAN_KNOWN)
            continue;
        own->per_example = value->stage == PLAN_RUN || !net_same_shape(&value->tensor, unit);
        own->size = own->per_example ? unit->count : value->tensor.count;
        bool used = own->needed || network->values[i].role == NET_INPUT;
        if (own->per_example && used && derivative->tile > 1)
            fine &= is_concatenation(&value->tensor, unit, derivative->tile);
    }
    for (size_t i = 0; i < network->node_count; i++)
        fine &= !mixes_examples(derivative, &derivative->plan->steps[i]) &&
                is_separable(derivative, i);
    return fine;
}

void derivative_classify_whole(struct net_derivative *derivative)
{
    for (size_t i = 0; i < derivative->network->value_count; i++) {
        const struct plan_value *value = &derivative->plan->values[i];
        if (value->stage == PLAN_KNOWN)
            continue;
        derivative->values[i].per_example = value->stage == PLAN_RUN;
        derivative->values[i].size = value->tensor.count;
    }
}

static bool has_active_input(const struct net_derivative *derivative, const struct plan_step *step)
{
    for (size_t i = 0; i < step->input_count; i++)
        if (step->inputs[i] != NET_NONE && derivative->values[step->inputs[i]].active)
            return true;
    return false;
}

/* Marks the values that depend on wanted parameters. */
static int find_active(struct net_derivative *derivative, struct ivon_error *error)
{
    const struct ivon_network *network = derivative->network;
    for (size_t i = 0; i < network->value_count; i++)
        if (network->values[i].role == NET_PARAMETER)
            derivative->values[i].active = derivative->values[i].needed &&
                                           derivative->wanted[network->values[i].parameter];
    for (size_t i = 0; i < network->node_count; i++) {
        const struct plan_step *step = &derivative->plan->steps[i];
        const struct net_operator *op = step->call.node->op;
        bool active = false;
        if (!is_needed(derivative, step) || !has_active_input(derivative, step))
            continue;
        for (size_t j = 0; j < step->output_count; j++) {
            size_t output = step->outputs[j];
            if (output == NET_NONE || derivative->plan->values[output].tensor.type != NET_FLOAT)
                continue;
            derivative->values[output].active = active = true;
        }
        if (active && step->kind != PLAN_ALIAS && (!op->backward || !op->tangent))
            return net_fail(&step->call, error, "this operator has no derivative");
    }
    return 0;
}

/* Returns whether a parameter's block has another one that the same node does not use alone. */
static bool is_apart(const struct net_derivative *derivative, size_t value)
{
    size_t parameter = derivative_parameter(derivative, derivative_root(derivative, value));
    const struct net_block *block = derivative_block(derivative, parameter);
    if (!block || block->bias == NET_NONE)
        return false;
    size_t other = block->weight == parameter ? block->bias : block->weight;
    const struct derivative_value *own = &derivative->values[value];
    other = derivative->parameter_values[other];
    return other == NET_NONE || !derivative->values[other].used_once ||
           derivative->values[other].user != own->user;
}

/* Marks the parameters that exactly one node uses, directly; and of them, those whose gradients are
   complete there. */
static int find_single_use(struct net_derivative *derivative, struct ivon_error *error)
{
    const struct ivon_network *network = derivative->network;
    size_t *uses = calloc(network->value_count + 1, sizeof *uses);
    if (!uses)
        return ivon_error_memory(error);
    for (size_t i = 0; i < network->node_count; i++) {
        const struct plan_step *step = &derivative->plan->steps[i];
        if (step->kind != PLAN_CALL || !is_needed(derivative, step))
            continue;
        bool shared = true;
        for (size_t j = 0; j < step->output_count; j++)
            shared &= step->outputs[j] == NET_NONE ||
                      !derivative->values[step->outputs[j]].per_example;
        for (size_t j = 0; j < step->input_count; j++)
            if (step->inputs[j] != NET_NONE) {
                size_t root = derivative_root(derivative, step->inputs[j]);
                uses[root] += shared ? 2 : 1;
                derivative->values[root].user = i;
            }
    }
    for (size_t i = 0; i < network->value_count; i++) {
        size_t root = derivative_root(derivative, i);
        derivative->values[i].used_once = derivative_parameter(derivative, root) != NET_NONE &&
                                          uses[root] == 1;
        derivative->values[i].user = derivative->values[root].user;
    }
    for (size_t i = 0; i < network->value_count; i++)
        derivative->values[i].single_use = derivative->values[i].used_once &&
                                           !is_apart(derivative, i);
    free(uses);
    return 0;
}

static enum derivative_kind step_kind(const struct net_derivative *derivative,
                                      const struct plan_step *step, bool *multi_use)
{
    bool active = false, per_example = false, shared = false;
    if (step->kind != PLAN_CALL)
        return DERIVATIVE_NONE;
    for (size_t i = 0; i < step->output_count; i++) {
        if (step->outputs[i] == NET_NONE)
            continue;
        active |= derivative->values[step->outputs[i]].active;
        per_example |= derivative->values[step->outputs[i]].per_example;
    }
    for (size_t i = 0; i < step->input_count; i++)
        if (derivative_shared_input(derivative, step, i)) {
            shared = true;
            *multi_use |= !derivative->values[step->inputs[i]].single_use;
        }
    if (!active)
        return DERIVATIVE_NONE;
    if (!per_example)
        return DERIVATIVE_SHARED;
    if (!shared || derivative->whole)
        return DERIVATIVE_PLAIN;
    return derivative_is_rank_one(derivative, step) ? DERIVATIVE_RANK_ONE : DERIVATIVE_UNIT;
}

int derivative_analyse(struct net_derivative *derivative, struct ivon_error *error)
{
    int code = find_active(derivative, error);
    if (!code && !derivative->whole)
        code = find_single_use(derivative, error);
    for (size_t i = 0; i < derivative->network->node_count && !code; i++)
        derivative->steps[i].kind = step_kind(derivative, &derivative->plan->steps[i],
                                              &derivative->steps[i].multi_use);
    size_t output = derivative->network->outputs[0];
    if (!code)
        code = derivative_find_uses(derivative, error);
    if (!code && !derivative->values[output].per_example)
        code = ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: output '%s' does not depend on the examples",
                              derivative->network->path, derivative->network->values[output].name);
    return code;
}
