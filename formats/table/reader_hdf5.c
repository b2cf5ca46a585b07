/* The one-dimensional data sets of an HDF5 file's root as a table of columns. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "formats/table/reader.h"
#include "formats/hdf5/safe.h"
#include "formats/io/number_text.h"

enum { PIECE = 4096 };

struct table_hdf5 {
    struct hdf5_file *file;
    const struct hdf5_object *objects; /* the file's */
    size_t *sets;                      /* the object of each column */
};

static int add_sets(struct ivon_table_reader *reader, size_t object_count, struct ivon_error *error)
{
    struct table_hdf5 *table = reader->self;
    int code = 0;
    table->sets = calloc(object_count + 1, sizeof *table->sets);
    if (!table->sets)
        return ivon_error_memory(error);
    for (size_t i = 0; i < object_count && !code; i++) {
        const struct hdf5_object *object = &table->objects[i];
        if (!object->is_dataset || object->refused || object->rank != 1 ||
            strchr(object->path, '/'))
            continue;
        if (reader->count && object->count != reader->rows)
            return ivon_error_set(error, IVON_ERROR_DATA, "%s: '%s' has %llu rows, but '%s' %zu",
                                  reader->path, reader->names[0], (unsigned long long)reader->rows,
                                  object->path, object->count);
        reader->rows = object->count;
        table->sets[reader->count] = i;
        code = reader_add(reader, object->path, strlen(object->path), error);
    }
    if (!code && !reader->count)
        code = ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: holds no column: no data set with one "
                              "axis in its root group",
                              reader->path);
    return code;
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
    return add_sets(reader, count, error);
}

/* A number as text, as CSV has it; returns the length. */
static size_t reader_hdf5_put_number(char text[NUMBER_TEXT_MAX], double number)
{
    if (isfinite(number))
        return number_text_f64(text, number);
    return (size_t)snprintf(text, NUMBER_TEXT_MAX, "%s", number > 0 ? "inf" : "-inf");
}

static int reader_hdf5_visit(struct ivon_table_reader *reader, size_t column,
                             const struct reader_visitor *visitor, struct ivon_error *error)
{
    struct table_hdf5 *table = reader->self;
    const struct hdf5_object *object = &table->objects[table->sets[column]];
    double raw[PIECE], numbers[PIECE]; /* no element is larger than a double */
    int code = 0;
    for (size_t first = 0; first < object->count && !code; first += PIECE) {
        size_t count = object->count - first < PIECE ? object->count - first : PIECE;
        code = hdf5_read(table->file, table->sets[column], first, count, raw, error);
        if (code)
            break;
        ivon_dtype_to_f64(numbers, raw, object->dtype, count);
        for (size_t i = 0; i < count && !code; i++) {
            char text[NUMBER_TEXT_MAX];
            struct reader_cell cell = {.text = text, .number = numbers[i], .is_number = true};
            cell.missing = numbers[i] != numbers[i];
            if (visitor->wants_text && !cell.missing)
                cell.size = reader_hdf5_put_number(text, numbers[i]);
            code = visitor->on_cell(visitor->context, reader, column, first + i, &cell, error);
        }
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
