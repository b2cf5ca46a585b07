/*
 * Blocks of examples, and over each all samples of all members. Where there are tiles enough for
 * the threads, they share one sample and each takes tiles; where there are few, each takes samples
 * of its own, a wave at a time. Either way a row's samples are added in their order, so that the
 * bits are the same.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bayes/likelihood.h"
#include "bayes/predict/private.h"
#include "core/error.h"
#include "core/memory.h"
#include "core/parallel.h"
#include "core/random.h"

enum { TILES_PER_THREAD = 4, ROWS_JOB = 256 /* rows that one thread adds at a time */ };

struct run {
    struct ivon_predictor *predictor;
    struct worker *workers;
    int threads;
    bool share;             /* one sample, by tiles */
    struct weights weights; /* the sample that is shared */
    uint64_t first;         /* of the block */
    size_t count;
    /* The samples that are being added: */
    size_t member, pass;
    double weight;
    size_t wave;
    bool at_mean; /* only the outputs at the mean are wanted */
};

static size_t tiles_of(const struct run *run)
{
    return (run->count + run->predictor->tile - 1) / run->predictor->tile;
}

/* Workers. */

static void predict_run_release_worker(struct worker *worker)
{
    net_plan_free(worker->plan);
    free(worker->inputs);
    free(worker->room);
    free(worker->outputs);
    weights_release(&worker->weights);
    *worker = (struct worker){0};
}

static int predict_run_make_worker(const struct run *run, struct worker *worker,
                                   struct ivon_error *error)
{
    const struct ivon_predictor *predictor = run->predictor;
    const struct ivon_network *network = predictor->members[run->member].network;
    size_t inputs = network->input_count;
    size_t room = predictor->tile * feed_example_size(&predictor->feed) + 64 * (inputs + 1);
    size_t rows = predictor->block * predictor->outputs.tokens;
    struct net_tensor *shapes = calloc(inputs, sizeof *shapes);
    worker->inputs = calloc(inputs, sizeof *worker->inputs);
    worker->room = memory_aligned(room);
    if (!run->share)
        worker->outputs = calloc(rows * predictor->outputs.k, sizeof *worker->outputs);
    int code = shapes && worker->inputs && worker->room && (run->share || worker->outputs)
                   ? 0
                   : ivon_error_memory(error);
    if (!code)
        code = feed_shapes(&predictor->feed, (int64_t)predictor->tile, shapes, error);
    if (!code)
        code = net_plan_new(&worker->plan, network, shapes, 0, error);
    if (!code && !run->share)
        code = weights_init(&worker->weights, network, error);
    free(shapes);
    return code;
}

static int make_workers(struct run *run, struct ivon_error *error)
{
    int code = 0;
    for (int i = 0; i < run->threads && !code; i++) {
        predict_run_release_worker(&run->workers[i]);
        code = predict_run_make_worker(run, &run->workers[i], error);
    }
    weights_release(&run->weights);
    if (!code && run->share)
        code = weights_init(&run->weights, run->predictor->members[run->member].network, error);
    return code;
}

/* Tiles. */

/* Runs one tile; *rows receives how many of its rows are examples' and not filled up. */
static int predict_run_tile(const struct run *run, struct worker *worker, size_t tile,
                            const float **outputs, size_t *rows, struct ivon_error *error)
{
    const struct ivon_predictor *predictor = run->predictor;
    size_t at = tile * predictor->tile;
    size_t present = run->count - at < predictor->tile ? run->count - at : predictor->tile;
    feed_tile(&predictor->feed, at, predictor->tile, worker->inputs, worker->room);
    int code = net_plan_run(worker->plan, worker->inputs, error);
    *outputs = net_plan_output(worker->plan, 0)->data;
    *rows = present * predictor->outputs.tokens;
    return code;
}

