/*
 * Blocks of examples, and over each all samples of all members. Where there are tiles enough for
 * the threads, or fewer samples than threads, they share one sample and each takes tiles; else
 * each takes samples of its own, a wave at a time. Either way a row's samples are added in their
 * order, so that the bits are the same.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bayes/predict/private.h"
#include "core/error.h"
#include "core/parallel.h"

enum { TILES_PER_THREAD = 4, ROWS_JOB = 256 /* rows that one thread adds at a time */ };

/* One thread's own sample, and its outputs for a whole block. */
struct worker {
    struct weights weights;
    float *outputs;
};

struct run {
    struct ivon_predictor *predictor;
    struct worker *workers; /* null: the threads share one sample, by tiles */
    int threads;
    struct weights weights; /* the sample that is shared */
    uint64_t first;         /* of the block */
    size_t count;
    /* The samples that are being added: */
    size_t member, pass;
    double weight;
    size_t wave;
    bool at_mean; /* only the outputs at the mean are wanted */
    bool set;     /* the threads' networks have weights */
};

static size_t tiles_of(const struct run *run)
{
    return (run->count + run->predictor->runner.tile - 1) / run->predictor->runner.tile;
}

/* Workers. */

static void predict_run_release(struct run *run)
{
    for (int i = 0; i < run->threads && run->workers; i++) {
        weights_release(&run->workers[i].weights);
        free(run->workers[i].outputs);
        run->workers[i] = (struct worker){0};
    }
    weights_release(&run->weights);
    runner_stop(&run->predictor->runner);
}

/* Makes ready for the network of a member. */
static int predict_run_start(struct run *run, struct ivon_error *error)
{
    struct ivon_predictor *predictor = run->predictor;
    const struct ivon_network *network = predictor->members[run->member].network;
    size_t rows = predictor->block * predictor->outputs.tokens;
    predict_run_release(run);
    predictor->runner.network = network;
    int code = runner_start(&predictor->runner, &predictor->data.feed, run->threads, error);
    if (!code && !run->workers)
        code = weights_init(&run->weights, network, error);
    for (int i = 0; i < run->threads && !code && run->workers; i++) {
        struct worker *worker = &run->workers[i];
        worker->outputs = calloc(rows * predictor->outputs.k, sizeof *worker->outputs);
        code = worker->outputs ? weights_init(&worker->weights, network, error)
                               : ivon_error_memory(error);
    }
    return code;
}

/* Tiles. */

/* Adds rows of outputs to the sums, or at the mean to the logits. */
static void add_rows(const struct run *run, size_t pass, size_t row, size_t count,
                     const float *outputs)
{
    struct ivon_predictor *predictor = run->predictor;
    size_t k = predictor->outputs.k, tokens = predictor->outputs.tokens;
    if (!run->first && !row && !pass && !run->member)
        predictor->probabilities |= outputs_are_probabilities(&predictor->outputs, outputs, count);
    if (run->at_mean) {
        for (size_t i = 0; i < count * k; i++)
            predictor->logits[row * k + i] += (float)(run->weight * (double)outputs[i]);
        return;
    }
    double *matrix = NULL, values[ROWS_JOB];
    if (predictor->log_likelihoods)
        matrix = predictor->log_likelihoods + (run->member * predictor->passes + pass) * run->count;
    for (size_t at = 0; at < count; at += ROWS_JOB) {
        size_t piece = count - at < ROWS_JOB ? count - at : ROWS_JOB;
        const struct row_targets targets = labelled_targets(&predictor->data, row + at);
        rows_add(&predictor->sums, pass % predictor->groups, run->weight, row + at, piece,
                 outputs + at * k, &targets, matrix ? values : NULL);
        for (size_t i = 0; matrix && i < piece; i++)
            matrix[(row + at + i) / tokens] += values[i];
    }
    if (matrix) {
        uint64_t sample = run->member * predictor->passes + pass;
        size_t width = targets_width(predictor->options.task.likelihood, k);
        size_t offset = ((size_t)sample * run->count * tokens + row) * width;
        draw_replicates(predictor, sample, run->first * tokens + row, count, outputs,
                        predictor->data.counts + row,
                        predictor->label_replicates ? predictor->label_replicates + offset : NULL,
                        predictor->number_replicates ? predictor->number_replicates + offset
                                                     : NULL);
    }
}

