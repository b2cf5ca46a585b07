#include "cmd/shared/outputs/sorted_rows.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/shared/report.h"

enum { MORE = 1 << 16 /* rows beyond the wanted ones before they are sorted */ };

struct sorted_order {
    double key;
    size_t came, at; /* as which row, and where it is now */
};

static int descending(const void *a, const void *b)
{
    const struct sorted_order *x = a, *y = b;
    bool x_none = x->key != x->key, y_none = y->key != y->key;
    if (x_none != y_none)
        return x_none ? 1 : -1;
    if (x_none || !(x->key > y->key || x->key < y->key))
        return (x->came > y->came) - (x->came < y->came);
    return x->key > y->key ? -1 : 1;
}

static double sorted_rows_key_of(const struct sorted_rows *rows, const unsigned char *row)
{
    double key;
    ivon_dtype_to_f64(&key, row + rows->offset, rows->dtype, 1);
    return rows->ascending ? -key : key;
}

int sorted_rows_finish(struct sorted_rows *rows, struct ivon_error *error)
{
    size_t kept = rows->top && rows->top < rows->count ? rows->top : rows->count;
    unsigned char *sorted = malloc(kept * rows->size + 1);
    if (!sorted)
        return error_memory(error);
    if (rows->count)
        qsort(rows->order, rows->count, sizeof *rows->order, descending);
    for (size_t i = 0; i < kept; i++) {
        memcpy(sorted + i * rows->size, rows->rows + rows->order[i].at * rows->size, rows->size);
        rows->order[i].at = i;
    }
    free(rows->rows);
    rows->rows = sorted;
    rows->count = rows->capacity = kept;
    return 0;
}

static int sorted_rows_grow(struct sorted_rows *rows, struct ivon_error *error)
{
    size_t capacity = rows->capacity ? 2 * rows->capacity : 1024;
    unsigned char *grown = realloc(rows->rows, capacity * rows->size);
    if (grown)
        rows->rows = grown;
    struct sorted_order *order = grown ? realloc(rows->order, capacity * sizeof *order) : NULL;
    if (!order)
        return error_memory(error);
    rows->order = order;
    rows->capacity = capacity;
    return 0;
}

int sorted_rows_add(struct sorted_rows *rows, const void *row, struct ivon_error *error)
{
    int code = 0;
    if (rows->top && rows->count >= rows->top + MORE)
        code = sorted_rows_finish(rows, error);
    if (!code && rows->count == rows->capacity)
        code = sorted_rows_grow(rows, error);
    if (code)
        return code;
    memcpy(rows->rows + rows->count * rows->size, row, rows->size);
    rows->order[rows->count] = (struct sorted_order){sorted_rows_key_of(rows, row), rows->came++,
                                                     rows->count};
    rows->count++;
    return 0;
}

void sorted_rows_release(struct sorted_rows *rows)
{
    free(rows->rows);
    free(rows->order);
}
