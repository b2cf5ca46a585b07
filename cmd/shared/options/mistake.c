#define _GNU_SOURCE
#include "cmd/shared/options/mistake.h"

#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "cmd/shared/memory.h"
#include "cmd/shared/options/walk.h"
#include "cmd/shared/report.h"

enum {
    NAME_MAX_LENGTH = 64, /* longer ones are near to none */
    OPTIONS_MAX = 128,    /* no command has half as many */
};

struct nearest nearest(const char *text, size_t length)
{
    return (struct nearest){text, length, NULL, (length + 2) / 3 + 1};
}

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Damerau and Levenshtein's distance, no letter edited twice. Both at most NAME_MAX_LENGTH long. */
static size_t distance(const char *a, size_t a_length, const char *b, size_t b_length)
{
    size_t rows[3][NAME_MAX_LENGTH + 1]; /* the row of letter i of a is i % 3 */
    for (size_t j = 0; j <= b_length; j++)
        rows[0][j] = j;
    for (size_t i = 1; i <= a_length; i++) {
        size_t *row = rows[i % 3], *above = rows[(i + 2) % 3], *second = rows[(i + 1) % 3];
        row[0] = i;
        for (size_t j = 1; j <= b_length; j++) {
            bool differ = a[i - 1] != b[j - 1];
            row[j] = least(above[j - 1] + differ, least(above[j], row[j - 1]) + 1);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                row[j] = least(row[j], second[j - 2] + 1);
        }
    }
    return rows[a_length % 3][b_length];
}

void nearest_offer(struct nearest *nearest, const char *name)
{
    size_t length = strlen(name);
    if (nearest->length > NAME_MAX_LENGTH || length > NAME_MAX_LENGTH || !nearest->length)
        return;
    size_t found = distance(nearest->text, nearest->length, name, length);
    bool begins = nearest->length > 1 && strncmp(nearest->text, name, nearest->length) == 0;
    if (begins)
        found = least(found, 1);
    /* Of names that begin so the shortest has the least left out. */
    bool shorter = begins && nearest->name && found == nearest->distance &&
                   length < strlen(nearest->name);
    if ((found >= nearest->distance && !shorter) || found >= nearest->length)
        return;
    nearest->name = name;
    nearest->distance = found;
}

/* The options in the form of getopt, which knows best what is an option and what an argument. */
struct getopt_table {
    struct option options[OPTIONS_MAX];
    char letters[3 * OPTIONS_MAX + 2];
};

enum { LONG_OPTION = 1, ENDS_PARSING, HIDDEN_OPTION };

static void fill_table(struct getopt_table *table, const struct command *command)
{
    const struct argp_option *option;
    char *letter = table->letters;
    size_t count = 0;
    *letter++ = ':'; /* print nothing */
    struct option_walk walk = option_walk(command);
    while ((option = option_next(&walk)) && count < OPTIONS_MAX - 1) {
        int kind = !walk.last /* help, usage, version */ ? ENDS_PARSING
                   : option->flags & OPTION_HIDDEN       ? HIDDEN_OPTION
                                                         : LONG_OPTION;
        int takes = !option->arg                          ? no_argument
                    : option->flags & OPTION_ARG_OPTIONAL ? optional_argument
                                                          : required_argument;
        table->options[count++] = (struct option){option->name, takes, NULL, kind};
        if (option->key > ' ' && option->key < 127 && option->key != '?') {
            *letter++ = (char)option->key;
            for (int colon = 0; colon < takes; colon++) /* one of an argument, two if optional */
                *letter++ = ':';
        }
    }
}

static bool has_prefix(const struct getopt_table *table, const char *text, size_t length)
{
    for (const struct option *option = table->options; option->name; option++)
        if (strncmp(option->name, text, length) == 0)
            return true;
    return false;
}

static int report_option(const struct getopt_table *table, const char *name, size_t length)
{
    struct nearest near = nearest(name, length);
    for (const struct option *option = table->options; option->name; option++)
        if (option->val != HIDDEN_OPTION)
            nearest_offer(&near, option->name);
    report_note("unknown option '--%.*s'; %s%s%s", (int)length, name,
                near.name ? "did you mean '--" : "--help lists them", near.name ? near.name : "",
                near.name ? "'?" : "");
    return EX_USAGE;
}

