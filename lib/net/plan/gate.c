/* Finds the gates of Gelu in chains, and puts one link in the place of several. */
#include <string.h>

#include "net/ops/elementwise/gate.h"
#include "net/plan/private.h"

/* Returns whether an operand of the step is a number that is known with the plan. */
static bool gate_is_number(const struct net_plan *plan, const struct plan_step *step,
                           const struct net_tensor *operand, float number)
{
    for (size_t i = 0; i < step->input_count; i++) {
        size_t value = step->inputs[i];
        if (value != NET_NONE && &plan->values[value].tensor == operand)
            return plan->values[value].stage == PLAN_KNOWN && operand->count == 1 &&
                   *(const float *)operand->data == number;
    }
    return false;
}

static bool gate_has_link(const struct net_plan *plan, const struct plan_step *step,
                          const struct net_gate_link *wanted, const struct net_chain_link *link)
{
    const struct net_operator *op = net_operator_find(NULL, wanted->op, NET_OPSET_MOST);
    if (wanted->operand == NET_GATE_NONE)
        return link->unary && link->unary == op->unary;
    if (!link->binary || link->binary != op->binary || (link->operand_first && !wanted->first))
        return false;
    return wanted->operand == NET_GATE_INPUT
               ? link->operand == step->chain.input
               : gate_is_number(plan, step, link->operand, wanted->number);
}

/* Returns whether a gate is in the chain's links from `first` on. */
static bool gate_begins(const struct net_plan *plan, const struct plan_step *step,
                        const struct net_gate *gate, size_t first)
{
    if (first + gate->link_count > step->chain.link_count)
        return false;
    for (size_t i = 0; i < gate->link_count; i++)
        if (!gate_has_link(plan, step, &gate->links[i], &step->links[first + i]) ||
            (gate->links[i].operand == NET_GATE_INPUT && first))
            return false;
    return true;
}

static void gate_replace(struct plan_step *step, const struct net_gate *gate, size_t first)
{
    size_t rest = step->chain.link_count - first - gate->link_count;
    struct net_chain_link *link = step->links + first;
    *link = (struct net_chain_link){.unary = gate->unary};
    memmove(link + 1, link + gate->link_count, rest * sizeof *link);
    step->chain.link_count -= gate->link_count - 1;
}

void plan_fuse_gates(struct net_plan *plan)
{
    for (size_t i = 0; i < plan->network->node_count; i++) {
        struct plan_step *step = &plan->steps[i];
        if (step->kind != PLAN_CHAIN)
            continue;
        for (size_t first = 0; first < step->chain.link_count; first++)
            for (const struct net_gate *gate = net_gates; gate->link_count; gate++)
                if (gate_begins(plan, step, gate, first)) {
                    gate_replace(step, gate, first);
                    break;
                }
    }
}
