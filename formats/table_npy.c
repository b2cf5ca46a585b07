/* A column as an npy file, version 1.0 of the format: an ASCII header padded to 64 bytes, then the
   elements. */
#include <stdio.h>
#include <string.h>

#include "core/error.h"
#include "formats/table.h"

enum { ALIGNMENT = 64, PREAMBLE = 10, HEADER_MAX = 512 };

static const char *descriptor(enum ivon_dtype dtype)
{
    return dtype == IVON_F32 ? "<f4" : dtype == IVON_F64 ? "<f8" : "<i8";
}

static int begin(struct ivon_table *table, struct ivon_error *error)
{
    struct table_column *column = &table->columns[0];
    char header[HEADER_MAX] = "\x93NUMPY\x01";
    /* At most 8 extents of 19 digits: it always fits. */
    int end = PREAMBLE + snprintf(header + PREAMBLE, sizeof header - PREAMBLE,
                                  "{'descr': '%s', 'fortran_order': False, 'shape': (%llu,",
                                  descriptor(column->is.dtype),
                                  (unsigned long long)table->options.rows);
    for (int i = 0; i < column->is.rank; i++)
        end += snprintf(header + end, sizeof header - (size_t)end, "%s%lld", i ? ", " : " ",
                        (long long)column->is.shape[i]);
    end += snprintf(header + end, sizeof header - (size_t)end, "), }");
    size_t size = ((size_t)end + 1 + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    memset(header + end, ' ', size - (size_t)end);
    header[size - 1] = '\n';
    header[8] = (char)((size - PREAMBLE) & 0xff);
    header[9] = (char)((size - PREAMBLE) >> 8);
    column->offset = size;
    int code = atomic_reserve(&table->file, size + table->options.rows * column->size, error);
    return code ? code : atomic_write(&table->file, 0, header, size, error);
}

const struct table_class table_npy = {.begin = begin, .append = table_append_arrays};
