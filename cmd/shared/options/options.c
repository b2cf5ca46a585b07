#define _GNU_SOURCE
#include "cmd/shared/options/options.h"

#include <errno.h>
#include <fnmatch.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "cmd/shared/memory.h"
#include "cmd/shared/report.h"
#include "ivon/dtype.h"

/* argp has and lists -? alone. */
static const struct argp_option help_option_table[] = {{NULL, 'h', NULL, OPTION_HIDDEN, NULL, -1},
                                                       {0}};

static error_t parse_help(int key, char *argument, struct argp_state *state)
{
    (void)argument;
    if (key != 'h')
        return ARGP_ERR_UNKNOWN;
    argp_state_help(state, state->out_stream, ARGP_HELP_STD_HELP);
    return 0;
}

const struct argp help_argp = {.options = help_option_table, .parser = parse_help};

static const struct argp_option common_option_table[] = {
    OPTION_HEADING("All commands:", -2),
    {"quiet", 'q', NULL, 0, "Print errors only", -2},
    {"verbose", 'v', NULL, 0, "Say what is done", -2},
    {"threads", 'j', "N", 0, "Use N threads (default: one for each processor)", -2},
    {0},
};

static error_t parse_common(int key, char *argument, struct argp_state *state)
{
    struct common_options *options = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->err_stream = report_stream(); /* messages hold what was typed, or a file is called */
        return 0;
    case 'q':
        options->quiet = true;
        return 0;
    case 'v':
        options->verbose = true;
        return 0;
    case 'j':
        options->threads = (int)option_whole(state, "--threads", argument, 1, 1024);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_child common_children[] = {{&help_argp, 0, NULL, 0}, {0}};

const struct argp common_argp = {
    .options = common_option_table, .parser = parse_common, .children = common_children};

enum { KEY_NO_PROVENANCE = 256 };

static const struct argp_option file_option_table[] = {
    OPTION_HEADING("Files that are written:", 6),
    {"force", 'f', NULL, 0, "Replace existing outputs", 6},
    {"no-provenance", KEY_NO_PROVENANCE, NULL, 0,
     "Record no command line and no date: equal inputs give equal bytes", 6},
    {0},
};

static error_t parse_file(int key, char *argument, struct argp_state *state)
{
    struct file_options *options = state->input;
    (void)argument;
    switch (key) {
    case 'f':
        options->force = true;
        return 0;
    case KEY_NO_PROVENANCE:
        options->no_provenance = true;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

const struct argp file_argp = {.options = file_option_table, .parser = parse_file};

enum { KEY_SEED = 256, KEY_TEMPERATURE, KEY_OLD_TEMPERATURE, KEY_INCLUDE, KEY_EXCLUDE };

static const struct argp_option draw_option_table[] = {
    {"seed", KEY_SEED, "N", 0, "Seed of the random numbers (default 0)", 2},
    {"posterior-temperature", KEY_TEMPERATURE, "X", 0,
     "Multiply the variance by X (default 1; 0 gives the mean)", 2},
    {"temperature", KEY_OLD_TEMPERATURE, "X", OPTION_HIDDEN, NULL, 2},
    {"include", KEY_INCLUDE, "GLOB", 0,
     "Only tensors whose name matches are random; may be repeated", 2},
    {"exclude", KEY_EXCLUDE, "GLOB", 0,
     "Tensors whose name matches are not random; may be repeated", 2},
    {0},
};

static error_t parse_draw(int key, char *argument, struct argp_state *state)
{
    struct draw_options *options = state->input;
    switch (key) {
    case KEY_SEED:
        options->sample.seed = option_whole(state, "--seed", argument, 0, INT64_MAX);
        break;
    case KEY_TEMPERATURE:
    case KEY_OLD_TEMPERATURE:
        options->sample.temperature = option_number(state, "--posterior-temperature", argument);
        break;
    case KEY_INCLUDE:
    case KEY_EXCLUDE:
        name_filter_add(&options->filter, argument, key == KEY_EXCLUDE);
        options->sample.selected = name_filter_selects;
        options->sample.selected_context = &options->filter;
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    options->given = true;
    options->seeded |= key == KEY_SEED;
    options->tempered |= key == KEY_TEMPERATURE || key == KEY_OLD_TEMPERATURE;
    options->old_name |= key == KEY_OLD_TEMPERATURE;
    return 0;
}

const struct argp draw_argp = {.options = draw_option_table, .parser = parse_draw};

struct draw_options draw_defaults(void)
{
    return (struct draw_options){.sample = ivon_sample_defaults()};
}

void draw_warn(const struct draw_options *options)
{
    if (options->old_name)
        report_warning("--temperature is now called --posterior-temperature: that of logits is "
                       "what ivon-calibrate fits");
    name_filter_warn_unused(&options->filter);
}

double option_number(struct argp_state *state, const char *what, const char *text)
{
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end || !isfinite(value))
        argp_failure(state, EX_USAGE, 0, "%s: '%s', expected a finite number", what, text);
    return value;
}

double option_positive(struct argp_state *state, const char *what, const char *text)
{
    double value = option_number(state, what, text);
    if (!(value > 0))
        argp_failure(state, EX_USAGE, 0, "%s: '%s', expected a positive number", what, text);
    return value;
}

uint64_t option_whole(struct argp_state *state, const char *what, const char *text, uint64_t min,
                      uint64_t max)
{
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    bool digits = text[0] && strspn(text, "0123456789") == strlen(text);
    if (!digits || errno || value < min || value > max)
        argp_failure(state, EX_USAGE, 0, "%s: '%s', expected a number from %" PRIu64 " to %" PRIu64,
                     what, text, min, max);
    return value;
}

int64_t option_label(struct argp_state *state, const char *what, const char *text)
{
    const char *digits = text + (*text == '-');
    errno = 0;
    long long value = strtoll(text, NULL, 10);
    if (!*digits || strspn(digits, "0123456789") != strlen(digits) || errno)
        argp_failure(state, EX_USAGE, 0, "%s: '%s', expected a whole number", what, text);
    return value;
}

size_t option_size(struct argp_state *state, const char *what, const char *text)
{
    static const char units[] = "KMGT";
    char *end;
    double value = strtod(text, &end);
    bool number = end != text;
    const char *unit = *end ? strchr(units, *end & ~0x20) : NULL;
    if (unit) {
        value = ldexp(value, 10 * (int)(unit - units + 1));
        end++;
        if (strcmp(end, "iB") == 0 || strcmp(end, "B") == 0)
            end = strchr(end, '\0');
    }
    if (!number || *end || !(value >= 1) || value > (double)(SIZE_MAX / 4))
        argp_failure(state, EX_USAGE, 0, "%s: '%s', expected a size such as 512M or 2G", what,
                     text);
    return (size_t)value;
}

bool option_numbers(const char **text, char separator, double *numbers, size_t count)
{
    const char *at = *text;
    for (size_t i = 0; i < count; i++) {
        char *end;
        if (i && *at++ != separator)
            return false;
        numbers[i] = strtod(at, &end);
        if (end == at || !isfinite(numbers[i]))
            return false;
        at = end;
    }
    *text = at;
    return true;
}

double *option_weights(struct argp_state *state, const char *text, size_t *count)
{
    double *weights = xcalloc(strlen(text) + 1, sizeof *weights);
    char *end;
    *count = 0;
    for (const char *at = text;; at = end + 1) {
        double weight = strtod(at, &end);
        if (end == at || (*end && *end != ',') || !(weight > 0) || !isfinite(weight))
            argp_failure(state, EX_USAGE, 0,
                         "--weights: '%s', expected positive numbers, such as "
                         "1,2,1",
                         text);
        weights[(*count)++] = weight;
        if (!*end)
            return weights;
    }
}

/* Reads a number of pixels, and moves *text behind it; 0 where there is none. */
static size_t option_pixels(const char **text)
{
    enum { MOST = 65535, DIGITS = 5 };
    size_t digits = strspn(*text, "0123456789");
    unsigned long pixels = digits && digits <= DIGITS ? strtoul(*text, NULL, 10) : 0;
    *text += digits;
    return pixels <= MOST ? pixels : 0;
}

void option_resize(struct argp_state *state, const char *text, struct ivon_dataset_options *dataset)
{
    const char *at = text;
    size_t first = option_pixels(&at), second = first;
    char separator = *at;
    if (separator) {
        at++;
        second = option_pixels(&at);
    }
    bool exact = separator == 'x', known = exact || !separator || separator == ',';
    if (!first || !second || *at || !known || (!exact && second > first))
        argp_failure(
            state, EX_USAGE, 0,
            "--resize: '%s', expected SHORT, SHORT,MIDDLE or HEIGHTxWIDTH in pixels, up to "
            "65535, and no more in the middle than the shorter side has",
            text);
    dataset->image_short_side = exact ? 0 : first;
    dataset->image_height = exact ? first : second;
    dataset->image_width = second;
}

int option_choice(struct argp_state *state, const char *what, const char *text,
                  const char *const *names, int count)
{
    char list[256] = "";
    for (int i = 0; i < count; i++) {
        if (strcmp(names[i], text) == 0)
            return i;
        strncat(list, i ? ", " : "", sizeof list - strlen(list) - 1);
        strncat(list, names[i], sizeof list - strlen(list) - 1);
    }
    argp_failure(state, EX_USAGE, 0, "%s: '%s', expected one of %s", what, text, list);
    return 0;
}

int option_choice_of(struct argp_state *state, const char *what, const char *text,
                     const char *names)
{
    char list[256] = "";
    int index = 0;
    for (const char *at = names;; at++, index++) {
        size_t length = strcspn(at, "|"), used = strlen(list);
        if (strlen(text) == length && strncmp(at, text, length) == 0)
            return index;
        snprintf(list + used, sizeof list - used, "%s%.*s", index ? ", " : "", (int)length, at);
        at += length;
        if (!*at)
            break;
    }
    argp_failure(state, EX_USAGE, 0, "%s: '%s', expected one of %s", what, text, list);
    return 0;
}

int option_dtype(struct argp_state *state, const char *what, const char *text)
{
    static const char *const dtypes[] = {"f64", "f32", "f16", "bf16", "keep"};
    int dtype = option_choice(state, what, text, dtypes, 5);
    return dtype == 4 ? IVON_DTYPE_KEEP : dtype;
}

int output_marks(const char *name, const char *mark)
{
    int count = 0;
    for (const char *at = name; (at = strstr(at, mark)); at += strlen(mark))
        count++;
    return count;
}

char *output_name(const char *name, const char *mark, const char *replacement)
{
    const char *at = strstr(name, mark);
    return at ? xasprintf("%.*s%s%s", (int)(at - name), name, replacement, at + strlen(mark))
              : xstrdup(name);
}

int output_refuse(const char *path, bool replace, struct ivon_error *error)
{
    if (!path || replace || access(path, F_OK) != 0)
        return 0;
    int code = error_fill(error, IVON_ERROR_CREATE, "%s: file exists", path);
    error->hint = IVON_HINT_REPLACE;
    return code;
}

void name_filter_add(struct name_filter *filter, const char *pattern, bool exclude)
{
    size_t count = filter->count + 1;
    filter->patterns = xreallocarray(filter->patterns, count, sizeof *filter->patterns);
    filter->excludes = xreallocarray(filter->excludes, count, sizeof *filter->excludes);
    filter->matched = xreallocarray(filter->matched, count, sizeof *filter->matched);
    filter->patterns[filter->count] = pattern;
    filter->excludes[filter->count] = exclude;
    filter->matched[filter->count] = false;
    filter->count = count;
}

bool name_filter_selects(void *context, const char *name)
{
    struct name_filter *filter = context;
    bool any_include = false, included = false, excluded = false;
    for (size_t i = 0; i < filter->count; i++) {
        bool match = fnmatch(filter->patterns[i], name, 0) == 0;
        filter->matched[i] |= match;
        any_include |= !filter->excludes[i];
        included |= match && !filter->excludes[i];
        excluded |= match && filter->excludes[i];
    }
    return (included || !any_include) && !excluded;
}

const char *name_filter_unused(const struct name_filter *filter)
{
    for (size_t i = 0; i < filter->count; i++)
        if (!filter->matched[i])
            return filter->patterns[i];
    return NULL;
}

void name_filter_warn_unused(const struct name_filter *filter)
{
    const char *unused = name_filter_unused(filter);
    if (unused)
        report_warning("pattern '%s' matches no tensor", unused);
}

void name_filter_release(struct name_filter *filter)
{
    free(filter->patterns);
    free(filter->excludes);
    free(filter->matched);
}
