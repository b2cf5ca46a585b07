/*
 * A convolution whose outputs one of groups of a channel takes while they are computed, against the
 * same steps one by one, which a plan runs that keeps every value: the same operations in the same
 * order, so they agree bit for bit. Several images agree with each alone.
 */
#include "graph_builder.h"

#include <math.h>
#include <stdio.h>

#include "net/plan/private.h"

static int64_t pick(int64_t low, int64_t high)
{
    return low + (int64_t)((uniform() + 1) / 2 * (double)(high - low + 1) * (1 - 1e-9));
}

/* The sizes of a pair. */
struct shape {
    int64_t images, channels, filters, height, width;
    int64_t kernel, stride, taps, step[2], pads[4];
};

static void shape_random(struct shape *s)
{
    static const int64_t steps[][2] = {{1, 1}, {2, 1}, {2, 2}};
    bool large = pick(0, 9) == 0;
    *s = (struct shape){.images = large ? 2 : pick(1, 6),
                        .channels = large ? pick(1, 24) : pick(1, 9),
                        .filters = pick(1, 15),
                        .height = large ? pick(90, 120) : pick(1, 20),
                        .width = large ? pick(90, 120) : pick(1, 20),
                        .kernel = pick(0, 2) ? 1 : 3,
                        .stride = pick(0, 3) ? 1 : 2,
                        .taps = pick(0, 1) ? 3 : 5};
    memcpy(s->step, steps[pick(0, 2)], sizeof s->step);
    for (int i = 0; i < 4; i++)
        s->pads[i] = pick(0, 3) ? s->taps / 2 : pick(2, s->taps + 1);
}

static void convolution(struct ivon_network *network, const char *values, int64_t groups,
                        const int64_t *strides, const int64_t *pads)
{
    struct net_attribute *attributes = calloc(3, sizeof *attributes);
    char text[64], *list[4], *rest;
    size_t count = 0;
    strcpy(text, values);
    for (char *at = strtok_r(text, " ", &rest); at; at = strtok_r(NULL, " ", &rest))
        list[count++] = at;
    attributes[0] = (struct net_attribute){
        .name = strdup("group"), .kind = NET_INT, .integer = groups};
    attributes[1] = (struct net_attribute){
        .name = strdup("strides"), .kind = NET_INTS, .count = 2, .integers = malloc(16)};
    attributes[2] = (struct net_attribute){
        .name = strdup("pads"), .kind = NET_INTS, .count = 4, .integers = malloc(32)};
    memcpy(attributes[1].integers, strides, 16);
    memcpy(attributes[2].integers, pads, 32);
    assert_int_equal(graph_add_node(network, net_operator_find(NULL, "Conv", 17), list[count - 1],
                                    (const char **)list, count - 1, (const char **)&list[count - 1],
                                    1, attributes, 3, NULL),
                     0);
}

/* Adds steps behind a value, and returns the name of the last. */
static const char *add_steps(struct ivon_network *network, const char *from, bool first)
{
    static const char *const chains[] = {"Relu", "Sigmoid", "Add"};
    static char names[2][8];
    char *at = names[first], values[64];
    snprintf(at, sizeof names[first], "%s", from);
    if (pick(0, 2)) {
        snprintf(values, sizeof values, "%s scale shift mean variance %sn", at, at);
        node(network, "BatchNormalization", values, NULL);
        strcat(at, "n");
    }
    if (pick(0, 2) == 0) {
        snprintf(values, sizeof values, "%s low high %sc", at, at);
        node(network, "Clip", values, NULL);
        strcat(at, "c");
    } else if (pick(0, 2)) {
        const char *op = chains[pick(0, first ? 1 : 2)];
        snprintf(values, sizeof values, "%s%s %sr", at, *op == 'A' ? " shortcut" : "", at);
        node(network, op, values, NULL);
        strcat(at, "r");
    }
    return at;
}

static struct ivon_network *pair_graph(const struct shape *s, int64_t *rest)
{
    int64_t pad = s->kernel / 2, pads[] = {pad, pad, pad, pad}, strides[] = {s->stride, s->stride};
    int64_t x[] = {-1, s->channels, s->height, s->width};
    int64_t middle[] = {(s->height - 1) / s->stride + 1, (s->width - 1) / s->stride + 1};
    int64_t w[] = {s->filters, s->channels, s->kernel, s->kernel};
    int64_t v[] = {s->filters, 1, s->taps, s->taps};
    bool bias = pick(0, 1);
    struct ivon_network *network = begin(4, x);
    rest[0] = s->channels;
    rest[1] = s->height;
    rest[2] = s->width;
    for (int i = 0; i < 2; i++)
        rest[3 + i] = (middle[i] + s->pads[i] + s->pads[2 + i] - s->taps) / s->step[i] + 1;
    int64_t shortcut[] = {-1, s->filters, rest[3], rest[4]};
    assert_int_equal(graph_add_input(network, "shortcut", NET_FLOAT, 4, shortcut, NULL), 0);
    give(network, "w", false, 0, 4, w);
    give(network, "v", false, 0, 4, v);
    give(network, "b", false, 0, 1, w);
    give(network, "scale", false, 1, 1, w);
    give(network, "shift", false, 0, 1, w);
    give(network, "mean", false, 0, 1, w);
    give(network, "variance", false, 1, 1, w);
    give(network, "low", false, -1, 0, NULL);
    give(network, "high", false, 1, 0, NULL);
    if (pick(0, 1))
        *(float *)network->values[graph_find(network, "low")].tensor.data = 0;
    convolution(network, bias ? "x w b p" : "x w p", 1, strides, pads);
    char values[64];
    snprintf(values, sizeof values, "%s v %sq", add_steps(network, "p", true), bias ? "b " : "");
    convolution(network, values, s->filters, s->step, s->pads);
    snprintf(values, sizeof values, "%s y", add_steps(network, "q", false));
    node(network, "Identity", values, NULL);
    finish(network);
    return network;
}

