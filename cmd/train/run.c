#define _GNU_SOURCE
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/shared/memory.h"
#include "cmd/shared/process/progress.h"
#include "cmd/shared/outputs/provenance.h"
#include "cmd/shared/process/ranks.h"
#include "cmd/shared/report.h"
#include "cmd/train/train.h"

/* The start of a training. */

static int train_run_open_data(struct train_command *command, struct ivon_error *error)
{
    struct evaluation_options *evaluation = &command->evaluation;
    int code = evaluation_open_named(evaluation, &command->examples, evaluation->data,
                                     &evaluation->dataset, error);
    if (!code && command->held_out > 0)
        code = train_hold_out(command, error);
    if (!code && command->test)
        code = evaluation_open_whole(&command->evaluation, command->test, &command->test_examples,
                                     error);
    return code;
}

/* Opens the graph that is named, or else the one inside the checkpoint. */
static int open_graph(struct train_command *command, struct ivon_source *source,
                      struct ivon_error *error)
{
    const char *graph = ivon_part_name(IVON_GRAPH);
    if (command->evaluation.model)
        return ivon_onnx_open(&command->network, command->evaluation.model, error);
    int unread = ivon_source_refuse_opaque(source, IVON_GRAPH, graph, error);
    if (unread)
        return unread;
    if (ivon_source_find(source, IVON_GRAPH, graph) < 0)
        return error_fill(error, IVON_ERROR_DATA,
                          "%s: holds no graph: name one by --model=GRAPH.onnx or --arch=SPEC",
                          ivon_source_path(source));
    return ivon_onnx_from_checkpoint(&command->network, source, error);
}

/* Makes the network of a graph. That of a checkpoint that is resumed is as the options have it
   already. */
int train_make_network(struct train_command *command, struct ivon_source *resumed,
                       struct ivon_error *error)
{
    struct ivon_source *weights = resumed ? resumed : command->weights;
    const char *model = command->evaluation.model;
    bool inside = resumed && command->lora.count; /* where the factors' products are */
    int code = 0;
    if (command->architecture && !inside)
        return 0;
    if (resumed && (!model || inside)) {
        code = ivon_onnx_from_checkpoint(&command->network, resumed, error);
        if (!code)
            evaluation_name_inputs(&command->evaluation, command->network, resumed);
        return code;
    }
    code = open_graph(command, command->weights, error);
    if (!code)
        code = graph_adapt(
            &command->evaluation.graph, command->options.task.likelihood, command->network, weights,
            model ? model : ivon_source_path(command->weights), &command->common, error);
    if (!code)
        evaluation_name_inputs(&command->evaluation, command->network, weights);
    return code;
}

/* The graph's bytes, as the checkpoint that is resumed has them. */
static int copy_graph(struct train_command *command, struct ivon_source *source,
                      struct ivon_error *error)
{
    ptrdiff_t at = ivon_source_find(source, IVON_GRAPH, ivon_part_name(IVON_GRAPH));
    if (at < 0)
        return error_fill(error, IVON_ERROR_DATA, "%s: holds no graph", ivon_source_path(source));
    command->graph_size = ivon_source_tensor(source, (size_t)at)->count;
    command->graph = malloc(command->graph_size + 1);
    if (!command->graph)
        memory_exhausted();
    return ivon_source_read(source, (size_t)at, 0, command->graph_size, command->graph, error);
}

static int make_trainer(struct train_command *command, struct ivon_source *resumed,
                        struct ivon_error *error)
{
    struct ivon_train_start start = {.weights = resumed ? resumed : command->weights,
                                     .prior = command->posterior_prior ? command->weights : NULL,
                                     .resume = resumed != NULL};
    int code = 0;
    start.architecture = command->network ? NULL : command->architecture;
    start.network = command->network;
    if (command->augment)
        code = ivon_augmentation_parse(&command->options.augmentation, &command->options.crop,
                                       &command->options.cutout, command->augment, error);
    if (!code)
        code = ivon_trainer_new(&command->trainer, &start, command->examples,
                                evaluation_targets(&command->evaluation), &command->options, error);
    if (!code && resumed)
        return copy_graph(command, resumed, error);
    return code ? code
                : ivon_onnx_write(&command->graph, &command->graph_size,
                                  ivon_trainer_network(command->trainer), NULL, error);
}

