/* The inside of a table that is read, for the formats that read it. */
#ifndef FORMATS_TABLE_READER_H
#define FORMATS_TABLE_READER_H

#include "formats/io/mapped.h"
#include "ivon/table_reader.h"

/* One cell; text need not end with a null byte, and is there for what has no number at least. */
struct reader_cell {
    const char *text;
    size_t size;
    double number;
    bool is_number, missing;
    unsigned long long line; /* of the file; 0: it has none */
};

/* Receives the cells of a column in their order. */
struct reader_visitor {
    int (*on_cell)(void *context, const struct ivon_table_reader *reader, size_t column,
                   uint64_t row, const struct reader_cell *cell, struct ivon_error *error);
    void *context;
    bool wants_text; /* of numbers, too */
};

struct reader_class {
    /* Recognises the file by its content; the last format takes what is left. */
    bool (*recognise)(const struct mapped_file *file);
    /* Takes the mapped file over, whether or not it succeeds; fills in names and rows. */
    int (*open)(struct ivon_table_reader *reader, struct mapped_file *file,
                struct ivon_error *error);
    int (*visit)(struct ivon_table_reader *reader, size_t column,
                 const struct reader_visitor *visitor, struct ivon_error *error);
    void (*close)(struct ivon_table_reader *reader);
};

extern const struct reader_class reader_hdf5, reader_jsonl, reader_csv;

/* The columns that count elements and lists where rows are elements of lists. */
#define READER_TOKEN "token"
#define READER_INDEX "index"

struct ivon_table_reader {
    const struct reader_class *class;
    char *path;
    struct ivon_table_reader_options options; /* without zeros for defaults */
    char **names;
    size_t count, capacity;
    uint64_t rows;
    char *unfolded; /* the column whose elements are the rows; null: rows are the file's */
    void *self;     /* the format's own */
};

/* From here on the elements of a column of lists are the rows. */
int reader_unfold(struct ivon_table_reader *reader, const char *name, struct ivon_error *error);

/* Appends a column; null bytes in its name become '?'. */
int reader_add(struct ivon_table_reader *reader, const char *name, size_t size,
               struct ivon_error *error);

#endif