static void count(void *context, const struct net_call *call)
{
    (void)call;
    ++*(size_t *)context;
}

/* Runs `images` images by a plan, which is observed or not. Returns how many pairs it has. */
static size_t run(const struct ivon_network *network, int64_t images, const int64_t *rest,
                  enum plan_keep keep, bool observed, const float *x, const float *shortcut,
                  float *y)
{
    int64_t outputs[] = {network->values[graph_find(network, "v")].tensor.shape[0], rest[3],
                         rest[4]};
    struct net_tensor inputs[] = {shape_of(4, images, rest), shape_of(4, images, outputs)};
    struct net_plan *plan;
    size_t pairs = 0, calls = 0;
    assert_int_equal(plan_new(&plan, network, NULL, inputs, keep, 0, NULL), 0);
    for (size_t i = 0; i < network->node_count; i++)
        pairs += plan->steps[i].kind == PLAN_PAIRED;
    if (observed)
        assert_int_equal(net_plan_observe(plan, count, &calls, NULL), 0);
    assert_int_equal(net_plan_run(plan, (const void *const[]){x, shortcut}, NULL), 0);
    memcpy(y, net_plan_output(plan, 0)->data, net_plan_output(plan, 0)->count * sizeof *y);
    net_plan_free(plan);
    return pairs;
}

static float *random_array(size_t count)
{
    float *array = malloc((count + 1) * sizeof *array);
    assert_non_null(array);
    for (size_t i = 0; i < count; i++)
        array[i] = (float)uniform();
    return array;
}

/* Of one shape; returns whether it was a pair. */
static bool check(const struct shape *s)
{
    int64_t rest[5];
    struct ivon_network *network = pair_graph(s, rest);
    size_t image = (size_t)(s->channels * s->height * s->width);
    size_t output = (size_t)(s->filters * rest[3] * rest[4]), images = (size_t)s->images;
    float *x = random_array(images * image), *shortcut = random_array(images * output);
    float *expected = random_array(images * output), *found = random_array(images * output);
    x[pick(0, (int64_t)(images * image) - 1)] = NAN;
    run(network, s->images, rest, PLAN_KEEP_ALL, false, x, shortcut, expected);
    size_t pairs = run(network, s->images, rest, PLAN_KEEP_OUTPUTS, false, x, shortcut, found);
    assert_memory_equal(found, expected, images * output * sizeof *found);
    run(network, s->images, rest, PLAN_KEEP_OUTPUTS, true, x, shortcut, found);
    assert_memory_equal(found, expected, images * output * sizeof *found);
    for (size_t i = 0; i < images; i++) {
        run(network, 1, rest, PLAN_KEEP_OUTPUTS, false, x + i * image, shortcut + i * output,
            found);
        assert_memory_equal(found, expected + i * output, output * sizeof *found);
    }
    free(x);
    free(shortcut);
    free(expected);
    free(found);
    ivon_network_free(network);
    return pairs > 0;
}

static void pairs_change_no_bit(void **unused)
{
    (void)unused;
    size_t pairs = 0;
    for (uint64_t seed = 1; seed <= 400; seed++) {
        struct shape s;
        state = seed;
        do
            shape_random(&s);
        while ((s.height - 1) / s.stride + 1 + s.pads[0] + s.pads[2] < s.taps ||
               (s.width - 1) / s.stride + 1 + s.pads[1] + s.pads[3] < s.taps);
        pairs += check(&s);
    }
    assert_true(pairs > 200);
}

/* Those of MobileNetV2, bands of rows, whole images, images side by side; and a wide one. */
static void real_pairs(void **unused)
{
    (void)unused;
    static const struct shape shapes[] = {
        {2, 3, 32, 224, 224, 3, 2, 3, {1, 1}, {1, 1, 1, 1}},
        {2, 16, 96, 112, 112, 1, 1, 3, {2, 2}, {1, 1, 1, 1}},
        {1, 24, 144, 56, 56, 1, 1, 3, {1, 1}, {1, 1, 1, 1}},
        {3, 64, 38, 14, 14, 1, 1, 3, {1, 1}, {1, 1, 1, 1}},
        {5, 96, 40, 14, 14, 1, 1, 3, {2, 2}, {1, 1, 1, 1}},
        {4, 160, 30, 7, 7, 1, 1, 3, {1, 1}, {1, 1, 1, 1}},
        {2, 3, 8, 20, 301, 1, 1, 3, {1, 1}, {1, 1, 1, 1}},
    };
    state = 1;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        assert_true(check(&shapes[i]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pairs_change_no_bit),
        cmocka_unit_test(real_pairs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
