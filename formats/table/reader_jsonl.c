/* JSON Lines as a table of columns. */
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "formats/table/reader.h"

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
    const struct mapped_file *file = reader->self;
    const char *data = (const char *)file->data;
    return (struct lines){data, data + file->size, 0};
}

static int add_members(struct ivon_table_reader *reader, json_t *object, struct ivon_error *error)
{
    const char *name;
    json_t *value;
    int code = 0;
    json_object_foreach(object, name,
                        value) if (!code && !json_is_array(value) && !json_is_object(value))
        code = reader_add(reader, name, strlen(name), error);
    return code;
}

static int open_jsonl(struct ivon_table_reader *reader, struct mapped_file *file,
                      struct ivon_error *error)
{
    json_t *object;
    int code;
    reader->self = malloc(sizeof *file);
    if (!reader->self)
        return ivon_error_memory(error);
    *(struct mapped_file *)reader->self = *file;
    *file = (struct mapped_file){0};
    struct lines lines = all_lines(reader);
    while (!(code = next_object(reader, &lines, &object, error)) && object) {
        if (!reader->rows++)
            code = add_members(reader, object, error);
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

static int reader_jsonl_visit(struct ivon_table_reader *reader, size_t column,
                              const struct reader_visitor *visitor, struct ivon_error *error)
{
    struct lines lines = all_lines(reader);
    json_t *object;
    int code = 0;
    for (uint64_t row = 0; row < reader->rows && !code; row++) {
        struct reader_cell cell = {0};
        char *made = NULL;
        code = next_object(reader, &lines, &object, error);
        if (code || !object)
            break;
        code = fill_cell(&cell, json_object_get(object, reader->names[column]), visitor->wants_text,
                         &made, error);
        cell.line = lines.line;
        if (!code)
            code = visitor->on_cell(visitor->context, reader, column, row, &cell, error);
        free(made);
        json_decref(object);
    }
    return code;
}

static void close_jsonl(struct ivon_table_reader *reader)
{
    if (reader->self)
        mapped_close(reader->self);
    free(reader->self);
}

const struct reader_class reader_jsonl = {.recognise = reader_jsonl_recognise,
                                          .open = open_jsonl,
                                          .visit = reader_jsonl_visit,
                                          .close = close_jsonl};
