#define _GNU_SOURCE
#include "cmd/predict/predict.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/shared/command.h"
#include "cmd/shared/process/confine.h"
#include "cmd/shared/evaluation/groups.h"
#include "cmd/shared/memory.h"
#include "cmd/shared/process/progress.h"
#include "cmd/shared/process/ranks.h"
#include "cmd/shared/report.h"

static int predict_open_member(struct predict_command *command, size_t i, struct ivon_error *error)
{
    struct ivon_member *member = &command->members[i];
    member->weight = command->weights ? command->weights[i] : 1;
    return evaluation_open_posterior(&command->evaluation, command->arguments[i], &command->open,
                                     &command->common, &member->source, &member->network, error);
}

/* Opens the data of another kind. Their targets, where there are some, only say what counts. */
static int open_foreign(struct predict_command *command, struct ivon_error *error)
{
    struct ivon_dataset_options dataset = command->evaluation.dataset;
    dataset.targets_optional = true;
    return ivon_dataset_open(&command->foreign, command->ood, &dataset, error);
}

static int predict_open_data(struct predict_command *command, struct ivon_error *error)
{
    struct ivon_dataset_options dataset = command->evaluation.dataset;
    dataset.targets_optional = command->acquire >= 0;
    int code = evaluation_open_named(&command->evaluation, &command->examples,
                                     command->evaluation.data, &dataset, error);
    if (!code && command->ood)
        code = open_foreign(command, error);
    dataset = command->evaluation.dataset;
    dataset.targets = "";
    dataset.target_column = NULL;
    dataset.limit = 0;
    if (!code && command->recalibrate)
        code = ivon_dataset_open(&command->recalibration, command->recalibrate, &dataset, error);
    command->options.recalibrate = command->recalibration;
    return code;
}

static int make_predictors(struct predict_command *command, struct ivon_examples *examples,
                           struct ivon_error *error)
{
    /* Examples to label have no targets yet, or the label that is ignored. */
    const char *targets = command->acquire < 0 ? evaluation_targets(&command->evaluation) : NULL;
    struct ivon_predict_options foreign = command->options;
    if ((command->metrics || command->log_likelihoods) && ivon_examples_find(examples, targets) < 0)
        return evaluation_no_targets(command->evaluation.data, targets, error);
    struct ivon_member *members = command->members + command->first;
    int code = ivon_predictor_new(&command->predictor, members, command->member_count, examples,
                                  targets, &command->options, error);
    foreign.logits = foreign.log_likelihoods = foreign.nll_at_mean = false;
    if (!code && command->foreign)
        code = ivon_predictor_new(&command->foreign_predictor, members, command->member_count,
                                  command->foreign, NULL, &foreign, error);
    return code;
}

static int predict_open(struct predict_command *command, struct ivon_error *error)
{
    command->members = calloc(command->argument_count, sizeof *command->members);
    if (!command->members)
        memory_exhausted();
    command->options.resources.threads = command->common.threads;
    command->open.open.for_several = command->argument_count > 1;
    command->member_count = command->argument_count;
    int code = 0;
    for (size_t i = 0; i < command->argument_count && !code; i++)
        code = predict_open_member(command, i, error);
    if (!code)
        evaluation_name_inputs(&command->evaluation, command->members[0].network, NULL);
    return code ? code : predict_open_data(command, error);
}

/* Counts the targets, of which the metrics need some, and reads the groups. */
static int predict_count(struct predict_command *command, const struct ivon_predict_shape *shape,
                         struct ivon_error *error)
{
    int code = 0;
    if (shape->targets)
        code = ivon_positions_count(
            &command->positions, command->examples, evaluation_targets(&command->evaluation),
            command->options.task.likelihood, shape->outputs, command->options.task.ignored, error);
    if (!code && (command->metrics || command->log_likelihoods) && !command->positions.counted)
        code = evaluation_nothing_counts(&command->evaluation, command->evaluation.data, error);
    if (!code && command->groups)
        code = groups_read(&command->group_numbers, command->groups, &command->evaluation,
                           command->examples, error);
    return code;
}

