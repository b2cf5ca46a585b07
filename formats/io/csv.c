#define _GNU_SOURCE
#include "formats/io/csv.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/dispatch.h"
#include "formats/io/decimal.h"

enum { NUMBER_MAX = 128 }; /* characters; longer ones are not written by anybody */

/* A quoted field; returns the end of it, behind the quote. */
static const char *csv_parse_quoted(const char *at, const char *end, struct csv_field *field)
{
    field->text = at;
    while ((at = memchr(at, '"', (size_t)(end - at))) && at + 1 < end && at[1] == '"')
        at += 2;
    if (!at)
        return NULL;
    field->size = (size_t)(at - field->text);
    at++;
    while (at < end && (*at == ' ' || *at == '\t'))
        at++;
    return at + (at + 1 < end && at[0] == '\r' && at[1] == '\n');
}

static const char *csv_parse_plain(const char *at, const char *end, struct csv_field *field)
{
    while (at < end && (*at == ' ' || *at == '\t'))
        at++;
    field->text = at;
    while (at < end && *at != ',' && *at != '\n')
        at++;
    const char *stop = at - (at > field->text && at[-1] == '\r' && (at == end || *at == '\n'));
    while (stop > field->text && (stop[-1] == ' ' || stop[-1] == '\t'))
        stop--;
    field->size = (size_t)(stop - field->text);
    return at;
}

const char *csv_next_field(struct csv_text *text, struct csv_field *field)
{
    bool quoted = text->at < text->end && *text->at == '"';
    const char *at = quoted ? csv_parse_quoted(text->at + 1, text->end, field)
                            : csv_parse_plain(text->at, text->end, field);
    if (!at)
        return "a quote is never closed";
    field->last = at == text->end || *at == '\n';
    if (!field->last && *at != ',')
        return "something follows a closing quote";
    text->at = at + (at < text->end);
    return NULL;
}

bool csv_next_float(struct csv_text *text, float *value, bool *last)
{
    const char *at = decimal_float(text->at, text->end, value);
    if (!at || at == text->end)
        return false;
    at += *at == '\r' && at + 1 < text->end && at[1] == '\n';
    *last = *at == '\n';
    if (!*last && *at != ',')
        return false;
    text->at = at + 1;
    return true;
}

/* The commas in a line; none where it has a quote. */
IVON_DISPATCH static size_t count_commas(const char *line, size_t size)
{
    enum { PIECE = 255 /* what a byte can count */ };
    size_t commas = 0;
    unsigned char quoted = 0;
    for (size_t at = 0; at < size; at += PIECE) {
        size_t piece = size - at < PIECE ? size - at : PIECE;
        unsigned char count = 0;
        for (size_t i = 0; i < piece; i++) {
            count = (unsigned char)(count + (line[at + i] == ','));
            quoted |= line[at + i] == '"';
        }
        commas += count;
    }
    return quoted ? 0 : commas;
}

/* The field behind so many of the commas, from the nearer end of a line. */
static const char *field_at(const char *line, const char *end, size_t column, size_t columns)
{
    if (column < columns / 2) {
        for (; column; column--)
            line = (const char *)memchr(line, ',', (size_t)(end - line)) + 1;
        return line;
    }
    const char *at = end;
    for (; column < columns; column++) {
        const char *comma = memrchr(line, ',', (size_t)(at - line));
        if (!comma)
            return line;
        at = comma;
    }
    return at + 1;
}

bool csv_skip_record(struct csv_text *text, size_t columns, size_t column, struct csv_text *found)
{
    const char *line = text->at;
    const char *end = memchr(line, '\n', (size_t)(text->end - line));
    if (!end || columns < 2 || count_commas(line, (size_t)(end - line)) != columns - 1)
        return false;
    if (column < columns)
        *found = (struct csv_text){field_at(line, end, column, columns), text->end};
    text->at = end + 1;
    return true;
}

bool csv_next_record(struct csv_text *text)
{
    for (; text->at < text->end; text->at++) {
        bool return_first = *text->at == '\r' && text->at + 1 < text->end && text->at[1] == '\n';
        if (*text->at != '\n' && !return_first)
            return true;
    }
    return false;
}

bool csv_equal(const struct csv_field *field, const char *text)
{
    const char *at = field->text, *end = field->text + field->size;
    for (; at < end && *text && *at == *text; at++, text++)
        if (*at == '"' && at + 1 < end && at[1] == '"')
            at++;
    return at == end && !*text;
}

size_t csv_unquote(const struct csv_field *field, char *out)
{
    size_t size = 0;
    for (size_t i = 0; i < field->size; i++) {
        out[size++] = field->text[i];
        if (field->text[i] == '"' && i + 1 < field->size && field->text[i + 1] == '"')
            i++;
    }
    return size;
}

int64_t csv_numbered(const struct csv_field *field, const char *prefix)
{
    enum { DIGITS = 18 };
    size_t length = strlen(prefix);
    if (field->size <= length || field->size - length > DIGITS ||
        memcmp(field->text, prefix, length) != 0)
        return -1;
    int64_t number = 0;
    for (size_t i = length; i < field->size; i++) {
        if (field->text[i] < '0' || field->text[i] > '9')
            return -1;
        number = 10 * number + (field->text[i] - '0');
    }
    return number;
}

void csv_excerpt(const struct csv_field *field, char *out, size_t size)
{
    size_t length = field->size;
    bool whole = length < size;
    if (!whole) {
        length = size - sizeof "...";
        while (length && ((unsigned char)field->text[length] & 0xc0) == 0x80)
            length--; /* not in the middle of a character */
    }
    for (size_t i = 0; i < length; i++)
        out[i] = field->text[i] ? field->text[i] : '?';
    strcpy(out + length, whole ? "" : "...");
}

/* A copy that the C library can read; false when it would take it for what is no number here. */
static bool copy_number(const struct csv_field *field, char out[NUMBER_MAX])
{
    if (!field->size || field->size >= NUMBER_MAX || memchr(field->text, '\0', field->size))
        return false;
    memcpy(out, field->text, field->size);
    out[field->size] = '\0';
    return !strpbrk(out, "xX("); /* hexadecimal, or a NaN with contents */
}

/* True if a copied number that became infinite is an infinity by name. */
static bool named_infinite(const char *text)
{
    return strpbrk(text, "iI") != NULL;
}

bool csv_float(const struct csv_field *field, locale_t locale, float *value)
{
    char text[NUMBER_MAX], *end;
    if (decimal_float(field->text, field->text + field->size, value) == field->text + field->size)
        return true;
    if (!copy_number(field, text))
        return false;
    *value = strtof_l(text, &end, locale);
    return end != text && !*end && (!isinf(*value) || named_infinite(text));
}

bool csv_double(const struct csv_field *field, locale_t locale, double *value)
{
    char text[NUMBER_MAX], *end;
    if (!copy_number(field, text))
        return false;
    *value = strtod_l(text, &end, locale);
    return end != text && !*end && (!isinf(*value) || named_infinite(text));
}

bool csv_whole(const struct csv_field *field, locale_t locale, int64_t *value)
{
    char text[NUMBER_MAX], *end;
    if (!copy_number(field, text))
        return false;
    errno = 0;
    *value = strtoll(text, &end, 10);
    if (end != text && !*end)
        return errno == 0;
    double number = strtod_l(text, &end, locale);
    if (end == text || *end || !(number >= -0x1p53 && number <= 0x1p53))
        return false;
    *value = (int64_t)number;
    return (double)*value == number;
}