/* Returns whether the method has a Hessian that beta2 averages, and a bound of steps. */
static bool averages_hessian(enum ivon_method method)
{
    return method == IVON_METHOD_IVON || method == IVON_METHOD_EVON;
}

/* Of the Hessian beta2^n is left of its start after n estimates, of which each step makes one,
   whatever its samples: 1/e, about a third, by 1 − 1/n. */
static void warn_of_hessian(struct train_command *command, uint64_t steps)
{
    const struct ivon_train_options *options = &command->options;
    double estimates = ceil((double)steps / (double)options->hessian_every);
    double kept = pow(options->beta2, estimates);
    char instead[64] = "";
    if (estimates > 1)
        snprintf(instead, sizeof instead, "; --beta2=%.5g would leave a third", 1 - 1 / estimates);
    if (kept > 0.5 && !command->warned_of_hessian)
        report_warning("beta2 is %g: after %" PRIu64 " steps %.0f %% of the Hessian will be its "
                       "start%s",
                       options->beta2, steps, 100 * kept, instead);
    command->warned_of_hessian |= kept > 0.5;
}

static void print_notes(struct train_command *command, const char *resumed)
{
    const struct ivon_train_options *options = &command->options;
    struct ivon_train_state state = ivon_trainer_state(command->trainer);
    const struct ivon_unbound *unbound = &state.unbound;
    char count[32];
    if (command->common.quiet)
        return;
    if (unbound->means && !resumed)
        report_warning("%s: %zu means have no place in the network, '%s' the first", command->from,
                       unbound->means, unbound->mean);
    if (unbound->initializers && !resumed)
        report_warning("%s: lacks %zu tensors, which begin anew, '%s' the first", command->from,
                       unbound->initializers, unbound->initializer);
    if (state.step > state.steps)
        report_warning("%s: is of step %" PRIu64 ", beyond the %" PRIu64 " steps that are asked "
                       "for: nothing is left to do",
                       resumed, state.step, state.steps);
    if (options->warmup > state.steps)
        report_warning("--warmup=%" PRIu64 ": the training has %" PRIu64 " steps, in which the "
                       "rate never reaches --lr",
                       options->warmup, state.steps);
    if (averages_hessian(options->method) && state.step < state.steps)
        warn_of_hessian(command, state.steps);
    if (command->common.verbose && resumed)
        report_note("going on from %s", resumed);
    if (command->common.verbose)
        report_note("%s parameters, %" PRIu64 " examples, %" PRIu64 " losses, %" PRIu64
                    " steps, %" PRIu64 " in an epoch",
                    report_count(state.parameters, count), state.examples, state.losses,
                    state.steps, state.epoch_steps);
}

static int open_newest(struct ivon_source **resumed, const char *path,
                       const struct ivon_open_options *options, struct ivon_error *error)
{
    struct ivon_error found = {0};
    int code = ivon_checkpoint_open(resumed, path, options, &found);
    if (code) {
        error_fill(error, code, "%s%s", found.message,
                   code == IVON_ERROR_DATA ? "; remove it to go on from the one before it" : "");
        error->hint = found.hint;
    }
    return code;
}

int train_open(struct train_command *command, struct ivon_source *resumed, struct ivon_error *error)
{
    struct ivon_open_options open = {.size = sizeof open, .no_sandbox = command->no_sandbox};
    int code = 0;
    command->options.resources.ranks = ranks_joined();
    if (command->from)
        code = ivon_checkpoint_open(&command->weights, command->from, &open, error);
    if (!code)
        code = train_make_network(command, resumed, error);
    if (!code)
        code = train_run_open_data(command, error);
    return code ? code : make_trainer(command, resumed, error);
}

