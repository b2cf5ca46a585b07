/* The results of a piece of a block: computed from its sums, measured, and handed out. */
#include <stdlib.h>

#include "bayes/predict/run.h"
#include "core/error.h"
#include "core/parallel.h"

enum { MEASURED_ONCE = 1 << 18 }; /* probabilities that one thread measures at a time */

int predict_run_finish_tile(void *context, size_t i, int thread, struct ivon_error *error)
{
    (void)thread;
    const struct run *run = context;
    struct ivon_predictor *predictor = run->predictor;
    size_t k = predictor->outputs.k, first;
    size_t rows = predict_run_rows(run, i + run->piece / predictor->runner.tile, &first);
    size_t row = first - run->piece * predictor->outputs.tokens;
    struct row_results at = predictor->results;
    enum ivon_likelihood likelihood = predictor->options.task.likelihood;
    size_t width = ivon_likelihood_targets(likelihood, k);
    if (ivon_likelihood_traits(likelihood)->regression) {
        at.mean += row * width;
        at.epistemic_std += row * width;
        at.aleatoric_std = at.aleatoric_std ? at.aleatoric_std + row * width : NULL;
    } else {
        at.probabilities += row * k;
        at.prediction = at.prediction ? at.prediction + row * width : NULL;
        at.max_probability = at.max_probability ? at.max_probability + row : NULL;
        at.entropy = at.entropy ? at.entropy + row : NULL;
        at.expected_entropy = at.expected_entropy ? at.expected_entropy + row : NULL;
        at.mutual_information = at.mutual_information ? at.mutual_information + row : NULL;
    }
    rows_finish(&predictor->sums, first, rows, &at);
    const struct ivon_examples *examples = predictor->data.examples;
    uint64_t number = run->first * predictor->outputs.tokens + first;
    struct outputs predicted = predictor->outputs;
    predicted.k = at.mean ? width : k;
    int code = outputs_check_finite(&predicted, examples, number,
                                    at.mean ? at.mean : at.probabilities, rows, error);
    const struct row_targets targets = labelled_targets(&predictor->data, first);
    if (!code && at.loss)
        rows_losses(&predictor->sums, first, rows, at.probabilities, &targets, at.loss + row);
    if (!code && at.mean && at.aleatoric_std) /* variances may overflow where means do not */
        code = outputs_check_finite(&predicted, examples, number, at.aleatoric_std, rows, error);
    return code;
}

/* Adds rows of regression to the metrics without a group. */
static int measure_regression(const struct run *run, size_t without, size_t row, size_t rows,
                              struct ivon_error *error)
{
    const struct ivon_predictor *predictor = run->predictor;
    size_t width = ivon_likelihood_targets(predictor->likelihood.kind, predictor->likelihood.k);
    double *means = calloc(rows * width, sizeof *means);
    double *densities = calloc(rows, sizeof *densities);
    int code = means && densities ? 0 : ivon_error_memory(error);
    if (!code) {
        rows_densities(&predictor->sums, without, row, rows, means, densities);
        code = ivon_metrics_add_regression(predictor->metrics[without], rows, means,
                                           predictor->data.numbers + row * width, densities, error);
    }
    free(means);
    free(densities);
    return code;
}

/* Adds rows of probabilities to the metrics without a group. */
static int measure_classes(const struct run *run, size_t without, size_t row, size_t rows,
                           struct ivon_error *error)
{
    const struct ivon_predictor *predictor = run->predictor;
    const struct row_targets targets = labelled_targets(&predictor->data, row);
    float *probabilities = calloc(rows * predictor->outputs.k, sizeof *probabilities);
    if (!probabilities)
        return ivon_error_memory(error);
    rows_probabilities(&predictor->sums, without, row, rows, probabilities);
    int code = ivon_metrics_add(predictor->metrics[without],
                                run->first * predictor->outputs.tokens + row, rows, probabilities,
                                targets.labels, predictor->options.task.ignored, error);
    free(probabilities);
    return code;
}

