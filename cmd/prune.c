#define _GNU_SOURCE
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "cmd/shared/outputs/checkpoint.h"
#include "cmd/shared/command.h"
#include "cmd/shared/process/confine.h"
#include "cmd/shared/evaluation/evaluation.h"
#include "cmd/shared/memory.h"
#include "cmd/shared/inputs/open.h"
#include "cmd/shared/options/options.h"
#include "cmd/shared/process/progress.h"
#include "cmd/shared/outputs/provenance.h"
#include "cmd/shared/report.h"
#include "ivon/ivon.h"

enum {
    KEY_KEEP = 256,
    KEY_SNR,
    KEY_BY,
    KEY_RESTORE,
    KEY_INCLUDE,
    KEY_EXCLUDE,
    KEY_JSON,
};

static const struct argp_option option_table[] = {
    OPTION_HEADING("Pruning:", 2),
    OPTION_HEADING("Output:", 4),
    {"keep", KEY_KEEP, "X", 0, "The share of weights that stay, from 0 to 1", 2},
    {"snr", KEY_SNR, "X", 0, "Keep weights of a signal-to-noise ratio of X or more", 2},
    {"by", KEY_BY, "snr|magnitude", 0, "The ranking of weights (default snr)", 2},
    {"include", KEY_INCLUDE, "GLOB", 0, "Prune only tensors whose name matches; may be repeated",
     2},
    {"exclude", KEY_EXCLUDE, "GLOB", 0, "Leave tensors as they are whose name matches", 2},
    {"restore", KEY_RESTORE, NULL, 0, "Undo it: put back what was pruned", 2},
    {"output", 'o', "OUT", 0, "The file to write", 4},
    {"json", KEY_JSON, NULL, 0, "Print the report in JSON", 4},
    {0},
};

enum { METRICS_MAX = 16 };

/* The metrics of a network at its mean. */
struct prune_metrics {
    struct ivon_metric items[METRICS_MAX];
    size_t count;
};

struct prune_command {
    struct common_options common;
    struct evaluation_options evaluation;
    struct file_options files;
    struct open_options open;
    struct name_filter filter;
    struct ivon_prune_options options;
    const char *input, *output;
    bool restore, by_given, json;

    /* While it runs: */
    struct ivon_source *source, *pruned;
    struct ivon_examples *examples;
    struct prune_metrics before, after;
    struct ivon_resources resources;
};

static void prune_check_arguments(struct prune_command *command, struct argp_state *state)
{
    struct ivon_prune_options *options = &command->options;
    bool share = !isnan(options->keep), ratio = !isnan(options->least);
    if (!command->input)
        argp_failure(state, EX_USAGE, 0, "no posterior given; see --help");
    if (command->restore &&
        (share || ratio || command->by_given || command->filter.count || command->evaluation.data))
        argp_failure(state, EX_USAGE, 0,
                     "--restore undoes what was done: --keep, --snr, --by, --include, --exclude "
                     "and --data do not go with it");
    if (command->restore && !command->output)
        argp_failure(state, EX_USAGE, 0, "--restore needs an output: name it by -o");
    if (!command->restore && share == ratio)
        argp_failure(state, EX_USAGE, 0,
                     "how many weights stay is said by one of --keep and --snr");
    if (ratio && options->by == IVON_PRUNE_MAGNITUDE)
        argp_failure(state, EX_USAGE, 0, "--snr is a ratio: --by=magnitude needs --keep");
    if (!command->evaluation.data && (command->evaluation.given || command->evaluation.model))
        argp_failure(state, EX_USAGE, 0,
                     "what is said of a graph and of data needs data: name them by --data=FILE");
    if (command->evaluation.data)
        evaluation_check_noise(&command->evaluation, state);
    command->evaluation.dataset.no_sandbox = command->open.open.no_sandbox;
    if (command->filter.count)
        options->select = name_filter_selects;
    options->context = &command->filter;
    options->resources.threads = command->resources.threads = command->common.threads;
}