/* Fails where no target of the test data counts, of which there would be no loss. */
static int check_test_counts(const struct train_command *command, struct ivon_error *error)
{
    const struct ivon_task *task = &command->options.task;
    struct ivon_positions positions;
    /* One event that counts is enough, so that it does not matter how many the outputs are. */
    int code = ivon_positions_count(&positions, command->test_examples,
                                    evaluation_targets(&command->evaluation), task->likelihood, 1,
                                    task->ignored, error);
    if (code || positions.counted)
        return code;
    return command->held_out > 0
               ? error_fill(error, IVON_ERROR_DATA,
                            "%s: all targets that --held-out=%g takes are the ignored label %lld, "
                            "expected some that count",
                            command->evaluation.data, command->held_out, (long long)task->ignored)
               : evaluation_nothing_counts(&command->evaluation, command->test, error);
}

/* Tests the first test example: data that do not fit fail now, not at the end of an epoch. */
static int check_test(const struct train_command *command, struct ivon_error *error)
{
    struct ivon_dataset_options first = command->evaluation.dataset;
    struct ivon_examples *examples = NULL;
    double loss, error_rate;
    first.limit = 1;
    int code = ivon_dataset_open(&examples, command->test, &first, error);
    if (!code)
        code = ivon_trainer_test(command->trainer, examples,
                                 evaluation_targets(&command->evaluation), &loss, &error_rate,
                                 error);
    ivon_examples_close(examples);
    return code;
}

/* Takes up what the rows of the log say; the last of them may lack what its step is due. */
static void take_row(void *context, const struct train_row *row)
{
    struct train_command *command = context;
    train_stop_add(&command->stop, &command->watch, row);
    command->last_row = *row;
}

/* Begins what is written, where all ranks have opened what they read; they know what the log
   says. */
static int train_run_begin_log(struct train_command *command, struct ivon_error *error)
{
    int code = ranks_agree(0, error);
    if (!code && ranks_first())
        code = train_begin(command->written, ivon_trainer_state(command->trainer).step,
                           &command->log, error);
    if (!code && ranks_first())
        code = train_log_read(command->log, take_row, command, error);
    if (!code)
        code = ivon_ranks_share(ranks_joined(), &command->stop, sizeof command->stop, error);
    if (!code)
        code = ivon_ranks_share(ranks_joined(), &command->last_row, sizeof command->last_row,
                                error);
    return code;
}

static int train_run_begin(struct train_command *command, struct ivon_error *error)
{
    struct ivon_open_options open = {.size = sizeof open, .no_sandbox = command->no_sandbox};
    struct ivon_source *resumed = NULL;
    char *newest = NULL;
    int code = train_directory_open(&command->written, command->directory, command->files.force,
                                    command->resume, &newest, error);
    if (!code)
        code = ranks_share_text(&newest, error);
    if (!code && newest)
        code = open_newest(&resumed, newest, &open, error);
    if (!code)
        code = train_open(command, resumed, error);
    if (!code && command->test)
        code = check_test(command, error);
    if (!code && command->test_examples)
        code = check_test_counts(command, error);
    if (!code && command->watch.loo)
        code = train_loo_begin(command, error);
    if (!code && resumed && !command->common.quiet)
        train_settings_compare(command, resumed);
    if (!code)
        print_notes(command, newest);
    if (!code)
        code = train_run_begin_log(command, error);
    ivon_source_close(resumed);
    free(newest);
    return code;
}

/* The steps. */

static bool due(uint64_t every, const struct ivon_train_state *state)
{
    uint64_t steps = every == UINT64_MAX ? state->epoch_steps : every;
    return state->step == state->steps || (steps && state->step % steps == 0);
}

/* Rank 0 alone writes what all have. */
static int save(struct train_command *command, struct ivon_error *error)
{
    struct ivon_source *source = NULL;
    if (!ranks_first())
        return 0;
    int code = ivon_trainer_source(&source, command->trainer, command->graph, command->graph_size,
                                   error);
    if (!code)
        code = train_save(command->written, source, command->provenance, error);
    ivon_source_close(source);
    return code;
}

/* Evaluates what a step is due and its row lacks. What is stopped leaves its columns empty, and is
   repeated when the training goes on. */
