#define _GNU_SOURCE
#include "cmd/sensitivity/sensitivity.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "cmd/shared/command.h"
#include "cmd/shared/process/confine.h"
#include "cmd/shared/evaluation/groups.h"
#include "cmd/shared/process/progress.h"
#include "cmd/shared/outputs/provenance.h"
#include "cmd/shared/process/ranks.h"
#include "cmd/shared/evaluation/removal.h"
#include "cmd/shared/report.h"
#include "cmd/shared/outputs/table.h"

enum {
    KEY_SCORE = 256,
    KEY_EXPECTATION,
    KEY_VECTORS,
    KEY_TOP,
    KEY_SORT,
    KEY_ASCENDING,
    KEY_SUSPECTS,
    KEY_GROUPS,
    KEY_REMOVE,
    KEY_ON,
    KEY_PER_TOKEN,
    KEY_RESUME,
    KEY_FORMAT,
    KEY_JSON,
};

static const struct argp_option option_table[] = {
    OPTION_HEADING("Targets and weights:", 2),
    OPTION_HEADING("Scores:", 3),
    OPTION_HEADING("Output:", 4),
    OPTION_HEADING("Running:", 5),
    {"score", KEY_SCORE, "LIST", 0,
     "deviation, mpe, self-influence, loo-loss, comma-separated (default deviation)", 3},
    {"expectation", KEY_EXPECTATION, "mean|samples", 0,
     "Residuals at the mean, or averaged over weight samples (default mean)", 3},
    {"samples", 'n', "N", 0, "Samples of --expectation=samples (default 64)", 3},
    {"on", KEY_ON, "DATA", 0, "Influence of each example on the loss of the test examples in DATA",
     3},
    {"groups", KEY_GROUPS, "ARRAY", 0,
     "Remove whole groups of examples, numbered by an array of integers", 3},
    {"suspects", KEY_SUSPECTS, "classes", OPTION_ARG_OPTIONAL,
     "Labels that are likely to be wrong, and better ones; or how many of each class", 3},
    {"remove", KEY_REMOVE, "ROWS", 0,
     "Write the posterior without these examples, such as 3,17,40-49, to -o", 3},
    {"vectors", KEY_VECTORS, "covariance", OPTION_ARG_OPTIONAL,
     "Write logits, residuals, deviations, and covariances of the outputs, too", 4},
    {"per-token", KEY_PER_TOKEN, NULL, 0, "One row for each token of a sequence", 4},
    {"sort", KEY_SORT, "COLUMN", OPTION_ARG_OPTIONAL,
     "Greatest first (default: by the first score)", 4},
    {"ascending", KEY_ASCENDING, NULL, 0, "--sort, --top: least first", 4},
    {"top", KEY_TOP, "N", 0, "The N greatest only", 4},
    {"output", 'o', "FILE", 0, "Write to FILE (default: CSV on standard output)", 4},
    {"format", KEY_FORMAT, "csv|jsonl|hdf5", 0, "Format (default: by FILE's suffix)", 4},
    {"json", KEY_JSON, NULL, 0, "JSON Lines, as --format=jsonl", 4},
    {"resume", KEY_RESUME, NULL, 0, "Go on where an interrupted run left FILE.part", 4},
    {0},
};

/* Compares a score's name with what was given: - and _ are alike. */
static bool sensitivity_same_name(const char *own, const char *name, size_t length)
{
    size_t at = 0;
    while (at < length && own[at] && (own[at] == name[at] || (own[at] == '_' && name[at] == '-')))
        at++;
    return at == length && !own[at];
}

static enum ivon_score sensitivity_score_of(struct argp_state *state, const char *name,
                                            size_t length)
{
    const struct ivon_score_traits *traits;
    char list[256] = "";
    for (unsigned i = 0; (traits = ivon_score_traits((enum ivon_score)i)); i++) {
        if (traits->test_data)
            continue;
        if (sensitivity_same_name(traits->name, name, length))
            return (enum ivon_score)i;
        strncat(list, *list ? ", " : "", sizeof list - strlen(list) - 1);
        strncat(list, traits->name, sizeof list - strlen(list) - 1);
    }
    for (char *at = list; (at = strchr(at, '_'));)
        *at = '-';
    argp_failure(state, EX_USAGE, 0, "--score: '%.*s', expected some of %s", (int)length, name,
                 list);
    return 0;
}

