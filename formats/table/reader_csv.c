/* CSV as a table of columns. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "formats/table/reader.h"
#include "formats/io/csv.h"
#include "formats/io/number_text.h"

struct reader_csv {
    struct mapped_file file;
    locale_t locale;
    uint64_t start; /* offset of the first row */
    unsigned long long start_line;
    char *unquoted; /* a cell whose quotes were doubled */
    size_t capacity;
};

/* A record while its fields are read. */
struct record {
    struct csv_text text;
    uint64_t row;
    unsigned long long line;
    const char *counted; /* line ends before it are in `line` */
};

/* True if the file is text, and so CSV: the only format that has no signature. */
static bool reader_csv_recognise(const struct mapped_file *file)
{
    enum { SAMPLE = 4096 };
    return !memchr(file->data, '\0', file->size < SAMPLE ? (size_t)file->size : SAMPLE);
}

static void count_lines(struct record *record)
{
    const char *at = record->counted, *end = record->text.at;
    while ((at = memchr(at, '\n', (size_t)(end - at)))) {
        at++;
        record->line++;
    }
    record->counted = end;
}

static int bad_record(const struct ivon_table_reader *reader, const struct record *record,
                      const char *what, struct ivon_error *error)
{
    return ivon_error_set(error, IVON_ERROR_DATA, "%s: row %llu (line %llu): %s", reader->path,
                          (unsigned long long)record->row, record->line, what);
}

/* A field's text, with single quotes where they are doubled. */
static int unquote(struct reader_csv *csv, struct csv_field *field, struct ivon_error *error)
{
    if (!memchr(field->text, '"', field->size))
        return 0;
    if (field->size > csv->capacity) {
        char *grown = realloc(csv->unquoted, field->size);
        if (!grown)
            return ivon_error_memory(error);
        csv->unquoted = grown;
        csv->capacity = field->size;
    }
    field->size = csv_unquote(field, csv->unquoted);
    field->text = csv->unquoted;
    return 0;
}

/* The next record's field of a column, if that is wanted; its fields are as many as columns. */
static int reader_csv_read_record(struct ivon_table_reader *reader, struct record *record,
                                  size_t column, struct csv_field *wanted, struct ivon_error *error)
{
    struct csv_field field;
    size_t found = 0;
    do {
        const char *broken = csv_next_field(&record->text, &field);
        if (broken)
            return bad_record(reader, record, broken, error);
        if (wanted && found == column)
            *wanted = field;
        found++;
    } while (!field.last);
    if (found == reader->count)
        return 0;
    char what[80];
    snprintf(what, sizeof what, "has %zu columns, expected %zu as in the first line", found,
             reader->count);
    return bad_record(reader, record, what, error);
}

static int reader_csv_read_header(struct ivon_table_reader *reader, struct csv_text *text,
                                  bool *is_header, struct ivon_error *error)
{
    struct reader_csv *csv = reader->self;
    struct csv_field field;
    int code = 0;
    *is_header = false;
    do {
        double number;
        const char *broken = csv_next_field(text, &field);
        if (broken)
            return ivon_error_set(error, IVON_ERROR_DATA, "%s: first line: %s", reader->path,
                                  broken);
        *is_header = *is_header || !csv_double(&field, csv->locale, &number);
        code = unquote(csv, &field, error);
        if (!code)
            code = reader_add(reader, field.text, field.size, error);
    } while (!code && !field.last);
    return code;
}

/* Names by number, where the first line is a row. */
static int number_names(struct ivon_table_reader *reader, struct ivon_error *error)
{
    for (size_t i = 0; i < reader->count; i++) {
        char *name = malloc(NUMBER_TEXT_MAX + 1);
        if (!name)
            return ivon_error_memory(error);
        name[number_text_i64(name, (int64_t)i + 1)] = '\0';
        free(reader->names[i]);
        reader->names[i] = name;
    }
    return 0;
}

static struct record first_record(const struct reader_csv *csv)
{
    const char *data = (const char *)csv->file.data;
    return (struct record){.text = {data + csv->start, data + csv->file.size},
                           .line = csv->start_line,
                           .counted = data + csv->start};
}

static int count_rows(struct ivon_table_reader *reader, struct ivon_error *error)
{
    struct record record = first_record(reader->self);
    for (; csv_next_record(&record.text); record.row++) {
        count_lines(&record);
        int code = reader_csv_read_record(reader, &record, 0, NULL, error);
        if (code)
            return code;
    }
    reader->rows = record.row;
    return 0;
}

static int reader_csv_read_first_line(struct ivon_table_reader *reader, struct ivon_error *error)
{
    static const char mark[] = "\xef\xbb\xbf"; /* of UTF-8, as some programs write it */
    struct reader_csv *csv = reader->self;
    const char *data = (const char *)csv->file.data;
    bool is_header;
    if (csv->file.size >= 3 && memcmp(data, mark, 3) == 0)
        csv->start = 3;
    csv->start_line = 1;
    struct record record = first_record(csv);
    if (!csv_next_record(&record.text))
        return ivon_error_set(error, IVON_ERROR_DATA, "%s: has nothing but empty lines",
                              reader->path);
    int code = reader_csv_read_header(reader, &record.text, &is_header, error);
    if (!code && !is_header)
        return number_names(reader, error);
    count_lines(&record);
    csv->start_line = record.line;
    csv->start = (uint64_t)(record.text.at - data);
    return code;
}

static int open_csv(struct ivon_table_reader *reader, struct mapped_file *file,
                    struct ivon_error *error)
{
    struct reader_csv *csv = calloc(1, sizeof *csv);
    if (!csv)
        return ivon_error_memory(error);
    reader->self = csv;
    csv->file = *file;
    *file = (struct mapped_file){0};
    csv->locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    int code = csv->locale ? reader_csv_read_first_line(reader, error) : ivon_error_memory(error);
    return code ? code : count_rows(reader, error);
}

static int reader_csv_visit(struct ivon_table_reader *reader, size_t column,
                            const struct reader_visitor *visitor, struct ivon_error *error)
{
    struct reader_csv *csv = reader->self;
    struct record record = first_record(csv);
    int code = 0;
    for (; !code && record.row < reader->rows && csv_next_record(&record.text); record.row++) {
        struct csv_field field = {.text = record.text.at};
        struct reader_cell cell = {0};
        count_lines(&record);
        code = reader_csv_read_record(reader, &record, column, &field, error);
        if (code)
            break;
        cell.is_number = csv_double(&field, csv->locale, &cell.number);
        code = unquote(csv, &field, error);
        cell.missing = field.size == 0;
        cell.text = field.text;
        cell.size = field.size;
        cell.line = record.line;
        if (!code)
            code = visitor->on_cell(visitor->context, reader, column, record.row, &cell, error);
    }
    return code;
}

static void close_csv(struct ivon_table_reader *reader)
{
    struct reader_csv *csv = reader->self;
    if (!csv)
        return;
    if (csv->locale)
        freelocale(csv->locale);
    mapped_close(&csv->file);
    free(csv->unquoted);
    free(csv);
}

const struct reader_class reader_csv = {.recognise = reader_csv_recognise,
                                        .open = open_csv,
                                        .visit = reader_csv_visit,
                                        .close = close_csv};
