#define _GNU_SOURCE
#include "cmd/train/space.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/shared/memory.h"
#include "cmd/shared/options/walk.h"
#include "cmd/shared/report.h"

enum { COMBINATIONS_MAX = 10000, NAME_MAX_BYTES = 120 };

static const char left_out[] = "default";

/* Options that say nothing of the training, and those that say of which data, or in which unit,
   losses are. */
static const char *const beside[] = {"output",  "force",   "resume",  "save-every",    "eval-every",
                                     "memory",  "quiet",   "threads", "no-provenance", "no-sandbox",
                                     "verbose", "help",    "usage",   "version",       "grid",
                                     "judge",   "find-lr", "loo",     "loo-every",     "loo-rows"};
static const char *const judging[] = {"data",        "test",          "held-out",    "limit",
                                      "targets",     "target-column", "classes",     "tokens",
                                      "text-column", "context",       "stride",      "inputs",
                                      "likelihood",  "noise-std",     "ignore-label"};

static bool space_among(const char *name, const char *const *names, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(name, names[i]) == 0)
            return true;
    return false;
}

/* The option of ivon-train of that name, or null. */
static const struct argp_option *space_find_option(const char *name)
{
    const struct command train = {.name = "train", .argp = &train_argp};
    const struct argp_option *option;
    for (struct option_walk walk = option_walk(&train); (option = option_next(&walk));)
        if (strcmp(option->name, name) == 0)
            return option;
    return NULL;
}

static int space_check_option(const struct space *space, const char *name, struct ivon_error *error)
{
    if (!space_find_option(name))
        return error_fill(error, IVON_ERROR_ARGUMENT, "--grid: ivon-train has no option --%s",
                          name);
    if (space_among(name, beside, sizeof beside / sizeof *beside))
        return error_fill(error, IVON_ERROR_ARGUMENT,
                          "--grid: --%s does not change what is learnt: give it beside the grid",
                          name);
    if (space_among(name, judging, sizeof judging / sizeof *judging))
        return error_fill(error, IVON_ERROR_ARGUMENT,
                          "--grid: --%s changes of which data the losses are, or their unit: they "
                          "could not be compared",
                          name);
    for (size_t i = 0; i < space->count; i++)
        if (strcmp(space->axes[i].name, name) == 0)
            return error_fill(error, IVON_ERROR_ARGUMENT, "--grid: --%s is there twice", name);
    return 0;
}

static int space_add_value(struct space_axis *axis, const char *value, size_t length,
                           struct ivon_error *error)
{
    if (!length)
        return error_fill(error, IVON_ERROR_ARGUMENT,
                          "--grid: --%s has an empty value; to leave it out say '%s'", axis->name,
                          left_out);
    char *copy = xstrndup(value, length);
    axis->values = xreallocarray(axis->values, axis->count + 1, sizeof *axis->values);
    axis->values[axis->count++] = copy;
    if (space_among(copy, (const char *const *)axis->values, axis->count - 1))
        return error_fill(error, IVON_ERROR_ARGUMENT, "--grid: --%s has '%s' twice", axis->name,
                          copy);
    if (axis->flag && strcmp(copy, "yes") != 0 && strcmp(copy, "no") != 0)
        return error_fill(error, IVON_ERROR_ARGUMENT,
                          "--grid: --%s is '%s', and takes no value: expected yes and no",
                          axis->name, copy);
    return 0;
}

/* Reads OPTION=VALUE,VALUE of `length` bytes. */
static int space_add_axis(struct space *space, const char *text, size_t length,
                          struct ivon_error *error)
{
    const char *equals = memchr(text, '=', length), *end = text + length;
    if (!equals || equals == text)
        return error_fill(error, IVON_ERROR_ARGUMENT,
                          "--grid: '%.*s', expected OPTION=VALUE,VALUE;OPTION=VALUE...",
                          (int)length, text);
    char *name = xstrndup(text, (size_t)(equals - text));
    int code = space_check_option(space, name, error);
    if (code) {
        free(name);
        return code;
    }
    space->axes = xreallocarray(space->axes, space->count + 1, sizeof *space->axes);
    struct space_axis *axis = &space->axes[space->count++];
    *axis = (struct space_axis){.name = name, .flag = !space_find_option(name)->arg};
    char separator = memchr(equals, '|', (size_t)(end - equals)) ? '|' : ',';
    for (const char *value = equals + 1; value <= end && !code;) {
        const char *next = memchr(value, separator, (size_t)(end - value));
        next = next ? next : end;
        code = space_add_value(axis, value, (size_t)(next - value), error);
        value = next + 1;
    }
    if (!code && __builtin_mul_overflow(space->combinations, axis->count, &space->combinations))
        space->combinations = SIZE_MAX;
    return code;
}

