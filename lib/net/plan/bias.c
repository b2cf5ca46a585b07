/* Lets MatMul add the row that follows it, as the bias of a linear layer does: the sum is the same,
   bit for bit, and needs no pass over the output. */
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "net/ops/product/product.h"
#include "net/plan/private.h"

/* Returns the operand, if it is a row that can be added to every row of the output; else null. */
static const struct net_tensor *bias_row(const struct net_tensor *output,
                                         const struct net_tensor *operand)
{
    int64_t columns = output->rank ? output->shape[output->rank - 1] : 0;
    bool row = operand && operand->type == NET_FLOAT && operand->rank && columns > 0 &&
               operand->shape[operand->rank - 1] == columns && operand->count == (size_t)columns;
    return row ? operand : NULL;
}

/* The value among the inputs of a step that is an operand, if it is there before a run; else
   NET_NONE. */
static size_t bias_value(const struct net_plan *plan, const struct plan_step *step,
                         const struct net_tensor *operand)
{
    for (size_t i = 0; i < step->input_count; i++) {
        size_t value = step->inputs[i];
        if (value != NET_NONE && operand && &plan->values[value].tensor == operand)
            return plan->values[value].stage == PLAN_RUN ? NET_NONE : value;
    }
    return NET_NONE;
}

/* Returns the only step that takes a value, as its first operand or a sum's, or null. */
static struct plan_step *bias_user(struct net_plan *plan, size_t value)
{
    for (size_t i = 0; i < plan->network->node_count && plan->values[value].uses == 1; i++) {
        struct plan_step *step = &plan->steps[i];
        if (step->kind == PLAN_DROPPED)
            continue;
        for (size_t j = 0; j < step->input_count; j++)
            if (step->inputs[j] == value)
                return step;
    }
    return NULL;
}

/* The operand that a step adds first to a value; null if it does something else. */
static const struct net_tensor *bias_operand(const struct net_plan *plan,
                                             const struct plan_step *step, size_t value)
{
    const struct net_operator *add = net_operator_find(NULL, "Add", NET_OPSET_MOST);
    if (!net_same_shape(&plan->values[value].tensor, step->call.outputs[0]))
        return NULL;
    if (step->kind == PLAN_CHAIN)
        return step->inputs[0] == value && step->links[0].binary == add->binary
                   ? step->links[0].operand
                   : NULL;
    bool sum = step->kind == PLAN_CALL && step->call.node->op->flags & NET_SUM;
    return sum ? step->call.inputs[step->inputs[0] == value] : NULL;
}

/* Takes the first link from a chain, or makes a sum another name of its operand `value`. */
static void bias_remove(struct net_plan *plan, struct plan_step *step, size_t value)
{
    if (step->kind == PLAN_CHAIN && step->chain.link_count > 1) {
        step->chain.link_count--;
        memmove(step->links, step->links + 1, step->chain.link_count * sizeof *step->links);
        return;
    }
    size_t output = step->outputs[0], root = plan->values[value].root;
    step->kind = PLAN_ALIAS;
    step->chain.link_count = 0;
    step->inputs[0] = value;
    step->input_count = 1;
    step->call.inputs[0] = &plan->values[value].tensor;
    for (size_t i = 0; i < plan->network->value_count; i++)
        if (plan->values[i].root == output)
            plan->values[i].root = root;
}

static int bias_join(struct net_plan *plan, struct plan_step *product, struct ivon_error *error)
{
    size_t value = product->outputs[0];
    struct plan_step *next = plan->values[value].root == value ? bias_user(plan, value) : NULL;
    if (!next || next->stage != product->stage || next->output_count != 1)
        return 0;
    const struct net_tensor *row = bias_row(&plan->values[value].tensor,
                                            bias_operand(plan, next, value));
    size_t bias = bias_value(plan, next, row);
    if (bias == NET_NONE)
        return 0;
    size_t *inputs = realloc(product->inputs, 3 * sizeof *inputs);
    if (!inputs)
        return ivon_error_memory(error);
    product->inputs = inputs;
    inputs[product->input_count++] = bias;
    ((struct net_matmul *)product->call.prepared)->bias = row;
    bias_remove(plan, next, value);
    return 0;
}

int plan_fuse_biases(struct net_plan *plan, struct ivon_error *error)
{
    int code = 0;
    plan_count_uses(plan);
    for (size_t i = 0; i < plan->network->node_count && !code; i++) {
        struct plan_step *step = &plan->steps[i];
        /* A vector on the right is a column: its output has no row. */
        if (step->kind == PLAN_CALL && step->stage == PLAN_RUN && step->input_count == 2 &&
            step->call.node->op->infer_transposed && step->call.inputs[1]->rank > 1 &&
            !((const struct net_matmul *)step->call.prepared)->transpose_a)
            code = bias_join(plan, step, error);
    }
    return code;
}
