#include "cmd/shared/options/row_ranges.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "cmd/shared/memory.h"
#include "cmd/shared/options/options.h"
#include "cmd/shared/report.h"

/* Reads digits, which there must be some of, and moves *text behind them. */
static bool row_ranges_number(const char **text, uint64_t *number)
{
    const char *at = *text;
    *number = 0;
    for (; *at >= '0' && *at <= '9'; at++)
        if (__builtin_mul_overflow(*number, 10, number) ||
            __builtin_add_overflow(*number, (uint64_t)(*at - '0'), number))
            return false;
    bool any = at > *text;
    *text = at;
    return any;
}

struct row_range *row_ranges_parse(struct argp_state *state, const char *option,
                                   const char *argument, size_t *count)
{
    size_t most = 1;
    const char *at = argument;
    for (const char *comma = argument; (comma = strchr(comma, ',')); comma++)
        most++;
    struct row_range *ranges = xcalloc(most, sizeof *ranges);
    *count = 0;
    for (bool more = true; more; at++) {
        struct row_range *range = &ranges[(*count)++];
        bool fine = row_ranges_number(&at, &range->first);
        range->last = range->first;
        if (fine && *at == '-') {
            at++;
            fine = row_ranges_number(&at, &range->last) && range->last >= range->first;
        }
        more = *at == ',';
        if (!fine || (*at && !more))
            argp_failure(state, EX_USAGE, 0,
                         "%s: '%s', expected numbers of rows from 0, such as 3,17,40-49", option,
                         argument);
    }
    return ranges;
}

static int row_ranges_compare(const void *a, const void *b)
{
    const struct row_range *x = a, *y = b;
    return (x->first > y->first) - (x->first < y->first);
}

int row_ranges_list(struct row_range *ranges, size_t range_count, const char *option,
                    const char *path, uint64_t examples, uint64_t **out, uint64_t *out_count,
                    struct ivon_error *error)
{
    uint64_t count = 0, next = 0;
    qsort(ranges, range_count, sizeof *ranges, row_ranges_compare);
    for (size_t i = 0; i < range_count; i++)
        if (ranges[i].last >= examples)
            return error_fill(error, IVON_ERROR_ARGUMENT,
                              "%s: row %" PRIu64 ", and %s has %" PRIu64 ", counted from 0", option,
                              ranges[i].last, path, examples);
    uint64_t *rows = calloc(examples, sizeof *rows);
    if (!rows)
        return error_memory(error);
    for (size_t i = 0; i < range_count; i++) {
        next = next < ranges[i].first ? ranges[i].first : next;
        for (; next <= ranges[i].last; next++)
            rows[count++] = next;
    }
    *out = rows;
    *out_count = count;
    return 0;
}
