/* The options of ivon-predict. */
#define _GNU_SOURCE
#include "cmd/predict/predict.h"

#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "cmd/shared/command.h"
#include "cmd/shared/outputs/table.h"

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
    KEY_EACH,
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
    {"each", KEY_EACH, NULL, 0, "Metrics of each posterior by itself, a row each", 4},
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
    case KEY_EACH:
        command->each = true;
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
    if (linear && command->argument_count > 1 && !command->each)
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

/* --shift and --each print a row of metrics for each of several predictions. */
static void predict_check_sheet(const struct predict_command *command, struct argp_state *state)
{
    const char *option = command->each ? "--each" : "--shift";
    if (!command->shift_count && !command->each)
        return;
    if (command->shift_count && command->each)
        argp_failure(state, EX_USAGE, 0, "give one of --each and --shift");
    if (!command->metrics)
        argp_failure(state, EX_USAGE, 0, "%s prints metrics: it needs --metrics", option);
    if (command->average || command->ood || command->compare || command->by_class ||
        command->groups || command->log_likelihoods || command->options.logits ||
        command->acquire >= 0)
        argp_failure(state, EX_USAGE, 0,
                     "%s prints a row of metrics for each prediction: --average, --ood, --compare, "
                     "--by-class, --groups, --log-likelihoods, --logits and --acquire do not go "
                     "with it",
                     option);
    if (command->each && command->weights)
        argp_failure(state, EX_USAGE, 0,
                     "--weights are of posteriors that are averaged: not with "
                     "--each");
    if (command->format != IVON_CSV && command->format != IVON_JSONL)
        argp_failure(state, EX_USAGE, 0, "%s prints text: write CSV or JSON Lines", option);
    if (command->json && command->output && command->format != IVON_JSONL)
        argp_failure(state, EX_USAGE, 0, "--json prints JSON Lines: -o names another format");
}

static void predict_choose_format(struct predict_command *command, struct argp_state *state)
{
    const char *file = table_output_file(command->output);
    if ((command->shift_count || command->each) && command->json && command->format < 0 && !file)
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
    predict_check_sheet(command, state);
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