/* Predicts `examples`, the data or those that were made of them. */
static int predict_examples(struct predict_command *command, struct ivon_examples *examples,
                            const char *provenance, struct ivon_error *error)
{
    struct predict_output output = {0};
    struct ivon_predict_shape shape = {0};
    size_t count = 0;
    ivon_predictor_free(command->predictor); /* of the row before */
    command->predictor = NULL;
    int code = make_predictors(command, examples, error);
    if (!code) {
        shape = ivon_predictor_shape(command->predictor);
        code = predict_count(command, &shape, error);
    }
    if (!code && ranks_first())
        code = predict_output_open(&output, command, &shape, ivon_examples_count(examples),
                                   provenance, error);
    if (!code)
        code = ivon_predictor_run(command->predictor, predict_output_take, &output, error);
    if (!code && command->foreign_predictor)
        code = ivon_predictor_run(command->foreign_predictor, predict_output_foreign, &output,
                                  error);
    if (!code && ranks_first()) {
        const struct ivon_predict_metric *metrics = ivon_predictor_metrics(command->predictor,
                                                                           &count);
        code = predict_output_finish(&output, metrics, count, error);
    }
    predict_output_close(&output);
    return code;
}

static int predict_each_shift(struct predict_command *command, struct ivon_error *error)
{
    int code = predict_shift_open(&command->shift, command, command->members[0].network, error);
    for (size_t i = 0; i < command->shift_count && !code; i++) {
        const struct predict_shifted *row = &command->shifts[i];
        struct ivon_examples *corrupted = NULL;
        command->keys = json_pack("{s:s, s:i}", "shift", ivon_corruption_name(row->corruption),
                                  "level", row->level);
        code = predict_shift_examples(command->shift, row, &corrupted, error);
        if (!code)
            code = predict_examples(command, corrupted ? corrupted : command->examples, NULL,
                                    error);
        ivon_examples_close(corrupted);
    }
    return code;
}

static const struct ivon_metric *find_nll(const struct ivon_predict_metric *metrics, size_t count)
{
    for (size_t i = 0; metrics && i < count; i++)
        if (strcmp(metrics[i].metric.name, "nll") == 0)
            return &metrics[i].metric;
    return NULL;
}

/* Averaging that makes the NLL half as large again as it is at the mean, and by more than
   chance. */
static void warn_of_width(const struct predict_command *command, const char *path)
{
    size_t count = 0;
    if (!command->predictor || !command->options.nll_at_mean)
        return;
    const struct ivon_predict_metric *metrics = ivon_predictor_metrics(command->predictor, &count);
    const struct ivon_metric *nll = find_nll(metrics, count);
    struct ivon_metric mean = ivon_predictor_nll_at_mean(command->predictor);
    if (!nll)
        return;
    double chance = 3 * hypot(nll->standard_error, mean.standard_error);
    double excess = nll->value - mean.value;
    if (excess > chance && excess > 0.5 * fabs(mean.value))
        report_warning("%s%saveraging makes predictions far worse: NLL %.4g, at the mean %.4g: the "
                       "posterior is too wide: take --mean, or narrow it by ivon-fit "
                       "--tune=validation",
                       path ? path : "", path ? ": " : "", nll->value, mean.value);
}

static int predict_each_posterior(struct predict_command *command, struct ivon_error *error)
{
    int code = 0;
    command->member_count = 1;
    for (size_t i = 0; i < command->argument_count && !code; i++) {
        command->first = i;
        command->keys = json_pack("{s:o}", "path", report_json_text(command->arguments[i]));
        code = predict_examples(command, command->examples, NULL, error);
        if (!code && !command->common.quiet)
            warn_of_width(command, command->arguments[i]);
    }
    return code;
}

static int predict(struct predict_command *command, const char *provenance,
                   struct ivon_error *error)
{
    int code = predict_open(command, error);
    if (code)
        return code;
    if (!command->each && !command->shift_count)
        return predict_examples(command, command->examples, provenance, error);
    code = predict_sheet_open(&command->sheet, command, error);
    if (!code)
        code = command->each ? predict_each_posterior(command, error)
                             : predict_each_shift(command, error);
    return code || !ranks_first() ? code : predict_sheet_finish(command->sheet, error);
}

