/* Gradients of mini-batches, against differences of the mean loss, which another path computes. */
#define _GNU_SOURCE
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/examples.h"
#include "core/random.h"
#include "graph_builder.h"
#include "ivon/onnx.h"
#include "train/trainer/private.h"

enum { EXAMPLES = 37, IGNORED = 5 /* examples without a loss, of categorical targets */ };

/* Data of one input x and targets y. */
struct sample_data {
    const char *architecture;
    enum ivon_likelihood likelihood;
    int64_t input[4], targets[2]; /* shapes of one example; 0: no more axes */
    int64_t tokens;               /* the vocabulary; 0: x is of floats */
    int64_t classes;
};

static const struct sample_data cases[] = {
    {"mlp:5,7,3,tanh", IVON_CATEGORICAL, {5}, {0}, 0, 3},
    {"mlp:5,7,3,gelu", IVON_BERNOULLI, {5}, {3}, 0, 2},
    {"mlp:5,6,2,tanh", IVON_GAUSSIAN, {5}, {2}, 0, 0},
    {"transformer:11,6,8,1,2,3", IVON_CATEGORICAL, {6}, {0}, 11, 3},
    {"gpt:11,6,8,1,2", IVON_CATEGORICAL, {6}, {6}, 11, 11},
};

enum { CASES = sizeof cases / sizeof *cases };

/* A number that looks random, from 0 to below 1. */
static double number(uint64_t i)
{
    i = (i + 1) * 0x9E3779B97F4A7C15u;
    i = (i ^ (i >> 29)) * 0xBF58476D1CE4E5B9u;
    return (double)(i >> 40) * 0x1p-24;
}

static int read_sample(void *self, size_t field, uint64_t first, size_t count, void *buffer,
                       struct ivon_error *error)
{
    (void)error;
    const struct sample_data *data = self;
    const int64_t *shape = field ? data->targets : data->input;
    size_t each = 1;
    for (int i = 0; shape[i]; i++)
        each *= (size_t)shape[i];
    int64_t bound = field ? data->classes : data->tokens;
    for (size_t i = 0; i < count * each; i++) {
        uint64_t at = first * each + i;
        double x = number(2 * at + field);
        bool ignored = field && data->likelihood == IVON_CATEGORICAL &&
                       at / each >= EXAMPLES - IGNORED;
        if (bound)
            ((int64_t *)buffer)[i] = ignored ? -100 : (int64_t)(x * (double)bound);
        else
            ((float *)buffer)[i] = (float)(2 * x - 1);
    }
    return 0;
}

static void close_sample(void *self)
{
    (void)self;
}

static struct ivon_examples *open_sample(const struct sample_data *data)
{
    static const struct ivon_examples_class class = {.read = read_sample, .close = close_sample};
    struct ivon_field fields[2] = {
        {.name = "x", .dtype = data->tokens ? IVON_I64 : IVON_F32},
        {.name = "y", .dtype = data->classes ? IVON_I64 : IVON_F32, .rank = data->targets[0] > 0}};
    const struct examples_scaling scalings[2] = {{.divisor = 1, .channels = 1},
                                                 {.divisor = 1, .channels = 1}};
    struct ivon_examples *examples = NULL;
    struct ivon_error error = {0};
    for (fields[0].rank = 0; data->input[fields[0].rank]; fields[0].rank++)
        fields[0].shape[fields[0].rank] = data->input[fields[0].rank];
    fields[1].shape[0] = data->targets[0];
    if (ivon_examples_new(&examples, &class, (void *)data, "sample", EXAMPLES, fields, scalings, 2,
                          &error))
        fail_msg("%s", error.message);
    return examples;
}

static struct ivon_train_options options_of(const struct sample_data *data)
{
    struct ivon_train_options options = ivon_train_defaults(IVON_METHOD_SGD);
    options.task.likelihood = data->likelihood;
    options.task.noise_std = data->likelihood == IVON_GAUSSIAN ? 0.7 : NAN;
    options.task.ignored = -100;
    options.rate = 0.1;
    options.batch = EXAMPLES;
    options.resources.threads = 2;
    return options;
}

static struct ivon_trainer *begin_training(const struct sample_data *data,
                                           struct ivon_examples *examples,
                                           const struct ivon_train_options *options)
{
    struct ivon_train_start start = {.architecture = data->architecture};
    struct ivon_trainer *trainer = NULL;
    struct ivon_error error = {0};
    if (ivon_trainer_new(&trainer, &start, examples, "y", options, &error))
        fail_msg("%s", error.message);
    return trainer;
}

/* Tables of embeddings begin so small that norms behind them bend over the differences' steps: all
   matrices get a root mean square of 1/2. */
static void enlarge(struct ivon_trainer *trainer)
{
    for (size_t p = 0; p < trainer->network->parameter_count; p++) {
        const struct ivon_tensor *tensor = trainer_parameter(trainer, p);
        float *m = optimizer_mean(trainer->optimizer, p);
        double squares = 0;
        for (size_t i = 0; i < tensor->count; i++)
            squares += (double)m[i] * (double)m[i];
        for (size_t i = 0; i < tensor->count && tensor->rank == 2; i++)
            m[i] *= (float)(0.5 / sqrt(squares / (double)tensor->count));
    }
}

/* The gradient of the next step, and its loss. */
static double compute(struct ivon_trainer *trainer)
{
    double loss;
    struct ivon_error error = {0};
    trainer->scale = 1 / data_choose(trainer);
    assert_int_equal(lanes_gradient(trainer, &loss, &error), 0);
    return loss;
}

static double loss_of(struct ivon_trainer *trainer, struct ivon_examples *examples)
{
    double loss, missed;
    struct ivon_error error = {0};
    assert_int_equal(ivon_trainer_test(trainer, examples, "y", &loss, &missed, &error), 0);
    return loss;
}

static double difference(struct ivon_trainer *trainer, struct ivon_examples *examples, float *m,
                         double step)
{
    float kept = *m;
    *m = kept + (float)step;
    double above = loss_of(trainer, examples), top = (double)*m;
    *m = kept - (float)step;
    double below = loss_of(trainer, examples), bottom = (double)*m;
    *m = kept;
    return (above - below) / (top - bottom);
}

/*
 * Central differences over steps s = 2^-9 and 2 s, extrapolated: (4 d(s) − d(2s))/3. Outputs of
 * size 1, of sums of up to 50 products in binary32, round to 2^-21 at worst, and their averaged
 * losses to less: differences to 2^-21/2^-9 = 2^-12, extrapolated ones to (4 + ½)/3 = 1.5 times
 * that. What is left out is s⁴/30 of a fifth derivative: where norms divide by as little as 0.05,
 * 20^5 and 1e-6.
 */
