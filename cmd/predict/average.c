/* Predictions that other programs made, averaged: the last step of a pipeline whose network cannot
   be run here. */
#define _GNU_SOURCE
#include <math.h>
#include <stdlib.h>

#include "cmd/shared/evaluation/groups.h"
#include "cmd/shared/memory.h"
#include "cmd/predict/predict.h"
#include "cmd/shared/process/ranks.h"
#include "cmd/shared/report.h"

struct averaging {
    struct predict_command *command;
    struct ivon_examples **files;
    struct ivon_metrics *metrics;
    ptrdiff_t targets;
    struct ivon_predict_shape shape;
    uint64_t count;
    struct predict_output output;
    double *losses; /* of a block; null: there are no targets */
    int64_t *labels;
};

static int open_files(struct averaging *averaging, struct ivon_error *error)
{
    static const char *const inputs[] = {"probabilities"};
    struct predict_command *command = averaging->command;
    struct ivon_dataset_options options = {.size = sizeof options,
                                           .inputs = inputs,
                                           .input_count = 1,
                                           .targets = "",
                                           .column_prefix = "p",
                                           .no_scaling = true,
                                           .limit = command->evaluation.dataset.limit,
                                           .no_sandbox = command->evaluation.dataset.no_sandbox};
    for (size_t i = 0; i < command->argument_count; i++) {
        int code = ivon_dataset_open(&averaging->files[i], command->arguments[i], &options, error);
        if (code)
            return code;
        const struct ivon_field *field = ivon_examples_field(averaging->files[i], 0);
        const struct ivon_field *first = ivon_examples_field(averaging->files[0], 0);
        if (field->rank < 1 || field->rank > 2)
            return error_fill(error, IVON_ERROR_DATA,
                              "%s: '%s' has %d axes, expected examples x outputs or examples x "
                              "tokens x outputs",
                              command->arguments[i], field->name, field->rank + 1);
        if (ivon_examples_count(averaging->files[i]) != ivon_examples_count(averaging->files[0]) ||
            field->count != first->count || field->rank != first->rank)
            return error_fill(
                error, IVON_ERROR_DATA, "%s: %llu predictions of %zu numbers, %s has %llu of %zu",
                command->arguments[i], (unsigned long long)ivon_examples_count(averaging->files[i]),
                field->count, command->arguments[0],
                (unsigned long long)ivon_examples_count(averaging->files[0]), first->count);
    }
    const struct ivon_field *first = ivon_examples_field(averaging->files[0], 0);
    averaging->count = ivon_examples_count(averaging->files[0]);
    averaging->shape = (struct ivon_predict_shape){
        .tokens = first->rank == 2 ? first->shape[0] : 0,
        .outputs = (size_t)first->shape[first->rank - 1]};
    return 0;
}

static int open_targets(struct averaging *averaging, struct ivon_error *error)
{
    struct predict_command *command = averaging->command;
    const struct evaluation_options *evaluation = &command->evaluation;
    const char *name = evaluation_targets(evaluation);
    struct ivon_metrics_options options = {.size = sizeof options,
                                           .likelihood = command->options.task.likelihood,
                                           .outputs = averaging->shape.outputs,
                                           .bins = command->options.bins};
    averaging->targets = -1;
    if (!command->evaluation.data && command->metrics)
        return error_fill(error, IVON_ERROR_ARGUMENT,
                          "--metrics needs targets: name them by --data=FILE");
    if (!command->evaluation.data)
        return 0;
    int code = ivon_dataset_open(&command->examples, evaluation->data, &evaluation->dataset, error);
    if (code)
        return code;
    averaging->targets = ivon_examples_find(command->examples, name);
    if (averaging->targets < 0)
        return command->metrics ? evaluation_no_targets(evaluation->data, name, error) : 0;
    size_t rows = averaging->shape.tokens ? (size_t)averaging->shape.tokens : 1;
    size_t expected = rows *
                      (ivon_likelihood_traits(options.likelihood)->classes ? 1 : options.outputs);
    size_t found = ivon_examples_field(command->examples, (size_t)averaging->targets)->count;
    if (ivon_examples_count(command->examples) != averaging->count || found != expected)
        return error_fill(error, IVON_ERROR_DATA,
                          "%s: %llu targets of %zu numbers for %llu predictions that take %zu",
                          command->evaluation.data,
                          (unsigned long long)ivon_examples_count(command->examples), found,
                          (unsigned long long)averaging->count, expected);
    averaging->shape.targets = averaging->shape.losses = true;
    if (command->groups)
        code = groups_read(&command->group_numbers, command->groups, evaluation, command->examples,
                           error);
    return code || !command->metrics ? code
                                     : ivon_metrics_new(&averaging->metrics, &options, error);
}

