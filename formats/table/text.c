/* Tables as CSV (RFC 4180) and JSON Lines. Names hold no control characters: table.c saw to it. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "formats/io/number_text.h"
#include "formats/table/table.h"

enum { TEXT_CAPACITY = 1 << 16 };

/* While something is written. After a failure nothing more is, and `code` is what to return. */
struct writer {
    struct ivon_table *table;
    int code;
    struct ivon_error *error;
};

/* Passes the buffered text on. */
static void table_text_drain(struct writer *writer)
{
    struct ivon_table *table = writer->table;
    size_t size = table->text_size;
    table->text_size = 0;
    if (writer->code)
        return;
    if (!table->stream)
        writer->code = atomic_write(&table->file, table->text_offset, table->text, size,
                                    writer->error);
    else if (fwrite(table->text, 1, size, table->stream) != size)
        writer->code = ivon_error_set(writer->error, IVON_ERROR_IO, "%s: cannot write it: %s",
                                      table->name, strerror(errno));
    table->text_offset += size;
}

static void put_bytes(struct writer *writer, const char *bytes, size_t size)
{
    struct ivon_table *table = writer->table;
    while (size) {
        size_t space = TEXT_CAPACITY - table->text_size;
        size_t now = size < space ? size : space;
        memcpy(table->text + table->text_size, bytes, now);
        table->text_size += now;
        bytes += now;
        size -= now;
        if (table->text_size == TEXT_CAPACITY)
            table_text_drain(writer);
    }
}

static void table_text_put(struct writer *writer, const char *text)
{
    put_bytes(writer, text, strlen(text));
}

static void put_character(struct writer *writer, char character)
{
    struct ivon_table *table = writer->table;
    table->text[table->text_size++] = character;
    if (table->text_size == TEXT_CAPACITY)
        table_text_drain(writer);
}

/* Room for a number. */
static char *table_text_reserve(struct writer *writer)
{
    if (writer->table->text_size > TEXT_CAPACITY - NUMBER_TEXT_MAX)
        table_text_drain(writer);
    return writer->table->text + writer->table->text_size;
}

static void put_integer(struct writer *writer, int64_t value)
{
    char *text = table_text_reserve(writer);
    writer->table->text_size += number_text_i64(text, value);
}

static const char *const csv_nonfinite[] = {"nan", "inf", "-inf"};
static const char *const json_nonfinite[] = {"null", "\"Infinity\"", "\"-Infinity\""};

/* The number at `at`; `nonfinite` are the texts of what has no digits. */
static void table_text_put_number(struct writer *writer, enum ivon_dtype dtype, const void *at,
                                  const char *const nonfinite[])
{
    float single = 0;
    double value = 0;
    int64_t integer;
    if (dtype == IVON_I64) {
        memcpy(&integer, at, sizeof integer);
        put_integer(writer, integer);
        return;
    }
    if (dtype == IVON_F32) {
        memcpy(&single, at, sizeof single);
        value = (double)single;
    } else {
        memcpy(&value, at, sizeof value);
    }
    if (!isfinite(value)) {
        table_text_put(writer, nonfinite[isnan(value) ? 0 : value > 0 ? 1 : 2]);
        return;
    }
    char *text = table_text_reserve(writer);
    writer->table->text_size += dtype == IVON_F32 ? number_text_f32(text, single)
                                                  : number_text_f64(text, value);
}

static int64_t table_text_element(const char *at)
{
    int64_t number;
    memcpy(&number, at, sizeof number);
    return number;
}

/* The name of a number, or null. */
static const char *table_text_name_of(const struct ivon_table *table,
                                      const struct table_column *column, const char *at)
{
    if (column->naming != IVON_NAMES)
        return NULL;
    int64_t number = table_text_element(at);
    return number >= 0 && (uint64_t)number < table->options.name_count
               ? table->options.names[number]
               : NULL;
}

/* Text in which `escape` goes before quotation marks, and before itself. */
static void put_escaped(struct writer *writer, const char *text, char escape)
{
    const char escaped[] = {'"', escape, '\0'};
    for (size_t plain; *text; text += plain) {
        plain = strcspn(text, escaped);
        put_bytes(writer, text, plain);
        if (!text[plain])
            break;
        put_character(writer, escape);
        put_character(writer, text[plain++]);
    }
}

