/* Scores that tell data of another kind, which --ood names, from those of the training's. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "cmd/predict/output.h"
#include "cmd/shared/report.h"

static int allocate_scores(float **scores, size_t rows, struct ivon_error *error)
{
    for (int i = 0; i < 3; i++) {
        scores[i] = calloc(rows + 1, sizeof **scores);
        if (!scores[i])
            return error_memory(error);
    }
    return 0;
}

int predict_open_detection(struct predict_output *output, struct ivon_error *error)
{
    size_t each = predict_rows_per_example(output);
    int code = allocate_scores(output->scores, output->rows * each, error);
    return code ? code
                : allocate_scores(output->foreign_scores,
                                  ivon_examples_count(output->command->foreign) * each, error);
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

void predict_keep_scores(struct predict_output *output, const struct ivon_predictions *p)
{
    keep_scores(output->scores, &output->score_count, p, p->counts,
                p->count * predict_rows_per_example(output));
}

/* Marks what counts in data of another kind: all, unless they have labels, of which some may be the
   one that is ignored; which classes the others are does not matter. */
static int mark_foreign(const struct predict_output *output, const struct ivon_predictions *p,
                        bool **counts, struct ivon_error *error)
{
    const struct predict_command *command = output->command;
    enum ivon_likelihood likelihood = command->options.task.likelihood;
    struct ivon_examples *foreign = command->foreign;
    size_t rows = p->count * predict_rows_per_example(output), k = output->shape.outputs;
    size_t width = ivon_likelihood_traits(likelihood)->classes ? 1 : k;
    ptrdiff_t found = ivon_examples_find(foreign, evaluation_targets(&command->evaluation));
    const struct ivon_field *field = found < 0 ? NULL : ivon_examples_field(foreign, (size_t)found);
    if (!field || ivon_dtype_is_float(field->dtype) ||
        field->count != predict_rows_per_example(output) * width)
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
    size_t rows = given->count * predict_rows_per_example(output);
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

static const char *const score_names[3] = {"max_probability", "entropy", "mutual_information"};

int predict_detect(const struct predict_output *output, json_t *json, struct ivon_error *error)
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
        json_object_set_new(all, score_names[i],
                            predict_metrics_json(metrics, IVON_DETECTION_COUNT));
    }
    if (json)
        json_object_set(json, "detection", all);
    json_decref(all);
    return code;
}
