#include "ivon/predict.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bayes/predict/private.h"
#include "core/blas.h"
#include "core/error.h"
#include "core/parallel.h"
#include "net/graph/training.h"

enum {
    TILE_MAX = 256,             /* examples */
    TILE_MEMORY = 4 << 20,      /* bytes of activations that caches hold */
    DEFAULT_MEMORY = 256 << 20, /* bytes */
};

struct ivon_predict_options ivon_predict_defaults(void)
{
    return (struct ivon_predict_options){.likelihood = IVON_CATEGORICAL,
                                         .samples = 64,
                                         .sample = ivon_sample_defaults(),
                                         .noise_std = NAN,
                                         .ignored = INT64_MIN};
}

/* Returns whether targets have a likelihood: numbers have none where the noise is unknown. */
static bool has_density(const struct ivon_predict_options *options)
{
    return options->likelihood != IVON_GAUSSIAN || options->noise_std > 0;
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
    member->random = calloc(given->network->parameter_count + 1, sizeof *member->random);
    if (!member->random)
        return ivon_error_memory(error);
    int code = options->samples ? ivon_sample_check(given->source, &options->sample, &fixed, error)
                                : 0;
    predictor->fixed += fixed;
    for (size_t i = 0; i < given->network->parameter_count; i++) {
        const char *name = ivon_source_tensor(given->source, given->network->parameters[i])->name;
        member->random[i] = options->samples &&
                            (!options->sample.selected ||
                             options->sample.selected(options->sample.selected_context, name));
    }
    return code;
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

static int plan_for(const struct ivon_predictor *predictor, size_t member, size_t tile,
                    struct net_plan **plan, struct ivon_error *error)
{
    const struct ivon_network *network = predictor->members[member].network;
    struct net_tensor *inputs = calloc(network->input_count, sizeof *inputs);
    if (!inputs)
        return ivon_error_memory(error);
    /* Half of the machine: a graph from a stranger may ask for anything. */
    size_t most = (size_t)sysconf(_SC_PHYS_PAGES) / 2 * (size_t)sysconf(_SC_PAGESIZE);
    int code = feed_shapes(&predictor->feed, (int64_t)tile, inputs, error);
    if (!code)
        code = net_plan_new(plan, network, inputs, most, error);
    free(inputs);
    return code;
}

static int predict_measure(struct ivon_predictor *predictor, size_t member, size_t tile,
                           size_t *memory, struct ivon_error *error)
{
    struct net_plan *plan = NULL;
    int code = plan_for(predictor, member, tile, &plan, error);
    if (!code)
        code = outputs_check(&predictor->outputs, predictor->members[member].network->path,
                             net_plan_output(plan, 0), tile, error);
    if (!code)
        *memory = net_plan_memory(plan);
    net_plan_free(plan);
    return code;
}

/* As many examples at a time as keep the activations in the caches, a power of two. */
static int predict_choose_tile(struct ivon_predictor *predictor, struct ivon_error *error)
{
    size_t one, two, least = predictor->feed.fixed > 0 ? (size_t)predictor->feed.fixed : 1;
    int code = blas_reserve(ivon_parallel_threads(predictor->options.threads), error);
    if (!code)
        code = predict_measure(predictor, 0, least, &one, error);
    predictor->tile = least;
    if (code || predictor->feed.fixed > 0)
        return code;
    if (predictor->options.batch) {
        predictor->tile = predictor->options.batch;
        return 0;
    }
    code = predict_measure(predictor, 0, 2, &two, error);
    size_t each = !code && two > one ? two - one : 1;
    while (predictor->tile < TILE_MAX && 2 * predictor->tile * each <= TILE_MEMORY &&
           predictor->tile < predictor->count)
        predictor->tile *= 2;
    return code;
}

/* The block. */

static size_t predict_bytes_per_example(const struct ivon_predictor *predictor)
{
    const struct ivon_predict_options *options = &predictor->options;
    size_t rows = predictor->outputs.tokens, all = rows * predictor->outputs.k;
    size_t bytes = feed_example_size(&predictor->feed) +
                   rows * rows_size(options->likelihood, predictor->outputs.k, predictor->groups);
    bytes += all * sizeof(float) * 2 + all * (sizeof(int64_t) + sizeof(float)) +
             rows * (sizeof(int64_t) + 4 * sizeof(float));
    bytes += (size_t)ivon_parallel_threads(options->threads) * all * sizeof(float);
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
    predictor->log_likelihoods = calloc(entries, sizeof(double));
    if (predictor->options.likelihood == IVON_GAUSSIAN)
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
    bool regression = options->likelihood == IVON_GAUSSIAN, fine = true;
    if (regression) {
        results->mean = calloc(all, sizeof(float));
        results->epistemic_std = calloc(all, sizeof(float));
        predictor->numbers = calloc(all, sizeof(float));
        fine = results->mean && results->epistemic_std && predictor->numbers;
    } else {
        results->prediction = calloc(all, sizeof(int64_t));
        results->probabilities = calloc(all, sizeof(float));
        results->max_probability = calloc(rows, sizeof(float));
        results->entropy = calloc(rows, sizeof(float));
        results->expected_entropy = calloc(rows, sizeof(float));
        results->mutual_information = calloc(rows, sizeof(float));
        predictor->labels = calloc(all, sizeof(int64_t));
        fine = results->prediction && results->probabilities && results->max_probability &&
               results->entropy && results->expected_entropy && results->mutual_information &&
               predictor->labels;
    }
    if (predictor->target_field >= 0)
        fine = fine && (predictor->counts = calloc(rows, sizeof *predictor->counts)) &&
               (predictor->positions = calloc(predictor->block, sizeof *predictor->positions));
    if (options->logits || options->nll_at_mean)
        fine = fine && (predictor->logits = calloc(all, sizeof(float)));
    return fine && (!options->log_likelihoods || allocate_matrix(predictor));
}

static int make_block(struct ivon_predictor *predictor, struct ivon_error *error)
{
    size_t memory = predictor->options.memory ? predictor->options.memory : DEFAULT_MEMORY;
    size_t tiles = memory / predict_bytes_per_example(predictor) / predictor->tile;
    uint64_t needed = (predictor->count + predictor->tile - 1) / predictor->tile;
    tiles = tiles < 1 ? 1 : tiles > needed ? (size_t)needed : tiles;
    predictor->block = tiles * predictor->tile;
    int code = rows_init(&predictor->sums, predictor->options.likelihood, predictor->outputs.k,
                         predictor->groups, predictor->block * predictor->outputs.tokens,
                         predictor->options.noise_std, error);
    if (!code && !predict_allocate_results(predictor))
        code = ivon_error_memory(error);
    return code;
}

static int make_metrics(struct ivon_predictor *predictor, struct ivon_error *error)
{
    struct ivon_metrics_options options = {.likelihood = predictor->options.likelihood,
                                           .outputs = predictor->outputs.k,
                                           .bins = predictor->options.bins};
    size_t without = predictor->groups > 1 ? predictor->groups : 0;
    int code = 0;
    if (predictor->target_field < 0 || !has_density(&predictor->options))
        return 0;
    for (size_t i = 0; i < without && !code; i++)
        code = ivon_metrics_new(&predictor->metrics[i], &options, error);
    if (!code)
        code = ivon_metrics_new(&predictor->metrics[ROWS_GROUPS_MAX], &options, error);
    return code;
}

bool ivon_predict_varies(const struct ivon_predict_options *options, size_t members)
{
    return members > 1 || (options->samples > 1 && options->sample.temperature > 0);
}

int ivon_predictor_new(struct ivon_predictor **out, const struct ivon_member *members,
                       size_t member_count, struct ivon_examples *examples, const char *targets,
                       const struct ivon_predict_options *options, struct ivon_error *error)
{
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
    predictor->outputs.likelihood = options->likelihood;
    predictor->options.nll_at_mean &= targets && options->samples && has_density(options);
    predictor->examples = examples;
    predictor->count = ivon_examples_count(examples);
    predictor->target_field = targets ? ivon_examples_find(examples, targets) : -1;
    predictor->passes = options->samples ? options->samples : 1;
    predictor->groups = options->samples < 2                 ? 1
                        : options->samples < ROWS_GROUPS_MAX ? options->samples
                                                             : ROWS_GROUPS_MAX;
    int code = take_members(predictor, members, member_count, error);
    if (!code)
        code = feed_open(&predictor->feed, members[0].network, examples, options->names,
                         options->name_count, error);
    if (!code && !predictor->count)
        code = ivon_error_set(error, IVON_ERROR_DATA, "%s: has no examples",
                              ivon_examples_path(examples));
    if (!code)
        code = predict_choose_tile(predictor, error);
    for (size_t i = 0; i < member_count && !code; i++) {
        size_t memory;
        code = predict_measure(predictor, i, predictor->tile, &memory, error);
    }
    if (!code && predictor->target_field >= 0)
        code = outputs_check_targets(&predictor->outputs, examples, (size_t)predictor->target_field,
                                     error);
    if (!code)
        code = make_metrics(predictor, error);
    if (!code)
        code = make_block(predictor, error);
    if (code) {
        ivon_predictor_free(predictor);
        return code;
    }
    predictor->sums.same = !ivon_predict_varies(options, member_count);
    *out = predictor;
    return 0;
}

void ivon_predictor_free(struct ivon_predictor *predictor)
{
    if (!predictor)
        return;
    for (size_t i = 0; i < predictor->member_count; i++)
        free(predictor->members[i].random);
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
    free(predictor->members);
    free(predictor->logits);
    free(predictor->labels);
    free(predictor->numbers);
    free(predictor->counts);
    free(predictor->positions);
    free(predictor->log_likelihoods);
    free(predictor->label_replicates);
    free(predictor->number_replicates);
    free(predictor->values);
    rows_release(&predictor->sums);
    feed_close(&predictor->feed);
    free(predictor);
}

struct ivon_predict_shape ivon_predictor_shape(const struct ivon_predictor *predictor)
{
    return (struct ivon_predict_shape){
        .tokens = predictor->outputs.token_axis ? (int64_t)predictor->outputs.tokens : 0,
        .outputs = predictor->outputs.k,
        .targets = predictor->target_field >= 0};
}

size_t ivon_predictor_fixed(const struct ivon_predictor *predictor)
{
    return predictor->fixed;
}

int ivon_predictor_run(struct ivon_predictor *predictor,
                       int (*take)(void *context, const struct ivon_predictions *predictions,
                                   struct ivon_error *error),
                       void *context, struct ivon_error *error)
{
    return predictor_run(predictor, take, context, error);
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
