#include "net/ops/elementwise/elementwise.h"
#include "net/ops/elementwise/blockwise.h"

/* Only the last link may write to the output, whose memory may be an operand's. */
void chain_next(const struct net_chain *chain, struct broadcast *operands, const float *value,
                float *running, float *output, size_t count)
{
    for (size_t i = 0; i < chain->link_count; i++) {
        const struct net_chain_link *link = &chain->links[i];
        float *out = i + 1 == chain->link_count ? output : running;
        const float *other = link->binary ? broadcast_next(&operands[i], count) : NULL;
        if (!link->binary)
            link->unary(out, value, count);
        else if (link->operand_first)
            link->binary(out, other, value, count);
        else
            link->binary(out, value, other, count);
        value = out;
    }
}

void chain_begin(const struct net_chain *chain, struct broadcast *operands)
{
    for (size_t i = 0; i < chain->link_count; i++)
        if (chain->links[i].binary)
            broadcast_begin(&operands[i], chain->links[i].operand, chain->output);
}

void net_chain_run(const struct net_chain *chain)
{
    struct broadcast input, operands[NET_CHAIN_LINKS_MAX];
    _Alignas(64) float running[BLOCK_FLOATS];
    const struct net_tensor *output = chain->output;
    broadcast_begin(&input, chain->input, output);
    chain_begin(chain, operands);
    for (size_t at = 0; at < output->count; at += BLOCK_FLOATS) {
        size_t left = output->count - at;
        size_t count = left < BLOCK_FLOATS ? left : BLOCK_FLOATS;
        chain_next(chain, operands, broadcast_next(&input, count), running,
                   (float *)output->data + at, count);
    }
}

int net_chain_links(const struct net_call *call, size_t running_input,
                    struct net_chain_link links[2])
{
    const struct net_operator *op = call->node->op;
    const struct net_tensor *output = call->outputs[0], *running = call->inputs[running_input];
    if ((!op->unary && !op->binary) || !running || running->type != NET_FLOAT ||
        output->type != NET_FLOAT || running->count != output->count)
        return 0;
    if (op->links)
        return running_input == 0 ? op->links(call, links) : 0;
    links[0] = (struct net_chain_link){.unary = op->unary, .binary = op->binary};
    if (op->flags & (NET_SUM | NET_RECTIFIER))
        links[0].kind = op->unary ? NET_LINK_RECTIFIED : NET_LINK_SUM;
    if (op->unary)
        return 1;
    if (block_operand_count(call) != 2)
        return 0;
    links[0].operand = block_operand(call, 1 - running_input);
    links[0].operand_first = running_input == 1;
    return links[0].operand != running && links[0].operand->type == NET_FLOAT;
}

void block_chain(const struct net_call *call)
{
    const struct net_operator *op = call->node->op;
    struct net_chain_link link = {.unary = op->unary, .binary = op->binary};
    if (link.binary)
        link.operand = block_operand(call, 1);
    net_chain_run(&(struct net_chain){
        .input = call->inputs[0], .output = call->outputs[0], .links = &link, .link_count = 1});
}

int block_float_infer(struct net_call *call, struct ivon_error *error)
{
    int code = block_expect(call, 0, 1U << NET_FLOAT, error);
    return code ? code : block_infer(call, NET_FLOAT, 1, error);
}

int block_float_forward(const struct net_call *call, struct ivon_error *error)
{
    (void)error;
    block_chain(call);
    return 0;
}
