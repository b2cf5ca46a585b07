#define _GNU_SOURCE
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/predict/predict.h"
#include "cmd/shared/report.h"
#include "cmd/shared/outputs/table.h"

enum { COLUMNS_MAX = 11 };

/* The columns of a table, and where a block of predictions has them. */
struct columns {
    struct ivon_column column[COLUMNS_MAX];
    enum ivon_naming naming[COLUMNS_MAX];
    const void *data[COLUMNS_MAX];
    size_t count;
};

/* Adds a column with one number for each row of the network's outputs; or with `each`, unless that
   is 0. */
static void predict_output_add(struct columns *columns, const struct ivon_predict_shape *shape,
                               const char *name, const char *prefix, enum ivon_dtype dtype,
                               size_t each, const void *data)
{
    struct ivon_column *column = &columns->column[columns->count];
    *column = (struct ivon_column){.name = name, .prefix = prefix, .dtype = dtype};
    if (shape->tokens)
        column->shape[column->rank++] = shape->tokens;
    if (each)
        column->shape[column->rank++] = (int64_t)each;
    columns->naming[columns->count] = IVON_NUMBERS;
    columns->data[columns->count++] = data;
}

/* The same of classes, which may have names. */
static void predict_output_add_classes(struct columns *columns,
                                       const struct ivon_predict_shape *shape, const char *name,
                                       const char *prefix, enum ivon_naming naming, size_t each,
                                       const void *data)
{
    predict_output_add(columns, shape, name, prefix, IVON_I64, each, data);
    columns->naming[columns->count - 1] = naming;
}

/* Adds the sets or intervals of a calibration. */
static void predict_output_add_calibrated(struct columns *columns,
                                          const struct predict_output *output)
{
    struct predict_calibrated_columns own = predict_calibration_columns(output->calibrated);
    const struct ivon_predict_shape *shape = &output->shape;
    size_t numbers = ivon_likelihood_targets(output->command->options.task.likelihood,
                                             shape->outputs);
    if (own.sets) {
        predict_output_add(columns, shape, "set_size", NULL, IVON_I64, 0, own.size);
        predict_output_add_classes(columns, shape, "prediction_set", "set", IVON_NAME_SETS,
                                   shape->outputs, own.set);
    }
    if (own.intervals) {
        predict_output_add(columns, shape, "lower", NULL, IVON_F32, numbers, own.lower);
        predict_output_add(columns, shape, "upper", NULL, IVON_F32, numbers, own.upper);
    }
}

/* Adds the targets, and their losses where these are known. */
static void predict_output_add_targets(struct columns *columns, const struct predict_output *output,
                                       const struct ivon_predictions *p)
{
    const struct ivon_predict_shape *shape = &output->shape;
    enum ivon_likelihood likelihood = output->command->options.task.likelihood;
    const struct ivon_likelihood_traits *traits = ivon_likelihood_traits(likelihood);
    size_t targets = ivon_likelihood_targets(likelihood, shape->outputs);
    if (!shape->targets)
        return;
    if (traits->regression)
        predict_output_add(columns, shape, "label", NULL, IVON_F32, targets, p->targets);
    else
        predict_output_add_classes(columns, shape, "label", NULL, IVON_NAMES,
                                   traits->classes ? 0 : targets, p->labels);
    /* A calibration of classes and events finds their losses itself. */
    if (shape->losses || (output->calibrated && !traits->regression))
        predict_output_add(columns, shape, "loss", NULL, IVON_F64, 0, p->loss);
}