static const char *predict_graph(const struct predict_command *command)
{
    return command->evaluation.model ? command->evaluation.model : command->arguments[0];
}

/* Prints the warnings about predictions that were made. */
static void predict_print_warnings(const struct predict_command *command)
{
    if (!command->average)
        draw_warn(&command->draw);
    open_warn_unused(&command->open);
    size_t fixed = command->predictor ? ivon_predictor_fixed(command->predictor) : 0;
    if (fixed)
        report_warning("%zu tensors have no Hessian and stay at their mean", fixed);
    if (command->predictor)
        evaluation_warn(command->predictor, command->examples, predict_graph(command));
    if (!command->each)
        warn_of_width(command, NULL);
}

static void predict_describe(const struct predict_command *command)
{
    char count[32];
    if (command->average) {
        report_note("averaged %zu files", command->argument_count);
        return;
    }
    report_count(ivon_examples_count(command->examples), count);
    if (command->options.method == IVON_PREDICT_LINEAR)
        report_note("predicted %s examples with a linearised network, in closed form", count);
    else if (command->options.method == IVON_PREDICT_LINEAR_DRAWS)
        report_note("predicted %s examples with %zu draws of a linearised network's outputs", count,
                    command->options.samples);
    else
        report_note("predicted %s examples with %zu samples of each of %zu posteriors", count,
                    command->options.samples, command->argument_count);
}

static void predict_release(struct predict_command *command)
{
    ivon_predictor_free(command->predictor);
    ivon_predictor_free(command->foreign_predictor);
    predict_shift_close(command->shift);
    predict_sheet_close(command->sheet);
    json_decref(command->keys);
    for (size_t i = 0; command->members && i < command->argument_count; i++) {
        ivon_network_free(command->members[i].network);
        ivon_source_close(command->members[i].source);
    }
    ivon_examples_close(command->examples);
    ivon_examples_close(command->recalibration);
    ivon_examples_close(command->foreign);
    ivon_examples_close(command->other);
    name_filter_release(&command->draw.filter);
    open_options_release(&command->open);
    free(command->members);
    free(command->weights);
    free(command->shifts);
    free(command->group_numbers);
    evaluation_release(&command->evaluation);
    free(command->arguments);
}

int predict_run(int argc, char **argv)
{
    struct predict_command command = {.options = ivon_predict_defaults(),
                                      .open.open = ivon_open_defaults(),
                                      .draw = draw_defaults(),
                                      .evaluation = evaluation_defaults(),
                                      .format = -1,
                                      .linear = -1,
                                      .acquire = -1,
                                      .risk = -1};
    struct ivon_error error = {0};
    struct progress progress;
    command.arguments = calloc((size_t)argc + 1, sizeof *command.arguments);
    if (!command.arguments)
        memory_exhausted();
    char *provenance = provenance_text(provenance_new(argc, argv));
    argp_parse(&predict_argp, argc, argv, 0, NULL, &command);
    const char *outputs[] = {command.output, command.log_likelihoods};
    confine(&(struct confinement){.off = command.open.open.no_sandbox,
                                  .outputs = outputs,
                                  .output_count = 2},
            argc, argv);
    command.options.resources.progress = progress_start(&progress, "predicting",
                                                        command.common.quiet);
    progress.unit = command.options.method == IVON_PREDICT_SAMPLES ? "examples x samples"
                                                                   : "examples";
    command.options.resources.ranks = ranks_joined();
    const char *text = command.files.no_provenance ? NULL : provenance;
    int code = command.average ? predict_average(&command, text, &error)
                               : predict(&command, text, &error);
    progress_end(&progress);
    int status = progress_status(code, &error);
    if (!code && !command.common.quiet)
        predict_print_warnings(&command);
    if (!code && command.common.verbose)
        predict_describe(&command);
    free(provenance);
    predict_release(&command);
    return status;
}
