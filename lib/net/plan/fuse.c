#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "net/plan/private.h"

/* Returns the step that computes a value, or null. */
static struct plan_step *producer(struct net_plan *plan, size_t value)
{
    size_t node = value == NET_NONE ? NET_NONE : plan->network->values[value].producer;
    return node == NET_NONE ? NULL : &plan->steps[node];
}

/* Transposes. */

bool plan_swaps_last_two(const struct plan_step *step)
{
    size_t count;
    if (!(step->call.node->op->flags & NET_TRANSPOSE))
        return false;
    int rank = step->call.inputs[0]->rank;
    const int64_t *order = net_attribute_integers(step->call.node, "perm", &count);
    if (!order)
        return rank == 2;
    for (int i = 0; i < rank - 2; i++)
        if (order[i] != i)
            return false;
    return rank >= 2 && order[rank - 2] == rank - 1;
}

/* Returns whether a transposed matrix of parameters is better computed once for all runs: a product
   of many rows reads it in that order, again and again. */
static bool stays_transposed(const struct net_plan *plan, const struct plan_step *step,
                             const struct plan_step *from)
{
    enum { ROWS = 48 };
    const struct net_tensor *product = step->call.outputs[0];
    size_t columns = product->rank ? (size_t)product->shape[product->rank - 1] : 0;
    return plan->keep == PLAN_KEEP_OUTPUTS && step->stage == PLAN_RUN &&
           from->stage == PLAN_PARAMETER && columns && product->count / columns >= ROWS;
}

static int fuse_operands(struct net_plan *plan, struct plan_step *step, struct ivon_error *error)
{
    bool transposed[2] = {false, false};
    for (int i = 0; i < 2; i++) {
        const struct plan_step *from = producer(plan, step->inputs[i]);
        if (!from || from->kind != PLAN_CALL || !plan_swaps_last_two(from) ||
            stays_transposed(plan, step, from))
            continue;
        transposed[i] = true;
        step->inputs[i] = from->inputs[0];
        step->call.inputs[i] = from->call.inputs[0];
    }
    if (!transposed[0] && !transposed[1])
        return 0;
    free(step->call.prepared);
    step->call.prepared = NULL;
    return step->call.node->op->infer_transposed(&step->call, transposed[0], transposed[1], error);
}

int plan_fuse_transposes(struct net_plan *plan, struct ivon_error *error)
{
    int code = 0;
    for (size_t i = 0; i < plan->network->node_count && !code; i++) {
        struct plan_step *step = &plan->steps[i];
        if (step->kind == PLAN_CALL && step->call.node->op->infer_transposed)
            code = fuse_operands(plan, step, error);
    }
    return code;
}

/* Chains. */

/* Appends the links of one more node; its input `running` is the chain's result so far. */
static int extend_chain(struct plan_step *chain, const struct plan_step *step, size_t running,
                        const struct net_chain_link *links, int count, struct ivon_error *error)
{
    size_t link_count = chain->chain.link_count + (size_t)count;
    struct net_chain_link *all = realloc(chain->links, link_count * sizeof *all);
    if (!all)
        return ivon_error_memory(error);
    chain->links = all;
    memcpy(all + chain->chain.link_count, links, (size_t)count * sizeof *all);
    chain->chain.links = all;
    chain->chain.link_count = link_count;
    size_t *inputs = realloc(chain->inputs,
                             (chain->input_count + step->input_count) * sizeof *inputs);
    if (!inputs)
        return ivon_error_memory(error);
    chain->inputs = inputs;
    for (size_t i = 0; i < step->input_count; i++)
        if (i != running)
            inputs[chain->input_count++] = step->inputs[i];
    return 0;
}

/* Makes a step a chain; its running value is the first input that can be one. */
static int plan_fuse_start_chain(struct net_plan *plan, struct plan_step *step, bool *fine,
                                 struct ivon_error *error)
{
    struct net_chain_link links[2];
    int count = 0;
    size_t running = 0;
    while (running < step->input_count &&
           (count = net_chain_links(&step->call, running, links)) == 0)
        running++;
    *fine = count > 0;
    if (!*fine)
        return 0;
    size_t *inputs = calloc(1, sizeof *inputs);
    if (!inputs)
        return ivon_error_memory(error);
    size_t *old = step->inputs, input_count = step->input_count;
    *inputs = old[running];
    struct plan_step original = *step;
    step->kind = PLAN_CHAIN;
    step->inputs = inputs;
    step->input_count = 1;
    step->chain.input = &plan->values[old[running]].tensor;
    step->chain.output = &plan->values[step->outputs[0]].tensor;
    original.inputs = old;
    original.input_count = input_count;
    int code = extend_chain(step, &original, running, links, count, error);
    free(old);
    return code;
}

