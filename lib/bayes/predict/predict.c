#include "ivon/predict.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bayes/rank_inputs.h"
#include "bayes/predict/private.h"
#include "bayes/sample_private.h"
#include "core/blas.h"
#include "core/error.h"
#include "core/options.h"
#include "core/parallel.h"
#include "core/ranks.h"
#include "net/graph/training.h"

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

static const struct options_kind predict_options = {
    .defaults = "ivon_predict_defaults",
    .reserved = {OPTIONS_RESERVED(struct ivon_predict_options, resources.reserved),
                 OPTIONS_RESERVED(struct ivon_predict_options, task.reserved)}};

void ivon_predict_options_init(struct ivon_predict_options *options, size_t size)
{
    const struct ivon_predict_options defaults = {
        .size = sizeof defaults,
        .task = {.likelihood = IVON_CATEGORICAL, .noise_std = NAN, .ignored = INT64_MIN},
        .samples = 64,
        .sample = ivon_sample_defaults(),
        .metrics = true,
        .descriptions = true};
    options_init(options, size, &defaults);
}

static int predict_read_options(struct ivon_predict_options *options,
                                const struct ivon_predict_options *given, struct ivon_error *error)
{
    *options = ivon_predict_defaults();
    int code = options_read(&predict_options, options, given, error);
    return code ? code : sample_check_embedded(&options->sample, error);
}

static bool is_noise_known(const struct ivon_predict_options *options)
{
    const struct likelihood likelihood = {options->task.likelihood, 1, options->task.noise_std};
    return likelihood_is_known(&likelihood);
}

/* Returns whether what is predicted gives targets a likelihood. */
static bool has_density(const struct ivon_predict_options *options)
{
    const struct likelihood_kind *kind = likelihood_kind_of(options->task.likelihood);
    bool closed = options->method == IVON_PREDICT_LINEAR && kind->traits.regression;
    return is_noise_known(options) && (!closed || kind->normal_density);
}

/* Members. */

static int predict_take_member(struct ivon_predictor *predictor, size_t index,
                               const struct ivon_member *given, struct ivon_error *error)
{
    const struct ivon_predict_options *options = &predictor->options;
    struct member *member = &predictor->members[index];
    struct ivon_sample_options drawn = options->sample;
    size_t fixed = 0;
    *member = (struct member){given->network, given->source, given->weight, NULL};
    if (!(given->weight > 0) || isinf(given->weight))
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "%s: weight %g, expected a positive number",
                              ivon_source_path(given->source), given->weight);
    if (!options->samples) /* the mean asks for no Hessian */
        drawn.temperature = 0;
    int code = ivon_sample_check(given->source, &drawn, &fixed, error);
    predictor->fixed += options->samples ? fixed : 0;
    return code ? code
                : covariance_new(&member->covariance, given->network, given->source, &drawn, error);
}

static bool same_tensor(const struct net_tensor *a, const struct net_tensor *b)
{
    return a->type == b->type && a->rank == b->rank &&
           memcmp(a->shape, b->shape, (size_t)a->rank * sizeof a->shape[0]) == 0;
}

/* All members are fed from one copy of the data. */
static int predict_check_inputs(const struct ivon_network *first, const struct ivon_network *other,
                                struct ivon_error *error)
{
    bool same = first->input_count == other->input_count;
    for (size_t i = 0; same && i < first->input_count; i++) {
        const struct net_value *a = &first->values[first->inputs[i]];
        const struct net_value *b = &other->values[other->inputs[i]];
        same = strcmp(a->name, b->name) == 0 && same_tensor(&a->tensor, &b->tensor);
    }
    return same ? 0
                : ivon_error_set(error, IVON_ERROR_DATA, "%s: takes other inputs than %s",
                                 other->path, first->path);
}

static int take_members(struct ivon_predictor *predictor, const struct ivon_member *members,
                        size_t count, struct ivon_error *error)
{
    double total = 0;
    int code = 0;
    predictor->members = calloc(count, sizeof *predictor->members);
    if (!predictor->members)
        return ivon_error_memory(error);
    predictor->member_count = count;
    for (size_t i = 0; i < count && !code; i++) {
        code = net_expect_evaluation(members[i].network, error);
        if (!code)
            code = predict_take_member(predictor, i, &members[i], error);
        if (!code)
            code = predict_check_inputs(members[0].network, members[i].network, error);
        if (!code && predictor->options.recalibrate && !has_batch_norm(members[i].network))
            code = ivon_error_set(error, IVON_ERROR_ARGUMENT,
                                  "%s: has no batch-norm statistics to recalibrate",
                                  members[i].network->path);
        total += members[i].weight;
    }
    for (size_t i = 0; i < count; i++)
        predictor->members[i].weight /= total;
    return code;
}

/* Shapes. */

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

/* Chooses the tile by the first member, and checks that all have such outputs. */
static int predict_choose_tile(struct ivon_predictor *predictor, struct ivon_error *error)
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

