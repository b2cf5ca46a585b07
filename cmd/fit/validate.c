#define _GNU_SOURCE
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/fit/fit.h"
#include "cmd/shared/report.h"

enum {
    SAMPLES = 32,
    DECADES = 4,  /* on either side of where a search begins */
    HALVINGS = 4, /* of the step around the best: 1, ½, ¼, ⅛ of a power of ten */
    TRIALS = 200, /* of a search at most */
};

/* NLLs that differ by less are as good as each other. */
static const double GAIN = 1e-3;

/* One posterior with the network that predicts by it. */
struct trial {
    struct ivon_source *source;
    struct ivon_network *network;
};

static int trial_open(struct trial *trial, struct fit_command *command, struct ivon_error *error)
{
    struct evaluation_options *evaluation = &command->evaluation;
    struct common_options quiet = command->common;
    const char *path = evaluation->model ? evaluation->model : command->input;
    quiet.quiet = true; /* what is said of the graph was said */
    quiet.verbose = false;
    struct ivon_unbound unbound;
    int code = evaluation->model
                   ? ivon_onnx_open(&trial->network, evaluation->model, error)
                   : ivon_onnx_from_checkpoint(&trial->network, command->source, error);
    if (!code)
        code = graph_adapt(&evaluation->graph, evaluation->task.likelihood, trial->network,
                           trial->source, path, &quiet, error);
    return code ? code
                : ivon_network_bind(trial->network, trial->source, &evaluation->graph.bind,
                                    &unbound, error);
}

static int trial_pass_over(void *context, const struct ivon_predictions *predictions,
                           struct ivon_error *error)
{
    (void)context;
    (void)predictions;
    (void)error;
    return 0;
}

static double trial_nll(struct ivon_predictor *predictor)
{
    size_t count = 0;
    const struct ivon_predict_metric *metrics = ivon_predictor_metrics(predictor, &count);
    for (size_t i = 0; i < count && metrics; i++)
        if (strcmp(metrics[i].metric.name, "nll") == 0)
            return metrics[i].metric.value;
    return NAN;
}

int fit_held_out_nll(struct fit_command *command, struct ivon_source *source, double *nll,
                     struct ivon_error *error)
{
    struct trial trial = {.source = source};
    struct ivon_predictor *predictor = NULL;
    struct ivon_predict_options options = ivon_predict_defaults();
    int code = trial_open(&trial, command, error);
    struct ivon_member member = {trial.network, trial.source, 1};
    options.task = command->options.task;
    if (command->fit && ivon_likelihood_traits(options.task.likelihood)->noise)
        options.task.noise_std = ivon_fit_summary(command->fit).noise_std;
    options.samples = SAMPLES;
    options.sample.seed = command->options.seed;
    options.batch = command->options.batch;
    options.resources.threads = command->common.threads;
    if (!code)
        code = ivon_predictor_new(&predictor, &member, 1, command->held_out,
                                  evaluation_targets(&command->evaluation), &options, error);
    if (!code)
        code = ivon_predictor_run(predictor, trial_pass_over, NULL, error);
    *nll = code ? NAN : trial_nll(predictor);
    if (!code && !isfinite(*nll))
        code = error_fill(error, IVON_ERROR_DATA, "%s: no target counts, or the NLL is not finite",
                          ivon_examples_path(command->held_out));
    ivon_predictor_free(predictor);
    ivon_network_free(trial.network);
    ivon_source_close(trial.source);
    return code;
}

/* One prior: powers of ten, times the values where the search began. */
struct search_trial {
    double at[FIT_AXES], nll;
};

struct search_state {
    struct fit_search *search;
    struct search_trial trials[TRIALS], best;
    size_t count;
};

static void search_value(const struct fit_search *search, const double at[FIT_AXES],
                         double value[FIT_AXES])
{
    for (int axis = 0; axis < FIT_AXES; axis++)
        value[axis] = search->value[axis] * pow(10, at[axis]);
}

static void search_note(const struct fit_search *search, const double value[FIT_AXES], double nll)
{
    char decay[64] = "", temperature[64] = "";
    if (search->moves[FIT_DECAY])
        snprintf(decay, sizeof decay, "weight decay %.6g, ", value[FIT_DECAY]);
    if (search->moves[FIT_TEMPERATURE])
        snprintf(temperature, sizeof temperature, "temperature %.6g, ", value[FIT_TEMPERATURE]);
    report_note("%s%sNLL %.6g on %s", decay, temperature, nll, search->command->validation);
}

