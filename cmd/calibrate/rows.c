#include <stdlib.h>
#include <string.h>

#include "cmd/calibrate/calibrate.h"
#include "cmd/shared/inputs/calibration.h"
#include "cmd/shared/memory.h"
#include "cmd/shared/report.h"

enum { PIECE_ELEMENTS = 1 << 20 };

/* The labels of a row: its class, or its K events. */
static size_t calibrate_labels(const struct calibrate_command *command)
{
    bool classes = ivon_likelihood_traits(command->options.likelihood)->classes;
    return classes ? 1 : command->options.outputs;
}

/* Predictions of consecutive rows, with their targets. */
struct calibrate_block {
    uint64_t first; /* row */
    size_t rows;
    const float *probabilities, *means, *epistemic, *aleatoric, *targets;
    const int64_t *labels;
};

void calibrate_rows_release(struct calibrate_rows *rows)
{
    free(rows->numbers);
    free(rows->probabilities);
    free(rows->means);
    free(rows->deviations);
    free(rows->targets);
    free(rows->labels);
}

static int calibrate_grow(void *array, size_t count, size_t width, size_t size,
                          struct ivon_error *error)
{
    void **place = array;
    size_t all;
    if (__builtin_mul_overflow(count, width, &all) || __builtin_mul_overflow(all, size, &all) ||
        all > PTRDIFF_MAX)
        return error_memory(error);
    void *grown = realloc(*place, all);
    if (!grown)
        return error_memory(error);
    *place = grown;
    return 0;
}

static int calibrate_reserve(struct calibrate_command *command, size_t more,
                             struct ivon_error *error)
{
    struct calibrate_rows *rows = &command->rows;
    size_t k = command->options.outputs, needed;
    bool regression = ivon_likelihood_traits(command->options.likelihood)->regression;
    if (__builtin_add_overflow(rows->count, more, &needed) || needed > PTRDIFF_MAX / 2)
        return error_memory(error);
    if (needed <= rows->capacity)
        return 0;
    rows->capacity = needed < 2 * rows->capacity ? 2 * rows->capacity : needed;
    int code = calibrate_grow(&rows->numbers, rows->capacity, 1, sizeof *rows->numbers, error);
    if (!code && !regression)
        code = calibrate_grow(&rows->labels, rows->capacity, calibrate_labels(command),
                              sizeof *rows->labels, error);
    if (!code && !regression)
        code = calibrate_grow(&rows->probabilities, rows->capacity, k, sizeof(float), error);
    if (!code && regression)
        code = calibrate_grow(&rows->means, rows->capacity, k, sizeof(float), error);
    if (!code && regression)
        code = calibrate_grow(&rows->deviations, rows->capacity, k, sizeof(float), error);
    if (!code && regression)
        code = calibrate_grow(&rows->targets, rows->capacity, k, sizeof(float), error);
    return code;
}

/* Keeps the rows of a block that count. */
static int calibrate_keep(struct calibrate_command *command, const struct calibrate_block *block,
                          struct ivon_error *error)
{
    struct calibrate_rows *rows = &command->rows;
    const struct ivon_task *task = &command->evaluation.task;
    size_t k = command->options.outputs, width = calibrate_labels(command);
    int code = calibrate_reserve(command, block->rows, error);
    rows->deviations_known = block->epistemic;
    for (size_t i = 0; i < block->rows && !code; i++) {
        size_t at = rows->count;
        if (block->labels &&
            !ivon_target_counts(task->likelihood, k, block->labels + i * width, task->ignored))
            continue;
        rows->numbers[at] = block->first + i;
        if (block->labels) {
            memcpy(rows->labels + at * width, block->labels + i * width,
                   width * sizeof *rows->labels);
            memcpy(rows->probabilities + at * k, block->probabilities + i * k, k * sizeof(float));
        } else {
            memcpy(rows->means + at * k, block->means + i * k, k * sizeof(float));
            memcpy(rows->targets + at * k, block->targets + i * k, k * sizeof(float));
            if (block->epistemic)
                calibration_deviations(rows->deviations + at * k, block->epistemic + i * k,
                                       block->aleatoric ? block->aleatoric + i * k : NULL, k);
        }
        rows->count++;
    }
    return code;
}

/* Posteriors. */

