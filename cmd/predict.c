#define _GNU_SOURCE
#include "cmd/predict/predict.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "cmd/shared/command.h"
#include "cmd/shared/confine.h"
#include "cmd/shared/groups.h"
#include "cmd/shared/memory.h"
#include "cmd/shared/progress.h"
#include "cmd/shared/report.h"
#include "cmd/shared/table_output.h"

enum {
    KEY_MEAN = 256,
    KEY_METHOD,
    KEY_LINEAR,
    KEY_WEIGHTS,
    KEY_RECALIBRATE,
    KEY_AVERAGE,
    KEY_FORMAT,
    KEY_LOGITS,
    KEY_LOG_LIKELIHOODS,
    KEY_METRICS,
    KEY_JSON,
    KEY_BINS,
    KEY_OOD,
    KEY_COMPARE,
    KEY_CALIBRATION,
    KEY_RISK,
    KEY_BY_CLASS,
    KEY_GROUPS,
    KEY_ACQUIRE,
    KEY_TOP,
    KEY_SHIFT,
    KEY_IMAGE_SHAPE,
};

static const struct argp_option option_table[] = {
    OPTION_HEADING("Prediction:", 2),
    OPTION_HEADING("Output:", 3),
    OPTION_HEADING("Metrics:", 4),
    OPTION_HEADING("Running:", 5),
    {"samples", 'n', "N", 0, "Average over N weight samples (default 64)", 2},
    {"mean", KEY_MEAN, NULL, 0, "Predict with the posterior mean alone", 2},
    {"method", KEY_METHOD, "samples|linear", 0,
     "Average over weights, or linearise the network at the mean (default samples)", 2},
    {"linear", KEY_LINEAR, "probit|draws", 0,
     "Of --method=linear: in closed form, or by draws of outputs (default probit)", 2},
    {"weights", KEY_WEIGHTS, "W,W,...", 0, "Weights of the posteriors (default: equal)", 2},
    {"recalibrate", KEY_RECALIBRATE, "DATA", 0,
     "Compute batch-norm statistics anew from DATA for every sample", 2},
    {"average", KEY_AVERAGE, NULL, 0, "Average predictions from files, in place of posteriors", 2},
    {"calibration", KEY_CALIBRATION, "FILE", 0,
     "Calibrate predictions as FILE of ivon-calibrate says, with its sets or intervals", 2},
    {"output", 'o', "FILE", 0, "Write predictions to FILE (default: CSV on standard output)", 3},
    {"format", KEY_FORMAT, "csv|jsonl|npy|hdf5", 0, "Format (default: by FILE's suffix)", 3},
    {"logits", KEY_LOGITS, NULL, 0, "Write the outputs at the mean, too", 3},
    {"log-likelihoods", KEY_LOG_LIKELIHOODS, "FILE", 0,
     "Write every sample's log-likelihoods, for ArviZ", 3},
    {"acquire", KEY_ACQUIRE, "SCORE", 0,
     "Print which examples to label next, best first, by bald, entropy, variation-ratio, margin or "
     "batchbald",
     3},
    {"top", KEY_TOP, "N", 0, "How many examples --acquire prints (default 10)", 3},
    {"metrics", KEY_METRICS, NULL, 0, "Print accuracy, NLL, calibration and the like", 4},
    {"json", KEY_JSON, NULL, 0, "Print the metrics in JSON", 4},
    {"bins", KEY_BINS, "N", 0, "Bins of the calibration errors (default 15)", 4},
    {"risk", KEY_RISK, "X", 0, "Tell how many predictions can be kept at a share X of wrong ones",
     4},
    {"by-class", KEY_BY_CLASS, NULL, 0, "Metrics of each class, too", 4},
    {"groups", KEY_GROUPS, "ARRAY", 0, "Metrics of each group of examples, too", 4},
    {"ood", KEY_OOD, "DATA", 0, "Measure how well DATA is told from the data", 4},
    {"compare", KEY_COMPARE, "FILE", 0, "Compare with the predictions in FILE", 4},
    {"shift", KEY_SHIFT, "KIND[:LEVELS]", 0,
     "Metrics on images corrupted by noise, impulse, blur, pixelate, contrast, brightness or all, "
     "at levels such as 3 or 0..5 (default 0..5); may be repeated",
     4},
    {"image-shape", KEY_IMAGE_SHAPE, "CxHxW", 0,
     "Of --shift: channels, height and width of an image", 4},
    {0},
};