static const double step = 0x1p-9, tolerance = 1.5 * 0x1p-12;

#ifdef __SANITIZE_THREAD__
enum { DENSE = 2 }; /* what looks at threads has seen them by then */
#else
enum { DENSE = 20 };
#endif

/* Of the first elements of each parameter, and of ever fewer behind them. */
static void check_gradient(struct ivon_trainer *trainer, struct ivon_examples *examples,
                           const char *network)
{
    double loss = compute(trainer), largest = 0;
    assert_true(fabs(loss - loss_of(trainer, examples)) < 0x1p-20 * (1 + loss));
    for (size_t p = 0; p < trainer->network->parameter_count; p++)
        for (size_t i = 0; i < trainer_parameter(trainer, p)->count; i += 1 + i / DENSE) {
            float *m = optimizer_mean(trainer->optimizer, p) + i;
            double found = (double)trainer->gradient.arrays[p][i];
            double expected = (4 * difference(trainer, examples, m, step) -
                               difference(trainer, examples, m, 2 * step)) /
                              3;
            largest = fabs(found) > largest ? fabs(found) : largest;
            if (!(fabs(found - expected) < tolerance))
                fail_msg("%s, '%s' %zu: %g, differences %g", network,
                         trainer_parameter(trainer, p)->name, i, found, expected);
        }
    assert_true(largest > 100 * tolerance);
}

static void gradient_is_that_of_the_mean_loss(void **unused)
{
    (void)unused;
    for (size_t c = 0; c < CASES; c++) {
        struct ivon_examples *examples = open_sample(&cases[c]);
        struct ivon_train_options options = options_of(&cases[c]);
        struct ivon_trainer *trainer = begin_training(&cases[c], examples, &options);
        enlarge(trainer);
        assert_int_equal(trainer->lane_count, 2);
        check_gradient(trainer, examples, cases[c].architecture);
        ivon_trainer_free(trainer);
        ivon_examples_close(examples);
    }
}

/* The difference of the loss that is trained. */
static double trained_difference(struct ivon_trainer *trainer, size_t p, size_t i, double by)
{
    float *m = optimizer_mean(trainer->optimizer, p) + i, kept = *m;
    *m = kept + (float)by;
    double above = compute(trainer), top = (double)*m;
    *m = kept - (float)by;
    double below = compute(trainer), bottom = (double)*m;
    *m = kept;
    return (above - below) / (top - bottom);
}

/*
 * A smoothed and weighted loss is that of its formula, of the logits, in doubles; and its gradient
 * that of the loss, by the differences above, of a loss that is divided by the weights of the
 * targets, not by 3 times their number: three times as exact.
 */
static void losses_are_smoothed_and_weighted(void **unused)
{
    (void)unused;
    enum { K = 3 };
    static const double w[K] = {0.5, 3, 0}, smoothing = 0.3;
    struct ivon_examples *examples = open_sample(&cases[0]);
    struct ivon_train_options options = options_of(&cases[0]);
    double f[K][EXAMPLES], expected = 0, weight = 0;
    int64_t labels[EXAMPLES];
    options.label_smoothing = smoothing;
    options.class_weights = w;
    options.class_weight_count = K;
    struct ivon_trainer *trainer = begin_training(&cases[0], examples, &options);
    read_sample((void *)&cases[0], 1, 0, EXAMPLES, labels, NULL);
    for (size_t c = 0; c < K; c++)
        assert_int_equal(
            ivon_trainer_measure(trainer, examples, "y", IVON_MEASURE_LOGIT, c, f[c], NULL), 0);
    for (size_t i = 0; i < EXAMPLES - IGNORED; i++) {
        double z = exp(-f[0][i]) + exp(-f[1][i]) + exp(-f[2][i]); /* logits, negated */
        for (size_t c = 0; c < K; c++)
            expected -= (smoothing * w[c] / K +
                         (c == (size_t)labels[i] ? (1 - smoothing) * w[c] : 0)) *
                        (-f[c][i] - log(z));
        weight += w[labels[i]];
    }
    assert_true(fabs(compute(trainer) - expected / weight) < 0x1p-20);
    for (size_t p = 0; p < trainer->network->parameter_count; p++)
        for (size_t i = 0; i < trainer_parameter(trainer, p)->count; i += 2) {
            double expected_slope = trained_difference(trainer, p, i, step);
            compute(trainer);
            double found = (double)trainer->gradient.arrays[p][i];
            assert_true(fabs(found - expected_slope) < tolerance);
        }
    ivon_trainer_free(trainer);
    options.class_weights = NULL;
    options.balanced_classes = true;
    trainer = begin_training(&cases[0], examples, &options);
    for (size_t c = 0; c < K; c++) {
        double count = 0;
        for (size_t i = 0; i < EXAMPLES - IGNORED; i++)
            count += labels[i] == (int64_t)c;
        assert_true(fabs(trainer->objective.weights[c] * count * K / (EXAMPLES - IGNORED) - 1) <
                    1e-12);
    }
    ivon_trainer_free(trainer);
    ivon_examples_close(examples);
}

static float *copy_gradient(const struct ivon_trainer *trainer)
{
    float *copy = malloc(trainer->gradient.size);
    memcpy(copy, trainer->gradient.data, trainer->gradient.size);
    return copy;
}

/* Losses of dropped elements have their gradients, whatever the tiles: masks are those of examples,
   epochs and weight samples. */
