#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cmd/shared/memory.h"
#include "cmd/shared/report.h"
#include "cmd/sensitivity/sensitivity.h"

/* A file's identity; of DATA also without what comes after its colon. */
static json_t *file_identity(const char *path)
{
    struct stat status;
    if (!path)
        return json_null();
    const char *colon = strrchr(path, ':');
    char *file = colon && stat(path, &status) ? strndup(path, (size_t)(colon - path))
                                              : strdup(path);
    json_t *identity = json_array();
    if (file && stat(file, &status) == 0) {
        json_array_append_new(identity, json_integer((json_int_t)status.st_size));
        json_array_append_new(identity, json_integer((json_int_t)status.st_mtim.tv_sec));
        json_array_append_new(identity, json_integer((json_int_t)status.st_mtim.tv_nsec));
    }
    json_array_append_new(identity, report_json_text(path));
    free(file);
    return identity;
}

char *sensitivity_describe_run(const struct sensitivity_command *command,
                               const struct ivon_sensitivity_shape *shape)
{
    const struct ivon_sensitivity_options *options = &command->options;
    const struct evaluation_options *evaluation = &command->evaluation;
    json_t *run = json_pack(
        "{s:o, s:o, s:o, s:o, s:i, s:i, s:i, s:b, s:b, s:b, s:o, s:o, s:o, s:I, s:I, s:I, s:I, "
        "s:I, s:i}",
        "posterior", file_identity(command->posterior), "model", file_identity(evaluation->model),
        "data", file_identity(evaluation->data), "on", file_identity(command->on), "likelihood",
        (int)options->task.likelihood, "covariance", (int)options->covariance, "scores",
        (int)options->scores, "vectors", command->vectors, "covariances", options->covariances,
        "tokens", command->per_token, "rho", report_json_number(shape->rho), "noise",
        report_json_number(options->task.noise_std), "temperature",
        report_json_number(options->sample.temperature), "ignored",
        (json_int_t)options->task.ignored, "samples", (json_int_t)options->samples, "seed",
        (json_int_t)options->sample.seed, "batch", (json_int_t)options->batch, "memory",
        (json_int_t)options->resources.memory, "leverage", (int)options->leverage);
    json_t *patterns = json_array();
    for (size_t i = 0; i < command->draw.filter.count; i++) {
        json_array_append_new(patterns, json_boolean(command->draw.filter.excludes[i]));
        json_array_append_new(patterns, report_json_text(command->draw.filter.patterns[i]));
    }
    for (size_t i = 0; i < command->open.buffers.count; i++)
        json_array_append_new(patterns, report_json_text(command->open.buffers.patterns[i]));
    json_array_append_new(patterns, report_json_text(command->open.open.key));
    json_array_append_new(patterns, file_identity(command->open.open.hessian));
    json_array_append_new(patterns, json_integer((json_int_t)command->open.open.hessian_from));
    json_array_append_new(patterns, report_json_number(command->open.open.batch));
    for (size_t i = 0; i < command->open.open.parameter_count; i++)
        json_array_append_new(patterns, report_json_text(command->open.parameters[i]));
    json_array_append_new(patterns, report_json_text(evaluation->dataset.targets));
    json_array_append_new(patterns, report_json_text(evaluation->dataset.target_column));
    json_array_append_new(patterns, report_json_text(evaluation->dataset.text_column));
    json_array_append_new(patterns, file_identity(evaluation->dataset.vocabulary));
    json_array_append_new(patterns, json_integer((json_int_t)evaluation->dataset.limit));
    json_array_append_new(patterns, json_boolean(evaluation->dataset.no_scaling));
    const size_t sizes[] = {evaluation->dataset.context, evaluation->dataset.stride,
                            evaluation->dataset.image_height, evaluation->dataset.image_width,
                            evaluation->dataset.image_short_side};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        json_array_append_new(patterns, json_integer((json_int_t)sizes[i]));
    json_array_append_new(patterns, json_integer((json_int_t)ivon_examples_count(command->whole)));
    if (evaluation->graph.given)
        json_array_append_new(patterns, graph_options_json(&evaluation->graph));
    for (size_t i = 0; i < evaluation->dataset.input_count; i++)
        json_array_append_new(patterns, report_json_text(evaluation->dataset.inputs[i]));
    for (size_t i = 0; i < evaluation->dataset.channel_count; i++) {
        json_array_append_new(patterns, report_json_number(evaluation->dataset.mean[i]));
        json_array_append_new(patterns, report_json_number(evaluation->dataset.std[i]));
    }
    json_object_set_new(run, "reading", patterns);
    char *text = json_dumps(run, JSON_SORT_KEYS | JSON_COMPACT);
    json_decref(run);
    if (!text)
        memory_exhausted();
    return text;
}