/* Keeps a point if it is the best so far. One that cannot be predicted by has no NLL. */
static int search_try(struct search_state *state, const double at[FIT_AXES],
                      struct ivon_error *error)
{
    const struct fit_search *search = state->search;
    struct fit_command *command = search->command;
    struct ivon_source *source = NULL;
    double nll = INFINITY, value[FIT_AXES];
    search_value(search, at, value);
    for (size_t i = 0; i < state->count; i++)
        if (state->trials[i].at[FIT_DECAY] == at[FIT_DECAY] &&
            state->trials[i].at[FIT_TEMPERATURE] == at[FIT_TEMPERATURE])
            return 0;
    if (state->count == TRIALS || (search->moves[FIT_DECAY] && !(value[FIT_DECAY] > search->floor)))
        return 0;
    int code = search->make(search, value, &source, error);
    if (!code)
        code = fit_held_out_nll(command, source, &nll, error);
    if (code && code != IVON_ERROR_DATA)
        return code;
    struct search_trial *trial = &state->trials[state->count++];
    memcpy(trial->at, at, sizeof trial->at);
    trial->nll = code ? INFINITY : nll;
    if (command->common.verbose && !code)
        search_note(search, value, nll);
    if (trial->nll < state->best.nll)
        state->best = *trial;
    return 0;
}

/* Powers of ten on either side of where it begins; of two numbers, every other one. */
static int search_scan(struct search_state *state, struct ivon_error *error)
{
    const struct fit_search *search = state->search;
    int step = search->moves[FIT_DECAY] && search->moves[FIT_TEMPERATURE] ? 2 : 1, code = 0;
    int decays = search->moves[FIT_DECAY] ? DECADES : 0;
    int temperatures = search->moves[FIT_TEMPERATURE] ? DECADES : 0;
    for (int i = -decays; i <= decays && !code; i += step)
        for (int j = -temperatures; j <= temperatures && !code; j += step)
            code = search_try(state, (double[]){[FIT_DECAY] = i, [FIT_TEMPERATURE] = j}, error);
    return code;
}

/* Steps of one size from the best, one number at a time, as long as they gain. */
static int search_step(struct search_state *state, double step, struct ivon_error *error)
{
    double before = INFINITY;
    int code = 0;
    while (before - state->best.nll > GAIN && !code) {
        before = state->best.nll;
        for (int move = 0; move < 2 * FIT_AXES && !code; move++) {
            double at[FIT_AXES];
            memcpy(at, state->best.at, sizeof at);
            at[move / 2] += move % 2 ? step : -step;
            if (state->search->moves[move / 2])
                code = search_try(state, at, error);
        }
    }
    return code;
}

/* Of what is as good as the best, takes what is nearest to where the search began. */
static void search_settle(const struct search_state *state)
{
    struct fit_search *search = state->search;
    const struct search_trial *found = &state->best;
    double nearest = INFINITY, value[FIT_AXES];
    for (size_t i = 0; i < state->count; i++) {
        const struct search_trial *trial = &state->trials[i];
        double distance = 0;
        for (int axis = 0; axis < FIT_AXES; axis++)
            distance += fabs(trial->at[axis]);
        if (trial->nll > state->best.nll + GAIN || distance >= nearest)
            continue;
        nearest = distance;
        found = trial;
    }
    search_value(search, found->at, value);
    memcpy(search->value, value, sizeof value);
    search->nll = found->nll;
}

int fit_search_run(struct fit_search *search, struct ivon_error *error)
{
    struct search_state state = {.search = search, .best.nll = INFINITY};
    int code = search_scan(&state, error);
    if (!code && isinf(state.best.nll))
        code = error->code; /* of the last trial */
    for (int i = 0; i < HALVINGS && !code; i++)
        code = search_step(&state, pow(0.5, i), error);
    if (!code)
        search_settle(&state);
    return code;
}

static int fit_make(const struct fit_search *search, const double value[FIT_AXES],
                    struct ivon_source **source, struct ivon_error *error)
{
    struct fit_command *command = search->command;
    int code = ivon_fit_set_weight_decay(command->fit, value[FIT_DECAY], error);
    return code ? code
                : ivon_fit_source(source, command->fit, command->graph, command->graph_size, error);
}

int fit_validate(struct fit_command *command, struct ivon_error *error)
{
    double decay = ivon_fit_summary(command->fit).weight_decay;
    struct fit_search search = {.command = command,
                                .moves = {[FIT_DECAY] = true},
                                .value = {[FIT_DECAY] = decay, [FIT_TEMPERATURE] = 1},
                                .make = fit_make};
    int code = fit_search_run(&search, error);
    if (code)
        return code;
    if (!command->common.quiet)
        report_note("validation: weight decay %.6g, where the evidence had %.6g; NLL %.6g",
                    search.value[FIT_DECAY], decay, search.nll);
    return ivon_fit_set_weight_decay(command->fit, search.value[FIT_DECAY], error);
}