/* Memory for the targets and losses of so many rows. */
static int predict_average_room(struct averaging *averaging, size_t rows, struct ivon_error *error)
{
    free(averaging->labels);
    free(averaging->losses);
    averaging->labels = calloc(rows * averaging->shape.outputs, sizeof *averaging->labels);
    averaging->losses = calloc(rows, sizeof *averaging->losses);
    return averaging->labels && averaging->losses ? 0 : error_memory(error);
}

/* Reads the targets of averaged examples, finds their losses, and adds both to the metrics. */
static int predict_average_measure(struct averaging *averaging, const struct ivon_predictions *p,
                                   struct ivon_error *error)
{
    const struct predict_command *command = averaging->command;
    const struct ivon_task *task = &command->options.task;
    size_t tokens = averaging->shape.tokens ? (size_t)averaging->shape.tokens : 1;
    size_t rows = p->count * tokens, outputs = averaging->shape.outputs;
    struct ivon_error inner = {0};
    if (averaging->targets < 0)
        return 0;
    int code = predict_average_room(averaging, rows, error);
    if (!code)
        code = ivon_examples_read_i64(command->examples, (size_t)averaging->targets, p->first,
                                      p->count, averaging->labels, error);
    if (code)
        return code;
    code = ivon_probabilities_losses(task->likelihood, p->first * tokens, rows, outputs,
                                     p->probabilities, averaging->labels, task->ignored,
                                     averaging->losses, &inner);
    if (!code && averaging->metrics)
        code = ivon_metrics_add(averaging->metrics, p->first * tokens, rows, p->probabilities,
                                averaging->labels, task->ignored, &inner);
    return code ? error_fill(error, code, "%s: %s", command->evaluation.data, inner.message) : 0;
}

static int predict_average_take(void *context, const struct ivon_predictions *given,
                                struct ivon_error *error)
{
    struct averaging *averaging = context;
    struct ivon_predictions predictions = *given;
    int code = predict_average_measure(averaging, given, error);
    predictions.loss = averaging->losses;
    predictions.labels = averaging->labels;
    return code ? code : predict_output_take(&averaging->output, &predictions, error);
}

static int predict_average_run(struct averaging *averaging, struct ivon_error *error)
{
    const struct predict_command *command = averaging->command;
    const struct ivon_average average = {.files = averaging->files,
                                         .weights = command->weights,
                                         .file_count = command->argument_count,
                                         .likelihood = command->options.task.likelihood,
                                         .ranks = command->options.resources.ranks};
    return ivon_average_run(&average, predict_average_take, averaging, error);
}

static int predict_average_finish(struct averaging *averaging, struct ivon_error *error)
{
    size_t count = 0;
    const struct ivon_metric *values = averaging->metrics
                                           ? ivon_metrics_values(averaging->metrics, &count)
                                           : NULL;
    struct ivon_predict_metric *metrics = calloc(count + 1, sizeof *metrics);
    if (!metrics)
        return error_memory(error);
    for (size_t i = 0; values && i < count; i++)
        metrics[i] = (struct ivon_predict_metric){values[i], NAN};
    int code = predict_output_finish(&averaging->output, metrics, values ? count : 0, error);
    free(metrics);
    return code;
}

int predict_average(struct predict_command *command, const char *provenance,
                    struct ivon_error *error)
{
    struct averaging averaging = {.command = command};
    averaging.files = xcalloc(command->argument_count, sizeof *averaging.files);
    command->options.samples = 0;
    int code = evaluation_read_classes(&command->evaluation, error);
    if (!code)
        code = open_files(&averaging, error);
    if (!code)
        code = open_targets(&averaging, error);
    if (!code && ranks_first())
        code = predict_output_open(&averaging.output, command, &averaging.shape, averaging.count,
                                   provenance, error);
    if (!code)
        code = predict_average_run(&averaging, error);
    if (!code && ranks_first())
        code = predict_average_finish(&averaging, error);
    predict_output_close(&averaging.output);
    for (size_t i = 0; i < command->argument_count; i++)
        ivon_examples_close(averaging.files[i]);
    ivon_metrics_free(averaging.metrics);
    free(averaging.files);
    free(averaging.losses);
    free(averaging.labels);
    return code;
}
