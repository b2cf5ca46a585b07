/* A table as an HDF5 file: a data set for each column. */
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "formats/hdf5/layout.h"
#include "formats/table/table.h"

enum { FORMAT_VERSION = 1 };

static bool put_column(struct hdf5_layout *layout, struct table_column *column, uint64_t rows)
{
    int64_t shape[IVON_RANK_MAX] = {(int64_t)rows};
    memcpy(shape + 1, column->is.shape, (size_t)column->is.rank * sizeof shape[0]);
    hid_t dataset = hdf5_put_dataset(layout, column->is.name, column->is.dtype, column->is.rank + 1,
                                     shape, &column->offset);
    return dataset >= 0 && H5Dclose(dataset) >= 0;
}

static int table_hdf5_describe(void *context, struct hdf5_layout *layout, struct ivon_error *error)
{
    struct ivon_table *table = context;
    hid_t root = hdf5_layout_root(layout);
    if (!hdf5_put_text(root, "format", "ivon-table") ||
        !hdf5_put_integer(root, "format_version", FORMAT_VERSION) ||
        !hdf5_put_text(root, "creator", table->options.creator) ||
        !hdf5_put_text(root, "provenance", table->options.provenance))
        return ivon_error_set(error, IVON_ERROR_IO, "%s: HDF5 cannot write it", table->name);
    for (size_t c = 0; c < table->column_count; c++)
        if (!put_column(layout, &table->columns[c], table->space))
            return ivon_error_set(error, IVON_ERROR_CREATE,
                                  "%s: HDF5 cannot hold column '%s' beside the others", table->name,
                                  table->columns[c].is.name);
    return 0;
}

static int table_hdf5_begin(struct ivon_table *table, struct ivon_error *error)
{
    return hdf5_lay_out(&table->file, table_hdf5_describe, table, error);
}

/* Lays out a file of more rows, and copies those of each column. */
static int table_hdf5_resume(struct ivon_table *table, struct ivon_error *error)
{
    uint64_t *offsets = calloc(table->column_count, sizeof *offsets);
    if (!offsets)
        return ivon_error_memory(error);
    for (size_t c = 0; c < table->column_count; c++)
        offsets[c] = table->columns[c].offset;
    int code = table_hdf5_begin(table, error);
    for (size_t c = 0; c < table->column_count && !code; c++)
        code = atomic_copy(&table->file, table->columns[c].offset, table->saved, offsets[c],
                           table->appended * table->columns[c].size, error);
    free(offsets);
    return code;
}

const struct table_class table_hdf5 = {
    .suffixes = (const char *const[]){".h5", ".hdf5", NULL},
    .begin = table_hdf5_begin,
    .resume = table_hdf5_resume,
    .append = table_append_arrays,
};