static void dropout_is_that_of_its_masks(void **unused)
{
    (void)unused;
    static const size_t with[] = {0, 3, 4};
    for (size_t c = 0; c < 3; c++) {
        const struct sample_data *data = &cases[with[c]];
        struct ivon_examples *examples = open_sample(data);
        struct ivon_train_options options = options_of(data);
        options.dropout = 0.3;
        options.seed = 11;
        struct ivon_trainer *trainer = begin_training(data, examples, &options);
        enlarge(trainer);
        for (size_t p = 0; p < trainer->network->parameter_count; p++)
            for (size_t i = 0; i < trainer_parameter(trainer, p)->count; i += 1 + i * 2) {
                double expected = (4 * trained_difference(trainer, p, i, step) -
                                   trained_difference(trainer, p, i, 2 * step)) /
                                  3;
                compute(trainer);
                double found = (double)trainer->gradient.arrays[p][i];
                if (!(fabs(found - expected) < tolerance))
                    fail_msg("%s, '%s' %zu: %g, differences %g", data->architecture,
                             trainer_parameter(trainer, p)->name, i, found, expected);
            }
        double loss = compute(trainer);
        assert_true(fabs(loss - loss_of(trainer, examples)) > 1e-4);
        trainer->sample = 1;
        assert_true(fabs(compute(trainer) - loss) > 1e-4);
        options.resources.memory = trainer->data.size + 1;
        while (options.resources.memory) {
            struct ivon_trainer *small = NULL;
            struct ivon_train_start start = {.architecture = data->architecture};
            if (!ivon_trainer_new(&small, &start, examples, "y", &options, NULL)) {
                assert_true(small->runner.tile < trainer->runner.tile);
                enlarge(small);
                assert_true(fabs(compute(small) - loss) < 0x1p-20 * (1 + loss));
                options.resources.memory = 0;
            } else {
                options.resources.memory += options.resources.memory / 4;
            }
            ivon_trainer_free(small);
        }
        ivon_trainer_free(trainer);
        ivon_examples_close(examples);
    }
}

static struct net_attribute *examples_second(void)
{
    struct net_attribute *perm = attribute("perm", NET_INTS);
    perm->count = 3;
    perm->integers = calloc(3, sizeof *perm->integers);
    perm->integers[0] = 1;
    perm->integers[2] = 2;
    return perm;
}

/* A word is that of its address; and elements of an example along the second axis are its own. */
static void masks_have_addresses(void **unused)
{
    (void)unused;
    enum { TOKENS = 3, WIDTH = 5, SIZE = TOKENS * WIDTH };
    const struct sample_data data = {NULL, IVON_CATEGORICAL, {TOKENS, WIDTH}, {TOKENS}, 0, 3};
    state = 1;
    struct ivon_network *network = begin(3, (int64_t[]){-1, TOKENS, WIDTH});
    give(network, "w", false, 0, 2, (int64_t[]){WIDTH, 3});
    node(network, "Transpose", "x t", examples_second());
    node(network, "Dropout", "t d", NULL);
    node(network, "Transpose", "d b", examples_second());
    node(network, "MatMul", "b w y", NULL);
    finish(network);
    struct ivon_examples *examples = open_sample(&data);
    struct ivon_train_options options = options_of(&data);
    struct ivon_train_start start = {.network = network};
    struct ivon_trainer *trainer = NULL;
    struct ivon_error error = {0};
    uint32_t words[8];
    uint64_t expected[4];
    options.dropout = NAN; /* 0.5, which nothing says otherwise */
    options.seed = 3;
    if (ivon_trainer_new(&trainer, &start, examples, "y", &options, &error))
        fail_msg("%s", error.message);
    const struct net_dropouts *dropouts = net_training_dropouts(trainer->training);
    assert_int_equal(dropouts->count, 1);
    const struct net_dropout *dropout = dropouts->items;
    assert_true(dropout->ratio == 0.5 && dropout->outer == TOKENS && dropout->inner == WIDTH);
    compute(trainer);
    struct lane *lane = &trainer->lanes[0];
    struct random_stream stream = random_stream_of(3, lane->chosen[1].epoch, "/dropout/2/d");
    trainer->sample = 2;
    dropout_words(lane, dropout, 1, 8, 7, words);
    random_words(&stream, lane->chosen[1].example * 2 + 1, 1, expected);
    for (size_t i = 0; i < 7; i++)
        assert_int_equal(words[i], (uint32_t)(expected[i / 2] >> (i % 2 * 32)));
    ivon_trainer_free(trainer);
    ivon_examples_close(examples);
    ivon_network_free(network);
}

/* Batches that are accumulated are one batch, to the last bit; in smaller tiles, up to rounding of
   sums of 37 products below 1: 37 · 2^-24. */
static void batches_and_tiles(void **unused)
{
    (void)unused;
    const struct sample_data *data = &cases[0];
    struct ivon_examples *examples = open_sample(data);
    struct ivon_train_options options = options_of(data);
    options.batch = 36;
    struct ivon_trainer *whole = begin_training(data, examples, &options);
    options.batch = 12;
    options.accumulate = 3;
    struct ivon_trainer *parts = begin_training(data, examples, &options);
    compute(whole);
    compute(parts);
    float *expected = copy_gradient(whole), *found = copy_gradient(parts);
    size_t size = whole->gradient.size;
    assert_int_equal(size, parts->gradient.size);
    assert_memory_equal(expected, found, size);
    size_t least = net_derivative_memory(whole->lanes[0].worker->derivative);
    options.resources.memory = least + whole->data.size; /* of two lanes */
    struct ivon_trainer *small = begin_training(data, examples, &options);
    assert_true(small->runner.tile < whole->runner.tile);
    compute(small);
    for (size_t i = 0; i < size / sizeof(float); i++)
        assert_true(fabs((double)small->gradient.data[i] - (double)expected[i]) < 37 * 0x1p-24);
    free(expected);
    free(found);
    ivon_trainer_free(whole);
    ivon_trainer_free(parts);
    ivon_trainer_free(small);
    ivon_examples_close(examples);
}

/* Every epoch has every example once, but for those that fill no batch. */
static void epochs(void **unused)
{
    (void)unused;
    struct ivon_examples *examples = open_sample(&cases[0]);
    struct ivon_train_options options = options_of(&cases[0]);
    options.batch = 6;
    options.epochs = 2;
    struct ivon_trainer *trainer = begin_training(&cases[0], examples, &options);
    struct ivon_train_state told = ivon_trainer_state(trainer);
    assert_int_equal(told.steps, 12);
    assert_int_equal(told.epoch_steps, 6);
    assert_int_equal(told.losses, EXAMPLES - IGNORED);
    assert_true(isnan(told.loss) && isnan(told.ess));
    for (int epoch = 0; epoch < 2; epoch++) {
        int seen[EXAMPLES] = {0}, all = 0;
        for (int i = 0; i < 6; i++) {
            struct ivon_error error = {0};
            assert_int_equal(ivon_trainer_step(trainer, &error), 0);
            for (size_t j = 0; j < 6; j++) {
                assert_int_equal(trainer->chosen[j].epoch, epoch);
                all += !seen[trainer->chosen[j].example]++;
            }
        }
        assert_int_equal(all, 36);
    }
    told = ivon_trainer_state(trainer);
    assert_true(told.step == 12 && told.epoch == 2 && isfinite(told.loss) && told.rate == 0.1);
    ivon_trainer_free(trainer);
    ivon_examples_close(examples);
}

