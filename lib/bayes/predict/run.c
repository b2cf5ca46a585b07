/*
 * Blocks of examples, and over each all samples of all members, a wave of samples at a time:
 *
 *   draw   a wave's weights, by all threads
 *   run    every tile of the block at every sample of the wave: tiles × samples jobs
 *   add    a row's samples, in their order, so that bits depend on neither waves nor threads
 *
 * A wave of one sample, whose tiles suffice for the threads, needs no outputs in memory: rows are
 * added by the thread that ran them. A block's results are handed out piece by piece. A linearised
 * network is a single sample, of whose outputs draws are added in place of its own.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bayes/predict/run.h"
#include "core/error.h"
#include "core/parallel.h"
#include "core/ranks.h"

enum { ROWS_JOB = 256 }; /* rows that one thread adds at a time */

/* One sample of a wave. */
struct wave_sample {
    struct weights weights;
    float *outputs; /* for the block; null: rows are added as they come */
};

/* Returns how often an example is counted as progress. */
static uint64_t predict_run_steps(const struct ivon_predictor *predictor)
{
    return predictor->options.method != IVON_PREDICT_SAMPLES
               ? 1
               : (uint64_t)predictor->passes * predictor->member_count;
}

/* Samples. */

static void predict_run_release(struct run *run)
{
    for (size_t i = 0; i < run->predictor->wave && run->samples; i++) {
        weights_release(&run->samples[i].weights);
        free(run->samples[i].outputs);
        run->samples[i] = (struct wave_sample){0};
    }
    linearised_free(run->linearised);
    run->linearised = NULL;
    runner_stop(&run->predictor->runner);
}

/* Makes ready for the network of a member. */
static int predict_run_start(struct run *run, struct ivon_error *error)
{
    struct ivon_predictor *predictor = run->predictor;
    const struct ivon_network *network = predictor->members[run->member].network;
    size_t all = predictor->block * predictor->outputs.tokens * predictor->outputs.k;
    predict_run_release(run);
    predictor->runner.network = network;
    int code = runner_start(&predictor->runner, &predictor->data.feed, run->threads, error);
    for (size_t i = 0; i < predictor->wave && !code; i++) {
        struct wave_sample *sample = &run->samples[i];
        code = weights_init(&sample->weights, network, error);
        if (!code && predictor->wave > 1 && !(sample->outputs = calloc(all, sizeof(float))))
            code = ivon_error_memory(error);
    }
    if (!code && predictor->options.method != IVON_PREDICT_SAMPLES)
        code = linearised_new(&run->linearised, predictor, error);
    return code;
}

/* The mean where that alone is wanted, or where the network is linearised at it. */
static struct ivon_sample_options predict_run_sample(const struct run *run)
{
    struct ivon_sample_options sample = run->predictor->options.sample;
    if (run->at_mean || run->linearised || !run->predictor->options.samples)
        sample.temperature = 0;
    return sample;
}

/* Draws sample i of a wave. */
static int draw_sample(void *context, size_t i, int thread, struct ivon_error *error)
{
    (void)thread;
    const struct run *run = context;
    const struct ivon_predictor *predictor = run->predictor;
    const struct member *member = &predictor->members[run->member];
    const struct ivon_sample_options options = predict_run_sample(run);
    int threads = run->wave < (size_t)run->threads ? run->threads / (int)run->wave : 1;
    struct weights *weights = &run->samples[i].weights;
    int code = covariance_draw(member->covariance, weights, &options, run->pass + i, threads,
                               error);
    return code || !predictor->options.recalibrate ? code
                                                   : recalibrate(predictor, member, weights, error);
}

/* Tiles. */

