#define _GNU_SOURCE
#include "cmd/sensitivity/sensitivity.h"

#include <stdlib.h>
#include <string.h>

#include "cmd/shared/evaluation/groups.h"
#include "cmd/shared/memory.h"
#include "cmd/shared/report.h"
#include "cmd/shared/outputs/sorted_rows.h"
#include "cmd/shared/outputs/table.h"

enum { COLUMNS_MAX = 24 };

struct columns {
    struct ivon_column column[COLUMNS_MAX];
    enum ivon_naming naming[COLUMNS_MAX];
    size_t size[COLUMNS_MAX]; /* bytes of one row */
    const void *data[COLUMNS_MAX];
    size_t count;
};

struct sensitivity_output {
    struct sensitivity_command *command;
    struct ivon_sensitivity_shape shape;
    struct columns columns; /* their data are those of the block that was taken last */
    size_t rows;            /* of one example: 1, or its tokens */
    size_t row_size;        /* bytes of all columns */
    struct ivon_table *table;
    int64_t *indices, *tokens;    /* columns that the block does not have */
    double *repeated[SCORES_MAX]; /* scores of each token's sequence */
    size_t row_capacity;
    struct sorted_rows kept; /* each with its columns one after the other */
    /* With an output file: rows are recorded beside it until all are there. */
    uint64_t recorded; /* examples, by an earlier run */
    struct ivon_records *records;
    char *part, *run; /* the records' file, and what describes the run */
    unsigned char *record;
};

/* Columns. */

static void sensitivity_output_add(struct columns *columns, const char *name, const char *prefix,
                                   enum ivon_dtype dtype, int rank, const int64_t *shape,
                                   const void *data)
{
    struct ivon_column *column = &columns->column[columns->count];
    *column = (struct ivon_column){.name = name, .prefix = prefix, .dtype = dtype, .rank = rank};
    size_t size = ivon_dtype_size(dtype);
    for (int i = 0; i < rank; i++) {
        column->shape[i] = shape[i];
        size *= (size_t)shape[i];
    }
    columns->naming[columns->count] = IVON_NUMBERS;
    columns->size[columns->count] = size;
    columns->data[columns->count++] = data;
}

/* The same of classes, which may have names. */
static void sensitivity_output_add_classes(struct columns *columns,
                                           const struct sensitivity_output *output,
                                           const char *name, int rank, const void *data)
{
    int64_t k = (int64_t)output->shape.outputs;
    sensitivity_output_add(columns, name, name, IVON_I64, rank, &k, data);
    columns->naming[columns->count - 1] = IVON_NAMES;
}

/* A score of every example, or of every token; of each token that of its sequence, where tokens
   have none of their own. Null: the block is not there yet. */
static const double *sensitivity_output_score_of(const struct sensitivity_output *output,
                                                 const struct ivon_sensitivities *block,
                                                 enum ivon_score score)
{
    if (!block->scores)
        return NULL;
    if (!output->command->per_token)
        return block->scores[score];
    return ivon_score_traits(score)->rows ? block->row_scores[score] : output->repeated[score];
}

/* Labels and what is predicted: a number, or one for each output. */
static void add_targets(struct columns *columns, const struct sensitivity_output *output,
                        const struct ivon_sensitivities *block)
{
    const struct ivon_likelihood_traits *traits = ivon_likelihood_traits(
        output->command->options.task.likelihood);
    int64_t k = (int64_t)ivon_likelihood_targets(output->command->options.task.likelihood,
                                                 output->shape.outputs);
    int rank = traits->classes || k == 1 ? 0 : 1;
    if (traits->regression) {
        sensitivity_output_add(columns, "label", "label", IVON_F32, rank, &k, block->targets);
        sensitivity_output_add(columns, "prediction", "prediction", IVON_F32, rank, &k,
                               block->means);
    } else {
        sensitivity_output_add_classes(columns, output, "label", rank, block->labels);
        sensitivity_output_add_classes(columns, output, "prediction", rank, block->prediction);
    }
}

