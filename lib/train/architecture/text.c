/* Networks of tokens. */
#include <math.h>
#include <stdio.h>

#include "train/architecture/private.h"

static const char *tokens(struct builder *builder, int64_t length)
{
    const int64_t shape[] = {-1, length};
    return builder_input(builder, NET_INTEGER, 2, shape);
}

static struct initial normal_initial(double scale)
{
    return (struct initial){.kind = INITIAL_NORMAL, .scale = scale};
}

/* A table of embeddings: ENTRIES × WIDTH. */
static const char *table(struct builder *builder, const char *prefix, int64_t entries,
                         int64_t width, double scale)
{
    const int64_t shape[] = {entries, width};
    struct initial initial = normal_initial(scale);
    initial.table = true;
    return builder_parameter(builder, initial, 2, shape, prefix, "weight");
}

static const char *architecture_text_transpose(struct builder *builder, const char *x, size_t rank,
                                               const int64_t *order)
{
    builder_set_integers(builder, "perm", rank, order);
    return builder_unary(builder, "Transpose", x);
}

static const char *unsqueeze(struct builder *builder, const char *x, int64_t axis)
{
    return builder_binary(builder, "Unsqueeze", x, builder_integers(builder, 1, &axis));
}

/* The largest response of each filter of `kernel` tokens: n × filters. */
static const char *max_response(struct builder *builder, const char *x, const char *prefix,
                                int64_t width, int64_t filters, int64_t kernel)
{
    const int64_t shape[] = {filters, width, kernel}, last = 2;
    struct initial initial = initial_linear(3, shape);
    const char *inputs[3] = {x};
    inputs[1] = builder_parameter(builder, initial, 3, shape, prefix, "weight");
    inputs[2] = builder_parameter(builder, initial, 1, &filters, prefix, "bias");
    builder_set_integers(builder, "kernel_shape", 1, &kernel);
    x = builder_unary(builder, "Relu", builder_node(builder, "Conv", 3, inputs));
    builder_set_integers(builder, "axes", 1, &last);
    builder_set_integer(builder, "keepdims", 0);
    return builder_unary(builder, "ReduceMax", x);
}

void architecture_textcnn(struct builder *builder, const struct specification *specification)
{
    enum { KERNELS = 3, SMALLEST = 3 };
    const int64_t *sizes = specification->sizes, order[] = {0, 2, 1};
    int64_t vocabulary = sizes[0], width = sizes[1], filters = sizes[2], classes = sizes[3];
    const char *responses[KERNELS];
    const char *x = tokens(builder, specification->size_count > 4 ? sizes[4] : -1);
    x = builder_binary(builder, "Gather", table(builder, "embed", vocabulary, width, 0.1), x);
    x = architecture_text_transpose(builder, x, 3, order);
    for (int i = 0; i < KERNELS; i++) {
        char prefix[32];
        snprintf(prefix, sizeof prefix, "convs.%d", i);
        responses[i] = max_response(builder, x, prefix, width, filters, SMALLEST + i);
    }
    builder_set_integer(builder, "axis", 1);
    x = builder_dropout(builder, builder_node(builder, "Concat", KERNELS, responses));
    builder_set_output(builder, "f");
    builder_linear(builder, x, "fc", KERNELS * filters, classes);
}

/* Transformers. */

struct transformer {
    int64_t width, layers, heads;
    const char *mask;          /* true where a position must not attend to another; null: nowhere */
    struct initial in;         /* weights that read the residual stream */
    struct initial up, down;   /* of the MLP */
    struct initial projection; /* of attention's output */
};

/* n × tokens × width as n × heads × tokens × width/heads, or its last two axes swapped. */
static const char *heads(struct builder *builder, const char *x,
                         const struct transformer *transformer, bool swapped)
{
    const int64_t shape[] = {0, 0, transformer->heads, transformer->width / transformer->heads};
    const int64_t order[] = {0, 2, 1, 3}, order_swapped[] = {0, 2, 3, 1};
    x = builder_binary(builder, "Reshape", x, builder_integers(builder, 4, shape));
    return architecture_text_transpose(builder, x, 4, swapped ? order_swapped : order);
}

static const char *architecture_text_attend(struct builder *builder, const char *x,
                                            const char *layer,
                                            const struct transformer *transformer)
{
    char name[BUILDER_NAME_MAX];
    int64_t width = transformer->width, head = width / transformer->heads;
    const int64_t order[] = {0, 2, 1, 3}, merged[] = {0, 0, width};
    const char *parts[3];
    x = builder_tokens(builder, x, builder_name(name, layer, -1, "att.qkv"), width, 3 * width, true,
                       transformer->in);
    builder_split(builder, x, 2, 3, width, parts);
    const char *query = heads(builder, parts[0], transformer, false);
    const char *key = heads(builder, parts[1], transformer, true);
    const char *value = heads(builder, parts[2], transformer, false);
    const char *scale = builder_number(builder, (float)sqrt((double)head));
    const char *score = builder_binary(builder, "Div",
                                       builder_binary(builder, "MatMul", query, key), scale);
    if (transformer->mask) {
        const char *inputs[] = {transformer->mask, builder_number(builder, -INFINITY), score};
        score = builder_node(builder, "Where", 3, inputs);
    }
    builder_set_integer(builder, "axis", -1);
    const char *weight = builder_unary(builder, "Softmax", score);
    x = architecture_text_transpose(builder, builder_binary(builder, "MatMul", weight, value), 4,
                                    order);
    x = builder_binary(builder, "Reshape", x, builder_integers(builder, 3, merged));
    return builder_tokens(builder, x, builder_name(name, layer, -1, "att.proj"), width, width, true,
                          transformer->projection);
}

