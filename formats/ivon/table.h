/*
 * Results as a table: one row for each example, named columns of numbers, written to CSV, JSON
 * Lines, npy or HDF5 in pieces.
 *
 * CSV and JSON Lines begin each row with `index`, the number of the row from 0, so that rows can be
 * joined again after sorting, unless the columns number the rows themselves; npy and HDF5 have
 * their own order. Numbers of text read back to the same bits: of 6 to 9 significant digits (float)
 * or 15 to 17 (double) as few as that takes, with a decimal point in any locale. What is no number
 * is nan in CSV, never with a sign, and null in JSON; infinite ones are inf and -inf in CSV, and
 * the texts "Infinity" and "-Infinity" in JSON. Lines end with a line feed.
 */
#ifndef IVON_TABLE_H
#define IVON_TABLE_H

#include <stdbool.h>
#include <stdio.h>

#include "ivon/api.h"
#include "ivon/dtype.h"
#include "ivon/error.h"
#include "ivon/stream.h"

#ifdef __cplusplus
extern "C" {
#endif

enum ivon_table_format {
    IVON_CSV,   /* RFC 4180 with a header; a column of shape K becomes K columns */
    IVON_JSONL, /* one object a line; a column of some shape becomes nested lists */
    IVON_NPY,   /* one column only, as an array of rows × shape */
    IVON_HDF5,  /* one data set of rows × shape for each column, 64-byte aligned; root attributes
                   format = "ivon-table", format_version = 1, creator, provenance */
};

/* The names of the formats, in the order of their values. */
#define IVON_TABLE_FORMAT_NAMES "csv|jsonl|npy|hdf5"

/* The format that a path's suffix names: .csv, .jsonl (.json, .ndjson), .npy, .h5 (.hdf5); -1 for
   any other. */
IVON_API int ivon_table_format_of(const char *path);

struct ivon_column {
    const char *name;      /* usable as a tensor's, and no other column's; text has its own
                              `index`, and CSV with tokens its own `token` */
    const char *prefix;    /* CSV: of the columns that it becomes ("p": p0, p1, …); null: name_ */
    enum ivon_dtype dtype; /* IVON_F32, IVON_F64, IVON_I64 */
    int rank;              /* of one row; less than IVON_RANK_MAX */
    int64_t shape[IVON_RANK_MAX];
};

/* How text writes a column of IVON_I64. */
enum ivon_naming {
    IVON_NUMBERS,
    IVON_NAMES, /* for each number its name; the digits of numbers that have none */
    /* The last axis has an element for each name, 0 or 1: the names of those that are 1. JSON has
       them as a list, CSV in one column of the column's name, with bars between them. */
    IVON_NAME_SETS,
};

#define IVON_ROWS_OPEN UINT64_MAX

struct ivon_table_options {
    size_t size; /* sizeof this struct: set by ivon_table_defaults() */
    enum ivon_table_format format;
    /* How many there will be; IVON_ROWS_OPEN: as many as come. Of npy they are known; of HDF5 those
       of one call of append, or of one between two of ivon_table_save. */
    uint64_t rows;
    /* 0, or the first extent of every column: CSV then has one row for each of them, with the
       columns `index` and `token`, from 0, before the others. */
    int64_t tokens;
    bool own_index;      /* text has no column `index` but what the columns say */
    bool replace;        /* an existing file may be replaced, at commit */
    const char *creator; /* HDF5 attributes; null: absent */
    const char *provenance;
    /* The names of numbers from 0 on, as ivon_class_names_check has them: borrowed until the table
       is closed. npy and HDF5 keep the numbers. Null: there are none. */
    const char *const *names;
    size_t name_count;
    const enum ivon_naming *naming; /* of each column; used where there are names */
};

/* Only the size is set: CSV of no rows. */
IVON_API void ivon_table_options_init(struct ivon_table_options *options, size_t size);
static inline struct ivon_table_options ivon_table_defaults(void)
{
    struct ivon_table_options options;
    ivon_table_options_init(&options, sizeof options);
    return options;
}

struct ivon_table;

/* A table in a file, whole or absent. The descriptions are copied. */
IVON_API int ivon_table_create(struct ivon_table **table, const char *path,
                               const struct ivon_column *columns, size_t column_count,
                               const struct ivon_table_options *options, struct ivon_error *error);

/* A table to an open stream, named `name` in messages, which stays the caller's: CSV and JSON
   Lines. The header is written with the first row, or at commit where there is none. */
IVON_API int ivon_table_to_stream(struct ivon_table **table, FILE *stream, const char *name,
                                  const struct ivon_column *columns, size_t column_count,
                                  const struct ivon_table_options *options,
                                  struct ivon_error *error);

/* Appends `count` rows, of those that were announced; columns[c] holds count × shape elements of
   column c. */
IVON_API int ivon_table_append(struct ivon_table *table, size_t count, const void *const *columns,
                               struct ivon_error *error);

/*
 * Of npy and HDF5, in place of appending: sets elements [at, at + width) of a column in each of the
 * rows [first, first + count), from count × width elements. All elements have to be set, each once,
 * in any order; a table is either appended to or filled.
 */
IVON_API int ivon_table_fill(struct ivon_table *table, size_t column, uint64_t first, size_t count,
                             size_t at, size_t width, const void *elements,
                             struct ivon_error *error);

/*
 * Of IVON_ROWS_OPEN: makes a file of the rows so far durable under its name, as commit does, whole
 * at any moment; a stream is flushed. More rows may follow, which are in the next file that takes
 * the place of this one: the first of them costs a copy of it. Closing the table keeps what was
 * saved.
 */
IVON_API int ivon_table_save(struct ivon_table *table, struct ivon_error *error);

/* Fails unless all rows were appended, or all elements set. Flushes a stream; makes a file durable
   under its name. A file that was not committed is gone when the table is closed. */
IVON_API int ivon_table_commit(struct ivon_table *table, struct ivon_error *error);

IVON_API void ivon_table_close(struct ivon_table *table);

#ifdef __cplusplus
}
#endif

#endif
