/*
 * Every computed value gets a place in one arena for as long as it is needed: first fit, in the
 * order in which the steps run. An element-wise step reuses the memory of an input whose last use
 * it is. If every value is kept, no memory is reused.
 */
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/memory.h"
#include "net/plan/private.h"

struct block {
    size_t offset, size;
    size_t last; /* step that uses it; SIZE_MAX: for ever */
};

struct layout {
    struct net_plan *plan;
    struct block *blocks; /* in use, by offset */
    size_t count;
    size_t *last; /* per root: the step that uses it last */
};

static size_t plan_tensor_bytes(const struct net_tensor *tensor)
{
    size_t bytes = tensor->count * net_type_size(tensor->type);
    return memory_rounded(bytes);
}

/* Keeps what the steps read that step `index` does, too. */
static void plan_memory_keep_pair(struct layout *layout, size_t index)
{
    struct net_plan *plan = layout->plan;
    const struct plan_step *before = plan->steps[index].before;
    for (size_t i = before ? (size_t)(before - plan->steps) : index; i < index; i++) {
        const struct plan_step *step = &plan->steps[i];
        bool within = step->kind == PLAN_JOINED || step->kind == PLAN_PAIRED;
        for (size_t j = 0; within && j < step->input_count; j++) {
            size_t root = step->inputs[j] == NET_NONE ? NET_NONE
                                                      : plan->values[step->inputs[j]].root;
            if (root != NET_NONE && layout->last[root] < index)
                layout->last[root] = index;
        }
    }
}

static void find_last_uses(struct layout *layout)
{
    struct net_plan *plan = layout->plan;
    const struct ivon_network *network = plan->network;
    for (size_t i = 0; i < network->node_count; i++) {
        const struct plan_step *step = &plan->steps[i];
        if (step->kind == PLAN_DROPPED)
            continue;
        for (size_t j = 0; j < step->input_count; j++)
            if (step->inputs[j] != NET_NONE)
                layout->last[plan->values[step->inputs[j]].root] = i;
        for (size_t j = 0; j < step->output_count; j++)
            if (step->outputs[j] != NET_NONE &&
                plan->values[step->outputs[j]].root == step->outputs[j])
                layout->last[step->outputs[j]] = i;
    }
    for (size_t i = 0; i < network->node_count; i++)
        plan_memory_keep_pair(layout, i);
    for (size_t i = 0; i < network->value_count; i++)
        if (plan->values[i].stage == PLAN_PARAMETER || plan->keep == PLAN_KEEP_ALL)
            layout->last[plan->values[i].root] = SIZE_MAX;
    for (size_t i = 0; i < network->output_count; i++)
        layout->last[plan->values[network->outputs[i]].root] = SIZE_MAX;
}

static void plan_memory_release(struct layout *layout, size_t step)
{
    size_t kept = 0;
    for (size_t i = 0; i < layout->count; i++)
        if (layout->blocks[i].last >= step)
            layout->blocks[kept++] = layout->blocks[i];
    layout->count = kept;
}

/* Reserves the lowest gap that holds `size` bytes. */
static size_t plan_memory_claim(struct layout *layout, size_t size, size_t last)
{
    size_t offset = 0, at = 0;
    while (at < layout->count && layout->blocks[at].offset - offset < size) {
        size_t end = layout->blocks[at].offset + layout->blocks[at].size;
        offset = end > offset ? end : offset;
        at++;
    }
    memmove(&layout->blocks[at + 1], &layout->blocks[at],
            (layout->count - at) * sizeof layout->blocks[0]);
    layout->blocks[at] = (struct block){offset, size, last};
    layout->count++;
    if (offset + size > layout->plan->arena_size)
        layout->plan->arena_size = offset + size;
    return offset;
}

/* Reuses the memory of an input that has the output's size and is not used again. */
static bool reuse_input_block(struct layout *layout, size_t index, struct plan_value *output,
                              size_t last)
{
    struct net_plan *plan = layout->plan;
    const struct plan_step *step = &plan->steps[index];
    bool in_place = step->kind == PLAN_CALL && step->call.node->op->flags & NET_IN_PLACE;
    if (step->kind != PLAN_CHAIN && !in_place)
        return false;
    for (size_t i = 0; i < step->input_count; i++) {
        if (step->inputs[i] == NET_NONE)
            continue;
        const struct plan_value *root = &plan->values[plan->values[step->inputs[i]].root];
        const struct net_tensor *input = &plan->values[step->inputs[i]].tensor;
        if (root->offset == NET_NONE || layout->last[root - plan->values] != index ||
            input->type != output->tensor.type || input->count != output->tensor.count ||
            root->tensor.count != input->count)
            continue;
        for (size_t j = 0; j < layout->count; j++)
            if (layout->blocks[j].offset == root->offset)
                layout->blocks[j].last = last;
        output->offset = root->offset;
        return true;
    }
    return false;
}

