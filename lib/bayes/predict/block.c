/*
 * The sizes of a predictor: of a tile, of a block of examples, of a piece of its results, and of a
 * wave of samples; and the arrays of a block.
 */
#include <stdlib.h>
#include <unistd.h>

#include "bayes/predict/private.h"
#include "core/blas.h"
#include "core/error.h"
#include "core/parallel.h"
#include "core/ranks.h"

enum {
    TILE_MAX = 256,                /* examples */
    TILE_MEMORY = 4 << 20,         /* bytes of activations that caches hold */
    TILES_LEAST = 8,               /* of the examples, where threads have no samples to share */
    LINEAR_TILE_MAX = 128,         /* the same where derivatives are taken, */
    LINEAR_TILE_MEMORY = 24 << 20, /* with these */
    TILES_SHARED = 4,              /* for each thread: with as many, all of them run one sample */
    DEFAULT_MEMORY = 256 << 20,    /* bytes */
    WEIGHTS_SHARE = 3,      /* of the weights' bytes: what the memory is, where that is more */
    PIECE_SHARE = 8,        /* of the memory: what the results of a piece take at most */
    PIECE_MEMORY = 4 << 20, /* bytes of results that caches hold while they are used again */
    TILES_PER_THREAD = 8,   /* in such a piece: the threads wait for each other at its end */
};

static size_t predict_parameter_bytes(const struct ivon_network *network)
{
    size_t bytes = 0;
    for (size_t i = 0; i < network->value_count; i++)
        if (network->values[i].role == NET_PARAMETER)
            bytes += network->values[i].tensor.count * sizeof(float);
    return bytes;
}

/* Chooses the tile by the only member, with the derivatives of every single example. */
static int predict_choose_linear_tile(struct ivon_predictor *predictor, struct ivon_error *error)
{
    const struct runner_bounds bounds = {.batch = predictor->options.batch,
                                         .examples = LINEAR_TILE_MAX,
                                         .cache = LINEAR_TILE_MEMORY,
                                         .tiles = TILES_LEAST};
    struct runner *runner = &predictor->runner;
    runner->mode = RUNNER_EXAMPLES;
    runner->wanted = predictor->members[0].covariance->random;
    runner->blocks = predictor->members[0].covariance->block_of;
    int code = feed_expect_single(&predictor->data.feed, error);
    if (!code)
        code = runner_choose_tile(runner, &predictor->data.feed, &bounds, error);
    return code ? code : linearised_fit_tile(predictor, error);
}

int predictor_choose_tile(struct ivon_predictor *predictor, struct ivon_error *error)
{
    const struct runner_bounds bounds = {
        .batch = predictor->options.batch,
        .examples = TILE_MAX,
        .cache = TILE_MEMORY,
        .weights = predict_parameter_bytes(predictor->members[0].network),
        .tiles = predictor->passes < TILES_LEAST ? TILES_LEAST : 0};
    struct runner *runner = &predictor->runner;
    /* Half of the machine: a graph from a stranger may ask for anything. */
    size_t half = (size_t)sysconf(_SC_PHYS_PAGES) / 2 * (size_t)sysconf(_SC_PAGESIZE);
    *runner = (struct runner){.network = predictor->members[0].network,
                              .mode = RUNNER_FORWARD,
                              .memory = half,
                              .check = outputs_check,
                              .check_context = &predictor->outputs};
    int code = blas_reserve(ivon_parallel_threads(predictor->options.resources.threads), error);
    if (!code && predictor->options.method != IVON_PREDICT_SAMPLES)
        return predict_choose_linear_tile(predictor, error);
    if (!code)
        code = runner_choose_tile(runner, &predictor->data.feed, &bounds, error);
    for (size_t i = 1; i < predictor->member_count && !code; i++) {
        runner->network = predictor->members[i].network;
        code = runner_measure(runner, &predictor->data.feed, runner->tile, error);
    }
    return code;
}

static size_t predict_elements(const struct ivon_predictor *predictor)
{
    return predictor->outputs.tokens * predictor->outputs.k;
}

/* Returns whether the samples' groups are of no use, and each is a single sample. */
static bool predict_sums_together(const struct ivon_predictor *predictor)
{
    return !predictor->metrics[ROWS_GROUPS_MAX] && predictor->member_count == 1 &&
           predictor->groups == predictor->passes;
}

/* Returns how many samples may be drawn at a time: as many as there are threads, each of which then
   has one, if the memory holds all their weights. */
