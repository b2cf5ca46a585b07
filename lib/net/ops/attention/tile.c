#include "net/ops/attention/tile.h"

#include <math.h>
#include <string.h>

#include "core/dispatch.h"
#include "core/vector_math.h"
#include "net/ops/reduce/softmax.h"
#include "net/ops/sum.h"

size_t attention_start(const struct attention *attention, const size_t *steps, size_t head)
{
    size_t at = 0;
    for (int i = attention->rank - 1; i >= 0; i--) {
        at += head % attention->extents[i] * steps[i];
        head /= attention->extents[i];
    }
    return at;
}

static int64_t between(int64_t value, int64_t low, int64_t high)
{
    value = value < low ? low : value;
    return value > high ? high : value;
}

void attention_range(const struct attention *attention, const struct attention_values *values,
                     size_t head, int64_t query, int64_t *low, int64_t *high)
{
    int64_t most = attention->limit, offset = attention->offset;
    if (values->lengths) {
        size_t heads = attention->count / attention->extents[0];
        int64_t length = between(values->lengths[head / heads], 0, attention->keys);
        most = length < most ? length : most;
        offset = attention->at_end ? length - attention->queries : offset;
    }
    *low = 0;
    *high = most;
    if (attention->right >= 0)
        *high = between(query + offset + attention->right + 1, 0, most);
    if (attention->left >= 0)
        *low = between(query + offset - attention->left, 0, *high);
}

static float *tile_row(const struct attention *attention, const struct attention_tile *tile,
                       int64_t i)
{
    return tile->p + i * attention->keys;
}

IVON_DISPATCH static void cap_row(float *restrict p, float *restrict slope, int64_t count,
                                  float cap)
{
    float inverse = 1 / cap;
    for (int64_t j = 0; j < count; j++)
        p[j] = vector_tanh(p[j] * inverse);
    for (int64_t j = 0; slope && j < count; j++)
        slope[j] = 1 - p[j] * p[j];
    for (int64_t j = 0; j < count; j++)
        p[j] *= cap;
}

void tile_cap(const struct attention *attention, const struct attention_tile *tile, float *slope)
{
    int64_t width = tile->high - tile->low;
    for (int64_t i = 0; i < tile->rows; i++)
        cap_row(tile_row(attention, tile, i) + tile->low,
                slope ? slope + i * attention->keys + tile->low : NULL, width, attention->softcap);
}

/* Masks. */

IVON_DISPATCH static void add_row(float *restrict p, const float *restrict a, int64_t count)
{
    for (int64_t j = 0; j < count; j++)
        p[j] += a[j];
}

IVON_DISPATCH static void add_number(float *restrict p, float a, int64_t count)
{
    for (int64_t j = 0; j < count; j++)
        p[j] += a;
}

/* -INFINITY replaces a score, so that a NaN that is masked does not come back. */
static float masked(float p, float below)
{
    return below == -INFINITY ? below : p + below;
}

static bool is_kept(const struct attention_mask *mask, const void *data, size_t at)
{
    return mask->type == NET_BOOLEAN ? ((const unsigned char *)data)[at] != 0
                                     : ((const int64_t *)data)[at] != 0;
}

/* Returns the index in a mask of the element for key 0 of the tile's row i. */
static size_t mask_row(const struct attention *attention, const struct attention_tile *tile,
                       const struct attention_mask *mask, int64_t i)
{
    return attention_start(attention, mask->steps, tile->head) +
           (size_t)(tile->query + i) * mask->query;
}

static void mask_add(const struct attention_mask *mask, const void *data, size_t at, float *p,
                     int64_t low, int64_t high)
{
    size_t first = at + (size_t)low * mask->key;
    if (mask->type == NET_FLOAT && mask->key)
        add_row(p + low, (const float *)data + first, high - low);
    else if (mask->type == NET_FLOAT)
        add_number(p + low, ((const float *)data)[at], high - low);
    else
        for (int64_t j = low; j < high; j++, first += mask->key)
            if (!is_kept(mask, data, first))
                p[j] = masked(p[j], mask->below);
}

static void fill(float *p, int64_t low, int64_t high, float value)
{
    for (int64_t j = low; j < high; j++)
        p[j] = value;
}

void tile_mask(const struct attention *attention, const struct attention_values *values,
               const struct attention_tile *tile)
{
    for (int64_t i = 0; i < tile->rows; i++) {
        float *p = tile_row(attention, tile, i);
        int64_t low, high;
        attention_range(attention, values, tile->head, tile->query + i, &low, &high);
        for (size_t m = 0; m < attention->mask_count; m++) {
            const struct attention_mask *mask = &attention->masks[m];
            mask_add(mask, values->masks[m], mask_row(attention, tile, mask, i), p, low, high);
        }
        fill(p, tile->low, low, -INFINITY);
        fill(p, high, tile->high, -INFINITY);
    }
}

/* Softmax. */

static bool sees_none(const float *p, int64_t low, int64_t high)
{
    while (low < high && p[low] == -INFINITY)
        low++;
    return low == high;
}