/* Adds a sample's rows of outputs to the sums. */
static void add_sample(const struct run *run, size_t pass, size_t row, size_t count,
                       const float *outputs)
{
    struct ivon_predictor *predictor = run->predictor;
    size_t k = predictor->outputs.k, tokens = predictor->outputs.tokens;
    uint64_t sample = run->member * predictor->passes + pass;
    size_t place = predict_run_place(run, sample, row / tokens);
    double *matrix = predictor->log_likelihoods ? predictor->log_likelihoods + place : NULL;
    double values[ROWS_JOB];
    for (size_t at = 0; at < count; at += ROWS_JOB) {
        size_t piece = count - at < ROWS_JOB ? count - at : ROWS_JOB;
        const struct row_targets targets = labelled_targets(&predictor->data, row + at);
        rows_add(&predictor->sums, pass % predictor->groups, run->weight, row + at, piece,
                 outputs + at * k, &targets, matrix ? values : NULL);
        for (size_t i = 0; matrix && i < piece; i++)
            matrix[(at + i) / tokens] += values[i];
    }
    if (matrix) {
        size_t offset = place * outputs_targets(&predictor->outputs);
        draw_replicates(predictor, sample, run->first * tokens + row, count, outputs,
                        predictor->data.counts + row,
                        predictor->label_replicates ? predictor->label_replicates + offset : NULL,
                        predictor->number_replicates ? predictor->number_replicates + offset
                                                     : NULL);
    }
    if (predictor->sample_outputs)
        memcpy(predictor->sample_outputs + place * tokens * k, outputs,
               count * k * sizeof *outputs);
}

static void add_logits(const struct run *run, double weight, size_t row, size_t count,
                       const float *outputs)
{
    size_t k = run->predictor->outputs.k;
    float *logits = run->predictor->logits + row * k;
    for (size_t i = 0; i < count * k; i++)
        logits[i] += (float)(weight * (double)outputs[i]);
}

/* Adds the rows of a tile of a linearised network: their logits, and all draws or their closed
   form. */
static void add_linearised(const struct run *run, const struct runner_tile *tile)
{
    struct ivon_predictor *predictor = run->predictor;
    size_t tokens = predictor->outputs.tokens, row = tile->at * tokens;
    size_t rows = tile->count * tokens;
    const struct row_targets targets = labelled_targets(&predictor->data, row);
    if (predictor->logits)
        add_logits(run, 1, row, rows, tile->f);
    linearised_find(run->linearised, tile);
    if (predictor->closed) {
        linearised_add(run->linearised, tile, &predictor->sums, row, &targets);
        return;
    }
    linearised_find_roots(run->linearised, tile);
    for (size_t draw = 0; draw < predictor->passes; draw++)
        add_sample(run, draw, row, rows,
                   linearised_draw(run->linearised, tile, draw, run->first * tokens + row));
}

/* Adds rows of outputs to the sums, or at the mean to the logits. */
static void add_rows(const struct run *run, size_t pass, size_t row, size_t count,
                     const float *outputs)
{
    if (run->at_mean)
        add_logits(run, run->weight, row, count, outputs);
    else
        add_sample(run, pass, row, count, outputs);
}

/* Looks for probabilities in the first outputs of all. */
static void look_for_probabilities(const struct run *run, size_t pass, size_t row, size_t count,
                                   const float *outputs)
{
    struct ivon_predictor *predictor = run->predictor;
    if (!run->first && !row && !pass && !run->member)
        predictor->probabilities |= outputs_are_probabilities(&predictor->outputs, outputs, count);
}

/* Runs one tile at one sample of the wave. */
static int run_sample_tile(void *context, size_t i, int thread, struct ivon_error *error)
{
    const struct run *run = context;
    struct ivon_predictor *predictor = run->predictor;
    size_t tiles = predict_run_tiles(run, run->count), tokens = predictor->outputs.tokens;
    size_t row_size = tokens * predictor->outputs.k;
    const struct wave_sample *sample = &run->samples[i / tiles];
    uint64_t number = run->drawn - run->wave + i / tiles + 1;
    struct runner_tile tile;
    int code = 0;
    if (run->set[thread] != number)
        code = runner_worker_set(&predictor->runner.workers[thread],
                                 (const float *const *)sample->weights.arrays, error);
    run->set[thread] = number;
    if (!code)
        code = runner_run_tile(&predictor->runner, thread, &predictor->data.feed, i % tiles, &tile,
                               error);
    if (code)
        return code;
    look_for_probabilities(run, run->pass + i / tiles, tile.at, tile.count * tokens, tile.f);
    if (run->linearised)
        add_linearised(run, &tile);
    else if (sample->outputs)
        memcpy(sample->outputs + tile.at * row_size, tile.f,
               tile.count * row_size * sizeof *tile.f);
    else
        add_rows(run, run->pass, tile.at * tokens, tile.count * tokens, tile.f);
    return predictor->single && !run->at_mean ? predict_run_finish_tile(context, i, thread, error)
                                              : 0;
}

