/*
 * Tables read by the names of their columns, such as ivon/table.h writes, from files of any size:
 * each call that reads a column passes over the file, and nothing of it is kept.
 *
 * A file's format is recognised by its content:
 *   HDF5        a data set with one axis, in the root group, is a column; all that are have one
 *               length
 *   JSON Lines  one object a line, empty lines passed over; the first object's members are the
 *               columns, but for those that are arrays or objects; one that a later object lacks is
 *               missing there
 *   CSV         RFC 4180 with commas, empty lines and spaces around fields passed over; the first
 *               line is a header when one of its fields is not a number, else columns are named
 *               "1", "2", …
 *
 * HDF5 and JSON Lines have the tokens of an example in one row, where CSV has a row for each of
 * them: `unfold` reads the first two as the third.
 */
#ifndef IVON_TABLE_READER_H
#define IVON_TABLE_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ivon/api.h"
#include "ivon/error.h"
#include "ivon/options.h"

#ifdef __cplusplus
extern "C" {
#endif

/* In the defaults all but the size is zero. */
struct ivon_table_reader_options {
    size_t size; /* sizeof this struct: set by ivon_table_reader_defaults() */
    bool no_sandbox;
    /* Memory: for decompressing, and for a line of JSON; 0: 64 MiB. */
    struct ivon_resources resources;
    /*
     * The name of a column. Where a row has a list of numbers there (JSON Lines), or the column has
     * two axes (HDF5), the table's rows are the elements of these lists, whose lengths may differ.
     * Of other columns, lists as long give each row their element, and what is no list is repeated.
     * A column `token` counts the elements of each list from 0, and in HDF5 a column `index` the
     * lists, where the file has no such columns. Null, or a column that is not there or has no
     * lists: rows are the file's. Not needed after opening.
     */
    const char *unfold;
};

/* See struct ivon_table_reader_options. */
IVON_API void ivon_table_reader_options_init(struct ivon_table_reader_options *options,
                                             size_t size);
static inline struct ivon_table_reader_options ivon_table_reader_defaults(void)
{
    struct ivon_table_reader_options options;
    ivon_table_reader_options_init(&options, sizeof options);
    return options;
}

struct ivon_table_reader;

/*
 * Opens a table and reads it once, which checks its records and counts them. Null options are the
 * defaults. Fails with IVON_ERROR_INPUT where the file cannot be opened, with IVON_ERROR_DATA where
 * it is no table; one without rows is one. HDF5 files are parsed in a child process that is forked
 * here. Memory-mapped: a file that another process truncates while it is open makes reading it
 * raise SIGBUS.
 */
IVON_API int ivon_table_reader_open(struct ivon_table_reader **reader, const char *path,
                                    const struct ivon_table_reader_options *options,
                                    struct ivon_error *error);
IVON_API void ivon_table_reader_close(struct ivon_table_reader *reader);

/* The name under which it was opened; borrowed. */
IVON_API const char *ivon_table_reader_path(const struct ivon_table_reader *reader);
IVON_API uint64_t ivon_table_reader_rows(const struct ivon_table_reader *reader);
IVON_API size_t ivon_table_reader_count(const struct ivon_table_reader *reader);

/* The name of column `i` of ivon_table_reader_count, in the file's order; borrowed. Any bytes but
   null ones may be in it. */
IVON_API const char *ivon_table_reader_name(const struct ivon_table_reader *reader, size_t i);

/* Returns whether there is a column of that name. */
IVON_API bool ivon_table_reader_has(const struct ivon_table_reader *reader, const char *name);

/* *column receives the column of that name. IVON_ERROR_DATA, with a list of the columns, where
   there is none; also where there are two. */
IVON_API int ivon_table_reader_find(const struct ivon_table_reader *reader, const char *name,
                                    size_t *column, struct ivon_error *error);

/* Reads a column of numbers into ivon_table_reader_rows doubles; what is missing, empty or null is
   NaN; JSON's texts "Infinity" and "-Infinity" are numbers.
   IVON_ERROR_DATA names the row, counted from 0, of what is not a number. */
IVON_API int ivon_table_reader_read(struct ivon_table_reader *reader, size_t column,
                                    double *numbers, struct ivon_error *error);

/* Hands out a column as text, row by row: borrowed until `on_row` returns, and "" for what is
   missing. A null byte in it becomes '?'. `on_row` stops by a value other than 0, which is
   returned. */
IVON_API int ivon_table_reader_read_text(struct ivon_table_reader *reader, size_t column,
                                         int (*on_row)(void *context, uint64_t row,
                                                       const char *text, struct ivon_error *error),
                                         void *context, struct ivon_error *error);

#ifdef __cplusplus
}
#endif

#endif
