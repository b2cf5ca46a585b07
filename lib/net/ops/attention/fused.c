#include "net/ops/attention/fused.h"

#include <stdlib.h>
#include <string.h>

#include "core/dispatch.h"
#include "core/error.h"
#include "core/memory.h"
#include "net/ops/elementwise/blockwise.h"
#include "net/ops/reduce/softmax.h"

/* The keys that can count. */

/* A number so low makes a probability 0 beside one of a score that is kept, which is a product of
   queries and keys. */
static const float hidden = -1e8F;

/* Returns whether an edit hides scores, at places that are known and the same for all heads. */
static bool hides_known(const struct attention_edit *edit, const struct attention *attention)
{
    const struct net_tensor *condition = edit->condition, *other = edit->other;
    if (!condition || !condition->data || !other->data || other->count != 1 ||
        !(*(const float *)other->data <= hidden) || condition->rank < 2)
        return false;
    return condition->count == (size_t)attention->queries * (size_t)attention->keys &&
           condition->shape[condition->rank - 1] == attention->keys &&
           condition->shape[condition->rank - 2] == attention->queries;
}

/* Returns whether an edit has numbers as operands, and no tensors, which may hide scores, too. */
static bool is_plain(const struct attention_edit *edit)
{
    for (size_t i = 0; i < edit->chain.link_count; i++)
        if (edit->links[i].binary && edit->links[i].operand->count != 1)
            return false;
    return edit->links;
}

int attention_fused_look(struct attention_fused *fused, struct ivon_error *error)
{
    const struct attention *attention = &fused->attention;
    size_t count = fused->edit_count;
    for (size_t i = 0; i + 1 < count; i++)
        if (!is_plain(&fused->edits[i]))
            return 0;
    const struct attention_edit *last = count ? &fused->edits[count - 1] : NULL;
    if (!last || !hides_known(last, attention))
        return 0;
    fused->seen = calloc((size_t)attention->queries + 1, sizeof *fused->seen);
    if (!fused->seen)
        return ivon_error_memory(error);
    const unsigned char *row = last->condition->data;
    for (int64_t i = 0; i < attention->queries; i++, row += attention->keys) {
        int64_t seen = attention->keys;
        while (seen > 0 && (row[seen - 1] != 0) != last->kept)
            seen--;
        fused->seen[i] = seen ? seen : attention->keys; /* all hidden: they are equal, or NaN */
    }
    return 0;
}

/* The workspace: that of the kernel, then the operands of all edits. */

static size_t edit_operands(const struct attention_edit *edit)
{
    return edit->links ? edit->chain.link_count : 2;
}

size_t attention_fused_plan(struct attention_fused *fused)
{
    size_t operands = 0;
    for (size_t i = 0; i < fused->edit_count; i++)
        operands += edit_operands(&fused->edits[i]);
    fused->offset = attention_plan(&fused->attention); /* whole lines */
    return fused->offset + operands * sizeof(struct broadcast);
}

struct fused_run {
    const struct attention_fused *fused;
    struct broadcast *operands[ATTENTION_EDITS_MAX];
};

/* Edits. */

IVON_DISPATCH static void attention_choose(float *restrict p,
                                           const unsigned char *restrict condition,
                                           const float *restrict other, size_t count, bool kept)
{
    if (kept)
        for (size_t i = 0; i < count; i++)
            p[i] = condition[i] ? p[i] : other[i];
    else
        for (size_t i = 0; i < count; i++)
            p[i] = condition[i] ? other[i] : p[i];
}

/* The next `count` scores of one edit. */
static void edit_next(const struct attention_edit *edit, struct broadcast *operands, float *p,
                      size_t count)
{
    _Alignas(64) float running[BLOCK_FLOATS];
    for (size_t i = 0, part; i < count; i += part) {
        part = count - i < BLOCK_FLOATS ? count - i : BLOCK_FLOATS;
        if (edit->links) {
            chain_next(&edit->chain, operands, p + i, running, p + i, part);
            continue;
        }
        const unsigned char *condition = broadcast_next(&operands[0], part);
        attention_choose(p + i, condition, broadcast_next(&operands[1], part), part, edit->kept);
    }
}

/* Passes over the operands of the next `count` scores. */
static void edit_skip(const struct attention_edit *edit, struct broadcast *operands, size_t count)
{
    for (size_t i = 0, part; i < count; i += part) {
        part = count - i < BLOCK_FLOATS ? count - i : BLOCK_FLOATS;
        for (size_t j = 0; j < edit_operands(edit); j++)
            if (!edit->links || edit->links[j].binary)
                broadcast_next(&operands[j], part);
    }
}

/* Of a tile that is whole the rows lie one behind the other. */
static void edit_tile(const struct attention_fused *fused, const struct attention_edit *edit,
                      struct broadcast *operands, const struct attention_tile *tile)
{
    int64_t keys = fused->attention.keys;
    if (tile->high == keys) {
        edit_next(edit, operands, tile->p, (size_t)(tile->rows * keys));
        return;
    }
    for (int64_t i = 0; i < tile->rows; i++) {
        edit_next(edit, operands, tile->p + i * keys, (size_t)tile->high);
        edit_skip(edit, operands, (size_t)(keys - tile->high));
    }
}

static void fused_softmax(const struct attention_fused *fused, const struct attention_tile *tile)
{
    int64_t keys = fused->attention.keys;
    if (!fused->seen) {
        net_softmax_rows(tile->p, tile->p, (size_t)tile->rows, (size_t)keys);
        return;
    }
    for (int64_t i = 0; i < tile->rows; i++) {
        float *p = tile->p + i * keys;
        int64_t seen = fused->seen[tile->query + i];
        net_softmax_rows(p, p, 1, (size_t)seen);
        memset(p + seen, 0, (size_t)(tile->high - seen) * sizeof *p);
    }
}

IVON_DISPATCH static void replace_nan(float *p, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        p[i] = p[i] == p[i] ? p[i] : 0;
}

static void complete(void *context, const struct attention_tile *tile)
{
    const struct fused_run *run = context;
    const struct attention_fused *fused = run->fused;
    for (size_t i = 0; i < fused->edit_count; i++)
        edit_tile(fused, &fused->edits[i], run->operands[i], tile);
    fused_softmax(fused, tile);
    for (int64_t i = 0; i < tile->rows && fused->nan_to_zero; i++)
        replace_nan(tile->p + i * fused->attention.keys, tile->high);
}

void attention_fused_run(const struct attention_fused *fused, void *workspace)
{
    struct fused_run run = {.fused = fused};
    struct broadcast *operands = (struct broadcast *)((char *)workspace + fused->offset);
    for (size_t i = 0; i < fused->edit_count; i++) {
        const struct attention_edit *edit = &fused->edits[i];
        run.operands[i] = operands;
        operands += edit_operands(edit);
        if (edit->links) {
            chain_begin(&edit->chain, run.operands[i]);
        } else {
            broadcast_begin(&run.operands[i][0], edit->condition, edit->shape);
            broadcast_begin(&run.operands[i][1], edit->other, edit->shape);
        }
    }
    struct attention_values values = {
        .q = fused->q->data, .k = {fused->k->data}, .v = {fused->v->data}, .workspace = workspace};
    attention_run(&fused->attention, &values, fused->seen, complete, &run, fused->y->data);
}

void attention_fused_free(struct attention_fused *fused)
{
    if (!fused)
        return;
    for (size_t i = 0; i < fused->edit_count; i++)
        free(fused->edits[i].links);
    free(fused->seen);
    free(fused);
}