/* Adds the rows of tile i of every sample of a wave, in the samples' order. */
static int add_wave(void *context, size_t i, int thread, struct ivon_error *error)
{
    (void)thread;
    (void)error;
    const struct run *run = context;
    size_t row, rows = predict_run_rows(run, i, &row);
    for (size_t s = 0; s < run->wave; s++)
        add_rows(run, run->pass + s, row, rows,
                 run->samples[s].outputs + row * run->predictor->outputs.k);
    return 0;
}

/* Waves. */

static int run_wave(struct run *run, struct ivon_error *error)
{
    const struct ivon_predictor *predictor = run->predictor;
    size_t tiles = predict_run_tiles(run, run->count);
    int code = 0;
    if (!predictor->single || !run->drawn) {
        code = ivon_parallel_run(run->threads, run->wave, draw_sample, run, error);
        run->drawn += run->wave;
    }
    if (!code)
        code = ivon_parallel_run(run->threads, run->wave * tiles, run_sample_tile, run, error);
    if (!code && predictor->wave > 1)
        code = ivon_parallel_run(run->threads, tiles, add_wave, run, error);
    return code;
}

static int predict_run_passes(struct run *run, size_t passes, struct ivon_error *error)
{
    struct ivon_predictor *predictor = run->predictor;
    int code = 0;
    for (run->pass = 0; run->pass < passes && !code; run->pass += run->wave) {
        size_t left = passes - run->pass;
        run->wave = left < predictor->wave ? left : predictor->wave;
        for (size_t s = 0; s < run->wave && !run->at_mean; s++)
            predictor->sums.group_weight[(run->pass + s) % predictor->groups] += run->weight;
        code = run_wave(run, error);
        if (!code && !run->at_mean)
            code = meter_add(&predictor->meter, run->wave * run->count, error);
    }
    return code;
}

/* All draws are added in one pass. */
static int predict_run_linearised(struct run *run, struct ivon_error *error)
{
    struct ivon_predictor *predictor = run->predictor;
    for (size_t draw = 1; draw < predictor->passes; draw++)
        predictor->sums.group_weight[draw % predictor->groups] += run->weight;
    return predict_run_passes(run, 1, error);
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
        if (!code && run->linearised)
            code = predict_run_linearised(run, error);
        else if (!code)
            code = predict_run_passes(run, predictor->passes, error);
        run->weight = weight;
        run->at_mean = true;
        if (!code && predictor->logits && !run->linearised)
            code = predict_run_passes(run, 1, error);
    }
    return code;
}

/* Ranks: in each round every rank adds up the samples of a block, and rank 0 measures all. */

static uint64_t predict_run_first(const struct run *run, int rank)
{
    return run->round + (uint64_t)rank * run->predictor->block;
}

/* This rank's block, if there is one for it. */
static int predict_run_block(struct run *run, struct ivon_error *error)
{
    struct ivon_predictor *predictor = run->predictor;
    size_t all = predictor->block * predictor->outputs.tokens * predictor->outputs.k;
    run->first = predict_run_first(run, ivon_ranks_rank(predictor->options.resources.ranks));
    if (run->first >= predictor->data.count)
        return 0;
    rows_clear(&predictor->sums);
    if (predictor->logits)
        memset(predictor->logits, 0, all * sizeof(float));
    if (predictor->log_likelihoods)
        memset(predictor->log_likelihoods, 0,
               predictor->member_count * predictor->passes * predictor->block * sizeof(double));
    run->piece = 0;
    int code = labelled_load(&predictor->data, &predictor->runner, run->first, error);
    run->count = predictor->data.present;
    return code ? code : run_members(run, error);
}

