#define _GNU_SOURCE
#include "cmd/train/grid.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cmd/predict_gen/predict_gen.h"
#include "cmd/shared/memory.h"
#include "cmd/shared/process/progress.h"
#include "cmd/shared/outputs/provenance.h"
#include "cmd/shared/process/ranks.h"
#include "cmd/shared/report.h"
#include "cmd/train/grid_table.h"
#include "cmd/train/replay.h"

struct train_grid {
    const struct train_command *command;
    struct space space;
    struct grid_table table;
    enum train_judge judge;
    char *directory; /* without a slash at its end */
    char *path;      /* of its grid.csv */
    char **common;   /* the words that all combinations have */
    int common_count;
    char **words; /* argv, and behind them each value's word */
    int word_count;
    bool warned_of_start;   /* of a Hessian that never left it */
    bool warned_of_hessian; /* that it will not, as a training began */
};

static const char *const grid_judges[] = {[TRAIN_JUDGE_TEST] = "test",
                                          [TRAIN_JUDGE_HELD_OUT] = "held-out",
                                          [TRAIN_JUDGE_LOO] = "leave-one-out"};

/* The words of one combination, as a command of its own. */
struct combination {
    char **words; /* behind them a null */
    int count;
    int common;   /* so many are borrowed */
    char *output; /* its folder */
};

static void combination_release(struct combination *combination)
{
    for (int i = combination->common; i < combination->count; i++)
        free(combination->words[i]);
    free(combination->words);
    free(combination->output);
}

/* Its output is the folder of that combination, or where it is given another. */
static struct combination combination_make(const struct train_grid *grid, size_t index,
                                           const char *output)
{
    const struct space *space = &grid->space;
    char *name = space_name(space, index);
    struct combination made = {.count = grid->common_count, .common = grid->common_count};
    made.words = xcalloc((size_t)grid->common_count + space->count + 2, sizeof *made.words);
    memcpy(made.words, grid->common, (size_t)grid->common_count * sizeof *made.words);
    for (size_t axis = 0; axis < space->count; axis++) {
        char *word = space_word(space, index, axis);
        if (word)
            made.words[made.count++] = word;
    }
    made.output = output ? xstrdup(output) : xasprintf("%s/%s", grid->directory, name);
    made.words[made.count++] = xasprintf("--output=%s", made.output);
    free(name);
    return made;
}

/* The grid's start. */

static enum train_judge grid_choose_judge(const struct train_command *command)
{
    return command->judge >= 0     ? (enum train_judge)command->judge
           : command->test         ? TRAIN_JUDGE_TEST
           : command->held_out > 0 ? TRAIN_JUDGE_HELD_OUT
                                   : TRAIN_JUDGE_LOO;
}

static void grid_list_words(struct train_grid *grid, int argc, char **argv)
{
    const struct space *space = &grid->space;
    size_t values = 0;
    for (size_t axis = 0; axis < space->count; axis++)
        values += space->axes[axis].count;
    grid->common = xcalloc((size_t)argc + 1, sizeof *grid->common);
    grid->words = xcalloc((size_t)argc + values + 1, sizeof *grid->words);
    for (int i = 0; i < argc; i++) {
        grid->words[grid->word_count++] = argv[i];
        if (!grid->command->aside[i])
            grid->common[grid->common_count++] = argv[i];
    }
    for (size_t axis = 0; axis < space->count; axis++)
        for (size_t i = 0; i < space->axes[axis].count; i++)
            grid->words[grid->word_count++] = xasprintf("--%s=%s", space->axes[axis].name,
                                                        space->axes[axis].values[i]);
}

/* Parses the options of a combination, which ends the program where they are wrong, and looks
   whether it can be judged. */
static int grid_check(struct train_grid *grid, size_t index, struct ivon_error *error)
{
    struct train_command command;
    struct combination combination = combination_make(grid, index, NULL);
    train_command_parse(&command, combination.count, combination.words, ARGP_NO_HELP);
    const struct ivon_method_traits *traits = ivon_method_traits(command.options.method);
    grid->table.classes = !ivon_likelihood_traits(command.options.task.likelihood)->regression;
    int code = 0;
    if (grid->judge == TRAIN_JUDGE_LOO && !traits->posterior)
        code = error_fill(error, IVON_ERROR_ARGUMENT,
                          "--grid: --optimizer=%s leaves no posterior, which leave-one-out losses "
                          "are computed by: give --test=DATA or --held-out=SHARE",
                          traits->name);
    train_command_release(&command);
    combination_release(&combination);
    return code;
}

int train_grid_new(struct train_grid **out, const struct train_command *command, int argc,
                   char **argv, struct ivon_error *error)
{
    struct train_grid *grid = *out = xcalloc(1, sizeof *grid);
    grid->command = command;
    grid->judge = grid_choose_judge(command);
    grid->table = (struct grid_table){.space = &grid->space, .judge = grid->judge};
    grid->directory = xstrdup(command->directory);
    for (size_t end = strlen(grid->directory); end > 1 && grid->directory[end - 1] == '/';)
        grid->directory[--end] = '\0';
    grid->path = xasprintf("%s/grid.csv", grid->directory);
    int code = space_read(&grid->space, command->grids, command->grid_count, error);
    if (code)
        return code;
    grid_list_words(grid, argc, argv);
    for (int i = 1; i < grid->common_count && !code; i++)
        code = space_check_word(&grid->space, grid->common[i], error);
    for (size_t i = 0; i < grid->space.combinations && !code; i++)
        code = grid_check(grid, i, error);
    return code;
}