static error_t parse_method_option(int key, const char *argument, struct argp_state *state)
{
    struct predict_command *command = state->input;
    bool first;
    switch (key) {
    case KEY_METHOD:
        first = strcmp(argument, "samples") == 0;
        if (!first && strcmp(argument, "linear") != 0)
            argp_failure(state, EX_USAGE, 0, "--method: '%s', expected samples or linear",
                         argument);
        command->options.method = first ? IVON_PREDICT_SAMPLES : IVON_PREDICT_LINEAR;
        return 0;
    case KEY_LINEAR:
        first = strcmp(argument, "probit") == 0;
        if (!first && strcmp(argument, "draws") != 0)
            argp_failure(state, EX_USAGE, 0, "--linear: '%s', expected probit or draws", argument);
        command->linear = first ? IVON_PREDICT_LINEAR : IVON_PREDICT_LINEAR_DRAWS;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static error_t predict_parse_number_option(int key, char *argument, struct argp_state *state)
{
    struct predict_command *command = state->input;
    struct ivon_predict_options *options = &command->options;
    switch (key) {
    case 'n':
        options->samples = (size_t)option_whole(state, "--samples", argument, 1, 1000000);
        command->samples_given = true;
        return 0;
    case KEY_BINS:
        options->bins = (int)option_whole(state, "--bins", argument, 1, 65536);
        return 0;
    case KEY_TOP:
        command->top = (size_t)option_whole(state, "--top", argument, 1, INT64_MAX / 2);
        return 0;
    case KEY_ACQUIRE:
        command->acquire = predict_acquisition_of(state, argument);
        return 0;
    default:
        return parse_method_option(key, argument, state);
    }
}

static error_t parse_data_option(int key, char *argument, struct argp_state *state)
{
    struct predict_command *command = state->input;
    switch (key) {
    case KEY_RECALIBRATE:
        command->recalibrate = argument;
        return 0;
    case KEY_OOD:
        command->ood = argument;
        return 0;
    case KEY_COMPARE:
        command->compare = argument;
        return 0;
    case KEY_GROUPS:
        command->groups = argument;
        return 0;
    case KEY_SHIFT:
        predict_parse_shift(command, state, argument);
        return 0;
    case KEY_IMAGE_SHAPE:
        predict_parse_image_shape(command, state, argument);
        return 0;
    case KEY_RISK:
        command->risk = option_number(state, "--risk", argument);
        if (!(command->risk >= 0 && command->risk <= 1))
            argp_failure(state, EX_USAGE, 0, "--risk: '%s', expected a number from 0 to 1",
                         argument);
        return 0;
    case KEY_CALIBRATION:
        command->calibration = argument;
        return 0;
    case KEY_FORMAT:
        command->format = table_output_parse(state, argument);
        return 0;
    case KEY_WEIGHTS:
        free(command->weights); /* of an option before: the last one counts */
        command->weights = option_weights(state, argument, &command->weight_count);
        return 0;
    default:
        return predict_parse_number_option(key, argument, state);
    }
}

static void predict_take_options(struct predict_command *command)
{
    bool regression = ivon_likelihood_traits(command->evaluation.task.likelihood)->regression;
    /* A calibration makes probabilities, and what they are worth, anew. */
    bool own = !command->calibration || regression;
    if (command->mean)
        command->options.samples = 0;
    command->options.metrics = command->metrics && own;
    command->options.descriptions = (command->metrics || command->format != IVON_NPY) && own;
    command->options.nll_at_mean = command->metrics && !command->mean && own &&
                                   !command->shift_count;
    command->options.sample = command->draw.sample;
    command->options.sample_outputs = command->acquire == IVON_ACQUIRE_BATCHBALD;
    command->options.task = command->evaluation.task;
    command->options.batch = command->evaluation.batch;
    command->options.resources.memory = command->evaluation.memory;
    command->evaluation.dataset.no_sandbox = command->open.open.no_sandbox;
}

/* A linearised network is that of one posterior at its mean. */
static void predict_check_method(struct predict_command *command, struct argp_state *state)
{
    struct ivon_predict_options *options = &command->options;
    const struct ivon_likelihood_traits *traits = ivon_likelihood_traits(
        command->evaluation.task.likelihood);
    bool linear = options->method == IVON_PREDICT_LINEAR;
    if (command->linear >= 0 && !linear)
        argp_failure(state, EX_USAGE, 0, "--linear needs --method=linear");
    if (linear && (command->mean || command->average || command->recalibrate))
        argp_failure(state, EX_USAGE, 0,
                     "--method=linear goes with none of --mean, --average and --recalibrate");
    if (linear && command->argument_count > 1)
        argp_failure(state, EX_USAGE, 0, "--method=linear takes one posterior, %zu are given",
                     command->argument_count);
    if (command->linear >= 0)
        options->method = (enum ivon_predict_method)command->linear;
    if (options->method != IVON_PREDICT_LINEAR)
        return;
    if (command->samples_given || command->log_likelihoods)
        argp_failure(state, EX_USAGE, 0,
                     "the closed form draws nothing: --samples and --log-likelihoods need "
                     "--linear=draws");
    if (command->metrics && traits->regression && !traits->noise)
        argp_failure(state, EX_USAGE, 0,
                     "the likelihood %s has no closed form: --metrics need --linear=draws",
                     traits->name);
}

/* Options of metrics need these, and some of them a likelihood. */
static void predict_check_metrics(const struct predict_command *command, struct argp_state *state)
{
    const struct ivon_likelihood_traits *traits = ivon_likelihood_traits(
        command->evaluation.task.likelihood);
    if (traits->regression && (command->ood || command->compare))
        argp_failure(state, EX_USAGE, 0, "--ood and --compare are for classes, not regression");
    if (command->json && !command->metrics)
        argp_failure(state, EX_USAGE, 0, "--json prints metrics: it needs --metrics");
    if ((command->ood || command->compare) && !command->metrics)
        argp_failure(state, EX_USAGE, 0, "--ood and --compare need --metrics");
    if ((command->risk >= 0 || command->by_class || command->groups) && !command->metrics)
        argp_failure(state, EX_USAGE, 0, "--risk, --by-class and --groups need --metrics");
    if (traits->regression && command->risk >= 0)
        argp_failure(state, EX_USAGE, 0, "--risk is for classes and events, not regression");
    if (!traits->classes && command->by_class)
        argp_failure(state, EX_USAGE, 0, "--by-class is for --likelihood=categorical");
}

static void predict_choose_format(struct predict_command *command, struct argp_state *state)
{
    const char *file = table_output_file(command->output);
    if (command->shift_count && command->json && command->format < 0 && !file)
        command->format = IVON_JSONL;
    command->format = command->acquire < 0 ? (int)table_output_format(state, file, command->format)
                                           : (int)table_output_rows(state, file, command->format);
}

static void predict_check_arguments(struct predict_command *command, struct argp_state *state)
{
    const struct ivon_likelihood_traits *traits = ivon_likelihood_traits(
        command->evaluation.task.likelihood);
    if (!command->argument_count)
        argp_failure(state, EX_USAGE, 0, "no %s given; see --help",
                     command->average ? "predictions" : "posterior");
    if (!command->evaluation.data && !command->average)
        argp_failure(state, EX_USAGE, 0, "no data given: name them by --data=FILE");
    if (command->weights && command->weight_count != command->argument_count)
        argp_failure(state, EX_USAGE, 0, "--weights: %zu weights for %zu arguments",
                     command->weight_count, command->argument_count);
    predict_check_metrics(command, state);
    if (traits->regression && command->average)
        argp_failure(state, EX_USAGE, 0, "--average takes probabilities, not regression");
    if (command->average && (command->ood || command->recalibrate || command->options.logits ||
                             command->log_likelihoods || command->mean ||
                             command->evaluation.model || command->evaluation.graph.given))
        argp_failure(state, EX_USAGE, 0,
                     "--average runs no network: --model, --mean, --logits, --log-likelihoods, "
                     "--recalibrate, --ood and what is said of a graph do not go with it");
    if ((command->log_likelihoods || command->metrics) && traits->noise &&
        !(command->evaluation.task.noise_std > 0))
        argp_failure(state, EX_USAGE, 0,
                     "the likelihood of a regression's targets needs their --noise-std");
    if (command->mean && command->samples_given)
        argp_failure(state, EX_USAGE, 0, "--mean takes no --samples");
    predict_choose_format(command, state);
    if (command->evaluation.task.noise_std > 0 && !traits->noise)
        argp_failure(state, EX_USAGE, 0, "--noise-std is for --likelihood=gaussian");
    if (command->average && command->open.given)
        argp_failure(state, EX_USAGE, 0,
                     "--average opens no checkpoint: --key, --hessian, --hessian-from, "
                     "--batch-size and --buffers do not go with it");
    if (command->average && (command->draw.given || command->samples_given))
        argp_failure(
            state, EX_USAGE, 0,
            "--average draws nothing: --samples, --seed, --posterior-temperature, --include and "
            "--exclude do not go with it");
    if (command->calibration && command->log_likelihoods)
        argp_failure(state, EX_USAGE, 0,
                     "--log-likelihoods are those of samples, which --calibration says nothing of");
    open_check_hessian(&command->open, command->argument_count > 1, state);
    bool random = command->shift_count && !command->draw.tempered && !command->draw.filter.count;
    if (command->mean && command->draw.given && !random)
        argp_failure(
            state, EX_USAGE, 0,
            "--mean draws nothing: --seed, --posterior-temperature, --include and --exclude do not "
            "go with it");
    predict_check_method(command, state);
    predict_take_options(command);
    predict_check_acquire(command, state);
    predict_check_shift(command, state);
}

static error_t predict_parse(int key, char *argument, struct argp_state *state)
{
    struct predict_command *command = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &command->common;
        state->child_inputs[1] = &command->draw;
        state->child_inputs[2] = &command->files;
        state->child_inputs[3] = &command->open;
        state->child_inputs[4] = &command->evaluation;
        state->child_inputs[5] = &command->evaluation.graph.bind;
        return 0;
    case ARGP_KEY_ARG:
        command->arguments[command->argument_count++] = argument;
        return 0;
    case ARGP_KEY_END:
        predict_check_arguments(command, state);
        return 0;
    case 'o':
        command->output = argument;
        return 0;
    case KEY_MEAN:
        command->mean = true;
        return 0;
    case KEY_AVERAGE:
        command->average = true;
        return 0;
    case KEY_LOGITS:
        command->options.logits = true;
        return 0;
    case KEY_LOG_LIKELIHOODS:
        command->log_likelihoods = argument;
        command->options.log_likelihoods = true;
        return 0;
    case KEY_BY_CLASS:
        command->by_class = true;
        return 0;
    case KEY_METRICS:
        command->metrics = true;
        return 0;
    case KEY_JSON:
        command->json = true;
        return 0;
    default:
        return parse_data_option(key, argument, state);
    }
}

static const struct argp_child children[] = {{&common_argp, 0, NULL, 0},
                                             {&draw_argp, 0, NULL, 0},
                                             {&file_argp, 0, NULL, 0},
                                             {&open_argp, 0, NULL, 0},
                                             {&evaluation_argp, 0, NULL, 0},
                                             {&bind_argp, 0, NULL, 0},
                                             {0}};

const struct argp predict_argp = {
    .options = option_table,
    .parser = predict_parse,
    .args_doc = "POSTERIOR...",
    .doc = "Average predictions over weights sampled from posteriors.\v"
           "Examples:\n"
           "  ivon-predict posterior.h5 --data=test.h5 -o predictions.csv\n"
           "  ivon-predict posterior.h5 --data=test.h5 --method=linear --metrics\n"
           "\nSeveral posteriors are an ensemble. See ivon-predict(1).",
    .children = children,
};

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
    int code = ivon_predictor_new(&command->predictor, command->members, command->argument_count,
                                  examples, targets, &command->options, error);
    foreign.logits = foreign.log_likelihoods = foreign.nll_at_mean = false;
    if (!code && command->foreign)
        code = ivon_predictor_new(&command->foreign_predictor, command->members,
                                  command->argument_count, command->foreign, NULL, &foreign, error);
    return code;
}

