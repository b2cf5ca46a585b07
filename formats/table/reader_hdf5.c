/* The one-dimensional data sets of an HDF5 file's root as a table of columns; those of two axes,
   too, where their elements are the rows. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "formats/table/reader.h"
#include "formats/hdf5/safe.h"
#include "formats/io/number_text.h"

enum { PIECE = 4096 };

/* Columns of which there is no data set: the numbers of elements, and those of lists. */
#define SET_TOKEN SIZE_MAX
#define SET_INDEX (SIZE_MAX - 1)

struct table_hdf5 {
    struct hdf5_file *file;
    const struct hdf5_object *objects; /* the file's */
    size_t *sets;                      /* the object of each column */
    int64_t width;                     /* elements of a list, where rows are elements */
};

/* Returns whether it is a data set that a column of so many axes can be. */
static bool is_column_set(const struct hdf5_object *object, int rank)
{
    return object->is_dataset && !object->refused && object->rank == rank &&
           !strchr(object->path, '/');
}

/* Sees whether rows are the elements of a data set of two axes. */
static int find_unfolded(struct ivon_table_reader *reader, size_t object_count,
                         struct ivon_error *error)
{
    struct table_hdf5 *table = reader->self;
    const char *name = reader->options.unfold;
    for (size_t i = 0; name && i < object_count; i++) {
        const struct hdf5_object *object = &table->objects[i];
        if (!is_column_set(object, 2) || strcmp(object->path, name) != 0)
            continue;
        table->width = object->shape[1];
        return reader_unfold(reader, name, error);
    }
    return 0;
}

static int add_set(struct ivon_table_reader *reader, size_t set, const char *name,
                   struct ivon_error *error)
{
    struct table_hdf5 *table = reader->self;
    table->sets[reader->count] = set;
    return reader_add(reader, name, strlen(name), error);
}

/* The columns that count, where the file has none of these names. */
static int add_counting(struct ivon_table_reader *reader, struct ivon_error *error)
{
    int code = 0;
    if (!ivon_table_reader_has(reader, READER_INDEX))
        code = add_set(reader, SET_INDEX, READER_INDEX, error);
    if (!code && !ivon_table_reader_has(reader, READER_TOKEN))
        code = add_set(reader, SET_TOKEN, READER_TOKEN, error);
    return code;
}

static int add_sets(struct ivon_table_reader *reader, size_t object_count, struct ivon_error *error)
{
    struct table_hdf5 *table = reader->self;
    int code = 0;
    int64_t extent = 0;
    for (size_t i = 0; i < object_count && !code; i++) {
        const struct hdf5_object *object = &table->objects[i];
        bool list = reader->unfolded && is_column_set(object, 2) &&
                    object->shape[1] == table->width;
        if (!list && !is_column_set(object, 1))
            continue;
        if (reader->count && object->shape[0] != extent)
            return ivon_error_set(error, IVON_ERROR_DATA, "%s: '%s' has %lld rows, but '%s' %lld",
                                  reader->path, reader->names[0], (long long)extent, object->path,
                                  (long long)object->shape[0]);
        extent = object->shape[0];
        if (list || !reader->unfolded)
            reader->rows = object->count;
        code = add_set(reader, i, object->path, error);
    }
    if (!code && !reader->count)
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: holds no column: no data set with one "
                              "axis in its root group",
                              reader->path);
    return !code && reader->unfolded ? add_counting(reader, error) : code;
}

static int open_hdf5(struct ivon_table_reader *reader, struct mapped_file *file,
                     struct ivon_error *error)
{
    const struct hdf5_limits limits = {.sandbox = !reader->options.no_sandbox,
                                       .memory = reader->options.resources.memory};
    size_t count;
    struct table_hdf5 *table = calloc(1, sizeof *table);
    if (!table)
        return ivon_error_memory(error);
    reader->self = table;
    int code = hdf5_open(&table->file, file, &limits, error);
    if (code)
        return code;
    table->objects = hdf5_objects(table->file, &count);
    table->sets = calloc(count + 2, sizeof *table->sets);
    code = table->sets ? find_unfolded(reader, count, error) : ivon_error_memory(error);
    return code ? code : add_sets(reader, count, error);
}

/* A number as text, as CSV has it; returns the length. */
static size_t reader_hdf5_put_number(char text[NUMBER_TEXT_MAX], double number)
{
    if (isfinite(number))
        return number_text_f64(text, number);
    return (size_t)snprintf(text, NUMBER_TEXT_MAX, "%s", number > 0 ? "inf" : "-inf");
}

static int visit_number(struct ivon_table_reader *reader, size_t column, uint64_t row,
                        double number, const struct reader_visitor *visitor,
                        struct ivon_error *error)
{
    char text[NUMBER_TEXT_MAX];
    struct reader_cell cell = {.text = text, .number = number, .is_number = true};
    cell.missing = number != number;
    if (visitor->wants_text && !cell.missing)
        cell.size = reader_hdf5_put_number(text, number);
    return visitor->on_cell(visitor->context, reader, column, row, &cell, error);
}

/* A column that counts lists or their elements. */
static int visit_counts(struct ivon_table_reader *reader, size_t column,
                        const struct reader_visitor *visitor, struct ivon_error *error)
{
    const struct table_hdf5 *table = reader->self;
    uint64_t width = (uint64_t)table->width;
    bool lists = table->sets[column] == SET_INDEX;
    int code = 0;
    for (uint64_t row = 0; row < reader->rows && !code; row++)
        code = visit_number(reader, column, row, (double)(lists ? row / width : row % width),
                            visitor, error);
    return code;
}

static int reader_hdf5_visit(struct ivon_table_reader *reader, size_t column,
                             const struct reader_visitor *visitor, struct ivon_error *error)
{
    struct table_hdf5 *table = reader->self;
    if (table->sets[column] >= SET_INDEX)
        return visit_counts(reader, column, visitor, error);
    const struct hdf5_object *object = &table->objects[table->sets[column]];
    double raw[PIECE], numbers[PIECE]; /* no element is larger than a double */
    uint64_t row = 0,
             rows_each = reader->unfolded && object->rank == 1 ? (uint64_t)table->width : 1;
    int code = 0;
    for (size_t first = 0; first < object->count && !code; first += PIECE) {
        size_t count = object->count - first < PIECE ? object->count - first : PIECE;
        code = hdf5_read(table->file, table->sets[column], first, count, raw, error);
        if (code)
            break;
        ivon_dtype_to_f64(numbers, raw, object->dtype, count);
        for (size_t i = 0; i < count && !code; i++)
            for (uint64_t k = 0; k < rows_each && !code; k++)
                code = visit_number(reader, column, row++, numbers[i], visitor, error);
    }
    return code;
}

static void close_hdf5(struct ivon_table_reader *reader)
{
    struct table_hdf5 *table = reader->self;
    if (!table)
        return;
    hdf5_close(table->file);
    free(table->sets);
    free(table);
}

const struct reader_class reader_hdf5 = {.recognise = hdf5_recognise,
                                         .open = open_hdf5,
                                         .visit = reader_hdf5_visit,
                                         .close = close_hdf5};