void train_grid_free(struct train_grid *grid)
{
    if (!grid)
        return;
    size_t values = 0;
    for (size_t axis = 0; axis < grid->space.count; axis++)
        values += grid->space.axes[axis].count;
    for (size_t i = 0; i < values && grid->words; i++)
        free(grid->words[(size_t)grid->word_count - 1 - i]);
    free(grid->words);
    free(grid->common);
    grid_table_release(&grid->table);
    space_release(&grid->space);
    free(grid->directory);
    free(grid->path);
    free(grid);
}

char **train_grid_words(const struct train_grid *grid, int *count)
{
    *count = grid->word_count;
    return grid->words;
}

/* One combination. */

/* The leave-one-out loss of a checkpoint, as ivon-predict-gen has it; by the graph inside, which
   the options for graphs have made. */
static int grid_judge_loo(struct train_grid *grid, struct train_command *command,
                          struct grid_row *row, struct ivon_error *error)
{
    struct progress progress;
    struct predict_gen_row numbers;
    struct predict_gen_command judge = {.common = command->common,
                                        .open.open = ivon_open_defaults(),
                                        .evaluation = command->evaluation,
                                        .options = ivon_sensitivity_defaults(),
                                        .examples = command->examples,
                                        .warned_of_start = grid->warned_of_start};
    judge.evaluation.model = NULL;
    judge.evaluation.graph = graph_options_defaults();
    judge.open.open.no_sandbox = command->no_sandbox;
    judge.options.scores = IVON_SCORE_BIT(IVON_SCORE_LOO_LOSS);
    judge.options.task = command->options.task;
    judge.options.resources = command->options.resources;
    judge.options.resources.progress = progress_start(&progress, "leaving out",
                                                      command->common.quiet);
    progress.unit = "examples";
    int code = predict_gen_evaluate(&judge, row->checkpoint, &numbers, NULL, error);
    progress_end(&progress);
    graph_options_release(&judge.evaluation.graph);
    if (code)
        return code;
    if (!command->common.quiet)
        predict_gen_warn(&judge, &numbers, row->checkpoint);
    grid->warned_of_start = judge.warned_of_start;
    row->loss = numbers.loo_loss.value;
    row->standard_error = numbers.loo_loss.standard_error;
    row->accuracy = 1 - numbers.loo_error.value;
    return 0;
}

/* The loss of the trainer's means on the data that it is tested on. */
static int grid_judge_test(struct train_command *command, struct grid_row *row,
                           struct ivon_error *error)
{
    struct ivon_metric loss, missed;
    int code = ivon_trainer_test_metrics(command->trainer, command->test_examples,
                                         evaluation_targets(&command->evaluation), &loss, &missed,
                                         error);
    row->loss = loss.value;
    row->standard_error = loss.standard_error;
    row->accuracy = 1 - missed.value;
    return code;
}

/* The same of a checkpoint: that of a command whose training is over. */
static int grid_judge_best(const struct combination *combination, struct grid_row *row,
                           struct ivon_error *error)
{
    struct train_command command;
    struct ivon_source *best = NULL;
    train_command_parse(&command, combination->count, combination->words, ARGP_NO_HELP);
    struct ivon_open_options open = {.size = sizeof open, .no_sandbox = command.no_sandbox};
    int code = ivon_checkpoint_open(&best, row->checkpoint, &open, error);
    if (!code)
        code = train_class_weights_take(&command, error);
    if (!code)
        code = train_open(&command, best, error);
    if (!code)
        code = grid_judge_test(&command, row, error);
    ivon_source_close(best);
    train_command_release(&command);
    return code;
}

/* By the last checkpoint, or, where patience has kept a better one, by that. It is written once all
   ranks are here. */
static int grid_judge(struct train_grid *grid, const struct combination *combination,
                      struct train_command *command, struct grid_row *row, struct ivon_error *error)
{
    bool best = command->watch.patience && command->stop.best_step;
    int code = ranks_agree(0, error);
    if (code)
        return code;
    if (best)
        row->checkpoint = xasprintf("%s/best.h5", command->directory);
    else
        code = replay_find(&row->checkpoint, command->directory, error);
    if (!code && grid->judge != TRAIN_JUDGE_LOO && !best)
        return grid_judge_test(command, row, error);
    ivon_trainer_free(command->trainer); /* two networks need not be there at once */
    command->trainer = NULL;
    if (!code)
        code = grid->judge == TRAIN_JUDGE_LOO ? grid_judge_loo(grid, command, row, error)
                                              : grid_judge_best(combination, row, error);
    return code;
}

