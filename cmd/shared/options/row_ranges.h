/* Rows of data, as options list them: 3,17,40-49. */
#ifndef CMD_SHARED_OPTIONS_ROW_RANGES_H
#define CMD_SHARED_OPTIONS_ROW_RANGES_H

#include <argp.h>
#include <stddef.h>
#include <stdint.h>

#include "ivon/error.h"

/* Rows from 0, both included. */
struct row_range {
    uint64_t first, last;
};

/* Reads the argument of an option, or ends the program with one line that names it. The ranges are
   to be freed. */
struct row_range *row_ranges_parse(struct argp_state *state, const char *option,
                                   const char *argument, size_t *count);

/* Lists the rows, rising, each once: *rows is to be freed. Fails where one is not below `examples`,
   those that are at `path`. Sorts the ranges. */
int row_ranges_list(struct row_range *ranges, size_t range_count, const char *option,
                    const char *path, uint64_t examples, uint64_t **rows, uint64_t *count,
                    struct ivon_error *error);

#endif