static void add_vectors(struct columns *columns, const struct sensitivity_output *output,
                        const struct ivon_sensitivities *block)
{
    const struct ivon_sensitivity_options *options = &output->command->options;
    int64_t tokens = output->rows == 1 && output->shape.tokens ? output->shape.tokens : 1;
    int64_t k = (int64_t)output->shape.outputs, shape[] = {tokens, k};
    int64_t wide = (output->shape.tokens ? output->shape.tokens : 1) * k, square[] = {wide, wide};
    int rank = tokens > 1 ? 2 : 1;
    const int64_t *extents = tokens > 1 ? shape : shape + 1;
    sensitivity_output_add(columns, "logits", "logit", IVON_F32, rank, extents, block->outputs);
    sensitivity_output_add(columns, "residual_vector", NULL, IVON_F32, rank, extents,
                           block->residual_vector);
    sensitivity_output_add(columns, "deviation_vector", NULL, IVON_F32, rank, extents,
                           block->deviation_vector);
    if (options->variances || options->covariances)
        sensitivity_output_add(columns, "variance", NULL, IVON_F32, rank, extents, block->variance);
    if (options->covariances)
        sensitivity_output_add(columns, "covariance", NULL, IVON_F32, 2, square, block->covariance);
}

static struct columns sensitivity_output_list_columns(const struct sensitivity_output *output,
                                                      const struct ivon_sensitivities *block)
{
    const struct sensitivity_command *command = output->command;
    struct columns columns = {.count = 0};
    bool rows = command->per_token;
    sensitivity_output_add(&columns, "index", NULL, IVON_I64, 0, NULL, output->indices);
    if (rows)
        sensitivity_output_add(&columns, "token", NULL, IVON_I64, 0, NULL, output->tokens);
    if (rows || !output->shape.tokens)
        add_targets(&columns, output, block);
    sensitivity_output_add(&columns, "loss", NULL, IVON_F64, 0, NULL,
                           rows ? block->row_loss : block->loss);
    sensitivity_output_add(&columns, "residual", NULL, IVON_F64, 0, NULL,
                           rows ? block->row_residual : block->residual);
    for (size_t i = 0; i < command->score_count; i++)
        sensitivity_output_add(&columns, ivon_score_traits(command->scores[i])->name, NULL,
                               IVON_F64, 0, NULL,
                               sensitivity_output_score_of(output, block, command->scores[i]));
    if (command->vectors)
        add_vectors(&columns, output, block);
    return columns;
}

/* The column to sort by. */
static int find_key(struct sensitivity_output *output, struct ivon_error *error)
{
    const struct sensitivity_command *command = output->command;
    const char *name = command->sort;
    char list[256] = "";
    size_t offset = 0;
    output->kept = (struct sorted_rows){
        .size = output->row_size, .top = command->top, .ascending = command->ascending};
    if (!name)
        name = command->score_count ? ivon_score_traits(command->scores[0])->name : "loss";
    for (size_t i = 0; i < output->columns.count; i++) {
        const struct ivon_column *column = &output->columns.column[i];
        output->kept.offset = offset;
        output->kept.dtype = column->dtype;
        offset += output->columns.size[i];
        if (column->rank)
            continue;
        if (strcmp(column->name, name) == 0)
            return 0;
        strncat(list, *list ? ", " : "", sizeof list - strlen(list) - 1);
        strncat(list, column->name, sizeof list - strlen(list) - 1);
    }
    return error_fill(error, IVON_ERROR_ARGUMENT, "--sort: '%s', expected one of %s", name, list);
}

int sensitivity_open_table(const struct sensitivity_command *command, struct ivon_table **table,
                           const struct ivon_column *columns, const enum ivon_naming *naming,
                           size_t count, uint64_t rows, const char *provenance,
                           struct ivon_error *error)
{
    char creator[64];
    snprintf(creator, sizeof creator, "ivon-sensitivity %s", ivon_version());
    struct ivon_table_options options = {.size = sizeof options,
                                         .format = (enum ivon_table_format)command->format,
                                         .rows = rows,
                                         .own_index = true,
                                         .replace = command->files.force,
                                         .creator = creator,
                                         .provenance = provenance};
    evaluation_name_columns(&command->evaluation, naming, &options);
    return table_output_open(table, command->output, columns, count, &options, error);
}

