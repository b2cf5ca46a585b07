#define _GNU_SOURCE
#include <math.h>
#include <stdlib.h>

#include "cmd/influence/influence.h"
#include "cmd/shared/evaluation/groups.h"
#include "cmd/shared/memory.h"
#include "cmd/shared/outputs/table.h"

enum { COLUMNS_MAX = 8 };

struct influence_output {
    const struct influence_command *command;
    struct ivon_influence_shape shape;
    size_t tokens;                  /* queries of one row */
    bool labels;                    /* rows have one */
    uint64_t rows;                  /* or groups of rows, */
    const int64_t *groups, *counts; /* with their numbers and how many there are; or null */
    struct ivon_table *matrix;      /* null: it is not wanted */
    struct ivon_table *table;       /* of the greatest, likewise */
    struct ivon_influence_top *top; /* null: the table has all rows */
    struct influence_oddities oddities;
};

static struct ivon_table_options output_options(const struct influence_output *output, int format,
                                                char creator[64], const char *provenance)
{
    snprintf(creator, 64, "ivon-influence %s", ivon_version());
    return (struct ivon_table_options){.size = sizeof(struct ivon_table_options),
                                       .format = (enum ivon_table_format)format,
                                       .rows = IVON_ROWS_OPEN,
                                       .own_index = true,
                                       .replace = output->command->files.force,
                                       .creator = creator,
                                       .provenance = provenance};
}

static bool output_is_matrix(const struct influence_command *command)
{
    return command->format == IVON_NPY || command->format == IVON_HDF5;
}

/* A matrix for all, one for each tensor whose part is wanted, and what HDF5 holds of groups. */
static int output_open_matrix(struct influence_output *output, const char *provenance,
                              struct ivon_error *error)
{
    const struct influence_command *command = output->command;
    const struct ivon_influence_shape *shape = &output->shape;
    size_t count = 1 + shape->tensors;
    size_t all = count + (output->groups && command->format == IVON_HDF5 ? 2 : 0);
    struct ivon_column *columns = xcalloc(all, sizeof *columns);
    char creator[64];
    struct ivon_table_options options = output_options(output, command->format, creator,
                                                       provenance);
    options.rows = output->rows;
    for (size_t i = 0; i < count; i++) {
        columns[i] = (struct ivon_column){.dtype = IVON_F32};
        columns[i].name = i ? xasprintf("tensors/%s",
                                        ivon_influence_tensor(command->influence, i - 1))
                            : xstrdup("influence");
        if (command->options.per_token)
            columns[i].shape[columns[i].rank++] = (int64_t)shape->rows;
        if (!command->self)
            columns[i].shape[columns[i].rank++] = (int64_t)shape->queries;
    }
    for (size_t i = count; i < all; i++)
        columns[i] = (struct ivon_column){.name = xstrdup(i == count ? "group" : "count"),
                                          .dtype = IVON_I64};
    int code = table_output_open(&output->matrix, command->output, columns, all, &options, error);
    for (size_t i = 0; i < all; i++)
        free((char *)columns[i].name);
    free(columns);
    return code;
}

/* The greatest, or all of --self, go to the output where it is a text, else to standard output. */
static int output_open_table(struct influence_output *output, const char *provenance,
                             struct ivon_error *error)
{
    const struct influence_command *command = output->command;
    struct ivon_column columns[COLUMNS_MAX];
    enum ivon_naming naming[COLUMNS_MAX] = {IVON_NUMBERS};
    size_t count = 0;
    bool matrix = output_is_matrix(command), all = command->self && !command->top_given;
    char creator[64];
    if (!command->self)
        columns[count++] = (struct ivon_column){.name = "query", .dtype = IVON_I64};
    if (output->tokens)
        columns[count++] = (struct ivon_column){.name = "query_token", .dtype = IVON_I64};
    if (!all)
        columns[count++] = (struct ivon_column){.name = "rank", .dtype = IVON_I64};
    columns[count++] = (struct ivon_column){.name = output->groups ? "group" : "row",
                                            .dtype = IVON_I64};
    if (output->groups && groups_are_targets(command->groups, &command->evaluation))
        naming[count - 1] = IVON_NAMES;
    if (output->groups)
        columns[count++] = (struct ivon_column){.name = "count", .dtype = IVON_I64};
    if (command->options.per_token)
        columns[count++] = (struct ivon_column){.name = "token", .dtype = IVON_I64};
    columns[count++] = (struct ivon_column){.name = "influence", .dtype = IVON_F32};
    if (output->labels)
        columns[count++] = (struct ivon_column){.name = "label", .dtype = IVON_I64};
    if (output->labels)
        naming[count - 1] = IVON_NAMES;
    struct ivon_table_options options = output_options(output, matrix ? IVON_CSV : command->format,
                                                       creator, provenance);
    evaluation_name_columns(&command->evaluation, naming, &options);
    int code = all ? 0
                   : ivon_influence_top_new(&output->top, output->shape.queries, command->top,
                                            error);
    return code ? code
                : table_output_open(&output->table, matrix ? NULL : command->output, columns, count,
                                    &options, error);
}

