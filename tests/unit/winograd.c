/* Conv by Winograd's minimal filtering, against sums in double over random shapes; its error beside
   that of direct sums; the steps behind it; images alone and together. */
#include "operator.h"

#include "net/ops/convolution/convolution.h"
#include "net/ops/convolution/reference.h"

struct layer {
    int64_t images, channels, filters, height, width;
    int64_t pads[4]; /* before, before, after, after */
    bool bias;
};

static int64_t pick(struct trial *trial, int64_t low, int64_t high)
{
    return low + (int64_t)trial_random(trial, 0, (double)(high - low + 1) - 1e-3);
}

/* Infers and runs; inputs lie within 1. Returns whether that was by Winograd's filtering. */
static bool run(struct trial *trial, const struct layer *s)
{
    int64_t x[] = {s->images, s->channels, s->height, s->width};
    int64_t w[] = {s->filters, s->channels, 3, 3};
    trial_begin(trial, "Conv", 1);
    trial_floats(trial, 4, x, NULL, -1, 1);
    trial_floats(trial, 4, w, NULL, -1, 1);
    if (s->bias)
        trial_floats(trial, 1, w, NULL, -1, 1);
    trial_ints(trial, "pads", s->pads, 4);
    assert_int_equal(trial_run(trial, NULL), 0);
    return ((const struct convolution_plan *)trial->call.prepared)->winograd.used;
}

/* One output in double. */
static double expect(const struct trial *trial, const struct layer *s, size_t i)
{
    const int64_t *shape = trial->outputs[0].shape;
    int64_t at = (int64_t)i, column = at % shape[3], row = at / shape[3] % shape[2];
    int64_t filter = at / (shape[2] * shape[3]) % shape[1];
    struct net_window window = {.input = {s->height, s->width},
                                .kernel = {3, 3},
                                .stride = {1, 1},
                                .dilation = {1, 1},
                                .before = {s->pads[0], s->pads[1]}};
    double size,
        sum = convolution_reference(&window, 1, s->channels, s->filters, trial->inputs[0].data,
                                    trial->inputs[1].data, at / (shape[1] * shape[2] * shape[3]),
                                    filter, row, column, &size);
    return sum + (s->bias ? (double)((const float *)trial->inputs[2].data)[filter] : 0);
}

/*
 * An output is Σ_c of sums of products, each of which passes at most 8 roundings in the transform
 * of weights, 7 in that of inputs, 1 for each channel, and 8 behind them, with that of the bias. To
 * first order that is an error of at most (channels + 24) 2^-24 of the sum of the products' sizes,
 * and they are at most Σ_p |Aᵀ_jp| |G_pr| Σ_i |Bᵀ_pi| along each axis, of the sizes of the weights
 * w_r, for inputs within 1: 13.25 down, 4 across.
 */
static double bound(const struct trial *trial, const struct layer *s, size_t filter)
{
    double sum = s->bias;
    size_t terms = 9 * (size_t)s->channels;
    for (size_t i = 0; i < terms; i++)
        sum += fabs((double)((const float *)trial->inputs[1].data)[filter * terms + i]);
    return (double)(s->channels + 24) * ldexp(1, -24) * 13.25 * 4 * sum;
}

static bool check(const struct layer *s)
{
    struct trial trial;
    bool used = run(&trial, s);
    const struct net_tensor *y = &trial.outputs[0];
    size_t plane = (size_t)(y->shape[2] * y->shape[3]);
    assert_int_equal(y->shape[2], s->height + s->pads[0] + s->pads[2] - 2);
    assert_int_equal(y->shape[3], s->width + s->pads[1] + s->pads[3] - 2);
    for (size_t i = 0; i < y->count; i++) {
        double found = (double)((const float *)y->data)[i], expected = expect(&trial, s, i);
        if (!(fabs(found - expected) <= bound(&trial, s, i / plane % (size_t)s->filters)))
            fail_msg("output %zu: %.9g, expected %.9g", i, found, expected);
    }
    trial_end(&trial);
    return used;
}

static void random_layers(void **state)
{
    (void)state;
    size_t used = 0;
    for (uint64_t seed = 0; seed < 100; seed++) {
        struct trial trial = {.state = seed * 7919 + 1};
        struct layer s = {.images = pick(&trial, 1, 3),
                          .channels = pick(&trial, 8, 24),
                          .filters = pick(&trial, 8, 40),
                          .height = pick(&trial, 7, 22),
                          .width = pick(&trial, 7, seed % 3 ? 20 : 80),
                          .bias = seed % 2};
        for (int i = 0; i < 4; i++)
            s.pads[i] = pick(&trial, 0, seed % 5 ? 1 : 3);
        used += check(&s);
    }
    assert_true(used > 50); /* others are too small to gain */
}

/* Rows of more tiles than a group has else; weights that are transformed a few filters at a time;
   more images than a group; outputs that need no copy. */
