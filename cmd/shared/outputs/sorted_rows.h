/* Rows of bytes that are kept back, to be sorted by a number of each. */
#ifndef CMD_SHARED_OUTPUTS_SORTED_ROWS_H
#define CMD_SHARED_OUTPUTS_SORTED_ROWS_H

#include <stdbool.h>
#include <stddef.h>

#include "ivon/dtype.h"
#include "ivon/error.h"

struct sorted_rows {
    size_t size;           /* bytes of a row */
    size_t offset;         /* of the number, */
    enum ivon_dtype dtype; /* which is f32, f64 or i64 */
    size_t top;            /* how many are wanted at last; 0: all */
    bool ascending;        /* the least first */
    /* Set by the functions: */
    unsigned char *rows;
    size_t count, capacity;
    struct sorted_order *order; /* which came when */
    size_t came;
};

/* Appends a row. */
int sorted_rows_add(struct sorted_rows *rows, const void *row, struct ivon_error *error);

/* Sorts the rows, the greatest or the least first, what is not a number last, equal ones as they
   came, and forgets what is not wanted. */
int sorted_rows_finish(struct sorted_rows *rows, struct ivon_error *error);

void sorted_rows_release(struct sorted_rows *rows);

#endif
