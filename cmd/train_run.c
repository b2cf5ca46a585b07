#define _GNU_SOURCE
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "cmd/progress.h"
#include "cmd/report.h"
#include "cmd/train.h"

/* What the training begins with. */

static int open_data(struct train_command *command, struct ivon_error *error)
{
    uint64_t count;
    int code = evaluation_open_data(&command->evaluation, &command->examples, &count, error);
    if (!code && command->test)
        code = evaluation_open_whole(&command->evaluation, command->test, &command->test_examples,
                                     error);
    return code;
}

/* The graph that is named, or else the one inside the checkpoint. */
static int open_network(struct train_command *command, struct ivon_source *source,
                        struct ivon_error *error)
{
    const char *graph = ivon_part_name(IVON_GRAPH);
    if (command->evaluation.model)
        return ivon_onnx_open(&command->network, command->evaluation.model, error);
    if (ivon_source_find(source, IVON_GRAPH, graph) < 0)
        return error_fill(error, IVON_ERROR_DATA,
                               "%s: holds no graph: name one by --model=GRAPH.onnx or --arch=SPEC",
                               ivon_source_path(source));
    return ivon_onnx_from_checkpoint(&command->network, source, error);
}

/* The graph's bytes, as the checkpoint that is resumed has them. */
static int copy_graph(struct train_command *command, struct ivon_source *source,
                      struct ivon_error *error)
{
    ptrdiff_t at = ivon_source_find(source, IVON_GRAPH, ivon_part_name(IVON_GRAPH));
    if (at < 0)
        return error_fill(error, IVON_ERROR_DATA, "%s: holds no graph",
                               ivon_source_path(source));
    command->graph_size = ivon_source_tensor(source, (size_t)at)->count;
    command->graph = malloc(command->graph_size + 1);
    if (!command->graph)
        exit(EX_OSERR);
    return ivon_source_read(source, (size_t)at, 0, command->graph_size, command->graph, error);
}

static int make_trainer(struct train_command *command, struct ivon_source *resumed,
                        struct ivon_error *error)
{
    struct ivon_train_start start = {.weights = resumed ? resumed : command->weights,
                                     .prior = command->posterior_prior ? command->weights : NULL,
                                     .resume = resumed != NULL};
    bool named = command->architecture || command->evaluation.model;
    int code = 0;
    if (resumed && !named)
        code = ivon_onnx_from_checkpoint(&command->network, resumed, error);
    else if (command->architecture)
        start.architecture = command->architecture;
    else
        code = open_network(command, command->weights, error);
    start.network = command->network;
    if (!code)
        code = ivon_trainer_new(&command->trainer, &start, command->examples,
                                evaluation_targets(&command->evaluation), &command->options,
                                error);
    if (!code && resumed)
        return copy_graph(command, resumed, error);
    return code ? code
                : ivon_onnx_write(&command->graph, &command->graph_size,
                                  ivon_trainer_network(command->trainer), NULL, error);
}

static void print_notes(const struct train_command *command, const char *resumed)
{
    const struct ivon_train_options *options = &command->options;
    struct ivon_train_state state = ivon_trainer_state(command->trainer);
    const struct ivon_unbound *unbound = &state.unbound;
    double kept = pow(options->beta2, (double)state.steps * options->samples);
    char count[32];
    if (command->common.quiet)
        return;
    if (unbound->means && !resumed)
        report_warning("%s: %zu means have no place in the network, '%s' the first",
                       command->from, unbound->means, unbound->mean);
    if (unbound->initializers && !resumed)
        report_warning("%s: lacks %zu tensors, which begin anew, '%s' the first", command->from,
                       unbound->initializers, unbound->initializer);
    if (options->method == IVON_METHOD_IVON && kept > 0.5)
        report_warning("beta2 is %g: after %" PRIu64 " steps %.0f %% of the Hessian will be its "
                       "start", options->beta2, state.steps, 100 * kept);
    if (command->common.verbose && resumed)
        report_note("going on from %s", resumed);
    if (command->common.verbose)
        report_note("%s parameters, %" PRIu64 " examples, %" PRIu64 " losses, %" PRIu64
                    " steps, %" PRIu64 " in an epoch",
                    report_count(state.parameters, count), state.examples, state.losses,
                    state.steps, state.epoch_steps);
}

static int begin(struct train_command *command, struct ivon_error *error)
{
    struct ivon_open_options open = {.no_sandbox = command->no_sandbox};
    struct ivon_source *resumed = NULL;
    char *newest = NULL;
    int code = open_data(command, error);
    if (!code && command->from)
        code = ivon_checkpoint_open(&command->weights, command->from, &open, error);
    if (!code)
        code = train_directory_open(&command->written, command->directory, command->files.force,
                                    command->resume, &newest, error);
    if (!code && newest)
        code = ivon_checkpoint_open(&resumed, newest, &open, error);
    if (!code)
        code = make_trainer(command, resumed, error);
    if (!code)
        print_notes(command, newest);
    if (!code)
        code = train_begin(command->written, ivon_trainer_state(command->trainer).step, error);
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

/* What follows a step: a test, a row, a checkpoint. */
static int record(struct train_command *command, const struct ivon_train_state *state,
                  bool stopping, struct ivon_error *error)
{
    struct train_row row = {state->step, state->epoch, state->loss, state->rate, NAN, NAN};
    struct ivon_source *source = NULL;
    bool tested = command->test_examples && due(command->eval_every, state);
    bool saved = stopping || due(command->save_every, state);
    int code = 0;
    if (saved)
        code = ivon_trainer_source(&source, command->trainer, command->graph,
                                   command->graph_size, error);
    if (!code && tested)
        code = ivon_trainer_test(command->trainer, command->test_examples,
                                 evaluation_targets(&command->evaluation), &row.test_loss,
                                 &row.test_error, error);
    if (!code)
        code = train_log_add(command->written, &row, error);
    if (!code && saved)
        code = train_save(command->written, source, command->provenance, error);
    ivon_source_close(source);
    return code;
}

static int run_steps(struct train_command *command, struct progress *progress,
                     struct ivon_progress *reports, struct ivon_error *error)
{
    struct ivon_train_state state = ivon_trainer_state(command->trainer);
    uint64_t first = state.step;
    char label[64] = "training";
    bool stopping = false;
    int code = 0;
    progress->label = label;
    while (!code && !stopping && state.step < state.steps) {
        code = ivon_trainer_step(command->trainer, error);
        if (code)
            break;
        state = ivon_trainer_state(command->trainer);
        snprintf(label, sizeof label, "training, loss %.4g", state.loss);
        stopping = reports->report(reports->context, state.step - first, state.steps - first) != 0;
        code = record(command, &state, stopping, error);
    }
    progress->label = "training";
    if (!code && state.step < state.steps)
        return error_fill(error, IVON_ERROR_CANCELLED, "interrupted after step %" PRIu64,
                               state.step);
    return code ? code : train_done(command->written, error);
}

int train(struct train_command *command, struct ivon_error *error)
{
    struct progress progress;
    struct ivon_progress reports =
        progress_start(&progress, "training", command->common.quiet);
    progress.unit = "steps";
    int code = begin(command, error);
    if (!code)
        code = run_steps(command, &progress, &reports, error);
    progress_end(&progress);
    return code;
}