static void large_layers(void **state)
{
    (void)state;
    static const struct layer layers[] = {
        {1, 12, 13, 9, 301, {1, 1, 1, 1}, true},  {3, 100, 61, 11, 10, {1, 1, 1, 1}, true},
        {2, 70, 130, 9, 24, {0, 0, 0, 0}, false}, {21, 33, 34, 7, 8, {1, 1, 1, 1}, true},
        {2, 16, 16, 32, 32, {1, 1, 1, 1}, true},  {3, 16, 16, 34, 30, {0, 2, 0, 2}, true}};
    for (size_t i = 0; i < sizeof layers / sizeof layers[0]; i++)
        assert_true(check(&layers[i]));
}

/* The largest error is no more than direct sums have: sums of n products have errors of about
   sqrt(n) 2^-24 of their size, which is 1.4e-6 at 64 channels; of the largest output, less. */
static void precise(void **state)
{
    (void)state;
    static const struct layer layers[] = {{2, 16, 16, 32, 32, {1, 1, 1, 1}, false},
                                          {4, 64, 64, 8, 8, {1, 1, 1, 1}, false}};
    for (size_t i = 0; i < sizeof layers / sizeof layers[0]; i++) {
        struct trial trial;
        double most = 0, error = 0;
        assert_true(run(&trial, &layers[i]));
        for (size_t j = 0; j < trial.outputs[0].count; j++) {
            double expected = expect(&trial, &layers[i], j);
            most = fmax(most, fabs(expected));
            error = fmax(error, fabs((double)((float *)trial.outputs[0].data)[j] - expected));
        }
        if (!(error <= 1e-6 * most))
            fail_msg("an error of %g, where outputs are up to %g", error, most);
        trial_end(&trial);
    }
}

/* The steps behind a convolution leave the bits that they would leave one after the other. */
static void finishes(void **state)
{
    (void)state;
    static const struct layer layers[] = {{2, 16, 16, 32, 32, {1, 1, 1, 1}, true},
                                          {5, 20, 17, 9, 11, {0, 1, 0, 0}, false}};
    for (size_t i = 0; i < sizeof layers / sizeof layers[0]; i++) {
        struct trial trial;
        assert_true(run(&trial, &layers[i]));
        struct net_tensor *y = &trial.outputs[0];
        float *expected = malloc(y->count * sizeof *expected);
        float *operand = malloc(y->count * sizeof *operand);
        for (size_t j = 0; j < y->count; j++) {
            float sum = ((float *)y->data)[j] + (operand[j] = trial_random(&trial, -1, 1));
            expected[j] = sum < 0 ? 0 : sum;
        }
        struct net_tensor shortcut = *y;
        shortcut.data = operand;
        const struct net_chain_link links[] = {{.kind = NET_LINK_SUM, .operand = &shortcut},
                                               {.kind = NET_LINK_RECTIFIED}};
        const struct net_finish finish = {.output = y, .links = links, .link_count = 2};
        trial.call.finish = &finish;
        assert_int_equal(trial_forward(&trial, NULL), 0);
        assert_memory_equal(y->data, expected, y->count * sizeof *expected);
        free(expected);
        free(operand);
        trial_end(&trial);
    }
}

/* The bits of an image's output do not depend on the images beside it. */
static void images(void **state)
{
    (void)state;
    static const struct layer layers[] = {
        {7, 16, 16, 32, 32, {1, 1, 1, 1}, true},  {7, 64, 64, 8, 8, {1, 1, 1, 1}, true},
        {19, 24, 33, 7, 9, {1, 0, 1, 1}, true},   {7, 130, 70, 14, 14, {1, 1, 1, 1}, false},
        {5, 9, 12, 13, 261, {1, 1, 1, 1}, false},
    };
    for (size_t i = 0; i < sizeof layers / sizeof layers[0]; i++) {
        struct trial all, one;
        struct layer alone = layers[i];
        alone.images = 1;
        assert_true(run(&all, &layers[i]));
        assert_true(run(&one, &alone));
        for (size_t j = 1; j < one.node.input_count; j++)
            memcpy(one.inputs[j].data, all.inputs[j].data, one.inputs[j].count * sizeof(float));
        for (size_t image = 0; image < (size_t)layers[i].images; image++) {
            memcpy(one.inputs[0].data, (float *)all.inputs[0].data + image * one.inputs[0].count,
                   one.inputs[0].count * sizeof(float));
            assert_int_equal(trial_forward(&one, NULL), 0);
            assert_memory_equal(one.outputs[0].data,
                                (float *)all.outputs[0].data + image * one.outputs[0].count,
                                one.outputs[0].count * sizeof(float));
        }
        trial_end(&all);
        trial_end(&one);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_layers), cmocka_unit_test(large_layers), cmocka_unit_test(precise),
        cmocka_unit_test(finishes),      cmocka_unit_test(images),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