static int sensitivity_output_open_table(struct sensitivity_output *output, uint64_t rows,
                                         const char *provenance, struct ivon_error *error)
{
    const struct columns *columns = &output->columns;
    return sensitivity_open_table(output->command, &output->table, columns->column, columns->naming,
                                  columns->count, rows, provenance, error);
}

/* Records. */

static int open_records(struct sensitivity_output *output, bool resume,
                        int (*on_record)(void *context, const void *record,
                                         struct ivon_error *error),
                        struct ivon_error *error)
{
    struct ivon_records_options options = {.size = sizeof options,
                                           .run = output->run,
                                           .run_size = strlen(output->run),
                                           .record_size = output->rows * output->row_size,
                                           .resume = resume,
                                           .sync_seconds = 5};
    return ivon_records_open(&output->records, output->part, &options, on_record, output, error);
}

static int pass_over(void *context, const void *record, struct ivon_error *error)
{
    (void)context;
    (void)record;
    (void)error;
    return 0;
}

/* Opens the records of an output file; *first receives with which example to go on: with a whole
   tile, since that gives the same bits. */
static int start_records(struct sensitivity_output *output, uint64_t *first,
                         struct ivon_error *error)
{
    const struct sensitivity_command *command = output->command;
    output->run = sensitivity_describe_run(command, &output->shape);
    output->record = malloc(output->rows * output->row_size);
    if (asprintf(&output->part, "%s.part", command->output) < 0)
        output->part = NULL; /* it is undefined */
    if (!output->part || !output->record)
        return error_memory(error);
    int code = open_records(output, command->resume, pass_over, error);
    if (!code)
        output->recorded = ivon_records_count(output->records);
    *first = output->recorded - output->recorded % output->shape.tile;
    if (output->recorded && !command->common.quiet)
        report_note("going on after %llu examples of %s", (unsigned long long)output->recorded,
                    output->part);
    return code;
}

int sensitivity_output_open(struct sensitivity_output **out, struct sensitivity_command *command,
                            const struct ivon_sensitivity_shape *shape, const char *provenance,
                            uint64_t *first, struct ivon_error *error)
{
    static const struct ivon_sensitivities nothing;
    struct sensitivity_output *output = calloc(1, sizeof *output);
    if (!output)
        memory_exhausted();
    *out = output;
    *first = 0;
    output->command = command;
    output->shape = *shape;
    output->rows = command->per_token ? (size_t)shape->tokens : 1;
    output->columns = sensitivity_output_list_columns(output, &nothing);
    for (size_t i = 0; i < output->columns.count; i++)
        output->row_size += output->columns.size[i];
    uint64_t rows = shape->examples * output->rows;
    if (command->top && command->top < rows)
        rows = command->top;
    int code = find_key(output, error);
    if (!code)
        code = sensitivity_output_open_table(output, rows, provenance, error);
    if (!code && table_output_file(command->output))
        code = start_records(output, first, error);
    return code;
}

static void sensitivity_output_release_rows(struct sensitivity_output *output)
{
    free(output->indices);
    free(output->tokens);
    for (size_t i = 0; i < SCORES_MAX; i++) {
        free(output->repeated[i]);
        output->repeated[i] = NULL;
    }
    output->indices = output->tokens = NULL;
}

void sensitivity_output_close(struct sensitivity_output *output)
{
    if (!output)
        return;
    uint64_t done = output->records ? ivon_records_count(output->records) : 0;
    ivon_records_close(output->records, done == 0, NULL);
    if (done && !output->command->common.quiet)
        report_note("%s keeps %llu of %llu examples: go on by --resume", output->part,
                    (unsigned long long)done, (unsigned long long)output->shape.examples);
    ivon_table_close(output->table);
    free(output->part);
    free(output->run);
    free(output->record);
    sensitivity_output_release_rows(output);
    sorted_rows_release(&output->kept);
    free(output);
}

