#include "cmd/train/find_lr.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "cmd/shared/memory.h"
#include "cmd/shared/process/progress.h"
#include "cmd/shared/report.h"
#include "cmd/shared/outputs/table.h"

static const double LOWEST = 1e-6, HIGHEST = 100, FORGETS = 0.98;

struct sweep {
    uint64_t steps, count; /* wanted, made */
    double *rate, *loss, *smoothed;
    double average; /* before it is divided */
    uint64_t least; /* the step of the least smoothed loss */
    bool ended;
};

static void sweep_release(struct sweep *sweep)
{
    free(sweep->rate);
    free(sweep->loss);
    free(sweep->smoothed);
}

/* Losses may be below 0: three times the size of the least is what they may rise by. */
static void sweep_add(struct sweep *sweep, double rate, double loss)
{
    uint64_t i = sweep->count++;
    sweep->average = FORGETS * sweep->average + (1 - FORGETS) * loss;
    sweep->rate[i] = rate;
    sweep->loss[i] = loss;
    sweep->smoothed[i] = sweep->average / (1 - pow(FORGETS, (double)(i + 1)));
    if (sweep->smoothed[i] < sweep->smoothed[sweep->least])
        sweep->least = i;
    double least = sweep->smoothed[sweep->least];
    sweep->ended = sweep->smoothed[i] - least > 3 * fabs(least) || sweep->count == sweep->steps;
}

/* One step. A loss that is no number ends the sweep, unless it is the first. */
static int sweep_step(struct sweep *sweep, struct train_command *command, struct ivon_error *error)
{
    double at = (double)sweep->count / (double)(sweep->steps - 1);
    ivon_trainer_scale_rate(command->trainer, pow(HIGHEST / LOWEST, at));
    int code = ivon_trainer_step(command->trainer, error);
    if (code == IVON_ERROR_DATA && sweep->count) {
        sweep->ended = true;
        return 0;
    }
    if (code)
        return code;
    struct ivon_train_state state = ivon_trainer_state(command->trainer);
    sweep_add(sweep, state.rate, state.loss);
    return 0;
}

static int sweep_run(struct sweep *sweep, struct train_command *command, struct ivon_error *error)
{
    struct progress progress;
    struct ivon_progress reports = progress_start(&progress, "sweeping", command->common.quiet);
    progress.unit = "steps";
    command->options.resources.progress = reports;
    int code = train_class_weights_take(command, error);
    if (!code)
        code = train_open(command, NULL, error);
    while (!code && !sweep->ended) {
        code = sweep_step(sweep, command, error);
        if (!code && reports.report(reports.context, sweep->count, sweep->steps))
            code = error_fill(error, IVON_ERROR_CANCELLED, "interrupted");
    }
    progress_end(&progress);
    return code;
}

/* True if the smoothed loss fell below what it was at first by more than batches and draws explain.
   The variance of an average that forgets by b a step is (1 - b)/(1 + b), a 99th, of that of single
   losses, and that of the mean of the first quarter, of 50 by default, is a 50th: three standard
   deviations of their difference are half of one loss's. */
static bool sweep_fell(const struct sweep *sweep)
{
    uint64_t first = sweep->steps / 4;
    double mean = 0, squares = 0;
    if (sweep->least < first)
        return false;
    for (uint64_t i = 0; i < first; i++)
        mean += sweep->loss[i] / (double)first;
    for (uint64_t i = 0; i < first; i++)
        squares += pow(sweep->loss[i] - mean, 2);
    return sweep->smoothed[sweep->least] < mean - sqrt(squares / (double)(first - 1)) / 2;
}

/* A tenth of the rate at which the smoothed loss was least, to two digits, since averages lag
   behind; NaN where it never fell. */
static double sweep_suggest(const struct sweep *sweep)
{
    char text[32];
    if (!sweep_fell(sweep))
        return NAN;
    snprintf(text, sizeof text, "%.1e", sweep->rate[sweep->least] / 10);
    return strtod(text, NULL);
}

static int sweep_print(const struct sweep *sweep, double suggestion, struct ivon_error *error)
{
    static const struct ivon_column columns[] = {{.name = "learning_rate", .dtype = IVON_F64},
                                                 {.name = "loss", .dtype = IVON_F64},
                                                 {.name = "smoothed_loss", .dtype = IVON_F64},
                                                 {.name = "suggested_rate", .dtype = IVON_F64}};
    struct ivon_table_options options = ivon_table_defaults();
    struct ivon_table *table = NULL;
    options.rows = sweep->count;
    options.own_index = true;
    int code = table_output_open(&table, NULL, columns, sizeof columns / sizeof *columns, &options,
                                 error);
    for (uint64_t i = 0; i < sweep->count && !code; i++) {
        const void *row[] = {&sweep->rate[i], &sweep->loss[i], &sweep->smoothed[i], &suggestion};
        code = ivon_table_append(table, 1, row, error);
    }
    if (!code)
        code = ivon_table_commit(table, error);
    ivon_table_close(table);
    return code;
}

static void sweep_note(const struct sweep *sweep, double suggestion, bool draws)
{
    if (isnan(suggestion))
        report_warning("the loss fell at no rate by more than batches differ: none is suggested%s",
                       draws ? "; a larger --h0 means less noise" : "");
    else
        report_note("try --lr=%g: the smoothed loss was least, %.4g, at %.3g", suggestion,
                    sweep->smoothed[sweep->least], sweep->rate[sweep->least]);
    if (!isnan(suggestion) && sweep->least + 1 == sweep->steps)
        report_warning("the loss still fell at the highest rate: a higher one may do, too");
}

int train_find_lr(struct train_command *command, struct ivon_error *error)
{
    struct sweep sweep = {.steps = command->find_lr};
    sweep.rate = xcalloc(sweep.steps, sizeof *sweep.rate);
    sweep.loss = xcalloc(sweep.steps, sizeof *sweep.loss);
    sweep.smoothed = xcalloc(sweep.steps, sizeof *sweep.smoothed);
    command->options.rate = LOWEST;
    command->options.steps = sweep.steps;
    int code = sweep_run(&sweep, command, error);
    double suggestion = code ? NAN : sweep_suggest(&sweep);
    if (!code)
        code = sweep_print(&sweep, suggestion, error);
    if (!code && !command->common.quiet)
        sweep_note(&sweep, suggestion, ivon_method_traits(command->options.method)->posterior);
    sweep_release(&sweep);
    return code;
}