static int finish_tile(void *context, size_t i, int thread, struct ivon_error *error)
{
    (void)thread;
    const struct run *run = context;
    struct ivon_predictor *predictor = run->predictor;
    size_t most = predictor->runner.tile * predictor->outputs.tokens, k = predictor->outputs.k;
    size_t row = i * most, rows = run->count * predictor->outputs.tokens - row;
    rows = rows < most ? rows : most;
    struct row_results at = predictor->results;
    enum ivon_likelihood likelihood = predictor->options.task.likelihood;
    if (ivon_likelihood_traits(likelihood)->regression) {
        at.mean += row * k;
        at.epistemic_std += row * k;
        at.aleatoric_std = at.aleatoric_std ? at.aleatoric_std + row * k : NULL;
    } else {
        at.prediction += row * targets_width(likelihood, k);
        at.probabilities += row * k;
        at.max_probability += row;
        at.entropy += row;
        at.expected_entropy += row;
        at.mutual_information += row;
    }
    rows_finish(&predictor->sums, row, rows, &at);
    return outputs_check_finite(&predictor->outputs, ivon_examples_path(predictor->data.examples),
                                run->first * predictor->outputs.tokens + row,
                                at.mean ? at.mean : at.probabilities, rows, error);
}

static int shared_tile(void *context, const struct runner_tile *tile, struct ivon_error *error)
{
    const struct run *run = context;
    const struct ivon_predictor *predictor = run->predictor;
    size_t tokens = predictor->outputs.tokens;
    add_rows(run, run->pass, tile->at * tokens, tile->count * tokens, tile->f);
    return predictor->single && !run->at_mean
               ? finish_tile(context, tile->at / predictor->runner.tile, tile->thread, error)
               : 0;
}

/* The mean where that alone is wanted. */
static struct ivon_sample_options predict_run_sample(const struct run *run)
{
    struct ivon_sample_options sample = run->predictor->options.sample;
    if (run->at_mean || !run->predictor->options.samples)
        sample.temperature = 0;
    return sample;
}

/* One sample over the whole block, kept in the worker's memory. */
static int own_sample(void *context, size_t i, int thread, struct ivon_error *error)
{
    (void)thread; /* sample i of the wave belongs to worker i */
    const struct run *run = context;
    struct ivon_predictor *predictor = run->predictor;
    const struct worker *worker = &run->workers[i];
    const struct ivon_sample_options options = predict_run_sample(run);
    size_t row_size = predictor->outputs.tokens * predictor->outputs.k;
    int code = covariance_draw(predictor->members[run->member].covariance, &run->workers[i].weights,
                               &options, run->pass + i, 1, error);
    if (!code)
        code = runner_worker_set(&predictor->runner.workers[i],
                                 (const float *const *)worker->weights.arrays, error);
    for (size_t t = 0; t < tiles_of(run) && !code; t++) {
        struct runner_tile tile;
        code = runner_run_tile(&predictor->runner, (int)i, &predictor->data.feed, t, &tile, error);
        if (!code)
            memcpy(worker->outputs + tile.at * row_size, tile.f,
                   tile.count * row_size * sizeof *tile.f);
    }
    return code;
}

/* Adds a range of whole examples' rows of every sample of a wave, in the samples' order. */
static int add_wave(void *context, size_t i, int thread, struct ivon_error *error)
{
    (void)thread;
    (void)error;
    const struct run *run = context;
    const struct ivon_predictor *predictor = run->predictor;
    size_t most = predictor->runner.tile * predictor->outputs.tokens, row = i * most;
    size_t rows = run->count * predictor->outputs.tokens - row;
    rows = rows < most ? rows : most;
    for (size_t s = 0; s < run->wave; s++)
        add_rows(run, run->pass + s, row, rows,
                 run->workers[s].outputs + row * predictor->outputs.k);
    return 0;
}

/* Samples. */

