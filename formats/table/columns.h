/* The inside of a table that is read, for the formats that read it. */
#ifndef FORMATS_TABLE_COLUMNS_H
#define FORMATS_TABLE_COLUMNS_H

#include "formats/io/mapped.h"
#include "ivon/columns.h"

/* One cell; text need not end with a null byte, and is there for what has no number at least. */
struct columns_cell {
    const char *text;
    size_t size;
    double number;
    bool is_number, missing;
    unsigned long long line; /* of the file; 0: it has none */
};

/* Receives the cells of a column in their order. */
struct columns_visitor {
    int (*on_cell)(void *context, const struct ivon_columns *columns, size_t column, uint64_t row,
                   const struct columns_cell *cell, struct ivon_error *error);
    void *context;
    bool wants_text; /* of numbers, too */
};

struct columns_class {
    /* Recognises the file by its content; the last format takes what is left. */
    bool (*recognise)(const struct mapped_file *file);
    /* Takes the mapped file over, whether or not it succeeds; fills in names and rows. */
    int (*open)(struct ivon_columns *columns, struct mapped_file *file, struct ivon_error *error);
    int (*visit)(struct ivon_columns *columns, size_t column, const struct columns_visitor *visitor,
                 struct ivon_error *error);
    void (*close)(struct ivon_columns *columns);
};

extern const struct columns_class columns_hdf5, columns_jsonl, columns_csv;

struct ivon_columns {
    const struct columns_class *class;
    char *path;
    struct ivon_columns_options options; /* without zeros for defaults */
    char **names;
    size_t count, capacity;
    uint64_t rows;
    void *self; /* the format's own */
};

/* Appends a column; null bytes in its name become '?'. */
int columns_add(struct ivon_columns *columns, const char *name, size_t size,
                struct ivon_error *error);

#endif
