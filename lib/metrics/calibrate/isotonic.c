/* Isotonic regression by pooling adjacent violators (Ayer et al., Ann. Math. Stat. 1955). */
#include <stdlib.h>

#include "core/error.h"
#include "metrics/calibrate/calibration.h"

/* Numbers of one y, from `first` to `last`. */
struct pool {
    double first, last, sum;
    size_t count;
};

struct isotonic_point {
    float x;
    bool y;
};

static int isotonic_compare(const void *a, const void *b)
{
    float left = ((const struct isotonic_point *)a)->x,
          right = ((const struct isotonic_point *)b)->x;
    return (left > right) - (left < right);
}

/* Pools equal numbers first, then whatever falls. Returns how many pools there are. */
static size_t isotonic_pool(const struct isotonic_point *points, size_t count, struct pool *pools)
{
    size_t used = 0, end;
    for (size_t i = 0; i < count; i = end) {
        struct pool pool = {.first = (double)points[i].x, .last = (double)points[i].x};
        for (end = i; end < count && points[end].x == points[i].x; end++) {
            pool.sum += points[end].y;
            pool.count++;
        }
        /* The mean of the one below is not smaller: products of whole numbers are exact. */
        while (used && pools[used - 1].sum * (double)pool.count >=
                           pool.sum * (double)pools[used - 1].count) {
            used--;
            pool.first = pools[used].first;
            pool.sum += pools[used].sum;
            pool.count += pools[used].count;
        }
        pools[used++] = pool;
    }
    return used;
}

static int isotonic_keep(struct isotonic *isotonic, const struct pool *pools, size_t used,
                         size_t count, struct ivon_error *error)
{
    double least = 1 / ((double)count + 2);
    isotonic->x = calloc(2 * used, sizeof *isotonic->x);
    isotonic->y = calloc(2 * used, sizeof *isotonic->y);
    if (!isotonic->x || !isotonic->y)
        return ivon_error_memory(error);
    for (size_t i = 0; i < used; i++) {
        double y = pools[i].sum / (double)pools[i].count;
        y = y < least ? least : y > 1 - least ? 1 - least : y;
        for (int end = 0; end < (pools[i].last > pools[i].first ? 2 : 1); end++) {
            isotonic->x[isotonic->count] = end ? pools[i].last : pools[i].first;
            isotonic->y[isotonic->count++] = y;
        }
    }
    return 0;
}

int isotonic_fit(struct isotonic *isotonic, const float *x, const bool *y, size_t count,
                 struct ivon_error *error)
{
    struct isotonic_point *points = calloc(count, sizeof *points);
    struct pool *pools = calloc(count, sizeof *pools);
    *isotonic = (struct isotonic){0};
    int code = points && pools ? 0 : ivon_error_memory(error);
    if (!code) {
        for (size_t i = 0; i < count; i++)
            points[i] = (struct isotonic_point){x[i], y[i]};
        qsort(points, count, sizeof *points, isotonic_compare);
        code = isotonic_keep(isotonic, pools, isotonic_pool(points, count, pools), count, error);
    }
    free(points);
    free(pools);
    return code;
}

void isotonic_release(struct isotonic *isotonic)
{
    free(isotonic->x);
    free(isotonic->y);
}

double isotonic_value(const struct isotonic *isotonic, double x)
{
    const double *at = isotonic->x, *y = isotonic->y;
    size_t low = 0, high = isotonic->count - 1;
    if (x <= at[low])
        return y[low];
    if (x >= at[high])
        return y[high];
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (at[middle] <= x)
            low = middle;
        else
            high = middle;
    }
    return y[low] + (y[high] - y[low]) * ((x - at[low]) / (at[high] - at[low]));
}
