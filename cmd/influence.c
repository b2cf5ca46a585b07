#define _GNU_SOURCE
#include "cmd/influence/influence.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "cmd/shared/command.h"
#include "cmd/shared/process/confine.h"
#include "cmd/shared/evaluation/groups.h"
#include "cmd/shared/memory.h"
#include "cmd/shared/process/progress.h"
#include "cmd/shared/outputs/provenance.h"
#include "cmd/shared/process/ranks.h"
#include "cmd/shared/evaluation/removal.h"
#include "cmd/shared/report.h"
#include "cmd/shared/outputs/table.h"

enum { TOP = 5 /* by default */ };

enum {
    KEY_QUERIES = 256,
    KEY_ROWS,
    KEY_SELF,
    KEY_MEASURE,
    KEY_PER_TOKEN,
    KEY_BY,
    KEY_GROUPS,
    KEY_WEIGHTS,
    KEY_TOP,
    KEY_INCLUDE,
    KEY_EXCLUDE,
    KEY_FORMAT,
    KEY_JSON,
};

static const struct argp_option option_table[] = {
    OPTION_HEADING("Targets:", 2),
    OPTION_HEADING("Influence:", 3),
    OPTION_HEADING("Output:", 4),
    OPTION_HEADING("Running:", 5),
    {"queries", KEY_QUERIES, "DATA", 0, "Examples whose outputs are asked about; may be repeated",
     1},
    {"rows", KEY_ROWS, "ROWS", 0, "These of the queries only, such as 3,17,40-49", 1},
    {"self", KEY_SELF, NULL, 0, "The influence of each training row on itself, without queries", 1},
    {"measure", KEY_MEASURE, "loss|logit:C|margin|token-loss", 0,
     "What is asked of a query (default loss)", 3},
    {"per-token", KEY_PER_TOKEN, NULL, 0, "Each token of a training sequence is a row of its own",
     3},
    {"weights", KEY_WEIGHTS, "W,W,...", 0, "Weights of the posteriors (default: equal)", 3},
    {"groups", KEY_GROUPS, "ARRAY", 0, "Sums over groups of rows, numbered by an array of integers",
     3},
    {"by", KEY_BY, "tensor", 0, "Also the parts of single tensors, as further data sets", 3},
    {"include", KEY_INCLUDE, "GLOB", 0, "Only tensors whose name matches move; may be repeated", 3},
    {"exclude", KEY_EXCLUDE, "GLOB", 0, "No tensors whose name matches move; may be repeated", 3},
    {"top", KEY_TOP, "K", 0,
     "The K most helpful and the K most harmful rows for each query (default 5)", 4},
    {"output", 'o', "FILE", 0,
     "Write to FILE: the matrix as .h5 or .npy, or the table as .csv or .jsonl", 4},
    {"format", KEY_FORMAT, IVON_TABLE_FORMAT_NAMES, 0, "Format (default: by FILE's suffix)", 4},
    {"json", KEY_JSON, NULL, 0, "JSON Lines, as --format=jsonl", 4},
    {0},
};

static void influence_parse_measure(struct influence_command *command, struct argp_state *state,
                                    const char *argument)
{
    static const char *const names[] = {"loss", "logit:C", "margin", "token-loss"};
    const char *number = strncmp(argument, "logit:", 6) == 0 ? argument + 6 : NULL;
    command->options.measure = IVON_MEASURE_LOGIT;
    if (number)
        command->options.output = (size_t)option_whole(state, "--measure=logit", number, 0,
                                                       INT32_MAX);
    else
        command->options.measure = (enum ivon_measure)option_choice(state, "--measure", argument,
                                                                    names, 4);
}

