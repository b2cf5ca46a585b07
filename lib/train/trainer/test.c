/* Loss and error on other data, at the mean. */
#include <math.h>
#include <stdlib.h>

#include "core/error.h"
#include "core/meter.h"
#include "core/parallel.h"
#include "train/trainer/private.h"

enum { BLOCK_TILES = 64 /* read at a time */ };

struct testing {
    const struct ivon_trainer *trainer;
    struct labelled data;
    struct runner runner;
    double *losses;               /* of each row of a block */
    float *errors;                /* likewise */
    double loss, missed, counted; /* sums */
};

static int trainer_test_prepare(struct testing *testing, struct ivon_error *error)
{
    const struct ivon_trainer *trainer = testing->trainer;
    struct runner *runner = &testing->runner;
    size_t count = trainer->network->parameter_count, block = BLOCK_TILES * runner->tile;
    testing->losses = calloc(block, trainer->outputs.tokens * sizeof *testing->losses);
    testing->errors = calloc(block, trainer->outputs.tokens * sizeof *testing->errors);
    const float **means = calloc(count + 1, sizeof *means);
    int code = testing->losses && testing->errors && means ? 0 : ivon_error_memory(error);
    for (size_t i = 0; i < count && !code; i++)
        means[i] = optimizer_mean(trainer->optimizer, i);
    if (!code)
        code = labelled_reserve(&testing->data, block, trainer->options.task.ignored, error);
    if (!code)
        code = runner_start(runner, &testing->data.feed,
                            ivon_parallel_threads(trainer->options.resources.threads), error);
    if (!code)
        code = runner_set(runner, means, error);
    free(means);
    return code;
}

static void trainer_test_release(struct testing *testing)
{
    runner_stop(&testing->runner);
    labelled_close(&testing->data);
    free(testing->losses);
    free(testing->errors);
}

static int test_tile(void *context, const struct runner_tile *tile, struct ivon_error *error)
{
    (void)error;
    const struct testing *testing = context;
    const struct likelihood *likelihood = &testing->trainer->likelihood;
    size_t tokens = testing->trainer->outputs.tokens, k = likelihood->k;
    size_t rows = tile->count * tokens, row = tile->at * tokens;
    const struct row_targets targets = labelled_targets(&testing->data, row);
    likelihood_evaluate(likelihood, rows, tile->f, &targets, NULL, testing->losses + row);
    for (size_t r = 0; r < rows; r++) {
        const struct row_targets own = targets_from(&targets, likelihood->kind, k, r);
        testing->errors[row + r] = own.labels
                                       ? likelihood_error(likelihood, tile->f + r * k, &own, NULL)
                                       : NAN;
    }
    return 0;
}

static int test_block(struct testing *testing, struct meter *meter, uint64_t first,
                      struct ivon_error *error)
{
    struct labelled *data = &testing->data;
    int code = labelled_load(data, &testing->runner, first, error);
    if (!code)
        code = runner_run_block(&testing->runner, &data->feed, test_tile, testing, meter, error);
    for (size_t i = 0; i < data->present * data->outputs->tokens && !code; i++) {
        if (!data->counts[i])
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
    struct testing testing = {.trainer = trainer,
                              .runner = {.network = trainer->network,
                                         .mode = RUNNER_FORWARD,
                                         .memory = options->resources.memory,
                                         .tile = trainer->runner.tile}};
    struct meter meter;
    size_t field = 0;
    int code = outputs_find_targets(examples, targets, &field, error);
    if (!code)
        code = labelled_open(&testing.data, trainer->network, &trainer->outputs, examples, targets,
                             options->task.inputs, options->task.input_count, error);
    if (!code)
        code = trainer_test_prepare(&testing, error);
    meter_init(&meter, &options->resources.progress, 0);
    for (uint64_t first = 0; first < testing.data.count && !code; first += testing.data.capacity)
        code = test_block(&testing, &meter, first, error);
    meter_release(&meter);
    *loss = testing.loss / testing.counted;
    *error_rate = testing.missed / testing.counted;
    trainer_test_release(&testing);
    return code;
}