/* The same in quotation marks. */
static void put_quoted(struct writer *writer, const char *text, char escape)
{
    put_character(writer, '"');
    put_escaped(writer, text, escape);
    put_character(writer, '"');
}

static int table_text_start(struct ivon_table *table, struct ivon_error *error)
{
    table->text = malloc(TEXT_CAPACITY);
    return table->text ? 0 : ivon_error_memory(error);
}

/* The lines so far, to which more are appended. */
static int table_text_resume(struct ivon_table *table, struct ivon_error *error)
{
    return atomic_copy(&table->file, 0, table->saved, 0, table->text_offset, error);
}

/* CSV. */

/* How many columns of CSV a column becomes. */
static size_t table_text_width(const struct ivon_table *table, const struct table_column *column)
{
    int64_t tokens = table->options.tokens;
    size_t count = tokens ? column->count / (size_t)tokens : column->count;
    return column->naming == IVON_NAME_SETS ? count / table->options.name_count : count;
}

/* Text in quotation marks if something in it needs them. */
static void put_cell(struct writer *writer, const char *text)
{
    if (strpbrk(text, ",\""))
        put_quoted(writer, text, '"');
    else
        table_text_put(writer, text);
}

/* Separates a column from the one before, if there is one. */
static void put_comma(struct writer *writer, bool first)
{
    if (!first)
        put_character(writer, ',');
}

static int put_headings(struct writer *writer, const struct table_column *column, bool first)
{
    int axes = column->is.rank - (column->naming == IVON_NAME_SETS);
    bool scalar = axes == (writer->table->options.tokens ? 1 : 0);
    size_t length = strlen(column->is.prefix), count = table_text_width(writer->table, column);
    if (scalar) {
        put_comma(writer, first);
        put_cell(writer, column->is.name);
        return 0;
    }
    char *heading = malloc(length + NUMBER_TEXT_MAX + 1);
    if (!heading)
        return ivon_error_memory(writer->error);
    memcpy(heading, column->is.prefix, length);
    for (size_t i = 0; i < count; i++) {
        heading[length + number_text_i64(heading + length, (int64_t)i)] = '\0';
        put_comma(writer, first && i == 0);
        put_cell(writer, heading);
    }
    free(heading);
    return 0;
}

static int begin_csv(struct ivon_table *table, struct ivon_error *error)
{
    struct writer writer = {.table = table, .error = error};
    int code = table_text_start(table, error);
    if (code)
        return code;
    bool own = table->options.own_index;
    if (!own)
        table_text_put(&writer, table->options.tokens ? "index,token" : "index");
    for (size_t c = 0; c < table->column_count && !code; c++)
        code = put_headings(&writer, &table->columns[c], own && c == 0);
    table_text_put(&writer, "\n");
    table_text_drain(&writer);
    return code ? code : writer.code;
}

/* The names of a set, as one cell. */
static void put_set(struct writer *writer, const char *at)
{
    const struct ivon_table_options *options = &writer->table->options;
    const char *bar = "";
    bool quotes = false;
    for (size_t i = 0; i < options->name_count && !quotes; i++)
        quotes = table_text_element(at + i * sizeof(int64_t)) && strpbrk(options->names[i], ",\"");
    if (quotes)
        put_character(writer, '"');
    for (size_t i = 0; i < options->name_count; i++) {
        if (!table_text_element(at + i * sizeof(int64_t)))
            continue;
        table_text_put(writer, bar);
        put_escaped(writer, options->names[i], '"');
        bar = "|";
    }
    if (quotes)
        put_character(writer, '"');
}

/* A cell of CSV. */
static void put_element(struct writer *writer, const struct table_column *column, const char *at)
{
    const char *name = table_text_name_of(writer->table, column, at);
    if (column->naming == IVON_NAME_SETS)
        put_set(writer, at);
    else if (name)
        put_cell(writer, name);
    else
        table_text_put_number(writer, column->is.dtype, at, csv_nonfinite);
}

