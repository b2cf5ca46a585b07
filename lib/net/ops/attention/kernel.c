/* Attention, tile by tile: the matrix products, and the order of the steps between them. */
#include <math.h>
#include <string.h>

#include "core/blas.h"
#include "core/memory.h"
#include "net/ops/attention/tile.h"
#include "net/ops/product/panel_product.h"

/* A tile and its workspace. P, then D for derivatives, and the slope of the cap. */

enum { TILE_FLOATS = 65536, TILE_QUERIES = 32, TILES = 3 };

static size_t tile_bytes(const struct attention *attention)
{
    return memory_rounded((size_t)attention->tile * (size_t)attention->keys * sizeof(float));
}

size_t attention_plan(struct attention *attention)
{
    int64_t most = TILE_FLOATS / (attention->keys ? attention->keys : 1);
    most = most < TILE_QUERIES ? TILE_QUERIES : most;
    int64_t tiles = attention->queries / most + (attention->queries % most != 0);
    attention->tile = tiles ? (attention->queries + tiles - 1) / tiles : 0; /* equal ones */
    attention->count = 1;
    for (int i = 0; i < attention->rank; i++)
        attention->count *= attention->extents[i];
    size_t bytes = TILES * tile_bytes(attention); /* extents are below 2^31, a tile is short */
    for (size_t i = 0; i < attention->mask_count; i++) {
        const struct attention_mask *mask = &attention->masks[i];
        size_t sums = mask->repeated && mask->type == NET_FLOAT ? mask->count : 0;
        if (sums > PTRDIFF_MAX / 64)
            return 0;
        bytes += memory_rounded(sums * sizeof(double));
    }
    return bytes;
}

static float *tile_workspace(const struct attention *attention,
                             const struct attention_values *values, size_t which)
{
    return (float *)((char *)values->workspace + which * tile_bytes(attention));
}

/* Behind the tiles: the sums of mask i. */
static double *mask_sums(const struct attention *attention, const struct attention_values *values,
                         size_t i)
{
    char *at = (char *)values->workspace + TILES * tile_bytes(attention);
    for (size_t j = 0; j < i; j++)
        if (attention->masks[j].repeated && attention->masks[j].type == NET_FLOAT)
            at += memory_rounded(attention->masks[j].count * sizeof(double));
    return (double *)at;
}

/* Sets the tile's place; with `whole`, all keys are in it. */
static void tile_begin(const struct attention *attention, const struct attention_values *values,
                       size_t head, int64_t query, bool whole, struct attention_tile *tile)
{
    int64_t rest = attention->queries - query, low, high;
    *tile = (struct attention_tile){.head = head,
                                    .query = query,
                                    .rows = rest < attention->tile ? rest : attention->tile,
                                    .high = attention->keys,
                                    .p = tile_workspace(attention, values, 0)};
    if (whole)
        return;
    /* Ranges move to the right with the query. */
    attention_range(attention, values, head, query, &low, &high);
    tile->low = low;
    attention_range(attention, values, head, query + tile->rows - 1, &low, &high);
    tile->high = high > tile->low ? high : tile->low;
}

/* The same place in another tile. */
static struct attention_tile tile_beside(const struct attention *attention,
                                         const struct attention_values *values,
                                         const struct attention_tile *tile, size_t which)
{
    struct attention_tile other = *tile;
    other.p = tile_workspace(attention, values, which);
    return other;
}

/* Products. */

/* The keys of a tile that lie in part i, as keys of the whole; returns whether there are any. */
static bool part_range(const struct attention *attention, const struct attention_tile *tile, int i,
                       int64_t *low, int64_t *high)
{
    *low = i ? attention->first : 0;
    *high = i ? attention->keys : attention->first;
    *low = tile->low > *low ? tile->low : *low;
    *high = tile->high < *high ? tile->high : *high;
    return *low < *high;
}

/* Returns the index in an operand of its row `row` for the tile's head. */
static size_t operand_row(const struct attention *attention,
                          const struct attention_operand *operand, size_t head, int64_t row)
{
    return operand->start + attention_start(attention, operand->steps, head) +
           (size_t)row * (size_t)operand->row;
}