static size_t predict_wave_most(const struct ivon_predictor *predictor, size_t memory)
{
    size_t threads = (size_t)ivon_parallel_threads(predictor->options.resources.threads);
    size_t most = predictor->passes < threads ? predictor->passes : threads;
    size_t weights = predict_parameter_bytes(predictor->members[0].network);
    bool linear = predictor->options.method != IVON_PREDICT_SAMPLES;
    bool one = linear || predictor->options.recalibrate || (weights && most > memory / weights);
    return one ? 1 : most;
}

/* Bytes of one example of a block: its inputs, targets and sums, and its outputs of every sample
   of a wave. */
static size_t predict_block_bytes(const struct ivon_predictor *predictor, size_t wave)
{
    const struct ivon_predict_options *options = &predictor->options;
    size_t rows = predictor->outputs.tokens, all = predict_elements(predictor);
    size_t targets = outputs_targets(&predictor->outputs) * sizeof(int64_t);
    size_t bytes = feed_example_size(&predictor->data.feed) + targets + rows +
                   rows * rows_size(&predictor->likelihood, predictor->groups,
                                    predict_sums_together(predictor));
    if (options->logits || options->nll_at_mean)
        bytes += all * sizeof(float);
    if (options->log_likelihoods)
        bytes += predictor->member_count * predictor->passes * (sizeof(double) + targets);
    if (options->sample_outputs)
        bytes += predictor->member_count * predictor->passes * all * sizeof(float);
    return bytes + (wave > 1 ? wave * all * sizeof(float) : 0);
}

/* Bytes of one example's results. */
static size_t predict_piece_bytes(const struct ivon_predictor *predictor)
{
    enum ivon_likelihood likelihood = predictor->options.task.likelihood;
    size_t all = predict_elements(predictor) * sizeof(float);
    if (ivon_likelihood_traits(likelihood)->regression)
        return 3 * all + predictor->outputs.tokens * sizeof(double);
    return all + outputs_targets(&predictor->outputs) * sizeof(int64_t) +
           predictor->outputs.tokens * (4 * sizeof(float) + sizeof(double));
}

/* Allocates the log-likelihoods and the replicated targets of every sample. */
static bool allocate_matrix(struct ivon_predictor *predictor)
{
    size_t entries = predictor->member_count * predictor->passes * predictor->block;
    size_t targets = entries * outputs_targets(&predictor->outputs);
    bool regression = ivon_likelihood_traits(predictor->options.task.likelihood)->regression;
    predictor->log_likelihoods = calloc(entries, sizeof(double));
    if (regression)
        predictor->number_replicates = calloc(targets, sizeof(float));
    else
        predictor->label_replicates = calloc(targets, sizeof(int64_t));
    return predictor->log_likelihoods &&
           (predictor->number_replicates || predictor->label_replicates);
}

/* Returns whether each row has its loss. */
static bool predict_has_losses(const struct ivon_predictor *predictor)
{
    const struct ivon_predict_options *options = &predictor->options;
    return options->descriptions && predictor->data.field >= 0 &&
           predict_options_have_density(options);
}

static bool predict_allocate_results(struct ivon_predictor *predictor)
{
    const struct ivon_predict_options *options = &predictor->options;
    struct row_results *results = &predictor->results;
    size_t rows = predictor->piece * predictor->outputs.tokens, all = rows * predictor->outputs.k;
    bool regression = ivon_likelihood_traits(options->task.likelihood)->regression, fine = true;
    if (regression) {
        results->mean = calloc(all, sizeof(float));
        results->epistemic_std = calloc(all, sizeof(float));
        fine = results->mean && results->epistemic_std;
        if (predict_options_know_noise(options))
            fine = fine && (results->aleatoric_std = calloc(all, sizeof(float)));
    } else {
        results->probabilities = calloc(all, sizeof(float));
        fine = results->probabilities != NULL;
        if (options->descriptions) {
            results->prediction = calloc(predictor->piece * outputs_targets(&predictor->outputs),
                                         sizeof(int64_t));
            results->max_probability = calloc(rows, sizeof(float));
            results->entropy = calloc(rows, sizeof(float));
            fine = fine && results->prediction && results->max_probability && results->entropy;
        }
        if (options->descriptions && !predictor->closed) {
            results->expected_entropy = calloc(rows, sizeof(float));
            results->mutual_information = calloc(rows, sizeof(float));
            fine = fine && results->expected_entropy && results->mutual_information;
        }
    }
    if (predict_has_losses(predictor))
        fine = fine && (results->loss = calloc(rows, sizeof(double)));
    if (options->logits || options->nll_at_mean) {
        size_t block = predictor->block * predict_elements(predictor);
        fine = fine && (predictor->logits = calloc(block, sizeof(float)));
    }
    if (options->sample_outputs) {
        size_t entries = predictor->member_count * predictor->passes * predictor->block;
        predictor->sample_outputs = calloc(entries * predict_elements(predictor), sizeof(float));
        fine = fine && predictor->sample_outputs;
    }
    return fine && (!options->log_likelihoods || allocate_matrix(predictor));
}

