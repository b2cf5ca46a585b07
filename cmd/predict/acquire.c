/* ivon-predict --acquire: which examples to label next. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "cmd/predict/predict.h"
#include "cmd/shared/report.h"
#include "cmd/shared/outputs/sorted_rows.h"
#include "cmd/shared/outputs/table.h"

enum { DEFAULT_TOP = 10 };

struct predict_acquired {
    const struct predict_command *command;
    const struct ivon_acquisition_traits *traits;
    struct ivon_predict_shape shape;
    size_t width;            /* predictions of an example that are printed */
    struct sorted_rows rows; /* of a score, a number and its predictions, 8 bytes each */
    struct ivon_batchbald *batchbald;
    int64_t *predictions; /* of all examples, for a batch */
    double *scores;       /* of a block */
    struct ivon_table *table;
};

int predict_acquisition_of(struct argp_state *state, const char *name)
{
    const struct ivon_acquisition_traits *traits;
    for (int i = 0; (traits = ivon_acquisition_traits((enum ivon_acquisition)i)); i++)
        if (strcmp(traits->name, name) == 0)
            return i;
    argp_failure(state, EX_USAGE, 0,
                 "--acquire: '%s', expected bald, entropy, variation-ratio, margin or batchbald",
                 name);
    return -1;
}

void predict_check_acquire(const struct predict_command *command, struct argp_state *state)
{
    if (command->acquire < 0) {
        if (command->top)
            argp_failure(state, EX_USAGE, 0, "--top is for --acquire");
        return;
    }
    const struct ivon_acquisition_traits *traits = ivon_acquisition_traits(
        (enum ivon_acquisition)command->acquire);
    if (ivon_likelihood_traits(command->options.task.likelihood)->regression)
        argp_failure(state, EX_USAGE, 0, "--acquire is for classes and events, not regression");
    if (command->metrics || command->options.logits || command->log_likelihoods)
        argp_failure(state, EX_USAGE, 0,
                     "--acquire prints examples to label: --metrics, --logits and "
                     "--log-likelihoods do not go with it");
    if (!traits->samples)
        return;
    if (command->average || command->calibration || command->options.method == IVON_PREDICT_LINEAR)
        argp_failure(state, EX_USAGE, 0,
                     "--acquire=%s compares samples, which --average, --calibration and "
                     "--method=linear have none of, the last but with --linear=draws",
                     traits->name);
    if (!ivon_predict_varies(&command->options, command->argument_count))
        argp_failure(state, EX_USAGE, 0,
                     "--acquire=%s compares samples, and is 0 for a single one: expected two "
                     "--samples or more, not --mean",
                     traits->name);
}

/* A batch's joint information is of examples with one class each. */
static int open_batchbald(struct predict_acquired *acquired, uint64_t rows,
                          struct ivon_error *error)
{
    const struct predict_command *command = acquired->command;
    const struct ivon_likelihood_traits *traits = ivon_likelihood_traits(
        command->options.task.likelihood);
    struct ivon_batchbald_options options = ivon_batchbald_defaults();
    size_t samples = command->options.samples, members = command->argument_count;
    if (acquired->shape.tokens)
        return error_fill(error, IVON_ERROR_ARGUMENT,
                          "--acquire=batchbald: an example is a sequence of %lld predictions, "
                          "expected one",
                          (long long)acquired->shape.tokens);
    if (!traits->classes && acquired->shape.outputs > 1)
        return error_fill(error, IVON_ERROR_ARGUMENT,
                          "--acquire=batchbald: the network has %zu outputs, expected one event",
                          acquired->shape.outputs);
    double *weights = calloc(members, samples * sizeof *weights);
    acquired->predictions = calloc(rows + 1, sizeof *acquired->predictions);
    if (!weights || !acquired->predictions) {
        free(weights);
        return error_memory(error);
    }
    for (size_t i = 0; i < members * samples; i++)
        weights[i] = command->members[i / samples].weight;
    options.likelihood = command->options.task.likelihood;
    options.outputs = acquired->shape.outputs;
    options.samples = members * samples;
    options.weights = weights;
    options.rows = rows;
    options.seed = command->options.sample.seed;
    options.resources.memory = command->evaluation.memory;
    options.resources.threads = command->common.threads;
    options.resources.progress = command->options.resources.progress;
    int code = ivon_batchbald_new(&acquired->batchbald, &options, error);
    free(weights);
    return code;
}

static int acquire_open_table(struct predict_acquired *acquired, uint64_t rows,
                              const char *provenance, struct ivon_error *error)
{
    const struct predict_command *command = acquired->command;
    struct ivon_column columns[] = {{.name = "rank", .dtype = IVON_I64},
                                    {.name = "index", .dtype = IVON_I64},
                                    {.name = "score", .dtype = IVON_F64},
                                    {.name = "prediction", .dtype = IVON_I64}};
    char creator[64];
    snprintf(creator, sizeof creator, "ivon-predict %s", ivon_version());
    static const enum ivon_naming naming[] = {[3] = IVON_NAMES};
    struct ivon_table_options options = {.size = sizeof options,
                                         .format = (enum ivon_table_format)command->format,
                                         .rows = rows < acquired->rows.top ? rows
                                                                           : acquired->rows.top,
                                         .own_index = true,
                                         .replace = command->files.force,
                                         .creator = creator,
                                         .provenance = provenance};
    evaluation_name_columns(&command->evaluation, naming, &options);
    if (!ivon_likelihood_traits(command->options.task.likelihood)->classes) {
        columns[3].rank = 1;
        columns[3].shape[0] = (int64_t)acquired->shape.outputs;
    }
    return table_output_open(&acquired->table, command->output, columns, acquired->width ? 4 : 3,
                             &options, error);
}