static size_t query_row(const struct attention *attention, const struct attention_tile *tile,
                        const struct attention_operand *operand)
{
    return operand_row(attention, operand, tile->head, tile->query);
}

/* Returns the index in part i of the keys or values of key `key` of the whole. */
static size_t key_row(const struct attention *attention, const struct attention_tile *tile,
                      const struct attention_operand *operand, int i, int64_t key)
{
    return operand_row(attention, operand, tile->head, key - (i ? attention->first : 0));
}

/* s = scale q kᵀ, + s with `add` */
static void multiply_keys(const struct attention *attention, const struct attention_tile *tile,
                          const float *q, const float *const *k, bool add, float *s)
{
    int64_t low, high;
    q += query_row(attention, tile, &attention->q);
    for (int i = 0; i < ATTENTION_PARTS; i++) {
        const struct attention_operand *part = &attention->k[i];
        if (!part_range(attention, tile, i, &low, &high) || !k[i])
            continue;
        const float *from = attention->columns
                                ? k[i] + operand_row(attention, part, tile->head, 0) + low
                                : k[i] + key_row(attention, tile, part, i, low);
        const struct panel_product product = {.transpose_b = !attention->columns,
                                              .m = tile->rows,
                                              .n = high - low,
                                              .k = attention->size,
                                              .lda = attention->q.row,
                                              .ldb = part->row,
                                              .ldy = attention->keys,
                                              .alpha = attention->scale,
                                              .add = add};
        panel_product_run(&product, q, from, s + low);
    }
}

/* y = p v, + y with `add` */
static void multiply_values(const struct attention *attention, const struct attention_tile *tile,
                            const float *p, const float *const *v, bool add, float *y)
{
    int64_t low, high;
    y += query_row(attention, tile, &attention->y);
    for (int i = 0; i < ATTENTION_PARTS; i++) {
        if (!part_range(attention, tile, i, &low, &high) || !v[i])
            continue;
        const struct panel_product product = {.m = tile->rows,
                                              .n = attention->value_size,
                                              .k = high - low,
                                              .lda = attention->keys,
                                              .ldb = attention->v[i].row,
                                              .ldy = attention->y.row,
                                              .alpha = 1,
                                              .add = add};
        panel_product_run(&product, p + low,
                          v[i] + key_row(attention, tile, &attention->v[i], i, low), y);
        add = true;
    }
    for (int64_t row = 0; row < tile->rows && !add; row++)
        memset(y + row * attention->y.row, 0, (size_t)attention->value_size * sizeof *y);
}

/* d = dy vᵀ */
static void multiply_output(const struct attention *attention, const struct attention_tile *tile,
                            const float *dy, const float *const *v, float *d)
{
    int64_t low, high;
    dy += query_row(attention, tile, &attention->y);
    for (int i = 0; i < ATTENTION_PARTS; i++)
        if (part_range(attention, tile, i, &low, &high))
            blas_product(false, true, tile->rows, high - low, attention->value_size, 1, dy,
                         attention->y.row,
                         v[i] + key_row(attention, tile, &attention->v[i], i, low),
                         attention->v[i].row, 0, d + low, attention->keys);
}

/* dv += pᵀ dy */
static void add_values_adjoint(const struct attention *attention, const struct attention_tile *tile,
                               const float *dy, float *const *dv)
{
    int64_t low, high;
    dy += query_row(attention, tile, &attention->y);
    for (int i = 0; i < ATTENTION_PARTS; i++)
        if (dv[i] && part_range(attention, tile, i, &low, &high))
            blas_product(true, false, high - low, attention->value_size, tile->rows, 1,
                         tile->p + low, attention->keys, dy, attention->y.row, 1,
                         dv[i] + key_row(attention, tile, &attention->v[i], i, low),
                         attention->v[i].row);
}

