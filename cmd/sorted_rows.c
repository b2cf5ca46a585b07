#include "cmd/sorted_rows.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

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

static double key_of(const struct sorted_rows *rows, const unsigned char *row)
{
    double key;
    ivon_dtype_to_f64(&key, row + rows->offset, rows->dtype, 1);
    return key;
}

void sorted_rows_finish(struct sorted_rows *rows)
{
    size_t kept = rows->top && rows->top < rows->count ? rows->top : rows->count;
    unsigned char *sorted = malloc(kept * rows->size + 1);
    if (!sorted)
        exit(EX_OSERR);
    if (rows->count)
        qsort(rows->order, rows->count, sizeof *rows->order, descending);
    for (size_t i = 0; i < kept; i++) {
        memcpy(sorted + i * rows->size, rows->rows + rows->order[i].at * rows->size, rows->size);
        rows->order[i].at = i;
    }
    free(rows->rows);
    rows->rows = sorted;
    rows->count = rows->room = kept;
}

void sorted_rows_add(struct sorted_rows *rows, const void *row)
{
    if (rows->top && rows->count >= rows->top + MORE)
        sorted_rows_finish(rows);
    if (rows->count == rows->room) {
        rows->room = rows->room ? 2 * rows->room : 1024;
        rows->rows = realloc(rows->rows, rows->room * rows->size);
        rows->order = realloc(rows->order, rows->room * sizeof *rows->order);
        if (!rows->rows || !rows->order)
            exit(EX_OSERR);
    }
    memcpy(rows->rows + rows->count * rows->size, row, rows->size);
    rows->order[rows->count] =
        (struct sorted_order){key_of(rows, row), rows->came++, rows->count};
    rows->count++;
}

void sorted_rows_release(struct sorted_rows *rows)
{
    free(rows->rows);
    free(rows->order);
}
