#define _GNU_SOURCE
#include "cmd/predict_gen/predict_gen.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "cmd/shared/command.h"
#include "cmd/shared/process/confine.h"
#include "cmd/shared/inputs/follow.h"
#include "cmd/shared/evaluation/groups.h"
#include "cmd/shared/memory.h"
#include "cmd/shared/process/progress.h"
#include "cmd/shared/outputs/provenance.h"
#include "cmd/shared/process/ranks.h"
#include "cmd/shared/evaluation/removal.h"
#include "cmd/shared/report.h"
#include "cmd/shared/outputs/table.h"

enum {
    KEY_TEST = 256,
    KEY_SUBSAMPLE,
    KEY_IMPORTANCE,
    KEY_BY_CLASS,
    KEY_COMPARE,
    KEY_POINTWISE,
    KEY_GROUPS,
    KEY_FOLLOW,
    KEY_UNTIL,
    KEY_IDLE_TIMEOUT,
    KEY_FORMAT,
    KEY_JSON,
};

enum { IMPORTANCE_SAMPLES = 21 /* fewer have no tail that shows anything */ };

static const struct argp_option option_table[] = {
    OPTION_HEADING("Targets and weights:", 2),
    OPTION_HEADING("Estimates:", 3),
    OPTION_HEADING("Following:", 4),
    OPTION_HEADING("Output:", 5),
    {"samples", 'n', "N", 0, "Also WAIC and PSIS-LOO from N weight samples", 3},
    {"importance", KEY_IMPORTANCE, NULL, 0,
     "--samples: also how far they are from the posterior itself, and PSIS-LOO corrected for that",
     3},
    {"test", KEY_TEST, "DATA", 0, "Also loss and error on test examples, to compare", 3},
    {"subsample", KEY_SUBSAMPLE, "N", 0, "Use N of the examples, chosen at random", 3},
    {"by-class", KEY_BY_CLASS, NULL, 0, "Leave out whole classes, one row for each", 3},
    {"groups", KEY_GROUPS, "ARRAY", 0,
     "Also leave out whole groups of examples, numbered by an array of integers", 3},
    {"compare", KEY_COMPARE, NULL, 0,
     "Also each checkpoint's difference to the best, example by example", 3},
    {"follow", KEY_FOLLOW, "DIR", 0,
     "Wait for checkpoints that a training writes to DIR, until it holds a file 'done'", 4},
    {"until", KEY_UNTIL, "STEP", 0, "--follow: end after the checkpoint of that step", 4},
    {"idle-timeout", KEY_IDLE_TIMEOUT, "SECONDS", 0,
     "--follow: end when no new checkpoint comes for so long", 4},
    {"output", 'o', "FILE", 0, "Write to FILE (default: CSV on standard output)", 5},
    {"pointwise", KEY_POINTWISE, "FILE", 0,
     "Write the numbers of single examples to FILE: .csv, .jsonl or .h5", 5},
    {"format", KEY_FORMAT, "csv|jsonl|hdf5", 0, "Format (default: by FILE's suffix)", 5},
    {"json", KEY_JSON, NULL, 0, "JSON Lines, as --format=jsonl", 5},
    {0},
};

static void predict_gen_check_output(struct predict_gen_command *command, struct argp_state *state)
{
    const char *file = table_output_file(command->output);
    command->format = table_output_rows(state, file, command->format);
    if (command->format == IVON_HDF5 && command->by_class)
        argp_failure(state, EX_USAGE, 0,
                     "HDF5 holds a known number of rows: --by-class writes CSV or JSON Lines");
    command->pointwise_format = command->pointwise ? ivon_table_format_of(command->pointwise) : -1;
    if (command->pointwise &&
        (command->pointwise_format < 0 || command->pointwise_format == IVON_NPY))
        argp_failure(state, EX_USAGE, 0, "--pointwise: '%s' ends in none of .csv, .jsonl and .h5",
                     command->pointwise);
}

