/* Networks of vectors and images. */
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "train/architecture/private.h"

static const char *vectors(struct builder *builder, int64_t width)
{
    const int64_t shape[] = {-1, width};
    return builder_input(builder, NET_FLOAT, 2, shape);
}

static const char *images(struct builder *builder, int64_t channels, int64_t size)
{
    const int64_t shape[] = {-1, channels, size, size};
    return builder_input(builder, NET_FLOAT, 4, shape);
}

/* n × planes × 1 × 1 to n × planes. */
static const char *flatten(struct builder *builder, const char *x)
{
    builder_set_integer(builder, "axis", 1);
    return builder_unary(builder, "Flatten", x);
}

void architecture_linear(struct builder *builder, const struct specification *specification)
{
    const char *x = vectors(builder, specification->sizes[0]);
    builder_set_output(builder, "f");
    builder_linear(builder, x, "fc", specification->sizes[0], specification->sizes[1]);
}

static const char *activate(struct builder *builder, const char *x, const char *word)
{
    if (word && strcmp(word, "gelu") == 0)
        return builder_gelu(builder, x);
    return builder_unary(builder, word && strcmp(word, "tanh") == 0 ? "Tanh" : "Relu", x);
}

void architecture_mlp(struct builder *builder, const struct specification *specification)
{
    const int64_t *sizes = specification->sizes;
    size_t layers = specification->size_count - 1;
    const char *x = vectors(builder, sizes[0]);
    for (size_t i = 0; i < layers; i++) {
        char prefix[32];
        snprintf(prefix, sizeof prefix, "fc%zu", i + 1);
        builder_set_output(builder, i + 1 == layers ? "f" : NULL);
        x = builder_linear(builder, x, prefix, sizes[i], sizes[i + 1]);
        if (i + 1 < layers)
            x = builder_dropout(builder, activate(builder, x, specification->word));
    }
}

static const char *average_pool(struct builder *builder, const char *x)
{
    const int64_t two[] = {2, 2};
    builder_set_integers(builder, "kernel_shape", 2, two);
    builder_set_integers(builder, "strides", 2, two);
    return builder_unary(builder, "AveragePool", x);
}

void architecture_lenet(struct builder *builder, const struct specification *specification)
{
    const int64_t *sizes = specification->sizes;
    size_t given = specification->size_count;
    int64_t channels = given ? sizes[0] : 3, classes = given ? sizes[1] : 10;
    int64_t size = given > 2 ? sizes[2] : 32;
    const char *x = images(builder, channels, size);
    x = builder_convolution(builder, x, "conv1", channels, 6, 5, 1, (32 - size) / 2, true);
    x = average_pool(builder, builder_unary(builder, "Tanh", x));
    x = builder_convolution(builder, x, "conv2", 6, 16, 5, 1, 0, true);
    x = average_pool(builder, builder_unary(builder, "Tanh", x));
    x = builder_convolution(builder, x, "conv3", 16, 120, 5, 1, 0, true);
    x = builder_dropout(builder, flatten(builder, builder_unary(builder, "Tanh", x)));
    x = builder_unary(builder, "Tanh", builder_linear(builder, x, "fc1", 120, 84));
    x = builder_dropout(builder, x);
    builder_set_output(builder, "f");
    builder_linear(builder, x, "fc2", 84, classes);
}

/* ResNet-20. */

/* The output of a normalization, and the threshold that replaces relu's 0. */
struct normalized {
    const char *x;
    const char *threshold; /* null: 0 */
};

static struct normalized filter_response(struct builder *builder, const char *x, const char *prefix,
                                         int64_t channels)
{
    const int64_t shape[] = {1, channels, 1, 1}, plane[] = {2, 3};
    struct initial ones = {.kind = INITIAL_ONES}, zeros = {.kind = INITIAL_ZEROS};
    const char *weight = builder_parameter(builder, ones, 4, shape, prefix, "weight");
    const char *bias = builder_parameter(builder, zeros, 4, shape, prefix, "bias");
    const char *tau = builder_parameter(builder, zeros, 4, shape, prefix, "tau");
    const char *square = builder_binary(builder, "Mul", x, x);
    builder_set_integers(builder, "axes", 2, plane);
    const char *mean = builder_unary(builder, "ReduceMean", square);
    mean = builder_binary(builder, "Add", mean, builder_number(builder, 1e-6F));
    x = builder_binary(builder, "Div", x, builder_unary(builder, "Sqrt", mean));
    x = builder_binary(builder, "Add", builder_binary(builder, "Mul", x, weight), bias);
    return (struct normalized){x, tau};
}

