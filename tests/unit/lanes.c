/*
 * Batch norms over several lanes, against double: two of them in a network, one behind the other,
 * of which each lane is normalized by its own examples. The losses, their gradient, and the running
 * statistics, which move towards the mean over the lanes.
 */
#include "graph_builder.h"

#include <math.h>

#include "core/examples.h"
#include "train/trainer/private.h"

enum { EXAMPLES = 150, IN = 4, HIDDEN = 3, OUT = 2 };
enum { SCALE1, BIAS1, MATRIX1, SCALE2, BIAS2, MATRIX2, SHIFT2, COUNT };

static const char *const names[COUNT] = {"s1", "b1", "w1", "s2", "b2", "w2", "c2"};
static const size_t sizes[COUNT] = {IN, IN, HIDDEN *IN, HIDDEN, HIDDEN, OUT *HIDDEN, OUT};
static const double noise = 0.5, epsilon = 1e-5;

/* s1, w1, … are constants here: without weights, a trainer begins with what a network has. */
static struct ivon_network *network_of_two(void)
{
    static const int64_t in[] = {-1, IN}, w1[] = {HIDDEN, IN}, w2[] = {OUT, HIDDEN};
    state = 11;
    struct ivon_network *network = begin(2, in);
    give(network, "s1", false, 1, 1, w1 + 1);
    give(network, "b1", false, 0, 1, w1 + 1);
    give(network, "m1", false, 0, 1, w1 + 1);
    give(network, "v1", false, 1, 1, w1 + 1);
    give(network, "w1", false, 0, 2, w1);
    give(network, "s2", false, 1, 1, w1);
    give(network, "b2", false, 0, 1, w1);
    give(network, "m2", false, 0, 1, w1);
    give(network, "v2", false, 1, 1, w1);
    give(network, "w2", false, 0, 2, w2);
    give(network, "c2", false, 0, 1, w2);
    node(network, "BatchNormalization", "x s1 b1 m1 v1 n1", NULL);
    node(network, "Gemm", "n1 w1 h", integer("transB", 1));
    node(network, "BatchNormalization", "h s2 b2 m2 v2 n2", NULL);
    node(network, "Tanh", "n2 t", NULL);
    node(network, "Gemm", "t w2 c2 y", integer("transB", 1));
    finish(network);
    return network;
}

/* Examples drift, so that lanes, which have different ones, differ. */
static float element(size_t field, size_t example, size_t i)
{
    uint64_t at = (example * 8 + i * 2 + field + 1) * 0x9E3779B97F4A7C15u;
    at = (at ^ (at >> 29)) * 0xBF58476D1CE4E5B9u;
    return (float)((double)(at >> 40) * 0x1p-23 - 1 + (double)i / 4 + (double)example / EXAMPLES);
}

static int read_sample(void *self, size_t field, uint64_t first, size_t count, void *buffer,
                       struct ivon_error *error)
{
    (void)self;
    (void)error;
    size_t each = field ? OUT : IN;
    for (size_t i = 0; i < count * each; i++)
        ((float *)buffer)[i] = element(field, first + i / each, i % each);
    return 0;
}

static void close_sample(void *self)
{
    (void)self;
}

static struct ivon_examples *open_sample(void)
{
    static const struct ivon_examples_class class = {.read = read_sample, .close = close_sample};
    struct ivon_field fields[2] = {{.name = "x", .dtype = IVON_F32, .rank = 1, .shape = {IN}},
                                   {.name = "y", .dtype = IVON_F32, .rank = 1, .shape = {OUT}}};
    const struct examples_scaling scalings[2] = {{.divisor = 1, .channels = 1},
                                                 {.divisor = 1, .channels = 1}};
    struct ivon_examples *examples = NULL;
    assert_int_equal(
        ivon_examples_new(&examples, &class, NULL, "sample", EXAMPLES, fields, scalings, 2, NULL),
        0);
    return examples;
}

static struct ivon_trainer *trainer_of(struct ivon_network *network, struct ivon_examples *examples,
                                       size_t batch, size_t accumulate, int threads, size_t lanes)
{
    struct ivon_train_options options = ivon_train_defaults(IVON_METHOD_SGD);
    struct ivon_train_start start = {.network = network};
    struct ivon_trainer *trainer = NULL;
    struct ivon_error error = {0};
    options.task.likelihood = IVON_GAUSSIAN;
    options.task.noise_std = noise;
    options.rate = 0.1;
    options.batch = batch;
    options.accumulate = accumulate;
    options.lanes = lanes;
    options.resources.threads = threads;
    if (ivon_trainer_new(&trainer, &start, examples, "y", &options, &error))
        fail_msg("%s", error.message);
    return trainer;
}

