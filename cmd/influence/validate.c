/* ivon-influence --validate: how well influences foretell what trainings on random halves of the
   data show. */
#define _GNU_SOURCE
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "cmd/influence/influence.h"
#include "cmd/shared/memory.h"
#include "cmd/shared/report.h"
#include "cmd/shared/outputs/table.h"
#include "cmd/train/replay.h"

enum { HALVES = 32 /* by default */, HALVES_MAX = 1 << 20, COLUMNS = 4 };

enum { KEY_VALIDATE = 256, KEY_VALIDATE_FROM, KEY_FROM, KEY_SEED };

static const struct argp_option validate_option_table[] = {
    {"validate", KEY_VALIDATE, "HALVES", OPTION_ARG_OPTIONAL,
     "Score the influences by trainings on random halves of the data (default 32)", 3},
    {"validate-from", KEY_VALIDATE_FROM, "RUN", 0,
     "--validate: train as RUN, of ivon-train, did (default: as POSTERIOR)", 3},
    {"from", KEY_FROM, "POSTERIOR", 0,
     "--validate: where the weights are that the training began with", 3},
    {"seed", KEY_SEED, "N", 0, "--validate: seed of the halves (default 0)", 3},
    {0},
};

static error_t validate_parse(int key, char *argument, struct argp_state *state)
{
    struct validate_options *options = state->input;
    switch (key) {
    case KEY_VALIDATE:
        options->halves = argument
                              ? (size_t)option_whole(state, "--validate", argument, 3, HALVES_MAX)
                              : HALVES;
        return 0;
    case KEY_VALIDATE_FROM:
        options->run = argument;
        break;
    case KEY_FROM:
        options->from = argument;
        break;
    case KEY_SEED:
        options->seed = option_whole(state, "--seed", argument, 0, INT64_MAX);
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    options->given = true;
    return 0;
}

const struct argp validate_argp = {.options = validate_option_table, .parser = validate_parse};

void influence_validate_check(struct influence_command *command, struct argp_state *state)
{
    const struct validate_options *validate = &command->validate;
    const struct ivon_influence_options *options = &command->options;
    if (!validate->halves && validate->given)
        argp_failure(state, EX_USAGE, 0, "--validate-from, --from and --seed are for --validate");
    if (!validate->halves)
        return;
    if (command->posterior_count > 1)
        argp_failure(state, EX_USAGE, 0, "--validate is of one posterior");
    if (command->groups || options->per_token || options->by_tensor || command->top_given)
        argp_failure(state, EX_USAGE, 0,
                     "--validate has rows of its own: --groups, --per-token, --by and --top do not "
                     "go with it");
    if (command->format == IVON_NPY)
        argp_failure(state, EX_USAGE, 0,
                     "--validate writes several arrays: name an HDF5 file, or CSV or JSON Lines");
}

struct validation {
    struct influence_command *command;
    struct ivon_influence_shape shape;
    struct ivon_source *run; /* null: the posterior is of the training itself */
    struct replay *replay;
    struct ivon_halves *halves;
    double *sums, *values;   /* halves × queries */
    double *scores, *errors; /* queries */
    struct ivon_datamodel_score score;
    struct ivon_table *table, *arrays; /* arrays: null where no file takes them */
};

void influence_validate_close(struct validation *validation)
{
    if (!validation)
        return;
    replay_close(validation->replay);
    ivon_source_close(validation->run);
    ivon_halves_free(validation->halves);
    ivon_table_close(validation->table);
    ivon_table_close(validation->arrays);
    free(validation->sums);
    free(validation->values);
    free(validation->scores);
    free(validation->errors);
    free(validation);
}

/* The training. */

/* Warns of a training that was on other data, as far as a count of losses can say. */
static void validation_compare_data(const struct validation *validation,
                                    const struct ivon_source *run)
{
    const struct influence_command *command = validation->command;
    int64_t trained = ivon_source_header(run)->n_train;
    char then[32], now[32];
    if (command->common.quiet || validation->shape.tokens || trained < 0 ||
        (uint64_t)trained == validation->shape.examples)
        return;
    report_warning("%s: was trained on %s examples, and %s has %s: are they those?",
                   ivon_source_path(run), report_count((uint64_t)trained, then),
                   command->evaluation.data, report_count(validation->shape.examples, now));
}

/* Opens the training that is to be made again. */
static int validation_open_run(struct validation *validation, struct ivon_error *error)
{
    struct influence_command *command = validation->command;
    const struct validate_options *options = &command->validate;
    const struct ivon_source *run = command->source;
    struct ivon_open_options open = {.size = sizeof open,
                                     .no_sandbox = command->open.open.no_sandbox};
    char *path = NULL;
    int code = options->run ? replay_find(&path, options->run, error) : 0;
    if (!code && path) {
        code = ivon_checkpoint_open(&validation->run, path, &open, error);
        run = validation->run;
    }
    free(path);
    if (!code)
        code = replay_open(&validation->replay, run, command->evaluation.model, options->from,
                           &command->evaluation, command->common.threads, error);
    if (!code)
        validation_compare_data(validation, run);
    return code;
}

/* Trains, and measures the queries. */
static int validation_train(struct validation *validation, struct ivon_error *error)
{
    struct influence_command *command = validation->command;
    struct ivon_train_options options = *replay_options(validation->replay);
    struct ivon_examples **queries = xcalloc(command->query_files, sizeof *queries);
    size_t sets = 0;
    for (size_t i = 0; i < command->query_files; i++) {
        const struct influence_file *file = &command->queries[i];
        if (!file->none)
            queries[sets++] = file->selected ? file->selected : file->examples;
    }
    progress_end(command->progress);
    options.resources.progress = progress_start(command->progress, "training on halves",
                                                command->common.quiet);
    command->progress->unit = "steps";
    const struct ivon_halves_training training = {
        .start = replay_start(validation->replay),
        .open = replay_make_network,
        .context = validation->replay,
        .examples = command->examples,
        .targets = evaluation_targets(&command->evaluation),
        .options = &options,
        .queries = queries,
        .query_sets = sets,
        .measure = command->options.measure,
        .output = command->options.output};
    int code = ivon_halves_train(validation->halves, &training, validation->shape.queries,
                                 validation->values, error);
    free(queries);
    return code;
}

static int validation_take(void *context, const struct ivon_influences *block,
                           struct ivon_error *error)
{
    struct validation *validation = context;
    (void)error;
    ivon_halves_add(validation->halves, block, validation->shape.queries, validation->sums);
    return 0;
}

/* The output. */

static struct ivon_table_options validation_table_options(const struct validation *validation,
                                                          enum ivon_table_format format,
                                                          char creator[64], const char *provenance)
{
    snprintf(creator, 64, "ivon-influence %s", ivon_version());
    return (struct ivon_table_options){.size = sizeof(struct ivon_table_options),
                                       .format = format,
                                       .rows = IVON_ROWS_OPEN,
                                       .own_index = true,
                                       .replace = validation->command->files.force,
                                       .creator = creator,
                                       .provenance = provenance};
}

/* Opens the table of scores, and in HDF5 the halves, with their sums and what was measured. */
static int validation_open_outputs(struct validation *validation, const char *provenance,
                                   struct ivon_error *error)
{
    const struct influence_command *command = validation->command;
    int64_t queries = (int64_t)validation->shape.queries;
    int64_t size = (int64_t)ivon_halves_size(validation->halves);
    bool arrays = command->format == IVON_HDF5;
    const struct ivon_column of_halves[] = {
        {.name = "rows", .dtype = IVON_I64, .rank = 1, .shape = {size}},
        {.name = "sum", .dtype = IVON_F64, .rank = 1, .shape = {queries}},
        {.name = "measured", .dtype = IVON_F64, .rank = 1, .shape = {queries}}};
    struct ivon_column columns[COLUMNS];
    char creator[64];
    size_t count = 0;
    columns[count++] = (struct ivon_column){.name = "query", .dtype = IVON_I64};
    if (command->options.measure == IVON_MEASURE_TOKEN_LOSS)
        columns[count++] = (struct ivon_column){.name = "query_token", .dtype = IVON_I64};
    columns[count++] = (struct ivon_column){.name = "lds", .dtype = IVON_F64};
    columns[count++] = (struct ivon_column){.name = "standard_error", .dtype = IVON_F64};
    struct ivon_table_options options = validation_table_options(
        validation, arrays ? IVON_CSV : (enum ivon_table_format)command->format, creator,
        provenance);
    int code = table_output_open(&validation->table, arrays ? NULL : command->output, columns,
                                 count, &options, error);
    options.format = IVON_HDF5;
    options.rows = command->validate.halves;
    return code || !arrays ? code
                           : table_output_open(&validation->arrays, command->output, of_halves, 3,
                                               &options, error);
}

/* A line of the table; `query` is below 0 for the mean over all. */
static int validation_write_score(struct validation *validation, int64_t query, double score,
                                  double half_error, struct ivon_error *error)
{
    const struct influence_command *command = validation->command;
    bool apart = command->options.measure == IVON_MEASURE_TOKEN_LOSS;
    int64_t tokens = apart && query >= 0 ? validation->shape.tokens : 1, token = query;
    if (query >= 0) {
        token = query % tokens;
        query /= tokens;
        query = command->rows ? (int64_t)command->rows[query] : query;
    }
    const void *with_token[] = {&query, &token, &score, &half_error};
    const void *without[] = {&query, &score, &half_error};
    return ivon_table_append(validation->table, 1, apart ? with_token : without, error);
}

static int validation_write(struct validation *validation, struct ivon_error *error)
{
    size_t size = ivon_halves_size(validation->halves);
    uint64_t queries = validation->shape.queries;
    int64_t *rows = xcalloc(size, sizeof *rows);
    int code = 0;
    for (uint64_t i = 0; i < queries && !code; i++)
        code = validation_write_score(validation, (int64_t)i, validation->scores[i],
                                      validation->errors[i], error);
    if (!code)
        code = validation_write_score(validation, -1, validation->score.mean,
                                      validation->score.half_error, error);
    for (size_t half = 0; half < validation->command->validate.halves && !code; half++) {
        const uint64_t *chosen = ivon_halves_rows(validation->halves, half);
        const void *data[] = {rows, validation->sums + half * queries,
                              validation->values + half * queries};
        for (size_t i = 0; i < size; i++)
            rows[i] = (int64_t)chosen[i];
        if (validation->arrays)
            code = ivon_table_append(validation->arrays, 1, data, error);
    }
    free(rows);
    if (!code && validation->arrays)
        code = ivon_table_commit(validation->arrays, error);
    return code ? code : ivon_table_commit(validation->table, error);
}

static void validation_report(const struct validation *validation)
{
    const struct ivon_datamodel_score *score = &validation->score;
    uint64_t queries = validation->shape.queries;
    if (score->scored < queries)
        report_warning("%" PRIu64 " of %" PRIu64 " queries have no score: their influences, or "
                       "what was measured, are the same in all halves, or not a number",
                       queries - score->scored, queries);
    if (score->scored)
        report_note("LDS %.3f over %" PRIu64 " quer%s; standard error %.2g over %zu halves, %.2g "
                    "over queries",
                    score->mean, score->scored, score->scored == 1 ? "y" : "ies",
                    report_number(score->half_error), validation->command->validate.halves,
                    report_number(score->query_error));
}

/* The space of all sums and scores. */
static int validation_reserve(struct validation *validation, struct ivon_error *error)
{
    uint64_t queries = validation->shape.queries;
    size_t count = validation->command->validate.halves;
    validation->sums = calloc(queries + 1, count * sizeof *validation->sums);
    validation->values = calloc(queries + 1, count * sizeof *validation->values);
    validation->scores = calloc(queries + 1, sizeof *validation->scores);
    validation->errors = calloc(queries + 1, sizeof *validation->errors);
    bool fine = validation->sums && validation->values && validation->scores && validation->errors;
    return fine ? 0 : error_memory(error);
}

int influence_validate_begin(struct validation **out, struct influence_command *command,
                             const char *provenance, struct ivon_error *error)
{
    struct validation *validation = xcalloc(1, sizeof *validation);
    *out = validation;
    validation->command = command;
    validation->shape = ivon_influence_shape(command->influence);
    if (validation->shape.examples < 2)
        return error_fill(error, IVON_ERROR_DATA, "%s: has one row, of which there is no half",
                          command->evaluation.data);
    int code = validation_open_run(validation, error);
    if (!code)
        code = ivon_halves_new(&validation->halves, validation->shape.examples,
                               command->validate.halves, command->validate.seed, error);
    if (!code)
        code = validation_reserve(validation, error);
    if (!code)
        code = validation_open_outputs(validation, provenance, error);
    return code ? code : ivon_influence_run(command->influence, validation_take, validation, error);
}

int influence_validate_end(struct validation *validation, struct ivon_error *error)
{
    const struct influence_command *command = validation->command;
    int code = validation_train(validation, error);
    if (!code)
        code = ivon_datamodel_score(&validation->score, validation->scores, validation->errors,
                                    validation->sums, validation->values, command->validate.halves,
                                    validation->shape.queries, error);
    if (!code)
        code = validation_write(validation, error);
    if (!code && !command->common.quiet)
        validation_report(validation);
    return code;
}