static struct normalized batch_normalization(struct builder *builder, const char *x,
                                             const char *prefix, int64_t channels)
{
    struct initial ones = {.kind = INITIAL_ONES}, zeros = {.kind = INITIAL_ZEROS};
    const char *inputs[5] = {x};
    inputs[1] = builder_parameter(builder, ones, 1, &channels, prefix, "weight");
    inputs[2] = builder_parameter(builder, zeros, 1, &channels, prefix, "bias");
    inputs[3] = builder_buffer(builder, INITIAL_ZEROS, channels, prefix, "running_mean");
    inputs[4] = builder_buffer(builder, INITIAL_ONES, channels, prefix, "running_var");
    builder_set_number(builder, "epsilon", (double)1e-5F);
    return (struct normalized){builder_node(builder, "BatchNormalization", 5, inputs), NULL};
}

/* Convolution `number` of a block, 3 × 3, with its normalization: PREFIX.conv1, PREFIX.bn1. */
static struct normalized normalized_convolution(struct builder *builder, const char *x,
                                                const char *prefix, int number, int64_t in,
                                                int64_t out, int64_t stride, bool batch)
{
    char convolution[BUILDER_NAME_MAX], norm[BUILDER_NAME_MAX];
    const char *dot = *prefix ? "." : "";
    snprintf(convolution, sizeof convolution, "%s%sconv%d", prefix, dot, number);
    snprintf(norm, sizeof norm, "%s%s%s%d", prefix, dot, batch ? "bn" : "frn", number);
    x = builder_convolution(builder, x, convolution, in, out, 3, stride, 1, false);
    return batch ? batch_normalization(builder, x, norm, out)
                 : filter_response(builder, x, norm, out);
}

static const char *rectify(struct builder *builder, struct normalized normalized)
{
    return normalized.threshold ? builder_binary(builder, "Max", normalized.x, normalized.threshold)
                                : builder_unary(builder, "Relu", normalized.x);
}

/* Option A: every other pixel, and half of the new planes of zeros before, half behind. */
static const char *shortcut(struct builder *builder, const char *x, int64_t in, int64_t out)
{
    const int64_t zeros[] = {0, 0}, ends[] = {INT_MAX, INT_MAX}, axes[] = {2, 3}, steps[] = {2, 2};
    int64_t more = (out - in) / 2;
    const int64_t pads[] = {0, more, 0, 0, 0, more, 0, 0};
    const char *inputs[5] = {x};
    inputs[1] = builder_integers(builder, 2, zeros);
    inputs[2] = builder_integers(builder, 2, ends);
    inputs[3] = builder_integers(builder, 2, axes);
    inputs[4] = builder_integers(builder, 2, steps);
    x = builder_node(builder, "Slice", 5, inputs);
    return builder_binary(builder, "Pad", x, builder_integers(builder, 8, pads));
}

static const char *block(struct builder *builder, const char *x, const char *prefix, int64_t in,
                         int64_t out, bool batch)
{
    int64_t stride = in == out ? 1 : 2;
    struct normalized first = normalized_convolution(builder, x, prefix, 1, in, out, stride, batch);
    struct normalized second = normalized_convolution(builder, rectify(builder, first), prefix, 2,
                                                      out, out, 1, batch);
    const char *identity = in == out ? x : shortcut(builder, x, in, out);
    second.x = builder_binary(builder, "Add", second.x, identity);
    return rectify(builder, second);
}

static void resnet(struct builder *builder, const struct specification *specification, bool batch)
{
    enum { STAGES = 3, BLOCKS = 3, WIDTH = 16 };
    int64_t classes = specification->size_count ? specification->sizes[0] : 10, in = WIDTH;
    const char *x = images(builder, 3, 32);
    x = rectify(builder, normalized_convolution(builder, x, "", 1, 3, in, 1, batch));
    for (int stage = 0; stage < STAGES; stage++)
        for (int i = 0; i < BLOCKS; i++) {
            char prefix[32];
            int64_t out = (int64_t)WIDTH << stage;
            snprintf(prefix, sizeof prefix, "layer%d.%d", stage + 1, i);
            x = block(builder, x, prefix, in, out, batch);
            in = out;
        }
    x = flatten(builder, builder_unary(builder, "GlobalAveragePool", x));
    x = builder_dropout(builder, x);
    builder_set_output(builder, "f");
    builder_linear(builder, x, "fc", in, classes);
}

void architecture_resnet_frn(struct builder *builder, const struct specification *specification)
{
    resnet(builder, specification, false);
}

void architecture_resnet_bn(struct builder *builder, const struct specification *specification)
{
    resnet(builder, specification, true);
}