/* Every image of a step is augmented by its own address, whatever the lengths of its axes. */
static void images(void **unused)
{
    (void)unused;
    enum { CHANNELS = 2, HEIGHT = 3, WIDTH = 5, SIZE = CHANNELS * HEIGHT * WIDTH };
    const struct sample_data data = {NULL, IVON_CATEGORICAL, {CHANNELS, HEIGHT, WIDTH}, {0}, 0, 3};
    state = 1;
    struct ivon_network *network = begin(4, (int64_t[]){-1, CHANNELS, HEIGHT, WIDTH});
    give(network, "w", false, 0, 2, (int64_t[]){SIZE, 3});
    node(network, "Flatten", "x f", NULL);
    node(network, "MatMul", "f w y", NULL);
    finish(network);
    struct ivon_examples *examples = open_sample(&data);
    struct ivon_train_options options = options_of(&data);
    options.batch = 8;
    options.epochs = 3;
    options.resources.threads = 1;
    options.seed = 9;
    options.augmentation = IVON_AUGMENT_REFLECT | IVON_AUGMENT_FLIP | IVON_AUGMENT_CUTOUT;
    options.crop = 2;
    options.cutout = 2;
    struct ivon_train_start start = {.network = network};
    struct ivon_trainer *trainer = NULL;
    struct ivon_error error = {0};
    if (ivon_trainer_new(&trainer, &start, examples, "y", &options, &error))
        fail_msg("%s", error.message);
    const struct augmentation both = {.crop = 2, .reflect = true, .flip = true, .cutout = 2};
    float image[SIZE], expected[SIZE];
    for (int at = 0; at < 8; at++) {
        assert_int_equal(ivon_trainer_step(trainer, &error), 0);
        size_t count = trainer->runner.tile < 8 ? trainer->runner.tile : 8;
        data_gather(trainer, &trainer->lanes[0], 0, count);
        for (size_t i = 0; i < count; i++) {
            struct chosen chosen = trainer->chosen[i];
            assert_int_equal(chosen.epoch, at / 4);
            read_sample((void *)&data, 0, chosen.example, 1, image, &error);
            augmentation_apply(&both, 9, chosen.epoch, chosen.example, CHANNELS, HEIGHT, WIDTH,
                               image, expected);
            assert_memory_equal((const float *)trainer->lanes[0].worker->inputs[0] + i * SIZE,
                                expected, sizeof expected);
        }
    }
    ivon_trainer_free(trainer);
    ivon_examples_close(examples);
    ivon_network_free(network);
}

/* The state is a checkpoint: written down with its network, it is the network at its means. */
static void the_state_is_a_checkpoint(void **unused)
{
    (void)unused;
    struct ivon_examples *examples = open_sample(&cases[0]);
    struct ivon_train_options options = options_of(&cases[0]);
    const struct ivon_task task = options.task;
    options = ivon_train_defaults(IVON_METHOD_IVON);
    options.task = task;
    options.rate = 0.1;
    options.ess = 50;
    struct ivon_trainer *trainer = begin_training(&cases[0], examples, &options);
    struct ivon_source *source = NULL;
    struct ivon_network *network = NULL;
    struct ivon_unbound unbound;
    struct ivon_error error = {0};
    void *graph = NULL;
    size_t size = 0;
    assert_int_equal(ivon_trainer_step(trainer, &error), 0);
    const struct ivon_network *own = ivon_trainer_network(trainer);
    assert_ptr_equal(own, trainer->network);
    assert_int_equal(ivon_onnx_write(&graph, &size, own, NULL, &error), 0);
    assert_int_equal(ivon_trainer_source(&source, trainer, graph, size, &error), 0);
    const struct ivon_header *header = ivon_source_header(source);
    assert_true(header->ess == 50 && header->weight_decay == options.weight_decay);
    assert_int_equal(header->step, 1);
    assert_int_equal(header->n_train, ivon_trainer_state(trainer).losses);
    ptrdiff_t stored = ivon_source_find(source, IVON_GRAPH, "model.onnx");
    assert_true(stored >= 0);
    assert_int_equal(ivon_source_tensor(source, (size_t)stored)->count, size);
    assert_memory_equal(ivon_source_view(source, (size_t)stored, 0), graph, size);
    for (size_t p = 0; p < own->parameter_count; p++) {
        const struct ivon_tensor *parameter = trainer_parameter(trainer, p);
        ptrdiff_t mean = ivon_source_find(source, IVON_MEAN, parameter->name);
        assert_true(mean >= 0);
        assert_true(ivon_source_find(source, IVON_HESSIAN, parameter->name) >= 0);
        assert_true(ivon_source_find(source, IVON_MOMENTUM, parameter->name) >= 0);
        assert_memory_equal(ivon_source_view(source, (size_t)mean, 0),
                            optimizer_mean(trainer->optimizer, p),
                            parameter->count * sizeof(float));
    }
    assert_int_equal(ivon_onnx_from_checkpoint(&network, source, &error), 0);
    assert_int_equal(ivon_network_bind(network, source, NULL, &unbound, &error), 0);
    assert_true(unbound.means == 0 && unbound.initializers == 0);
    ivon_network_free(network);
    ivon_source_close(source);
    free(graph);
    assert_int_equal(ivon_trainer_source(&source, trainer, NULL, 0, &error), 0);
    assert_int_equal(ivon_source_find(source, IVON_GRAPH, "model.onnx"), -1);
    ivon_source_close(source);
    ivon_trainer_free(trainer);
    ivon_examples_close(examples);
}

static int begin_grouped(struct ivon_trainer **trainer, struct ivon_examples *examples,
                         enum ivon_method method, const struct ivon_train_group *groups,
                         size_t count, struct ivon_error *error)
{
    const struct ivon_train_start start = {.architecture = cases[0].architecture};
    struct ivon_train_options options = ivon_train_defaults(method);
    options.task = options_of(&cases[0]).task;
    options.rate = 0.05;
    options.weight_decay = 0.01;
    options.hessian_init = 0.5;
    options.batch = 12;
    options.resources.threads = 1;
    options.groups = groups;
    options.group_count = count;
    return ivon_trainer_new(trainer, &start, examples, "y", &options, error);
}