static int calibrate_take(void *context, const struct ivon_predictions *p, struct ivon_error *error)
{
    struct calibrate_command *command = context;
    size_t tokens = (size_t)command->rows.tokens;
    const struct calibrate_block block = {.first = p->first * tokens,
                                          .rows = p->count * tokens,
                                          .probabilities = p->probabilities,
                                          .means = p->mean,
                                          .epistemic = p->epistemic_std,
                                          .aleatoric = p->aleatoric_std,
                                          .targets = p->targets,
                                          .labels = p->labels};
    return calibrate_keep(command, &block, error);
}

static int calibrate_run_posterior(struct calibrate_command *command, struct ivon_error *error)
{
    struct evaluation_options *evaluation = &command->evaluation;
    const char *targets = evaluation_targets(evaluation);
    int code = evaluation_open_posterior(evaluation, command->argument, &command->open,
                                         &command->common, &command->source, &command->network,
                                         error);
    if (code)
        return code;
    evaluation_name_inputs(evaluation, command->network, NULL);
    code = evaluation_open_named(evaluation, &command->examples, evaluation->data,
                                 &evaluation->dataset, error);
    if (!code && ivon_examples_find(command->examples, targets) < 0)
        code = evaluation_no_targets(evaluation->data, targets, error);
    const struct ivon_member member = {command->network, command->source, 1};
    if (!code)
        code = ivon_predictor_new(&command->predictor, &member, 1, command->examples, targets,
                                  &command->predict, error);
    if (code)
        return code;
    struct ivon_predict_shape shape = ivon_predictor_shape(command->predictor);
    command->options.outputs = calibration_outputs(command->options.likelihood, shape.outputs);
    command->rows.tokens = shape.tokens ? (uint64_t)shape.tokens : 1;
    return ivon_predictor_run(command->predictor, calibrate_take, command, error);
}

/* Files of predictions. */

/* Opens an array of predictions, or the columns of that prefix. */
static int open_predictions(const struct calibrate_command *command, const char *name,
                            const char *prefix, struct ivon_examples **out,
                            struct ivon_error *error)
{
    struct ivon_dataset_options options = ivon_dataset_defaults();
    options.inputs = &name;
    options.input_count = 1;
    options.targets = "";
    options.column_prefix = prefix;
    options.no_scaling = true;
    options.limit = command->evaluation.dataset.limit;
    options.no_sandbox = command->evaluation.dataset.no_sandbox;
    return ivon_dataset_open(out, command->argument, &options, error);
}

/* Opens the deviations, where the file has them: as many as there are means. */
static void open_deviations(struct calibrate_command *command)
{
    static const char *const names[] = {"epistemic_std", "aleatoric_std"};
    static const char *const prefixes[] = {"epistemic_std_", "aleatoric_std_"};
    const struct ivon_examples *means = command->predictions[0];
    for (size_t i = 0; i < 2; i++) {
        struct ivon_examples **found = &command->predictions[i + 1];
        if (open_predictions(command, names[i], prefixes[i], found, NULL))
            *found = NULL;
        else if (ivon_examples_count(*found) != ivon_examples_count(means) ||
                 ivon_examples_field(*found, 0)->count != ivon_examples_field(means, 0)->count) {
            ivon_examples_close(*found); /* columns of other things */
            *found = NULL;
        }
    }
}

/* Checks that the targets are as many as the predictions take. */
static int calibrate_check_targets(struct calibrate_command *command, ptrdiff_t *field,
                                   struct ivon_error *error)
{
    struct evaluation_options *evaluation = &command->evaluation;
    const char *name = evaluation_targets(evaluation);
    const struct ivon_field *first = ivon_examples_field(command->predictions[0], 0);
    if (first->rank < 1 || first->rank > 2)
        return error_fill(error, IVON_ERROR_DATA,
                          "%s: '%s' has %d axes, expected examples x outputs or examples x tokens "
                          "x outputs",
                          command->argument, first->name, first->rank + 1);
    command->options.outputs = (size_t)first->shape[first->rank - 1];
    command->rows.tokens = first->rank == 2 ? (uint64_t)first->shape[0] : 1;
    int code = evaluation_read_classes(evaluation, error);
    if (!code)
        code = ivon_dataset_open(&command->examples, evaluation->data, &evaluation->dataset, error);
    if (code)
        return code;
    *field = ivon_examples_find(command->examples, name);
    if (*field < 0)
        return evaluation_no_targets(evaluation->data, name, error);
    size_t expected = (size_t)command->rows.tokens * calibrate_labels(command);
    size_t found = ivon_examples_field(command->examples, (size_t)*field)->count;
    uint64_t count = ivon_examples_count(command->predictions[0]);
    if (ivon_examples_count(command->examples) != count || found != expected || !first->count)
        return error_fill(error, IVON_ERROR_DATA,
                          "%s: %llu targets of %zu numbers for %llu predictions that take %zu",
                          evaluation->data,
                          (unsigned long long)ivon_examples_count(command->examples), found,
                          (unsigned long long)count, expected);
    return 0;
}

