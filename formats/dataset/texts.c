/*
 * Texts in a column of CSV as rows of tokens: words between blanks, by their numbers in a
 * vocabulary. Everything else of the file, the targets above all, is left to csv.c, whose examples
 * are below these.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "core/error.h"
#include "formats/dataset/dataset.h"
#include "formats/dataset/vocabulary.h"
#include "formats/io/csv.h"

enum {
    STRIDE = 64,       /* rows between two whose places are kept */
    TOKEN_SIZE = 1024, /* bytes; a longer one is in no vocabulary */
    NAME_SIZE = 64,    /* of a token in messages */
};

struct dataset_texts {
    struct ivon_examples *table; /* the file by csv.c; owned */
    struct mapped_file file;
    struct text_vocabulary vocabulary;
    size_t column, length;
    uint64_t *places; /* offsets of rows 0, STRIDE, … */
    uint64_t next_row, next_offset;
};

static struct csv_text texts_from(const struct dataset_texts *texts, uint64_t offset)
{
    const char *data = (const char *)texts->file.data;
    return (struct csv_text){data + offset, data + texts->file.size};
}

static uint64_t texts_offset(const struct dataset_texts *texts, const struct csv_text *text)
{
    return (uint64_t)(text->at - (const char *)texts->file.data);
}

/* The columns. */

/* Passes over a record; the field of number `column`, if it is there, goes to *found. */
static bool texts_next(struct csv_text *text, size_t column, struct csv_field *found)
{
    struct csv_field field;
    *found = (struct csv_field){0};
    if (!csv_next_record(text))
        return false;
    for (size_t i = 0; !csv_next_field(text, &field); i++) {
        if (i == column)
            *found = field;
        if (field.last)
            return true;
    }
    return false;
}

/* Finds a column by its header, or else by its number from 1; SIZE_MAX: it is not there. */
static size_t texts_find_column(struct csv_text header, size_t columns, const char *name)
{
    struct csv_field field;
    char *end = NULL;
    for (size_t i = 0; i < columns && !csv_next_field(&header, &field); i++)
        if (csv_equal(&field, name))
            return i;
    unsigned long long number = *name >= '1' && *name <= '9' ? strtoull(name, &end, 10) : 0;
    return number && !*end && number <= columns ? (size_t)number - 1 : SIZE_MAX;
}

/* Takes the first line; false where all of it are numbers, for csv.c a row. */
static bool texts_read_headers(struct csv_text *text, size_t *columns)
{
    locale_t locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    struct csv_field field = {0};
    float number;
    bool headers = false;
    for (*columns = 0; locale && !field.last && !csv_next_field(text, &field); ++*columns)
        headers = headers || !csv_float(&field, locale, &number);
    if (locale)
        freelocale(locale);
    return headers;
}

/* Sets *text behind the first line, whose fields are headers, and finds the column of texts. */
static int texts_choose_column(struct dataset_texts *texts, struct csv_text *text,
                               const struct ivon_dataset_options *options, struct ivon_error *error)
{
    size_t columns = 0, target = SIZE_MAX;
    bool marked = texts->file.size >= 3 && memcmp(text->at, "\xef\xbb\xbf", 3) == 0;
    text->at += marked ? 3 : 0;
    csv_next_record(text);
    struct csv_text header = *text;
    if (!texts_read_headers(text, &columns))
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: has numbers alone in its first line, expected headers of the "
                              "columns",
                              texts->file.path);
    if (options->target_column)
        target = texts_find_column(header, columns, options->target_column);
    if (options->text_column)
        texts->column = texts_find_column(header, columns, options->text_column);
    else if (columns == (target == SIZE_MAX ? 1 : 2))
        texts->column = target == 0;
    else
        return ivon_error_hint(error, IVON_HINT_TEXT_COLUMN,
                               ivon_error_set(error, IVON_ERROR_DATA,
                                              "%s: has %zu columns, and which of them has the "
                                              "texts is not said",
                                              texts->file.path, columns));
    if (texts->column >= columns)
        return ivon_error_set(error, IVON_ERROR_DATA, "%s: has no column '%s' of texts",
                              texts->file.path, options->text_column);
    return texts->column == target
               ? ivon_error_set(error, IVON_ERROR_ARGUMENT,
                                "%s: one column is to be both the texts and the targets",
                                texts->file.path)
               : 0;
}

/* The rows. */

/* Notes the places of the rows that csv.c has found. */
static int texts_find_rows(struct dataset_texts *texts, struct csv_text *text,
                           struct ivon_error *error)
{
    struct csv_field field;
    uint64_t rows = ivon_examples_count(texts->table);
    texts->places = calloc(rows / STRIDE + 1, sizeof *texts->places);
    if (!texts->places)
        return ivon_error_memory(error);
    texts->next_offset = texts_offset(texts, text);
    for (uint64_t row = 0; row < rows; row++) {
        if (row % STRIDE == 0)
            texts->places[row / STRIDE] = texts_offset(texts, text);
        if (!texts_next(text, SIZE_MAX, &field))
            return ivon_error_set(
                error, IVON_ERROR_DATA,
                "%s: its first line may be a row, expected headers of the columns",
                texts->file.path);
    }
    return 0;
}