int influence_output_open(struct influence_output **out, const struct influence_command *command,
                          const struct ivon_influence_shape *shape, const char *provenance,
                          struct ivon_error *error)
{
    const struct ivon_influence_options *options = &command->options;
    struct influence_output *output = xcalloc(1, sizeof *output);
    *out = output;
    output->command = command;
    output->shape = *shape;
    output->oddities.nothing = true;
    if (options->measure == IVON_MEASURE_TOKEN_LOSS)
        output->tokens = (size_t)shape->tokens;
    output->rows = shape->examples;
    if (command->sums)
        output->rows = influence_sums_groups(command->sums, &output->groups, &output->counts);
    output->labels = ivon_likelihood_traits(options->task.likelihood)->classes && !shape->tokens &&
                     !output->groups;
    int code = output_is_matrix(command) ? output_open_matrix(output, provenance, error) : 0;
    if (!code && (!output->matrix || command->top_given))
        code = output_open_table(output, provenance, error);
    return code;
}

void influence_output_close(struct influence_output *output)
{
    if (!output)
        return;
    ivon_table_close(output->matrix);
    ivon_table_close(output->table);
    ivon_influence_top_free(output->top);
    free(output);
}

/* A block of one matrix. Of several rows for each example, those of some queries lie apart. */
static int output_fill(struct influence_output *output, size_t column,
                       const struct ivon_influences *block, const float *from,
                       struct ivon_error *error)
{
    size_t rows = block->rows, width = block->query_count, first = (size_t)block->first_query;
    size_t queries = (size_t)output->shape.queries;
    int code = 0;
    if (rows == 1 || width == queries)
        return ivon_table_fill(output->matrix, column, block->first, block->count, first,
                               rows * width, from, error);
    for (size_t i = 0; i < block->count * rows && !code; i++)
        code = ivon_table_fill(output->matrix, column, block->first + i / rows, 1,
                               i % rows * queries + first, width, from + i * width, error);
    return code;
}

/* All rows of --self, as they come. */
static int output_append(struct influence_output *output, const struct ivon_influences *block,
                         struct ivon_error *error)
{
    int code = 0;
    for (size_t i = 0; i < block->count && !code; i++) {
        int64_t row = (int64_t)(block->first + i);
        const void *data[] = {&row, block->influence + i,
                              output->labels ? block->labels + i : NULL};
        code = ivon_table_append(output->table, 1, data, error);
    }
    return code;
}

int influence_output_take(void *context, const struct ivon_influences *block,
                          struct ivon_error *error)
{
    struct influence_output *output = context;
    for (size_t i = 0; i < block->count * block->rows * block->query_count; i++) {
        output->oddities.nothing &= block->influence[i] == 0;
        if (!isfinite(block->influence[i]))
            output->oddities.infinite++;
    }
    if (output->top)
        ivon_influence_top_add(output->top, block);
    int code = output->table && !output->top ? output_append(output, block, error) : 0;
    for (size_t i = 0; i <= output->shape.tensors && output->matrix && !code; i++)
        code = output_fill(output, i, block, i ? block->tensors[i - 1] : block->influence, error);
    return code;
}

static int output_write_entry(struct influence_output *output, uint64_t query, int64_t rank,
                              const struct ivon_influence_entry *entry, struct ivon_error *error)
{
    size_t tokens = output->tokens, rows = output->shape.rows, count = 0;
    uint64_t number = tokens ? query / tokens : query;
    int64_t row = (int64_t)(entry->row / rows), token = (int64_t)(entry->row % rows);
    int64_t query_token = tokens ? (int64_t)(query % tokens) : 0;
    int64_t of = (int64_t)(output->command->rows ? output->command->rows[number] : number);
    const void *data[COLUMNS_MAX];
    if (!output->command->self)
        data[count++] = &of;
    if (tokens)
        data[count++] = &query_token;
    data[count++] = &rank;
    data[count++] = output->groups ? &output->groups[entry->row] : &row;
    if (output->groups)
        data[count++] = &output->counts[entry->row];
    if (output->command->options.per_token)
        data[count++] = &token;
    data[count++] = &entry->influence;
    if (output->labels)
        data[count++] = &entry->label;
    return ivon_table_append(output->table, 1, data, error);
}

/* The proponents of each query, and then its opponents, whose ranks are negative. */
static int output_write_table(struct influence_output *output, struct ivon_error *error)
{
    int code = 0;
    for (uint64_t query = 0; query < output->shape.queries; query++)
        for (int opponents = 0; opponents < 2; opponents++) {
            const struct ivon_influence_entry *entries = NULL;
            size_t count = ivon_influence_top_list(output->top, query, opponents != 0, &entries);
            for (size_t i = 0; i < count && !code; i++) {
                int64_t rank = (int64_t)i + 1;
                code = output_write_entry(output, query, opponents ? -rank : rank, &entries[i],
                                          error);
            }
        }
    return code;
}

/* The numbers and sizes of groups, where the matrix has a place for them. */
static int output_fill_groups(struct influence_output *output, struct ivon_error *error)
{
    if (!output->groups || !output->matrix || output->command->format != IVON_HDF5)
        return 0;
    int code = ivon_table_fill(output->matrix, 1, 0, (size_t)output->rows, 0, 1, output->groups,
                               error);
    return code ? code
                : ivon_table_fill(output->matrix, 2, 0, (size_t)output->rows, 0, 1, output->counts,
                                  error);
}

int influence_output_finish(struct influence_output *output, struct influence_oddities *oddities,
                            struct ivon_error *error)
{
    int code = output_fill_groups(output, error);
    if (!code && output->top)
        code = output_write_table(output, error);
    if (!code && output->table)
        code = ivon_table_commit(output->table, error);
    if (!code && output->matrix)
        code = ivon_table_commit(output->matrix, error);
    *oddities = output->oddities;
    return code;
}
