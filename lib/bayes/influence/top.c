/* The greatest influences on each query: two heaps, whose roots are the least that are kept. */
#include <math.h>
#include <stdlib.h>

#include "core/error.h"
#include "ivon/influence.h"

struct top_heap {
    struct ivon_influence_entry *entries;
    size_t count;
    bool sorted; /* the greatest first: it is no heap then */
};

struct ivon_influence_top {
    uint64_t queries;
    size_t most;
    struct top_heap *heaps; /* of each query: proponents, opponents */
    struct ivon_influence_entry *entries;
};

/* Returns whether one comes before the other: it is greater, or equal and earlier. */
static bool top_before(const struct ivon_influence_entry *a, const struct ivon_influence_entry *b)
{
    float x = fabsf(a->influence), y = fabsf(b->influence);
    return x > y || (x == y && a->row < b->row);
}

static int top_compare(const void *a, const void *b)
{
    return top_before(a, b) ? -1 : top_before(b, a);
}

int ivon_influence_top_new(struct ivon_influence_top **out, uint64_t queries, size_t most,
                           struct ivon_error *error)
{
    struct ivon_influence_top *top = calloc(1, sizeof *top);
    size_t heaps, entries;
    bool fine = top && !__builtin_mul_overflow(queries, (size_t)2, &heaps) &&
                !__builtin_mul_overflow(heaps, most, &entries);
    if (fine) {
        *top = (struct ivon_influence_top){.queries = queries, .most = most};
        top->heaps = calloc(heaps + 1, sizeof *top->heaps);
        top->entries = calloc(entries + 1, sizeof *top->entries);
        fine = top->heaps && top->entries;
    }
    for (size_t i = 0; fine && i < heaps; i++)
        top->heaps[i].entries = top->entries + i * most;
    if (!fine) {
        ivon_influence_top_free(top);
        return ivon_error_memory(error);
    }
    *out = top;
    return 0;
}

void ivon_influence_top_free(struct ivon_influence_top *top)
{
    if (!top)
        return;
    free(top->heaps);
    free(top->entries);
    free(top);
}

static void top_swap(struct top_heap *heap, size_t a, size_t b)
{
    struct ivon_influence_entry kept = heap->entries[a];
    heap->entries[a] = heap->entries[b];
    heap->entries[b] = kept;
}

/* Moves an entry towards the root while it comes after its parent. */
static void top_rise(struct top_heap *heap, size_t i)
{
    for (; i && top_before(&heap->entries[(i - 1) / 2], &heap->entries[i]); i = (i - 1) / 2)
        top_swap(heap, i, (i - 1) / 2);
}

/* Moves the root to where both children come before it. */
static void top_sink(struct top_heap *heap)
{
    for (size_t i = 0, last; (last = 2 * i + 1) < heap->count; i = last) {
        if (last + 1 < heap->count && top_before(&heap->entries[last], &heap->entries[last + 1]))
            last++;
        if (!top_before(&heap->entries[i], &heap->entries[last]))
            return;
        top_swap(heap, i, last);
    }
}

/* Entries the greatest first are turned round: the reverse of an order is a heap. */
static void top_unsort(struct top_heap *heap)
{
    for (size_t i = 0; i < heap->count / 2 && heap->sorted; i++)
        top_swap(heap, i, heap->count - 1 - i);
    heap->sorted = false;
}

static void top_offer(struct ivon_influence_top *top, uint64_t query,
                      const struct ivon_influence_entry *entry)
{
    struct top_heap *heap = &top->heaps[2 * query + (entry->influence < 0)];
    if (heap->count == top->most && (!top->most || !top_before(entry, &heap->entries[0])))
        return;
    if (heap->count < top->most) {
        heap->entries[heap->count++] = *entry;
        top_rise(heap, heap->count - 1);
    } else {
        heap->entries[0] = *entry;
        top_sink(heap);
    }
}

void ivon_influence_top_add(struct ivon_influence_top *top, const struct ivon_influences *block)
{
    size_t count = block->query_count, rows = block->rows;
    for (size_t q = 0; q < count && block->first_query + q < top->queries; q++) {
        uint64_t query = block->first_query + q;
        top_unsort(&top->heaps[2 * query]);
        top_unsort(&top->heaps[2 * query + 1]);
        for (size_t i = 0; i < block->count * rows; i++) {
            const struct ivon_influence_entry entry = {.row = block->first * rows + i,
                                                       .influence = block->influence[i * count + q],
                                                       .label = block->labels ? block->labels[i]
                                                                              : 0};
            if (entry.influence > 0 || entry.influence < 0)
                top_offer(top, query, &entry);
        }
    }
}

size_t ivon_influence_top_list(struct ivon_influence_top *top, uint64_t query, bool opponents,
                               const struct ivon_influence_entry **entries)
{
    if (query >= top->queries)
        return 0;
    struct top_heap *heap = &top->heaps[2 * query + opponents];
    if (!heap->sorted)
        qsort(heap->entries, heap->count, sizeof *heap->entries, top_compare);
    heap->sorted = true;
    *entries = heap->entries;
    return heap->count;
}
