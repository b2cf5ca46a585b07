/* Messages of the commands: errors and warnings on stderr, exit statuses, safe text on stdout. */
#ifndef CMD_SHARED_REPORT_H
#define CMD_SHARED_REPORT_H

#include <jansson.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>

#include "ivon/error.h"
#include "ivon/stream.h"

/* Fills an error in, as the library does, and returns its code. */
int error_fill(struct ivon_error *error, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
#ifdef IVON_ANALYSIS /* analysis sees one file at a time, and must know which code comes back */
#define error_fill(error, code, ...) ((void)error_fill(error, code, __VA_ARGS__), (code))
#endif

/* Says that memory is exhausted. */
int error_memory(struct ivon_error *error);
#ifdef IVON_ANALYSIS
#define error_memory(error) ((void)error_memory(error), IVON_ERROR_MEMORY)
#endif

/* Says that an input cannot be opened, or what else the verb says, and returns IVON_ERROR_INPUT. */
int error_input(struct ivon_error *error, const char *path, const char *verb, const char *reason);
#ifdef IVON_ANALYSIS
#define error_input(error, ...) ((void)error_input(error, __VA_ARGS__), IVON_ERROR_INPUT)
#endif

/* Prints "ivon-merge: MESSAGE" and returns the exit status that belongs to the error. */
int report_error(const struct ivon_error *error);

/* Prints "ivon-merge: warning: …". */
void report_warning(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Prints "ivon-merge: …". */
void report_note(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Prints text from a file, cleaned by ivon_text_clean. */
void report_text(FILE *stream, const char *text);

/* A stream to stderr that cleans what is written to it, one message, of which the newline at its
   end stays: for what others print. */
FILE *report_stream(void);

/* "1.2 GB", "999 B". */
const char *report_bytes(double bytes, char text[32]);

/* "1.0 M", "128". */
const char *report_count(uint64_t count, char text[32]);

/* A number to print: of what is not a number, without a sign, which would be an accident. */
static inline double report_number(double value)
{
    return isnan(value) ? NAN : value;
}

/* JSON values: null for what is not a number, "Infinity" and "-Infinity" as text; null for text
   that is null or not UTF-8. */
json_t *report_json_number(double value);
json_t *report_json_text(const char *text);

/* A field of CSV, in quotes where it needs them; and a comma, with a number of nine digits behind
   it, or nothing where that is NaN. */
void report_csv_text(FILE *file, const char *text);
void report_csv_number(FILE *file, double value);

/* One JSON object as one line on stdout; frees it. */
void report_json_line(json_t *object);

#endif
