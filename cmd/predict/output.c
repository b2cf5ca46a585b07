/* The outputs together: each is opened, takes every block, and is completed. */
#include <stdlib.h>

#include "cmd/predict/output.h"
#include "cmd/shared/report.h"

static int open_comparison(struct predict_output *output, struct ivon_error *error)
{
    struct predict_command *command = output->command;
    static const char *const inputs[] = {"probabilities"};
    struct ivon_dataset_options options = {.size = sizeof options,
                                           .inputs = inputs,
                                           .input_count = 1,
                                           .targets = "",
                                           .column_prefix = "p",
                                           .no_scaling = true,
                                           .no_sandbox = command->evaluation.dataset.no_sandbox};
    size_t each = predict_rows_per_example(output) * output->shape.outputs;
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
        code = predict_open_log_likelihoods(output, error);
    if (!code && command->compare)
        code = open_comparison(output, error);
    if (!code && command->ood)
        code = predict_open_detection(output, error);
    if (!code && command->metrics)
        code = predict_further_open(&output->further, command, shape, rows, error);
    if (!code && command->acquire >= 0)
        return predict_acquire_open(&output->acquired, command, shape, rows, provenance, error);
    if (!code && !command->sheet && (command->output || !command->metrics))
        code = predict_open_table(output, &like, provenance, error);
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

static int predict_output_compare(struct predict_output *output, const struct ivon_predictions *p,
                                  struct ivon_error *error)
{
    size_t rows = p->count * predict_rows_per_example(output), all = rows * output->shape.outputs;
    float *grown = realloc(output->compared, all * sizeof *grown);
    if (!grown)
        return error_memory(error);
    output->compared = grown;
    int code = ivon_examples_read_f32(output->command->other, 0, p->first, p->count,
                                      output->compared, error);
    return code ? code
                : ivon_comparison_add(
                      output->comparison, p->first * predict_rows_per_example(output), rows,
                      p->probabilities, output->compared, p->labels, p->counts, error);
}

int predict_output_take(void *context, const struct ivon_predictions *given,
                        struct ivon_error *error)
{
    struct predict_output *output = context;
    struct ivon_predictions own = *given;
    const struct ivon_predictions *p = &own;
    int code = output->calibrated ? predict_calibrate(output->calibrated, false, &own, error) : 0;
    if (!code && output->further)
        code = predict_further_add(output->further, p, error);
    if (!code && output->acquired)
        code = predict_acquire_add(output->acquired, p, error);
    if (!code && output->table)
        code = predict_write_table(output, p, error);
    if (!code && output->arviz)
        code = predict_write_log_likelihoods(output, p, error);
    if (!code && output->comparison)
        code = predict_output_compare(output, p, error);
    if (!code && output->scores[0])
        predict_keep_scores(output, p);
    return code;
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
            predict_warn_of_infinity(metrics, metric_count);
        code = output->command->sheet ? predict_add_to_sheet(output, metrics, metric_count, error)
                                      : predict_print_metrics(output, metrics, metric_count, error);
    }
    free(own);
    return code;
}