static void influence_check_arguments(struct influence_command *command, struct argp_state *state)
{
    struct ivon_influence_options *options = &command->options;
    const struct evaluation_options *evaluation = &command->evaluation;
    const char *file = table_output_file(command->output);
    bool several = command->posterior_count > 1;
    if (!command->posterior_count)
        argp_failure(state, EX_USAGE, 0, "no posterior given; see --help");
    open_check_hessian(&command->open, several, state);
    if (command->weights && command->weight_count != command->posterior_count)
        argp_failure(state, EX_USAGE, 0, "--weights: %zu weights for %zu arguments",
                     command->weight_count, command->posterior_count);
    if (several && options->by_tensor)
        argp_failure(state, EX_USAGE, 0, "--by=tensor is of one posterior");
    if (!evaluation->data)
        argp_failure(state, EX_USAGE, 0, "no training data given: name them by --data=FILE");
    influence_self_check(command, state);
    if (!command->query_files && !command->self)
        argp_failure(state, EX_USAGE, 0, "no queries given: name them by --queries=FILE");
    evaluation_check_noise(evaluation, state);
    command->format = table_output_format(state, file, command->format);
    if (!file && command->format != IVON_CSV && command->format != IVON_JSONL)
        argp_failure(state, EX_USAGE, 0, "a matrix goes to a file: name one by -o");
    if (options->by_tensor && command->format != IVON_HDF5)
        argp_failure(state, EX_USAGE, 0,
                     "--by=tensor writes a matrix for each tensor: name an HDF5 file by -o");
    if (command->groups && (options->per_token || options->by_tensor))
        argp_failure(state, EX_USAGE, 0,
                     "--groups has rows of its own: --per-token and --by do not go with it");
    influence_validate_check(command, state);
    options->task = evaluation->task;
    options->batch = evaluation->batch;
    options->rho = command->scale.rho;
    options->n_train = command->scale.n_train;
    options->resources.memory = evaluation->memory;
    options->resources.threads = command->common.threads;
    if (command->filter.count) {
        options->sample.selected = name_filter_selects;
        options->sample.selected_context = &command->filter;
    }
    command->evaluation.dataset.no_sandbox = command->open.open.no_sandbox;
}