int space_read(struct space *space, const char *const *texts, size_t count,
               struct ivon_error *error)
{
    int code = 0;
    *space = (struct space){.combinations = 1};
    for (size_t i = 0; i < count; i++)
        for (const char *at = texts[i]; at && !code;) {
            at += strspn(at, " ");
            size_t length = strcspn(at, ";");
            code = space_add_axis(space, at, length, error);
            at = at[length] ? at + length + 1 : NULL;
        }
    if (!code && space->combinations > COMBINATIONS_MAX)
        return error_fill(error, IVON_ERROR_ARGUMENT, "--grid: there are more than %d combinations",
                          COMBINATIONS_MAX);
    return code;
}

void space_release(struct space *space)
{
    for (size_t i = 0; i < space->count; i++) {
        for (size_t v = 0; v < space->axes[i].count; v++)
            free(space->axes[i].values[v]);
        free(space->axes[i].values);
        free(space->axes[i].name);
    }
    free(space->axes);
}

/* True if --WORD, of `length` bytes, is that option's name or an abbreviation of it. */
static bool space_abbreviates(const char *word, size_t length, const char *name)
{
    char *whole = xstrndup(word, length);
    bool other = strcmp(whole, name) != 0 && space_find_option(whole);
    free(whole);
    return !other && strncmp(word, name, length) == 0;
}

int space_check_word(const struct space *space, const char *word, struct ivon_error *error)
{
    size_t length = strcspn(word, "=");
    for (size_t i = 0; i < space->count && length > 2 && strncmp(word, "--", 2) == 0; i++)
        if (space_abbreviates(word + 2, length - 2, space->axes[i].name))
            return error_fill(error, IVON_ERROR_ARGUMENT,
                              "--%s is given beside --grid, which has values of it",
                              space->axes[i].name);
    return 0;
}

const char *space_value(const struct space *space, size_t combination, size_t axis)
{
    for (size_t i = space->count - 1; i > axis; i--)
        combination /= space->axes[i].count;
    return space->axes[axis].values[combination % space->axes[axis].count];
}

char *space_word(const struct space *space, size_t combination, size_t axis)
{
    const struct space_axis *of = &space->axes[axis];
    const char *value = space_value(space, combination, axis);
    if (strcmp(value, of->flag ? "no" : left_out) == 0)
        return NULL;
    return of->flag ? xasprintf("--%s", of->name) : xasprintf("--%s=%s", of->name, value);
}

/* FNV-1a. */
static uint64_t space_checksum(const char *text)
{
    uint64_t sum = 14695981039346656037u;
    for (; *text; text++)
        sum = (sum ^ (unsigned char)*text) * 1099511628211u;
    return sum;
}

char *space_name(const struct space *space, size_t combination)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                ".+-";
    char *exact = NULL, *name = NULL;
    size_t exact_size, size;
    FILE *all = memory_of(open_memstream(&exact, &exact_size)),
         *safe = memory_of(open_memstream(&name, &size));
    for (size_t i = 0; i < space->count; i++) {
        const char *value = space_value(space, combination, i);
        fprintf(all, "%s%s=%s", i ? ";" : "", space->axes[i].name, value);
        fprintf(safe, "%s%s=", i ? "_" : "", space->axes[i].name);
        for (; *value; value++)
            fputc(strchr(plain, *value) ? *value : '-', safe);
    }
    if (fclose(all) || fclose(safe))
        memory_exhausted();
    bool same = size == exact_size && size <= NAME_MAX_BYTES;
    for (size_t i = 0; i < size && same; i++)
        same = name[i] == exact[i] || (name[i] == '_' && exact[i] == ';');
    char *result = same
                       ? xstrdup(name)
                       : xasprintf("%.*s~%016" PRIx64, NAME_MAX_BYTES, name, space_checksum(exact));
    free(exact);
    free(name);
    return result;
}