static void add_score(struct sensitivity_command *command, enum ivon_score score)
{
    if (command->options.scores & IVON_SCORE_BIT(score))
        return;
    command->options.scores |= IVON_SCORE_BIT(score);
    command->scores[command->score_count++] = score;
}

static void parse_scores(struct sensitivity_command *command, struct argp_state *state,
                         const char *text)
{
    command->options.scores = 0;
    command->score_count = 0;
    for (const char *at = text;; at++) {
        size_t length = strcspn(at, ",");
        add_score(command, sensitivity_score_of(state, at, length));
        at += length;
        if (!*at)
            return;
    }
}

static void sensitivity_check_output(struct sensitivity_command *command, struct argp_state *state)
{
    const char *file = table_output_file(command->output);
    command->format = table_output_rows(state, file, command->format);
    if (command->resume && !file)
        argp_failure(state, EX_USAGE, 0, "--resume needs an output file: name one by -o");
}

static void sensitivity_check_arguments(struct sensitivity_command *command,
                                        struct argp_state *state)
{
    struct ivon_sensitivity_options *options = &command->options;
    const struct evaluation_options *evaluation = &command->evaluation;
    if (!command->posterior)
        argp_failure(state, EX_USAGE, 0, "no posterior given; see --help");
    if ((command->draw.seeded || command->draw.tempered || command->samples_given) &&
        !options->samples)
        argp_failure(state, EX_USAGE, 0,
                     "--samples, --seed and --posterior-temperature are for --expectation=samples");
    if (command->groups && !command->ranges &&
        (command->on || command->vectors || command->sorted || command->per_token ||
         command->resume || command->score_given || options->samples ||
         options->covariance == IVON_COVARIANCE_DIAGONAL))
        argp_failure(state, EX_USAGE, 0,
                     "--groups has rows of its own: --on, --score, --covariance, --expectation, "
                     "--vectors, --per-token, --sort, --top and --resume do not go with it");
    if (command->ascending && !command->sorted)
        argp_failure(state, EX_USAGE, 0, "--ascending is for --sort and --top");
    if (command->suspects)
        sensitivity_check_suspects(command, state);
    if (command->ranges)
        sensitivity_check_remove(command, state);
    else
        sensitivity_check_output(command, state);
    if (command->suspects)
        options->vectors = true;
    if (command->on)
        add_score(command, IVON_SCORE_INFLUENCE);
    if (command->vectors && options->covariance == IVON_COVARIANCE_DIAGONAL)
        options->variances = true;
    if (command->per_token && options->covariances)
        argp_failure(
            state, EX_USAGE, 0,
            "--vectors=covariance is of a whole sequence: --per-token does not go with it");
    removal_set_options(options, evaluation, &command->common, &command->draw, state);
    command->evaluation.dataset.no_sandbox = command->open.open.no_sandbox;
}

