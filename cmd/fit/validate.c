#define _GNU_SOURCE
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/fit/fit.h"
#include "cmd/shared/report.h"

enum {
    SAMPLES = 32,
    DECADES = 4,     /* on either side of the weight decay of greatest evidence */
    REFINEMENTS = 6, /* of the best of them */
};

/* One posterior and the loss that it predicts. */
struct trial {
    struct fit_command *command;
    struct ivon_source *source;
    struct ivon_network *network;
};

static int trial_open(struct trial *trial, struct ivon_error *error)
{
    struct fit_command *command = trial->command;
    struct evaluation_options *evaluation = &command->evaluation;
    struct common_options quiet = command->common;
    const char *path = evaluation->model ? evaluation->model : command->input;
    quiet.quiet = true; /* what is said of the graph was said */
    quiet.verbose = false;
    struct ivon_unbound unbound;
    int code = ivon_fit_source(&trial->source, command->fit, command->graph, command->graph_size,
                               error);
    if (!code && evaluation->model)
        code = ivon_onnx_open(&trial->network, evaluation->model, error);
    else if (!code)
        code = ivon_onnx_from_checkpoint(&trial->network, command->source, error);
    if (!code)
        code = graph_adapt(&evaluation->graph, evaluation->task.likelihood, trial->network,
                           trial->source, path, &quiet, error);
    return code ? code
                : ivon_network_bind(trial->network, trial->source, &evaluation->graph.bind,
                                    &unbound, error);
}

static void trial_close(struct trial *trial)
{
    ivon_network_free(trial->network);
    ivon_source_close(trial->source);
}

static int trial_pass_over(void *context, const struct ivon_predictions *predictions,
                           struct ivon_error *error)
{
    (void)context;
    (void)predictions;
    (void)error;
    return 0;
}

/* The NLL of the held-out data, by samples that are the same numbers at every weight decay. */
static int trial_find_nll(struct fit_command *command, double *nll, struct ivon_error *error)
{
    struct trial trial = {.command = command};
    struct ivon_predictor *predictor = NULL;
    struct ivon_predict_options options = ivon_predict_defaults();
    int code = trial_open(&trial, error);
    struct ivon_member member = {trial.network, trial.source, 1};
    options.task = command->options.task;
    options.task.noise_std = ivon_fit_summary(command->fit).noise_std;
    if (!ivon_likelihood_traits(options.task.likelihood)->noise)
        options.task.noise_std = NAN;
    options.samples = SAMPLES;
    options.sample.seed = command->options.seed;
    options.batch = command->options.batch;
    options.resources.threads = command->common.threads;
    if (!code)
        code = ivon_predictor_new(&predictor, &member, 1, command->held_out,
                                  evaluation_targets(&command->evaluation), &options, error);
    if (!code)
        code = ivon_predictor_run(predictor, trial_pass_over, NULL, error);
    *nll = NAN;
    size_t count = 0;
    const struct ivon_predict_metric *metrics = code ? NULL
                                                     : ivon_predictor_metrics(predictor, &count);
    for (size_t i = 0; i < count && metrics; i++)
        if (strcmp(metrics[i].metric.name, "nll") == 0)
            *nll = metrics[i].metric.value;
    if (!code && isnan(*nll))
        code = error_fill(error, IVON_ERROR_DATA, "%s: no target counts, or the NLL is not finite",
                          ivon_examples_path(command->held_out));
    ivon_predictor_free(predictor);
    trial_close(&trial);
    return code;
}

static int try_decay(struct fit_command *command, double log_decay, double *best, double *least,
                     struct ivon_error *error)
{
    double nll, decay = pow(10, log_decay);
    int code = ivon_fit_set_weight_decay(command->fit, decay, error);
    if (!code)
        code = trial_find_nll(command, &nll, error);
    if (code)
        return code;
    if (command->common.verbose)
        report_note("weight decay %.6g: NLL %.6g on %s", decay, nll, command->validation);
    if (!(nll >= *least)) {
        *least = nll;
        *best = log_decay;
    }
    return 0;
}

int fit_validate(struct fit_command *command, struct ivon_error *error)
{
    double center = log10(ivon_fit_summary(command->fit).weight_decay), best = center;
    double least = INFINITY;
    int code = 0;
    for (int i = -DECADES; i <= DECADES && !code; i++)
        code = try_decay(command, center + i, &best, &least, error);
    for (int i = 0; i < REFINEMENTS && !code; i++) {
        int halvings = 1 + i / 2;
        double step = pow(0.5, halvings);
        code = try_decay(command, best + (i % 2 ? step : -step), &best, &least, error);
    }
    if (!code && !command->common.quiet)
        report_note("validation: weight decay %.6g, where the evidence had %.6g; NLL %.6g",
                    pow(10, best), pow(10, center), least);
    return code ? code : ivon_fit_set_weight_decay(command->fit, pow(10, best), error);
}
