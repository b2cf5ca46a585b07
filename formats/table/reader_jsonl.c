/* JSON Lines as a table of columns. */
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "formats/table/reader.h"

struct reader_jsonl {
    struct mapped_file file;
    bool counted; /* the last column counts the elements of lists, and is not in the file */
};

/* The lines that are still to be read. */
struct lines {
    const char *at, *end;
    unsigned long long line; /* the number of the one that was read last */
};

static bool is_space(char byte)
{
    return byte == ' ' || byte == '\t' || byte == '\r';
}

static bool reader_jsonl_recognise(const struct mapped_file *file)
{
    for (uint64_t i = 0; i < file->size; i++)
        if (!is_space((char)file->data[i]) && file->data[i] != '\n')
            return file->data[i] == '{';
    return false;
}

static int bad_line(const struct ivon_table_reader *reader, const struct lines *lines,
                    const char *what, struct ivon_error *error)
{
    return ivon_error_set(error, IVON_ERROR_DATA, "%s: line %llu: %s", reader->path, lines->line,
                          what);
}

/* Passes over empty lines; false when nothing follows them. */
static bool next_line(struct lines *lines, const char **text, size_t *size)
{
    while (lines->at < lines->end) {
        const char *stop = memchr(lines->at, '\n', (size_t)(lines->end - lines->at));
        const char *end = stop ? stop : lines->end;
        *text = lines->at;
        lines->at = stop ? stop + 1 : lines->end;
        lines->line++;
        while (*text < end && is_space(**text))
            ++*text;
        *size = (size_t)(end - *text);
        if (*size)
            return true;
    }
    return false;
}

/* The next line's object, to be released; null behind the last one. */
static int next_object(const struct ivon_table_reader *reader, struct lines *lines, json_t **object,
                       struct ivon_error *error)
{
    const char *text;
    size_t size;
    json_error_t reason;
    *object = NULL;
    if (!next_line(lines, &text, &size))
        return 0;
    if (size > reader->options.resources.memory)
        return bad_line(reader, lines, "is longer than the memory for it", error);
    *object = json_loadb(text, size, JSON_REJECT_DUPLICATES, &reason);
    if (!*object)
        return bad_line(reader, lines, reason.text, error);
    if (json_is_object(*object))
        return 0;
    json_decref(*object);
    return bad_line(reader, lines, "is no object", error);
}

static struct lines all_lines(const struct ivon_table_reader *reader)
{
    const struct reader_jsonl *jsonl = reader->self;
    const char *data = (const char *)jsonl->file.data;
    return (struct lines){data, data + jsonl->file.size, 0};
}

/* Returns whether it is a list whose elements are neither lists nor objects, as the first tells. */
static bool is_flat_list(const json_t *value)
{
    const json_t *first = json_array_get(value, 0);
    return json_is_array(value) && !json_is_array(first) && !json_is_object(first);
}

/* Adds the columns that the first object has, after it was seen whether rows are its elements. */
static int add_members(struct ivon_table_reader *reader, json_t *object, struct ivon_error *error)
{
    struct reader_jsonl *jsonl = reader->self;
    const char *unfold = reader->options.unfold, *name;
    json_t *value;
    int code = 0;
    if (unfold && is_flat_list(json_object_get(object, unfold)))
        code = reader_unfold(reader, unfold, error);
    json_object_foreach(object, name, value)
    {
        bool flat = !json_is_array(value) && !json_is_object(value);
        if (!code && (flat || (reader->unfolded && is_flat_list(value))))
            code = reader_add(reader, name, strlen(name), error);
    }
    jsonl->counted = reader->unfolded && !json_object_get(object, READER_TOKEN);
    if (!code && jsonl->counted)
        code = reader_add(reader, READER_TOKEN, strlen(READER_TOKEN), error);
    return code;
}

/* How many rows an object makes. */
static int count_rows_of(const struct ivon_table_reader *reader, const struct lines *lines,
                         const json_t *object, size_t *rows, struct ivon_error *error)
{
    const json_t *list = reader->unfolded ? json_object_get(object, reader->unfolded) : NULL;
    *rows = list ? json_array_size(list) : 1;
    if (!reader->unfolded || json_is_array(list))
        return 0;
    return ivon_error_set(error, IVON_ERROR_DATA,
                          "%s: line %llu: '%s' is no list, as it is in the first line",
                          reader->path, lines->line, reader->unfolded);
}