/* Says what became of it. */
static void grid_note(const struct train_grid *grid, const char *label, const char *name,
                      const struct grid_row *row, const struct ivon_error *divergence)
{
    if (grid->command->common.quiet)
        return;
    if (row->diverged)
        report_warning("%s%s: %s", label, name, divergence->message);
    else
        report_note("%s%s: %s loss %.4g", label, name, grid_judges[grid->judge],
                    report_number(row->loss));
}

/* Lets an error say which combination it is of. */
static void grid_name_in_error(const char *name, struct ivon_error *error)
{
    struct ivon_error found = *error;
    error_fill(error, found.code, "%s: %s", name, found.message);
}

/* Trains, or trains on, and judges. */
static int grid_train(struct train_grid *grid, size_t index, struct grid_row *row,
                      struct ivon_error *error)
{
    struct train_command command;
    struct combination combination = combination_make(grid, index, NULL);
    json_t *provenance = provenance_new(combination.count, combination.words);
    char *name = space_name(&grid->space, index),
         *label = xasprintf("%zu of %zu, ", index + 1, grid->space.combinations);
    train_command_parse(&command, combination.count, combination.words, ARGP_NO_HELP);
    command.resume = grid->command->resume;
    command.label = label;
    command.warned_of_hessian = grid->warned_of_hessian;
    *row = (struct grid_row){
        .combination = index, .loss = NAN, .standard_error = NAN, .accuracy = NAN};
    int code = train_recorded(&command, provenance, error);
    grid->warned_of_hessian = command.warned_of_hessian;
    row->diverged = code && command.diverged;
    progress_wait(false);
    if (!code)
        code = grid_judge(grid, &combination, &command, row, error);
    else if (row->diverged)
        code = 0;
    else if (code == IVON_ERROR_CANCELLED)
        grid_name_in_error(name, error);
    if (!code)
        grid_note(grid, label, name, row, error);
    if (!code && !command.common.quiet)
        name_filter_warn_unused(&command.freeze);
    free(label);
    free(name);
    train_command_release(&command);
    combination_release(&combination);
    return code;
}

/* All of them. */

static int grid_write(const struct train_grid *grid, struct ivon_error *error)
{
    size_t size;
    if (!ranks_first())
        return 0;
    char *text = grid_table_text(&grid->table, &size);
    int code = ivon_output_write(grid->path, text, size, true, error);
    free(text);
    return code;
}

/* Makes the directory, and says whether it had to; rank 0 does it for all. */
static int grid_begin(const struct train_grid *grid, bool *made, struct ivon_error *error)
{
    const struct train_command *command = grid->command;
    if (!ranks_first())
        return 0;
    if (access(grid->path, F_OK) == 0 && !command->resume && !command->files.force)
        return error_fill(error, IVON_ERROR_CREATE,
                          "%s: holds a grid: go on with it by --resume, or replace it by --force",
                          grid->directory);
    *made = !mkdir(grid->directory, 0777);
    return *made || errno == EEXIST
               ? 0
               : error_fill(error, IVON_ERROR_CREATE, "%s: cannot create it: %s", grid->directory,
                            strerror(errno));
}

/* Names the command that trains with the best combination. */
static void grid_name_best(const struct train_grid *grid)
{
    const struct grid_row *best = &grid->table.rows[0];
    if (grid->command->common.quiet || !isfinite(best->loss))
        return;
    struct combination combination = combination_make(grid, best->combination, "DIR");
    json_t *provenance = provenance_new(combination.count, combination.words);
    report_note("the least %s loss is that of: %s", grid_judges[grid->judge],
                json_string_value(json_object_get(provenance, "command")));
    if (grid->judge == TRAIN_JUDGE_TEST)
        report_note("%s has chosen, and tests it no more: its loss is too low for new data",
                    grid->command->test);
    json_decref(provenance);
    combination_release(&combination);
}

static int grid_end(const struct train_grid *grid, struct ivon_error *error)
{
    size_t size;
    char *text = grid_table_text(&grid->table, &size);
    bool written = fwrite(text, 1, size, stdout) == size && !fflush(stdout);
    free(text);
    if (!written)
        return error_fill(error, IVON_ERROR_IO, "standard output: cannot write it: %s",
                          strerror(errno));
    grid_name_best(grid);
    return 0;
}

int train_grid_run(struct train_grid *grid, struct ivon_error *error)
{
    bool made = false;
    size_t diverged = 0;
    int code = grid_begin(grid, &made, error);
    for (size_t i = 0; i < grid->space.combinations && !code; i++) {
        struct grid_row row;
        code = grid_train(grid, i, &row, error);
        if (code) {
            free(row.checkpoint);
            break;
        }
        diverged += row.diverged;
        grid_table_add(&grid->table, &row);
        code = grid_write(grid, error);
    }
    if (!code && diverged == grid->table.count)
        code = error_fill(error, IVON_ERROR_DATA, "%s: each of the %zu combinations diverged",
                          grid->directory, diverged);
    if (code && made)
        rmdir(grid->directory); /* where nothing came of it, nothing is left */
    return code ? code : grid_end(grid, error);
}
