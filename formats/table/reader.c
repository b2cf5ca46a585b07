#include "formats/table/reader.h"

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

int reader_add(struct ivon_table_reader *reader, const char *name, size_t size,
               struct ivon_error *error)
{
    if (reader->count == COLUMNS_MAX)
        return ivon_error_set(error, IVON_ERROR_DATA, "%s: has more than %d columns", reader->path,
                              COLUMNS_MAX);
    if (reader->count == reader->capacity) {
        size_t capacity = reader->capacity ? 2 * reader->capacity : 16;
        char **names = realloc(reader->names, capacity * sizeof *names);
        if (!names)
            return ivon_error_memory(error);
        reader->names = names;
        reader->capacity = capacity;
    }
    char *copy = malloc(size + 1);
    if (!copy)
        return ivon_error_memory(error);
    for (size_t i = 0; i < size; i++)
        copy[i] = name[i] ? name[i] : '?';
    copy[size] = '\0';
    reader->names[reader->count++] = copy;
    return 0;
}

int reader_unfold(struct ivon_table_reader *reader, const char *name, struct ivon_error *error)
{
    reader->unfolded = strdup(name);
    return reader->unfolded ? 0 : ivon_error_memory(error);
}

static int open_mapped(struct ivon_table_reader *reader, struct mapped_file *file,
                       struct ivon_error *error)
{
    static const struct reader_class *const classes[] = {&reader_hdf5, &reader_jsonl, &reader_csv};
    for (size_t i = 0; i < sizeof classes / sizeof classes[0] && !reader->class; i++)
        if (file->size && classes[i]->recognise(file))
            reader->class = classes[i];
    if (reader->class)
        return reader->class->open(reader, file, error);
    return ivon_error_set(error, IVON_ERROR_DATA,
                          "%s: %s, expected a table: CSV, JSON Lines or "
                          "HDF5",
                          reader->path, file->size ? "is no text" : "is empty");
}

static const struct options_kind reader_options = {
    .defaults = "ivon_table_reader_defaults",
    .reserved = {OPTIONS_RESERVED(struct ivon_table_reader_options, resources.reserved)}};

void ivon_table_reader_options_init(struct ivon_table_reader_options *options, size_t size)
{
    const struct ivon_table_reader_options defaults = {.size = sizeof defaults};
    options_init(options, size, &defaults);
}

int ivon_table_reader_open(struct ivon_table_reader **out, const char *path,
                           const struct ivon_table_reader_options *options,
                           struct ivon_error *error)
{
    struct mapped_file file = {0};
    struct ivon_table_reader *reader = calloc(1, sizeof *reader);
    if (!reader)
        return ivon_error_memory(error);
    reader->options = ivon_table_reader_defaults();
    int code = options_read(&reader_options, &reader->options, options, error);
    if (!reader->options.resources.memory)
        reader->options.resources.memory = DEFAULT_MEMORY;
    reader->path = strdup(path);
    if (!code)
        code = reader->path ? mapped_open(&file, path, error) : ivon_error_memory(error);
    if (!code)
        code = open_mapped(reader, &file, error);
    reader->options.unfold = NULL; /* the caller's */
    mapped_close(&file);
    if (code)
        ivon_table_reader_close(reader);
    else
        *out = reader;
    return code;
}

void ivon_table_reader_close(struct ivon_table_reader *reader)
{
    if (!reader)
        return;
    if (reader->class)
        reader->class->close(reader);
    for (size_t i = 0; i < reader->count; i++)
        free(reader->names[i]);
    free(reader->names);
    free(reader->unfolded);
    free(reader->path);
    free(reader);
}

const char *ivon_table_reader_path(const struct ivon_table_reader *reader)
{
    return reader->path;
}

uint64_t ivon_table_reader_rows(const struct ivon_table_reader *reader)
{
    return reader->rows;
}

size_t ivon_table_reader_count(const struct ivon_table_reader *reader)
{
    return reader->count;
}

const char *ivon_table_reader_name(const struct ivon_table_reader *reader, size_t i)
{
    return reader->names[i];
}

bool ivon_table_reader_has(const struct ivon_table_reader *reader, const char *name)
{
    for (size_t i = 0; i < reader->count; i++)
        if (strcmp(reader->names[i], name) == 0)
            return true;
    return false;
}

int ivon_table_reader_find(const struct ivon_table_reader *reader, const char *name, size_t *column,
                           struct ivon_error *error)
{
    size_t found = 0;
    for (size_t i = 0; i < reader->count; i++)
        if (strcmp(reader->names[i], name) == 0 && !found++)
            *column = i;
    if (found == 1)
        return 0;
    if (found)
        return ivon_error_set(error, IVON_ERROR_DATA, "%s: column '%s' occurs twice", reader->path,
                              name);
    char list[DATASET_LIST_SIZE];
    dataset_list(list, sizeof list, (const char *const *)reader->names, reader->count);
    return ivon_error_set(error, IVON_ERROR_DATA, "%s: has no column '%s', but %s", reader->path,
                          name, list);
}

/* Numbers. */

static int reader_on_number(void *context, const struct ivon_table_reader *reader, size_t column,
                            uint64_t row, const struct reader_cell *cell, struct ivon_error *error)
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
                          reader->path, (unsigned long long)row, line, reader->names[column],
                          (int)(cell->size < SHOWN ? cell->size : SHOWN), cell->text,
                          cell->size < SHOWN ? "" : " ...");
}

int ivon_table_reader_read(struct ivon_table_reader *reader, size_t column, double *numbers,
                           struct ivon_error *error)
{
    const struct reader_visitor visitor = {.on_cell = reader_on_number, .context = numbers};
    return reader->class->visit(reader, column, &visitor, error);
}

/* Text. */

struct text_reader {
    int (*on_row)(void *context, uint64_t row, const char *text, struct ivon_error *error);
    void *context;
    char *text;
    size_t capacity;
};

static int reader_on_text(void *context, const struct ivon_table_reader *reader, size_t column,
                          uint64_t row, const struct reader_cell *cell, struct ivon_error *error)
{
    struct text_reader *texts = context;
    size_t size = cell->missing ? 0 : cell->size;
    (void)reader;
    (void)column;
    if (size >= texts->capacity) {
        char *grown = realloc(texts->text, 2 * size + 1);
        if (!grown)
            return ivon_error_memory(error);
        texts->text = grown;
        texts->capacity = 2 * size + 1;
    }
    for (size_t i = 0; i < size; i++)
        texts->text[i] = cell->text[i] ? cell->text[i] : '?';
    texts->text[size] = '\0';
    return texts->on_row(texts->context, row, texts->text, error);
}

int ivon_table_reader_read_text(struct ivon_table_reader *reader, size_t column,
                                int (*on_row)(void *context, uint64_t row, const char *text,
                                              struct ivon_error *error),
                                void *context, struct ivon_error *error)
{
    struct text_reader texts = {.on_row = on_row, .context = context};
    const struct reader_visitor visitor = {
        .on_cell = reader_on_text, .context = &texts, .wants_text = true};
    int code = reader->class->visit(reader, column, &visitor, error);
    free(texts.text);
    return code;
}
