/* Sums of influences: over the rows of a group, whose influence together is their sum to first
   order, and over posteriors. */
#include <stdlib.h>
#include <string.h>

#include "cmd/influence/influence.h"
#include "cmd/shared/memory.h"
#include "cmd/shared/report.h"

struct influence_sums {
    size_t places;              /* groups, or examples */
    size_t rows;                /* of each: its tokens where each is one, else 1 */
    int64_t *numbers, *counts;  /* of groups, by rising number; or null */
    int64_t *place_of, *labels; /* of examples: their groups' places, or null; labels, or null */
    uint64_t examples, queries;
    double weight; /* of the posterior whose influences come */
    double *sums;  /* places × rows × queries */
};

static int sums_compare(const void *a, const void *b)
{
    const int64_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

/* Lists the groups, and turns the number of each example's into its place. */
static void sums_group(struct influence_sums *sums, int64_t *groups)
{
    uint64_t examples = sums->examples;
    sums->place_of = groups;
    sums->places = 0;
    sums->numbers = xcalloc(examples, sizeof *sums->numbers);
    sums->counts = xcalloc(examples, sizeof *sums->counts);
    memcpy(sums->numbers, groups, examples * sizeof *groups);
    qsort(sums->numbers, examples, sizeof *sums->numbers, sums_compare);
    for (uint64_t i = 0; i < examples; i++) {
        if (!i || sums->numbers[sums->places - 1] != sums->numbers[i])
            sums->numbers[sums->places++] = sums->numbers[i];
        sums->counts[sums->places - 1]++;
    }
    for (uint64_t i = 0; i < examples; i++) {
        const int64_t *found = bsearch(&groups[i], sums->numbers, sums->places, sizeof *found,
                                       sums_compare);
        groups[i] = found - sums->numbers;
    }
}

int influence_sums_new(struct influence_sums **out, int64_t *groups,
                       const struct ivon_influence_shape *shape, struct ivon_error *error)
{
    struct influence_sums *sums = xcalloc(1, sizeof *sums);
    size_t size;
    *out = sums;
    *sums = (struct influence_sums){.places = shape->examples,
                                    .rows = shape->rows,
                                    .examples = shape->examples,
                                    .queries = shape->queries,
                                    .weight = 1};
    if (groups)
        sums_group(sums, groups);
    if (!__builtin_mul_overflow(sums->places, sums->rows, &size) &&
        !__builtin_mul_overflow(size, sums->queries, &size))
        sums->sums = calloc(size + 1, sizeof *sums->sums);
    return sums->sums ? 0 : error_memory(error);
}

void influence_sums_free(struct influence_sums *sums)
{
    if (!sums)
        return;
    free(sums->numbers);
    free(sums->counts);
    free(sums->place_of);
    free(sums->labels);
    free(sums->sums);
    free(sums);
}

void influence_sums_set_weight(struct influence_sums *sums, double weight)
{
    sums->weight = weight;
}

/* Keeps the labels of a block, unless groups have taken the rows' place. */
static void sums_keep_labels(struct influence_sums *sums, const struct ivon_influences *block)
{
    if (!block->labels || sums->place_of)
        return;
    if (!sums->labels)
        sums->labels = xcalloc(sums->examples, sizeof *sums->labels);
    memcpy(sums->labels + block->first, block->labels, block->count * sizeof *block->labels);
}

int influence_sums_take(void *context, const struct ivon_influences *block,
                        struct ivon_error *error)
{
    struct influence_sums *sums = context;
    (void)error;
    sums_keep_labels(sums, block);
    for (size_t i = 0; i < block->count * sums->rows; i++) {
        uint64_t example = block->first + i / sums->rows;
        size_t place = sums->place_of ? (size_t)sums->place_of[example] : (size_t)example;
        double *to = sums->sums + (place * sums->rows + i % sums->rows) * sums->queries;
        for (size_t q = 0; q < block->query_count; q++)
            to[block->first_query + q] += sums->weight *
                                          (double)block->influence[i * block->query_count + q];
    }
    return 0;
}

size_t influence_sums_groups(const struct influence_sums *sums, const int64_t **numbers,
                             const int64_t **counts)
{
    *numbers = sums->numbers;
    *counts = sums->counts;
    return sums->places;
}

int influence_sums_give(const struct influence_sums *sums, influence_taker *on_block, void *context,
                        struct ivon_error *error)
{
    size_t size = sums->rows * (size_t)sums->queries;
    float *influence = xcalloc(size, sizeof *influence);
    int code = 0;
    for (size_t place = 0; place < sums->places && !code; place++) {
        for (size_t i = 0; i < size; i++)
            influence[i] = (float)sums->sums[place * size + i];
        const struct ivon_influences block = {.first = place,
                                              .count = 1,
                                              .query_count = (size_t)sums->queries,
                                              .rows = sums->rows,
                                              .influence = influence,
                                              .labels = sums->labels ? sums->labels + place : NULL};
        code = on_block(context, &block, error);
    }
    free(influence);
    return code;
}
