/* A column as an npy file. */
#include <string.h>

#include "core/error.h"
#include "formats/numpy/array.h"
#include "formats/table/table.h"

static int table_npy_begin(struct ivon_table *table, struct ivon_error *error)
{
    struct table_column *column = &table->columns[0];
    int64_t shape[1 + IVON_RANK_MAX] = {(int64_t)table->space};
    char header[NPY_HEADER_MAX];
    memcpy(shape + 1, column->is.shape, (size_t)column->is.rank * sizeof shape[0]);
    size_t size = npy_header(header, column->is.dtype, 1 + column->is.rank, shape);
    column->offset = size;
    int code = atomic_reserve(&table->file, size + table->space * column->size, error);
    return code ? code : atomic_write(&table->file, 0, header, size, error);
}

const struct table_class table_npy = {
    .suffixes = (const char *const[]){".npy", NULL},
    .single = true,
    .begin = table_npy_begin,
    .append = table_append_arrays,
};
