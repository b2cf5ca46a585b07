#define _GNU_SOURCE
#include "cmd/shared/report.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "cmd/shared/memory.h"

/* Parenthesised: for analysis the name is a macro, too. */
int(error_fill)(struct ivon_error *error, int code, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    error->code = code;
    vsnprintf(error->message, sizeof error->message, format, arguments);
    va_end(arguments);
    ivon_text_clean(error->message);
    return code;
}

int(error_memory)(struct ivon_error *error)
{
    return error_fill(error, IVON_ERROR_MEMORY, "out of memory");
}

int(error_input)(struct ivon_error *error, const char *path, const char *verb, const char *reason)
{
    if (!*path)
        return error_fill(error, IVON_ERROR_INPUT, "the name of an input is empty");
    return error_fill(error, IVON_ERROR_INPUT, "%s: cannot %s it: %s", path, verb, reason);
}

int report_error(const struct ivon_error *error)
{
    fprintf(stderr, "%s: %s\n", program_invocation_short_name, error->message);
    switch (error->code) {
    case IVON_ERROR_ARGUMENT:
        return EX_USAGE;
    case IVON_ERROR_DATA:
        return EX_DATAERR;
    case IVON_ERROR_INPUT:
        return EX_NOINPUT;
    case IVON_ERROR_CREATE:
        return EX_CANTCREAT;
    case IVON_ERROR_IO:
        return EX_IOERR;
    case IVON_ERROR_MEMORY:
        return EX_OSERR;
    case IVON_ERROR_CANCELLED:
        return 130;
    default:
        return EX_SOFTWARE;
    }
}

static void print(const char *kind, const char *format, va_list arguments)
{
    char *text;
    if (vasprintf(&text, format, arguments) < 0)
        memory_exhausted();
    ivon_text_clean(text);
    fprintf(stderr, "%s: %s%s\n", program_invocation_short_name, kind, text);
    free(text);
}

void report_warning(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    print("warning: ", format, arguments);
    va_end(arguments);
}

void report_note(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    print("", format, arguments);
    va_end(arguments);
}

void report_text(FILE *stream, const char *text)
{
    char *clean = strdup(text);
    if (!clean)
        memory_exhausted();
    ivon_text_clean(clean);
    fputs(clean, stream);
    free(clean);
}

/* Prints a message of the cookie's stream, cleaned; only the last newline in it is its own. */
static ssize_t write_clean(void *cookie, const char *data, size_t size)
{
    (void)cookie;
    char *text = strndup(data, size);
    size_t length = text ? strlen(text) : 0;
    bool line = length && text[length - 1] == '\n';
    if (!text)
        return 0;
    text[length - line] = '\0';
    ivon_text_clean(text);
    fprintf(stderr, "%s%s", text, line ? "\n" : "");
    free(text);
    return (ssize_t)size;
}

FILE *report_stream(void)
{
    const cookie_io_functions_t functions = {.write = write_clean};
    FILE *stream = fopencookie(NULL, "w", functions);
    return stream ? stream : stderr;
}

static const char *scaled(double value, const char *unit, char text[32])
{
    static const char prefixes[] = " kMGTPE";
    int prefix = 0;
    for (; value >= 999.5 && prefixes[prefix + 1]; prefix++)
        value /= 1000;
    if (prefix)
        snprintf(text, 32, "%.1f %c%s", value, prefixes[prefix], unit);
    else
        snprintf(text, 32, "%.0f%s%s", value, *unit ? " " : "", unit);
    return text;
}

const char *report_bytes(double bytes, char text[32])
{
    return scaled(bytes, "B", text);
}

const char *report_count(uint64_t count, char text[32])
{
    return scaled((double)count, "", text);
}

const char *report_shape(const struct ivon_tensor *tensor, char text[256])
{
    size_t length = 0;
    strcpy(text, tensor->rank < 0 ? "?" : tensor->rank ? "" : "scalar");
    for (int i = 0; i < tensor->rank; i++)
        length += (size_t)snprintf(text + length, 256 - length, "%s%lld", i ? "x" : "",
                                   (long long)tensor->shape[i]);
    return text;
}

json_t *report_json_number(double value)
{
    if (isnan(value))
        return json_null();
    return isinf(value) ? json_string(value > 0 ? "Infinity" : "-Infinity") : json_real(value);
}

json_t *report_json_text(const char *text)
{
    json_t *value = text ? json_string(text) : NULL;
    return value ? value : json_null();
}

/* JSON whose strings hold no character that a terminal would interpret, but its escape. */
static void report_print_json(const char *text)
{
    uint32_t character;
    bool safe;
    for (size_t length; *text; text += length) {
        length = ivon_text_character(text, &character, &safe);
        if (safe)
            fwrite(text, 1, length, stdout);
        else
            printf("\\u%04x", (unsigned)character);
    }
}

void report_json_line(json_t *object)
{
    char *text = json_dumps(object, JSON_COMPACT);
    if (!text)
        memory_exhausted();
    report_print_json(text);
    putchar('\n');
    free(text);
    json_decref(object);
}