static int predict_open(struct predict_command *command, struct ivon_error *error)
{
    command->members = calloc(command->argument_count, sizeof *command->members);
    if (!command->members)
        memory_exhausted();
    command->options.resources.threads = command->common.threads;
    command->open.open.for_several = command->argument_count > 1;
    int code = 0;
    for (size_t i = 0; i < command->argument_count && !code; i++)
        code = predict_open_member(command, i, error);
    if (!code)
        evaluation_name_inputs(&command->evaluation, command->members[0].network, NULL);
    else
        evaluation_check_exchange(&command->evaluation, code, error);
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
        code = evaluation_nothing_counts(&command->evaluation, error);
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
    int code = make_predictors(command, examples, error);
    if (!code) {
        shape = ivon_predictor_shape(command->predictor);
        code = predict_count(command, &shape, error);
    }
    if (!code)
        code = predict_output_open(&output, command, &shape, ivon_examples_count(examples),
                                   provenance, error);
    if (!code)
        code = ivon_predictor_run(command->predictor, predict_output_take, &output, error);
    if (!code && command->foreign_predictor)
        code = ivon_predictor_run(command->foreign_predictor, predict_output_foreign, &output,
                                  error);
    if (!code) {
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
        struct ivon_examples *corrupted = NULL;
        ivon_predictor_free(command->predictor);
        command->predictor = NULL;
        code = predict_shift_examples(command->shift, &corrupted, error);
        if (!code)
            code = predict_examples(command, corrupted ? corrupted : command->examples, NULL,
                                    error);
        ivon_examples_close(corrupted);
    }
    return code ? code : predict_shift_finish(command->shift, error);
}

static int predict(struct predict_command *command, const char *provenance,
                   struct ivon_error *error)
{
    int code = predict_open(command, error);
    if (code)
        return code;
    return command->shift_count ? predict_each_shift(command, error)
                                : predict_examples(command, command->examples, provenance, error);
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
static void warn_of_width(const struct predict_command *command)
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
        report_warning("averaging makes predictions far worse: NLL %.4g, at the mean %.4g: the "
                       "posterior is too wide",
                       nll->value, mean.value);
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
    warn_of_width(command);
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
