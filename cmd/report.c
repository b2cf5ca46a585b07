#define _GNU_SOURCE
#include "cmd/report.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <string.h>
#include <sysexits.h>

int error_fill(struct ivon_error *error, int code, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    error->code = code;
    vsnprintf(error->message, sizeof error->message, format, arguments);
    va_end(arguments);
    return code;
}

int error_memory(struct ivon_error *error)
{
    return error_fill(error, IVON_ERROR_MEMORY, "out of memory");
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
    fprintf(stderr, "%s: %s", program_invocation_short_name, kind);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
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
    for (const unsigned char *byte = (const unsigned char *)text; *byte; byte++) {
        bool wide = byte[0] == 0xc2 && byte[1] >= 0x80 && byte[1] < 0xa0; /* U+0080 to U+009F */
        fputc(*byte < 0x20 || *byte == 0x7f || wide ? '?' : *byte, stream);
        byte += wide;
    }
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
    strcpy(text, tensor->rank ? "" : "scalar");
    for (int i = 0; i < tensor->rank; i++)
        length += (size_t)snprintf(text + length, 256 - length, "%s%lld", i ? "x" : "",
                                   (long long)tensor->shape[i]);
    return text;
}

json_t *report_json_number(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

json_t *report_json_text(const char *text)
{
    json_t *value = text ? json_string(text) : NULL;
    return value ? value : json_null();
}

void report_json_line(json_t *object)
{
    json_dumpf(object, stdout, JSON_COMPACT);
    putchar('\n');
    json_decref(object);
}
