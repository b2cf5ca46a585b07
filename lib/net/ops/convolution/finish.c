#include "net/ops/convolution/finish.h"

#include <float.h>
#include <math.h>

#include "core/dispatch.h"
#include "net/ops/elementwise/blockwise.h"
#include "net/ops/normalize/normalize.h"

size_t net_finish_scratch(size_t channels)
{
    return 3 * channels + NET_FINISH_LINKS_MAX * (size_t)BLOCK_FLOATS;
}

void net_finish_begin(const struct net_finish *finish, size_t channels, float *scratch)
{
    if (finish->norm)
        net_batch_coefficients(finish->norm, scratch, scratch + channels, scratch + 2 * channels);
    for (size_t i = 0; i < channels && !finish->norm; i++) { /* the identity, for -0 too */
        scratch[i] = 0;
        scratch[channels + i] = 1;
        scratch[2 * channels + i] = -0.0F;
    }
    scratch += 3 * channels;
    for (size_t i = 0; i < finish->link_count; i++, scratch += BLOCK_FLOATS)
        for (size_t j = 0;
             finish->links[i].binary && finish->links[i].operand->count == 1 && j < BLOCK_FLOATS;
             j++)
            scratch[j] = *(const float *)finish->links[i].operand->data;
}

/*
 * The steps that most networks have behind a convolution are done together, since each alone takes
 * as long as memory is read and written: a normalization, the sum with a shortcut, a bound. The
 * formulas of lanes.h are those of BatchNormalization, Add, Relu and Clip.
 */

static const struct net_chain_link *finish_next(const struct net_finish *finish, size_t i)
{
    return i < finish->link_count ? &finish->links[i] : NULL;
}

/* Sets the steps for outputs from y on, of channels from `channel` on; returns how many links they
   are. */
static size_t finish_set_lanes(const struct net_finish *finish, size_t channels,
                               const float *scratch, size_t channel, const float *y,
                               struct lanes_finish *lanes)
{
    const float *center = scratch + channel;
    size_t done = 0;
    *lanes = (struct lanes_finish){center, center + channels, center + 2 * channels, NULL, NAN, 0,
                                   NAN};
    const struct net_chain_link *link = finish_next(finish, 0);
    if (link && link->kind == NET_LINK_SUM && link->operand->count != 1) {
        lanes->operand = (const float *)link->operand->data +
                         (y - (const float *)finish->output->data);
        link = finish_next(finish, ++done);
    }
    if (link && link->kind == NET_LINK_RECTIFIED) {
        lanes->edge = -FLT_TRUE_MIN; /* the last number below 0 */
        return done + 1;
    }
    if (link && link->kind == NET_LINK_LEAST && link->operand->count == 1) {
        lanes->edge = lanes->least = *(const float *)link->operand->data;
        link = finish_next(finish, ++done);
    }
    if (link && link->kind == NET_LINK_MOST && link->operand->count == 1) {
        lanes->most = *(const float *)link->operand->data;
        done++;
    }
    return done;
}

bool net_finish_lanes(const struct net_finish *finish, size_t channels, const float *scratch,
                      size_t channel, const float *y, struct lanes_finish *lanes)
{
    return finish_set_lanes(finish, channels, scratch, channel, y, lanes) == finish->link_count;
}

/* The same in memory, on channel 0 of the steps. */
IVON_DISPATCH static void finish_run_lanes(const struct lanes_finish *lanes, float *y,
                                           const float *operand, size_t count)
{
    float center = *lanes->center, slope = *lanes->slope, offset = *lanes->offset;
    float edge = lanes->edge, least = lanes->least, most = lanes->most;
    BLOCK_EACH(count)
    {
        float x = (y[i] - center) * slope + offset;
        if (operand)
            x = x + operand[i];
        x = x <= edge ? least : x;
        y[i] = x >= most ? most : x;
    }
}

/* The links from `first` on, of elements from y on. */
static void finish_run_links(const struct net_finish *finish, size_t first, const float *scalars,
                             float *y, size_t count)
{
    for (size_t i = first; i < finish->link_count; i++) {
        const struct net_chain_link *link = &finish->links[i];
        const float *operand = scalars + i * BLOCK_FLOATS;
        if (link->binary && link->operand->count != 1)
            operand = (const float *)link->operand->data +
                      (y - (const float *)finish->output->data);
        if (!link->binary)
            link->unary(y, y, count);
        else if (link->operand_first)
            link->binary(y, operand, y, count);
        else
            link->binary(y, y, operand, count);
    }
}

bool net_finish_is_alone(const struct net_finish *finish)
{
    for (size_t i = 0; i < finish->link_count; i++)
        if (finish->links[i].binary && finish->links[i].operand->count != 1)
            return false;
    return true;
}

void net_finish_run(const struct net_finish *finish, size_t channels, const float *scratch,
                    size_t channel, float *y, size_t count)
{
    struct lanes_finish lanes;
    size_t done = finish_set_lanes(finish, channels, scratch, channel, y, &lanes);
    for (size_t at = 0; at < count; at += BLOCK_FLOATS) {
        size_t block = count - at < BLOCK_FLOATS ? count - at : BLOCK_FLOATS;
        if (finish->norm || done)
            finish_run_lanes(&lanes, y + at, lanes.operand ? lanes.operand + at : NULL, block);
        finish_run_links(finish, done, scratch + 3 * channels, y + at, block);
    }
}
