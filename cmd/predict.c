#define _GNU_SOURCE
#include "cmd/predict.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "cmd/command.h"
#include "cmd/progress.h"
#include "cmd/report.h"

enum {
    KEY_MODEL = 256,
    KEY_INPUTS,
    KEY_TARGETS,
    KEY_TARGET_COLUMN,
    KEY_NORMALIZE,
    KEY_LIMIT,
    KEY_BATCH,
    KEY_MEAN,
    KEY_WEIGHTS,
    KEY_LIKELIHOOD,
    KEY_NOISE_STD,
    KEY_IGNORE_LABEL,
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
    KEY_MEMORY,
};

static const struct argp_option option_table[] = {
    {"model", KEY_MODEL, "GRAPH", 0, "ONNX graph (default: the one inside the checkpoint)", 1},
    {"data", 'd', "DATA", 0, "Data: FILE.h5:/GROUP, .npz, .npy, IDX or CSV", 1},
    {"inputs", KEY_INPUTS, "INPUT=ARRAY,...", 0,
     "Arrays that feed the graph's inputs (default: x)", 1},
    {"targets", KEY_TARGETS, "ARRAY", 0, "Array of targets (default: y, where there is one)", 1},
    {"target-column", KEY_TARGET_COLUMN, "COLUMN", 0, "CSV: column of targets", 1},
    {"normalize", KEY_NORMALIZE, "none|MEAN,STD;...", 0,
     "Normalize inputs, per channel (default: bytes are divided by 255)", 1},
    {"limit", KEY_LIMIT, "N", 0, "Take the first N examples only", 1},
    {"batch", KEY_BATCH, "N", 0, "Examples at a time in one thread", 1},
    {"samples", 'n', "N", 0, "Average over N weight samples (default 64)", 2},
    {"mean", KEY_MEAN, NULL, 0, "Predict with the posterior mean alone", 2},
    {"weights", KEY_WEIGHTS, "W,W,...", 0, "Weights of the posteriors (default: equal)", 2},
    {"likelihood", KEY_LIKELIHOOD, "categorical|bernoulli|gaussian", 0,
     "What the outputs are to the targets (default categorical)", 2},
    {"noise-std", KEY_NOISE_STD, "X", 0, "Gaussian: standard deviation of the targets", 2},
    {"ignore-label", KEY_IGNORE_LABEL, "N", 0, "Class that is passed over (default -100)", 2},
    {"recalibrate", KEY_RECALIBRATE, "DATA", 0,
     "Compute batch-norm statistics anew from DATA for every sample", 2},
    {"average", KEY_AVERAGE, NULL, 0, "Average predictions from files, in place of posteriors", 2},
    {"output", 'o', "FILE", 0, "Write predictions to FILE (default: CSV on standard output)", 3},
    {"format", KEY_FORMAT, "csv|jsonl|npy|hdf5", 0, "Format (default: by FILE's suffix)", 3},
    {"logits", KEY_LOGITS, NULL, 0, "Write the outputs at the mean, too", 3},
    {"log-likelihoods", KEY_LOG_LIKELIHOODS, "FILE", 0,
     "Write every sample's log-likelihoods, for ArviZ", 3},
    {"metrics", KEY_METRICS, NULL, 0, "Print accuracy, NLL, calibration and the like", 4},
    {"json", KEY_JSON, NULL, 0, "Print the metrics in JSON", 4},
    {"bins", KEY_BINS, "N", 0, "Bins of the calibration errors (default 15)", 4},
    {"ood", KEY_OOD, "DATA", 0, "Measure how well DATA is told from the data", 4},
    {"compare", KEY_COMPARE, "FILE", 0, "Compare with the predictions in FILE", 4},
    {"memory", KEY_MEMORY, "SIZE", 0, "Memory for data and sums (default 256M)", 5},
    {0},
};