/* Line `line` of those that the appended rows make: one for each, or for each of its tokens. */
static void put_line(struct writer *writer, size_t line, const void *const *columns)
{
    const struct ivon_table *table = writer->table;
    size_t tokens = (size_t)table->options.tokens;
    bool own = table->options.own_index;
    if (!own)
        put_integer(writer, (int64_t)(table->appended + (tokens ? line / tokens : line)));
    if (tokens) {
        put_character(writer, ',');
        put_integer(writer, (int64_t)(line % tokens));
    }
    for (size_t c = 0; c < table->column_count; c++) {
        const struct table_column *column = &table->columns[c];
        size_t count = table_text_width(table, column), size = ivon_dtype_size(column->is.dtype);
        size *= column->naming == IVON_NAME_SETS ? table->options.name_count : 1;
        const char *at = (const char *)columns[c] + line * count * size;
        for (size_t i = 0; i < count; i++, at += size) {
            put_comma(writer, own && c == 0 && i == 0);
            put_element(writer, column, at);
        }
    }
    put_character(writer, '\n');
}

static int append_csv(struct ivon_table *table, size_t count, const void *const *columns,
                      struct ivon_error *error)
{
    struct writer writer = {.table = table, .error = error};
    size_t tokens = (size_t)table->options.tokens, lines = tokens ? count * tokens : count;
    for (size_t line = 0; line < lines && !writer.code; line++)
        put_line(&writer, line, columns);
    table_text_drain(&writer);
    return writer.code;
}

/* JSON Lines. */

/* One element. */
static void put_scalar(struct writer *writer, const struct table_column *column, const char *at)
{
    const char *name = table_text_name_of(writer->table, column, at);
    if (name)
        put_quoted(writer, name, '\\');
    else
        table_text_put_number(writer, column->is.dtype, at, json_nonfinite);
}

/* The names of a set, as a list. */
static void put_set_list(struct writer *writer, const char *at)
{
    const struct ivon_table_options *options = &writer->table->options;
    bool first = true;
    put_character(writer, '[');
    for (size_t i = 0; i < options->name_count; i++) {
        if (!table_text_element(at + i * sizeof(int64_t)))
            continue;
        put_comma(writer, first);
        put_quoted(writer, options->names[i], '\\');
        first = false;
    }
    put_character(writer, ']');
}

/* Writes the value whose elements, with all axes from `axis` on, begin at `at`, and returns where
   they end. */
static const char *put_value(struct writer *writer, const struct table_column *column, int axis,
                             const char *at)
{
    if (column->naming == IVON_NAME_SETS && axis == column->is.rank - 1) {
        put_set_list(writer, at);
        return at + writer->table->options.name_count * sizeof(int64_t);
    }
    if (axis == column->is.rank) {
        put_scalar(writer, column, at);
        return at + ivon_dtype_size(column->is.dtype);
    }
    put_character(writer, '[');
    for (int64_t i = 0; i < column->is.shape[axis]; i++) {
        put_comma(writer, i == 0);
        at = put_value(writer, column, axis + 1, at);
    }
    put_character(writer, ']');
    return at;
}

static int append_jsonl(struct ivon_table *table, size_t count, const void *const *columns,
                        struct ivon_error *error)
{
    struct writer writer = {.table = table, .error = error};
    for (size_t row = 0; row < count && !writer.code; row++) {
        bool own = table->options.own_index;
        table_text_put(&writer, own ? "{" : "{\"index\":");
        if (!own)
            put_integer(&writer, (int64_t)(table->appended + row));
        for (size_t c = 0; c < table->column_count; c++) {
            const struct table_column *column = &table->columns[c];
            put_comma(&writer, own && c == 0);
            put_quoted(&writer, column->is.name, '\\');
            table_text_put(&writer, ":");
            put_value(&writer, column, 0, (const char *)columns[c] + row * column->size);
        }
        table_text_put(&writer, "}\n");
    }
    table_text_drain(&writer);
    return writer.code;
}

const struct table_class table_csv = {
    .suffixes = (const char *const[]){".csv", NULL},
    .text = true,
    .begin = begin_csv,
    .resume = table_text_resume,
    .append = append_csv,
};
const struct table_class table_jsonl = {
    .suffixes = (const char *const[]){".jsonl", ".json", ".ndjson", NULL},
    .text = true,
    .begin = table_text_start,
    .resume = table_text_resume,
    .append = append_jsonl,
};
