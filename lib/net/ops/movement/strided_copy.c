#include "net/ops/movement/strided_copy.h"

#include <stdbool.h>
#include <string.h>

#include "core/dispatch.h"

void net_strided_copy_add_axis(struct net_strided_copy *copy, int64_t count, int64_t to,
                               int64_t from)
{
    struct net_strided_axis *last = copy->rank ? &copy->axes[copy->rank - 1] : NULL;
    if (count == 1)
        return;
    if (last && last->to == to * count && last->from == from * count)
        *last = (struct net_strided_axis){last->count * count, to, from}; /* one run */
    else
        copy->axes[copy->rank++] = (struct net_strided_axis){count, to, from};
}

struct net_strided_copy net_strided_copy_reversed(const struct net_strided_copy *copy)
{
    struct net_strided_copy reversed = *copy;
    reversed.to_first = copy->from_first;
    reversed.from_first = copy->to_first;
    for (int i = 0; i < copy->rank; i++) {
        reversed.axes[i].to = copy->axes[i].from;
        reversed.axes[i].from = copy->axes[i].to;
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

IVON_DISPATCH static void strided_copy_add_row(float *restrict to, int64_t t,
                                               const float *restrict from, int64_t f, int64_t count)
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
 * first-level cache on both sides: a tile is done four columns at a time, since the lines of all
 * would share a few places of the cache where f is a multiple of a power of two.
 */

typedef float four __attribute__((vector_size(16), aligned(4), may_alias));

static inline void strided_copy_store(float *to, float value, bool add)
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
    int64_t c = 0;
    for (; c + 4 <= columns; c += 4) {
        int64_t r = 0;
        for (; r + 4 <= rows; r += 4)
            transpose_square(to + r * t + c, t, from + r + c * f, f, add);
        for (; r < rows; r++)
            for (int64_t j = c; j < c + 4; j++)
                strided_copy_store(to + r * t + j, from[r + j * f], add);
    }
    for (int64_t r = 0; r < rows; r++)
        for (int64_t j = c; j < columns; j++)
            strided_copy_store(to + r * t + j, from[r + j * f], add);
}

static void strided_copy_transpose(float *to, int64_t t, const float *from, int64_t f, int64_t rows,
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

/* The position of an iteration over some axes of a copy, the last one fastest. */
struct walk {
    int rank;
    struct net_strided_axis axes[NET_STRIDED_COPY_RANK_MAX];
    int64_t index[NET_STRIDED_COPY_RANK_MAX];
    int64_t to, from;
};

/* Advances to the next position. After the last, returns to the first and returns false. */
static bool strided_copy_advance(struct walk *walk)
{
    for (int i = walk->rank - 1; i >= 0; i--) {
        const struct net_strided_axis *axis = &walk->axes[i];
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

static bool empty(const struct net_strided_copy *copy)
{
    for (int i = 0; i < copy->rank; i++)
        if (copy->axes[i].count == 0)
            return true;
    return false;
}

/* Returns the longest axis along which `to`, or else `from`, is dense; -1 if there is none. */
static int dense_axis(const struct net_strided_copy *copy, bool to)
{
    int best = -1;
    for (int i = 0; i < copy->rank; i++) {
        const struct net_strided_axis *axis = &copy->axes[i];
        if ((to ? axis->to : axis->from) == 1 && (best < 0 || axis->count > copy->axes[best].count))
            best = i;
    }
    return best;
}

/* A copy split into planes. Along `columns`, `to` is dense if it is dense along any axis; along
   `rows`, `from` is dense if it is dense along another axis. `walk` iterates over the other
   axes. */
struct planes {
    struct net_strided_axis rows, columns;
    struct walk walk;
};

static struct planes strided_copy_split(const struct net_strided_copy *copy)
{
    static const struct net_strided_axis single = {1, 0, 0};
    struct planes planes = {.rows = single, .columns = single};
    planes.walk.to = copy->to_first;
    planes.walk.from = copy->from_first;
    int columns = dense_axis(copy, true);
    if (columns < 0)
        columns = copy->rank - 1;
    int rows = dense_axis(copy, false);
    if (rows < 0 || rows == columns)
        rows = columns == copy->rank - 1 ? columns - 1 : copy->rank - 1;
    for (int i = 0; i < copy->rank; i++) {
        if (i == columns)
            planes.columns = copy->axes[i];
        else if (i == rows)
            planes.rows = copy->axes[i];
        else
            planes.walk.axes[planes.walk.rank++] = copy->axes[i];
    }
    return planes;
}

static void strided_copy_row(void *to, int64_t t, const void *from, int64_t f, int64_t count,
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

static bool needs_transpose(const struct planes *planes)
{
    return planes->columns.to == 1 && planes->rows.from == 1 && planes->columns.from != 1;
}

void net_strided_copy_run(const struct net_strided_copy *copy, void *to, const void *from,
                          size_t element_size)
{
    if (empty(copy))
        return;
    struct planes planes = strided_copy_split(copy);
    const struct net_strided_axis rows = planes.rows, columns = planes.columns;
    int64_t size = (int64_t)element_size;
    do {
        char *plane = (char *)to + planes.walk.to * size;
        const char *source = (const char *)from + planes.walk.from * size;
        if (needs_transpose(&planes) && element_size == sizeof(float)) {
            strided_copy_transpose((float *)plane, rows.to, (const float *)source, columns.from,
                                   rows.count, columns.count, false);
            continue;
        }
        for (int64_t r = 0; r < rows.count; r++)
            strided_copy_row(plane + r * rows.to * size, columns.to, source + r * rows.from * size,
                             columns.from, columns.count, element_size);
    } while (strided_copy_advance(&planes.walk));
}

/* The adjoint of repeating: along the axes of `summed`, `to` has stride 0. */
static void add_sums(const struct net_strided_copy *others, struct walk summed, float *to,
                     const float *from)
{
    enum { PIECE = 256 };
    double sums[PIECE];
    struct planes planes = strided_copy_split(others);
    const struct net_strided_axis rows = planes.rows, columns = planes.columns;
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
                } while (strided_copy_advance(&summed));
                for (int64_t i = 0; i < piece; i++)
                    to[t + i * columns.to] += (float)sums[i];
            }
    } while (strided_copy_advance(&planes.walk));
}

void net_strided_copy_add(const struct net_strided_copy *copy, float *to, const float *from)
{
    struct net_strided_copy others = {.to_first = copy->to_first, .from_first = copy->from_first};
    struct walk summed = {0};
    if (empty(copy))
        return;
    for (int i = 0; i < copy->rank; i++) {
        if (copy->axes[i].to == 0)
            summed.axes[summed.rank++] = copy->axes[i];
        else
            others.axes[others.rank++] = copy->axes[i];
    }
    if (summed.rank) {
        add_sums(&others, summed, to, from);
        return;
    }
    struct planes planes = strided_copy_split(copy);
    const struct net_strided_axis rows = planes.rows, columns = planes.columns;
    do {
        float *plane = to + planes.walk.to;
        const float *source = from + planes.walk.from;
        if (needs_transpose(&planes)) {
            strided_copy_transpose(plane, rows.to, source, columns.from, rows.count, columns.count,
                                   true);
            continue;
        }
        for (int64_t r = 0; r < rows.count; r++)
            strided_copy_add_row(plane + r * rows.to, columns.to, source + r * rows.from,
                                 columns.from, columns.count);
    } while (strided_copy_advance(&planes.walk));
}
