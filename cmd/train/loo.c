/* The leave-one-out loss along a training: of the posterior that the trainer has, by the network
   and the functions that take it from a checkpoint. */
#include <inttypes.h>

#include "cmd/shared/evaluation/removal.h"
#include "cmd/shared/report.h"
#include "cmd/train/train.h"

/* A posterior, and a network of its own that is bound to it. */
struct loo {
    struct ivon_source *source;
    struct ivon_network *network;
    struct ivon_sensitivity *sensitivity;
    struct ivon_sensitivity_options options;
};

/* The trainer's progress is in steps: examples only ask it whether to stop. */
static int loo_ask(void *context, uint64_t done, uint64_t total)
{
    const struct ivon_progress *progress = context;
    (void)done;
    (void)total;
    return progress->report(progress->context, 0, 0);
}

/* The graph of the checkpoint is the one that the options for graphs have made: it needs none. */
static int loo_open(struct loo *loo, struct train_command *command, struct ivon_error *error)
{
    const struct common_options quiet = {.quiet = true};
    struct evaluation_options evaluation = {.graph = graph_options_defaults(),
                                            .task = command->evaluation.task};
    int code = ivon_trainer_source(&loo->source, command->trainer, command->graph,
                                   command->graph_size, error);
    if (!code)
        code = evaluation_open_network(&evaluation, loo->source, ivon_source_path(loo->source),
                                       &quiet, &loo->network, error);
    graph_options_release(&evaluation.graph);
    loo->options = ivon_sensitivity_defaults();
    loo->options.task = command->evaluation.task;
    loo->options.scores = IVON_SCORE_BIT(IVON_SCORE_LOO_LOSS);
    loo->options.resources = command->options.resources;
    loo->options.resources.progress = (struct ivon_progress){
        .report = loo_ask, .context = &command->options.resources.progress};
    return code;
}

static void loo_close(struct loo *loo)
{
    ivon_sensitivity_free(loo->sensitivity);
    ivon_network_free(loo->network);
    ivon_source_close(loo->source);
}

int train_loo_begin(struct train_command *command, struct ivon_error *error)
{
    struct loo loo = {0};
    int code = 0;
    command->loo_examples = command->examples;
    if (command->watch.loo_rows && command->watch.loo_rows < ivon_examples_count(command->examples))
        code = ivon_examples_subsample(&command->loo_examples, command->examples,
                                       command->watch.loo_rows, command->options.seed, error);
    if (!code)
        code = loo_open(&loo, command, error);
    if (!code)
        code = ivon_sensitivity_new(&loo.sensitivity, loo.network, loo.source,
                                    command->loo_examples, evaluation_targets(&command->evaluation),
                                    &loo.options, error);
    loo_close(&loo);
    return code;
}

int train_loo(struct train_command *command, struct train_row *row, struct ivon_error *error)
{
    struct loo loo = {0};
    struct removal_sums sums = {0};
    int code = loo_open(&loo, command, error);
    if (!code)
        code = removal_sum(&sums, loo.network, loo.source, command->loo_examples,
                           evaluation_targets(&command->evaluation), &loo.options, &loo.sensitivity,
                           error);
    loo_close(&loo);
    if (code)
        return code;
    const struct ivon_metric loss = ivon_ratio_metric("loo_loss", &sums.loo_loss);
    row->loo = true;
    row->loo_loss = loss.value;
    row->loo_loss_se = loss.standard_error;
    if (!isfinite(loss.value) && !command->common.quiet && !command->warned_of_loo)
        report_warning("step %" PRIu64 ": the leave-one-out loss is not finite: the posterior is "
                       "far too wide for it to mean anything",
                       row->step);
    command->warned_of_loo |= !isfinite(loss.value);
    return 0;
}