static int evaluate(struct train_command *command, const struct ivon_train_state *state,
                    struct train_row *row, bool *stopping, struct ivon_error *error)
{
    int code = 0;
    if (command->test_examples && isnan(row->test_loss) && due(command->eval_every, state))
        code = ivon_trainer_test(command->trainer, command->test_examples,
                                 evaluation_targets(&command->evaluation), &row->test_loss,
                                 &row->test_error, error);
    if (code == IVON_ERROR_CANCELLED)
        row->test_loss = row->test_error = NAN;
    if (!code && command->watch.loo && !row->loo && due(command->watch.loo_every, state))
        code = train_loo(command, row, error);
    *stopping |= code == IVON_ERROR_CANCELLED;
    return code == IVON_ERROR_CANCELLED ? 0 : code;
}

/* Lets best.h5 lead to the best checkpoint, and removes the one that was, unless it is due or the
   last. Where a training went on by other evaluations than it had, the best may not be there. */
static int run_keep_best(struct train_command *command, const struct ivon_train_state *state,
                         struct ivon_error *error)
{
    struct ivon_train_state before = *state;
    uint64_t best = command->stop.best_step;
    if (!ranks_first())
        return 0;
    bool was = train_best(command->written, &before.step);
    if (!best || (was && before.step == best) || !train_has(command->written, best))
        return 0;
    int code = train_set_best(command->written, best, error);
    bool stays = !was || before.step == state->step || due(command->save_every, &before) ||
                 !train_has(command->written, before.step);
    return code || stays ? code : train_remove(command->written, before.step, error);
}

/* Does what follows a step: evaluations, a row, a checkpoint. */
static int record(struct train_command *command, const struct ivon_train_state *state,
                  bool *stopping, struct ivon_error *error)
{
    struct train_row row = {.step = state->step,
                            .epoch = state->epoch,
                            .loss = state->loss,
                            .rate = state->rate,
                            .test_loss = NAN,
                            .test_error = NAN};
    int code = evaluate(command, state, &row, stopping, error);
    command->last_row = row;
    if (!code && ranks_first())
        code = train_log_add(command->log, &row, error);
    if (!code)
        train_stop_add(&command->stop, &command->watch, &row);
    bool best = train_stop_is_best(&command->stop, state->step);
    bool kept = *stopping || due(command->save_every, state) || best ||
                train_stop_due(&command->stop, &command->watch);
    if (!code && kept)
        code = save(command, error);
    return code || !best ? code : run_keep_best(command, state, error);
}

/* How the losses end beside how they began, of as many steps each: a quarter of the training, or
   less where an epoch is less. */
struct trend {
    uint64_t first, last, window; /* after which step it begins and ends, steps of a part */
    double highest, sum;          /* the highest loss of the first part, the sum of the last */
};

static struct trend trend_begin(const struct ivon_train_state *state)
{
    uint64_t steps = state->step < state->steps ? state->steps - state->step : 0;
    uint64_t quarter = steps / 4, epoch = state->epoch_steps;
    uint64_t window = quarter < epoch ? quarter : epoch;
    return (struct trend){state->step, state->steps, window ? window : 1, 0, 0};
}

static void trend_add(struct trend *trend, const struct ivon_train_state *state)
{
    if (state->step - trend->first <= trend->window)
        trend->highest = fmax(trend->highest, state->loss);
    if (trend->last - state->step < trend->window)
        trend->sum += state->loss;
}

/* Twice the highest loss of the beginning is more than batches and draws differ by, and worse than
   no training. */
static void trend_warn(const struct trend *trend, enum ivon_method method)
{
    double end = trend->sum / (double)trend->window;
    if (end > 2 * trend->highest)
        report_warning("the loss rose: it is %.4g on average at the end, and was at most %.4g at "
                       "the beginning; did the training diverge? A lower --lr%s may help",
                       end, trend->highest,
                       averages_hessian(method) ? ", a larger --h0 or a --clip-radius"
                                                : " or a --clip-norm");
}

/* The evaluations that an interruption of the training kept from its last step. */
static int make_up(struct train_command *command, const struct ivon_train_state *state,
                   bool *stopping, struct ivon_error *error)
{
    struct train_row *row = &command->last_row;
    const struct train_row before = *row;
    int code = row->step == state->step ? evaluate(command, state, row, stopping, error) : 0;
    if (!code && (before.loo != row->loo || isnan(before.test_loss) != isnan(row->test_loss))) {
        if (ranks_first())
            code = train_log_complete(command->log, row, error);
        train_stop_add(&command->stop, &command->watch, row);
    }
    return code ? code : run_keep_best(command, state, error);
}