static void predict_gen_check_arguments(struct predict_gen_command *command,
                                        struct argp_state *state)
{
    struct ivon_sensitivity_options *options = &command->options;
    const struct evaluation_options *evaluation = &command->evaluation;
    if (!command->follow == !command->posterior_count)
        argp_failure(state, EX_USAGE, 0,
                     command->follow ? "--follow takes its posteriors from the directory"
                                     : "no posterior given; see --help");
    open_check_hessian(&command->open, command->follow || command->posterior_count > 1, state);
    if (command->by_class && !ivon_likelihood_traits(evaluation->task.likelihood)->classes)
        argp_failure(state, EX_USAGE, 0, "--by-class is for --likelihood=categorical");
    if (command->by_class &&
        (command->test || command->samples || options->covariance == IVON_COVARIANCE_DIAGONAL))
        argp_failure(state, EX_USAGE, 0,
                     "--by-class has columns of its own: --test, --samples and --covariance do not "
                     "go with it");
    if (command->until >= 0 && !command->follow)
        argp_failure(state, EX_USAGE, 0, "--until is for --follow");
    if (command->idle_timeout > 0 && !command->follow)
        argp_failure(state, EX_USAGE, 0, "--idle-timeout is for --follow");
    if (command->draw.sample.temperature == 0)
        argp_failure(state, EX_USAGE, 0, "--posterior-temperature: samples need one above 0");
    if (command->draw.tempered && !command->samples)
        argp_failure(state, EX_USAGE, 0, "--posterior-temperature is for --samples");
    if (command->importance && command->samples < IMPORTANCE_SAMPLES)
        argp_failure(state, EX_USAGE, 0, "--importance needs --samples=N, of %d or more",
                     IMPORTANCE_SAMPLES);
    if (command->draw.seeded && !command->samples && !command->subsample)
        argp_failure(state, EX_USAGE, 0, "--seed is for --samples and --subsample");
    if (command->by_class && (command->pointwise || command->compare || command->groups))
        argp_failure(state, EX_USAGE, 0,
                     "--by-class removes classes: --groups, --pointwise and --compare do not go "
                     "with it");
    if (command->groups && options->covariance == IVON_COVARIANCE_DIAGONAL)
        argp_failure(state, EX_USAGE, 0,
                     "--groups removes groups exactly: --covariance=diag does not go with it");
    if (command->compare && command->posterior_count < 2)
        argp_failure(state, EX_USAGE, 0, "--compare needs two posteriors or more");
    predict_gen_check_output(command, state);
    removal_set_options(options, evaluation, &command->common, &command->draw, state);
    options->scores = IVON_SCORE_BIT(IVON_SCORE_LOO_LOSS);
    command->evaluation.dataset.no_sandbox = command->open.open.no_sandbox;
}