static void run_grouped(struct ivon_trainer *trainer, int steps)
{
    struct ivon_error error = {0};
    for (int i = 0; i < steps; i++)
        if (ivon_trainer_step(trainer, &error))
            fail_msg("%s", error.message);
    assert_int_equal(optimizer_place_means(trainer->optimizer, &error), 0);
}

/* The sum over parameters of how far means are from those of another training, of those whose
   tensors' names end with a text or of the others. */
static double apart(const struct ivon_trainer *a, const struct ivon_trainer *b, const char *end,
                    bool with)
{
    double sum = 0;
    for (size_t p = 0; p < a->network->parameter_count; p++) {
        const struct ivon_tensor *tensor = trainer_parameter(a, p);
        const float *left = optimizer_network_mean(a->optimizer, p);
        const float *right = optimizer_network_mean(b->optimizer, p);
        bool ends = strcmp(tensor->name + strlen(tensor->name) - strlen(end), end) == 0;
        for (size_t i = 0; i < tensor->count && ends == with; i++)
            sum += fabs((double)left[i] - (double)right[i]);
    }
    return sum;
}

/* Groups that say what is said of all change no bit; a rate of 0 moves no mean of the group, and
   the other settings say something. */
static void groups_have_settings_of_their_own(void **unused)
{
    (void)unused;
    struct ivon_examples *examples = open_sample(&cases[0]);
    struct ivon_error error = {0};
    for (int m = IVON_METHOD_IVON; m <= IVON_METHOD_BBB; m++) {
        enum ivon_method method = (enum ivon_method)m;
        bool posterior = ivon_method_traits(method)->posterior;
        double losses = EXAMPLES - IGNORED;
        const struct ivon_train_group same[2] = {
            {"*.bias", 0.05, 0.01, posterior ? losses : NAN, posterior ? 0.5 : NAN},
            {"fc2*", NAN, 0.01, NAN, NAN}};
        const struct ivon_train_group still = {"*.bias", 0, NAN, NAN, NAN};
        const struct ivon_train_group other[3] = {{"*.bias", NAN, 0.5, NAN, NAN},
                                                  {"*.bias", NAN, NAN, 7, NAN},
                                                  {"*.bias", NAN, NAN, NAN, 0.25}};
        struct ivon_trainer *plain = NULL, *grouped = NULL;
        assert_int_equal(begin_grouped(&plain, examples, method, NULL, 0, &error), 0);
        run_grouped(plain, 3);
        assert_int_equal(begin_grouped(&grouped, examples, method, same, 2, &error), 0);
        run_grouped(grouped, 3);
        assert_true(apart(plain, grouped, "", true) == 0);
        ivon_trainer_free(grouped);
        for (size_t i = 0; i < (posterior ? 3 : 1); i++) {
            assert_int_equal(begin_grouped(&grouped, examples, method, &other[i], 1, &error), 0);
            run_grouped(grouped, 3);
            assert_true(apart(plain, grouped, "", true) > 0);
            ivon_trainer_free(grouped);
        }
        ivon_trainer_free(plain);
        assert_int_equal(begin_grouped(&plain, examples, method, NULL, 0, &error), 0);
        assert_int_equal(begin_grouped(&grouped, examples, method, &still, 1, &error), 0);
        run_grouped(grouped, 3);
        assert_true(apart(plain, grouped, "bias", true) == 0);
        assert_true(apart(plain, grouped, "bias", false) > 0);
        ivon_trainer_free(plain);
        ivon_trainer_free(grouped);
    }
    ivon_examples_close(examples);
}

/* The first group counts that matches; one without a parameter is refused, and so are settings
   that the method has not. */
static void groups_are_found_by_names(void **unused)
{
    (void)unused;
    struct ivon_examples *examples = open_sample(&cases[0]);
    struct ivon_trainer *trainer = NULL;
    struct ivon_error error = {0};
    struct ivon_train_group groups[2] = {{"fc1.*", 1, 2, 3, 4}, {"*.bias", 5, NAN, 6, NAN}};
    assert_int_equal(begin_grouped(&trainer, examples, IVON_METHOD_IVON, groups, 2, &error), 0);
    for (size_t p = 0; p < trainer->network->parameter_count; p++) {
        const struct optimizer_group *found = optimizer_group_of(trainer->optimizer, p);
        const char *name = trainer_parameter(trainer, p)->name;
        int group = !strncmp(name, "fc1.", 4) ? 1 : !strcmp(name, "fc2.bias") ? 2 : 0;
        const double rates[] = {0.05, 1, 5}, decays[] = {0.01, 2, 0.01};
        const double sizes[] = {EXAMPLES - IGNORED, 3, 6}, initials[] = {0.5, 4, 0.5};
        assert_true(found->rate == rates[group] && found->weight_decay == decays[group]);
        assert_true(found->ess == sizes[group] && found->hessian_init == initials[group]);
    }
    ivon_trainer_free(trainer);
    const struct {
        enum ivon_method method;
        struct ivon_train_group first, second;
        const char *message;
    } wrong[] = {
        {IVON_METHOD_IVON,
         groups[0],
         {"fc3*", 1, 1, 1, 1},
         "group 'fc3*' matches no parameter that is trained"},
        {IVON_METHOD_IVON,
         groups[1],
         {"fc2.b*", 1, 1, 1, 1},
         "group 'fc2.b*': the groups before it have all parameters of such names, expected one "
         "that is left"},
        {IVON_METHOD_ADAMW,
         groups[0],
         {"*", 1, 1, NAN, NAN},
         "group 'fc1.*' has an effective sample size, which adamw has not"},
        {IVON_METHOD_SGD,
         {"*s", 1, 1, NAN, NAN},
         {"*", 1, 1, NAN, 1},
         "group '*' has an initial Hessian, which sgd has not"},
        {IVON_METHOD_EVON,
         groups[0],
         {"fc2.bias", NAN, NAN, -2, NAN},
         "tensor 'fc2.bias': the effective sample size is -2, expected a finite number above 0"}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        groups[0] = wrong[i].first;
        groups[1] = wrong[i].second;
        assert_int_equal(begin_grouped(&trainer, examples, wrong[i].method, groups, 2, &error),
                         IVON_ERROR_ARGUMENT);
        assert_string_equal(error.message, wrong[i].message);
    }
    ivon_examples_close(examples);
}

