/*
 * Batch-norm statistics of sampled weights: data run through the network in batches, each
 * normalized by its own mean and (biased) variance, as in training; the statistics become the
 * average of the batches' means and unbiased variances (Izmailov et al., UAI 2018; Maddox et al.,
 * NeurIPS 2019, do so for averaged and sampled weights).
 */
#include <stdlib.h>
#include <string.h>

#include "bayes/predict/private.h"
#include "core/error.h"
#include "net/ops/normalize/normalize.h"

enum { DEFAULT_BATCH = 256 };

/* The statistics of one node, which lie in the network. */
struct statistics {
    const struct net_tensor *mean, *variance; /* the plan's */
    double *means, *variances;                /* summed over the batches */
    double *moments;                          /* scratch for those of one batch */
};

struct observation {
    struct statistics *nodes;
    size_t count, capacity;
    bool failed; /* for want of memory */
};

bool has_batch_norm(const struct ivon_network *network)
{
    for (size_t i = 0; i < network->node_count; i++)
        if (net_is_batch_norm(&network->nodes[i]))
            return true;
    return false;
}

static struct statistics *find(struct observation *observation, const struct net_call *call)
{
    for (size_t i = 0; i < observation->count; i++)
        if (observation->nodes[i].mean->data == call->inputs[3]->data)
            return &observation->nodes[i];
    if (observation->count == observation->capacity)
        return NULL;
    size_t channels = call->inputs[3]->count;
    struct statistics *node = &observation->nodes[observation->count];
    *node = (struct statistics){.mean = call->inputs[3],
                                .variance = call->inputs[4],
                                .means = calloc(channels, sizeof(double)),
                                .variances = calloc(channels, sizeof(double)),
                                .moments = calloc(2 * channels, sizeof(double))};
    observation->count++;
    return node->means && node->variances && node->moments ? node : NULL;
}

static void observe(void *context, const struct net_call *call)
{
    struct observation *observation = context;
    struct statistics *node = find(observation, call);
    const struct net_tensor *x = call->inputs[0];
    size_t channels = call->inputs[3]->count;
    if (!node) {
        observation->failed = true;
        return;
    }
    float *mean = node->mean->data, *variance = node->variance->data;
    size_t n = net_channel_moments(x, node->moments, node->moments + channels);
    for (size_t c = 0; c < channels && n; c++) {
        double average = node->moments[c], biased = node->moments[channels + c];
        mean[c] = (float)average;
        variance[c] = (float)biased;
        node->means[c] += average;
        node->variances[c] += net_unbiased(biased, n);
    }
}

static void recalibrate_settle(struct observation *observation, size_t batches)
{
    for (size_t i = 0; i < observation->count; i++) {
        struct statistics *node = &observation->nodes[i];
        float *mean = node->mean->data, *variance = node->variance->data;
        for (size_t c = 0; c < node->mean->count; c++) {
            mean[c] = (float)(node->means[c] / (double)batches);
            variance[c] = (float)(node->variances[c] / (double)batches);
        }
    }
}

static void recalibrate_release(struct observation *observation)
{
    for (size_t i = 0; i < observation->count; i++) {
        free(observation->nodes[i].means);
        free(observation->nodes[i].variances);
        free(observation->nodes[i].moments);
    }
    free(observation->nodes);
}

static int recalibrate_run(struct runner *runner, struct feed *feed,
                           const struct observation *observation, size_t *batches,
                           struct ivon_error *error)
{
    uint64_t count = ivon_examples_count(feed->examples);
    size_t batch = runner->tile;
    int code = 0;
    for (uint64_t first = 0; first + batch <= count && !code; first += batch) {
        struct runner_tile tile;
        code = runner_load(runner, feed, first, batch, error);
        if (!code)
            code = runner_run_tile(runner, 0, feed, 0, &tile, error);
        if (!code && observation->failed)
            code = ivon_error_memory(error);
        ++*batches;
    }
    return code;
}

/* As many examples as the graph takes at a time, or the caller asks for, or there are. */
static int recalibrate_batch(const struct ivon_predictor *predictor, const struct feed *feed,
                             size_t *batch, struct ivon_error *error)
{
    const struct ivon_predict_options *options = &predictor->options;
    uint64_t count = ivon_examples_count(options->recalibrate);
    *batch = options->batch ? options->batch : DEFAULT_BATCH;
    if (feed->fixed > 0)
        *batch = (size_t)feed->fixed;
    else if (*batch > count)
        *batch = (size_t)count;
    return count && *batch <= count ? 0
                                    : ivon_error_set(error, IVON_ERROR_DATA,
                                                     "%s: has too few examples to recalibrate by",
                                                     ivon_examples_path(options->recalibrate));
}

int recalibrate(const struct ivon_predictor *predictor, const struct member *member,
                const struct weights *weights, struct ivon_error *error)
{
    const struct ivon_predict_options *options = &predictor->options;
    struct ivon_network *network = member->network;
    struct observation observation = {
        .nodes = calloc(network->node_count, sizeof(struct statistics)),
        .capacity = network->node_count};
    struct runner runner = {.network = network, .mode = RUNNER_FORWARD};
    struct feed feed = {0};
    size_t batches = 0;
    int code = observation.nodes ? 0 : ivon_error_memory(error);
    if (!code)
        code = feed_open(&feed, network, options->recalibrate, options->task.inputs,
                         options->task.input_count, error);
    if (!code)
        code = recalibrate_batch(predictor, &feed, &runner.tile, error);
    if (!code)
        code = runner_start(&runner, &feed, 1, error);
    if (!code)
        code = runner_set(&runner, (const float *const *)weights->arrays, error);
    if (!code)
        code = net_plan_observe(runner.workers[0].plan, observe, &observation, error);
    if (!code)
        code = recalibrate_run(&runner, &feed, &observation, &batches, error);
    if (!code)
        recalibrate_settle(&observation, batches);
    recalibrate_release(&observation);
    runner_stop(&runner);
    if (feed.network)
        feed_close(&feed);
    return code;
}