/* W,W,...: positive numbers. */
static void parse_weights(struct predict_command *command, struct argp_state *state,
                          const char *text)
{
    char *end;
    free(command->weights);
    command->weights = calloc(strlen(text) + 1, sizeof *command->weights);
    if (!command->weights)
        exit(EX_OSERR);
    command->weight_count = 0;
    for (const char *at = text;; at = end + 1) {
        double weight = strtod(at, &end);
        if (end == at || (*end && *end != ',') || !(weight > 0) || !isfinite(weight))
            argp_failure(state, EX_USAGE, 0, "--weights: '%s', expected positive numbers, such as "
                         "1,2,1", text);
        command->weights[command->weight_count++] = weight;
        if (!*end)
            return;
    }
}

/* none, or MEAN,STD for all or for each channel, separated by semicolons. */
static void parse_normalize(struct predict_command *command, struct argp_state *state,
                            const char *text)
{
    struct ivon_dataset_options *dataset = &command->dataset;
    size_t room = strlen(text) + 1, count = 0;
    command->channel_mean = calloc(room, sizeof(double));
    command->channel_std = calloc(room, sizeof(double));
    if (!command->channel_mean || !command->channel_std)
        exit(EX_OSERR);
    dataset->no_scaling = strcmp(text, "none") == 0;
    for (const char *at = text; *at && !dataset->no_scaling;) {
        int length = 0;
        if (sscanf(at, "%lf,%lf%n", &command->channel_mean[count], &command->channel_std[count],
                   &length) != 2 ||
            !(command->channel_std[count] > 0) || (at[length] && at[length] != ';'))
            argp_failure(state, EX_USAGE, 0,
                         "--normalize: '%s', expected none or MEAN,STD, for each channel separated "
                         "by ';'",
                         text);
        count++;
        at += length + (at[length] == ';');
    }
    dataset->mean = command->channel_mean;
    dataset->std = command->channel_std;
    dataset->channel_count = count;
}

/* A class, of either sign. */
static int64_t option_label(struct argp_state *state, const char *text)
{
    bool negative = *text == '-';
    int64_t size = (int64_t)option_whole(state, "--ignore-label", text + negative, 0, INT64_MAX);
    return negative ? -size : size;
}