static struct columns predict_output_list_columns(const struct predict_output *output,
                                                  const struct ivon_predictions *p)
{
    const struct predict_command *command = output->command;
    const struct ivon_predict_shape *shape = &output->shape;
    const struct ivon_likelihood_traits *traits = ivon_likelihood_traits(
        command->options.task.likelihood);
    size_t numbers = ivon_likelihood_targets(command->options.task.likelihood, shape->outputs);
    struct columns columns = {.count = 0};
    bool npy = command->format == IVON_NPY;
    if (traits->regression) {
        predict_output_add(&columns, shape, "mean", NULL, IVON_F32, numbers, p->mean);
        if (!npy)
            predict_output_add(&columns, shape, "epistemic_std", NULL, IVON_F32, numbers,
                               p->epistemic_std);
        if (!npy && (!traits->noise || command->options.task.noise_std > 0))
            predict_output_add(&columns, shape, "aleatoric_std", NULL, IVON_F32, numbers,
                               p->aleatoric_std);
        if (!npy)
            predict_output_add_targets(&columns, output, p);
    } else {
        if (!npy) {
            predict_output_add_classes(&columns, shape, "prediction", NULL, IVON_NAMES,
                                       traits->classes ? 0 : numbers, p->prediction);
            predict_output_add(&columns, shape, "max_probability", NULL, IVON_F32, 0,
                               p->max_probability);
            predict_output_add(&columns, shape, "entropy", NULL, IVON_F32, 0, p->entropy);
        }
        if (!npy && p->expected_entropy) {
            predict_output_add(&columns, shape, "expected_entropy", NULL, IVON_F32, 0,
                               p->expected_entropy);
            predict_output_add(&columns, shape, "mutual_information", NULL, IVON_F32, 0,
                               p->mutual_information);
        }
        if (!npy)
            predict_output_add_targets(&columns, output, p);
        predict_output_add(&columns, shape, "probabilities", "p", IVON_F32, shape->outputs,
                           p->probabilities);
    }
    if (!npy && output->calibrated)
        predict_output_add_calibrated(&columns, output);
    if (!npy && command->options.logits)
        predict_output_add(&columns, shape, "logits", "logit", IVON_F32, shape->outputs, p->logits);
    return columns;
}

static size_t rows_per_example(const struct predict_output *output)
{
    return output->shape.tokens ? (size_t)output->shape.tokens : 1;
}

static int predict_output_open_table(struct predict_output *output,
                                     const struct ivon_predictions *like, const char *provenance,
                                     struct ivon_error *error)
{
    const struct predict_command *command = output->command;
    char creator[64];
    snprintf(creator, sizeof creator, "ivon-predict %s", ivon_version());
    struct columns columns = predict_output_list_columns(output, like);
    struct ivon_table_options options = {.size = sizeof options,
                                         .format = (enum ivon_table_format)command->format,
                                         .rows = output->rows,
                                         .tokens = output->shape.tokens,
                                         .replace = command->files.force,
                                         .creator = creator,
                                         .provenance = provenance};
    evaluation_name_columns(&command->evaluation, columns.naming, &options);
    return table_output_open(&output->table, command->output, columns.column, columns.count,
                             &options, error);
}

static int open_arviz(struct predict_output *output, struct ivon_error *error)
{
    const struct predict_command *command = output->command;
    const struct ivon_likelihood_traits *traits = ivon_likelihood_traits(
        command->options.task.likelihood);
    size_t samples = command->options.samples ? command->options.samples : 1;
    char creator[64];
    snprintf(creator, sizeof creator, "ivon-predict %s", ivon_version());
    struct ivon_arviz_options options = {
        .size = sizeof options,
        .samples = samples * command->argument_count,
        .examples = command->positions.examples,
        .outputs = rows_per_example(output) *
                   ivon_likelihood_targets(command->options.task.likelihood, output->shape.outputs),
        .target_dtype = traits->regression ? IVON_F32 : IVON_I64,
        .replace = command->files.force,
        .creator = creator};
    return ivon_arviz_create(&output->arviz, command->log_likelihoods, &options, error);
}

static int allocate_scores(float **scores, size_t rows, struct ivon_error *error)
{
    for (int i = 0; i < 3; i++) {
        scores[i] = calloc(rows + 1, sizeof **scores);
        if (!scores[i])
            return error_memory(error);
    }
    return 0;
}