/* What no enumeration has is refused, and so is a Gaussian likelihood of unknown noise. */
static void options_are_checked(void **unused)
{
    (void)unused;
    struct ivon_examples *examples = open_sample(&cases[0]);
    struct ivon_train_start start = {.architecture = cases[0].architecture};
    enum { WRONG = 14 };
    struct ivon_train_options wrong[WRONG];
    struct ivon_trainer *trainer = NULL;
    for (size_t i = 0; i < WRONG; i++)
        wrong[i] = options_of(&cases[0]);
    wrong[0].method = (enum ivon_method)99;
    wrong[1].schedule = (enum ivon_schedule)3;
    wrong[2].initial = (enum ivon_initial)4;
    wrong[3].task.reserved[0] = 1;
    wrong[4].size = 0;
    wrong[5].basis_every = 0;
    wrong[6].label_smoothing = NAN;
    wrong[7].class_weights = (const double[]){1, 2, 3};
    wrong[7].class_weight_count = 2;
    wrong[8].class_weights = (const double[]){1, -2, 3};
    wrong[8].class_weight_count = 3;
    wrong[9] = options_of(&cases[1]);
    wrong[9].balanced_classes = true;
    wrong[10].average = 1;
    wrong[11].hessian_every = 0;
    wrong[12].dropout = 1;
    wrong[13].mean_dtype = IVON_I32;
    for (size_t i = 0; i < WRONG; i++)
        assert_int_equal(ivon_trainer_new(&trainer, &start, examples, "y", &wrong[i], NULL),
                         IVON_ERROR_ARGUMENT);
    assert_null(trainer);
    ivon_examples_close(examples);
}

/* Half the rate by its scale is half the rate by the option, of all methods and to the last bit. */
static void the_rate_is_scaled(void **unused)
{
    (void)unused;
    struct ivon_examples *examples = open_sample(&cases[0]);
    for (int method = 0; ivon_method_traits((enum ivon_method)method); method++) {
        struct ivon_train_options options = ivon_train_defaults((enum ivon_method)method);
        options.task = options_of(&cases[0]).task;
        options.steps = 4;
        options.rate = 0.0625;
        struct ivon_trainer *halved = begin_training(&cases[0], examples, &options);
        options.rate /= 2;
        struct ivon_trainer *half = begin_training(&cases[0], examples, &options);
        ivon_trainer_scale_rate(halved, 0.5);
        for (int i = 0; i < 4; i++) {
            struct ivon_error error = {0};
            assert_int_equal(ivon_trainer_step(halved, &error), 0);
            assert_int_equal(ivon_trainer_step(half, &error), 0);
            assert_true(ivon_trainer_state(halved).rate == 0.03125);
        }
        for (size_t p = 0; p < half->network->parameter_count; p++)
            assert_memory_equal(optimizer_mean(halved->optimizer, p),
                                optimizer_mean(half->optimizer, p),
                                trainer_parameter(half, p)->count * sizeof(float));
        ivon_trainer_free(halved);
        ivon_trainer_free(half);
    }
    ivon_examples_close(examples);
}

/*
 * Σ x / Σ t and √(n/(n−1) Σ (x − r t)²) / Σ t, of examples' sums x of t losses each, from the
 * losses of single tokens: those that do not count are 0, and no other is. Sums of 222 doubles, and
 * squares that lose a few digits to the subtraction: 1e-11.
 */
static void tests_have_standard_errors(void **unused)
{
    (void)unused;
    for (size_t c = 0; c < CASES; c++) {
        struct ivon_examples *examples = open_sample(&cases[c]);
        struct ivon_train_options options = options_of(&cases[c]);
        struct ivon_trainer *trainer = begin_training(&cases[c], examples, &options);
        size_t tokens = ivon_trainer_state(trainer).tokens, counted = 0;
        double losses[EXAMPLES * 6], sum = 0, squares = 0;
        struct ivon_metric loss, missed;
        struct ivon_error error = {0};
        assert_int_equal(
            ivon_trainer_measure(trainer, examples, "y",
                                 tokens > 1 ? IVON_MEASURE_TOKEN_LOSS : IVON_MEASURE_LOSS, 0,
                                 losses, &error),
            0);
        assert_int_equal(ivon_trainer_test_metrics(trainer, examples, "y", &loss, &missed, &error),
                         0);
        double all = 0, n = 0;
        for (size_t i = 0; i < EXAMPLES * tokens; i++) {
            all += losses[i];
            counted += losses[i] != 0;
        }
        for (size_t i = 0; i < EXAMPLES; i++, sum = 0) {
            double own = 0;
            for (size_t t = 0; t < tokens; t++) {
                sum += losses[i * tokens + t];
                own += losses[i * tokens + t] != 0;
            }
            n += own > 0;
            squares += pow(sum - all / (double)counted * own, 2);
        }
        assert_true(fabs(loss.value - all / (double)counted) < 1e-11 * loss.value);
        double expected = sqrt(n / (n - 1) * squares) / (double)counted;
        assert_true(fabs(loss.standard_error - expected) < 1e-11 * expected);
        assert_true(loss_of(trainer, examples) == loss.value);
        assert_true(cases[c].classes ? missed.value > 0 && missed.standard_error > 0
                                     : isnan(missed.value));
        ivon_trainer_free(trainer);
        ivon_examples_close(examples);
    }
}

static void methods(void **unused)
{
    (void)unused;
    static const char *const names[] = {"ivon", "adamw", "sgd", "evon", "soap", "bbb"};
    size_t count = sizeof names / sizeof *names;
    for (size_t i = 0; i < count; i++) {
        const struct ivon_method_traits *traits = ivon_method_traits((enum ivon_method)i);
        assert_string_equal(traits->name, names[i]);
        assert_int_equal(traits->posterior,
                         i == IVON_METHOD_IVON || i == IVON_METHOD_EVON || i == IVON_METHOD_BBB);
        assert_int_equal(traits->bases, i == IVON_METHOD_EVON || i == IVON_METHOD_SOAP);
    }
    assert_null(ivon_method_traits((enum ivon_method)count));
}

/* Low-rank factors. */

static const struct sample_data pictures = {NULL, IVON_CATEGORICAL, {2, 5, 6}, {0}, 0, 3};

static struct net_attribute *list_of(const char *name, const int64_t *integers, size_t count)
{
    struct net_attribute *made = attribute(name, NET_INTS);
    made->integers = malloc(count * sizeof *integers);
    memcpy(made->integers, integers, count * sizeof *integers);
    made->count = count;
    return made;
}

/* Weights of every form: of a convolution, stored by inputs, transposed by a node, and of Gemm. The
   last enters twice; scales are no weight of a product. The norm is as in evaluation. */
