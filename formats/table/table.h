/* The inside of a table, for the formats that write it. */
#ifndef FORMATS_TABLE_TABLE_H
#define FORMATS_TABLE_TABLE_H

#include "formats/io/atomic.h"
#include "ivon/table.h"

/* A format of tables. The rows that are appended were announced, and are not yet counted in
   `appended`. */
struct table_class {
    const char *const *suffixes; /* of files' names; behind them a null pointer stands */
    bool text;                   /* also to a stream, and of rows that were not counted */
    bool single;                 /* holds one column */
    /* Writes what comes before the rows. */
    int (*begin)(struct ivon_table *table, struct ivon_error *error);
    /* Begins `file` anew with the rows that table->saved has; null: there are none to come. */
    int (*resume)(struct ivon_table *table, struct ivon_error *error);
    int (*append)(struct ivon_table *table, size_t count, const void *const *columns,
                  struct ivon_error *error);
};

struct table_column {
    struct ivon_column is; /* owns its strings; the prefix is never null */
    enum ivon_naming naming;
    size_t count;    /* elements of a row */
    size_t size;     /* bytes of a row */
    uint64_t offset; /* of the first row in a file of arrays */
};

struct ivon_table {
    const struct table_class *class;
    char *name; /* for messages */
    struct ivon_table_options options;
    char *creator, *provenance; /* of the options */
    struct table_column *columns;
    size_t column_count;
    uint64_t appended; /* rows */
    uint64_t filled;   /* elements of all columns */
    bool failed;       /* to append some: what they left behind is no table */
    FILE *stream;      /* the caller's; null: `file` is written */
    bool begun;        /* what comes before the rows is written */
    struct atomic_file file;
    int saved;      /* the descriptor of the file as it was saved; -1: rows came since, or never */
    uint64_t space; /* rows that a file of arrays has room for */
    /* Text only: what is not yet written, and where in the file it goes. */
    char *text;
    size_t text_size;
    uint64_t text_offset;
};

extern const struct table_class table_csv, table_jsonl, table_npy, table_hdf5;

/* The `append` of formats that hold every column as one array, from its offset on. */
int table_append_arrays(struct ivon_table *table, size_t count, const void *const *columns,
                        struct ivon_error *error);

#endif