/* One step. Where it was stopped the checkpoint is that of the step before. Ranks are stopped
   within steps and tests, all of them: between two steps they do not talk. */
static int train_run_step(struct train_command *command, struct ivon_train_state *state,
                          bool *stopping, struct ivon_progress *reports, uint64_t first,
                          struct ivon_error *error)
{
    int code = ivon_trainer_step(command->trainer, error);
    if (code == IVON_ERROR_CANCELLED) {
        *stopping = true;
        return state->step > first && !due(command->save_every, state) ? save(command, error) : 0;
    }
    command->diverged = code == IVON_ERROR_DATA;
    if (command->diverged)
        return train_note_divergence(command, code, error);
    if (code)
        return code;
    *state = ivon_trainer_state(command->trainer);
    *stopping = reports->report(reports->context, state->step - first, state->steps - first) != 0 &&
                !ranks_joined();
    return record(command, state, stopping, error);
}

static int run_steps(struct train_command *command, struct progress *progress,
                     struct ivon_progress *reports, struct ivon_error *error)
{
    struct ivon_train_state state = ivon_trainer_state(command->trainer);
    progress_wait(true); /* steps and tests can be stopped, and what was learnt is saved */
    uint64_t first = state.step;
    struct trend trend = trend_begin(&state);
    const char *before = command->label ? command->label : "";
    char label[96] = "training";
    bool stopping = false;
    int code = 0;
    progress->label = label;
    if (state.step)
        code = make_up(command, &state, &stopping, error);
    bool ended = train_stop_due(&command->stop, &command->watch);
    while (!code && !stopping && !ended && state.step < state.steps) {
        code = train_run_step(command, &state, &stopping, reports, first, error);
        if (!code && !stopping)
            trend_add(&trend, &state);
        ended = train_stop_due(&command->stop, &command->watch);
        snprintf(label, sizeof label, "%straining, loss %.4g", before, report_number(state.loss));
    }
    progress->label = "training";
    if (!code && !ended && state.step < state.steps)
        return error_fill(error, IVON_ERROR_CANCELLED, "interrupted after step %" PRIu64,
                          state.step);
    progress_end(progress);
    if (!code && !command->common.quiet)
        trend_warn(&trend, command->options.method);
    if (!code && !command->common.quiet && command->watch.patience && ranks_first())
        train_stop_note(command, state.step);
    if (!command->common.quiet && ivon_trainer_state(command->trainer).probabilities)
        graph_warn_probabilities(command->evaluation.model ? command->evaluation.model
                                                           : command->from);
    if (!code && command->lora.count && ranks_first())
        code = train_write_adapter(command, error);
    if (!code && ranks_first())
        code = train_done(command->written, error);
    bool whole = state.step == state.steps;
    if (!code && !command->common.quiet && !command->label && state.step > first)
        train_note_end(command, whole ? trend.sum / (double)trend.window : (double)NAN);
    return code;
}

int train(struct train_command *command, struct ivon_error *error)
{
    struct progress progress;
    struct ivon_progress reports = progress_start(&progress, "training", command->common.quiet);
    progress.unit = "steps";
    command->options.resources.progress = reports;
    int code = train_run_begin(command, error);
    if (!code)
        code = run_steps(command, &progress, &reports, error);
    progress_end(&progress);
    return code;
}

int train_recorded(struct train_command *command, json_t *provenance, struct ivon_error *error)
{
    int code = 0;
    if (command->from)
        code = provenance_add_input(provenance, command->from, NAN, false, error);
    if (!code)
        code = train_class_weights_take(command, error);
    json_object_set_new(provenance, "training", train_settings(command));
    command->provenance = provenance_text(provenance);
    if (command->files.no_provenance) {
        free(command->provenance);
        command->provenance = NULL;
    }
    return code ? code : train(command, error);
}