/* Sets the weights of all threads to one sample. */
static int set_shared(struct run *run, struct ivon_error *error)
{
    struct ivon_predictor *predictor = run->predictor;
    struct runner *runner = &predictor->runner;
    const struct member *member = &predictor->members[run->member];
    const struct ivon_sample_options options = predict_run_sample(run);
    int code = covariance_draw(member->covariance, &run->weights, &options, run->pass, run->threads,
                               error);
    if (!code && predictor->options.recalibrate)
        code = recalibrate(predictor, member, &run->weights, error);
    if (!code)
        code = runner_set(runner, (const float *const *)run->weights.arrays, error);
    return code;
}

/* One sample for all threads. */
static int run_shared(struct run *run, struct ivon_error *error)
{
    struct ivon_predictor *predictor = run->predictor;
    int code = predictor->single && run->set ? 0 : set_shared(run, error);
    run->set = !code;
    return code ? code
                : runner_run_block(&predictor->runner, &predictor->data.feed, shared_tile, run,
                                   NULL, error);
}

/* As many samples at a time as there are threads. */
static int run_wave(struct run *run, struct ivon_error *error)
{
    int code = ivon_parallel_run(run->threads, run->wave, own_sample, run, error);
    return code ? code : ivon_parallel_run(run->threads, tiles_of(run), add_wave, run, error);
}

static int predict_run_passes(struct run *run, size_t passes, struct ivon_error *error)
{
    struct ivon_predictor *predictor = run->predictor;
    int code = 0;
    for (run->pass = 0; run->pass < passes && !code; run->pass += run->wave) {
        run->wave = run->workers ? (size_t)run->threads : 1;
        if (run->wave > passes - run->pass)
            run->wave = passes - run->pass;
        for (size_t s = 0; s < run->wave && !run->at_mean; s++)
            predictor->sums.group_weight[(run->pass + s) % predictor->groups] += run->weight;
        code = run->workers ? run_wave(run, error) : run_shared(run, error);
        if (!code && !run->at_mean)
            code = meter_add(&predictor->meter, run->wave * run->count, error);
    }
    return code;
}

static int run_members(struct run *run, struct ivon_error *error)
{
    struct ivon_predictor *predictor = run->predictor;
    int code = 0;
    for (run->member = 0; run->member < predictor->member_count && !code; run->member++) {
        double weight = predictor->members[run->member].weight;
        if (predictor->member_count > 1 || !predictor->runner.workers)
            code = predict_run_start(run, error);
        run->weight = weight / (double)predictor->passes;
        run->at_mean = false;
        if (!code)
            code = predict_run_passes(run, predictor->passes, error);
        run->weight = weight;
        run->at_mean = true;
        if (!code && predictor->logits)
            code = predict_run_passes(run, 1, error);
    }
    return code;
}

/* Blocks. */

/* Adds the block to the metrics without group i, or for the last i to those with all. */
static int measure_without(void *context, size_t i, int thread, struct ivon_error *error)
{
    (void)thread;
    const struct run *run = context;
    struct ivon_predictor *predictor = run->predictor;
    bool regression = ivon_likelihood_traits(predictor->options.task.likelihood)->regression;
    size_t without = predictor->groups > 1 && i < predictor->groups ? i : ROWS_GROUPS_MAX;
    size_t rows = run->count * predictor->outputs.tokens, all = rows * predictor->outputs.k;
    struct ivon_metrics *metrics = predictor->metrics[without];
    uint64_t first = run->first * predictor->outputs.tokens;
    struct ivon_error inner = {0};
    int code;
    if (regression) {
        double *means = calloc(all, sizeof *means), *densities = calloc(rows, sizeof *densities);
        code = means && densities ? 0 : ivon_error_memory(error);
        if (!code) {
            rows_densities(&predictor->sums, without, 0, rows, means, densities);
            code = ivon_metrics_add_regression(metrics, rows, means, predictor->data.numbers,
                                               densities, &inner);
        }
        if (inner.code)
            ivon_error_set(error, code, "%s: %s", ivon_examples_path(predictor->data.examples),
                           inner.message);
        free(means);
        free(densities);
        return code;
    }
    float *probabilities = calloc(all, sizeof *probabilities);
    if (!probabilities)
        return ivon_error_memory(error);
    rows_probabilities(&predictor->sums, without, 0, rows, probabilities);
    code = ivon_metrics_add(metrics, first, rows, probabilities, predictor->data.labels,
                            predictor->options.task.ignored, &inner);
    if (code)
        ivon_error_set(error, code, "%s: %s", ivon_examples_path(predictor->data.examples),
                       inner.message);
    free(probabilities);
    return code;
}

