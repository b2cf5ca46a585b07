#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/memory.h"
#include "net/plan/private.h"

/* Adds the network's path to the message of one of its operators. */
static int set_network_error(const struct net_plan *plan, int code, const struct ivon_error *inner,
                             struct ivon_error *error)
{
    return ivon_error_hint(
        error, inner->hint,
        ivon_error_set(error, code, "%s: %s", plan->network->path, inner->message));
}

/* Values. */

static int init_values(struct net_plan *plan, const struct net_tensor *inputs,
                       struct ivon_error *error)
{
    const struct ivon_network *network = plan->network;
    for (size_t i = 0; i < network->value_count; i++) {
        const struct net_value *value = &network->values[i];
        struct plan_value *planned = &plan->values[i];
        planned->root = i;
        planned->offset = NET_NONE;
        planned->stage = value->role == NET_CONSTANT    ? PLAN_KNOWN
                         : value->role == NET_PARAMETER ? PLAN_PARAMETER
                                                        : PLAN_RUN;
        if (value->role == NET_CONSTANT || value->role == NET_PARAMETER)
            planned->tensor = value->tensor;
    }
    for (size_t i = 0; i < network->input_count; i++) {
        struct net_tensor *tensor = &plan->values[network->inputs[i]].tensor;
        tensor->integers = network->values[network->inputs[i]].tensor.integers;
        int code = net_tensor_set(tensor, inputs[i].type, inputs[i].rank, inputs[i].shape, error);
        if (code)
            return code;
    }
    return 0;
}

/* Steps. */

static int plan_list_tensors(struct net_plan *plan, struct net_tensor ***list, const size_t *values,
                             size_t count, struct ivon_error *error)
{
    *list = calloc(count ? count : 1, sizeof **list);
    if (!*list)
        return ivon_error_memory(error);
    for (size_t i = 0; i < count; i++)
        (*list)[i] = values[i] == NET_NONE ? NULL : &plan->values[values[i]].tensor;
    return 0;
}

static int init_step(struct net_plan *plan, struct plan_step *step, const struct net_node *node,
                     struct ivon_error *error)
{
    step->call.node = node;
    size_t index = (size_t)(node - plan->network->nodes);
    step->call.training = plan->training && net_training_has(plan->training, index);
    step->call.dropout = plan->training ? net_training_dropout(plan->training, index) : NULL;
    step->call.masks = &plan->masks;
    step->input_count = node->input_count;
    step->output_count = node->output_count;
    step->inputs = calloc(node->input_count + 1, sizeof *step->inputs);
    step->outputs = calloc(node->output_count + 1, sizeof *step->outputs);
    if (!step->inputs || !step->outputs)
        return ivon_error_memory(error);
    if (node->input_count)
        memcpy(step->inputs, node->inputs, node->input_count * sizeof *step->inputs);
    memcpy(step->outputs, node->outputs, node->output_count * sizeof *step->outputs);
    int code = plan_list_tensors(plan, &step->call.inputs, step->inputs, step->input_count, error);
    return code ? code
                : plan_list_tensors(plan, &step->call.outputs, step->outputs, step->output_count,
                                    error);
}

static enum plan_stage step_stage(const struct net_plan *plan, const struct plan_step *step)
{
    enum plan_stage stage = PLAN_KNOWN;
    if (step->call.node->op->flags & NET_SHAPE_ONLY)
        return stage;
    for (size_t i = 0; i < step->input_count; i++)
        if (step->inputs[i] != NET_NONE && plan->values[step->inputs[i]].stage > stage)
            stage = plan->values[step->inputs[i]].stage;
    return stage;
}

static bool wants_output(const struct net_node *node, size_t first)
{
    for (size_t i = first; i < node->output_count; i++)
        if (node->outputs[i] != NET_NONE)
            return true;
    return false;
}