static void allocate_outputs(struct layout *layout, size_t index)
{
    struct net_plan *plan = layout->plan;
    const struct plan_step *step = &plan->steps[index];
    for (size_t i = 0; i < step->output_count; i++) {
        if (step->outputs[i] == NET_NONE)
            continue;
        struct plan_value *output = &plan->values[step->outputs[i]];
        size_t last = layout->last[step->outputs[i]];
        if (i > 0 || !reuse_input_block(layout, index, output, last))
            output->offset = plan_memory_claim(layout, plan_tensor_bytes(&output->tensor), last);
    }
}

static void lay_out_stage(struct layout *layout, enum plan_stage stage)
{
    struct net_plan *plan = layout->plan;
    for (size_t i = 0; i < plan->network->node_count; i++) {
        const struct plan_step *step = &plan->steps[i];
        if (step->kind == PLAN_DROPPED || step->stage != stage)
            continue;
        bool elsewhere = step->kind == PLAN_JOINED || step->kind == PLAN_PAIRED;
        bool works = step->kind == PLAN_CALL || step->kind == PLAN_ATTENTION || elsewhere;
        if (works && step->call.workspace_size > plan->workspace_size)
            plan->workspace_size = step->call.workspace_size;
        plan_memory_release(layout, i);
        if (step->kind != PLAN_ALIAS && !elsewhere && plan->keep != PLAN_KEEP_NONE)
            allocate_outputs(layout, i);
    }
}

void plan_count_uses(struct net_plan *plan)
{
    const struct ivon_network *network = plan->network;
    for (size_t i = 0; i < network->value_count; i++)
        plan->values[i].uses = 0;
    for (size_t i = 0; i < network->output_count; i++)
        plan->values[network->outputs[i]].uses++;
    for (size_t i = network->node_count; i-- > 0;) {
        struct plan_step *step = &plan->steps[i];
        bool needed = false;
        for (size_t j = 0; j < step->output_count; j++)
            needed |= step->outputs[j] != NET_NONE && plan->values[step->outputs[j]].uses;
        if (!needed)
            step->kind = PLAN_DROPPED;
        for (size_t j = 0; j < step->input_count && step->kind != PLAN_DROPPED; j++)
            if (step->inputs[j] != NET_NONE)
                plan->values[step->inputs[j]].uses++;
    }
}

int plan_lay_out(struct net_plan *plan, struct ivon_error *error)
{
    plan_count_uses(plan);
    struct layout layout = {.plan = plan,
                            .blocks = calloc(plan->network->value_count + 1, sizeof(struct block)),
                            .last = calloc(plan->network->value_count + 1, sizeof(size_t))};
    int code = layout.blocks && layout.last ? 0 : ivon_error_memory(error);
    if (!code)
        find_last_uses(&layout);
    /* Values that depend on parameters alone are computed before any run, and are placed first. */
    if (!code)
        lay_out_stage(&layout, PLAN_PARAMETER);
    if (!code)
        lay_out_stage(&layout, PLAN_RUN);
    free(layout.blocks);
    free(layout.last);
    return code;
}

int plan_set_aside(struct net_plan *plan, struct ivon_error *error)
{
    size_t size = 0;
    for (size_t i = 0; i < plan->network->node_count; i++)
        if (plan->steps[i].before)
            size += plan_tensor_bytes(plan->steps[i].before->call.outputs[0]);
    if (plan->aside || !size)
        return 0;
    plan->aside = memory_aligned(size);
    if (!plan->aside)
        return ivon_error_memory(error);
    unsigned char *at = plan->aside;
    for (size_t i = 0; i < plan->network->node_count; i++)
        if (plan->steps[i].before) {
            struct net_tensor *output = plan->steps[i].before->call.outputs[0];
            output->data = at;
            at += plan_tensor_bytes(output);
        }
    return 0;
}
