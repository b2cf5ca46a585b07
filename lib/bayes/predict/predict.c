#include "ivon/predict.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bayes/predict/private.h"
#include "bayes/sample_private.h"
#include "core/blas.h"
#include "core/error.h"
#include "core/options.h"
#include "core/parallel.h"
#include "net/graph/training.h"

enum {
    TILE_MAX = 256,             /* examples */
    TILE_MEMORY = 4 << 20,      /* bytes of activations that caches hold */
    TILES_LEAST = 8,            /* of the examples, where threads have no samples to share */
    DEFAULT_MEMORY = 256 << 20, /* bytes */
    SINGLE_MEMORY = 4 << 20,    /* bytes of a block that caches hold while it is used again */
    TILES_PER_THREAD = 8,       /* in such a block: the threads wait for each other at its end */
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
        .sample = ivon_sample_defaults()};
    options_init(options, size, &defaults);
}

static int predict_read_options(struct ivon_predict_options *options,
                                const struct ivon_predict_options *given, struct ivon_error *error)
{
    *options = ivon_predict_defaults();
    int code = options_read(&predict_options, options, given, error);
    return code ? code : sample_check_embedded(&options->sample, error);
}

/* Returns whether targets have a likelihood. */
static bool has_density(const struct ivon_predict_options *options)
{
    const struct likelihood likelihood = {options->task.likelihood, 1, options->task.noise_std};
    return likelihood_is_known(&likelihood);
}

/* Members. */

static int predict_take_member(struct ivon_predictor *predictor, size_t index,
                               const struct ivon_member *given, struct ivon_error *error)
{
    const struct ivon_predict_options *options = &predictor->options;
    struct member *member = &predictor->members[index];
    size_t fixed = 0;
    *member = (struct member){given->network, given->source, given->weight, NULL};
    if (!(given->weight > 0) || isinf(given->weight))
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "%s: weight %g, expected a positive number",
                              ivon_source_path(given->source), given->weight);
    int code = options->samples ? ivon_sample_check(given->source, &options->sample, &fixed, error)
                                : 0;
    predictor->fixed += fixed;
    return code ? code
                : covariance_new(&member->covariance, given->network, given->source,
                                 &options->sample, error);
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
    if (!code)
        code = runner_choose_tile(runner, &predictor->data.feed, &bounds, error);
    for (size_t i = 1; i < predictor->member_count && !code; i++) {
        runner->network = predictor->members[i].network;
        code = runner_measure(runner, &predictor->data.feed, runner->tile, error);
    }
    return code;
}

/* The block. */