static struct row_targets targets_at(const struct ivon_predictor *predictor, size_t row)
{
    bool any = predictor->target_field >= 0;
    const struct row_targets all = {.labels = any ? predictor->labels : NULL,
                                    .numbers = any ? predictor->numbers : NULL,
                                    .ignored = predictor->options.ignored};
    return targets_from(&all, predictor->options.likelihood, predictor->outputs.k, row);
}

/* Adds rows of outputs to the sums, or at the mean to the logits. */
static void add_rows(const struct run *run, size_t pass, size_t row, size_t count,
                     const float *outputs)
{
    struct ivon_predictor *predictor = run->predictor;
    size_t k = predictor->outputs.k, tokens = predictor->outputs.tokens;
    if (run->at_mean) {
        for (size_t i = 0; i < count * k; i++)
            predictor->logits[row * k + i] += (float)(run->weight * (double)outputs[i]);
        return;
    }
    struct row_targets targets = targets_at(predictor, row);
    double *matrix = NULL, values[ROWS_JOB];
    if (predictor->log_likelihoods)
        matrix = predictor->log_likelihoods + (run->member * predictor->passes + pass) * run->count;
    for (size_t at = 0; at < count; at += ROWS_JOB) {
        size_t piece = count - at < ROWS_JOB ? count - at : ROWS_JOB;
        targets = targets_at(predictor, row + at);
        rows_add(&predictor->sums, pass % predictor->groups, run->weight, row + at, piece,
                 outputs + at * k, &targets, matrix ? values : NULL);
        for (size_t i = 0; matrix && i < piece; i++)
            matrix[(row + at + i) / tokens] += values[i];
    }
    if (matrix) {
        uint64_t sample = run->member * predictor->passes + pass;
        size_t each = targets_width(predictor->options.likelihood, k);
        size_t offset = ((size_t)sample * run->count * tokens + row) * each;
        draw_replicates(
            predictor, sample, run->first * tokens + row, count, outputs, predictor->counts + row,
            predictor->label_replicates ? predictor->label_replicates + offset : NULL,
            predictor->number_replicates ? predictor->number_replicates + offset : NULL);
    }
}

static int shared_tile(void *context, size_t i, int thread, struct ivon_error *error)
{
    const struct run *run = context;
    const float *outputs;
    size_t rows;
    int code = predict_run_tile(run, &run->workers[thread], i, &outputs, &rows, error);
    if (!code)
        add_rows(run, run->pass, i * run->predictor->tile * run->predictor->outputs.tokens, rows,
                 outputs);
    return code;
}