/* Reads the predictions and targets of some examples into `values`, four arrays, and labels. */
static int calibrate_read_piece(struct calibrate_command *command, ptrdiff_t field, uint64_t first,
                                size_t count, float *values[4], int64_t *labels,
                                struct ivon_error *error)
{
    bool regression = ivon_likelihood_traits(command->options.likelihood)->regression;
    size_t tokens = (size_t)command->rows.tokens;
    bool known = command->predictions[1];
    int code = 0;
    for (size_t i = 0; i < 3 && !code; i++)
        if (command->predictions[i])
            code = ivon_examples_read_f32(command->predictions[i], 0, first, count, values[i],
                                          error);
    if (!code && !regression)
        code = ivon_examples_read_i64(command->examples, (size_t)field, first, count, labels,
                                      error);
    if (!code && regression)
        code = ivon_examples_read_f32(command->examples, (size_t)field, first, count, values[3],
                                      error);
    const struct calibrate_block block = {.first = first * tokens,
                                          .rows = count * tokens,
                                          .probabilities = regression ? NULL : values[0],
                                          .means = regression ? values[0] : NULL,
                                          .epistemic = known ? values[1] : NULL,
                                          .aleatoric = command->predictions[2] ? values[2] : NULL,
                                          .targets = values[3],
                                          .labels = regression ? NULL : labels};
    return code ? code : calibrate_keep(command, &block, error);
}

static int calibrate_read_predictions(struct calibrate_command *command, struct ivon_error *error)
{
    ptrdiff_t field = -1;
    int code = calibrate_check_targets(command, &field, error);
    if (code)
        return code;
    uint64_t all = ivon_examples_count(command->predictions[0]);
    size_t each = ivon_examples_field(command->predictions[0], 0)->count;
    size_t piece = PIECE_ELEMENTS / each ? PIECE_ELEMENTS / each : 1;
    float *values[4];
    int64_t *labels = calloc(piece * each, sizeof *labels);
    for (size_t i = 0; i < 4; i++)
        if (!(values[i] = calloc(piece * each, sizeof **values)))
            memory_exhausted();
    if (!labels)
        memory_exhausted();
    for (uint64_t first = 0; first < all && !code; first += piece) {
        size_t count = all - first < piece ? (size_t)(all - first) : piece;
        code = calibrate_read_piece(command, field, first, count, values, labels, error);
    }
    for (size_t i = 0; i < 4; i++)
        free(values[i]);
    free(labels);
    return code;
}

/* A file with the array, or columns, of predictions is one of predictions; any other is a
   posterior. */
int calibrate_collect(struct calibrate_command *command, struct ivon_error *error)
{
    bool regression = ivon_likelihood_traits(command->options.likelihood)->regression;
    const char *name = regression ? "mean" : "probabilities";
    int code;
    if (open_predictions(command, name, regression ? "mean_" : "p", &command->predictions[0],
                         NULL) == 0) {
        if (command->open.given || command->samples_given || command->mean ||
            command->draw.tempered || command->draw.filter.count || command->evaluation.model ||
            command->evaluation.graph.given)
            return error_fill(error, IVON_ERROR_ARGUMENT,
                              "%s holds predictions: --samples, --mean, "
                              "--posterior-temperature, --include, --exclude, --model, and what "
                              "is said of checkpoints and graphs, are for posteriors",
                              command->argument);
        if (regression)
            open_deviations(command);
        code = calibrate_read_predictions(command, error);
    } else {
        command->predictions[0] = NULL;
        code = calibrate_run_posterior(command, error);
    }
    if (!code && !command->rows.count && !ivon_examples_count(command->examples))
        code = error_fill(error, IVON_ERROR_DATA, "%s: has no examples, expected some",
                          command->evaluation.data);
    return code || command->rows.count
               ? code
               : evaluation_nothing_counts(&command->evaluation, command->evaluation.data, error);
}
