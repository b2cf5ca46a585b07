#define _GNU_SOURCE
#include "cmd/calibrate/calibrate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "cmd/shared/command.h"
#include "cmd/shared/process/confine.h"
#include "cmd/shared/process/progress.h"
#include "cmd/shared/outputs/provenance.h"
#include "cmd/shared/report.h"

enum {
    KEY_METHOD = 256,
    KEY_CONFORMAL,
    KEY_COVERAGE,
    KEY_RAPS_PENALTY,
    KEY_RAPS_FREE,
    KEY_FOLDS,
    KEY_MEAN,
    KEY_JSON,
};

static const struct argp_option option_table[] = {
    OPTION_HEADING("Calibration:", 2),
    OPTION_HEADING("Of a posterior:", 3),
    OPTION_HEADING("Output:", 4),
    OPTION_HEADING("Running:", 5),
    {"method", KEY_METHOD, IVON_CALIBRATION_METHOD_NAMES, 0,
     "How probabilities are recalibrated (default temperature)", 2},
    {"conformal", KEY_CONFORMAL, IVON_CONFORMAL_NAMES, 0,
     "Scores of sets of classes, or of intervals (default none, of regression absolute)", 2},
    {"coverage", KEY_COVERAGE, "X", 0, "How often these hold the truth (default 0.9)", 2},
    {"raps-penalty", KEY_RAPS_PENALTY, "X", 0, "Of raps: the penalty of a rank (default 0.01)", 2},
    {"raps-free", KEY_RAPS_FREE, "N", 0, "Of raps: ranks without a penalty (default 5)", 2},
    {"folds", KEY_FOLDS, "N", 0, "Folds of the cross-validation (default 5)", 2},
    {"samples", 'n', "N", 0, "Of a posterior: average over N weight samples (default 64)", 3},
    {"mean", KEY_MEAN, NULL, 0, "Of a posterior: predict with its mean alone", 3},
    {"output", 'o', "FILE", 0, "Write the calibration to FILE", 4},
    {"json", KEY_JSON, NULL, 0, "Print the report in JSON", 4},
    {0},
};

/* Fills in the choices that the likelihood leaves. */
static void calibrate_settle_choices(struct calibrate_command *command, struct argp_state *state)
{
    struct ivon_calibrate_options *options = &command->options;
    const struct ivon_likelihood_traits *traits = ivon_likelihood_traits(
        command->evaluation.task.likelihood);
    options->likelihood = command->evaluation.task.likelihood;
    if (traits->regression && !command->method_given)
        options->method = IVON_CALIBRATION_NONE;
    if (traits->regression && options->method != IVON_CALIBRATION_NONE)
        argp_failure(state, EX_USAGE, 0,
                     "--method recalibrates probabilities of classes or events; of regression "
                     "there is --conformal");
    if (traits->regression && !command->conformal_given)
        options->conformal = IVON_CONFORMAL_ABSOLUTE;
    if (options->conformal != IVON_CONFORMAL_NONE && !traits->classes && !traits->regression)
        argp_failure(state, EX_USAGE, 0,
                     "--conformal sets are of classes: there are none for --likelihood=%s",
                     traits->name);
    if (options->conformal != IVON_CONFORMAL_NONE &&
        traits->regression != (options->conformal >= IVON_CONFORMAL_ABSOLUTE))
        argp_failure(state, EX_USAGE, 0, "--conformal: of %s",
                     traits->regression ? "regression there are absolute and normalised"
                                        : "classes there are thr, aps and raps");
    if (options->method == IVON_CALIBRATION_NONE && options->conformal == IVON_CONFORMAL_NONE)
        argp_failure(state, EX_USAGE, 0,
                     "neither a --method nor --conformal scores: nothing to calibrate");
    if (command->coverage_given && options->conformal == IVON_CONFORMAL_NONE)
        argp_failure(state, EX_USAGE, 0, "--coverage is for --conformal");
    if (command->raps_given && options->conformal != IVON_CONFORMAL_RAPS)
        argp_failure(state, EX_USAGE, 0, "--raps-penalty and --raps-free are for --conformal=raps");
}