int predict_acquire_open(struct predict_acquired **out, const struct predict_command *command,
                         const struct ivon_predict_shape *shape, uint64_t rows,
                         const char *provenance, struct ivon_error *error)
{
    struct predict_acquired *acquired = calloc(1, sizeof *acquired);
    if (!acquired)
        return error_memory(error);
    *out = acquired;
    acquired->command = command;
    acquired->traits = ivon_acquisition_traits((enum ivon_acquisition)command->acquire);
    acquired->shape = *shape;
    bool classes = ivon_likelihood_traits(command->options.task.likelihood)->classes;
    acquired->width = shape->tokens ? 0 : classes ? 1 : shape->outputs;
    acquired->rows = (struct sorted_rows){.size = (2 + acquired->width) * sizeof(int64_t),
                                          .dtype = IVON_F64,
                                          .ascending = acquired->traits->ascending,
                                          .top = command->top ? command->top : DEFAULT_TOP};
    int code = acquired->traits->joint ? open_batchbald(acquired, rows, error) : 0;
    return code ? code : acquire_open_table(acquired, rows, provenance, error);
}

void predict_acquire_close(struct predict_acquired *acquired)
{
    if (!acquired)
        return;
    ivon_table_close(acquired->table);
    sorted_rows_release(&acquired->rows);
    ivon_batchbald_free(acquired->batchbald);
    free(acquired->predictions);
    free(acquired->scores);
    free(acquired);
}

static int keep_best(struct predict_acquired *acquired, const struct ivon_predictions *p,
                     struct ivon_error *error)
{
    const struct predict_command *command = acquired->command;
    size_t width = acquired->width;
    double *scores = realloc(acquired->scores, (p->count + 1) * sizeof *scores);
    unsigned char *row = calloc(1, acquired->rows.size);
    acquired->scores = scores ? scores : acquired->scores;
    int code = scores && row ? ivon_acquisition_scores((enum ivon_acquisition)command->acquire,
                                                       command->options.task.likelihood,
                                                       &acquired->shape, p, scores, error)
                             : error_memory(error);
    for (size_t i = 0; i < p->count && !code; i++) {
        int64_t index = (int64_t)(p->first + i);
        memcpy(row, &scores[i], sizeof *scores);
        memcpy(row + sizeof *scores, &index, sizeof index);
        if (width)
            memcpy(row + sizeof *scores + sizeof index, p->prediction + i * width,
                   width * sizeof *p->prediction);
        code = sorted_rows_add(&acquired->rows, row, error);
    }
    free(row);
    return code;
}

int predict_acquire_add(struct predict_acquired *acquired, const struct ivon_predictions *p,
                        struct ivon_error *error)
{
    if (!acquired->traits->joint)
        return keep_best(acquired, p, error);
    memcpy(acquired->predictions + p->first, p->prediction, p->count * sizeof *p->prediction);
    return ivon_batchbald_add(acquired->batchbald, p->count, p->sample_outputs, error);
}

static int write_best(struct predict_acquired *acquired, struct ivon_error *error)
{
    int code = sorted_rows_finish(&acquired->rows, error);
    for (size_t i = 0; i < acquired->rows.count && !code; i++) {
        const unsigned char *row = acquired->rows.rows + i * acquired->rows.size;
        int64_t rank = (int64_t)i + 1;
        const void *data[] = {&rank, row + sizeof(double), row, row + 2 * sizeof(double)};
        code = ivon_table_append(acquired->table, 1, data, error);
    }
    return code;
}

static int write_batch(const struct predict_acquired *acquired, struct ivon_error *error)
{
    struct ivon_batchbald_choice *batch = NULL;
    size_t count = 0, exact = 0;
    int code = ivon_batchbald_choose(acquired->batchbald, acquired->rows.top, &batch, &count,
                                     error);
    for (size_t i = 0; i < count && !code; i++) {
        int64_t rank = (int64_t)i + 1, index = (int64_t)batch[i].row;
        const void *data[] = {&rank, &index, &batch[i].gain, &acquired->predictions[index]};
        code = ivon_table_append(acquired->table, 1, data, error);
        exact += batch[i].exact;
    }
    free(batch);
    if (!code && acquired->command->common.verbose && exact < count)
        report_note("scores from rank %zu on are estimates, by drawn targets of the rows before",
                    exact + 1);
    return code;
}

int predict_acquire_finish(struct predict_acquired *acquired, struct ivon_error *error)
{
    int code = acquired->traits->joint ? write_batch(acquired, error) : write_best(acquired, error);
    return code ? code : ivon_table_commit(acquired->table, error);
}
