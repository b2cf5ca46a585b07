/* Loss and error on other data, and what is measured of queries, at the mean. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bayes/measure.h"
#include "core/error.h"
#include "core/meter.h"
#include "core/parallel.h"
#include "core/ranks.h"
#include "train/trainer/private.h"

enum { BLOCK_TILES = 64 /* read at a time */ };

struct testing {
    const struct ivon_trainer *trainer;
    struct labelled data;
    struct runner runner;
    double *losses; /* of each row of a block */
    float *errors;  /* likewise */
    struct ivon_ratio loss, missed;
    uint64_t round;                /* the first example of the blocks that ranks have now */
    const struct measure *measure; /* null: the above are wanted */
    double *values;                /* M of every example, or of its tokens */
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
    if (!code)
        code = optimizer_place_means(trainer->optimizer, error);
    for (size_t i = 0; i < count && !code; i++)
        means[i] = trainer_mean(trainer, i);
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

/* M of a tile's rows. */
static int test_measure_tile(void *context, const struct runner_tile *tile,
                             struct ivon_error *error)
{
    const struct testing *testing = context;
    const struct ivon_trainer *trainer = testing->trainer;
    const struct likelihood *likelihood = &trainer->likelihood;
    size_t tokens = trainer->outputs.tokens, rows = tile->count * tokens, row = tile->at * tokens;
    const struct row_targets targets = labelled_targets(&testing->data, row);
    for (size_t r = 0; r < rows; r++) {
        const struct row_targets own = targets_from(&targets, likelihood->kind, likelihood->k, r);
        testing->losses[row + r] = measure_value(testing->measure, likelihood,
                                                 tile->f + r * likelihood->k, &own);
    }
    return outputs_check_finite(&trainer->outputs, testing->data.examples,
                                testing->data.first * tokens + row, tile->f, rows, error);
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

/* Adds the examples of a block, each with those of its tokens that count. */
static void test_add_block(struct testing *testing)
{
    const struct labelled *data = &testing->data;
    size_t tokens = data->outputs->tokens;
    for (size_t i = 0; i < data->present; i++) {
        double loss = 0, missed = 0, counted = 0;
        for (size_t t = i * tokens; t < (i + 1) * tokens; t++) {
            if (!data->counts[t])
                continue;
            loss += testing->losses[t];
            missed += (double)testing->errors[t];
            counted++;
        }
        ivon_ratio_add(&testing->loss, loss, counted);
        ivon_ratio_add(&testing->missed, missed, counted);
    }
}

static void test_measure_block(struct testing *testing)
{
    const struct labelled *data = &testing->data;
    size_t tokens = data->outputs->tokens;
    bool apart = testing->measure->kind == IVON_MEASURE_TOKEN_LOSS;
    for (size_t i = 0; i < data->present * tokens; i++)
        testing->values[apart ? data->first * tokens + i : data->first + i / tokens] +=
            testing->losses[i];
}

static int test_block(struct testing *testing, struct meter *meter, uint64_t first,
                      struct ivon_error *error)
{
    struct labelled *data = &testing->data;
    int code = labelled_load(data, &testing->runner, first, error);
    return code ? code
                : runner_run_block(&testing->runner, &data->feed,
                                   testing->measure ? test_measure_tile : test_tile, testing, meter,
                                   error);
}

/* Ranks: a block of each in turn, which rank 0 adds in the order of examples. */

static uint64_t test_round_first(const struct testing *testing, int rank)
{
    return testing->round + (uint64_t)rank * testing->data.limit;
}

static size_t test_round_describe(void *context, int rank, struct ranks_piece *pieces, size_t limit)
{
    const struct testing *testing = context;
    uint64_t left = testing->data.count - test_round_first(testing, rank);
    size_t examples = left < testing->data.limit ? (size_t)left : testing->data.limit;
    size_t rows = examples * testing->trainer->outputs.tokens;
    if (limit < 2)
        return 0;
    pieces[0] = (struct ranks_piece){testing->losses, rows * sizeof *testing->losses};
    pieces[1] = (struct ranks_piece){testing->errors, rows * sizeof *testing->errors};
    return 2;
}

static int test_round_take(void *context, int rank, struct ivon_error *error)
{
    struct testing *testing = context;
    int code = rank ? labelled_read_targets(&testing->data, test_round_first(testing, rank), error)
                    : 0;
    if (!code)
        test_add_block(testing);
    return code;
}

static int test_round(struct testing *testing, struct meter *meter, struct ivon_error *error)
{
    struct ivon_ranks *ranks = testing->trainer->options.resources.ranks;
    struct ranks_round round = {
        .describe = test_round_describe, .take = test_round_take, .context = testing};
    uint64_t own = test_round_first(testing, ivon_ranks_rank(ranks));
    for (int r = 0; r < ivon_ranks_count(ranks); r++)
        round.present += test_round_first(testing, r) < testing->data.count;
    int code = own < testing->data.count ? test_block(testing, meter, own, error) : 0;
    return ranks_round_take(ranks, &round, code, error);
}

/* Blocks of whole tiles, so that every rank has some; the sums are those of all. */
static int test_share(struct testing *testing, struct meter *meter, struct ivon_error *error)
{
    struct ivon_ranks *ranks = testing->trainer->options.resources.ranks;
    struct labelled *data = &testing->data;
    size_t count = (size_t)ivon_ranks_count(ranks), tile = testing->runner.tile;
    size_t tiles = (size_t)((data->count + tile - 1) / tile), share = (tiles + count - 1) / count;
    int code = 0;
    data->limit = share < BLOCK_TILES ? share * tile : BLOCK_TILES * tile;
    for (; testing->round < data->count && !code; testing->round += count * data->limit)
        code = test_round(testing, meter, error);
    if (!code)
        code = ivon_ranks_share(ranks, &testing->loss, sizeof testing->loss, error);
    return code ? code : ivon_ranks_share(ranks, &testing->missed, sizeof testing->missed, error);
}

static int test_all(struct testing *testing, struct meter *meter, struct ivon_error *error)
{
    struct labelled *data = &testing->data;
    int code = 0;
    if (!testing->measure)
        return test_share(testing, meter, error);
    for (uint64_t first = 0; first < data->count && !code; first += data->capacity) {
        code = test_block(testing, meter, first, error);
        if (!code)
            test_measure_block(testing);
    }
    return code;
}

static int trainer_test_run(struct testing *testing, struct ivon_examples *examples,
                            const char *targets, struct ivon_error *error)
{
    const struct ivon_trainer *trainer = testing->trainer;
    const struct ivon_train_options *options = &trainer->options;
    struct meter meter;
    testing->runner = (struct runner){.network = trainer->network,
                                      .mode = RUNNER_FORWARD,
                                      .memory = options->resources.memory,
                                      .tile = trainer->runner.tile};
    int code = labelled_open(&testing->data, trainer->network, &trainer->outputs, examples, targets,
                             options->task.inputs, options->task.input_count, error);
    if (!code)
        code = trainer_test_prepare(testing, error);
    meter_init(&meter, &options->resources.progress, 0);
    if (!code)
        code = test_all(testing, &meter, error);
    meter_release(&meter);
    trainer_test_release(testing);
    return code;
}

int ivon_trainer_test_metrics(struct ivon_trainer *trainer, struct ivon_examples *examples,
                              const char *targets, struct ivon_metric *loss,
                              struct ivon_metric *error_rate, struct ivon_error *error)
{
    struct testing testing = {.trainer = trainer};
    size_t field = 0;
    int code = outputs_find_targets(examples, targets, &field, error);
    if (!code)
        code = trainer_test_run(&testing, examples, targets, error);
    *loss = ivon_ratio_metric("loss", &testing.loss);
    *error_rate = ivon_ratio_metric("error", &testing.missed);
    return code;
}

int ivon_trainer_test(struct ivon_trainer *trainer, struct ivon_examples *examples,
                      const char *targets, double *loss, double *error_rate,
                      struct ivon_error *error)
{
    struct ivon_metric mean, missed;
    int code = ivon_trainer_test_metrics(trainer, examples, targets, &mean, &missed, error);
    *loss = mean.value;
    *error_rate = missed.value;
    return code;
}

int ivon_trainer_measure(struct ivon_trainer *trainer, struct ivon_examples *examples,
                         const char *targets, enum ivon_measure kind, size_t output, double *values,
                         struct ivon_error *error)
{
    const struct measure measure = {kind, output};
    struct testing testing = {.trainer = trainer, .measure = &measure, .values = values};
    size_t field = 0, tokens = kind == IVON_MEASURE_TOKEN_LOSS ? trainer->outputs.tokens : 1;
    bool needless = kind == IVON_MEASURE_LOGIT;
    int code = measure_check(&measure, &trainer->outputs, trainer->network->path, error);
    if (!code && !needless)
        code = outputs_find_targets(examples, targets, &field, error);
    if (code)
        return code;
    memset(values, 0, ivon_examples_count(examples) * tokens * sizeof *values);
    return trainer_test_run(&testing, examples, targets, error);
}
