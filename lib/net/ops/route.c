#include "net/ops/route.h"

#include <stdbool.h>
#include <string.h>

#include "core/dispatch.h"

void net_route_add_axis(struct net_route *route, int64_t count, int64_t to, int64_t from)
{
    struct net_axis_route *last = route->rank ? &route->axes[route->rank - 1] : NULL;
    if (count == 1)
        return;
    if (last && last->to == to * count && last->from == from * count)
        *last = (struct net_axis_route){last->count * count, to, from}; /* one run on both sides */
    else
        route->axes[route->rank++] = (struct net_axis_route){count, to, from};
}

struct net_route net_route_reversed(const struct net_route *route)
{
    struct net_route reversed = *route;
    reversed.to_first = route->from_first;
    reversed.from_first = route->to_first;
    for (int i = 0; i < route->rank; i++) {
        reversed.axes[i].to = route->axes[i].from;
        reversed.axes[i].from = route->axes[i].to;
    }
    return reversed;
}

/* Rows. */

#define COPY_ROW(name, type)                                                                       \
    IVON_DISPATCH static void name(type *restrict to, int64_t t, const type *restrict from,        \
                                   int64_t f, int64_t count)                                       \
    {                                                                                              \
        if (t == 1 && f == 0) {                                                                    \
            type value = *from;                                                                    \
            for (int64_t i = 0; i < count; i++)                                                    \
                to[i] = value;                                                                     \
            return;                                                                                \
        }                                                                                          \
        for (int64_t i = 0; i < count; i++)                                                        \
            to[i * t] = from[i * f];                                                               \
    }
COPY_ROW(copy_row_1, uint8_t)
COPY_ROW(copy_row_4, float)
COPY_ROW(copy_row_8, int64_t)
#undef COPY_ROW

IVON_DISPATCH static void route_add_row(float *restrict to, int64_t t, const float *restrict from,
                                        int64_t f, int64_t count)
{
    if (t == 1 && f == 1) {
        for (int64_t i = 0; i < count; i++)
            to[i] += from[i];
        return;
    }
    for (int64_t i = 0; i < count; i++)
        to[i * t] += from[i * f];
}

/*
 * A plane whose rows are dense on one side and whose columns are on the other, floats only:
 * to[r t + c] = or += from[r + c f]. Squares of 4 × 4 in registers, within tiles that stay in the
 * first-level cache on both sides.
 */

typedef float four __attribute__((vector_size(16), aligned(4), may_alias));

static inline void route_store(float *to, float value, bool add)
{
    *to = add ? *to + value : value;
}

static inline void transpose_square(float *to, int64_t t, const float *from, int64_t f, bool add)
{
    four a = *(const four *)from, b = *(const four *)(from + f);
    four c = *(const four *)(from + 2 * f), d = *(const four *)(from + 3 * f);
    four ab_low = __builtin_shufflevector(a, b, 0, 4, 1, 5);
    four ab_high = __builtin_shufflevector(a, b, 2, 6, 3, 7);
    four cd_low = __builtin_shufflevector(c, d, 0, 4, 1, 5);
    four cd_high = __builtin_shufflevector(c, d, 2, 6, 3, 7);
    four rows[4] = {__builtin_shufflevector(ab_low, cd_low, 0, 1, 4, 5),
                    __builtin_shufflevector(ab_low, cd_low, 2, 3, 6, 7),
                    __builtin_shufflevector(ab_high, cd_high, 0, 1, 4, 5),
                    __builtin_shufflevector(ab_high, cd_high, 2, 3, 6, 7)};
    for (int i = 0; i < 4; i++) {
        four *row = (four *)(to + i * t);
        if (add)
            *row += rows[i];
        else
            *row = rows[i];
    }
}

static inline void transpose_tile(float *to, int64_t t, const float *from, int64_t f, int64_t rows,
                                  int64_t columns, bool add)
{
    int64_t r = 0;
    for (; r + 4 <= rows; r += 4) {
        int64_t c = 0;
        for (; c + 4 <= columns; c += 4)
            transpose_square(to + r * t + c, t, from + r + c * f, f, add);
        for (; c < columns; c++)
            for (int64_t i = r; i < r + 4; i++)
                route_store(to + i * t + c, from[i + c * f], add);
    }
    for (; r < rows; r++)
        for (int64_t c = 0; c < columns; c++)
            route_store(to + r * t + c, from[r + c * f], add);
}

static void route_transpose(float *to, int64_t t, const float *from, int64_t f, int64_t rows,
                            int64_t columns, bool add)
{
    enum { ROWS = 16, COLUMNS = 64 };
    for (int64_t r = 0; r < rows; r += ROWS)
        for (int64_t c = 0; c < columns; c += COLUMNS) {
            int64_t height = rows - r < ROWS ? rows - r : ROWS;
            int64_t width = columns - c < COLUMNS ? columns - c : COLUMNS;
            float *tile = to + r * t + c;
            const float *source = from + r + c * f;
            if (add)
                transpose_tile(tile, t, source, f, height, width, true);
            else
                transpose_tile(tile, t, source, f, height, width, false);
        }
}

/* Walks. */

/* The position of a walk over some axes of a route, the last one fastest. */
struct walk {
    int rank;
    struct net_axis_route axes[NET_ROUTE_RANK_MAX];
    int64_t index[NET_ROUTE_RANK_MAX];
    int64_t to, from;
};

