#include "net/ops/finish.h"

#include "net/ops/blockwise.h"
#include "net/ops/normalize/normalize.h"

size_t net_finish_scratch(size_t channels)
{
    return 3 * channels + NET_FINISH_LINKS_MAX * (size_t)BLOCK_FLOATS;
}

void net_finish_begin(const struct net_finish *finish, size_t channels, float *scratch)
{
    if (finish->norm)
        net_batch_coefficients(finish->norm, scratch, scratch + channels, scratch + 2 * channels);
    scratch += 3 * channels;
    for (size_t i = 0; i < finish->link_count; i++, scratch += BLOCK_FLOATS)
        for (size_t j = 0;
             finish->links[i].binary && finish->links[i].operand->count == 1 && j < BLOCK_FLOATS;
             j++)
            scratch[j] = *(const float *)finish->links[i].operand->data;
}

static void finish_run_block(const struct net_finish *finish, const float *scalars, float *y,
                             size_t count)
{
    size_t at = (size_t)(y - (const float *)finish->output->data);
    for (size_t i = 0; i < finish->link_count; i++, scalars += BLOCK_FLOATS) {
        const struct net_chain_link *link = &finish->links[i];
        const float *operand = scalars;
        if (link->binary && link->operand->count != 1)
            operand = (const float *)link->operand->data + at;
        if (!link->binary)
            link->unary(y, y, count);
        else if (link->operand_first)
            link->binary(y, operand, y, count);
        else
            link->binary(y, y, operand, count);
    }
}

void net_finish_run(const struct net_finish *finish, size_t channels, const float *scratch,
                    size_t channel, float *y, size_t count)
{
    const float *center = scratch + channel, *scalars = scratch + 3 * channels;
    for (size_t at = 0; at < count; at += BLOCK_FLOATS) {
        size_t block = count - at < BLOCK_FLOATS ? count - at : BLOCK_FLOATS;
        if (finish->norm)
            net_batch_map(y + at, y + at, *center, center[channels], center[2 * channels], block);
        finish_run_block(finish, scalars, y + at, block);
    }
}