/* Adds the piece to the metrics without group i, or for the last i to those with all. */
static int measure_without(void *context, size_t i, int thread, struct ivon_error *error)
{
    (void)thread;
    const struct run *run = context;
    const struct ivon_predictor *predictor = run->predictor;
    enum ivon_likelihood likelihood = predictor->options.task.likelihood;
    bool regression = ivon_likelihood_traits(likelihood)->regression;
    size_t without = predictor->groups > 1 && i < predictor->groups ? i : ROWS_GROUPS_MAX;
    size_t tokens = predictor->outputs.tokens, most = MEASURED_ONCE / predictor->outputs.k + 1;
    size_t end = (run->piece + predict_run_piece(run, run->piece)) * tokens;
    struct ivon_error inner = {0};
    int code = 0;
    for (size_t row = run->piece * tokens; row < end && !code; row += most) {
        size_t rows = end - row < most ? end - row : most;
        code = regression ? measure_regression(run, without, row, rows, &inner)
                          : measure_classes(run, without, row, rows, &inner);
    }
    return code ? ivon_error_set(error, code, "%s: %s",
                                 ivon_examples_path(predictor->data.examples), inner.message)
                : 0;
}

/* The address of element `at` of an array, unless that is null. */
#define FROM(array, at) ((array) ? (array) + (at) : NULL)

static struct ivon_predictions predict_run_describe(const struct run *run)
{
    const struct ivon_predictor *predictor = run->predictor;
    const struct row_results *results = &predictor->results;
    const struct labelled *data = &predictor->data;
    size_t tokens = predictor->outputs.tokens, targets = outputs_targets(&predictor->outputs);
    size_t at = run->piece, place = predict_run_place(run, 0, at);
    return (struct ivon_predictions){
        .first = run->first + at,
        .count = predict_run_piece(run, at),
        .prediction = results->prediction,
        .probabilities = results->probabilities,
        .max_probability = results->max_probability,
        .entropy = results->entropy,
        .expected_entropy = results->expected_entropy,
        .mutual_information = results->mutual_information,
        .mean = results->mean,
        .epistemic_std = results->epistemic_std,
        .aleatoric_std = results->aleatoric_std,
        .logits = predictor->options.logits
                      ? FROM(predictor->logits, at * tokens * predictor->outputs.k)
                      : NULL,
        .loss = results->loss,
        .labels = FROM(data->labels, at * targets),
        .targets = FROM(data->numbers, at * targets),
        .counts = FROM(data->counts, at * tokens),
        .positions = FROM(data->positions, at),
        .log_likelihoods = FROM(predictor->log_likelihoods, place),
        .label_replicates = FROM(predictor->label_replicates, place * targets),
        .number_replicates = FROM(predictor->number_replicates, place * targets),
        .sample_outputs = FROM(predictor->sample_outputs, place * tokens * predictor->outputs.k),
    };
}

void predict_run_measure_at_mean(const struct run *run)
{
    struct ivon_predictor *predictor = run->predictor;
    const struct likelihood *likelihood = &predictor->likelihood;
    const struct likelihood_kind *kind = likelihood_kind_of(likelihood->kind);
    double loss;
    for (size_t i = 0; i < run->count * predictor->outputs.tokens; i++) {
        const struct row_targets targets = labelled_targets(&predictor->data, i);
        if (!predictor->data.counts[i])
            continue;
        likelihood_evaluate(likelihood, 1, predictor->logits + i * likelihood->k, &targets, NULL,
                            &loss);
        moments_add(&predictor->nll_at_mean, kind->nll(likelihood, loss), 1);
    }
}

int predict_run_hand_out(struct run *run, bool finished, struct ivon_error *error)
{
    const struct ivon_predictor *predictor = run->predictor;
    size_t tiles = predict_run_tiles(run, predict_run_piece(run, run->piece)),
           groups = predictor->groups;
    int code = 0;
    if (!finished)
        code = ivon_parallel_run(run->threads, tiles, predict_run_finish_tile, run, error);
    if (!code && predictor->metrics[ROWS_GROUPS_MAX])
        code = ivon_parallel_run(run->threads, groups > 1 ? groups + 1 : 1, measure_without, run,
                                 error);
    struct ivon_predictions predictions = predict_run_describe(run);
    return code || !run->on_block ? code : run->on_block(run->context, &predictions, error);
}