/* The name of a long option behind a single dash, as "-base=FILE", which is -b with "ase=FILE". */
static int report_single_dash(const struct getopt_table *table, const char *argument)
{
    size_t length = strcspn(argument, "=");
    if (argument[0] != '-' || length < 3)
        return 0;
    for (const struct option *option = table->options; option->name; option++)
        if (strlen(option->name) == length - 1 &&
            strncmp(option->name, argument + 1, length - 1) == 0) {
            report_note("unknown option '%.*s'; did you mean '-%.*s'?", (int)length, argument,
                        (int)length, argument);
            return EX_USAGE;
        }
    return 0;
}

/* "-o=FILE", which would be a file named "=FILE". */
static int report_equals_sign(int key, const char *argument)
{
    if (argument[0] != '-' || argument[1] != key || argument[2] != '=')
        return 0;
    report_note("'%s': write '-%c %s', without the equals sign", argument, key, argument + 3);
    return EX_USAGE;
}

/* Returns whether it is short options alone, of which the last one may want an argument: "-f", or
   "-fo". */
static bool is_short_option(const struct getopt_table *table, const char *argument)
{
    const char *letter = argument[0] == '-' ? argument + 1 : "";
    bool known = *letter != '\0';
    for (; *letter && known; letter++) {
        const char *found = *letter != ':' ? strchr(table->letters, *letter) : NULL;
        known = found && (found[1] != ':' || !letter[1]);
    }
    return known;
}

static bool is_long_option(const struct getopt_table *table, const char *argument)
{
    size_t length = strncmp(argument, "--", 2) == 0 ? strcspn(argument + 2, "=") : 0;
    for (const struct option *option = table->options; option->name && length; option++)
        if (strlen(option->name) == length && strncmp(option->name, argument + 2, length) == 0)
            return true;
    return false;
}

/* "-o --data=FILE" or "-o -f", which would be a file of that name. `option` is the word before. */
static int report_option_as_value(const struct getopt_table *table, const char *option,
                                  const char *value)
{
    if (!is_long_option(table, value) && !is_short_option(table, value))
        return 0;
    report_note(
        "'%s' has no value, but the option '%s' behind it; if that is meant, write '%s%s%s'",
        option, value, option, option[1] == '-' ? "=" : "", value);
    return EX_USAGE;
}

/* `key` is what getopt made of an argument that ends before or at optind. */
static int mistake_check_option(const struct getopt_table *table, int key, char **arguments)
{
    const char *before = arguments[optind - 1], *at = arguments[optind];
    if (key == '?' && !optopt) {
        size_t length = strlen(before) > 2 ? strcspn(before + 2, "=") : 0;
        /* getopt complains of ambiguous ones */
        bool unknown = strncmp(before, "--", 2) == 0 && !has_prefix(table, before + 2, length);
        return unknown ? report_option(table, before + 2, length) : 0;
    }
    if (optarg && optarg == before)
        return report_option_as_value(table, arguments[optind - 2], optarg);
    if (key == LONG_OPTION || key == HIDDEN_OPTION)
        return 0;
    int status = report_single_dash(table, before);
    if (!status && at)
        status = report_single_dash(table, at); /* where letters follow */
    return status ? status : report_equals_sign(key, before);
}

int mistaken_option(const struct command *command, int argc, char **argv)
{
    struct getopt_table table = {0};
    char **arguments = xcalloc((size_t)argc + 1, sizeof *arguments);
    memcpy(arguments, argv, (size_t)argc * sizeof *arguments); /* getopt sorts them */
    fill_table(&table, command);
    int key, status = 0;
    optind = 0;
    while (!status) {
        key = getopt_long(argc, arguments, table.letters, table.options, NULL);
        if (key == -1 || key == ENDS_PARSING)
            break;
        status = mistake_check_option(&table, key, arguments);
    }
    free(arguments);
    return status;
}