/* The columns of one row, one after the other. */
static void sensitivity_output_gather(const struct sensitivity_output *output, size_t row,
                                      unsigned char *out)
{
    for (size_t i = 0; i < output->columns.count; i++) {
        size_t size = output->columns.size[i];
        const char *data = output->columns.data[i];
        if (data) /* which it has once there is a block */
            memcpy(out, data + row * size, size);
        out += size;
    }
}

/* One row that lies in one piece, to the table. */
static int sensitivity_output_write_row(struct sensitivity_output *output, const unsigned char *row,
                                        struct ivon_error *error)
{
    const void *data[COLUMNS_MAX];
    for (size_t i = 0; i < output->columns.count; i++) {
        data[i] = row;
        row += output->columns.size[i];
    }
    return ivon_table_append(output->table, 1, data, error);
}

/* Rows of a block. */

/* The scores of a token that are its sequence's. */
static bool sensitivity_output_repeats(const struct sensitivity_output *output,
                                       enum ivon_score score)
{
    return output->command->per_token && !ivon_score_traits(score)->rows;
}

static int reserve_rows(struct sensitivity_output *output, size_t count, struct ivon_error *error)
{
    const struct sensitivity_command *command = output->command;
    if (count <= output->row_capacity)
        return 0;
    sensitivity_output_release_rows(output);
    output->indices = calloc(count, sizeof *output->indices);
    output->tokens = calloc(count, sizeof *output->tokens);
    bool fine = output->indices && output->tokens;
    for (size_t i = 0; i < command->score_count; i++)
        if (sensitivity_output_repeats(output, command->scores[i]))
            fine &= (output->repeated[command->scores[i]] = calloc(count, sizeof(double))) != NULL;
    output->row_capacity = fine ? count : 0;
    return fine ? 0 : error_memory(error);
}

static int number_rows(struct sensitivity_output *output, const struct ivon_sensitivities *block,
                       struct ivon_error *error)
{
    const struct sensitivity_command *command = output->command;
    size_t count = block->count * output->rows;
    int code = reserve_rows(output, count, error);
    for (size_t i = 0; i < count && !code; i++) {
        size_t example = i / output->rows;
        output->indices[i] = (int64_t)(block->first + example);
        output->tokens[i] = (int64_t)(i % output->rows);
        for (size_t s = 0; s < command->score_count; s++)
            if (sensitivity_output_repeats(output, command->scores[s]))
                output->repeated[command->scores[s]][i] =
                    block->scores[command->scores[s]][example];
    }
    return code;
}

int sensitivity_output_take(void *context, const struct ivon_sensitivities *block,
                            struct ivon_error *error)
{
    struct sensitivity_output *output = context;
    size_t rows = output->rows, size = output->row_size;
    int code = number_rows(output, block, error);
    if (code)
        return code;
    output->columns = sensitivity_output_list_columns(output, block);
    if (!output->records && !output->command->sorted)
        return ivon_table_append(output->table, block->count * rows, output->columns.data, error);
    unsigned char *record = output->record ? output->record : malloc(rows * size);
    if (!record)
        return error_memory(error);
    output->record = record;
    for (size_t e = 0; e < block->count && !code; e++) {
        if (block->first + e < output->recorded)
            continue;
        for (size_t r = 0; r < rows; r++)
            sensitivity_output_gather(output, e * rows + r, record + r * size);
        for (size_t r = 0; r < rows && !output->records && !code; r++)
            code = sorted_rows_add(&output->kept, record + r * size, error);
        if (output->records)
            code = ivon_records_append(output->records, record, error);
    }
    return code;
}

/* The rows of one example, to where they go at last. */
static int replay(void *context, const void *record, struct ivon_error *error)
{
    struct sensitivity_output *output = context;
    int code = 0;
    for (size_t r = 0; r < output->rows && !code; r++) {
        const unsigned char *row = (const unsigned char *)record + r * output->row_size;
        if (output->command->sorted)
            code = sorted_rows_add(&output->kept, row, error);
        else
            code = sensitivity_output_write_row(output, row, error);
    }
    return code;
}