/* Fails, before a step is evaluated, if its outputs and all known values exceed `memory` bytes. */
static int check_size(const struct net_plan *plan, struct plan_step *step, size_t memory,
                      struct ivon_error *error)
{
    double bytes = (double)plan->known_size;
    int code = step->call.node->op->infer(&step->call, error);
    free(step->call.prepared);
    step->call.prepared = NULL;
    for (size_t i = 0; i < step->output_count && !code; i++)
        if (step->outputs[i] != NET_NONE)
            bytes += (double)step->call.outputs[i]->count *
                     (double)net_type_size(step->call.outputs[i]->type);
    if (!code && memory && bytes > (double)memory)
        code = ivon_error_hint(
            error, IVON_HINT_MEMORY,
            ivon_error_set(error, IVON_ERROR_MEMORY,
                           "its constants take %.6g MB of memory, %.6g MB are allowed", bytes / 1e6,
                           (double)memory / 1e6));
    return code;
}

static int plan_evaluate(struct net_plan *plan, struct plan_step *step, size_t memory,
                         struct ivon_error *error)
{
    int code = check_size(plan, step, memory, error);
    if (!code)
        code = net_call_evaluate(&step->call, error);
    for (size_t i = 0; i < step->output_count; i++) {
        if (step->outputs[i] == NET_NONE)
            continue;
        struct plan_value *value = &plan->values[step->outputs[i]];
        value->owned = true;
        plan->known_size += value->tensor.count * net_type_size(value->tensor.type);
    }
    step->kind = PLAN_DROPPED;
    return code;
}

/* Returns whether a step belongs to a branch of an If that is not taken, as is known by now. */
static bool plan_skips(const struct net_plan *plan, const struct net_node *node)
{
    for (size_t i = 0; i < node->guard_count; i++) {
        const struct plan_value *condition = &plan->values[node->guards[i].condition];
        bool known = condition->stage == PLAN_KNOWN && condition->tensor.type == NET_BOOLEAN &&
                     condition->tensor.count == 1;
        if (condition->skipped ||
            (known && *(const unsigned char *)condition->tensor.data != node->guards[i].when))
            return true;
    }
    return false;
}

/* Makes output 0 another name of the input that a known condition selects. */
static void plan_select(struct net_plan *plan, struct plan_step *step)
{
    const struct net_tensor *condition = step->call.inputs[0];
    size_t chosen = *(const unsigned char *)condition->data ? 1 : 2;
    struct plan_value *from = &plan->values[step->inputs[chosen]];
    struct plan_value *to = &plan->values[step->outputs[0]];
    step->inputs[0] = step->inputs[chosen];
    step->call.inputs[0] = step->call.inputs[chosen];
    step->input_count = 1;
    step->stage = from->stage;
    step->kind = from->stage == PLAN_KNOWN ? PLAN_DROPPED : PLAN_ALIAS;
    to->tensor = from->tensor;
    to->stage = from->stage;
    to->skipped = from->skipped;
    if (step->kind == PLAN_ALIAS)
        to->root = from->root;
}

static bool plan_selects(const struct net_plan *plan, const struct plan_step *step)
{
    const struct net_tensor *condition = step->call.inputs[0];
    return condition && step->call.node->op->flags & NET_SELECT && condition->type == NET_BOOLEAN &&
           condition->count == 1 && plan->values[step->inputs[0]].stage == PLAN_KNOWN;
}

static int plan_step(struct net_plan *plan, struct plan_step *step, const struct net_node *node,
                     size_t memory, struct ivon_error *error)
{
    int code = init_step(plan, step, node, error);
    bool skipped = plan_skips(plan, node);
    step->call.memory = memory;
    for (size_t i = 0; i < step->output_count && skipped && !code; i++)
        if (step->outputs[i] != NET_NONE)
            plan->values[step->outputs[i]].skipped = true;
    if (code || skipped || !wants_output(node, 0)) {
        step->kind = PLAN_DROPPED;
        return code;
    }
    if (plan_selects(plan, step)) {
        plan_select(plan, step);
        return 0;
    }
    step->stage = step_stage(plan, step);
    for (size_t i = 0; i < step->output_count; i++)
        if (step->outputs[i] != NET_NONE)
            plan->values[step->outputs[i]].stage = step->stage;
    if (step->stage == PLAN_KNOWN)
        return plan_evaluate(plan, step, memory, error);
    plan->mixed |= node->op->flags & NET_SELECT && step->stage == PLAN_RUN &&
                   step->call.inputs[0]->count == 1;
    code = node->op->infer(&step->call, error);
    bool alias = (node->op->flags & NET_ALIAS && !step->call.dropout) || step->call.alias;
    if (!code && alias && !wants_output(node, 1)) {
        step->kind = PLAN_ALIAS;
        plan->values[step->outputs[0]].root = plan->values[step->inputs[0]].root;
    }
    return code;
}