/* One sample over the whole block, kept in the worker's memory. */
static int own_sample(void *context, size_t i, int thread, struct ivon_error *error)
{
    (void)thread; /* sample i of the wave belongs to worker i */
    const struct run *run = context;
    struct ivon_predictor *predictor = run->predictor;
    struct worker *worker = &run->workers[i];
    struct ivon_sample_options options = predictor->options.sample;
    if (run->at_mean || !predictor->options.samples)
        options.temperature = 0;
    int code = weights_draw(&worker->weights, &predictor->members[run->member], &options,
                            run->pass + i, 1, error);
    if (!code)
        code = net_plan_set_parameters(worker->plan, (const float *const *)worker->weights.arrays,
                                       error);
    for (size_t tile = 0; tile < tiles_of(run) && !code; tile++) {
        const float *outputs;
        size_t rows, row = tile * predictor->tile * predictor->outputs.tokens;
        code = predict_run_tile(run, worker, tile, &outputs, &rows, error);
        if (!code)
            memcpy(worker->outputs + row * predictor->outputs.k, outputs,
                   rows * predictor->outputs.k * sizeof *outputs);
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
    size_t row = i * predictor->tile * predictor->outputs.tokens;
    size_t rows = run->count * predictor->outputs.tokens - row;
    if (rows > predictor->tile * predictor->outputs.tokens)
        rows = predictor->tile * predictor->outputs.tokens;
    for (size_t s = 0; s < run->wave; s++)
        add_rows(run, run->pass + s, row, rows,
                 run->workers[s].outputs + row * predictor->outputs.k);
    return 0;
}

/* Samples. */

/* One sample for all threads. */
static int run_shared(struct run *run, struct ivon_error *error)
{
    struct ivon_predictor *predictor = run->predictor;
    const struct member *member = &predictor->members[run->member];
    struct ivon_sample_options options = predictor->options.sample;
    if (run->at_mean || !predictor->options.samples)
        options.temperature = 0;
    int code = weights_draw(&run->weights, member, &options, run->pass, run->threads, error);
    if (!code && predictor->options.recalibrate)
        code = recalibrate(predictor, member, &run->weights, error);
    for (int i = 0; i < run->threads && !code; i++)
        code = net_plan_set_parameters(run->workers[i].plan,
                                       (const float *const *)run->weights.arrays, error);
    if (!code)
        code = ivon_parallel_run(run->threads, tiles_of(run), shared_tile, run, error);
    return code;
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
        run->wave = run->share ? 1 : (size_t)run->threads;
        if (run->wave > passes - run->pass)
            run->wave = passes - run->pass;
        code = run->share ? run_shared(run, error) : run_wave(run, error);
        for (size_t s = 0; s < run->wave && !run->at_mean; s++)
            predictor->sums.group_weight[(run->pass + s) % predictor->groups] += run->weight;
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
        if (predictor->member_count > 1 || !run->workers[0].plan)
            code = make_workers(run, error);
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
    bool regression = predictor->options.likelihood == IVON_GAUSSIAN;
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
            code = ivon_metrics_add_regression(metrics, rows, means, predictor->numbers, densities,
                                               &inner);
        }
        if (inner.code)
            ivon_error_set(error, code, "%s: %s", ivon_examples_path(predictor->examples),
                           inner.message);
        free(means);
        free(densities);
        return code;
    }
    float *probabilities = calloc(all, sizeof *probabilities);
    if (!probabilities)
        return ivon_error_memory(error);
    rows_probabilities(&predictor->sums, without, 0, rows, probabilities);
    code = ivon_metrics_add(metrics, first, rows, probabilities, predictor->labels,
                            predictor->options.ignored, &inner);
    if (code)
        ivon_error_set(error, code, "%s: %s", ivon_examples_path(predictor->examples),
                       inner.message);
    free(probabilities);
    return code;
}

static int finish_tile(void *context, size_t i, int thread, struct ivon_error *error)
{
    (void)thread;
    const struct run *run = context;
    struct ivon_predictor *predictor = run->predictor;
    size_t row = i * predictor->tile * predictor->outputs.tokens, k = predictor->outputs.k;
    size_t rows = run->count * predictor->outputs.tokens - row;
    if (rows > predictor->tile * predictor->outputs.tokens)
        rows = predictor->tile * predictor->outputs.tokens;
    struct row_results at = predictor->results;
    bool bernoulli = predictor->options.likelihood == IVON_BERNOULLI;
    if (predictor->options.likelihood == IVON_GAUSSIAN) {
        at.mean += row * k;
        at.epistemic_std += row * k;
    } else {
        at.prediction += bernoulli ? row * k : row;
        at.probabilities += row * k;
        at.max_probability += row;
        at.entropy += row;
        at.expected_entropy += row;
        at.mutual_information += row;
    }
    rows_finish(&predictor->sums, row, rows, &at);
    return outputs_check_finite(&predictor->outputs, ivon_examples_path(predictor->examples),
                                run->first * predictor->outputs.tokens + row,
                                at.mean ? at.mean : at.probabilities, rows, error);
}

static struct ivon_predictions predict_run_describe(const struct run *run)
{
    const struct ivon_predictor *predictor = run->predictor;
    const struct row_results *results = &predictor->results;
    bool any = predictor->target_field >= 0;
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
        .logits = predictor->options.logits ? predictor->logits : NULL,
        .labels = any ? predictor->labels : NULL,
        .targets = any ? predictor->numbers : NULL,
        .counts = predictor->counts,
        .positions = predictor->positions,
        .log_likelihoods = predictor->log_likelihoods,
        .label_replicates = predictor->label_replicates,
        .number_replicates = predictor->number_replicates,
    };
}

