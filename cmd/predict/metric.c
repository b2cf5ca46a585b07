/* Metrics as objects, or a line of one. */
#include <stdio.h>
#include <stdlib.h>

#include "cmd/predict/predict.h"
#include "cmd/shared/memory.h"
#include "cmd/shared/report.h"

json_t *predict_metric_json(const struct ivon_metric *metric, double monte_carlo_error)
{
    json_t *object = json_object();
    json_object_set_new(object, "value", report_json_number(metric->value));
    json_object_set_new(object, "standard_error", report_json_number(metric->standard_error));
    if (!isnan(monte_carlo_error))
        json_object_set_new(object, "monte_carlo_error", report_json_number(monte_carlo_error));
    return object;
}

json_t *predict_metrics_json(const struct ivon_metric *metrics, size_t count)
{
    json_t *object = json_object();
    for (size_t i = 0; i < count; i++)
        json_object_set_new(object, metrics[i].name, predict_metric_json(&metrics[i], NAN));
    return object;
}

void predict_print_metric(const char *prefix, const struct ivon_metric *metric,
                          double monte_carlo_error)
{
    char *name = xasprintf("%s%s", prefix, metric->name);
    printf("%-36s %12.6g %16.3g %18.3g\n", name, report_number(metric->value),
           report_number(metric->standard_error), report_number(monte_carlo_error));
    free(name);
}