static int open_comparison(struct predict_output *output, struct ivon_error *error)
{
    struct predict_command *command = output->command;
    static const char *const inputs[] = {"probabilities"};
    struct ivon_dataset_options options = {.size = sizeof options,
                                           .inputs = inputs,
                                           .input_count = 1,
                                           .targets = "",
                                           .column_prefix = "p",
                                           .no_sandbox = command->evaluation.dataset.no_sandbox};
    size_t each = rows_per_example(output) * output->shape.outputs;
    int code = ivon_dataset_open(&command->other, command->compare, &options, error);
    if (!code && (ivon_examples_count(command->other) != output->rows ||
                  ivon_examples_field(command->other, 0)->count != each))
        code = error_fill(error, IVON_ERROR_DATA,
                          "%s: %llu predictions of %zu probabilities, expected %llu of %zu",
                          command->compare, (unsigned long long)ivon_examples_count(command->other),
                          ivon_examples_field(command->other, 0)->count,
                          (unsigned long long)output->rows, each);
    if (!code)
        code = ivon_comparison_new(&output->comparison, command->options.task.likelihood,
                                   output->shape.outputs, error);
    return code;
}

int predict_output_open(struct predict_output *output, struct predict_command *command,
                        const struct ivon_predict_shape *shape, uint64_t rows,
                        const char *provenance, struct ivon_error *error)
{
    /* Only which columns there are matters here, not what is in them. */
    static const float none;
    bool closed = command->options.method == IVON_PREDICT_LINEAR;
    bool alone = command->average || command->calibration || closed;
    struct ivon_predictions like = {.expected_entropy = alone ? NULL : &none};
    *output = (struct predict_output){.command = command, .shape = *shape, .rows = rows};
    int code = evaluation_check_classes(&command->evaluation, shape->outputs, error);
    if (!code && command->calibration)
        code = predict_calibration_open(&output->calibrated, command, shape, error);
    if (!code && command->log_likelihoods)
        code = open_arviz(output, error);
    if (!code && command->compare)
        code = open_comparison(output, error);
    if (!code && command->ood)
        code = allocate_scores(output->scores, rows * rows_per_example(output), error);
    if (!code && command->ood)
        code = allocate_scores(output->foreign_scores,
                               ivon_examples_count(command->foreign) * rows_per_example(output),
                               error);
    if (!code && command->metrics)
        code = predict_further_open(&output->further, command, shape, rows, error);
    if (!code && command->acquire >= 0)
        return predict_acquire_open(&output->acquired, command, shape, rows, provenance, error);
    if (!code && !command->sheet && (command->output || !command->metrics))
        code = predict_output_open_table(output, &like, provenance, error);
    return code;
}

void predict_output_close(struct predict_output *output)
{
    ivon_table_close(output->table);
    ivon_arviz_close(output->arviz);
    ivon_comparison_free(output->comparison);
    predict_calibration_close(output->calibrated);
    predict_further_close(output->further);
    predict_acquire_close(output->acquired);
    for (int i = 0; i < 3; i++) {
        free(output->scores[i]);
        free(output->foreign_scores[i]);
    }
    free(output->compared);
}

/* Keeps the scores of what counts; higher ones mean data of the training's kind. */
static void keep_scores(float **scores, size_t *at, const struct ivon_predictions *p,
                        const bool *counts, size_t rows)
{
    for (size_t i = 0; i < rows; i++) {
        if (counts && !counts[i])
            continue;
        scores[0][*at] = p->max_probability[i];
        scores[1][*at] = -p->entropy[i];
        scores[2][*at] = p->mutual_information ? -p->mutual_information[i] : 0;
        ++*at;
    }
}

static void count_infinite(struct predict_output *output, const struct ivon_predictions *p)
{
    size_t rows = p->loss ? p->count * rows_per_example(output) : 0;
    for (size_t i = 0; i < rows; i++)
        output->infinite += isinf(p->loss[i]) != 0;
}

static int write_table(struct predict_output *output, const struct ivon_predictions *p,
                       struct ivon_error *error)
{
    struct columns columns = predict_output_list_columns(output, p);
    count_infinite(output, p);
    return ivon_table_append(output->table, p->count, columns.data, error);
}

/* The examples of a block that have a position that counts, one after the other. */
struct observations {
    size_t count;
    int64_t *numbers;
    double *log_likelihoods;
    char *targets; /* or their replicates */
};