/* Returns whether `to` is the only use of a value that another step computes, at the same stage and
   in the same shape. */
static bool can_fuse_producer(struct net_plan *plan, size_t value, const struct plan_step *to)
{
    const struct plan_step *from = producer(plan, value);
    const struct plan_value *planned = value == NET_NONE ? NULL : &plan->values[value];
    return from && planned->uses == 1 && planned->root == value && from->stage == to->stage &&
           (from->kind == PLAN_CHAIN || from->kind == PLAN_CALL) && from->output_count == 1 &&
           net_same_shape(&planned->tensor, to->call.outputs[0]);
}

/* Prepends the links of the step that computes input `running` of `step`. */
static int plan_fuse_producer(struct net_plan *plan, struct plan_step *step, size_t running,
                              bool *fused, struct ivon_error *error)
{
    struct net_chain_link links[2];
    struct plan_step *from = producer(plan, step->inputs[running]);
    int code = 0, count = net_chain_links(&step->call, running, links);
    bool fine = count > 0 && from->chain.link_count + (size_t)count <= NET_CHAIN_LINKS_MAX;
    if (fine && from->kind == PLAN_CALL)
        code = plan_fuse_start_chain(plan, from, &fine, error);
    if (code || !fine)
        return code;
    code = extend_chain(from, step, running, links, count, error);
    if (code)
        return code;
    free(step->inputs);
    step->kind = PLAN_CHAIN;
    step->inputs = from->inputs;
    step->input_count = from->input_count;
    step->links = from->links;
    step->chain = from->chain;
    step->chain.output = &plan->values[step->outputs[0]].tensor;
    from->kind = PLAN_DROPPED;
    from->inputs = NULL;
    from->input_count = 0;
    from->links = NULL;
    *fused = true;
    return 0;
}

int plan_fuse_chains(struct net_plan *plan, struct ivon_error *error)
{
    plan_count_uses(plan);
    for (size_t i = 0; i < plan->network->node_count; i++) {
        struct plan_step *step = &plan->steps[i];
        bool fused = false;
        if (step->kind != PLAN_CALL || step->output_count != 1)
            continue;
        for (size_t j = 0; j < step->input_count && !fused; j++) {
            if (!can_fuse_producer(plan, step->inputs[j], step))
                continue;
            int code = plan_fuse_producer(plan, step, j, &fused, error);
            if (code)
                return code;
        }
    }
    return 0;
}

/* Steps in place, behind another. */

/* Returns the only step that uses a value, or null. */
static struct plan_step *plan_fuse_user(struct net_plan *plan, size_t value)
{
    if (plan->values[value].uses != 1)
        return NULL;
    for (size_t i = 0; i < plan->network->node_count; i++) {
        struct plan_step *step = &plan->steps[i];
        if (step->kind == PLAN_CALL || step->kind == PLAN_CHAIN)
            for (size_t j = 0; j < step->input_count; j++)
                if (step->inputs[j] == value)
                    return step;
    }
    return NULL;
}

/* Returns whether a value is there when step `index` runs. */
static bool plan_fuse_is_before(const struct net_plan *plan, size_t value, size_t index)
{
    size_t producer = plan->network->values[value].producer;
    return plan->values[value].stage != PLAN_RUN || producer == NET_NONE || producer < index;
}

/* Returns whether a step can be done to parts of its input while step `index` runs. */
static bool plan_fuse_can_join(const struct net_plan *plan, const struct plan_step *step,
                               size_t index)
{
    for (size_t i = 1; i < step->input_count; i++)
        if (step->inputs[i] != NET_NONE && !plan_fuse_is_before(plan, step->inputs[i], index))
            return false;
    if (step->kind == PLAN_CALL)
        return net_is_batch_norm(step->call.node) && !step->call.prepared;
    for (size_t i = 0; i < step->chain.link_count; i++)
        if (step->links[i].binary && step->links[i].operand->count != 1 &&
            !net_same_shape(step->links[i].operand, step->chain.output))
            return false;
    return step->chain.link_count <= NET_FINISH_LINKS_MAX;
}

/* Makes a value the running one of a chain whose first link takes it as the operand, as the sum of
   a shortcut and a block does. */