static error_t sensitivity_parse_number(int key, char *argument, struct argp_state *state)
{
    struct sensitivity_command *command = state->input;
    switch (key) {
    case 'n':
        command->samples = (size_t)option_whole(state, "--samples", argument, 1, 1000000);
        command->samples_given = true;
        return 0;
    case KEY_TOP:
        command->top = (size_t)option_whole(state, "--top", argument, 1, INT64_MAX / 2);
        command->sorted = true;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static error_t parse_output(int key, char *argument, struct argp_state *state)
{
    struct sensitivity_command *command = state->input;
    switch (key) {
    case 'o':
        command->output = argument;
        return 0;
    case KEY_FORMAT:
        command->format = table_output_parse(state, argument);
        command->format_given = true;
        return 0;
    case KEY_JSON:
        command->format = IVON_JSONL;
        command->json = true;
        return 0;
    case KEY_VECTORS:
        if (argument && strcmp(argument, "covariance") != 0)
            argp_failure(state, EX_USAGE, 0, "--vectors: '%s', expected covariance or nothing",
                         argument);
        command->vectors = command->options.vectors = true;
        command->options.covariances = argument != NULL;
        return 0;
    case KEY_PER_TOKEN:
        command->per_token = true;
        return 0;
    case KEY_SORT:
        command->sorted = true;
        command->sort = argument;
        return 0;
    case KEY_ASCENDING:
        command->ascending = true;
        return 0;
    case KEY_RESUME:
        command->resume = true;
        return 0;
    default:
        return sensitivity_parse_number(key, argument, state);
    }
}

static error_t sensitivity_parse(int key, char *argument, struct argp_state *state)
{
    static const char *const expectations[] = {"mean", "samples"};
    struct sensitivity_command *command = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &command->common;
        state->child_inputs[1] = &command->draw;
        state->child_inputs[2] = &command->files;
        state->child_inputs[3] = &command->evaluation;
        state->child_inputs[4] = &command->open;
        state->child_inputs[5] = &command->options;
        state->child_inputs[6] = &command->evaluation.graph.bind;
        return 0;
    case ARGP_KEY_ARG:
        if (command->posterior)
            argp_failure(state, EX_USAGE, 0, "'%s': one posterior only", argument);
        command->posterior = argument;
        return 0;
    case ARGP_KEY_END:
        if (command->by_samples)
            command->options.samples = command->samples;
        sensitivity_check_arguments(command, state);
        return 0;
    case KEY_SCORE:
        parse_scores(command, state, argument);
        command->score_given = true;
        return 0;
    case KEY_EXPECTATION:
        command->by_samples = option_choice(state, "--expectation", argument, expectations, 2);
        return 0;
    case KEY_GROUPS:
        command->groups = argument;
        return 0;
    case KEY_REMOVE:
        sensitivity_parse_rows(command, state, argument);
        return 0;
    case KEY_SUSPECTS:
        if (argument && strcmp(argument, "classes") != 0)
            argp_failure(state, EX_USAGE, 0, "--suspects: '%s', expected classes or nothing",
                         argument);
        command->suspects = argument ? SUSPECTS_CLASSES : SUSPECTS_ROWS;
        return 0;
    case KEY_ON:
        command->on = argument;
        return 0;
    default:
        return parse_output(key, argument, state);
    }
}

static const struct argp_child children[] = {
    {&common_argp, 0, NULL, 0}, {&draw_argp, 0, NULL, 0},
    {&file_argp, 0, NULL, 0},   {&evaluation_argp, 0, NULL, 0},
    {&open_argp, 0, NULL, 0},   {&removal_argp, 0, NULL, 0},
    {&bind_argp, 0, NULL, 0},   {0}};

const struct argp sensitivity_argp = {
    .options = option_table,
    .parser = sensitivity_parse,
    .args_doc = "POSTERIOR",
    .doc = "Tell how much a model depends on each of its training examples.\v"
           "Examples:\n"
           "  ivon-sensitivity posterior.h5 --data=train.h5 --top=20\n"
           "  ivon-sensitivity posterior.h5 --data=train.h5 --suspects -o suspects.csv\n"
           "\nOne row for each example, as CSV. See ivon-sensitivity(1).",
    .children = children,
};

static int sensitivity_open_inputs(struct sensitivity_command *command, struct ivon_error *error)
{
    int code = evaluation_open_posterior(&command->evaluation, command->posterior, &command->open,
                                         &command->common, &command->source, &command->network,
                                         error);
    if (!code)
        evaluation_name_inputs(&command->evaluation, command->network, NULL);
    if (!code)
        code = evaluation_open_data(&command->evaluation, &command->examples, &command->whole,
                                    error);
    command->options.whole = command->whole;
    if (!code && command->on)
        code = evaluation_open_whole(&command->evaluation, command->on, &command->test, error);
    return code || !command->ranges ? code : sensitivity_select_rows(command, error);
}

static void warn_group_overflows(const struct sensitivity_command *command,
                                 const struct ivon_group_removal *removals, size_t count)
{
    size_t overflows = 0;
    const struct ivon_group_removal *first = NULL;
    for (size_t i = 0; i < count; i++)
        if ((sensitivity_overflows(removals[i].own_loss, removals[i].own_loss_without) ||
             sensitivity_overflows(removals[i].rest_loss, removals[i].rest_loss_without)) &&
            !overflows++)
            first = &removals[i];
    if (overflows && !command->common.quiet)
        report_warning("%s: the losses without %zu groups are not finite, group %lld the first: "
                       "are the inputs normalized as for the training?",
                       command->evaluation.data, overflows, (long long)first->group);
}

static int remove_groups(struct sensitivity_command *command, const char *provenance,
                         struct ivon_error *error)
{
    int64_t *groups = NULL;
    struct ivon_group_removal *removals = NULL;
    size_t count = 0;
    int code = groups_read(&groups, command->groups, &command->evaluation, command->examples,
                           error);
    if (!code)
        code = ivon_sensitivity_groups(command->sensitivity, groups, &removals, &count, error);
    if (!code && count == 1 && !command->common.quiet)
        report_warning("%s: all examples that count are in group %lld: there is no rest",
                       command->groups, (long long)removals->group);
    if (!code)
        code = sensitivity_output_groups(command, removals, count, provenance, error);
    if (!code)
        warn_group_overflows(command, removals, count);
    free(groups);
    free(removals);
    return code;
}

/* A block on its way to the output, and how many of its examples have scores that are no number. */
struct taking {
    struct sensitivity_output *output;
    uint64_t overflows, first;
};

static bool sensitivity_is_finite(const struct ivon_sensitivities *block, size_t i)
{
    for (unsigned s = 0; ivon_score_traits((enum ivon_score)s); s++)
        if (block->scores[s] && !isfinite(block->scores[s][i]))
            return false;
    return true;
}

static int sensitivity_take(void *context, const struct ivon_sensitivities *block,
                            struct ivon_error *error)
{
    struct taking *taking = context;
    for (size_t i = 0; i < block->count; i++)
        if (!sensitivity_is_finite(block, i) && !taking->overflows++)
            taking->first = block->first + i;
    return sensitivity_output_take(taking->output, block, error);
}

static void warn_overflows(const struct sensitivity_command *command, const struct taking *taking)
{
    if (taking->overflows && !command->common.quiet)
        report_warning("%s: scores of %llu examples are not finite, row %llu the first: are the "
                       "inputs normalized as for the training?",
                       command->evaluation.data, (unsigned long long)taking->overflows,
                       (unsigned long long)taking->first);
}

static int run_examples(struct sensitivity_command *command,
                        const struct ivon_sensitivity_shape *shape, const char *provenance,
                        struct ivon_error *error)
{
    struct taking taking = {0};
    uint64_t first = 0;
    int code = 0;
    if (ranks_first())
        code = sensitivity_output_open(&taking.output, command, shape, provenance, &first, error);
    if (!code)
        code = ivon_ranks_share(ranks_joined(), &first, sizeof first, error);
    if (!code && command->on)
        code = ivon_sensitivity_set_test_data(command->sensitivity, command->test,
                                              evaluation_targets(&command->evaluation), error);
    if (!code)
        code = ivon_sensitivity_run(command->sensitivity, first, sensitivity_take, &taking, error);
    if (!code && ranks_first())
        code = sensitivity_output_finish(taking.output, error);
    if (!code)
        warn_overflows(command, &taking);
    sensitivity_output_close(taking.output);
    return code;
}

/* Adds to the note how many examples there are, where the posterior tells of another number: they
   may be of a test set. */
static void note_other_data(const struct sensitivity_command *command,
                            const struct ivon_sensitivity_shape *shape, char note[80])
{
    uint64_t given = ivon_examples_count(command->whole);
    *note = '\0';
    if (!shape->tokens && command->options.n_train < 0 && shape->n_train != (double)given)
        snprintf(note, 80, "; the data have %llu: are they those of the training?",
                 (unsigned long long)given);
}

static void note_removal(const struct sensitivity_command *command,
                         const struct ivon_sensitivity_shape *shape)
{
    char count[32] = "one", other[80];
    bool several = command->ranges && shape->examples > 1;
    note_other_data(command, shape, other);
    if (command->ranges)
        snprintf(count, sizeof count, "%llu", (unsigned long long)shape->examples);
    if (shape->tokens)
        report_note("removing %s sequence%s, of N = %.15g tokens in all, rho = %.6g", count,
                    several ? "s" : "", shape->n_train, shape->rho);
    else
        report_note("removing %s of N = %.15g examples, rho = %.6g%s", count, shape->n_train,
                    shape->rho, other);
    removal_warn(shape->tokens, shape->n_train, ivon_examples_count(command->whole));
}

static int run_sensitivity(struct sensitivity_command *command, const char *provenance,
                           struct ivon_error *error)
{
    int code = sensitivity_open_inputs(command, error);
    if (!code)
        code = ivon_sensitivity_new(&command->sensitivity, command->network, command->source,
                                    command->removed ? command->removed : command->examples,
                                    evaluation_targets(&command->evaluation), &command->options,
                                    error);
    if (code)
        return code;
    struct ivon_sensitivity_shape shape = ivon_sensitivity_shape(command->sensitivity);
    code = evaluation_check_classes(&command->evaluation, shape.outputs, error);
    if (code)
        return code;
    if (!command->common.quiet)
        note_removal(command, &shape);
    if (shape.fixed && !command->common.quiet)
        report_warning("%zu tensors have no Hessian and do not move", shape.fixed);
    if (command->per_token && !shape.tokens)
        return error_fill(error, IVON_ERROR_ARGUMENT,
                          "--per-token: the network's output has no axis of tokens");
    code = command->ranges     ? sensitivity_remove(command, error)
           : command->groups   ? remove_groups(command, provenance, error)
           : command->suspects ? sensitivity_find_suspects(command, &shape, provenance, error)
                               : run_examples(command, &shape, provenance, error);
    struct ivon_leverage_use leverage = ivon_sensitivity_leverage(command->sensitivity);
    if (!code && !command->common.quiet && !command->groups && !command->ranges)
        removal_note_leverage(&leverage, command->options.leverage == IVON_LEVERAGE_AUTO);
    if (!code && !command->common.quiet && ivon_sensitivity_saw_probabilities(command->sensitivity))
        graph_warn_probabilities(command->evaluation.model ? command->evaluation.model
                                                           : command->posterior);
    return code;
}

static void sensitivity_release(struct sensitivity_command *command)
{
    ivon_sensitivity_free(command->sensitivity);
    ivon_network_free(command->network);
    ivon_source_close(command->source);
    if (command->whole != command->examples)
        ivon_examples_close(command->whole);
    ivon_examples_close(command->removed);
    ivon_examples_close(command->examples);
    ivon_examples_close(command->test);
    name_filter_release(&command->draw.filter);
    open_options_release(&command->open);
    evaluation_release(&command->evaluation);
    json_decref(command->provenance);
    free(command->ranges);
}

int sensitivity_run(int argc, char **argv)
{
    struct sensitivity_command command = {.options = ivon_sensitivity_defaults(),
                                          .open.open = ivon_open_defaults(),
                                          .draw = draw_defaults(),
                                          .evaluation = evaluation_defaults(),
                                          .scores = {IVON_SCORE_DEVIATION},
                                          .score_count = 1,
                                          .samples = 64,
                                          .format = -1};
    struct ivon_error error = {0};
    struct progress progress;
    command.provenance = provenance_new(argc, argv);
    char *provenance = provenance_text(json_incref(command.provenance));
    argp_parse(&sensitivity_argp, argc, argv, 0, NULL, &command);
    confine(&(struct confinement){.off = command.open.open.no_sandbox,
                                  .outputs = &command.output,
                                  .output_count = 1},
            argc, argv);
    command.options.resources.progress = progress_start(&progress, "removing",
                                                        command.common.quiet);
    command.options.resources.ranks = ranks_joined();
    progress.unit = "examples";
    int code = run_sensitivity(&command, command.files.no_provenance ? NULL : provenance, &error);
    progress_end(&progress);
    int status = progress_status(code, &error);
    if (!code && !command.common.quiet) {
        draw_warn(&command.draw);
        open_warn_unused(&command.open);
    }
    free(provenance);
    sensitivity_release(&command);
    return status;
}