/* The block. */

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
    return options->descriptions && predictor->data.field >= 0 && has_density(options);
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
        if (is_noise_known(options))
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

/* Halves the tile until the memory holds several, which those of large vocabularies exceed. */
static int predict_fit_tile(struct ivon_predictor *predictor, struct ivon_error *error)
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

static int make_block(struct ivon_predictor *predictor, struct ivon_error *error)
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

/* Metrics are of probabilities, or of means. */
static size_t predict_metrics_outputs(const struct ivon_predictor *predictor)
{
    enum ivon_likelihood likelihood = predictor->options.task.likelihood;
    return ivon_likelihood_traits(likelihood)->regression
               ? ivon_likelihood_targets(likelihood, predictor->outputs.k)
               : predictor->outputs.k;
}

static int make_metrics(struct ivon_predictor *predictor, struct ivon_error *error)
{
    struct ivon_metrics_options options = {.size = sizeof options,
                                           .likelihood = predictor->options.task.likelihood,
                                           .outputs = predict_metrics_outputs(predictor),
                                           .bins = predictor->options.bins};
    size_t without = predictor->groups > 1 ? predictor->groups : 0;
    int code = 0;
    if (predictor->data.field < 0 || !has_density(&predictor->options) ||
        !predictor->options.metrics)
        return 0;
    for (size_t i = 0; i < without && !code; i++)
        code = ivon_metrics_new(&predictor->metrics[i], &options, error);
    if (!code)
        code = ivon_metrics_new(&predictor->metrics[ROWS_GROUPS_MAX], &options, error);
    return code;
}

static bool predict_varies(const struct ivon_predict_options *options, size_t members)
{
    if (options->method == IVON_PREDICT_LINEAR)
        return false;
    return members > 1 || (options->samples > 1 && options->sample.temperature > 0);
}

bool ivon_predict_varies(const struct ivon_predict_options *given, size_t members)
{
    struct ivon_predict_options options;
    return !predict_read_options(&options, given, NULL) && predict_varies(&options, members);
}

/* Sets how often the data are run, and whether the NLL at the mean can be told. */
static void predict_count_passes(struct ivon_predictor *predictor, size_t members,
                                 const char *targets)
{
    struct ivon_predict_options *options = &predictor->options;
    bool linear = options->method != IVON_PREDICT_SAMPLES;
    predictor->closed = options->method == IVON_PREDICT_LINEAR;
    if (predictor->closed)
        options->samples = 1;
    options->nll_at_mean &= targets && options->samples && has_density(options);
    predictor->outputs.likelihood = options->task.likelihood;
    predictor->passes = options->samples ? options->samples : 1;
    predictor->groups = options->samples < 2                 ? 1
                        : options->samples < ROWS_GROUPS_MAX ? options->samples
                                                             : ROWS_GROUPS_MAX;
    bool alone = !options->samples || !(options->logits || options->nll_at_mean);
    predictor->single = linear || (members == 1 && predictor->passes == 1 && alone);
}

static int predict_check_ranks(const struct ivon_predictor *predictor,
                               const struct ivon_member *members, struct ivon_error *error)
{
    const struct ivon_predict_options *options = &predictor->options;
    struct ivon_ranks *ranks = options->resources.ranks;
    const uint64_t numbers[] = {predictor->runner.tile,
                                predictor->member_count,
                                predictor->passes,
                                predictor->outputs.tokens,
                                predictor->outputs.k,
                                options->task.likelihood,
                                (uint64_t)options->task.ignored,
                                options->sample.seed,
                                options->method,
                                options->logits,
                                options->log_likelihoods,
                                options->metrics,
                                options->descriptions,
                                options->sample_outputs,
                                options->recalibrate != NULL};
    int code = rank_inputs_check_numbers(ranks, numbers, sizeof numbers / sizeof numbers[0], error);
    for (size_t i = 0; i < predictor->member_count && !code; i++)
        code = rank_inputs_check_source(ranks, members[i].source, error);
    if (!code)
        code = rank_inputs_check_examples(ranks, predictor->data.examples, error);
    if (!code && options->recalibrate)
        code = rank_inputs_check_examples(ranks, options->recalibrate, error);
    return code;
}

