#include "formats/table/columns.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/options.h"
#include "formats/dataset/dataset.h"

enum {
    DEFAULT_MEMORY = 64 << 20,
    COLUMNS_MAX = 1 << 20,
    SHOWN = 60, /* bytes of a cell in messages */
};

int columns_add(struct ivon_columns *columns, const char *name, size_t size,
                struct ivon_error *error)
{
    if (columns->count == COLUMNS_MAX)
        return ivon_error_set(error, IVON_ERROR_DATA, "%s: has more than %d columns", columns->path,
                              COLUMNS_MAX);
    if (columns->count == columns->capacity) {
        size_t capacity = columns->capacity ? 2 * columns->capacity : 16;
        char **names = realloc(columns->names, capacity * sizeof *names);
        if (!names)
            return ivon_error_memory(error);
        columns->names = names;
        columns->capacity = capacity;
    }
    char *copy = malloc(size + 1);
    if (!copy)
        return ivon_error_memory(error);
    for (size_t i = 0; i < size; i++)
        copy[i] = name[i] ? name[i] : '?';
    copy[size] = '\0';
    columns->names[columns->count++] = copy;
    return 0;
}

static int open_mapped(struct ivon_columns *columns, struct mapped_file *file,
                       struct ivon_error *error)
{
    static const struct columns_class *const classes[] = {&columns_hdf5, &columns_jsonl,
                                                          &columns_csv};
    for (size_t i = 0; i < sizeof classes / sizeof classes[0] && !columns->class; i++)
        if (file->size && classes[i]->recognise(file))
            columns->class = classes[i];
    if (columns->class)
        return columns->class->open(columns, file, error);
    return ivon_error_set(error, IVON_ERROR_DATA,
                          "%s: %s, expected a table: CSV, JSON Lines or "
                          "HDF5",
                          columns->path, file->size ? "is no text" : "is empty");
}

static const struct options_kind columns_options = {
    .defaults = "ivon_columns_defaults",
    .reserved = {OPTIONS_RESERVED(struct ivon_columns_options, resources.reserved)}};

void ivon_columns_options_init(struct ivon_columns_options *options, size_t size)
{
    const struct ivon_columns_options defaults = {.size = sizeof defaults};
    options_init(options, size, &defaults);
}

int ivon_columns_open(struct ivon_columns **out, const char *path,
                      const struct ivon_columns_options *options, struct ivon_error *error)
{
    struct mapped_file file = {0};
    struct ivon_columns *columns = calloc(1, sizeof *columns);
    if (!columns)
        return ivon_error_memory(error);
    columns->options = ivon_columns_defaults();
    int code = options_read(&columns_options, &columns->options, options, error);
    if (!columns->options.resources.memory)
        columns->options.resources.memory = DEFAULT_MEMORY;
    columns->path = strdup(path);
    if (!code)
        code = columns->path ? mapped_open(&file, path, error) : ivon_error_memory(error);
    if (!code)
        code = open_mapped(columns, &file, error);
    mapped_close(&file);
    if (code)
        ivon_columns_close(columns);
    else
        *out = columns;
    return code;
}

void ivon_columns_close(struct ivon_columns *columns)
{
    if (!columns)
        return;
    if (columns->class)
        columns->class->close(columns);
    for (size_t i = 0; i < columns->count; i++)
        free(columns->names[i]);
    free(columns->names);
    free(columns->path);
    free(columns);
}

const char *ivon_columns_path(const struct ivon_columns *columns)
{
    return columns->path;
}

uint64_t ivon_columns_rows(const struct ivon_columns *columns)
{
    return columns->rows;
}

size_t ivon_columns_count(const struct ivon_columns *columns)
{
    return columns->count;
}

const char *ivon_columns_name(const struct ivon_columns *columns, size_t i)
{
    return columns->names[i];
}

bool ivon_columns_has(const struct ivon_columns *columns, const char *name)
{
    for (size_t i = 0; i < columns->count; i++)
        if (strcmp(columns->names[i], name) == 0)
            return true;
    return false;
}

int ivon_columns_find(const struct ivon_columns *columns, const char *name, size_t *column,
                      struct ivon_error *error)
{
    size_t found = 0;
    for (size_t i = 0; i < columns->count; i++)
        if (strcmp(columns->names[i], name) == 0 && !found++)
            *column = i;
    if (found == 1)
        return 0;
    if (found)
        return ivon_error_set(error, IVON_ERROR_DATA, "%s: column '%s' occurs twice", columns->path,
                              name);
    char list[DATASET_LIST_SIZE];
    dataset_list(list, sizeof list, (const char *const *)columns->names, columns->count);
    return ivon_error_set(error, IVON_ERROR_DATA, "%s: has no column '%s', but %s", columns->path,
                          name, list);
}

/* Numbers. */

static int columns_on_number(void *context, const struct ivon_columns *columns, size_t column,
                             uint64_t row, const struct columns_cell *cell,
                             struct ivon_error *error)
{
    double *numbers = context;
    numbers[row] = cell->missing ? NAN : cell->number;
    if (cell->missing || cell->is_number)
        return 0;
    char line[40] = "";
    if (cell->line)
        snprintf(line, sizeof line, " (line %llu)", cell->line);
    return ivon_error_set(error, IVON_ERROR_DATA,
                          "%s: row %llu%s, column '%s': found '%.*s'%s, expected a number",
                          columns->path, (unsigned long long)row, line, columns->names[column],
                          (int)(cell->size < SHOWN ? cell->size : SHOWN), cell->text,
                          cell->size < SHOWN ? "" : " ...");
}

int ivon_columns_read(struct ivon_columns *columns, size_t column, double *numbers,
                      struct ivon_error *error)
{
    const struct columns_visitor visitor = {.on_cell = columns_on_number, .context = numbers};
    return columns->class->visit(columns, column, &visitor, error);
}

/* Text. */

struct text_reader {
    int (*on_row)(void *context, uint64_t row, const char *text, struct ivon_error *error);
    void *context;
    char *text;
    size_t capacity;
};

static int columns_on_text(void *context, const struct ivon_columns *columns, size_t column,
                           uint64_t row, const struct columns_cell *cell, struct ivon_error *error)
{
    struct text_reader *reader = context;
    size_t size = cell->missing ? 0 : cell->size;
    (void)columns;
    (void)column;
    if (size >= reader->capacity) {
        char *grown = realloc(reader->text, 2 * size + 1);
        if (!grown)
            return ivon_error_memory(error);
        reader->text = grown;
        reader->capacity = 2 * size + 1;
    }
    for (size_t i = 0; i < size; i++)
        reader->text[i] = cell->text[i] ? cell->text[i] : '?';
    reader->text[size] = '\0';
    return reader->on_row(reader->context, row, reader->text, error);
}

int ivon_columns_read_text(struct ivon_columns *columns, size_t column,
                           int (*on_row)(void *context, uint64_t row, const char *text,
                                         struct ivon_error *error),
                           void *context, struct ivon_error *error)
{
    struct text_reader reader = {.on_row = on_row, .context = context};
    const struct columns_visitor visitor = {
        .on_cell = columns_on_text, .context = &reader, .wants_text = true};
    int code = columns->class->visit(columns, column, &visitor, error);
    free(reader.text);
    return code;
}