static void keep_observations(struct observations *kept, const struct ivon_predictions *p,
                              const double *log_likelihoods, const void *targets, size_t width)
{
    kept->count = 0;
    for (size_t i = 0; i < p->count; i++) {
        if (!p->positions[i])
            continue;
        kept->numbers[kept->count] = (int64_t)(p->first + i);
        if (log_likelihoods)
            kept->log_likelihoods[kept->count] = log_likelihoods[i];
        memcpy(kept->targets + kept->count * width, (const char *)targets + i * width, width);
        kept->count++;
    }
}

static int write_arviz(struct predict_output *output, const struct ivon_predictions *p,
                       struct ivon_error *error)
{
    const struct predict_command *command = output->command;
    size_t samples = (command->options.samples ? command->options.samples : 1) *
                     command->argument_count;
    const struct ivon_likelihood_traits *traits = ivon_likelihood_traits(
        command->options.task.likelihood);
    size_t width = rows_per_example(output) *
                   ivon_likelihood_targets(command->options.task.likelihood,
                                           output->shape.outputs) *
                   (traits->regression ? sizeof *p->targets : sizeof *p->labels);
    struct observations kept = {.numbers = calloc(p->count, sizeof *kept.numbers),
                                .log_likelihoods = calloc(p->count, sizeof *kept.log_likelihoods),
                                .targets = malloc(p->count * width)};
    int code = kept.numbers && kept.log_likelihoods && kept.targets ? 0 : error_memory(error);
    if (!code) {
        keep_observations(&kept, p, NULL, traits->regression ? (const void *)p->targets : p->labels,
                          width);
        code = ivon_arviz_observe(output->arviz, output->written, kept.count, kept.numbers,
                                  kept.targets, error);
    }
    for (size_t s = 0; s < samples && !code; s++) {
        const char *replicates = traits->regression ? (const char *)p->number_replicates
                                                    : (const char *)p->label_replicates;
        keep_observations(&kept, p, p->log_likelihoods + s * p->count,
                          replicates + s * p->count * width, width);
        code = ivon_arviz_write(output->arviz, s, output->written, kept.count, kept.log_likelihoods,
                                kept.targets, error);
    }
    output->written += kept.count;
    free(kept.numbers);
    free(kept.log_likelihoods);
    free(kept.targets);
    return code;
}

static int predict_output_compare(struct predict_output *output, const struct ivon_predictions *p,
                                  struct ivon_error *error)
{
    size_t rows = p->count * rows_per_example(output), all = rows * output->shape.outputs;
    float *grown = realloc(output->compared, all * sizeof *grown);
    if (!grown)
        return error_memory(error);
    output->compared = grown;
    int code = ivon_examples_read_f32(output->command->other, 0, p->first, p->count,
                                      output->compared, error);
    return code ? code
                : ivon_comparison_add(output->comparison, p->first * rows_per_example(output), rows,
                                      p->probabilities, output->compared, p->labels, p->counts,
                                      error);
}

int predict_output_take(void *context, const struct ivon_predictions *given,
                        struct ivon_error *error)
{
    struct predict_output *output = context;
    size_t rows = given->count * rows_per_example(output);
    struct ivon_predictions own = *given;
    const struct ivon_predictions *p = &own;
    int code = output->calibrated ? predict_calibrate(output->calibrated, false, &own, error) : 0;
    if (!code && output->further)
        code = predict_further_add(output->further, p, error);
    if (!code && output->acquired)
        code = predict_acquire_add(output->acquired, p, error);
    if (!code && output->table)
        code = write_table(output, p, error);
    if (!code && output->arviz)
        code = write_arviz(output, p, error);
    if (!code && output->comparison)
        code = predict_output_compare(output, p, error);
    if (!code && output->scores[0])
        keep_scores(output->scores, &output->score_count, p, p->counts, rows);
    return code;
}

/* Marks what counts in data of another kind: all, unless they have labels, of which some may be the
   one that is ignored; which classes the others are does not matter. */