static error_t parse_number_option(int key, char *argument, struct argp_state *state)
{
    struct predict_command *command = state->input;
    struct ivon_predict_options *options = &command->options;
    switch (key) {
    case 'n':
        options->samples = (size_t)option_whole(state, "--samples", argument, 1, 1000000);
        command->samples_given = true;
        return 0;
    case KEY_LIMIT:
        command->dataset.limit = option_whole(state, "--limit", argument, 1, INT64_MAX);
        return 0;
    case KEY_BATCH:
        options->batch = (size_t)option_whole(state, "--batch", argument, 1, 1 << 20);
        return 0;
    case KEY_BINS:
        options->bins = (int)option_whole(state, "--bins", argument, 1, 65536);
        return 0;
    case KEY_NOISE_STD:
        options->noise_std = option_number(state, "--noise-std", argument);
        if (!(options->noise_std > 0))
            argp_failure(state, EX_USAGE, 0, "--noise-std: '%s', expected a positive number",
                         argument);
        return 0;
    case KEY_IGNORE_LABEL:
        options->ignored = option_label(state, argument);
        return 0;
    case KEY_MEMORY:
        options->memory = option_size(state, "--memory", argument);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static error_t parse_data_option(int key, char *argument, struct argp_state *state)
{
    static const char *const likelihoods[] = {"categorical", "bernoulli", "gaussian"};
    static const char *const formats[] = {"csv", "jsonl", "npy", "hdf5"};
    struct predict_command *command = state->input;
    switch (key) {
    case KEY_MODEL:
        command->model = argument;
        return 0;
    case 'd':
        command->data = argument;
        return 0;
    case KEY_INPUTS:
        command->inputs = argument;
        return 0;
    case KEY_TARGETS:
        command->dataset.targets = argument;
        return 0;
    case KEY_TARGET_COLUMN:
        command->dataset.target_column = argument;
        return 0;
    case KEY_NORMALIZE:
        parse_normalize(command, state, argument);
        return 0;
    case KEY_RECALIBRATE:
        command->recalibrate = argument;
        return 0;
    case KEY_OOD:
        command->ood = argument;
        return 0;
    case KEY_COMPARE:
        command->compare = argument;
        return 0;
    case KEY_LIKELIHOOD:
        command->options.likelihood = (enum ivon_likelihood)option_choice(
            state, "--likelihood", argument, likelihoods, 3);
        return 0;
    case KEY_FORMAT:
        command->format = option_choice(state, "--format", argument, formats, 4);
        return 0;
    case KEY_WEIGHTS:
        parse_weights(command, state, argument);
        return 0;
    default:
        return parse_number_option(key, argument, state);
    }
}

static void check_arguments(struct predict_command *command, struct argp_state *state)
{
    bool gaussian = command->options.likelihood == IVON_GAUSSIAN;
    if (!command->argument_count)
        argp_failure(state, EX_USAGE, 0, "no posterior given; see --help");
    if (!command->data && !command->average)
        argp_failure(state, EX_USAGE, 0, "no data given: name them by --data=FILE");
    if (command->weights && command->weight_count != command->argument_count)
        argp_failure(state, EX_USAGE, 0, "--weights: %zu weights for %zu arguments",
                     command->weight_count, command->argument_count);
    if (gaussian && (command->ood || command->compare))
        argp_failure(state, EX_USAGE, 0, "--ood and --compare are for classes, not regression");
    if (gaussian && command->average)
        argp_failure(state, EX_USAGE, 0, "--average takes probabilities, not regression");
    if (command->average && (command->ood || command->recalibrate || command->options.logits ||
                             command->log_likelihoods || command->mean || command->model))
        argp_failure(state, EX_USAGE, 0,
                     "--average runs no network: --model, --mean, --logits, --log-likelihoods, "
                     "--recalibrate and --ood do not go with it");
    if ((command->log_likelihoods || command->metrics) && gaussian &&
        !(command->options.noise_std > 0))
        argp_failure(state, EX_USAGE, 0,
                     "the likelihood of a regression's targets needs their --noise-std");
    if (command->mean && command->samples_given)
        argp_failure(state, EX_USAGE, 0, "--mean takes no --samples");
    if (command->json && !command->metrics)
        argp_failure(state, EX_USAGE, 0, "--json prints metrics: it needs --metrics");
    if ((command->ood || command->compare) && !command->metrics)
        argp_failure(state, EX_USAGE, 0, "--ood and --compare need --metrics");
    if (command->format < 0 && command->output)
        command->format = ivon_table_format_of(command->output);
    if (command->format < 0 && command->output)
        argp_failure(state, EX_USAGE, 0, "-o: '%s' has no known suffix: name its --format",
                     command->output);
    if (command->options.noise_std > 0 && !gaussian)
        argp_failure(state, EX_USAGE, 0, "--noise-std is for --likelihood=gaussian");
    if (command->average && command->open.given)
        argp_failure(state, EX_USAGE, 0,
                     "--average opens no checkpoint: --key, --hessian, --hessian-from, "
                     "--batch-size and --buffers do not go with it");
    if (command->average && (command->draw.given || command->samples_given))
        argp_failure(state, EX_USAGE, 0,
                     "--average draws nothing: --samples, --seed, --temperature, --include and "
                     "--exclude do not go with it");
    if (command->mean && command->draw.given)
        argp_failure(state, EX_USAGE, 0,
                     "--mean draws nothing: --seed, --temperature, --include and --exclude do not "
                     "go with it");
    if (command->mean)
        command->options.samples = 0;
    command->options.sample = command->draw.sample;
    command->dataset.no_sandbox = command->open.open.no_sandbox;
}

static error_t parse(int key, char *argument, struct argp_state *state)
{
    struct predict_command *command = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &command->common;
        state->child_inputs[1] = &command->draw;
        state->child_inputs[2] = &command->files;
        state->child_inputs[3] = &command->open;
        return 0;
    case ARGP_KEY_ARG:
        command->arguments[command->argument_count++] = argument;
        return 0;
    case ARGP_KEY_END:
        check_arguments(command, state);
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

static const struct argp_child children[] = {
    {&common_argp, 0, NULL, 0},
    {&draw_argp, 0, NULL, 0},
    {&file_argp, 0, NULL, 0},
    {&open_argp, 0, NULL, 0},
    {0}};

const struct argp predict_argp = {
    .options = option_table,
    .parser = parse,
    .args_doc = "POSTERIOR...",
    .doc = "Average predictions over weights sampled from posteriors.\v"
           "Several posteriors are an ensemble. See ivon-predict(1).",
    .children = children,
};

/* INPUT=ARRAY,...: splits the text in place. */
static int split_inputs(struct predict_command *command, struct ivon_error *error)
{
    size_t room = command->inputs ? strlen(command->inputs) + 1 : 1;
    command->names = calloc(room, sizeof *command->names);
    command->fields = calloc(room, sizeof *command->fields);
    if (!command->names || !command->fields)
        exit(EX_OSERR);
    size_t count = 0, named = 0;
    for (char *at = command->inputs; at && *at;) {
        char *comma = strchr(at, ','), *equals;
        if (comma)
            *comma = '\0';
        equals = strchr(at, '=');
        if (equals) {
            *equals = '\0';
            command->names[named++] = (struct ivon_feed_name){at, equals + 1};
        }
        command->fields[count++] = equals ? equals + 1 : at;
        at = comma ? comma + 1 : NULL;
    }
    if (named && named != count)
        return error_fill(error, IVON_ERROR_ARGUMENT,
                          "--inputs: name the graph's input for each array: INPUT=ARRAY");
    command->dataset.inputs = count ? command->fields : NULL;
    command->dataset.input_count = count;
    command->options.names = command->names;
    command->options.name_count = named;
    return 0;
}

static int open_member(struct predict_command *command, size_t i, struct ivon_error *error)
{
    struct ivon_member *member = &command->members[i];
    member->weight = command->weights ? command->weights[i] : 1;
    const char *path = command->arguments[i];
    int code = open_checkpoint(&member->source, path, &command->open, 0, &command->common, error);
    if (!code && !command->model &&
        ivon_source_find(member->source, IVON_GRAPH, ivon_part_name(IVON_GRAPH)) < 0)
        code = error_fill(error, IVON_ERROR_DATA,
                          "%s: holds no graph: name one by --model=GRAPH.onnx", path);
    if (!code)
        code = command->model ? ivon_onnx_open(&member->network, command->model, error)
                              : ivon_onnx_from_checkpoint(&member->network, member->source, error);
    if (!code)
        code = bind_checkpoint(member->network, member->source, path, &command->common, error);
    return code;
}

static int open_data(struct predict_command *command, struct ivon_error *error)
{
    int code = split_inputs(command, error);
    struct ivon_dataset_options dataset = command->dataset;
    if (!code)
        code = ivon_dataset_open(&command->examples, command->data, &dataset, error);
    dataset.targets = "";
    dataset.target_column = NULL;
    if (!code && command->ood)
        code = ivon_dataset_open(&command->foreign, command->ood, &dataset, error);
    dataset.limit = 0;
    if (!code && command->recalibrate)
        code = ivon_dataset_open(&command->recalibration, command->recalibrate, &dataset, error);
    command->options.recalibrate = command->recalibration;
    return code;
}

static int make_predictors(struct predict_command *command, struct ivon_error *error)
{
    const char *targets = command->dataset.targets ? command->dataset.targets : "y";
    struct ivon_predict_options foreign = command->options;
    int code = ivon_predictor_new(&command->predictor, command->members, command->argument_count,
                                  command->examples, targets, &command->options, error);
    foreign.logits = foreign.log_likelihoods = false;
    if (!code && command->foreign)
        code = ivon_predictor_new(&command->foreign_predictor, command->members,
                                  command->argument_count, command->foreign, NULL, &foreign,
                                  error);
    if (!code && (command->metrics || command->log_likelihoods) &&
        !ivon_predictor_shape(command->predictor).targets)
        code = error_fill(error, IVON_ERROR_DATA,
                          "%s: has no array '%s' of targets to measure by: --targets names another",
                          command->data, targets);
    return code;
}

static int predict(struct predict_command *command, const char *provenance,
                   struct ivon_error *error)
{
    struct predict_output output = {0};
    size_t count = 0;
    command->members = calloc(command->argument_count, sizeof *command->members);
    if (!command->members)
        exit(EX_OSERR);
    command->options.threads = command->common.threads;
    command->open.open.for_several = command->argument_count > 1;
    int code = open_data(command, error);
    for (size_t i = 0; i < command->argument_count && !code; i++)
        code = open_member(command, i, error);
    if (!code)
        code = make_predictors(command, error);
    if (!code) {
        struct ivon_predict_shape shape = ivon_predictor_shape(command->predictor);
        code = predict_output_open(&output, command, &shape,
                                   ivon_examples_count(command->examples), provenance, error);
    }
    if (!code)
        code = ivon_predictor_run(command->predictor, predict_output_take, &output, error);
    if (!code && command->foreign_predictor)
        code = ivon_predictor_run(command->foreign_predictor, predict_output_foreign, &output,
                                  error);
    if (!code) {
        const struct ivon_predict_metric *metrics =
            ivon_predictor_metrics(command->predictor, &count);
        code = predict_output_finish(&output, metrics, count, error);
    }
    predict_output_close(&output);
    return code;
}

/* What the user should know although the predictions were made. */
static void print_warnings(const struct predict_command *command)
{
    const char *unused = name_filter_unused(&command->draw.filter);
    if (unused && !command->average)
        report_warning("pattern '%s' matches no tensor", unused);
    open_warn_unused(&command->open);
    size_t fixed = command->predictor ? ivon_predictor_fixed(command->predictor) : 0;
    if (fixed)
        report_warning("%zu tensors have no Hessian and stay at their mean", fixed);
}

static void describe(const struct predict_command *command)
{
    char count[32];
    if (command->average) {
        report_note("averaged %zu files", command->argument_count);
        return;
    }
    report_note("predicted %s examples with %zu samples of each of %zu posteriors",
                report_count(ivon_examples_count(command->examples), count),
                command->options.samples, command->argument_count);
}

static void release(struct predict_command *command)
{
    ivon_predictor_free(command->predictor);
    ivon_predictor_free(command->foreign_predictor);
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
    free(command->names);
    free(command->fields);
    free(command->weights);
    free(command->channel_mean);
    free(command->channel_std);
    free(command->arguments);
}

int predict_run(int argc, char **argv)
{
    struct predict_command command = {
        .options = ivon_predict_defaults(), .draw = draw_defaults(), .format = -1};
    struct ivon_error error = {0};
    struct progress progress;
    command.options.ignored = -100;
    command.arguments = calloc((size_t)argc + 1, sizeof *command.arguments);
    if (!command.arguments)
        return EX_OSERR;
    char *provenance = provenance_text(provenance_new(argc, argv));
    argp_parse(&predict_argp, argc, argv, 0, NULL, &command);
    command.options.progress = progress_start(&progress, "predicting", command.common.quiet);
    progress.unit = "examples x samples";
    const char *text = command.files.no_provenance ? NULL : provenance;
    int code = command.average ? predict_average(&command, text, &error)
                               : predict(&command, text, &error);
    progress_end(&progress);
    int status = code ? report_error(&error) : 0;
    if (!code && !command.common.quiet)
        print_warnings(&command);
    if (!code && command.common.verbose)
        describe(&command);
    if (code == IVON_ERROR_CANCELLED && progress_interrupted())
        status = progress_interrupted();
    free(provenance);
    release(&command);
    return status;
}