/* dq += scale d k and dk += scale dᵀ q */
static void add_products_adjoint(const struct attention *attention,
                                 const struct attention_values *values,
                                 const struct attention_tile *tile, const float *d,
                                 const struct attention_adjoints *to)
{
    int64_t low, high;
    size_t query = query_row(attention, tile, &attention->q);
    for (int i = 0; i < ATTENTION_PARTS; i++) {
        const struct attention_operand *part = &attention->k[i];
        if (!part_range(attention, tile, i, &low, &high))
            continue;
        size_t key = key_row(attention, tile, part, i, low);
        if (to->q)
            blas_product(false, false, tile->rows, attention->size, high - low, attention->scale,
                         d + low, attention->keys, values->k[i] + key, part->row, 1, to->q + query,
                         attention->q.row);
        if (to->k[i])
            blas_product(true, false, high - low, attention->size, tile->rows, attention->scale,
                         d + low, attention->keys, values->q + query, attention->q.row, 1,
                         to->k[i] + key, part->row);
    }
}

/* Forward. */

/* Computes probabilities in the tile, and the slope of the cap unless `slope` is null. Stores the
   scores of the stage that is wanted unless `scores` is null. */
static void tile_forward(const struct attention *attention, const struct attention_values *values,
                         const struct attention_tile *tile, float *slope, float *scores)
{
    enum attention_stage stage = attention->stage;
    multiply_keys(attention, tile, values->q, values->k, false, tile->p);
    if (scores && stage == ATTENTION_SCALED)
        tile_store(attention, tile, scores);
    if (attention->softcap != 0)
        tile_cap(attention, tile, slope);
    if (scores && stage == ATTENTION_CAPPED)
        tile_store(attention, tile, scores);
    if (attention->mask_count || (scores && stage == ATTENTION_MASKED))
        tile_mask(attention, values, tile);
    if (scores && stage == ATTENTION_MASKED)
        tile_store(attention, tile, scores);
    tile_softmax(attention, values, tile);
    if (scores && stage == ATTENTION_PROBABILITIES)
        tile_store(attention, tile, scores);
}

void attention_forward(const struct attention *attention, const struct attention_values *values,
                       float *y, float *scores)
{
    struct attention_tile tile;
    for (size_t head = 0; head < attention->count; head++)
        for (int64_t query = 0; query < attention->queries; query += tile.rows) {
            tile_begin(attention, values, head, query, scores, &tile);
            tile_forward(attention, values, &tile, NULL, scores);
            if (y)
                multiply_values(attention, &tile, tile.p, values->v, false, y);
        }
}

void attention_run(const struct attention *attention, const struct attention_values *values,
                   const int64_t *seen,
                   void (*complete)(void *context, const struct attention_tile *tile),
                   void *context, float *y)
{
    struct attention_tile tile;
    for (size_t head = 0; head < attention->count; head++)
        for (int64_t query = 0; query < attention->queries; query += tile.rows) {
            tile_begin(attention, values, head, query, true, &tile);
            for (int64_t i = 0; seen && i < tile.rows; i++)
                tile.high = i == 0 || seen[query + i] > tile.high ? seen[query + i] : tile.high;
            multiply_keys(attention, &tile, values->q, values->k, false, tile.p);
            complete(context, &tile);
            multiply_values(attention, &tile, tile.p, values->v, false, y);
        }
}

/* Backward: dv = pᵀ dy, dp = dy vᵀ, ds = p (dp − Σ p dp), dq = scale ds k, dk = scale dsᵀ q. */