static int mark_foreign(const struct predict_output *output, const struct ivon_predictions *p,
                        bool **counts, struct ivon_error *error)
{
    const struct predict_command *command = output->command;
    enum ivon_likelihood likelihood = command->options.task.likelihood;
    struct ivon_examples *foreign = command->foreign;
    size_t rows = p->count * rows_per_example(output), k = output->shape.outputs;
    size_t width = ivon_likelihood_traits(likelihood)->classes ? 1 : k;
    ptrdiff_t found = ivon_examples_find(foreign, evaluation_targets(&command->evaluation));
    const struct ivon_field *field = found < 0 ? NULL : ivon_examples_field(foreign, (size_t)found);
    if (!field || ivon_dtype_is_float(field->dtype) ||
        field->count != rows_per_example(output) * width)
        return 0;
    int64_t *labels = calloc(rows, width * sizeof *labels);
    *counts = calloc(rows, sizeof **counts);
    int code = labels && *counts ? ivon_examples_read_i64(foreign, (size_t)found, p->first,
                                                          p->count, labels, error)
                                 : error_memory(error);
    for (size_t i = 0; i < rows && !code; i++)
        (*counts)[i] = ivon_target_counts(likelihood, k, labels + i * width,
                                          command->options.task.ignored);
    free(labels);
    return code;
}

int predict_output_foreign(void *context, const struct ivon_predictions *given,
                           struct ivon_error *error)
{
    struct predict_output *output = context;
    size_t rows = given->count * rows_per_example(output);
    struct ivon_predictions own = *given;
    const struct ivon_predictions *p = &own;
    bool *counts = NULL;
    int code = output->calibrated ? predict_calibrate(output->calibrated, true, &own, error) : 0;
    if (!code)
        code = mark_foreign(output, p, &counts, error);
    if (!code)
        keep_scores(output->foreign_scores, &output->foreign_count, p, counts, rows);
    free(counts);
    return code;
}

/* Metrics. */

static json_t *list_json(const struct ivon_metric *metrics, size_t count)
{
    json_t *object = json_object();
    for (size_t i = 0; i < count; i++)
        json_object_set_new(object, metrics[i].name, predict_metric_json(&metrics[i], NAN));
    return object;
}

static const char *const score_names[3] = {"max_probability", "entropy", "mutual_information"};

static int detect(const struct predict_output *output, json_t *json, struct ivon_error *error)
{
    const struct predict_command *command = output->command;
    json_t *all = json_object();
    int code = 0;
    /* If nothing varies, the last score, mutual information, is zero for all; a calibration has
       none. */
    bool varies = ivon_predict_varies(&command->options, command->argument_count);
    int kinds = varies && !output->calibrated ? 3 : 2;
    for (int i = 0; i < kinds && !code; i++) {
        struct ivon_metric metrics[IVON_DETECTION_COUNT];
        char prefix[40];
        code = ivon_detection(metrics, output->scores[i], output->score_count,
                              output->foreign_scores[i], output->foreign_count, error);
        if (code)
            break;
        snprintf(prefix, sizeof prefix, "%s.", score_names[i]);
        for (int j = 0; j < IVON_DETECTION_COUNT && !json; j++)
            predict_print_metric(prefix, &metrics[j], NAN);
        json_object_set_new(all, score_names[i], list_json(metrics, IVON_DETECTION_COUNT));
    }
    if (json)
        json_object_set(json, "detection", all);
    json_decref(all);
    return code;
}

static void print_comparison(const struct predict_output *output, json_t *json)
{
    size_t count;
    const struct ivon_metric *values = ivon_comparison_values(output->comparison, &count);
    if (json)
        json_object_set_new(json, "compare", list_json(values, count));
    for (size_t i = 0; i < count && !json; i++)
        predict_print_metric("compare.", &values[i], NAN);
}

/* Adds the predictor's metrics and the further ones to the sheet. */
static int add_row(const struct predict_output *output, const struct ivon_predict_metric *metrics,
                   size_t count, struct ivon_error *error)
{
    struct predict_command *command = output->command;
    struct ivon_metric *all = calloc(count + PREDICT_FURTHER_MAX, sizeof *all);
    size_t more = 0;
    if (!all)
        return error_memory(error);
    for (size_t i = 0; i < count; i++)
        all[i] = metrics[i].metric;
    int code = predict_further_metrics(output->further, all + count, &more, error);
    if (!code) {
        predict_sheet_add(command->sheet, command->keys, all, count + more);
        command->keys = NULL;
    }
    free(all);
    return code;
}