static error_t prune_parse_choice(int key, char *argument, struct argp_state *state)
{
    static const char *const rankings[] = {"snr", "magnitude"};
    struct prune_command *command = state->input;
    switch (key) {
    case KEY_KEEP:
        command->options.keep = option_number(state, "--keep", argument);
        if (!(command->options.keep >= 0 && command->options.keep <= 1))
            argp_failure(state, EX_USAGE, 0, "--keep: '%s', expected a number from 0 to 1",
                         argument);
        return 0;
    case KEY_SNR:
        command->options.least = option_number(state, "--snr", argument);
        if (!(command->options.least >= 0))
            argp_failure(state, EX_USAGE, 0, "--snr: '%s', expected 0 or more", argument);
        return 0;
    case KEY_BY:
        command->options.by = (enum ivon_prune_by)option_choice(state, "--by", argument, rankings,
                                                                2);
        command->by_given = true;
        return 0;
    case KEY_INCLUDE:
    case KEY_EXCLUDE:
        name_filter_add(&command->filter, argument, key == KEY_EXCLUDE);
        return 0;
    case KEY_RESTORE:
        command->restore = true;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static error_t prune_parse(int key, char *argument, struct argp_state *state)
{
    struct prune_command *command = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &command->common;
        state->child_inputs[1] = &command->files;
        state->child_inputs[2] = &command->evaluation;
        state->child_inputs[3] = &command->open;
        state->child_inputs[4] = &command->evaluation.graph.bind;
        return 0;
    case ARGP_KEY_ARG:
        if (command->input)
            argp_failure(state, EX_USAGE, 0, "'%s': one posterior only", argument);
        command->input = argument;
        return 0;
    case ARGP_KEY_END:
        prune_check_arguments(command, state);
        return 0;
    case 'o':
        command->output = argument;
        return 0;
    case KEY_JSON:
        command->json = true;
        return 0;
    default:
        return prune_parse_choice(key, argument, state);
    }
}

static const struct argp_child children[] = {
    {&common_argp, 0, NULL, 0}, {&file_argp, 0, NULL, 0}, {&evaluation_argp, 0, NULL, 0},
    {&open_argp, 0, NULL, 0},   {&bind_argp, 0, NULL, 0}, {0}};

const struct argp prune_argp = {
    .options = option_table,
    .parser = prune_parse,
    .args_doc = "POSTERIOR",
    .doc = "Set the weights to zero of which a posterior is least sure that they are not.\v"
           "Examples:\n"
           "  ivon-prune run/posterior-00000800.h5 --keep=0.5 --data=test.h5 -o half.h5\n"
           "  ivon-prune half.h5 --restore -o whole.h5\n"
           "\nReversible. See ivon-prune(1).",
    .children = children,
};

/* Runs the network at the mean of a source, and keeps its metrics. */
static int prune_evaluate(struct prune_command *command, struct ivon_source *source, bool quiet,
                          struct prune_metrics *metrics, struct ivon_error *error)
{
    struct evaluation_options *evaluation = &command->evaluation;
    struct ivon_predict_options options = ivon_predict_defaults();
    struct common_options common = command->common;
    struct ivon_network *network = NULL;
    struct ivon_predictor *predictor = NULL;
    const char *targets = evaluation_targets(evaluation);
    common.quiet |= quiet;
    int code = evaluation_open_network(evaluation, source, command->input, &common, &network,
                                       error);
    if (!code && !command->examples) {
        evaluation_name_inputs(evaluation, network, NULL);
        code = evaluation_open_named(evaluation, &command->examples, evaluation->data,
                                     &evaluation->dataset, error);
    }
    if (!code && ivon_examples_find(command->examples, targets) < 0)
        code = evaluation_no_targets(evaluation->data, targets, error);
    const struct ivon_member member = {network, source, 1};
    options.samples = 0;
    options.task = evaluation->task;
    options.batch = evaluation->batch;
    options.descriptions = false;
    options.metrics = true;
    options.resources = command->resources;
    options.resources.memory = evaluation->memory;
    if (!code)
        code = ivon_predictor_new(&predictor, &member, 1, command->examples, targets, &options,
                                  error);
    if (!code)
        code = ivon_predictor_run(predictor, NULL, NULL, error);
    size_t count = 0;
    const struct ivon_predict_metric *found = code ? NULL
                                                   : ivon_predictor_metrics(predictor, &count);
    for (size_t i = 0; found && i < count && i < METRICS_MAX; i++)
        metrics->items[metrics->count++] = found[i].metric;
    ivon_predictor_free(predictor);
    ivon_network_free(network);
    return code;
}

/* The report. */

static json_t *prune_metrics_json(const struct prune_metrics *metrics)
{
    json_t *object = json_object();
    for (size_t i = 0; i < metrics->count; i++)
        json_object_set_new(object, metrics->items[i].name,
                            json_pack("{s:o, s:o}", "value",
                                      report_json_number(metrics->items[i].value), "standard_error",
                                      report_json_number(metrics->items[i].standard_error)));
    return object;
}

static void prune_print_json(const struct prune_command *command)
{
    size_t count;
    const struct ivon_pruned_tensor *tensors = ivon_prune_tensors(command->pruned, &count);
    json_t *root = json_object(), *list = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(
            list, json_pack("{s:o, s:I, s:I}", "name", report_json_text(tensors[i].name), "count",
                            (json_int_t)tensors[i].count, "kept", (json_int_t)tensors[i].kept));
    double threshold = ivon_prune_threshold(command->pruned);
    if (isfinite(threshold))
        json_object_set_new(root, "threshold", report_json_number(threshold));
    json_object_set_new(root, "tensors", list);
    if (command->before.count) {
        json_object_set_new(root, "before", prune_metrics_json(&command->before));
        json_object_set_new(root, "after", prune_metrics_json(&command->after));
    }
    report_json_line(root);
}

static void prune_print_tensor(const char *name, uint64_t count, uint64_t kept)
{
    printf("%12llu %12llu %8.4f  ", (unsigned long long)count, (unsigned long long)kept,
           count ? (double)kept / (double)count : 0);
    report_text(stdout, name);
    putchar('\n');
}

static void prune_print(const struct prune_command *command)
{
    size_t count;
    uint64_t all = 0, kept = 0;
    const struct ivon_pruned_tensor *tensors = ivon_prune_tensors(command->pruned, &count);
    printf("%12s %12s %8s  %s\n", "elements", "kept", "share", "tensor");
    for (size_t i = 0; i < count; i++) {
        prune_print_tensor(tensors[i].name, tensors[i].count, tensors[i].kept);
        all += tensors[i].count;
        kept += tensors[i].kept;
    }
    prune_print_tensor("all", all, kept);
    if (command->before.count)
        printf("\n%-14s %12s %16s %12s %16s\n", "metric", "before", "standard_error", "after",
               "standard_error");
    for (size_t i = 0; i < command->before.count; i++) {
        const struct ivon_metric *before = &command->before.items[i];
        const struct ivon_metric *after = &command->after.items[i];
        printf("%-14s %12.6g %16.3g %12.6g %16.3g\n", before->name, report_number(before->value),
               report_number(before->standard_error), report_number(after->value),
               report_number(after->standard_error));
    }
}

static int prune_write(struct prune_command *command, json_t *provenance, struct ivon_error *error)
{
    const struct checkpoint_output output = {.path = command->output,
                                             .command = "ivon-prune",
                                             .like = command->source,
                                             .files = &command->files,
                                             .provenance = provenance,
                                             .resources = command->resources};
    int code = provenance_add_input(provenance, command->input, NAN, false, error);
    return code ? code : checkpoint_output_write(&output, command->pruned, error);
}

static int prune_run_all(struct prune_command *command, json_t *provenance,
                         struct ivon_error *error)
{
    int code = open_checkpoint(&command->source, command->input, &command->open, 0,
                               &command->common, error);
    if (!code && command->output)
        code = checkpoint_output_try(command->output, command->source, IVON_BUFFER, &command->files,
                                     error);
    if (!code && command->restore)
        code = ivon_prune_restore(&command->pruned, command->source, error);
    else if (!code)
        code = ivon_prune(&command->pruned, command->source, &command->options, error);
    if (!code && command->evaluation.data)
        code = prune_evaluate(command, command->source, false, &command->before, error);
    if (!code && command->evaluation.data)
        code = prune_evaluate(command, command->pruned, true, &command->after, error);
    if (!code && command->output)
        code = prune_write(command, provenance, error);
    return code;
}

static void prune_release(struct prune_command *command)
{
    ivon_examples_close(command->examples);
    ivon_source_close(command->pruned);
    ivon_source_close(command->source);
    name_filter_release(&command->filter);
    open_options_release(&command->open);
    evaluation_release(&command->evaluation);
}

int prune_run(int argc, char **argv)
{
    struct prune_command command = {.options = ivon_prune_defaults(),
                                    .open.open = ivon_open_defaults(),
                                    .evaluation = evaluation_defaults()};
    struct ivon_error error = {0};
    struct progress progress;
    json_t *provenance = provenance_new(argc, argv);
    argp_parse(&prune_argp, argc, argv, 0, NULL, &command);
    confine(&(struct confinement){.off = command.open.open.no_sandbox,
                                  .outputs = &command.output,
                                  .output_count = 1},
            argc, argv);
    command.resources.progress = progress_start(&progress, "pruning", command.common.quiet);
    int code = prune_run_all(&command, provenance, &error);
    progress_end(&progress);
    int status = progress_status(code, &error);
    if (!code && !command.common.quiet) {
        name_filter_warn_unused(&command.filter);
        open_warn_unused(&command.open);
    }
    if (!code && !command.restore)
        (command.json ? prune_print_json : prune_print)(&command);
    json_decref(provenance);
    prune_release(&command);
    return status;
}