/* Reads the records again, all of them. */
static int replay_records(struct sensitivity_output *output, struct ivon_error *error)
{
    int code = ivon_records_close(output->records, false, error);
    output->records = NULL;
    if (!code)
        code = open_records(output, true, replay, error);
    if (!code && ivon_records_count(output->records) != output->shape.examples)
        code = error_fill(error, IVON_ERROR_IO, "%s: %llu examples, expected %llu", output->part,
                          (unsigned long long)ivon_records_count(output->records),
                          (unsigned long long)output->shape.examples);
    return code;
}

int sensitivity_output_finish(struct sensitivity_output *output, struct ivon_error *error)
{
    int code = output->records ? replay_records(output, error) : 0;
    if (!code && output->command->sorted)
        code = sorted_rows_finish(&output->kept, error);
    for (size_t i = 0; i < output->kept.count && !code; i++)
        code = sensitivity_output_write_row(output, output->kept.rows + i * output->row_size,
                                            error);
    if (!code)
        code = ivon_table_commit(output->table, error);
    if (code || !output->records)
        return code;
    code = ivon_records_close(output->records, true, error);
    output->records = NULL;
    return code;
}

int sensitivity_output_groups(const struct sensitivity_command *command,
                              const struct ivon_group_removal *removals, size_t count,
                              const char *provenance, struct ivon_error *error)
{
    struct sensitivity_command plain = *command;
    struct sensitivity_output output = {.command = &plain};
    double change[2];
    bool classes = !ivon_likelihood_traits(command->options.task.likelihood)->regression;
    int code = 0;
    for (size_t i = 0; i <= count && !code; i++) {
        static const struct ivon_group_removal nothing;
        const struct ivon_group_removal *removal = i ? &removals[i - 1] : &nothing;
        struct columns *columns = &output.columns;
        int64_t members = (int64_t)removal->count;
        change[0] = removal->own_loss_without - removal->own_loss;
        change[1] = removal->rest_loss_without - removal->rest_loss;
        columns->count = 0;
        sensitivity_output_add(columns, "group", NULL, IVON_I64, 0, NULL, &removal->group);
        if (groups_are_targets(command->groups, &command->evaluation))
            columns->naming[0] = IVON_NAMES;
        sensitivity_output_add(columns, "count", NULL, IVON_I64, 0, NULL, &members);
        sensitivity_output_add(columns, "own_loss", NULL, IVON_F64, 0, NULL, &removal->own_loss);
        sensitivity_output_add(columns, "own_loss_without", NULL, IVON_F64, 0, NULL,
                               &removal->own_loss_without);
        sensitivity_output_add(columns, "own_change", NULL, IVON_F64, 0, NULL, &change[0]);
        sensitivity_output_add(columns, "rest_loss", NULL, IVON_F64, 0, NULL, &removal->rest_loss);
        sensitivity_output_add(columns, "rest_loss_without", NULL, IVON_F64, 0, NULL,
                               &removal->rest_loss_without);
        sensitivity_output_add(columns, "rest_change", NULL, IVON_F64, 0, NULL, &change[1]);
        if (classes) {
            sensitivity_output_add(columns, "own_error", NULL, IVON_F64, 0, NULL,
                                   &removal->own_error);
            sensitivity_output_add(columns, "own_error_without", NULL, IVON_F64, 0, NULL,
                                   &removal->own_error_without);
            sensitivity_output_add(columns, "rest_error", NULL, IVON_F64, 0, NULL,
                                   &removal->rest_error);
            sensitivity_output_add(columns, "rest_error_without", NULL, IVON_F64, 0, NULL,
                                   &removal->rest_error_without);
        }
        code = i ? ivon_table_append(output.table, 1, columns->data, error)
                 : sensitivity_output_open_table(&output, count, provenance, error);
    }
    if (!code)
        code = ivon_table_commit(output.table, error);
    ivon_table_close(output.table);
    return code;
}