static error_t influence_parse_output(int key, char *argument, struct argp_state *state)
{
    struct influence_command *command = state->input;
    switch (key) {
    case KEY_TOP:
        command->top = (size_t)option_whole(state, "--top", argument, 1, 1 << 24);
        command->top_given = true;
        return 0;
    case 'o':
        command->output = argument;
        return 0;
    case KEY_FORMAT:
        command->format = table_output_parse(state, argument);
        return 0;
    case KEY_JSON:
        command->format = IVON_JSONL;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static void influence_add_file(struct influence_command *command, const char *path)
{
    size_t count = command->query_files + 1;
    command->queries = xreallocarray(command->queries, count, sizeof *command->queries);
    command->queries[command->query_files] = (struct influence_file){.path = path};
    command->query_files = count;
}

static error_t influence_parse(int key, char *argument, struct argp_state *state)
{
    static const char *const parts[] = {"tensor"};
    struct influence_command *command = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &command->common;
        state->child_inputs[1] = &command->files;
        state->child_inputs[2] = &command->evaluation;
        state->child_inputs[3] = &command->open;
        state->child_inputs[4] = &command->scale;
        state->child_inputs[5] = &command->evaluation.graph.bind;
        state->child_inputs[6] = &command->validate;
        return 0;
    case ARGP_KEY_ARG:
        command->posteriors[command->posterior_count++] = argument;
        return 0;
    case ARGP_KEY_END:
        influence_check_arguments(command, state);
        return 0;
    case KEY_QUERIES:
        influence_add_file(command, argument);
        return 0;
    case KEY_ROWS:
        free(command->ranges);
        command->ranges = row_ranges_parse(state, "--rows", argument, &command->range_count);
        return 0;
    case KEY_SELF:
        command->self = true;
        return 0;
    case KEY_MEASURE:
        influence_parse_measure(command, state, argument);
        return 0;
    case KEY_PER_TOKEN:
        command->options.per_token = true;
        return 0;
    case KEY_WEIGHTS:
        free(command->weights); /* of an option before: the last one counts */
        command->weights = option_weights(state, argument, &command->weight_count);
        return 0;
    case KEY_GROUPS:
        command->groups = argument;
        return 0;
    case KEY_BY:
        option_choice(state, "--by", argument, parts, 1);
        command->options.by_tensor = true;
        return 0;
    case KEY_INCLUDE:
    case KEY_EXCLUDE:
        name_filter_add(&command->filter, argument, key == KEY_EXCLUDE);
        return 0;
    default:
        return influence_parse_output(key, argument, state);
    }
}

static const struct argp_child children[] = {
    {&common_argp, 0, NULL, 0},     {&file_argp, 0, NULL, 0},
    {&evaluation_argp, 0, NULL, 0}, {&open_argp, 0, NULL, 0},
    {&scale_argp, 0, NULL, 0},      {&bind_argp, 0, NULL, 0},
    {&validate_argp, 0, NULL, 0},   {0}};

const struct argp influence_argp = {
    .options = option_table,
    .parser = influence_parse,
    .args_doc = "POSTERIOR...",
    .doc = "Tell which training examples made the model say what it says of others.\v"
           "Examples:\n"
           "  ivon-influence posterior.h5 --data=train.h5 --queries=test.h5 --top=5\n"
           "  ivon-influence posterior.h5 --data=train.h5 --queries=test.h5 -o matrix.h5\n"
           "\nThe greatest influences on each query, as CSV, or the matrix of all. See "
           "ivon-influence(1).",
    .children = children,
};

/* Opens. */

/* Selects what --rows names, whose numbers run through all files of queries. */
static int influence_select(struct influence_command *command, struct ivon_error *error)
{
    uint64_t total = 0, count = 0, first = 0;
    size_t at = 0;
    for (size_t i = 0; i < command->query_files; i++)
        total += ivon_examples_count(command->queries[i].examples);
    const char *path = command->query_files > 1 ? "the set of queries" : command->queries[0].path;
    int code = row_ranges_list(command->ranges, command->range_count, "--rows", path, total,
                               &command->rows, &count, error);
    uint64_t *own = code ? NULL : xcalloc(count, sizeof *own);
    for (size_t i = 0; i < command->query_files && !code; i++) {
        struct influence_file *file = &command->queries[i];
        uint64_t end = first + ivon_examples_count(file->examples), chosen = 0;
        for (; at < count && command->rows[at] < end; at++)
            own[chosen++] = command->rows[at] - first;
        first = end;
        file->none = chosen == 0;
        if (chosen)
            code = ivon_examples_select(&file->selected, file->examples, own, chosen, error);
    }
    free(own);
    return code;
}

static int influence_open_examples(struct influence_command *command, struct ivon_error *error)
{
    struct evaluation_options *evaluation = &command->evaluation;
    evaluation_name_inputs(evaluation, command->network, NULL);
    int code = evaluation_open_data(evaluation, &command->examples, &command->whole, error);
    command->options.whole = command->whole;
    for (size_t i = 0; i < command->query_files && !code; i++)
        code = evaluation_open_whole(evaluation, command->queries[i].path,
                                     &command->queries[i].examples, error);
    return code || !command->ranges ? code : influence_select(command, error);
}

static int influence_open(struct influence_command *command, size_t number,
                          struct ivon_error *error)
{
    struct evaluation_options *evaluation = &command->evaluation;
    int code = evaluation_open_posterior(evaluation, command->posteriors[number], &command->open,
                                         &command->common, &command->source, &command->network,
                                         error);
    return code || number ? code : influence_open_examples(command, error);
}

static int influence_add_queries(struct influence_command *command, struct ivon_error *error)
{
    int code = 0;
    for (size_t i = 0; i < command->query_files && !code; i++) {
        const struct influence_file *file = &command->queries[i];
        struct ivon_examples *examples = file->selected ? file->selected : file->examples;
        if (!file->none)
            code = ivon_influence_add_queries(command->influence, examples,
                                              evaluation_targets(&command->evaluation), error);
    }
    return code;
}

/* Runs. */

static struct ivon_influence_shape influence_shape(const struct influence_command *command)
{
    return command->self ? influence_self_shape(command) : ivon_influence_shape(command->influence);
}

static void influence_note(const struct influence_command *command, size_t number)
{
    const struct ivon_influence_shape shape = influence_shape(command);
    bool several = command->posterior_count > 1;
    char examples[32], queries[32];
    report_note("%s%sinfluence of %s %s on %s%s, N = %.15g, rho = %.6g",
                several ? command->posteriors[number] : "", several ? ": " : "",
                report_count(shape.examples, examples), shape.tokens ? "sequences" : "examples",
                command->self ? "themselves" : report_count(shape.queries, queries),
                command->self        ? ""
                : shape.queries == 1 ? " query"
                                     : " queries",
                shape.n_train, shape.rho);
    if (shape.passes > 1)
        report_note("%" PRIu64 " passes over the data: more memory takes fewer, see --memory",
                    shape.passes);
    removal_warn(shape.tokens, shape.n_train, ivon_examples_count(command->whole));
    if (shape.fixed)
        report_warning("%zu tensors have no Hessian and do not move", shape.fixed);
}

static void influence_warn_probabilities(const struct influence_command *command, size_t number)
{
    if (command->self ? ivon_sensitivity_saw_probabilities(command->sensitivity)
                      : ivon_influence_saw_probabilities(command->influence))
        graph_warn_probabilities(command->evaluation.model ? command->evaluation.model
                                                           : command->posteriors[number]);
}

static void influence_warn(const struct influence_command *command,
                           const struct influence_oddities *oddities)
{
    if (oddities->nothing)
        report_warning("%s: all influences are 0: no loss, or nothing that is measured, depends on "
                       "what moves",
                       command->evaluation.data);
    if (oddities->infinite)
        report_warning("%s: %" PRIu64 " influences are not finite: are the inputs normalized as "
                       "for the training?",
                       command->evaluation.data, oddities->infinite);
}

/* Makes the sums, unless rows go to the output as they come. */
static int influence_prepare_sums(struct influence_command *command,
                                  const struct ivon_influence_shape *shape,
                                  struct ivon_error *error)
{
    int64_t *groups = NULL;
    int code = 0;
    if (!command->groups && command->posterior_count == 1)
        return 0;
    if (command->groups)
        code = groups_read(&groups, command->groups, &command->evaluation, command->examples,
                           error);
    if (!code)
        return influence_sums_new(&command->sums, groups, shape, error);
    free(groups);
    return code;
}

/* The share of a posterior in the mean. */
static double influence_share(const struct influence_command *command, size_t number)
{
    double sum = 0;
    for (size_t i = 0; i < command->posterior_count; i++)
        sum += command->weights ? command->weights[i] : 1;
    return (command->weights ? command->weights[number] : 1) / sum;
}

static void influence_close(struct influence_command *command)
{
    ivon_influence_free(command->influence);
    ivon_sensitivity_free(command->sensitivity);
    ivon_network_free(command->network);
    ivon_source_close(command->source);
    command->influence = NULL;
    command->sensitivity = NULL;
    command->network = NULL;
    command->source = NULL;
}

/* The influences by one posterior, to the sums or to the output. */
static int influence_run_posterior(struct influence_command *command, size_t number,
                                   const struct ivon_influence_shape *first,
                                   struct influence_output *output, struct ivon_error *error)
{
    const struct ivon_influence_shape shape = influence_shape(command);
    if (shape.queries != first->queries || shape.rows != first->rows)
        return error_fill(error, IVON_ERROR_DATA, "%s: the output has other tokens than that of %s",
                          command->posteriors[number], command->posteriors[0]);
    void *to = output;
    influence_taker *take = influence_output_take;
    if (command->sums) {
        influence_sums_set_weight(command->sums, influence_share(command, number));
        take = influence_sums_take;
        to = command->sums;
    }
    return command->self ? influence_self_run(command, take, to, error)
                         : ivon_influence_run(command->influence, take, to, error);
}

/* Sets up the influences by the posterior that is open. */
static int influence_set_up(struct influence_command *command, struct ivon_error *error)
{
    if (command->self)
        return influence_self_new(command, error);
    int code = ivon_influence_new(&command->influence, command->network, command->source,
                                  command->examples, evaluation_targets(&command->evaluation),
                                  &command->options, error);
    return code ? code : influence_add_queries(command, error);
}

/* Opens posterior `number`, and with the first of them the data. */
static int influence_begin(struct influence_command *command, size_t number,
                           struct ivon_error *error)
{
    int code = influence_open(command, number, error);
    if (!code)
        code = influence_set_up(command, error);
    if (!code && !command->common.quiet)
        influence_note(command, number);
    return code;
}

/* Scores the influences by one posterior, in place of writing them. */
static int influence_run_validation(struct influence_command *command, const char *provenance,
                                    struct ivon_error *error)
{
    struct validation *validation = NULL;
    int code = ranks_refuse("--validate", error);
    if (!code)
        code = influence_begin(command, 0, error);
    if (!code)
        code = influence_validate_begin(&validation, command, provenance, error);
    if (!code && !command->common.quiet)
        influence_warn_probabilities(command, 0);
    ivon_influence_free(command->influence); /* its memory is that of trainings */
    command->influence = NULL;
    if (!code)
        code = influence_validate_end(validation, error);
    influence_validate_close(validation);
    return code;
}

static int influence_run_all(struct influence_command *command, const char *provenance,
                             struct ivon_error *error)
{
    struct influence_output *output = NULL;
    struct influence_oddities oddities = {0};
    struct ivon_influence_shape shape = {0};
    int code = 0;
    for (size_t i = 0; i < command->posterior_count && !code; i++) {
        code = influence_begin(command, i, error);
        if (!code && !i) {
            shape = influence_shape(command);
            code = evaluation_check_classes(&command->evaluation, shape.outputs, error);
            if (!code && ranks_first())
                code = influence_prepare_sums(command, &shape, error);
            if (!code && ranks_first())
                code = influence_output_open(&output, command, &shape, provenance, error);
        }
        if (!code)
            code = influence_run_posterior(command, i, &shape, output, error);
        if (!code && !command->common.quiet)
            influence_warn_probabilities(command, i);
        influence_close(command);
    }
    if (!code && command->sums)
        code = influence_sums_give(command->sums, influence_output_take, output, error);
    if (!code && ranks_first())
        code = influence_output_finish(output, &oddities, error);
    if (!code && !command->common.quiet)
        influence_warn(command, &oddities);
    influence_output_close(output);
    return code;
}

static void influence_release(struct influence_command *command)
{
    influence_close(command);
    influence_sums_free(command->sums);
    free(command->posteriors);
    free(command->weights);
    if (command->whole != command->examples)
        ivon_examples_close(command->whole);
    ivon_examples_close(command->examples);
    for (size_t i = 0; i < command->query_files; i++) {
        ivon_examples_close(command->queries[i].selected);
        ivon_examples_close(command->queries[i].examples);
    }
    free(command->queries);
    free(command->ranges);
    free(command->rows);
    name_filter_release(&command->filter);
    open_options_release(&command->open);
    evaluation_release(&command->evaluation);
}

int influence_run(int argc, char **argv)
{
    struct influence_command command = {.options = ivon_influence_defaults(),
                                        .scale = ivon_sensitivity_defaults(),
                                        .open.open = ivon_open_defaults(),
                                        .evaluation = evaluation_defaults(),
                                        .top = TOP,
                                        .format = -1};
    struct ivon_error error = {0};
    struct progress progress;
    command.posteriors = xcalloc((size_t)argc, sizeof *command.posteriors);
    char *provenance = provenance_text(provenance_new(argc, argv));
    argp_parse(&influence_argp, argc, argv, 0, NULL, &command);
    confine(&(struct confinement){.off = command.open.open.no_sandbox,
                                  .outputs = &command.output,
                                  .output_count = 1},
            argc, argv);
    command.options.resources.progress = progress_start(&progress, "influence",
                                                        command.common.quiet);
    command.options.resources.ranks = ranks_joined();
    progress.unit = "examples";
    command.progress = &progress;
    int code = (command.validate.halves ? influence_run_validation : influence_run_all)(
        &command, command.files.no_provenance ? NULL : provenance, &error);
    progress_end(&progress);
    int status = progress_status(code, &error);
    if (!code && !command.common.quiet) {
        name_filter_warn_unused(&command.filter);
        open_warn_unused(&command.open);
    }
    free(provenance);
    influence_release(&command);
    return status;
}