static struct ivon_network *build_layers(void)
{
    static const int64_t pads[] = {1, 0, 1, 0};
    state = 3;
    struct ivon_network *network = begin(4, (int64_t[]){-1, 2, 5, 6});
    give(network, "c.weight", false, 0, 4, (int64_t[]){4, 2, 3, 3});
    static const char *const norm[] = {"n.weight", "n.bias", "n.mean", "n.variance"};
    for (size_t i = 0; i < 4; i++)
        give(network, norm[i], false, i % 3 ? 0 : 1, 1, (int64_t[]){4});
    give(network, "t.weight", false, 0, 2, (int64_t[]){80, 6});
    give(network, "l.weight", false, 0, 2, (int64_t[]){5, 6});
    give(network, "s.weight", false, 1, 1, (int64_t[]){5});
    give(network, "g.weight", false, 0, 2, (int64_t[]){3, 5});
    give(network, "g.bias", false, 0, 1, (int64_t[]){3});
    node(network, "Conv", "x c.weight c", list_of("pads", pads, 4));
    node(network, "BatchNormalization", "c n.weight n.bias n.mean n.variance n", NULL);
    node(network, "Tanh", "n c1", NULL);
    node(network, "Flatten", "c1 f", NULL);
    node(network, "MatMul", "f t.weight t", NULL);
    node(network, "Tanh", "t t1", NULL);
    node(network, "Transpose", "l.weight lt", NULL);
    node(network, "MatMul", "t1 lt l", NULL);
    node(network, "Tanh", "l l1", NULL);
    node(network, "Mul", "l1 s.weight s", NULL);
    node(network, "Gemm", "s g.weight g.bias g", integer("transB", 1));
    node(network, "Gemm", "l1 g.weight g.bias h", integer("transB", 1));
    node(network, "Add", "g h y", NULL);
    finish(network);
    return network;
}

static int64_t rank_of(void *context, const char *name)
{
    static const struct {
        const char *name;
        int64_t rank;
    } ranks[] = {{"c.weight", 2}, {"t.weight", 3}, {"l.weight", 1},
                 {"g.weight", 2}, {"s.weight", 2}, {"g.bias", 2}};
    for (size_t i = 0; i < sizeof ranks / sizeof *ranks; i++)
        if (strcmp(ranks[i].name, name) == 0)
            return ranks[i].rank + *(const int64_t *)context;
    return 0;
}

static int64_t none_more = 0;

static struct ivon_train_options low_rank_options(void)
{
    struct ivon_train_options options = options_of(&pictures);
    options.lora_rank = rank_of;
    options.lora_context = &none_more;
    options.lora_alpha = 3;
    return options;
}

static int begin_network(struct ivon_trainer **trainer, struct ivon_network *network,
                         struct ivon_source *weights, struct ivon_examples *examples,
                         const struct ivon_train_options *options)
{
    struct ivon_train_start start = {
        .network = network, .weights = weights, .resume = weights != NULL};
    return ivon_trainer_new(trainer, &start, examples, "y", options, NULL);
}

static const float *factor_of(const struct ivon_trainer *trainer, const char *name)
{
    for (size_t p = 0; p < trainer->network->parameter_count; p++)
        if (strcmp(trainer_parameter(trainer, p)->name, name) == 0)
            return optimizer_mean(trainer->optimizer, p);
    fail_msg("no %s", name);
    return NULL;
}

/* W + s B A in the weight's place, W of o × i or, turned, i × o. */
static void merge_factors(struct ivon_network *network, const struct ivon_trainer *trainer,
                          const char *module, size_t o, size_t i, size_t rank, bool turned)
{
    char name[64];
    snprintf(name, sizeof name, "%s.weight", module);
    float *w = network->values[graph_find(network, name)].tensor.data;
    snprintf(name, sizeof name, "base_model.model.%s.lora_A.weight", module);
    const float *a = factor_of(trainer, name);
    snprintf(name, sizeof name, "base_model.model.%s.lora_B.weight", module);
    const float *b = factor_of(trainer, name);
    for (size_t r = 0; r < o; r++)
        for (size_t c = 0; c < i; c++) {
            double sum = 0;
            for (size_t k = 0; k < rank; k++)
                sum += (double)b[r * rank + k] * (double)a[k * i + c];
            w[turned ? c * o + r : r * i + c] += (float)(3 * sum / (double)rank);
        }
}

static double loss_of_network(struct ivon_network *network, struct ivon_examples *examples)
{
    struct ivon_train_options options = options_of(&pictures);
    struct ivon_trainer *trainer = NULL;
    assert_int_equal(begin_network(&trainer, network, NULL, examples, &options), 0);
    double loss = loss_of(trainer, examples);
    ivon_trainer_free(trainer);
    return loss;
}

/* The network begins as it was, up to roundings of sums of 80 products: no plan joins its norm to
   the convolution. With other factors it is that of W + s B A, and the gradient is its loss's. */
static void factors_are_trained(void **unused)
{
    (void)unused;
    struct ivon_examples *examples = open_sample(&pictures);
    struct ivon_network *network = build_layers(), *plain = build_layers();
    struct ivon_train_options options = low_rank_options();
    struct ivon_trainer *trainer = NULL;
    assert_int_equal(begin_network(&trainer, network, NULL, examples, &options), 0);
    assert_int_equal(network->parameter_count, 8);
    double begun = loss_of_network(plain, examples);
    assert_true(fabs(loss_of(trainer, examples) - begun) < 80 * 0x1p-24 * (1 + begun));
    ivon_network_free(plain);
    state = 8;
    for (size_t p = 0; p < 8; p++) { /* the first A is rank × inputs, here × 3 × 3 */
        const struct ivon_tensor *tensor = trainer_parameter(trainer, p);
        float *m = optimizer_mean(trainer->optimizer, p), most = 0;
        for (size_t i = 0; i < tensor->count; i++)
            most = fabsf(m[i]) > most ? fabsf(m[i]) : most;
        size_t inputs = tensor->count / (size_t)tensor->shape[0];
        double bound = p % 2 ? 0 : 1 / sqrt((double)inputs);
        assert_true((double)most <= bound && (double)most >= bound / 2);
        for (size_t i = 0; i < tensor->count; i++)
            m[i] = p % 2 ? (float)(0.5 * uniform()) : m[i];
    }
    check_gradient(trainer, examples, "layers with factors");
    plain = build_layers();
    merge_factors(plain, trainer, "c", 4, 18, 2, false);
    merge_factors(plain, trainer, "t", 6, 80, 3, true);
    merge_factors(plain, trainer, "l", 5, 6, 1, false);
    merge_factors(plain, trainer, "g", 3, 5, 2, false);
    double expected = loss_of_network(plain, examples);
    assert_true(fabs(loss_of(trainer, examples) - expected) < 80 * 0x1p-24 * (1 + expected));
    ivon_trainer_free(trainer);
    ivon_network_free(network);
    ivon_network_free(plain);
    ivon_examples_close(examples);
}