/* Every block draws all samples anew, which takes as long as some hundreds of tokens' way through
   the network: the more weights there are, the more memory for results that need no second draw. */
static size_t predict_memory(const struct ivon_predictor *predictor)
{
    size_t given = predictor->options.resources.memory;
    size_t share = predict_parameter_bytes(predictor->members[0].network) / WEIGHTS_SHARE;
    if (given)
        return given;
    return predictor->single || share < DEFAULT_MEMORY ? DEFAULT_MEMORY : share;
}

int predictor_fit_tile(struct ivon_predictor *predictor, struct ivon_error *error)
{
    struct runner *runner = &predictor->runner;
    size_t memory = predict_memory(predictor) / TILES_LEAST;
    size_t bytes = predict_block_bytes(predictor, 1) + predict_piece_bytes(predictor);
    bool required = predictor->options.batch || predictor->data.feed.fixed > 0;
    int code = 0;
    while (!code && !required && runner->tile > 1 && bytes > memory / runner->tile)
        code = runner_measure(runner, &predictor->data.feed, runner->tile / 2, error);
    return code;
}

/* Returns the tiles of a piece, which are not more than the caches hold, but enough for all
   threads, within a part of the memory. */
static size_t predict_piece_tiles(const struct ivon_predictor *predictor, size_t bytes,
                                  size_t memory)
{
    size_t threads = (size_t)ivon_parallel_threads(predictor->options.resources.threads);
    size_t tiles = PIECE_MEMORY / bytes, most = memory / bytes;
    size_t least = threads > 1 ? TILES_PER_THREAD * threads : 1;
    tiles = tiles > least ? tiles : least;
    tiles = tiles < most ? tiles : most;
    return tiles ? tiles : 1;
}

/* Chooses block, piece and wave. All blocks have about as many tiles, and each rank has one. Where
   the weights stay the same, a block is a single piece: nothing is drawn again, and caches hold a
   small one. Ranks may have other numbers of threads, and have the sizes of rank 0. */
static int predict_choose_block(struct ivon_predictor *predictor, struct ivon_error *error)
{
    struct ivon_ranks *ranks = predictor->options.resources.ranks;
    size_t threads = (size_t)ivon_parallel_threads(predictor->options.resources.threads);
    size_t tile = predictor->runner.tile, memory = predict_memory(predictor);
    size_t wave = predict_wave_most(predictor, memory);
    size_t sums = predict_block_bytes(predictor, wave) * tile;
    size_t results = predict_piece_bytes(predictor) * tile;
    size_t needed = (size_t)((predictor->data.count + tile - 1) / tile), piece, block;
    if (predictor->single) {
        block = piece = predict_piece_tiles(predictor, sums + results, memory);
    } else {
        piece = predict_piece_tiles(predictor, results, memory / PIECE_SHARE);
        block = memory > piece * results ? (memory - piece * results) / sums : 0;
    }
    block = block ? block : 1;
    size_t blocks = (needed + block - 1) / block, least = (size_t)ivon_ranks_count(ranks);
    blocks = blocks > least ? blocks : least < needed ? least : needed;
    block = blocks ? (needed + blocks - 1) / blocks : 1;
    predictor->block = block * tile;
    predictor->piece = (piece < block ? piece : block) * tile;
    predictor->wave = block < TILES_SHARED * threads ? wave : 1;
    int code = ivon_ranks_share(ranks, &predictor->block, sizeof predictor->block, error);
    return code ? code : ivon_ranks_share(ranks, &predictor->piece, sizeof predictor->piece, error);
}

int predictor_make_block(struct ivon_predictor *predictor, struct ivon_error *error)
{
    int code = predict_choose_block(predictor, error);
    if (!code)
        code = labelled_reserve(&predictor->data, predictor->block, predictor->options.task.ignored,
                                error);
    if (!code)
        code = rows_init(&predictor->sums, &predictor->likelihood, predictor->groups,
                         predict_sums_together(predictor),
                         predictor->block * predictor->outputs.tokens, error);
    if (!code && !predict_allocate_results(predictor))
        code = ivon_error_memory(error);
    return code;
}