void tile_softmax(const struct attention *attention, const struct attention_values *values,
                  const struct attention_tile *tile)
{
    bool bounded = values->lengths || attention->limit < attention->keys || attention->left >= 0 ||
                   attention->right >= 0;
    if (!bounded && !attention->mask_count) {
        net_softmax_rows(tile->p, tile->p, (size_t)tile->rows, (size_t)attention->keys);
        return;
    }
    for (int64_t i = 0; i < tile->rows; i++) {
        float *p = tile_row(attention, tile, i);
        int64_t low, high;
        attention_range(attention, values, tile->head, tile->query + i, &low, &high);
        if (sees_none(p, low, high))
            high = low;
        else
            net_softmax_rows(p + low, p + low, 1, (size_t)(high - low));
        fill(p, tile->low, low, 0);
        fill(p, high, tile->high, 0);
    }
}

IVON_DISPATCH static void jacobian_row(const float *restrict p, float *restrict d, int64_t count,
                                       float sum)
{
    for (int64_t j = 0; j < count; j++)
        d[j] = p[j] * (d[j] - sum);
}

void tile_softmax_jacobian(const struct attention *attention, const struct attention_tile *tile,
                           float *d)
{
    int64_t width = tile->high - tile->low;
    d += tile->low;
    for (int64_t i = 0; i < tile->rows; i++, d += attention->keys) {
        const float *p = tile_row(attention, tile, i) + tile->low;
        jacobian_row(p, d, width, (float)net_sum_products(p, d, (size_t)width));
    }
}

/* Between a tile and the tensor of all scores. */

static size_t score_row(const struct attention *attention, const struct attention_tile *tile,
                        int64_t i)
{
    return (tile->head * (size_t)attention->queries + (size_t)(tile->query + i)) *
           (size_t)attention->keys;
}

void tile_store(const struct attention *attention, const struct attention_tile *tile, float *scores)
{
    for (int64_t i = 0; i < tile->rows; i++)
        memcpy(scores + score_row(attention, tile, i), tile_row(attention, tile, i),
               (size_t)attention->keys * sizeof *scores);
}

/* Returns whether a boolean mask replaces score (i, j). */
static bool is_replaced(const struct attention *attention, const struct attention_values *values,
                        const struct attention_tile *tile, int64_t i, int64_t j)
{
    for (size_t m = 0; m < attention->mask_count; m++) {
        const struct attention_mask *mask = &attention->masks[m];
        if (mask->type != NET_FLOAT && mask->below == -INFINITY &&
            !is_kept(mask, values->masks[m],
                     mask_row(attention, tile, mask, i) + (size_t)j * mask->key))
            return true;
    }
    return false;
}

void tile_add(const struct attention *attention, const struct attention_tile *tile,
              const float *scores)
{
    for (int64_t i = 0; i < tile->rows; i++)
        add_row(tile_row(attention, tile, i), scores + score_row(attention, tile, i),
                attention->keys);
}

void tile_clear_unseen(const struct attention *attention, const struct attention_values *values,
                       const struct attention_tile *tile)
{
    for (int64_t i = 0; i < tile->rows; i++) {
        float *d = tile_row(attention, tile, i);
        int64_t low, high;
        attention_range(attention, values, tile->head, tile->query + i, &low, &high);
        fill(d, tile->low, low, 0);
        fill(d, high, tile->high, 0);
        for (int64_t j = low; j < high; j++)
            if (is_replaced(attention, values, tile, i, j))
                d[j] = 0;
    }
}

/* The derivatives of masks, which may end before the tile. */

static int64_t tile_high(const struct attention *attention, const struct attention_tile *tile)
{
    return tile->high < attention->limit ? tile->high : attention->limit;
}

void tile_mask_adjoint(const struct attention *attention, const struct attention_tile *tile,
                       const struct attention_mask *mask, float *adjoint, double *sums)
{
    for (int64_t i = 0; i < tile->rows; i++) {
        const float *d = tile_row(attention, tile, i) + tile->low;
        size_t at = mask_row(attention, tile, mask, i) + (size_t)tile->low * mask->key;
        int64_t width = tile_high(attention, tile) - tile->low;
        if (!mask->repeated)
            add_row(adjoint + at, d, width);
        else if (!mask->key)
            sums[at] += net_sum(d, (size_t)width);
        else
            for (int64_t j = 0; j < width; j++)
                sums[at + (size_t)j] += (double)d[j];
    }
}

void tile_mask_tangent(const struct attention *attention, const struct attention_tile *tile,
                       const struct attention_mask *mask, const float *tangent)
{
    for (int64_t i = 0; i < tile->rows; i++)
        mask_add(mask, tangent, mask_row(attention, tile, mask, i), tile_row(attention, tile, i),
                 tile->low, tile_high(attention, tile));
}

void tile_multiply(const struct attention *attention, const struct attention_tile *tile,
                   const float *slope)
{
    int64_t width = tile->high - tile->low;
    slope += tile->low;
    for (int64_t i = 0; i < tile->rows; i++, slope += attention->keys) {
        float *d = tile_row(attention, tile, i) + tile->low;
        for (int64_t j = 0; j < width; j++)
            d[j] *= slope[j];
    }
}