static void tile_backward(const struct attention *attention, const struct attention_values *values,
                          const struct attention_tile *tile, const float *slope,
                          const struct attention_adjoints *to)
{
    struct attention_tile d = tile_beside(attention, values, tile, 1);
    const float *scores = to->scores;
    enum attention_stage stage = attention->stage;
    if (to->y)
        multiply_output(attention, tile, to->y, values->v, d.p);
    else
        memset(d.p, 0, (size_t)(d.rows * attention->keys) * sizeof *d.p);
    if (to->y)
        add_values_adjoint(attention, tile, to->y, to->v);
    if (scores && stage == ATTENTION_PROBABILITIES)
        tile_add(attention, &d, scores);
    tile_softmax_jacobian(attention, tile, d.p);
    if (scores && stage == ATTENTION_MASKED) {
        tile_add(attention, &d, scores);
        tile_clear_unseen(attention, values, &d);
    }
    for (size_t i = 0; i < attention->mask_count; i++)
        if (to->masks[i])
            tile_mask_adjoint(attention, &d, &attention->masks[i], to->masks[i],
                              mask_sums(attention, values, i));
    if (scores && stage == ATTENTION_CAPPED)
        tile_add(attention, &d, scores);
    if (attention->softcap != 0)
        tile_multiply(attention, &d, slope);
    if (scores && stage == ATTENTION_SCALED)
        tile_add(attention, &d, scores);
    add_products_adjoint(attention, values, &d, d.p, to);
}

void attention_backward(const struct attention *attention, const struct attention_values *values,
                        const struct attention_adjoints *adjoints)
{
    float *slope = tile_workspace(attention, values, 2);
    struct attention_tile tile;
    for (size_t i = 0; i < attention->mask_count; i++)
        if (adjoints->masks[i] && attention->masks[i].repeated)
            memset(mask_sums(attention, values, i), 0, attention->masks[i].count * sizeof(double));
    for (size_t head = 0; head < attention->count; head++)
        for (int64_t query = 0; query < attention->queries; query += tile.rows) {
            tile_begin(attention, values, head, query, adjoints->scores, &tile);
            tile_forward(attention, values, &tile, slope, NULL);
            tile_backward(attention, values, &tile, slope, adjoints);
        }
    for (size_t i = 0; i < attention->mask_count; i++)
        if (adjoints->masks[i] && attention->masks[i].repeated)
            for (size_t j = 0; j < attention->masks[i].count; j++)
                adjoints->masks[i][j] += (float)mask_sums(attention, values, i)[j];
}

/* Tangents: the same steps forward. */

static void attention_tile_tangent(const struct attention *attention,
                                   const struct attention_values *values,
                                   const struct attention_tile *tile, const float *slope,
                                   const struct attention_tangents *from)
{
    struct attention_tile d = tile_beside(attention, values, tile, 1);
    enum attention_stage stage = attention->stage;
    float *scores = from->scores;
    memset(d.p, 0, (size_t)(d.rows * attention->keys) * sizeof *d.p);
    if (from->q)
        multiply_keys(attention, tile, from->q, values->k, true, d.p);
    multiply_keys(attention, tile, values->q, from->k, true, d.p);
    if (scores && stage == ATTENTION_SCALED)
        tile_store(attention, &d, scores);
    if (attention->softcap != 0)
        tile_multiply(attention, &d, slope);
    if (scores && stage == ATTENTION_CAPPED)
        tile_store(attention, &d, scores);
    for (size_t i = 0; i < attention->mask_count; i++)
        if (from->masks[i])
            tile_mask_tangent(attention, &d, &attention->masks[i], from->masks[i]);
    if (scores && stage == ATTENTION_MASKED) {
        tile_clear_unseen(attention, values, &d);
        tile_store(attention, &d, scores);
    }
    tile_softmax_jacobian(attention, tile, d.p);
    if (scores && stage == ATTENTION_PROBABILITIES)
        tile_store(attention, &d, scores);
    if (!from->y)
        return;
    multiply_values(attention, tile, d.p, values->v, false, from->y);
    multiply_values(attention, tile, tile->p, from->v, true, from->y);
}

void attention_tangent(const struct attention *attention, const struct attention_values *values,
                       const struct attention_tangents *tangents)
{
    float *slope = tile_workspace(attention, values, 2);
    struct attention_tile tile;
    for (size_t head = 0; head < attention->count; head++)
        for (int64_t query = 0; query < attention->queries; query += tile.rows) {
            tile_begin(attention, values, head, query, tangents->scores, &tile);
            tile_forward(attention, values, &tile, slope, NULL);
            attention_tile_tangent(attention, values, &tile, slope, tangents);
        }
}