static error_t predict_gen_parse_number(int key, char *argument, struct argp_state *state)
{
    struct predict_gen_command *command = state->input;
    switch (key) {
    case 'n':
        command->samples = (size_t)option_whole(state, "--samples", argument, 2, 1000000);
        return 0;
    case KEY_SUBSAMPLE:
        command->subsample = option_whole(state, "--subsample", argument, 1, INT64_MAX);
        return 0;
    case KEY_UNTIL:
        command->until = (int64_t)option_whole(state, "--until", argument, 0, INT64_MAX);
        return 0;
    case KEY_IDLE_TIMEOUT:
        command->idle_timeout = option_positive(state, "--idle-timeout", argument);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static error_t predict_gen_parse(int key, char *argument, struct argp_state *state)
{
    struct predict_gen_command *command = state->input;
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
        command->posteriors[command->posterior_count++] = argument;
        return 0;
    case ARGP_KEY_END:
        predict_gen_check_arguments(command, state);
        return 0;
    case KEY_TEST:
        command->test = argument;
        return 0;
    case KEY_BY_CLASS:
        command->by_class = true;
        return 0;
    case KEY_IMPORTANCE:
        command->importance = true;
        return 0;
    case KEY_FOLLOW:
        command->follow = argument;
        return 0;
    case KEY_COMPARE:
        command->compare = true;
        return 0;
    case KEY_GROUPS:
        command->groups = argument;
        return 0;
    case KEY_POINTWISE:
        command->pointwise = argument;
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
        return predict_gen_parse_number(key, argument, state);
    }
}

static const struct argp_child children[] = {
    {&common_argp, 0, NULL, 0}, {&draw_argp, 0, NULL, 0},
    {&file_argp, 0, NULL, 0},   {&evaluation_argp, 0, NULL, 0},
    {&open_argp, 0, NULL, 0},   {&removal_argp, 0, NULL, 0},
    {&bind_argp, 0, NULL, 0},   {0}};

const struct argp predict_gen_argp = {
    .options = option_table,
    .parser = predict_gen_parse,
    .args_doc = "POSTERIOR...\n--follow=DIR",
    .doc = "Predict the loss on data that a model has not seen, from its training data.\v"
           "Examples:\n"
           "  ivon-predict-gen run/posterior-*.h5 --data=train.h5 -o losses.csv\n"
           "  ivon-predict-gen --follow=run --data=train.h5 --test=test.h5\n"
           "\nOne row for each checkpoint, as CSV. See ivon-predict-gen(1).",
    .children = children,
};

/* Evaluates one checkpoint, with its points where they are wanted, and tells of its numbers. */
static int evaluate_checkpoint(struct predict_gen_command *command, const char *path,
                               struct predict_gen_row *row, struct predict_gen_points *points,
                               struct ivon_error *error)
{
    bool wanted = command->pointwise || command->compare || command->groups;
    int code = wanted ? predict_gen_points_new(points, ivon_examples_count(command->examples),
                                               command->samples, error)
                      : 0;
    if (!code)
        code = predict_gen_evaluate(command, path, row, wanted ? points : NULL, error);
    if (!code && !command->common.quiet)
        predict_gen_warn(command, row, path);
    if (!code && command->pointwise)
        code = predict_gen_points_write(command, row->step, points, error);
    command->checkpoint += !code;
    return code;
}

/* One checkpoint's row. */
static int print_checkpoint(struct predict_gen_command *command, const char *path, int64_t *step,
                            struct ivon_error *error)
{
    struct predict_gen_row row = {.step = -1};
    struct predict_gen_points points = {0};
    int code = evaluate_checkpoint(command, path, &row, &points, error);
    *step = row.step;
    command->nothing_counts = row.nothing_counts;
    if (!code)
        code = predict_gen_write_row(command, &row, error);
    free(row.classes);
    predict_gen_points_free(&points);
    return code;
}

/* All checkpoints' rows, which wait for the last one. */
static int compare_checkpoints(struct predict_gen_command *command, struct ivon_error *error)
{
    size_t count = command->posterior_count;
    int code = 0;
    command->rows = calloc(count + 1, sizeof *command->rows);
    command->points = calloc(count + 1, sizeof *command->points);
    if (!command->rows || !command->points)
        return error_memory(error);
    for (size_t i = 0; i < count && !code; i++)
        code = evaluate_checkpoint(command, command->posteriors[i], &command->rows[i],
                                   &command->points[i], error);
    if (!code)
        predict_gen_compare(command);
    for (size_t i = 0; i < count && !code; i++)
        code = predict_gen_write_row(command, &command->rows[i], error);
    return code;
}

/* True if an error is of the file, which may still be completed, and not of the request. */
static bool of_file(int code)
{
    return code == IVON_ERROR_DATA || code == IVON_ERROR_INPUT;
}

/* Files that could not be read, and may be complete later. */
struct unread {
    char **paths;
    size_t count;
};

static int unread_add(struct unread *unread, const char *path, struct ivon_error *error)
{
    for (size_t i = 0; i < unread->count; i++)
        if (strcmp(unread->paths[i], path) == 0)
            return 0;
    char **grown = realloc(unread->paths, (unread->count + 1) * sizeof *unread->paths);
    if (grown)
        unread->paths = grown;
    char *copy = grown ? strdup(path) : NULL;
    if (!copy)
        return error_memory(error);
    unread->paths[unread->count++] = copy;
    return 0;
}

static void unread_remove(struct unread *unread, const char *path)
{
    for (size_t i = 0; i < unread->count; i++)
        if (strcmp(unread->paths[i], path) == 0) {
            free(unread->paths[i]);
            unread->paths[i--] = unread->paths[--unread->count];
        }
}

/* Waits for the next file on rank 0, the only one that follows, and tells all ranks. At the end the
   path is empty. */
static int follow_next_file(struct follow *follow, char path[PATH_MAX], struct ivon_error *error)
{
    const char *found = NULL;
    int code = follow ? follow_next(follow, &found, error) : 0;
    if (code)
        return code;
    snprintf(path, PATH_MAX, "%s", found ? found : ""); /* what is longer is no file's */
    return ivon_ranks_share(ranks_joined(), path, PATH_MAX, error);
}

/* Prints what comes; a file that cannot be read is told of, and tried again when it is written. */
static int follow_files(struct predict_gen_command *command, struct follow *follow,
                        struct unread *unread, struct ivon_error *error)
{
    char path[PATH_MAX];
    int64_t step = -1;
    for (;;) {
        struct ivon_error of_this = {0};
        int code = follow_next_file(follow, path, error);
        if (code || !*path)
            return code;
        code = ranks_agree(print_checkpoint(command, path, &step, &of_this), &of_this);
        if (!code) {
            unread_remove(unread, path);
            if (command->until >= 0 && step >= command->until)
                return 0;
        } else if (of_file(code) && !command->nothing_counts &&
                   ivon_ranks_recover(ranks_joined())) {
            report_error(&of_this);
            code = unread_add(unread, path, error);
            if (code)
                return code;
            if (follow)
                follow_again(follow);
        } else {
            *error = of_this;
            return code;
        }
    }
}

static int predict_gen_follow(struct predict_gen_command *command, struct ivon_error *error)
{
    struct follow *follow = NULL;
    struct unread unread = {NULL, 0};
    int code = ranks_first() ? follow_open(&follow, command->follow, progress_signal(), error) : 0;
    if (!code && follow && command->idle_timeout > 0)
        follow_end_when_idle(follow, command->idle_timeout);
    if (!code)
        code = follow_files(command, follow, &unread, error);
    if (!code && follow && follow_was_idle(follow) && !command->common.quiet)
        report_note("%s: no new checkpoint for %g s: the end", command->follow,
                    command->idle_timeout);
    follow_close(follow);
    if (!code && progress_interrupted())
        code = error_fill(error, IVON_ERROR_CANCELLED, "interrupted");
    if (!code && unread.count)
        code = error_fill(error, IVON_ERROR_DATA,
                          "%zu file%s could not be read, the last of them %s", unread.count,
                          unread.count == 1 ? "" : "s", unread.paths[unread.count - 1]);
    for (size_t i = 0; i < unread.count; i++)
        free(unread.paths[i]);
    free(unread.paths);
    return code;
}

/* Finds the names of the graph's inputs, by the first posterior. */
static int predict_gen_name_inputs(struct predict_gen_command *command, struct ivon_error *error)
{
    const struct common_options quiet = {.quiet = true};
    struct ivon_source *source = NULL;
    struct ivon_network *network = NULL;
    if (!command->posterior_count || command->evaluation.dataset.input_count)
        return 0;
    int code = evaluation_open_posterior(&command->evaluation, command->posteriors[0],
                                         &command->open, &quiet, &source, &network, error);
    if (!code)
        evaluation_name_inputs(&command->evaluation, network, NULL);
    ivon_network_free(network);
    ivon_source_close(source);
    return code;
}

/* The groups of the examples, of which a subsample has some. */
static int read_group_of(struct predict_gen_command *command, struct ivon_error *error)
{
    int64_t *all = NULL;
    uint64_t count = ivon_examples_count(command->examples);
    int code = groups_read(&all, command->groups, &command->evaluation, command->all, error);
    if (code)
        return code;
    command->group_of = xcalloc(count + 1, sizeof *command->group_of);
    for (uint64_t i = 0; i < count; i++)
        command->group_of[i] =
            all[command->subsample ? ivon_examples_number(command->examples, i) : i];
    free(all);
    return 0;
}

/* Opens the data; what counts of them before --limit and --subsample is N where nothing else says
   it. */
static int predict_gen_open_data(struct predict_gen_command *command, struct ivon_error *error)
{
    int code = predict_gen_name_inputs(command, error);
    if (!code)
        code = evaluation_open_data(&command->evaluation, &command->all, &command->whole, error);
    command->examples = command->all;
    command->options.whole = command->whole;
    if (!code && command->subsample)
        code = ivon_examples_subsample(&command->examples, command->all, command->subsample,
                                       command->draw.sample.seed, error);
    if (!code && command->groups)
        code = read_group_of(command, error);
    if (!code && command->test)
        code = evaluation_open_whole(&command->evaluation, command->test, &command->test_examples,
                                     error);
    return code;
}

static int check_readable(const char *path, struct ivon_error *error)
{
    bool there = strcmp(path, "-") == 0 || !access(path, R_OK);
    return there ? 0 : error_input(error, path, "open", strerror(errno));
}

/* Before the first of them takes its time, or --follow takes the graph for a file yet to come. */
static int predict_gen_check_inputs(const struct predict_gen_command *command,
                                    struct ivon_error *error)
{
    const char *model = command->evaluation.model;
    int code = model ? check_readable(model, error) : 0;
    for (size_t i = 0; i < command->posterior_count && !code; i++)
        code = check_readable(command->posteriors[i], error);
    return code;
}

static int run_predict_gen(struct predict_gen_command *command, const char *provenance,
                           struct ivon_error *error)
{
    int64_t step;
    int code = predict_gen_check_inputs(command, error);
    command->provenance = provenance;
    if (!code)
        code = predict_gen_open_data(command, error);
    if (!code)
        code = predict_gen_open_table(command, error);
    if (!code && command->pointwise)
        code = predict_gen_points_open(command, provenance, error);
    if (!code && command->follow)
        code = predict_gen_follow(command, error);
    if (!code && command->compare)
        code = compare_checkpoints(command, error);
    for (size_t i = 0; i < command->posterior_count && !command->compare && !code; i++)
        code = print_checkpoint(command, command->posteriors[i], &step, error);
    if (!code && command->pointwise)
        code = ivon_table_commit(command->points_table, error);
    if (!code && command->table)
        code = ivon_table_commit(command->table, error);
    return code;
}

static void predict_gen_release(struct predict_gen_command *command)
{
    ivon_table_close(command->table);
    ivon_table_close(command->points_table);
    for (size_t c = 0; c < command->posterior_count && command->points; c++)
        predict_gen_points_free(&command->points[c]);
    free(command->points);
    free(command->rows);
    free(command->group_of);
    if (command->examples != command->all)
        ivon_examples_close(command->examples);
    if (command->whole != command->all)
        ivon_examples_close(command->whole);
    ivon_examples_close(command->all);
    ivon_examples_close(command->test_examples);
    name_filter_release(&command->draw.filter);
    open_options_release(&command->open);
    evaluation_release(&command->evaluation);
    free(command->posteriors);
}

int predict_gen_run(int argc, char **argv)
{
    struct predict_gen_command command = {.options = ivon_sensitivity_defaults(),
                                          .open.open = ivon_open_defaults(),
                                          .draw = draw_defaults(),
                                          .evaluation = evaluation_defaults(),
                                          .until = -1,
                                          .format = -1};
    struct ivon_error error = {0};
    struct progress progress;
    command.posteriors = calloc((size_t)argc + 1, sizeof *command.posteriors);
    if (!command.posteriors)
        memory_exhausted();
    char *provenance = provenance_text(provenance_new(argc, argv));
    argp_parse(&predict_gen_argp, argc, argv, 0, NULL, &command);
    const char *outputs[] = {command.output, command.pointwise};
    confine(&(struct confinement){.off = command.open.open.no_sandbox,
                                  .outputs = outputs,
                                  .output_count = 2},
            argc, argv);
    command.options.resources.progress = progress_start(&progress, "removing",
                                                        command.common.quiet);
    command.options.resources.ranks = ranks_joined();
    progress.unit = "examples";
    int code = run_predict_gen(&command, command.files.no_provenance ? NULL : provenance, &error);
    progress_end(&progress);
    int status = progress_status(code, &error);
    if (!code && !command.common.quiet) {
        draw_warn(&command.draw);
        open_warn_unused(&command.open);
    }
    free(provenance);
    predict_gen_release(&command);
    return status;
}