int ivon_predictor_new(struct ivon_predictor **out, const struct ivon_member *members,
                       size_t member_count, struct ivon_examples *examples, const char *targets,
                       const struct ivon_predict_options *given, struct ivon_error *error)
{
    struct ivon_predict_options own;
    const struct ivon_predict_options *options = &own;
    int code = predict_read_options(&own, given, error);
    if (code)
        return code;
    if (!member_count)
        return ivon_error_set(error, IVON_ERROR_ARGUMENT, "no posterior to predict with");
    if (options->method != IVON_PREDICT_SAMPLES)
        code = linearised_check(options, member_count, error);
    if (code)
        return code;
    if (options->sample_outputs && options->method == IVON_PREDICT_LINEAR)
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "a linearised network's closed form has no outputs of samples");
    if (options->log_likelihoods && !has_density(options))
        return ivon_error_set(
            error, IVON_ERROR_ARGUMENT,
            "the likelihood of a regression's targets needs the standard deviation "
            "of the noise");
    struct ivon_predictor *predictor = calloc(1, sizeof *predictor);
    if (!predictor)
        return ivon_error_memory(error);
    predictor->options = *options;
    options = &predictor->options;
    predict_count_passes(predictor, member_count, targets);
    code = take_members(predictor, members, member_count, error);
    if (!code)
        code = labelled_open(&predictor->data, members[0].network, &predictor->outputs, examples,
                             targets, options->task.inputs, options->task.input_count, error);
    if (!code)
        code = predict_choose_tile(predictor, error);
    if (!code)
        code = predict_check_ranks(predictor, members, error);
    predictor->likelihood = (struct likelihood){options->task.likelihood, predictor->outputs.k,
                                                options->task.noise_std};
    if (!code)
        code = make_metrics(predictor, error);
    if (!code)
        code = predict_fit_tile(predictor, error);
    if (!code)
        code = make_block(predictor, error);
    if (code) {
        ivon_predictor_free(predictor);
        return code;
    }
    predictor->sums.same = !predict_varies(options, member_count) && !predictor->closed;
    *out = predictor;
    return 0;
}

void ivon_predictor_free(struct ivon_predictor *predictor)
{
    if (!predictor)
        return;
    for (size_t i = 0; i < predictor->member_count; i++)
        covariance_free(predictor->members[i].covariance);
    for (size_t i = 0; i <= ROWS_GROUPS_MAX; i++)
        ivon_metrics_free(predictor->metrics[i]);
    struct row_results *results = &predictor->results;
    free(results->prediction);
    free(results->probabilities);
    free(results->max_probability);
    free(results->entropy);
    free(results->expected_entropy);
    free(results->mutual_information);
    free(results->mean);
    free(results->epistemic_std);
    free(results->aleatoric_std);
    free(results->loss);
    free(predictor->members);
    free(predictor->logits);
    free(predictor->log_likelihoods);
    free(predictor->label_replicates);
    free(predictor->number_replicates);
    free(predictor->sample_outputs);
    free(predictor->values);
    rows_release(&predictor->sums);
    labelled_close(&predictor->data);
    runner_stop(&predictor->runner);
    free(predictor);
}

struct ivon_predict_shape ivon_predictor_shape(const struct ivon_predictor *predictor)
{
    return (struct ivon_predict_shape){
        .tokens = predictor->outputs.token_axis ? (int64_t)predictor->outputs.tokens : 0,
        .outputs = predictor->outputs.k,
        .targets = predictor->data.field >= 0,
        .losses = predictor->results.loss};
}

bool ivon_predictor_saw_probabilities(const struct ivon_predictor *predictor)
{
    return predictor->probabilities;
}

const char *ivon_predictor_whole_output(const struct ivon_predictor *predictor)
{
    const struct ivon_network *network = predictor->members[0].network;
    return predictor->runner.whole ? network->values[network->outputs[0]].name : NULL;
}

size_t ivon_predictor_fixed(const struct ivon_predictor *predictor)
{
    return predictor->fixed;
}

int ivon_predictor_run(struct ivon_predictor *predictor,
                       int (*on_block)(void *context, const struct ivon_predictions *predictions,
                                       struct ivon_error *error),
                       void *context, struct ivon_error *error)
{
    return predictor_run(predictor, on_block, context, error);
}

struct ivon_metric ivon_predictor_nll_at_mean(const struct ivon_predictor *predictor)
{
    const struct moments *nll = &predictor->nll_at_mean;
    return (struct ivon_metric){"nll", moments_mean(nll), sqrt(moments_variance(nll))};
}

const struct ivon_predict_metric *ivon_predictor_metrics(struct ivon_predictor *predictor,
                                                         size_t *count)
{
    double without[ROWS_GROUPS_MAX];
    *count = 0;
    if (!predictor->metrics[ROWS_GROUPS_MAX])
        return NULL;
    const struct ivon_metric *all = ivon_metrics_values(predictor->metrics[ROWS_GROUPS_MAX], count);
    free(predictor->values);
    predictor->values = calloc(*count, sizeof *predictor->values);
    for (size_t i = 0; predictor->values && i < *count; i++) {
        size_t unused;
        for (size_t g = 0; g < predictor->groups && predictor->groups > 1; g++)
            without[g] = ivon_metrics_values(predictor->metrics[g], &unused)[i].value;
        predictor->values[i] = (struct ivon_predict_metric){
            .metric = all[i],
            .monte_carlo_error = predictor->groups > 1 ? ivon_jackknife(without, predictor->groups)
                                                       : NAN};
    }
    return predictor->values;
}