/* Adds the losses of the block's rows at the mean, as the metrics have the NLL. */
static void measure_at_mean(const struct run *run)
{
    struct ivon_predictor *predictor = run->predictor;
    const struct ivon_predict_options *options = &predictor->options;
    const struct likelihood likelihood = {options->likelihood, predictor->outputs.k,
                                          options->noise_std};
    double k = (double)likelihood.k, loss, scale = likelihood.kind == IVON_BERNOULLI ? 1 / k : 1;
    double constant = likelihood.kind == IVON_GAUSSIAN
                          ? k * log(options->noise_std * sqrt(2 * 3.14159265358979323846))
                          : 0;
    for (size_t i = 0; i < run->count * predictor->outputs.tokens; i++) {
        const struct row_targets targets = targets_at(predictor, i);
        if (!predictor->counts[i])
            continue;
        likelihood_evaluate(&likelihood, 1, predictor->logits + i * likelihood.k, &targets, NULL,
                            &loss);
        moments_add(&predictor->nll_at_mean, scale * loss + constant, 1);
    }
}

static int predict_run_block(struct run *run,
                             int (*take)(void *context, const struct ivon_predictions *predictions,
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
    int code = feed_load(&predictor->feed, run->first, run->count, error);
    if (!code && predictor->target_field >= 0)
        code = outputs_read_targets(
            &predictor->outputs, predictor->examples, (size_t)predictor->target_field, run->first,
            run->count, predictor->options.ignored, predictor->labels, predictor->numbers, error);
    const struct row_targets targets = targets_at(predictor, 0);
    if (!code && predictor->counts)
        targets_mark(&targets, predictor->options.likelihood, predictor->outputs.k,
                     predictor->outputs.tokens, run->count, predictor->counts,
                     predictor->positions);
    if (!code)
        code = run_members(run, error);
    if (!code)
        code = ivon_parallel_run(run->threads, tiles_of(run), finish_tile, run, error);
    if (!code && predictor->metrics[ROWS_GROUPS_MAX])
        code = ivon_parallel_run(run->threads, predictor->groups > 1 ? predictor->groups + 1 : 1,
                                 measure_without, run, error);
    if (!code && predictor->options.nll_at_mean)
        measure_at_mean(run);
    struct ivon_predictions predictions = predict_run_describe(run);
    return code || !take ? code : take(context, &predictions, error);
}

int predictor_run(struct ivon_predictor *predictor,
                  int (*take)(void *context, const struct ivon_predictions *predictions,
                              struct ivon_error *error),
                  void *context, struct ivon_error *error)
{
    struct run run = {.predictor = predictor,
                      .threads = ivon_parallel_threads(predictor->options.threads)};
    size_t tiles = predictor->block / predictor->tile;
    run.share = run.threads == 1 || predictor->options.recalibrate ||
                tiles >= TILES_PER_THREAD * (size_t)run.threads;
    run.workers = calloc((size_t)run.threads, sizeof *run.workers);
    if (!run.workers)
        return ivon_error_memory(error);
    meter_init(&predictor->meter, &predictor->options.progress,
               predictor->count * predictor->passes * predictor->member_count);
    int code = 0;
    for (run.first = 0; run.first < predictor->count && !code; run.first += predictor->block) {
        uint64_t left = predictor->count - run.first;
        run.count = left < predictor->block ? (size_t)left : predictor->block;
        code = predict_run_block(&run, take, context, error);
    }
    for (int i = 0; i < run.threads; i++)
        predict_run_release_worker(&run.workers[i]);
    weights_release(&run.weights);
    free(run.workers);
    meter_release(&predictor->meter);
    return code;
}