/* The reference. */

struct moments {
    double mean[IN], variance[IN]; /* biased */
};

static struct moments moments_of(const double *x, size_t rows, size_t width)
{
    struct moments moments = {{0}, {0}};
    for (size_t i = 0; i < rows * width; i++)
        moments.mean[i % width] += x[i] / (double)rows;
    for (size_t i = 0; i < rows * width; i++)
        moments.variance[i % width] += pow(x[i] - moments.mean[i % width], 2) / (double)rows;
    return moments;
}

static void normalize(double *x, size_t rows, size_t width, const struct moments *moments,
                      const double *scale, const double *bias)
{
    for (size_t i = 0; i < rows * width; i++)
        x[i] = (x[i] - moments->mean[i % width]) / sqrt(moments->variance[i % width] + epsilon) *
                   scale[i % width] +
               bias[i % width];
}

static void multiply(const double *x, size_t rows, size_t in, const double *w, size_t out,
                     double *y)
{
    for (size_t i = 0; i < rows * out; i++) {
        y[i] = 0;
        for (size_t j = 0; j < in; j++)
            y[i] += x[i / out * in + j] * w[i % out * in + j];
    }
}

/* The sum of the losses of one lane's examples; what it is normalized by. */
static double lane_loss(const struct chosen *chosen, size_t rows, double *const *parameters,
                        struct moments of[2])
{
    double x[EXAMPLES * IN] = {0}, h[EXAMPLES * HIDDEN] = {0}, y[EXAMPLES * OUT], sum = 0;
    for (size_t i = 0; i < rows * IN; i++)
        x[i] = (double)element(0, chosen[i / IN].example, i % IN);
    of[0] = moments_of(x, rows, IN);
    normalize(x, rows, IN, &of[0], parameters[SCALE1], parameters[BIAS1]);
    multiply(x, rows, IN, parameters[MATRIX1], HIDDEN, h);
    of[1] = moments_of(h, rows, HIDDEN);
    normalize(h, rows, HIDDEN, &of[1], parameters[SCALE2], parameters[BIAS2]);
    for (size_t i = 0; i < rows * HIDDEN; i++)
        h[i] = tanh(h[i]);
    multiply(h, rows, HIDDEN, parameters[MATRIX2], OUT, y);
    for (size_t i = 0; i < rows * OUT; i++) {
        double off = y[i] + parameters[SHIFT2][i % OUT] -
                     (double)element(1, chosen[i / OUT].example, i % OUT);
        sum += 0.5 * off * off / (noise * noise);
    }
    return sum;
}

static double mean_loss(const struct ivon_trainer *trainer, size_t lanes, size_t each,
                        double *const *parameters)
{
    struct moments of[2];
    double sum = 0;
    for (size_t lane = 0; lane < lanes; lane++)
        sum += lane_loss(trainer->chosen + lane * each, each, parameters, of);
    return sum / (double)(lanes * each);
}

static size_t parameter_at(const struct ivon_trainer *trainer, size_t p)
{
    for (size_t i = 0; i < trainer->network->parameter_count; i++)
        if (strcmp(trainer_parameter(trainer, i)->name, names[p]) == 0)
            return i;
    fail_msg("no parameter '%s'", names[p]);
    return 0;
}

static float *running(const struct ivon_trainer *trainer, const char *name)
{
    return trainer->network->values[graph_find(trainer->network, name)].tensor.data;
}

static double compute(struct ivon_trainer *trainer)
{
    double loss;
    trainer->scale = 1 / data_choose(trainer);
    assert_int_equal(lanes_gradient(trainer, &loss, NULL), 0);
    return loss;
}

/* Means of unbiased variances, and of means: of size 1, of sums of up to 75 terms in float where
   they are of a product. 20 roundings: 20 * 2^-24 of up to 4. */
static void check_running(const struct ivon_trainer *trainer, size_t lanes, size_t each,
                          double *const *parameters, const float *before, double kept)
{
    static const char *const of[] = {"m1", "v1", "m2", "v2"};
    double expected[4][IN] = {{0}};
    for (size_t lane = 0; lane < lanes; lane++) {
        struct moments moments[2];
        lane_loss(trainer->chosen + lane * each, each, parameters, moments);
        for (size_t i = 0; i < 2; i++)
            for (size_t c = 0; c < IN; c++) {
                expected[2 * i][c] += moments[i].mean[c] / (double)lanes;
                expected[2 * i + 1][c] += moments[i].variance[c] * (double)each /
                                          ((double)each - 1) / (double)lanes;
            }
    }
    for (size_t i = 0; i < 4; i++)
        for (size_t c = 0; c < (i < 2 ? IN : HIDDEN); c++) {
            double value = kept * (double)before[i * IN + c] + (1 - kept) * expected[i][c];
            double found = (double)running(trainer, of[i])[c];
            if (!(fabs(found - value) <= 20 * 0x1p-22))
                fail_msg("%zu lanes, %s[%zu]: %.9g, expected %.9g", lanes, of[i], c, found, value);
        }
}