/* Sets the address of every value in the arena or with shared memory. */
static void plan_set_addresses(struct net_plan *plan)
{
    for (size_t i = 0; i < plan->network->value_count; i++) {
        struct plan_value *value = &plan->values[i];
        const struct plan_value *root = &plan->values[value->root];
        if (root->offset != NET_NONE)
            value->tensor.data = plan->arena + root->offset;
        else if (value->root != i)
            value->tensor.data = root->tensor.data;
    }
    for (size_t i = 0; i < plan->network->node_count; i++)
        plan->steps[i].call.workspace = plan->workspace;
}

static int plan_allocate(struct net_plan *plan, size_t memory, struct ivon_error *error)
{
    size_t total = net_plan_memory(plan);
    if (memory && total > memory)
        return ivon_error_hint(
            error, IVON_HINT_MEMORY,
            ivon_error_set(error, IVON_ERROR_MEMORY,
                           "one run takes %.6g MB of memory, %.6g MB are allowed",
                           (double)total / 1e6, (double)memory / 1e6));
    plan->arena = memory_aligned(plan->arena_size);
    plan->workspace = memory_aligned(plan->workspace_size);
    if (!plan->arena || !plan->workspace)
        return ivon_error_memory(error);
    plan_set_addresses(plan);
    return 0;
}

int plan_new(struct net_plan **out, const struct ivon_network *network,
             const struct net_training *training, const struct net_tensor *inputs,
             enum plan_keep keep, size_t memory, struct ivon_error *error)
{
    struct net_plan *plan = calloc(1, sizeof *plan);
    if (!plan)
        return ivon_error_memory(error);
    struct ivon_error inner = {0};
    plan->network = network;
    plan->training = training;
    plan->keep = keep;
    plan->values = calloc(network->value_count + 1, sizeof *plan->values);
    plan->steps = calloc(network->node_count + 1, sizeof *plan->steps);
    int code = plan->values && plan->steps ? 0 : ivon_error_memory(&inner);
    if (!code)
        code = init_values(plan, inputs, &inner);
    for (size_t i = 0; i < network->node_count && !code; i++)
        code = plan_step(plan, &plan->steps[i], &network->nodes[i], memory, &inner);
    if (!code)
        code = plan_fuse_transposes(plan, &inner);
    if (!code && keep == PLAN_KEEP_OUTPUTS)
        code = plan_fuse_chains(plan, &inner);
    if (!code && keep == PLAN_KEEP_OUTPUTS)
        plan_fuse_gates(plan);
    if (!code && keep == PLAN_KEEP_OUTPUTS)
        code = plan_fuse_attention(plan, &inner);
    if (!code && keep == PLAN_KEEP_OUTPUTS)
        code = plan_fuse_biases(plan, &inner);
    if (!code && keep == PLAN_KEEP_OUTPUTS)
        code = plan_fuse_finishes(plan, &inner);
    if (!code && keep == PLAN_KEEP_OUTPUTS)
        plan_fuse_pairs(plan);
    if (!code)
        code = plan_lay_out(plan, &inner);
    if (!code)
        code = plan_allocate(plan, memory, &inner);
    if (code) {
        set_network_error(plan, code, &inner, error);
        net_plan_free(plan);
        return code;
    }
    *out = plan;
    return 0;
}

int net_plan_new(struct net_plan **plan, const struct ivon_network *network,
                 const struct net_tensor *inputs, size_t memory, struct ivon_error *error)
{
    return plan_new(plan, network, NULL, inputs, PLAN_KEEP_OUTPUTS, memory, error);
}