static void plan_fuse_exchange(struct net_plan *plan, struct plan_step *step, size_t value)
{
    const struct net_tensor *tensor = &plan->values[value].tensor;
    struct net_chain_link *first = step->links;
    size_t at = 0;
    while (at < step->input_count && step->inputs[at] != value)
        at++;
    if (at == 0 || at == step->input_count || !first->binary || first->operand != tensor ||
        !net_same_shape(step->chain.input, step->chain.output))
        return;
    first->operand = step->chain.input;
    first->operand_first = !first->operand_first;
    step->chain.input = tensor;
    step->inputs[at] = step->inputs[0];
    step->inputs[0] = value;
}

/* Joins the step that uses the value behind step `index`, and makes it a chain before; false where
   there is none. */
static bool plan_fuse_join(struct net_plan *plan, size_t index, size_t *value,
                           struct ivon_error *error, int *code)
{
    struct plan_step *step = &plan->steps[index], *next = plan_fuse_user(plan, *value);
    bool chain = true;
    if (!next || next->stage != step->stage || next->output_count != 1 ||
        !net_same_shape(&plan->values[*value].tensor, next->call.outputs[0]))
        return false;
    if (next->kind == PLAN_CALL && !net_is_batch_norm(next->call.node))
        *code = plan_fuse_start_chain(plan, next, &chain, error);
    if (!*code && next->kind == PLAN_CHAIN)
        plan_fuse_exchange(plan, next, *value);
    if (*code || !chain || next->inputs[0] != *value || !plan_fuse_can_join(plan, next, index) ||
        (next->kind == PLAN_CALL && step->joins))
        return false;
    if (next->kind == PLAN_CALL)
        step->finish.norm = &next->call;
    step->finish.output = &plan->values[step->outputs[0]].tensor;
    step->finish.links = next->links;
    step->finish.link_count = next->chain.link_count;
    step->joins = true;
    next->kind = PLAN_JOINED;
    *value = next->outputs[0];
    for (size_t i = 0; i < plan->network->value_count; i++)
        if (plan->values[i].root == *value)
            plan->values[i].root = step->outputs[0];
    return true;
}

int plan_fuse_finishes(struct net_plan *plan, struct ivon_error *error)
{
    int code = 0;
    plan_count_uses(plan);
    for (size_t i = 0; i < plan->network->node_count && !code; i++) {
        struct plan_step *step = &plan->steps[i];
        if (step->kind != PLAN_CALL || step->stage != PLAN_RUN ||
            !(step->call.node->op->flags & NET_FINISHES) || step->call.inputs[0]->rank > 4)
            continue;
        size_t value = step->outputs[0];
        while (!step->finish.link_count && plan_fuse_join(plan, i, &value, error, &code))
            continue;
    }
    return code;
}

/* Pairs. */

/* Returns the step that computes input 0 of another, and what is joined to it, for that other one
   alone; or null. */
static struct plan_step *plan_fuse_before(struct net_plan *plan, const struct plan_step *step)
{
    const struct ivon_network *network = plan->network;
    size_t root = plan->values[step->inputs[0]].root;
    for (size_t i = 0; i < network->output_count; i++)
        if (plan->values[network->outputs[i]].root == root)
            return NULL;
    for (size_t i = 0; i < network->node_count; i++) {
        const struct plan_step *user = &plan->steps[i];
        if (user == step || user->kind == PLAN_DROPPED || user->kind == PLAN_ALIAS)
            continue;
        for (size_t j = user->kind == PLAN_JOINED; j < user->input_count; j++)
            if (user->inputs[j] != NET_NONE && plan->values[user->inputs[j]].root == root)
                return NULL;
    }
    struct plan_step *before = producer(plan, root);
    bool fits = before && before->kind == PLAN_CALL && before->stage == step->stage &&
                before->call.node->op == step->call.node->op && !before->before;
    return fits ? before : NULL;
}

void plan_fuse_pairs(struct net_plan *plan)
{
    for (size_t i = 0; i < plan->network->node_count; i++) {
        struct plan_step *step = &plan->steps[i];
        if (step->kind != PLAN_CALL || step->stage != PLAN_RUN ||
            !step->call.node->op->forward_paired)
            continue;
        struct plan_step *before = plan_fuse_before(plan, step);
        if (!before)
            continue;
        before->call.finish = before->joins ? &before->finish : NULL;
        size_t workspace = step->call.node->op->paired_workspace(&before->call, &step->call);
        if (!workspace)
            continue;
        if (workspace > step->call.workspace_size)
            step->call.workspace_size = workspace;
        step->before = before;
        before->kind = PLAN_PAIRED;
    }
}
