/* --groups: the influence of all rows of a group is, to first order, the sum of theirs. */
#include <stdlib.h>
#include <string.h>

#include "cmd/influence/influence.h"
#include "cmd/shared/memory.h"
#include "cmd/shared/report.h"

struct influence_groups {
    int64_t *numbers, *counts; /* of each group, by rising number */
    size_t count;
    int64_t *of; /* of each row: the number of its group, and then its place among them */
    uint64_t queries;
    double *sums; /* groups × queries */
};

static int groups_compare(const void *a, const void *b)
{
    const int64_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

int influence_groups_new(struct influence_groups **out, int64_t *groups, uint64_t examples,
                         uint64_t queries, struct ivon_error *error)
{
    struct influence_groups *sums = xcalloc(1, sizeof *sums);
    *out = sums;
    *sums = (struct influence_groups){.of = groups, .queries = queries};
    sums->numbers = xcalloc(examples, sizeof *sums->numbers);
    sums->counts = xcalloc(examples, sizeof *sums->counts);
    memcpy(sums->numbers, groups, examples * sizeof *groups);
    qsort(sums->numbers, examples, sizeof *sums->numbers, groups_compare);
    for (uint64_t i = 0; i < examples; i++) {
        if (!i || sums->numbers[sums->count - 1] != sums->numbers[i])
            sums->numbers[sums->count++] = sums->numbers[i];
        sums->counts[sums->count - 1]++;
    }
    for (uint64_t i = 0; i < examples; i++) {
        const int64_t *found = bsearch(&groups[i], sums->numbers, sums->count, sizeof *found,
                                       groups_compare);
        groups[i] = found - sums->numbers;
    }
    size_t size;
    if (!__builtin_mul_overflow(sums->count, queries, &size))
        sums->sums = calloc(size + 1, sizeof *sums->sums);
    return sums->sums ? 0 : error_memory(error);
}

void influence_groups_free(struct influence_groups *sums)
{
    if (!sums)
        return;
    free(sums->numbers);
    free(sums->counts);
    free(sums->of);
    free(sums->sums);
    free(sums);
}

int influence_groups_take(void *context, const struct ivon_influences *block,
                          struct ivon_error *error)
{
    const struct influence_groups *sums = context;
    (void)error;
    for (size_t i = 0; i < block->count; i++) {
        size_t group = (size_t)sums->of[block->first + i];
        double *to = sums->sums + group * sums->queries + block->first_query;
        for (size_t q = 0; q < block->query_count; q++)
            to[q] += (double)block->influence[i * block->query_count + q];
    }
    return 0;
}

size_t influence_groups_list(const struct influence_groups *sums, const int64_t **numbers,
                             const int64_t **counts)
{
    *numbers = sums->numbers;
    *counts = sums->counts;
    return sums->count;
}

int influence_groups_give(const struct influence_groups *sums,
                          int (*on_block)(void *context, const struct ivon_influences *block,
                                          struct ivon_error *error),
                          void *context, struct ivon_error *error)
{
    size_t queries = (size_t)sums->queries;
    float *influence = xcalloc(queries, sizeof *influence);
    int code = 0;
    for (size_t group = 0; group < sums->count && !code; group++) {
        for (size_t q = 0; q < queries; q++)
            influence[q] = (float)sums->sums[group * queries + q];
        const struct ivon_influences block = {
            .first = group, .count = 1, .query_count = queries, .rows = 1, .influence = influence};
        code = on_block(context, &block, error);
    }
    free(influence);
    return code;
}
