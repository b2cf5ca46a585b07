/* Tables that commands write: --format, and where they go. */
#ifndef CMD_SHARED_OUTPUTS_TABLE_H
#define CMD_SHARED_OUTPUTS_TABLE_H

#include <argp.h>
#include <stdbool.h>

#include "ivon/ivon.h"

/* Reads the argument of --format, or ends the program. */
enum ivon_table_format table_output_parse(struct argp_state *state, const char *text);

/* The format that was given, unless that is negative; else by the file's suffix, which has to be
   known; CSV when `file` is null. */
enum ivon_table_format table_output_format(struct argp_state *state, const char *file, int given);

/* The same for tables of several columns, which no npy file holds. */
enum ivon_table_format table_output_rows(struct argp_state *state, const char *file, int given);

/* The output, if it is a file; null: standard output, which is `-` or not named. */
const char *table_output_file(const char *output);

/* Creates the table there; on other ranks than the first, one that goes nowhere. */
int table_output_open(struct ivon_table **table, const char *output,
                      const struct ivon_column *columns, size_t count,
                      const struct ivon_table_options *options, struct ivon_error *error);

#endif
