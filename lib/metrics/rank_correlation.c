#include <math.h>
#include <stdlib.h>

#include "core/error.h"
#include "ivon/metrics.h"

struct ranked {
    double value;
    size_t place;
};

static int rank_compare(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;
    return (x->value > y->value) - (x->value < y->value);
}

/* ranks[i] = by how much the rank of number i, mean among equal ones, exceeds the mean rank. Twice
   that is a whole number, so that sums of products are exact. */
static void rank_fill(const double *values, size_t count, struct ranked *sorted, double *ranks)
{
    for (size_t i = 0; i < count; i++)
        sorted[i] = (struct ranked){values[i], i};
    qsort(sorted, count, sizeof *sorted, rank_compare);
    for (size_t first = 0, end; first < count; first = end) {
        for (end = first + 1; end < count && !rank_compare(&sorted[first], &sorted[end]);)
            end++;
        double rank = ((double)first + (double)end - 1) / 2;
        for (size_t i = first; i < end; i++)
            ranks[sorted[i].place] = rank - ((double)count - 1) / 2;
    }
}

static bool rank_has_nan(const double *values, size_t count)
{
    bool found = false;
    for (size_t i = 0; i < count; i++)
        found |= isnan(values[i]);
    return found;
}

int ivon_rank_correlation(double *correlation, const double *x, const double *y, size_t count,
                          struct ivon_error *error)
{
    struct ranked *sorted = calloc(count + 1, sizeof *sorted);
    double *ranks = calloc(count + 1, 2 * sizeof *ranks), *others = ranks + count;
    double xx = 0, xy = 0, yy = 0;
    int code = sorted && ranks ? 0 : ivon_error_memory(error);
    *correlation = NAN;
    if (!code && !rank_has_nan(x, count) && !rank_has_nan(y, count)) {
        rank_fill(x, count, sorted, ranks);
        rank_fill(y, count, sorted, others);
        for (size_t i = 0; i < count; i++) {
            xx += ranks[i] * ranks[i];
            xy += ranks[i] * others[i];
            yy += others[i] * others[i];
        }
        *correlation = xy / sqrt(xx * yy);
    }
    free(sorted);
    free(ranks);
    return code;
}
