/* The words of CSV (RFC 4180): fields, records and numbers, in memory that may end anywhere. */
#ifndef FORMATS_IO_CSV_H
#define FORMATS_IO_CSV_H

#include <locale.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The text that is still to be read. */
struct csv_text {
    const char *at, *end;
};

/* A field without its quotes, or the spaces around it; quotes within it are still doubled. */
struct csv_field {
    const char *text;
    size_t size;
    bool last; /* of its record */
};

/* Takes a field and the comma or the end of line behind it; returns what is wrong, or null. */
const char *csv_next_field(struct csv_text *text, struct csv_field *field);

/* Takes a field that is a plain number, as csv_next_field and csv_float would, but faster; false,
   and nothing is taken, where these have to look. */
bool csv_next_float(struct csv_text *text, float *value, bool *last);

/* Passes over a record of so many fields, without quotes; false, and nothing is passed over, where
   it is not one or csv_next_field has to look. `found` is set to the field of number `column` if
   that is one of them. */
bool csv_skip_record(struct csv_text *text, size_t columns, size_t column, struct csv_text *found);

/* Passes over empty lines; false when nothing follows them. */
bool csv_next_record(struct csv_text *text);

/* Returns whether a field is this text. */
bool csv_equal(const struct csv_field *field, const char *text);

/* Copies a field with single quotes where they are doubled; returns the size, at most the
   field's. */
size_t csv_unquote(const struct csv_field *field, char *out);

/* The number behind `prefix` in a field such as "p12"; -1 for any other field. */
int64_t csv_numbered(const struct csv_field *field, const char *prefix);

/* Writes at most `size` bytes, a null byte among them, of a field as a message may show it. */
void csv_excerpt(const struct csv_field *field, char *out, size_t size);

/* A decimal number, or an infinity or NaN by name, rounded once; false for anything else and for
   what a float cannot hold. `locale` is "C", whatever the program's is. */
bool csv_float(const struct csv_field *field, locale_t locale, float *value);

/* The same in double precision. */
bool csv_double(const struct csv_field *field, locale_t locale, double *value);

/* A whole number, exactly; also one that is written as 3.0 or 3e2, up to 2^53. */
bool csv_whole(const struct csv_field *field, locale_t locale, int64_t *value);

#endif