static bool is_blank(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* Takes the next word of a field, whose doubled quotes are single ones; false at its end. What does
   not fit is left out, and *size tells. */
static bool texts_take_word(struct csv_field *field, char word[TOKEN_SIZE], size_t *size)
{
    while (field->size && is_blank(*field->text)) {
        field->text++;
        field->size--;
    }
    *size = 0;
    while (field->size && !is_blank(*field->text)) {
        bool doubled = field->size > 1 && field->text[0] == '"' && field->text[1] == '"';
        if (*size < TOKEN_SIZE)
            word[*size] = *field->text;
        ++*size;
        field->text += 1 + doubled;
        field->size -= 1 + doubled;
    }
    return *size > 0;
}

/* The first tokens of a text; zeros where it has fewer. */
static int texts_number(const struct dataset_texts *texts, uint64_t row, struct csv_field field,
                        int32_t *tokens, struct ivon_error *error)
{
    const struct text_vocabulary *vocabulary = &texts->vocabulary;
    char word[TOKEN_SIZE];
    size_t size, count = 0;
    for (; count < texts->length && texts_take_word(&field, word, &size); count++) {
        int32_t number = size <= TOKEN_SIZE ? text_vocabulary_find(vocabulary, word, size) : -1;
        tokens[count] = number >= 0 ? number : vocabulary->unknown;
        if (tokens[count] >= 0)
            continue;
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: row %llu: '%.*s' is not in %s, where neither <unk> nor [UNK] "
                              "stands for what is not",
                              texts->file.path, (unsigned long long)row,
                              (int)(size < NAME_SIZE ? size : NAME_SIZE), word,
                              vocabulary->file.path);
    }
    memset(tokens + count, 0, (texts->length - count) * sizeof *tokens);
    return 0;
}

static int texts_read(void *self, size_t field, uint64_t first, size_t count, void *buffer,
                      struct ivon_error *error)
{
    struct dataset_texts *texts = self;
    if (field)
        return examples_read_stored(texts->table, field, first, count, buffer, error);
    uint64_t row = first / STRIDE * STRIDE, start = texts->places[first / STRIDE];
    if (texts->next_row <= first && texts->next_row > row) {
        row = texts->next_row;
        start = texts->next_offset;
    }
    struct csv_text text = texts_from(texts, start);
    struct csv_field cell;
    int code = 0;
    for (; row < first + count && !code; row++) {
        texts_next(&text, texts->column, &cell);
        if (row >= first)
            code = texts_number(texts, row, cell, (int32_t *)buffer + (row - first) * texts->length,
                                error);
    }
    texts->next_row = row;
    texts->next_offset = texts_offset(texts, &text);
    mapped_advise(&texts->file, start, texts->next_offset - start, MADV_DONTNEED);
    return code;
}

static void texts_close(void *self)
{
    struct dataset_texts *texts = self;
    ivon_examples_close(texts->table);
    mapped_close(&texts->file);
    text_vocabulary_release(&texts->vocabulary);
    free(texts->places);
    free(texts);
}

static int texts_make(struct ivon_examples **examples, struct dataset_texts *texts,
                      struct ivon_error *error)
{
    static const struct ivon_examples_class class = {.read = texts_read, .close = texts_close};
    const struct examples_scaling scalings[2] = {{.divisor = 1, .channels = 1},
                                                 {.divisor = 1, .channels = 1}};
    size_t count = ivon_examples_field_count(texts->table);
    struct ivon_field fields[2] = {{.name = ivon_examples_field(texts->table, 0)->name,
                                    .dtype = IVON_I32,
                                    .rank = 1,
                                    .shape = {(int64_t)texts->length}}};
    if (count > 1)
        fields[1] = *ivon_examples_field(texts->table, 1);
    return ivon_examples_new(examples, &class, texts, ivon_examples_path(texts->table),
                             ivon_examples_count(texts->table), fields, scalings, count, error);
}

int dataset_texts(struct ivon_examples **examples, struct ivon_examples *table, const char *path,
                  const struct ivon_dataset_options *options, struct ivon_error *error)
{
    struct dataset_texts *texts = calloc(1, sizeof *texts);
    if (!texts) {
        ivon_examples_close(table);
        return ivon_error_memory(error);
    }
    texts->table = table;
    texts->length = options->context;
    int code = texts->length
                   ? text_vocabulary_open(&texts->vocabulary, options->vocabulary, error)
                   : ivon_error_hint(error, IVON_HINT_CONTEXT,
                                     ivon_error_set(error, IVON_ERROR_ARGUMENT,
                                                    "%s: how many tokens a text has is not said",
                                                    path));
    if (!code)
        code = mapped_open(&texts->file, path, error);
    if (!code) {
        struct csv_text text = texts_from(texts, 0);
        code = texts_choose_column(texts, &text, options, error);
        if (!code)
            code = texts_find_rows(texts, &text, error);
    }
    if (!code)
        code = texts_make(examples, texts, error);
    if (code)
        texts_close(texts);
    return code;
}