/* Prints the predictor's metrics and the further ones, or adds them to the object. */
static int print_list(const struct predict_output *output,
                      const struct ivon_predict_metric *metrics, size_t count, json_t *json,
                      struct ivon_error *error)
{
    struct ivon_metric further[PREDICT_FURTHER_MAX];
    size_t more = 0;
    int code = predict_further_metrics(output->further, further, &more, error);
    json_t *list = json ? json_object() : NULL;
    for (size_t i = 0; i < count + more && !code; i++) {
        const struct ivon_metric *metric = i < count ? &metrics[i].metric : &further[i - count];
        double monte_carlo_error = i < count ? metrics[i].monte_carlo_error : NAN;
        if (json)
            json_object_set_new(list, metric->name, predict_metric_json(metric, monte_carlo_error));
        else
            predict_print_metric("", metric, monte_carlo_error);
    }
    if (json)
        json_object_set_new(json, "metrics", list);
    return code;
}

/* The posteriors, or predictions, with their weights. */
static json_t *inputs_json(const struct predict_command *command)
{
    json_t *inputs = json_array();
    for (size_t i = 0; i < command->argument_count; i++) {
        json_t *input = json_object();
        json_object_set_new(input, "path", report_json_text(command->arguments[i]));
        if (command->weights)
            json_object_set_new(input, "weight", report_json_number(command->weights[i]));
        json_array_append_new(inputs, input);
    }
    return inputs;
}

static int print_metrics(const struct predict_output *output,
                         const struct ivon_predict_metric *metrics, size_t count,
                         struct ivon_error *error)
{
    const struct predict_command *command = output->command;
    json_t *json = command->json ? json_object() : NULL;
    bool closed = command->options.method == IVON_PREDICT_LINEAR;
    if (json) {
        json_object_set_new(json, "inputs", inputs_json(command));
        json_object_set_new(json, "examples", json_integer((json_int_t)output->rows));
        json_object_set_new(json, "samples",
                            json_integer(closed ? 0 : (json_int_t)command->options.samples));
    } else {
        printf("%-36s %12s %16s %18s\n", "metric", "value", "standard_error", "monte_carlo_error");
    }
    int code = print_list(output, metrics, count, json, error);
    if (!code && output->scores[0])
        code = detect(output, json, error);
    if (!code && output->comparison)
        print_comparison(output, json);
    if (!code)
        predict_further_print(output->further, json);
    if (json && !code)
        report_json_line(json);
    else
        json_decref(json);
    return code;
}

/* An infinite metric is right, and seldom expected. */
static void warn_of_infinity(const struct ivon_predict_metric *metrics, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const struct ivon_metric *metric = &metrics[i].metric;
        if (!isinf(metric->value))
            continue;
        report_warning("%s is infinite: predictions leave some target next to no probability",
                       metric->name);
        return; /* what follows from it is, too */
    }
}

int predict_output_finish(struct predict_output *output, const struct ivon_predict_metric *metrics,
                          size_t metric_count, struct ivon_error *error)
{
    if (output->infinite && !output->command->common.quiet)
        report_warning("the loss of %llu rows is infinite: predictions leave their targets next to "
                       "no probability",
                       (unsigned long long)output->infinite);
    int code = output->table ? ivon_table_commit(output->table, error) : 0;
    if (!code && output->arviz)
        code = ivon_arviz_commit(output->arviz, error);
    if (!code && output->acquired)
        code = predict_acquire_finish(output->acquired, error);
    struct ivon_predict_metric *own = NULL;
    if (!code && output->calibrated && output->command->metrics)
        code = predict_calibration_metrics(output->calibrated, metrics, metric_count, &own,
                                           &metric_count, error);
    if (!code && output->command->metrics) {
        metrics = own ? own : metrics;
        if (!output->command->common.quiet)
            warn_of_infinity(metrics, metric_count);
        code = output->command->sheet ? add_row(output, metrics, metric_count, error)
                                      : print_metrics(output, metrics, metric_count, error);
    }
    free(own);
    return code;
}
