/* The metrics of all parts of an output, printed or added to a sheet. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "cmd/predict/output.h"
#include "cmd/shared/report.h"

static void print_comparison(const struct predict_output *output, json_t *json)
{
    size_t count;
    const struct ivon_metric *values = ivon_comparison_values(output->comparison, &count);
    if (json)
        json_object_set_new(json, "compare", predict_metrics_json(values, count));
    for (size_t i = 0; i < count && !json; i++)
        predict_print_metric("compare.", &values[i], NAN);
}

/* Adds the predictor's metrics and the further ones to the sheet. */
int predict_add_to_sheet(const struct predict_output *output,
                         const struct ivon_predict_metric *metrics, size_t count,
                         struct ivon_error *error)
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

int predict_print_metrics(const struct predict_output *output,
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
        code = predict_detect(output, json, error);
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
void predict_warn_of_infinity(const struct ivon_predict_metric *metrics, size_t count)
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