/*
 * Differences in double of a mean loss of size 10 over steps of 1e-5: right to 1e-9. The gradient
 * is of sums in float of up to 150 terms, of size up to 20: to 100 roundings of them, 100 * 2^-24 *
 * 20 = 1e-4.
 */
static void check_gradient(struct ivon_trainer *trainer, size_t lanes, size_t each,
                           double **parameters)
{
    for (size_t p = 0; p < COUNT; p++)
        for (size_t i = 0; i < sizes[p]; i++) {
            double kept = parameters[p][i], above, below;
            parameters[p][i] = kept + 1e-5;
            above = mean_loss(trainer, lanes, each, parameters);
            parameters[p][i] = kept - 1e-5;
            below = mean_loss(trainer, lanes, each, parameters);
            parameters[p][i] = kept;
            double expected = (above - below) / 2e-5;
            double found = (double)trainer->gradient.arrays[parameter_at(trainer, p)][i];
            if (!(fabs(found - expected) <= 1e-4))
                fail_msg("%zu lanes, %s[%zu]: %.9g, expected %.9g", lanes, names[p], i, found,
                         expected);
        }
}

static void lanes_asked(size_t batch, size_t accumulate, int threads, size_t asked, size_t lanes)
{
    struct ivon_examples *examples = open_sample();
    struct ivon_network *network = network_of_two();
    struct ivon_trainer *trainer = trainer_of(network, examples, batch, accumulate, threads, asked);
    size_t each = batch * accumulate / lanes;
    double *parameters[COUNT];
    float before[4 * IN] = {0};
    assert_int_equal(trainer->lane_count, lanes);
    assert_int_equal(trainer->lane_size, each);
    assert_int_equal(trainer->runner.tile, each);
    for (size_t p = 0; p < COUNT; p++) {
        const float *mean = optimizer_mean(trainer->optimizer, parameter_at(trainer, p));
        parameters[p] = calloc(sizes[p], sizeof(double));
        for (size_t i = 0; i < sizes[p]; i++)
            parameters[p][i] = (double)mean[i];
    }
    memcpy(before, running(trainer, "m1"), IN * sizeof(float));
    memcpy(before + IN, running(trainer, "v1"), IN * sizeof(float));
    memcpy(before + 2 * IN, running(trainer, "m2"), HIDDEN * sizeof(float));
    memcpy(before + 3 * IN, running(trainer, "v2"), HIDDEN * sizeof(float));

    double loss = compute(trainer), expected = mean_loss(trainer, lanes, each, parameters);
    assert_true(fabs(loss - expected) <= 1e-5 * expected);
    check_gradient(trainer, lanes, each, parameters);
    check_running(trainer, lanes, each, parameters, before, 0.9);
    compute(trainer); /* the same examples once more */
    check_running(trainer, lanes, each, parameters, before, 0.81);

    for (size_t p = 0; p < COUNT; p++)
        free(parameters[p]);
    ivon_trainer_free(trainer);
    ivon_network_free(network);
    ivon_examples_close(examples);
}

static void lanes_of(size_t batch, size_t accumulate, int threads, size_t lanes)
{
    lanes_asked(batch, accumulate, threads, 0, lanes);
}

/* The number of lanes is a power of two that examples are a multiple of, with 16 or more in
   each. */
static void lanes(void **unused)
{
    (void)unused;
    lanes_of(30, 1, 1, 1);
    lanes_of(32, 1, 2, 2);
    lanes_of(70, 1, 2, 2);
    lanes_of(72, 1, 2, 4);
    lanes_of(32, 3, 2, 4);
    lanes_of(128, 1, 1, 8);
    lanes_of(136, 1, 2, 8);
}

/* More of them than places come in waves, of which the last may have fewer. */
static void lanes_chosen(void **unused)
{
    (void)unused;
    lanes_asked(144, 1, 1, 9, 9);
    lanes_asked(150, 1, 2, 25, 25);
    lanes_asked(75, 2, 2, 3, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(lanes), cmocka_unit_test(lanes_chosen)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