/* A checkpoint has the factors as means and the base as buffers, and its graph both; the training
   goes on from it with the factors that it has, and with no others. */
static void factors_go_on(void **unused)
{
    (void)unused;
    struct ivon_examples *examples = open_sample(&pictures);
    struct ivon_network *network = build_layers(), *again = NULL;
    struct ivon_train_options options = low_rank_options();
    struct ivon_trainer *trainer = NULL, *second = NULL;
    struct ivon_source *source = NULL;
    void *graph = NULL;
    char *config = NULL;
    size_t size = 0;
    assert_int_equal(begin_network(&trainer, network, NULL, examples, &options), 0);
    assert_int_equal(ivon_trainer_step(trainer, NULL), 0);
    assert_int_equal(ivon_onnx_write(&graph, &size, network, NULL, NULL), 0);
    const float *base = network->values[graph_find(network, "t.weight")].tensor.data;
    assert_null(memmem(graph, size, base, 16 * sizeof *base)); /* it stands there once */
    assert_int_equal(ivon_trainer_source(&source, trainer, graph, size, NULL), 0);
    assert_true(ivon_source_find(source, IVON_BUFFER, "t.weight") >= 0);
    assert_true(ivon_source_find(source, IVON_MEAN, "t.weight") < 0);
    assert_int_equal(ivon_trainer_adapter(trainer, "base.h5", &config, NULL), 0);
    assert_non_null(strstr(config, "\"lora_alpha\": 3"));
    assert_non_null(strstr(config, "\"t\": 3"));
    assert_non_null(strstr(config, "\"fan_in_fan_out\": true"));
    assert_non_null(strstr(config, "\"base_model_name_or_path\": \"base.h5\""));
    static const int64_t more[] = {0, 1, 0, -9};
    static const int expected[] = {0, IVON_ERROR_DATA, IVON_ERROR_DATA, IVON_ERROR_ARGUMENT};
    for (size_t i = 0; i < 4; i++) {
        int64_t other = more[i];
        options.lora_context = &other;
        options.lora_alpha = i == 2 ? 2 : 3;
        assert_int_equal(ivon_onnx_from_checkpoint(&again, source, NULL), 0);
        assert_int_equal(begin_network(&second, again, source, examples, &options), expected[i]);
        for (size_t p = 0; p < 8 && !i; p++)
            assert_memory_equal(optimizer_mean(second->optimizer, p),
                                optimizer_mean(trainer->optimizer, p),
                                trainer_parameter(trainer, p)->count * sizeof(float));
        if (!i)
            ivon_trainer_free(second);
        ivon_network_free(again);
    }
    free(config);
    free(graph);
    ivon_source_close(source);
    ivon_trainer_free(trainer);
    ivon_network_free(network);
    ivon_examples_close(examples);
}

static bool selects_all(void *context, const char *name)
{
    (void)context;
    (void)name;
    return true;
}

/* Weights of convolutions of groups and of nodes that are no product have no factors, nor have
   those that enter elsewhere as well. */
static void factors_need_products(void **unused)
{
    (void)unused;
    struct ivon_examples *examples = open_sample(&pictures);
    struct ivon_train_options options = low_rank_options();
    struct ivon_trainer *trainer = NULL;
    char *config = NULL;
    state = 4;
    struct ivon_network *network = begin(4, (int64_t[]){-1, 2, 5, 6});
    give(network, "c.weight", false, 0, 4, (int64_t[]){4, 1, 3, 3});
    give(network, "t.weight", false, 0, 2, (int64_t[]){48, 48});
    give(network, "s.weight", false, 1, 1, (int64_t[]){48});
    node(network, "Conv", "x c.weight c", integer("group", 2));
    node(network, "Flatten", "c f", NULL);
    node(network, "MatMul", "f t.weight t", NULL);
    node(network, "MatMul", "t t.weight u", NULL);
    node(network, "Mul", "u s.weight v", NULL);
    node(network, "Add", "v t.weight y", NULL);
    finish(network);
    static const char *const names[] = {"c.weight", "t.weight", "s.weight"};
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(graph_low_rank_form(network, graph_find(network, names[i])),
                         LOW_RANK_NONE);
    assert_int_equal(begin_network(&trainer, network, NULL, examples, &options),
                     IVON_ERROR_ARGUMENT);
    ivon_network_free(network);
    network = build_layers();
    options.selected = selects_all;
    assert_int_equal(begin_network(&trainer, network, NULL, examples, &options),
                     IVON_ERROR_ARGUMENT);
    options.selected = NULL;
    options.lora_alpha = 0;
    assert_int_equal(begin_network(&trainer, network, NULL, examples, &options),
                     IVON_ERROR_ARGUMENT);
    options.lora_rank = NULL;
    options.lora_alpha = NAN;
    assert_int_equal(begin_network(&trainer, network, NULL, examples, &options), 0);
    assert_int_equal(ivon_trainer_adapter(trainer, "b", &config, NULL), IVON_ERROR_ARGUMENT);
    assert_null(config);
    ivon_trainer_free(trainer);
    ivon_network_free(network);
    ivon_examples_close(examples);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(gradient_is_that_of_the_mean_loss),
                                       cmocka_unit_test(losses_are_smoothed_and_weighted),
                                       cmocka_unit_test(dropout_is_that_of_its_masks),
                                       cmocka_unit_test(masks_have_addresses),
                                       cmocka_unit_test(batches_and_tiles),
                                       cmocka_unit_test(epochs),
                                       cmocka_unit_test(images),
                                       cmocka_unit_test(the_state_is_a_checkpoint),
                                       cmocka_unit_test(groups_have_settings_of_their_own),
                                       cmocka_unit_test(groups_are_found_by_names),
                                       cmocka_unit_test(options_are_checked),
                                       cmocka_unit_test(the_rate_is_scaled),
                                       cmocka_unit_test(tests_have_standard_errors),
                                       cmocka_unit_test(factors_are_trained),
                                       cmocka_unit_test(factors_go_on),
                                       cmocka_unit_test(factors_need_products),
                                       cmocka_unit_test(methods)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
