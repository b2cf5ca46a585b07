#include "cmd/shared/outputs/table.h"

#include <stdio.h>
#include <string.h>
#include <sysexits.h>

#include "cmd/shared/options/options.h"
#include "cmd/shared/process/ranks.h"

enum ivon_table_format table_output_parse(struct argp_state *state, const char *text)
{
    return (enum ivon_table_format)option_choice_of(state, "--format", text,
                                                    IVON_TABLE_FORMAT_NAMES);
}

enum ivon_table_format table_output_format(struct argp_state *state, const char *file, int given)
{
    int format = given < 0 && file ? ivon_table_format_of(file) : given;
    if (format < 0 && file)
        argp_failure(state, EX_USAGE, 0,
                     "-o: '%s' ends in none of .csv, .jsonl, .npy and .h5: name its --format",
                     file);
    return format < 0 ? IVON_CSV : (enum ivon_table_format)format;
}

enum ivon_table_format table_output_rows(struct argp_state *state, const char *file, int given)
{
    enum ivon_table_format format = table_output_format(state, file, given);
    if (format == IVON_NPY)
        argp_failure(state, EX_USAGE, 0,
                     "an npy file holds one array only: write CSV, JSON Lines or HDF5");
    return format;
}

const char *table_output_file(const char *output)
{
    return output && strcmp(output, "-") != 0 ? output : NULL;
}

int table_output_open(struct ivon_table **table, const char *output,
                      const struct ivon_column *columns, size_t count,
                      const struct ivon_table_options *options, struct ivon_error *error)
{
    const char *file = table_output_file(output);
    struct ivon_table_options dropped = *options;
    dropped.format = IVON_CSV;
    if (!ranks_first()) /* its standard output leads nowhere */
        return ivon_table_to_stream(table, stdout, "standard output", columns, count, &dropped,
                                    error);
    return file ? ivon_table_create(table, file, columns, count, options, error)
                : ivon_table_to_stream(table, stdout, "standard output", columns, count, options,
                                       error);
}
