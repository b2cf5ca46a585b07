#include "net/ops/convolution/finish.h"

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
    scratch += 3 * channels;
    for (size_t i = 0; i < finish->link_count; i++, scratch += BLOCK_FLOATS)
        for (size_t j = 0;
             finish->links[i].binary && finish->links[i].operand->count == 1 && j < BLOCK_FLOATS;
             j++)
            scratch[j] = *(const float *)finish->links[i].operand->data;
}

/*
 * The steps that most networks have behind a convolution are done together, since each alone takes
 * as long as memory is read and written: a normalization, the sum with a shortcut, a bound.
 */

enum finish_bound { FREE, RECTIFIED, BOUNDED };

struct finish_steps {
    size_t links; /* done here */
    bool mapped;
    float center, slope, offset;
    bool summed;
    const float *operand; /* like the whole output */
    enum finish_bound bound;
    float least, most;
};

/* The formulas are those of BatchNormalization, Add, Relu and Clip. `mapped`, `summed` and `bound`
   are constants. */
static inline __attribute__((always_inline)) void finish_run_each(const struct finish_steps *steps,
                                                                  bool mapped, bool summed,
                                                                  enum finish_bound bound, float *y,
                                                                  const float *operand,
                                                                  size_t count)
{
    float center = steps->center, slope = steps->slope, offset = steps->offset;
    float least = steps->least, most = steps->most;
    BLOCK_EACH(count)
    {
        float x = y[i];
        if (mapped)
            x = (x - center) * slope + offset;
        if (summed)
            x = x + operand[i];
        if (bound == RECTIFIED)
            x = x < 0 ? 0 : x;
        if (bound == BOUNDED) {
            x = x <= least ? least : x; /* NaN stays */
            x = x >= most ? most : x;
        }
        y[i] = x;
    }
}

#define DEFINE_BOUNDS(NAME, MAPPED, SUMMED)                                                        \
    IVON_DISPATCH static void NAME(const struct finish_steps *steps, float *y,                     \
                                   const float *operand, size_t count)                             \
    {                                                                                              \
        if (steps->bound == RECTIFIED)                                                             \
            finish_run_each(steps, MAPPED, SUMMED, RECTIFIED, y, operand, count);                  \
        else if (steps->bound == BOUNDED)                                                          \
            finish_run_each(steps, MAPPED, SUMMED, BOUNDED, y, operand, count);                    \
        else                                                                                       \
            finish_run_each(steps, MAPPED, SUMMED, FREE, y, operand, count);                       \
    }

DEFINE_BOUNDS(finish_bound, false, false)
DEFINE_BOUNDS(finish_sum, false, true)
DEFINE_BOUNDS(finish_map, true, false)
DEFINE_BOUNDS(finish_map_sum, true, true)

static const struct net_chain_link *finish_next(const struct net_finish *finish, size_t i)
{
    return i < finish->link_count ? &finish->links[i] : NULL;
}

/* Sets what of a channel's steps is done together. */
static void finish_begin_steps(const struct net_finish *finish, size_t channels,
                               const float *center, struct finish_steps *steps)
{
    *steps = (struct finish_steps){.least = -INFINITY, .most = INFINITY};
    if (finish->norm) {
        steps->mapped = true;
        steps->center = *center;
        steps->slope = center[channels];
        steps->offset = center[2 * channels];
    }
    const struct net_chain_link *link = finish_next(finish, 0);
    if (link && link->kind == NET_LINK_SUM && link->operand->count != 1) {
        steps->summed = true;
        steps->operand = link->operand->data;
        link = finish_next(finish, ++steps->links);
    }
    if (link && link->kind == NET_LINK_RECTIFIED) {
        steps->bound = RECTIFIED;
        steps->links++;
        return;
    }
    if (link && link->kind == NET_LINK_LEAST && link->operand->count == 1) {
        steps->bound = BOUNDED;
        steps->least = *(const float *)link->operand->data;
        link = finish_next(finish, ++steps->links);
    }
    if (link && link->kind == NET_LINK_MOST && link->operand->count == 1) {
        steps->bound = BOUNDED;
        steps->most = *(const float *)link->operand->data;
        steps->links++;
    }
}

static void finish_run_steps(const struct finish_steps *steps, float *y, size_t at, size_t count)
{
    const float *operand = steps->summed ? steps->operand + at : NULL;
    if (steps->mapped && steps->summed)
        finish_map_sum(steps, y, operand, count);
    else if (steps->mapped)
        finish_map(steps, y, operand, count);
    else if (steps->summed)
        finish_sum(steps, y, operand, count);
    else if (steps->bound != FREE)
        finish_bound(steps, y, operand, count);
}

/* The links from `first` on. */
static void finish_run_links(const struct net_finish *finish, size_t first, const float *scalars,
                             float *y, size_t at, size_t count)
{
    for (size_t i = first; i < finish->link_count; i++) {
        const struct net_chain_link *link = &finish->links[i];
        const float *operand = scalars + i * BLOCK_FLOATS;
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
    struct finish_steps steps;
    finish_begin_steps(finish, channels, scratch + channel, &steps);
    size_t first = (size_t)(y - (const float *)finish->output->data);
    for (size_t at = 0; at < count; at += BLOCK_FLOATS) {
        size_t block = count - at < BLOCK_FLOATS ? count - at : BLOCK_FLOATS;
        finish_run_steps(&steps, y + at, first + at, block);
        finish_run_links(finish, steps.links, scratch + 3 * channels, y + at, first + at, block);
    }
}