static struct ivon_predictions predict_run_describe(const struct run *run)
{
    const struct ivon_predictor *predictor = run->predictor;
    const struct row_results *results = &predictor->results;
    return (struct ivon_predictions){
        .first = run->first,
        .count = run->count,
        .prediction = results->prediction,
        .probabilities = results->probabilities,
        .max_probability = results->max_probability,
        .entropy = results->entropy,
        .expected_entropy = results->expected_entropy,
        .mutual_information = results->mutual_information,
        .mean = results->mean,
        .epistemic_std = results->epistemic_std,
        .aleatoric_std = results->aleatoric_std,
        .logits = predictor->options.logits ? predictor->logits : NULL,
        .labels = predictor->data.labels,
        .targets = predictor->data.numbers,
        .counts = predictor->data.counts,
        .positions = predictor->data.positions,
        .log_likelihoods = predictor->log_likelihoods,
        .label_replicates = predictor->label_replicates,
        .number_replicates = predictor->number_replicates,
    };
}

/* Adds the losses of the block's rows at the mean, as the metrics have the NLL. */
static void measure_at_mean(const struct run *run)
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

static int predict_run_block(struct run *run,
                             int (*on_block)(void *context,
                                             const struct ivon_predictions *predictions,
                                             struct ivon_error *error),
                             void *context, struct ivon_error *error)
{
    struct ivon_predictor *predictor = run->predictor;
    size_t all = predictor->block * predictor->outputs.tokens * predictor->outputs.k;
    rows_clear(&predictor->sums);
    if (predictor->logits)
        memset(predictor->logits, 0, all * sizeof(float));
    if (predictor->log_likelihoods)
        memset(predictor->log_likelihoods, 0,
               predictor->member_count * predictor->passes * predictor->block * sizeof(double));
    int code = labelled_load(&predictor->data, &predictor->runner, run->first, error);
    run->count = predictor->data.present;
    if (!code)
        code = run_members(run, error);
    if (!code && !predictor->single)
        code = ivon_parallel_run(run->threads, tiles_of(run), finish_tile, run, error);
    if (!code && predictor->metrics[ROWS_GROUPS_MAX])
        code = ivon_parallel_run(run->threads, predictor->groups > 1 ? predictor->groups + 1 : 1,
                                 measure_without, run, error);
    if (!code && predictor->options.nll_at_mean)
        measure_at_mean(run);
    struct ivon_predictions predictions = predict_run_describe(run);
    return code || !on_block ? code : on_block(context, &predictions, error);
}

int predictor_run(struct ivon_predictor *predictor,
                  int (*on_block)(void *context, const struct ivon_predictions *predictions,
                                  struct ivon_error *error),
                  void *context, struct ivon_error *error)
{
    struct run run = {.predictor = predictor,
                      .threads = ivon_parallel_threads(predictor->options.resources.threads)};
    uint64_t count = predictor->data.count;
    size_t tiles = predictor->block / predictor->runner.tile;
    bool share = run.threads == 1 || predictor->options.recalibrate ||
                 predictor->passes < (size_t)run.threads ||
                 tiles >= TILES_PER_THREAD * (size_t)run.threads;
    run.workers = share ? NULL : calloc((size_t)run.threads, sizeof *run.workers);
    if (!share && !run.workers)
        return ivon_error_memory(error);
    meter_init(&predictor->meter, &predictor->options.resources.progress,
               count * predictor->passes * predictor->member_count);
    int code = 0;
    for (run.first = 0; run.first < count && !code; run.first += predictor->block)
        code = predict_run_block(&run, on_block, context, error);
    predict_run_release(&run);
    free(run.workers);
    meter_release(&predictor->meter);
    return code;
}
