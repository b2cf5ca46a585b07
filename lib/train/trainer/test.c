/* Loss and error on other data, at the mean. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#include "core/error.h"
#include "core/memory.h"
#include "core/meter.h"
#include "core/parallel.h"
#include "net/plan/plan.h"
#include "train/trainer/private.h"

enum { BLOCK_TILES = 64 /* read at a time */ };

struct tester {
    struct net_plan *plan;
    const void **inputs;
    void *room;
};

struct testing {
    const struct ivon_trainer *trainer;
    struct feed feed;
    size_t tile;
    const float **means;
    struct tester *testers; /* one for each thread */
    int threads;
    /* Of a block of BLOCK_TILES × tile examples: */
    int64_t *labels;
    float *numbers;
    double *losses; /* of each row */
    float *errors;
    double loss, missed, counted; /* sums */
};

static int make_tester(struct testing *testing, struct tester *tester, struct ivon_error *error)
{
    const struct ivon_network *network = testing->trainer->network;
    size_t size = testing->tile * feed_example_size(&testing->feed) +
                  64 * (network->input_count + 1);
    struct net_tensor *shapes = calloc(network->input_count + 1, sizeof *shapes);
    tester->inputs = calloc(network->input_count + 1, sizeof *tester->inputs);
    tester->room = memory_aligned(size);
    int code = shapes && tester->inputs && tester->room ? 0 : ivon_error_memory(error);
    if (!code)
        code = feed_shapes(&testing->feed, (int64_t)testing->tile, shapes, error);
    if (!code)
        code = net_plan_new(&tester->plan, network, shapes, testing->trainer->options.memory,
                            error);
    if (!code)
        code = net_plan_set_parameters(tester->plan, testing->means, error);
    free(shapes);
    return code;
}

static int trainer_test_prepare(struct testing *testing, struct ivon_error *error)
{
    const struct ivon_trainer *trainer = testing->trainer;
    size_t rows = BLOCK_TILES * testing->tile * trainer->outputs.tokens;
    size_t targets = BLOCK_TILES * testing->tile * outputs_targets(&trainer->outputs);
    testing->threads = ivon_parallel_threads(trainer->options.threads);
    testing->means = calloc(trainer->network->parameter_count + 1, sizeof *testing->means);
    testing->testers = calloc((size_t)testing->threads, sizeof *testing->testers);
    testing->losses = calloc(rows, sizeof *testing->losses);
    testing->errors = calloc(rows, sizeof *testing->errors);
    if (trainer->data.labels)
        testing->labels = calloc(targets, sizeof *testing->labels);
    else
        testing->numbers = calloc(targets, sizeof *testing->numbers);
    if (!testing->means || !testing->testers || !testing->losses || !testing->errors ||
        (!testing->labels && !testing->numbers))
        return ivon_error_memory(error);
    for (size_t i = 0; i < trainer->network->parameter_count; i++)
        testing->means[i] = optimizer_mean(trainer->optimizer, i);
    int code = 0;
    for (int i = 0; i < testing->threads && !code; i++)
        code = make_tester(testing, &testing->testers[i], error);
    return code;
}

static void trainer_test_release(struct testing *testing)
{
    for (int i = 0; testing->testers && i < testing->threads; i++) {
        net_plan_free(testing->testers[i].plan);
        free(testing->testers[i].inputs);
        free(testing->testers[i].room);
    }
    if (testing->feed.network)
        feed_close(&testing->feed);
    free(testing->means);
    free(testing->testers);
    free(testing->losses);
    free(testing->errors);
    free(testing->labels);
    free(testing->numbers);
}

static int test_tile(void *context, size_t i, int thread, struct ivon_error *error)
{
    struct testing *testing = context;
    struct tester *tester = &testing->testers[thread];
    const struct ivon_trainer *trainer = testing->trainer;
    const struct likelihood *likelihood = &trainer->likelihood;
    size_t at = i * testing->tile, left = testing->feed.count - at;
    size_t tokens = trainer->outputs.tokens, k = likelihood->k;
    size_t rows = (left < testing->tile ? left : testing->tile) * tokens, row = at * tokens;
    size_t each = likelihood->kind == IVON_CATEGORICAL ? 1 : k;
    int code = progress_ask(&trainer->options.progress, error);
    if (code)
        return code;
    feed_tile(&testing->feed, at, testing->tile, tester->inputs, tester->room);
    code = net_plan_run(tester->plan, tester->inputs, error);
    if (code)
        return code;
    const float *f = net_plan_output(tester->plan, 0)->data;
    const struct row_targets targets = {testing->labels ? testing->labels + row * each : NULL,
                                        testing->numbers ? testing->numbers + row * each : NULL,
                                        trainer->options.ignored};
    likelihood_evaluate(likelihood, rows, f, &targets, NULL, testing->losses + row);
    for (size_t r = 0; r < rows; r++) {
        const struct row_targets own = targets_from(&targets, likelihood->kind, k, r);
        testing->errors[row + r] = testing->labels
                                       ? likelihood_error(likelihood, f + r * k, &own, NULL)
                                       : NAN;
    }
    return 0;
}

static int test_block(struct testing *testing, struct ivon_examples *examples, size_t field,
                      uint64_t first, size_t count, struct ivon_error *error)
{
    const struct ivon_trainer *trainer = testing->trainer;
    const struct row_targets targets = {testing->labels, testing->numbers,
                                        trainer->options.ignored};
    size_t rows = count * trainer->outputs.tokens;
    int code = feed_load(&testing->feed, first, count, error);
    if (!code)
        code = outputs_read_targets(&trainer->outputs, examples, field, first, count,
                                    targets.ignored, testing->labels, testing->numbers, error);
    if (!code)
        code = ivon_parallel_run(testing->threads, (count + testing->tile - 1) / testing->tile,
                                 test_tile, testing, error);
    for (size_t i = 0; i < rows && !code; i++) {
        if (!targets_count(&targets, trainer->likelihood.kind, trainer->likelihood.k, i))
            continue;
        testing->loss += testing->losses[i];
        testing->missed += (double)testing->errors[i];
        testing->counted++;
    }
    return code;
}

int ivon_trainer_test(struct ivon_trainer *trainer, struct ivon_examples *examples,
                      const char *targets, double *loss, double *error_rate,
                      struct ivon_error *error)
{
    const struct ivon_train_options *options = &trainer->options;
    struct testing testing = {.trainer = trainer, .tile = trainer->tile};
    uint64_t count = ivon_examples_count(examples);
    size_t field = 0;
    int code = outputs_find_targets(examples, targets, &field, error);
    if (!code)
        code = outputs_check_targets(&trainer->outputs, examples, field, error);
    if (!code)
        code = feed_open(&testing.feed, trainer->network, examples, options->names,
                         options->name_count, error);
    if (!code)
        code = trainer_test_prepare(&testing, error);
    size_t block = BLOCK_TILES * testing.tile;
    for (uint64_t first = 0; first < count && !code; first += block)
        code = test_block(&testing, examples, field, first,
                          count - first < block ? (size_t)(count - first) : block, error);
    *loss = testing.loss / testing.counted;
    *error_rate = testing.missed / testing.counted;
    trainer_test_release(&testing);
    return code;
}