static const char *transformer_layer(struct builder *builder, const char *x, int64_t number,
                                     const struct transformer *transformer)
{
    char layer[BUILDER_NAME_MAX / 2], name[BUILDER_NAME_MAX];
    int64_t width = transformer->width;
    snprintf(layer, sizeof layer, "layers.%lld", (long long)number);
    const char *y = builder_layer_norm(builder, x, builder_name(name, layer, -1, "ln1"), width);
    y = builder_dropout(builder, architecture_text_attend(builder, y, layer, transformer));
    x = builder_binary(builder, "Add", x, y);
    y = builder_layer_norm(builder, x, builder_name(name, layer, -1, "ln2"), width);
    y = builder_tokens(builder, y, builder_name(name, layer, -1, "up"), width, 4 * width, true,
                       transformer->up);
    y = builder_gelu(builder, y);
    y = builder_tokens(builder, y, builder_name(name, layer, -1, "down"), 4 * width, width, true,
                       transformer->down);
    return builder_binary(builder, "Add", x, builder_dropout(builder, y));
}

static const char *layers(struct builder *builder, const char *x,
                          const struct transformer *transformer)
{
    for (int64_t i = 0; i < transformer->layers && !builder->code; i++)
        x = transformer_layer(builder, x, i, transformer);
    return builder_layer_norm(builder, x, "ln", transformer->width);
}

/* The mean over the tokens that are not 0. Without any, the sum 0 is divided by 1. */
static const char *masked_mean(struct builder *builder, const char *x, const char *ids)
{
    const int64_t one = 1;
    const char *zero = builder_integer(builder, 0);
    const char *axis = builder_integers(builder, 1, &one);
    const char *mask = builder_unary(builder, "Not", builder_binary(builder, "Equal", ids, zero));
    builder_set_integer(builder, "to", 1); /* float */
    mask = unsqueeze(builder, builder_unary(builder, "Cast", mask), 2);
    x = builder_binary(builder, "Mul", x, mask);
    builder_set_integer(builder, "keepdims", 0);
    x = builder_binary(builder, "ReduceSum", x, axis);
    builder_set_integer(builder, "keepdims", 0);
    const char *count = builder_binary(builder, "ReduceSum", mask, axis);
    count = builder_binary(builder, "Clip", count, builder_number(builder, 1));
    return builder_binary(builder, "Div", x, count);
}

void architecture_transformer(struct builder *builder, const struct specification *specification)
{
    const int64_t *sizes = specification->sizes;
    int64_t vocabulary = sizes[0], context = sizes[1], width = sizes[2], classes = sizes[5];
    const int64_t square[] = {width, width}, up[] = {4 * width, width};
    struct transformer transformer = {.width = width,
                                      .layers = sizes[3],
                                      .heads = sizes[4],
                                      .in = initial_xavier(2, square),
                                      .projection = initial_xavier(2, square),
                                      .up = initial_xavier(2, up),
                                      .down = initial_xavier(2, up)};
    const int64_t positions[] = {1, context, width};
    struct initial initial = {.kind = INITIAL_NORMAL, .scale = 0.02, .table = true};
    const char *ids = tokens(builder, context);
    const char *position = builder_parameter(builder, initial, 3, positions, "", "pos");
    const char *x = builder_binary(builder, "Gather",
                                   table(builder, "tok", vocabulary, width, 0.02), ids);
    x = builder_dropout(builder, builder_binary(builder, "Add", x, position));
    x = layers(builder, x, &transformer);
    x = masked_mean(builder, x, ids);
    builder_set_output(builder, "f");
    builder_linear(builder, x, "fc", width, classes);
}

/* Builds a context × context matrix that is true where column j comes after row i: j > i. */
static const char *causal_mask(struct builder *builder, int64_t context)
{
    const char *inputs[3];
    inputs[0] = builder_integer(builder, 0);
    inputs[1] = builder_integer(builder, context);
    inputs[2] = builder_integer(builder, 1);
    const char *position = builder_node(builder, "Range", 3, inputs);
    const char *columns = unsqueeze(builder, position, 0);
    return builder_binary(builder, "Greater", columns, unsqueeze(builder, position, 1));
}

/* Initial weights are GPT-2's (Radford et al. 2019): 0.02, smaller in layers that add to the
   residual stream. */
void architecture_gpt(struct builder *builder, const struct specification *specification)
{
    const int64_t *sizes = specification->sizes;
    int64_t vocabulary = sizes[0], context = sizes[1], width = sizes[2];
    struct initial small = normal_initial(0.02),
                   smaller = normal_initial(0.02 / sqrt(2.0 * (double)sizes[3]));
    const char *ids = tokens(builder, context);
    struct transformer transformer = {.width = width,
                                      .layers = sizes[3],
                                      .heads = sizes[4],
                                      .mask = causal_mask(builder, context),
                                      .in = small,
                                      .up = small,
                                      .down = smaller,
                                      .projection = smaller};
    const char *x = builder_binary(builder, "Gather",
                                   table(builder, "wte", vocabulary, width, 0.02), ids);
    x = builder_binary(builder, "Add", x, table(builder, "wpe", context, width, 0.02));
    x = layers(builder, builder_dropout(builder, x), &transformer);
    builder_set_output(builder, "f");
    builder_tokens(builder, x, "head", width, vocabulary, false, small);
}