/* To the next position; false, and back at the first, after the last. */
static bool route_advance(struct walk *walk)
{
    for (int i = walk->rank - 1; i >= 0; i--) {
        const struct net_axis_route *axis = &walk->axes[i];
        walk->to += axis->to;
        walk->from += axis->from;
        if (++walk->index[i] < axis->count)
            return true;
        walk->index[i] = 0;
        walk->to -= axis->to * axis->count;
        walk->from -= axis->from * axis->count;
    }
    return false;
}

static bool empty(const struct net_route *route)
{
    for (int i = 0; i < route->rank; i++)
        if (route->axes[i].count == 0)
            return true;
    return false;
}

/* The longest axis along which `to` is dense, or `from`; -1 if there is none. */
static int dense_axis(const struct net_route *route, bool to)
{
    int best = -1;
    for (int i = 0; i < route->rank; i++) {
        const struct net_axis_route *axis = &route->axes[i];
        if ((to ? axis->to : axis->from) == 1 &&
            (best < 0 || axis->count > route->axes[best].count))
            best = i;
    }
    return best;
}

/*
 * A route cut into planes: `columns` is dense in `to` where any axis is, and `rows` is dense in
 * `from` where that is another one. The walk goes over the other axes.
 */
struct planes {
    struct net_axis_route rows, columns;
    struct walk walk;
};

static struct planes route_cut(const struct net_route *route)
{
    static const struct net_axis_route single = {1, 0, 0};
    struct planes planes = {.rows = single, .columns = single};
    planes.walk.to = route->to_first;
    planes.walk.from = route->from_first;
    int columns = dense_axis(route, true);
    if (columns < 0)
        columns = route->rank - 1;
    int rows = dense_axis(route, false);
    if (rows < 0 || rows == columns)
        rows = columns == route->rank - 1 ? columns - 1 : route->rank - 1;
    for (int i = 0; i < route->rank; i++) {
        if (i == columns)
            planes.columns = route->axes[i];
        else if (i == rows)
            planes.rows = route->axes[i];
        else
            planes.walk.axes[planes.walk.rank++] = route->axes[i];
    }
    return planes;
}

static void route_copy_row(void *to, int64_t t, const void *from, int64_t f, int64_t count,
                           size_t element_size)
{
    if (t == 1 && f == 1)
        memcpy(to, from, (size_t)count * element_size);
    else if (element_size == 1)
        copy_row_1(to, t, from, f, count);
    else if (element_size == sizeof(float))
        copy_row_4(to, t, from, f, count);
    else
        copy_row_8(to, t, from, f, count);
}

static bool crosswise(const struct planes *planes)
{
    return planes->columns.to == 1 && planes->rows.from == 1 && planes->columns.from != 1;
}

void net_route_copy(const struct net_route *route, void *to, const void *from, size_t element_size)
{
    if (empty(route))
        return;
    struct planes planes = route_cut(route);
    const struct net_axis_route rows = planes.rows, columns = planes.columns;
    int64_t size = (int64_t)element_size;
    do {
        char *plane = (char *)to + planes.walk.to * size;
        const char *source = (const char *)from + planes.walk.from * size;
        if (crosswise(&planes) && element_size == sizeof(float)) {
            route_transpose((float *)plane, rows.to, (const float *)source, columns.from,
                            rows.count, columns.count, false);
            continue;
        }
        for (int64_t r = 0; r < rows.count; r++)
            route_copy_row(plane + r * rows.to * size, columns.to, source + r * rows.from * size,
                           columns.from, columns.count, element_size);
    } while (route_advance(&planes.walk));
}

/* The adjoint of repeating: `summed` are the axes along which `to` stands still. */
static void add_sums(const struct net_route *kept, struct walk summed, float *to, const float *from)
{
    enum { PIECE = 256 };
    double sums[PIECE];
    struct planes planes = route_cut(kept);
    const struct net_axis_route rows = planes.rows, columns = planes.columns;
    do {
        for (int64_t r = 0; r < rows.count; r++)
            for (int64_t c = 0; c < columns.count; c += PIECE) {
                int64_t piece = columns.count - c < PIECE ? columns.count - c : PIECE;
                int64_t t = planes.walk.to + r * rows.to + c * columns.to;
                const float *source = from + planes.walk.from + r * rows.from + c * columns.from;
                memset(sums, 0, sizeof sums);
                do {
                    for (int64_t i = 0; i < piece; i++)
                        sums[i] += (double)source[summed.from + i * columns.from];
                } while (route_advance(&summed));
                for (int64_t i = 0; i < piece; i++)
                    to[t + i * columns.to] += (float)sums[i];
            }
    } while (route_advance(&planes.walk));
}

void net_route_add(const struct net_route *route, float *to, const float *from)
{
    struct net_route kept = {.to_first = route->to_first, .from_first = route->from_first};
    struct walk summed = {0};
    if (empty(route))
        return;
    for (int i = 0; i < route->rank; i++) {
        if (route->axes[i].to == 0)
            summed.axes[summed.rank++] = route->axes[i];
        else
            kept.axes[kept.rank++] = route->axes[i];
    }
    if (summed.rank) {
        add_sums(&kept, summed, to, from);
        return;
    }
    struct planes planes = route_cut(route);
    const struct net_axis_route rows = planes.rows, columns = planes.columns;
    do {
        float *plane = to + planes.walk.to;
        const float *source = from + planes.walk.from;
        if (crosswise(&planes)) {
            route_transpose(plane, rows.to, source, columns.from, rows.count, columns.count, true);
            continue;
        }
        for (int64_t r = 0; r < rows.count; r++)
            route_add_row(plane + r * rows.to, columns.to, source + r * rows.from, columns.from,
                          columns.count);
    } while (route_advance(&planes.walk));
}