void net_plan_free(struct net_plan *plan)
{
    if (!plan)
        return;
    for (size_t i = 0; plan->values && i < plan->network->value_count; i++)
        if (plan->values[i].owned)
            free(plan->values[i].tensor.data);
    for (size_t i = 0; plan->steps && i < plan->network->node_count; i++) {
        struct plan_step *step = &plan->steps[i];
        free(step->call.inputs);
        free(step->call.outputs);
        free(step->call.prepared);
        free(step->inputs);
        free(step->outputs);
        free(step->links);
        attention_fused_free(step->attention);
    }
    free(plan->values);
    free(plan->steps);
    free(plan->arena);
    free(plan->workspace);
    free(plan->aside);
    free(plan);
}

/* Running. */

static int plan_run_call(struct net_plan *plan, struct plan_step *step, struct ivon_error *error)
{
    const struct net_operator *op = step->call.node->op;
    struct plan_step *before = plan->observe ? NULL : step->before;
    step->call.finish = step->joins && !plan->observe ? &step->finish : NULL;
    if (before) {
        before->call.finish = before->joins ? &before->finish : NULL;
        op->forward_paired(&before->call, &step->call);
        return 0;
    }
    if (plan->observe && net_is_batch_norm(step->call.node))
        plan->observe(plan->observe_context, &step->call);
    struct ivon_error inner = {0};
    int code = op->forward(&step->call, &inner);
    return code ? set_network_error(plan, code, &inner, error) : 0;
}

static int run_stage(struct net_plan *plan, enum plan_stage stage, struct ivon_error *error)
{
    int code = 0;
    for (size_t i = 0; i < plan->network->node_count && !code; i++) {
        struct plan_step *step = &plan->steps[i];
        if (step->stage != stage || step->kind == PLAN_DROPPED || step->kind == PLAN_ALIAS)
            continue;
        if ((step->kind == PLAN_JOINED || step->kind == PLAN_PAIRED) && !plan->observe)
            continue;
        if (step->chain.link_count)
            net_chain_run(&step->chain);
        else if (step->kind == PLAN_ATTENTION)
            attention_fused_run(step->attention, plan->workspace);
        else
            code = plan_run_call(plan, step, error);
    }
    return code;
}

/* Updates the addresses of values that share the memory of another. */
static void plan_share_addresses(struct net_plan *plan, enum plan_stage stage)
{
    for (size_t i = 0; i < plan->network->value_count; i++) {
        struct plan_value *value = &plan->values[i];
        const struct plan_value *root = &plan->values[value->root];
        if (value->root != i && root->stage == stage && root->offset == NET_NONE)
            value->tensor.data = root->tensor.data;
    }
}

int net_plan_set_parameters(struct net_plan *plan, const float *const *parameters,
                            struct ivon_error *error)
{
    for (size_t i = 0; i < plan->network->value_count; i++)
        if (plan->network->values[i].role == NET_PARAMETER)
            plan->values[i].tensor.data = (void *)parameters[plan->network->values[i].parameter];
    plan_share_addresses(plan, PLAN_PARAMETER);
    return run_stage(plan, PLAN_PARAMETER, error);
}

int net_plan_run(struct net_plan *plan, const void *const *inputs, struct ivon_error *error)
{
    for (size_t i = 0; i < plan->network->input_count; i++)
        plan->values[plan->network->inputs[i]].tensor.data = (void *)inputs[i];
    plan_share_addresses(plan, PLAN_RUN);
    return run_stage(plan, PLAN_RUN, error);
}

const struct net_tensor *net_plan_output(const struct net_plan *plan, size_t i)
{
    return &plan->values[plan->network->outputs[i]].tensor;
}

bool net_plan_mixed(const struct net_plan *plan)
{
    return plan->mixed;
}

size_t net_plan_memory(const struct net_plan *plan)
{
    return plan->known_size + plan->arena_size + plan->workspace_size;
}

int net_plan_observe(struct net_plan *plan,
                     void (*observe)(void *context, const struct net_call *call), void *context,
                     struct ivon_error *error)
{
    int code = observe ? plan_set_aside(plan, error) : 0;
    plan->observe = code ? NULL : observe;
    plan->observe_context = context;
    return code;
}
