#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/calibrate/calibrate.h"
#include "cmd/shared/report.h"

enum { DIGITS = 17 };

static json_t *calibrate_metric(const struct ivon_metric *metric)
{
    json_t *object = json_object();
    json_object_set_new(object, "value", report_json_number(metric->value));
    json_object_set_new(object, "standard_error", report_json_number(metric->standard_error));
    return object;
}

static json_t *calibrate_effects(const struct calibrate_command *command)
{
    json_t *object = json_object();
    for (size_t i = 0; i < command->effect_count; i++) {
        json_t *effect = json_object();
        json_object_set_new(effect, "before", calibrate_metric(&command->effects[i].before));
        json_object_set_new(effect, "after", calibrate_metric(&command->effects[i].after));
        json_object_set_new(object, command->effects[i].before.name, effect);
    }
    return object;
}

int calibrate_write(const struct calibrate_command *command, json_t *provenance,
                    struct ivon_error *error)
{
    char creator[64], *text = NULL;
    int code = ivon_calibration_print(command->calibration, &text, error);
    json_t *root = code ? NULL : json_loads(text, 0, NULL);
    free(text);
    if (!code && !root)
        return error_memory(error);
    snprintf(creator, sizeof creator, "ivon-calibrate %s", ivon_version());
    json_object_set_new(root, "validation", calibrate_effects(command));
    json_object_set_new(root, "creator", json_string(creator));
    if (provenance)
        json_object_set(root, "provenance", provenance);
    text = code ? NULL : json_dumps(root, JSON_INDENT(1) | JSON_REAL_PRECISION(DIGITS));
    json_decref(root);
    if (!code && !text)
        return error_memory(error);
    size_t size = text ? strlen(text) : 0;
    if (!code) {
        text[size] = '\n'; /* in place of the null byte */
        code = ivon_output_write(command->output, text, size + 1, command->files.force, error);
    }
    free(text);
    return code;
}

static void print_json(const struct calibrate_command *command,
                       const struct ivon_calibration_summary *summary)
{
    json_t *root = json_object();
    json_object_set_new(root, "rows", json_integer((json_int_t)command->rows.count));
    json_object_set_new(root, "folds", json_integer((json_int_t)command->folds));
    if (!isnan(summary->temperature))
        json_object_set_new(root, "temperature", report_json_number(summary->temperature));
    if (!isnan(summary->quantile))
        json_object_set_new(root, "quantile", report_json_number(summary->quantile));
    json_object_set_new(root, "metrics", calibrate_effects(command));
    report_json_line(root);
}

void calibrate_print(const struct calibrate_command *command)
{
    struct ivon_calibration_summary summary = ivon_calibration_summary(command->calibration);
    if (command->json) {
        print_json(command, &summary);
        return;
    }
    printf("%-12s %12s %16s %12s %16s\n", "metric", "before", "standard_error", "after",
           "standard_error");
    for (size_t i = 0; i < command->effect_count; i++) {
        const struct ivon_metric *before = &command->effects[i].before;
        const struct ivon_metric *after = &command->effects[i].after;
        printf("%-12s %12.6g %16.3g %12.6g %16.3g\n", before->name, report_number(before->value),
               report_number(before->standard_error), report_number(after->value),
               report_number(after->standard_error));
    }
}
