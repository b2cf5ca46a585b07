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
    error->hint = IVON_HINT_NONE;
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

/* The options by which a hint is followed. */
static const char *const hints[IVON_HINT_COUNT] = {
    [IVON_HINT_MEMORY] = "raise --memory",
    [IVON_HINT_MEMORY_THREADS] = "raise --memory, or lower --threads",
    [IVON_HINT_REPLACE] = "--force replaces it",
    [IVON_HINT_REPLACE_LINK] = "--force replaces it, not what it leads to",
    [IVON_HINT_REPLACE_FILES] = "--force replaces what it would write there, and leaves the rest",
    [IVON_HINT_START_ANEW] = "remove it or leave --resume out",
    [IVON_HINT_ESS] = "ivon-convert --ess gives one",
    [IVON_HINT_WEIGHT_DECAY] = "ivon-convert --weight-decay gives one",
    [IVON_HINT_RESULT_ESS] = "give it by --ess",
    [IVON_HINT_TARGETS] = "--targets names their array, or --target-column a column of CSV",
    [IVON_HINT_REGRESSION] = "--likelihood=gaussian takes any numbers",
    [IVON_HINT_SELECTION] = "see --include and --exclude",
    [IVON_HINT_EXCLUSION] = "see --exclude",
    [IVON_HINT_HESSIAN] = "ivon-fit makes a posterior of it, or see --hessian",
    [IVON_HINT_BASE] = "see --base",
    [IVON_HINT_BASE_PRECISION] =
        "give its precision by --delta0, or leave it out by --base-scale=0",
    [IVON_HINT_NO_HESSIAN] = "--method=task-arithmetic and average need none",
    [IVON_HINT_MISMATCH] = "see --on-mismatch",
    [IVON_HINT_NONPOSITIVE] = "--on-nonpositive=base keeps the base's values there",
    [IVON_HINT_NONPOSITIVE_BASE] =
        "with a --base, --on-nonpositive=base keeps the base's values there",
    [IVON_HINT_KEEP_WEIGHTS] = "or let the graph keep them by --keep-graph-weights",
    [IVON_HINT_RENAME] = "ivon-convert --rename changes names",
    [IVON_HINT_INITIAL] = "give weights by --from",
    [IVON_HINT_FREEZE] = "see --freeze",
    [IVON_HINT_STATE] = "--key=NAME chooses one",
    [IVON_HINT_BUFFERS] = "--buffers='PATTERN' settles it",
    [IVON_HINT_PARAMETERS] =
        "give the optimizer names (named_parameters), or list them (--parameters)",
    [IVON_HINT_OUTPUT] = "--graph-output chooses another",
    [IVON_HINT_OUTPUT_AXES] = "--output-axes says what its axes are",
    [IVON_HINT_GRAM] = "ivon-fit --gram takes them of the training data",
    [IVON_HINT_CONTEXT] = "--context=T says it",
    [IVON_HINT_INPUTS] = "--inputs names another",
    [IVON_HINT_TEXT_COLUMN] = "--text-column names it",
    [IVON_HINT_RESIZE] = "--resize scales images to one size",
    [IVON_HINT_CLASSES] = "if they are names of classes, list these by --classes=FILE",
    [IVON_HINT_COLUMNS] = "all columns of CSV are inputs, but that of --target-column",
    [IVON_HINT_DIAGONAL] = "ivon-convert --structure=diagonal makes one, or see --exclude",
    [IVON_HINT_VOCABULARY] = "see --on-mismatch, or --vocabulary if the rows are tokens",
};

int report_error(const struct ivon_error *error)
{
    const char *hint = hints[error->hint];
    size_t length = strlen(error->message);
    bool question = length && error->message[length - 1] == '?';
    fprintf(stderr, "%s: %s%s%s\n", program_invocation_short_name, error->message,
            !hint      ? ""
            : question ? " "
                       : "; ",
            hint ? hint : "");
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
    char *clean = xstrdup(text);
    ivon_text_clean(clean);
    fputs(clean, stream);
    free(clean);
}

/* Prints a message of the cookie's stream, cleaned; only the last newline in it is its own. */
static ssize_t write_clean(void *cookie, const char *data, size_t size)
{
    (void)cookie;
    char *text = xstrndup(data, size);
    size_t length = text ? strlen(text) : 0;
    bool line = length && text[length - 1] == '\n';
    if (!text)
        return 0;
    text[length - line] = '\0';
    for (char *at = text; strncmp(text, "Try `", 5) == 0 && (at = strchr(at, '\n'));)
        *at = ' '; /* argp's own, which breaks it where the program's name is long */
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

/* RFC 4180. */
void report_csv_text(FILE *file, const char *text)
{
    if (!strpbrk(text, ",\"\r\n")) {
        fputs(text, file);
        return;
    }
    fputc('"', file);
    for (; *text; text++) {
        if (*text == '"')
            fputc('"', file);
        fputc(*text, file);
    }
    fputc('"', file);
}

void report_csv_number(FILE *file, double value)
{
    fputc(',', file);
    if (!isnan(value))
        fprintf(file, "%.9g", value);
}

void report_json_line(json_t *object)
{
    char *text = memory_of(json_dumps(object, JSON_COMPACT));
    report_print_json(text);
    putchar('\n');
    free(text);
    json_decref(object);
}