static int open_jsonl(struct ivon_table_reader *reader, struct mapped_file *file,
                      struct ivon_error *error)
{
    json_t *object;
    int code;
    bool first = true;
    struct reader_jsonl *jsonl = calloc(1, sizeof *jsonl);
    if (!jsonl)
        return ivon_error_memory(error);
    reader->self = jsonl;
    jsonl->file = *file;
    *file = (struct mapped_file){0};
    struct lines lines = all_lines(reader);
    while (!(code = next_object(reader, &lines, &object, error)) && object) {
        size_t rows = 0;
        if (first)
            code = add_members(reader, object, error);
        if (!code)
            code = count_rows_of(reader, &lines, object, &rows, error);
        first = false;
        reader->rows += rows;
        json_decref(object);
        if (code)
            break;
    }
    return code;
}

/* Infinity, for which JSON has no number, as a string that numbers stand beside. */
static bool infinite(const json_t *value, double *number)
{
    const char *text = json_string_value(value);
    bool positive = text && strcmp(text, "Infinity") == 0;
    if (!positive && (!text || strcmp(text, "-Infinity") != 0))
        return false;
    *number = positive ? INFINITY : -INFINITY;
    return true;
}

/* A cell that is or becomes text; what that is kept in goes with `made`. */
static int fill_cell(struct reader_cell *cell, const json_t *value, bool wants_text, char **made,
                     struct ivon_error *error)
{
    cell->missing = !value || json_is_null(value);
    cell->is_number = json_is_number(value);
    cell->number = json_number_value(value);
    cell->is_number = cell->is_number || infinite(value, &cell->number);
    if (json_is_string(value)) {
        cell->text = json_string_value(value);
        cell->size = json_string_length(value);
    } else if (!cell->missing && (wants_text || !cell->is_number)) {
        *made = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
        if (!*made)
            return ivon_error_memory(error);
        cell->text = *made;
        cell->size = strlen(*made);
    }
    return 0;
}

/* A column that is handed out, row by row. */
struct column_visit {
    struct ivon_table_reader *reader;
    size_t column;
    const struct reader_visitor *visitor;
    struct lines lines;
    uint64_t row;
};

static int visit_value(struct column_visit *visit, const json_t *value, struct ivon_error *error)
{
    struct reader_cell cell = {.line = visit->lines.line};
    char *made = NULL;
    int code = fill_cell(&cell, value, visit->visitor->wants_text, &made, error);
    if (!code)
        code = visit->visitor->on_cell(visit->visitor->context, visit->reader, visit->column,
                                       visit->row++, &cell, error);
    free(made);
    return code;
}

/* The number of an element in its list. */
static int visit_count(struct column_visit *visit, size_t element, struct ivon_error *error)
{
    json_t *number = json_integer((json_int_t)element);
    int code = number ? visit_value(visit, number, error) : ivon_error_memory(error);
    json_decref(number);
    return code;
}

/* The rows of one object. */
static int visit_object(struct column_visit *visit, const json_t *object, struct ivon_error *error)
{
    const struct ivon_table_reader *reader = visit->reader;
    const struct reader_jsonl *jsonl = reader->self;
    const char *name = reader->names[visit->column];
    bool counts = jsonl->counted && visit->column == reader->count - 1;
    const json_t *value = json_object_get(object, name);
    bool list = reader->unfolded && json_is_array(value) && !counts;
    size_t rows;
    int code = count_rows_of(reader, &visit->lines, object, &rows, error);
    if (!code && list && json_array_size(value) != rows)
        return ivon_error_set(
            error, IVON_ERROR_DATA, "%s: line %llu: '%s' has %zu elements, but '%s' %zu",
            reader->path, visit->lines.line, name, json_array_size(value), reader->unfolded, rows);
    for (size_t i = 0; i < rows && visit->row < reader->rows && !code; i++)
        code = counts ? visit_count(visit, i, error)
                      : visit_value(visit, list ? json_array_get(value, i) : value, error);
    return code;
}

static int reader_jsonl_visit(struct ivon_table_reader *reader, size_t column,
                              const struct reader_visitor *visitor, struct ivon_error *error)
{
    struct column_visit visit = {reader, column, visitor, all_lines(reader), 0};
    json_t *object;
    int code = 0;
    while (visit.row < reader->rows && !code) {
        code = next_object(reader, &visit.lines, &object, error);
        if (code || !object)
            break;
        code = visit_object(&visit, object, error);
        json_decref(object);
    }
    return code;
}

static void close_jsonl(struct ivon_table_reader *reader)
{
    struct reader_jsonl *jsonl = reader->self;
    if (jsonl)
        mapped_close(&jsonl->file);
    free(jsonl);
}

const struct reader_class reader_jsonl = {.recognise = reader_jsonl_recognise,
                                          .open = open_jsonl,
                                          .visit = reader_jsonl_visit,
                                          .close = close_jsonl};