/* The sums of a block, of as many examples as it may have. */
static size_t predict_run_pieces(void *context, int rank, struct ranks_piece *pieces, size_t limit)
{
    const struct run *run = context;
    const struct ivon_predictor *predictor = run->predictor;
    const struct likelihood_sums *sums = &predictor->sums.sums;
    size_t k = predictor->outputs.k, rows = predictor->block * predictor->outputs.tokens;
    size_t grouped = predictor->sums.groups * rows;
    size_t samples = predictor->member_count * predictor->passes;
    size_t entries = samples * predictor->block;
    size_t targets = entries * outputs_targets(&predictor->outputs), count = 0;
    const struct ranks_piece arrays[] = {
        {sums->probabilities, grouped * k * sizeof *sums->probabilities},
        {sums->total, rows * k * sizeof *sums->total},
        {sums->expected, rows * sizeof *sums->expected},
        {sums->first, grouped * k * sizeof *sums->first},
        {sums->second, grouped * k * sizeof *sums->second},
        {sums->density_log, grouped * sizeof *sums->density_log},
        {sums->density_sum, grouped * sizeof *sums->density_sum},
        {predictor->logits, rows * k * sizeof *predictor->logits},
        {predictor->log_likelihoods, entries * sizeof *predictor->log_likelihoods},
        {predictor->label_replicates, targets * sizeof *predictor->label_replicates},
        {predictor->number_replicates, targets * sizeof *predictor->number_replicates},
        {predictor->sample_outputs, samples * rows * k * sizeof *predictor->sample_outputs}};
    (void)rank;
    for (size_t i = 0; i < sizeof arrays / sizeof arrays[0] && count < limit; i++)
        if (arrays[i].data)
            pieces[count++] = arrays[i];
    return count;
}

/* Measures a block and hands it out; the targets of another rank's are read here. */
static int predict_run_take(void *context, int rank, struct ivon_error *error)
{
    struct run *run = context;
    struct ivon_predictor *predictor = run->predictor;
    bool finished = predictor->single && !rank;
    int code = 0;
    run->first = predict_run_first(run, rank);
    if (rank)
        code = labelled_read_targets(&predictor->data, run->first, error);
    run->count = predictor->data.present;
    if (!code && rank)
        code = meter_add(&predictor->meter, run->count * predict_run_steps(predictor), error);
    if (!code && predictor->options.nll_at_mean)
        predict_run_measure_at_mean(run);
    for (run->piece = 0; run->piece < run->count && !code; run->piece += predictor->piece)
        code = predict_run_hand_out(run, finished, error);
    return code;
}

static int predict_run_round(struct run *run, struct ivon_error *error)
{
    const struct ivon_predictor *predictor = run->predictor;
    struct ivon_ranks *ranks = predictor->options.resources.ranks;
    struct ranks_round all = {
        .describe = predict_run_pieces, .take = predict_run_take, .context = run};
    for (int r = 0; r < ivon_ranks_count(ranks); r++)
        all.present += predict_run_first(run, r) < predictor->data.count;
    return ranks_round_take(ranks, &all, predict_run_block(run, error), error);
}

int predictor_run(struct ivon_predictor *predictor,
                  int (*on_block)(void *context, const struct ivon_predictions *predictions,
                                  struct ivon_error *error),
                  void *context, struct ivon_error *error)
{
    bool linear = predictor->options.method != IVON_PREDICT_SAMPLES;
    struct run run = {.predictor = predictor,
                      .on_block = on_block,
                      .context = context,
                      .threads = linear
                                     ? linearised_threads(predictor)
                                     : ivon_parallel_threads(predictor->options.resources.threads)};
    uint64_t count = predictor->data.count;
    uint64_t step = predictor->block *
                    (uint64_t)ivon_ranks_count(predictor->options.resources.ranks);
    run.samples = calloc(predictor->wave, sizeof *run.samples);
    run.set = calloc((size_t)run.threads, sizeof *run.set);
    int code = run.samples && run.set ? 0 : ivon_error_memory(error);
    meter_init(&predictor->meter, &predictor->options.resources.progress,
               count * predict_run_steps(predictor));
    for (run.round = 0; run.round < count && !code; run.round += step)
        code = predict_run_round(&run, error);
    predict_run_release(&run);
    free(run.samples);
    free(run.set);
    meter_release(&predictor->meter);
    return code;
}