static void calibrate_check_arguments(struct calibrate_command *command, struct argp_state *state)
{
    const struct evaluation_options *evaluation = &command->evaluation;
    if (!command->argument)
        argp_failure(state, EX_USAGE, 0, "no predictions or posterior given; see --help");
    if (!evaluation->data)
        argp_failure(state, EX_USAGE, 0, "no held-out data given: name them by --data=FILE");
    calibrate_settle_choices(command, state);
    if (evaluation->task.noise_std > 0 &&
        !ivon_likelihood_traits(evaluation->task.likelihood)->noise)
        argp_failure(state, EX_USAGE, 0, "--noise-std is for --likelihood=gaussian");
    if (command->mean && command->samples_given)
        argp_failure(state, EX_USAGE, 0, "--mean takes no --samples");
    if (command->mean && (command->draw.tempered || command->draw.filter.count))
        argp_failure(state, EX_USAGE, 0,
                     "--mean draws nothing: --posterior-temperature, --include and --exclude do "
                     "not go with it");
    if (command->mean)
        command->predict.samples = 0;
    command->options.seed = command->draw.sample.seed;
    command->predict.sample = command->draw.sample;
    command->predict.task = evaluation->task;
    command->predict.batch = evaluation->batch;
    command->predict.resources.memory = evaluation->memory;
    command->predict.resources.threads = command->common.threads;
    command->predict.metrics = command->predict.descriptions = false;
    command->evaluation.dataset.no_sandbox = command->open.open.no_sandbox;
}

/* A number between 0 and 1. */
static double calibrate_parse_coverage(struct argp_state *state, const char *argument)
{
    double coverage = option_positive(state, "--coverage", argument);
    if (!(coverage < 1))
        argp_failure(state, EX_USAGE, 0, "--coverage: '%s', expected more than 0 and less than 1",
                     argument);
    return coverage;
}