static size_t predict_bytes_per_example(const struct ivon_predictor *predictor)
{
    const struct ivon_predict_options *options = &predictor->options;
    size_t rows = predictor->outputs.tokens, all = rows * predictor->outputs.k;
    size_t bytes = feed_example_size(&predictor->data.feed) +
                   rows * rows_size(&predictor->likelihood, predictor->groups);
    bytes += all * sizeof(float) * 2 + all * (sizeof(int64_t) + sizeof(float)) +
             rows * (sizeof(int64_t) + 4 * sizeof(float));
    bytes += (size_t)ivon_parallel_threads(options->resources.threads) * all * sizeof(float);
    if (predictor->metrics[0])
        bytes += (predictor->groups + 1) * (all + 2 * rows) * sizeof(double);
    if (options->log_likelihoods)
        bytes += predictor->member_count * predictor->passes *
                 (sizeof(double) + outputs_targets(&predictor->outputs) * sizeof(int64_t));
    return bytes;
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

static bool predict_allocate_results(struct ivon_predictor *predictor)
{
    const struct ivon_predict_options *options = &predictor->options;
    struct row_results *results = &predictor->results;
    size_t rows = predictor->block * predictor->outputs.tokens, all = rows * predictor->outputs.k;
    bool regression = ivon_likelihood_traits(options->task.likelihood)->regression, fine = true;
    if (regression) {
        results->mean = calloc(all, sizeof(float));
        results->epistemic_std = calloc(all, sizeof(float));
        fine = results->mean && results->epistemic_std;
        if (has_density(options))
            fine = fine && (results->aleatoric_std = calloc(all, sizeof(float)));
    } else {
        results->prediction = calloc(all, sizeof(int64_t));
        results->probabilities = calloc(all, sizeof(float));
        results->max_probability = calloc(rows, sizeof(float));
        results->entropy = calloc(rows, sizeof(float));
        results->expected_entropy = calloc(rows, sizeof(float));
        results->mutual_information = calloc(rows, sizeof(float));
        fine = results->prediction && results->probabilities && results->max_probability &&
               results->entropy && results->expected_entropy && results->mutual_information;
    }
    if (options->logits || options->nll_at_mean)
        fine = fine && (predictor->logits = calloc(all, sizeof(float)));
    return fine && (!options->log_likelihoods || allocate_matrix(predictor));
}

/* Halves the tile until the results of its examples fit the memory, as those of large vocabularies
   do not. */
static int predict_fit_tile(struct ivon_predictor *predictor, struct ivon_error *error)
{
    const struct ivon_resources *resources = &predictor->options.resources;
    struct runner *runner = &predictor->runner;
    size_t memory = resources->memory ? resources->memory : DEFAULT_MEMORY;
    size_t bytes = predict_bytes_per_example(predictor);
    bool required = predictor->options.batch || predictor->data.feed.fixed > 0;
    int code = 0;
    while (!code && !required && runner->tile > 1 && bytes > memory / runner->tile)
        code = runner_measure(runner, &predictor->data.feed, runner->tile / 2, error);
    return code;
}

/* Every block draws all samples again, so that large ones cost least; but where the weights stay
   the same, small blocks do, whose memory is used again while caches hold it. */
static size_t predict_block_tiles(const struct ivon_predictor *predictor)
{
    const struct ivon_resources *resources = &predictor->options.resources;
    size_t tile_memory = predict_bytes_per_example(predictor) * predictor->runner.tile;
    size_t most = (resources->memory ? resources->memory : DEFAULT_MEMORY) / tile_memory;
    size_t least = TILES_PER_THREAD * (size_t)ivon_parallel_threads(resources->threads);
    size_t tiles = predictor->single ? SINGLE_MEMORY / tile_memory : most;
    tiles = tiles < least ? least : tiles;
    return tiles < most ? tiles : most;
}

static int make_block(struct ivon_predictor *predictor, struct ivon_error *error)
{
    size_t tile = predictor->runner.tile, tiles = predict_block_tiles(predictor);
    uint64_t needed = (predictor->data.count + tile - 1) / tile;
    tiles = tiles < 1 ? 1 : tiles > needed ? (size_t)needed : tiles;
    predictor->block = tiles * tile;
    int code = labelled_reserve(&predictor->data, predictor->block, predictor->options.task.ignored,
                                error);
    if (!code)
        code = rows_init(&predictor->sums, &predictor->likelihood, predictor->groups,
                         predictor->block * predictor->outputs.tokens, error);
    if (!code && !predict_allocate_results(predictor))
        code = ivon_error_memory(error);
    return code;
}

static int make_metrics(struct ivon_predictor *predictor, struct ivon_error *error)
{
    struct ivon_metrics_options options = {.size = sizeof options,
                                           .likelihood = predictor->options.task.likelihood,
                                           .outputs = predictor->outputs.k,
                                           .bins = predictor->options.bins};
    size_t without = predictor->groups > 1 ? predictor->groups : 0;
    int code = 0;
    if (predictor->data.field < 0 || !has_density(&predictor->options))
        return 0;
    for (size_t i = 0; i < without && !code; i++)
        code = ivon_metrics_new(&predictor->metrics[i], &options, error);
    if (!code)
        code = ivon_metrics_new(&predictor->metrics[ROWS_GROUPS_MAX], &options, error);
    return code;
}

static bool predict_varies(const struct ivon_predict_options *options, size_t members)
{
    return members > 1 || (options->samples > 1 && options->sample.temperature > 0);
}

bool ivon_predict_varies(const struct ivon_predict_options *given, size_t members)
{
    struct ivon_predict_options options;
    return !predict_read_options(&options, given, NULL) && predict_varies(&options, members);
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
    if (options->log_likelihoods && !has_density(options))
        return ivon_error_set(
            error, IVON_ERROR_ARGUMENT,
            "the likelihood of a regression's targets needs the standard deviation "
            "of the noise");
    struct ivon_predictor *predictor = calloc(1, sizeof *predictor);
    if (!predictor)
        return ivon_error_memory(error);
    predictor->options = *options;
    predictor->outputs.likelihood = options->task.likelihood;
    predictor->options.nll_at_mean &= targets && options->samples && has_density(options);
    predictor->passes = options->samples ? options->samples : 1;
    predictor->groups = options->samples < 2                 ? 1
                        : options->samples < ROWS_GROUPS_MAX ? options->samples
                                                             : ROWS_GROUPS_MAX;
    predictor->single = member_count == 1 && predictor->passes == 1 &&
                        (!options->samples || !(options->logits || predictor->options.nll_at_mean));
    code = take_members(predictor, members, member_count, error);
    if (!code)
        code = labelled_open(&predictor->data, members[0].network, &predictor->outputs, examples,
                             targets, options->task.inputs, options->task.input_count, error);
    if (!code)
        code = predict_choose_tile(predictor, error);
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
    predictor->sums.same = !predict_varies(options, member_count);
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
    free(predictor->members);
    free(predictor->logits);
    free(predictor->log_likelihoods);
    free(predictor->label_replicates);
    free(predictor->number_replicates);
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
        .targets = predictor->data.field >= 0};
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