static error_t calibrate_parse_choice(int key, char *argument, struct argp_state *state)
{
    struct calibrate_command *command = state->input;
    struct ivon_calibrate_options *options = &command->options;
    switch (key) {
    case KEY_METHOD:
        options->method = (enum ivon_calibration_method)option_choice_of(
            state, "--method", argument, IVON_CALIBRATION_METHOD_NAMES);
        command->method_given = true;
        return 0;
    case KEY_CONFORMAL:
        options->conformal = (enum ivon_conformal)option_choice_of(state, "--conformal", argument,
                                                                   IVON_CONFORMAL_NAMES);
        command->conformal_given = true;
        return 0;
    case KEY_COVERAGE:
        options->coverage = calibrate_parse_coverage(state, argument);
        command->coverage_given = true;
        return 0;
    case KEY_RAPS_PENALTY:
        options->penalty = option_number(state, "--raps-penalty", argument);
        if (!(options->penalty >= 0))
            argp_failure(state, EX_USAGE, 0, "--raps-penalty: '%s', expected 0 or more", argument);
        command->raps_given = true;
        return 0;
    case KEY_RAPS_FREE:
        options->free_ranks = (size_t)option_whole(state, "--raps-free", argument, 0, INT32_MAX);
        command->raps_given = true;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static error_t calibrate_parse(int key, char *argument, struct argp_state *state)
{
    struct calibrate_command *command = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &command->common;
        state->child_inputs[1] = &command->draw;
        state->child_inputs[2] = &command->files;
        state->child_inputs[3] = &command->evaluation;
        state->child_inputs[4] = &command->open;
        state->child_inputs[5] = &command->evaluation.graph.bind;
        return 0;
    case ARGP_KEY_ARG:
        if (command->argument)
            argp_failure(state, EX_USAGE, 0, "'%s': one argument only", argument);
        command->argument = argument;
        return 0;
    case ARGP_KEY_END:
        calibrate_check_arguments(command, state);
        return 0;
    case KEY_FOLDS:
        command->folds = (size_t)option_whole(state, "--folds", argument, 2, 1000);
        return 0;
    case 'n':
        command->predict.samples = (size_t)option_whole(state, "--samples", argument, 1, 1000000);
        command->samples_given = true;
        return 0;
    case KEY_MEAN:
        command->mean = true;
        return 0;
    case 'o':
        command->output = argument;
        return 0;
    case KEY_JSON:
        command->json = true;
        return 0;
    default:
        return calibrate_parse_choice(key, argument, state);
    }
}

static const struct argp_child children[] = {{&common_argp, 0, NULL, 0},
                                             {&draw_argp, 0, NULL, 0},
                                             {&file_argp, 0, NULL, 0},
                                             {&evaluation_argp, 0, NULL, 0},
                                             {&open_argp, 0, NULL, 0},
                                             {&bind_argp, 0, NULL, 0},
                                             {0}};

const struct argp calibrate_argp = {
    .options = option_table,
    .parser = calibrate_parse,
    .args_doc = "PREDICTIONS|POSTERIOR",
    .doc = "Calibrate predictions by held-out data.\v"
           "Examples:\n"
           "  ivon-calibrate posterior.h5 --data=held.h5 --conformal=aps -o sets.json\n"
           "  ivon-calibrate predictions.csv --data=test.h5 -o temperature.json\n"
           "\nProbabilities that mean what they say, and sets that hold the truth as often as is "
           "asked for. See ivon-calibrate(1).",
    .children = children,
};

static int calibrate(struct calibrate_command *command, json_t *provenance,
                     struct ivon_error *error)
{
    const struct calibrate_rows *rows = &command->rows;
    int code = output_refuse(command->output, command->files.force, error);
    if (!code)
        code = calibrate_collect(command, error);
    struct ivon_calibration_data data = {.rows = rows->count,
                                         .numbers = rows->numbers,
                                         .tokens = rows->tokens,
                                         .probabilities = rows->probabilities,
                                         .labels = rows->labels,
                                         .means = rows->means,
                                         .deviations = rows->deviations_known ? rows->deviations
                                                                              : NULL,
                                         .targets = rows->targets};
    struct ivon_error inner = {0};
    if (code)
        return code;
    code = ivon_calibration_fit(&command->calibration, &command->options, &data, &inner);
    if (!code)
        code = ivon_calibration_validate(command->effects, &command->effect_count,
                                         &command->options, command->folds, &data, &inner);
    if (code)
        return error_fill(error, code, "%s: %s", command->evaluation.data, inner.message);
    return command->output ? calibrate_write(command, provenance, error) : 0;
}

/* Says what was fitted, and warns of what cannot be relied upon. */
static void calibrate_report(const struct calibrate_command *command)
{
    struct ivon_calibration_summary summary = ivon_calibration_summary(command->calibration);
    if (!isnan(summary.temperature))
        report_note("temperature %.6g, fitted to %llu rows", summary.temperature,
                    (unsigned long long)summary.fitted);
    if (summary.temperature == 64 || summary.temperature == 1.0 / 64)
        report_warning("the temperature is at its bound: the held-out rows %s",
                       summary.temperature > 1 ? "are predicted worse than by chance"
                                               : "are all predicted right, or are too few");
    if (isinf(summary.quantile))
        report_warning("%llu rows are too few for a coverage of %g, expected %.0f or more: %s",
                       (unsigned long long)summary.scored, summary.coverage,
                       ceil(summary.coverage / (1 - summary.coverage) - 1e-9),
                       ivon_likelihood_traits(summary.likelihood)->classes
                           ? "sets hold all classes"
                           : "intervals are infinite");
    else if (!isnan(summary.quantile))
        report_note("threshold %.6g, from %llu rows", summary.quantile,
                    (unsigned long long)summary.scored);
    if (!command->predictor)
        return;
    draw_warn(&command->draw);
    open_warn_unused(&command->open);
    evaluation_warn(command->predictor, command->examples,
                    command->evaluation.model ? command->evaluation.model : command->argument);
}

static void calibrate_release(struct calibrate_command *command)
{
    ivon_calibration_free(command->calibration);
    ivon_predictor_free(command->predictor);
    ivon_network_free(command->network);
    ivon_source_close(command->source);
    ivon_examples_close(command->examples);
    for (size_t i = 0; i < 3; i++)
        ivon_examples_close(command->predictions[i]);
    calibrate_rows_release(&command->rows);
    name_filter_release(&command->draw.filter);
    open_options_release(&command->open);
    evaluation_release(&command->evaluation);
}

int calibrate_run(int argc, char **argv)
{
    struct calibrate_command command = {.predict = ivon_predict_defaults(),
                                        .options = ivon_calibrate_defaults(),
                                        .open.open = ivon_open_defaults(),
                                        .draw = draw_defaults(),
                                        .evaluation = evaluation_defaults(),
                                        .folds = 5};
    struct ivon_error error = {0};
    struct progress progress;
    json_t *provenance = provenance_new(argc, argv);
    argp_parse(&calibrate_argp, argc, argv, 0, NULL, &command);
    confine(&(struct confinement){.off = command.open.open.no_sandbox,
                                  .outputs = &command.output,
                                  .output_count = 1},
            argc, argv);
    command.predict.resources.progress = progress_start(&progress, "predicting",
                                                        command.common.quiet);
    progress.unit = "examples x samples";
    int code = calibrate(&command, command.files.no_provenance ? NULL : provenance, &error);
    progress_end(&progress);
    int status = progress_status(code, &error);
    if (!code && !command.common.quiet)
        calibrate_report(&command);
    if (!code)
        calibrate_print(&command);
    json_decref(provenance);
    calibrate_release(&command);
    return status;
}
