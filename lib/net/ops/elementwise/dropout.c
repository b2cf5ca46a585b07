/*
 * Dropout: the identity, and in training (net_call.dropout), with a mask m of 0 and 1 and the ratio
 * p of what is dropped,
 *     y = m x/(1 − p),
 * whose mask forward draws, and leaves in `prepared` for the derivatives.
 */
#include <math.h>
#include <string.h>

#include "core/dispatch.h"
#include "net/graph/rules.h"
#include "net/ops/elementwise/blockwise.h"

/* The mask, if it is wanted, is of type `mask`: floats before opset 10. */
static int dropout_set(struct net_call *call, enum net_type mask, struct ivon_error *error)
{
    const struct net_tensor *input = call->inputs[0];
    int code = block_expect(call, 0, 1U << NET_FLOAT, error);
    if (!code && call->outputs[0])
        code = net_tensor_set(call->outputs[0], input->type, input->rank, input->shape, error);
    if (!code && call->node->output_count > 1)
        code = net_output(call, 1, mask, input->rank, input->shape, error);
    if (!code && call->dropout && !net_prepare(call, input->count + 1, error))
        code = IVON_ERROR_MEMORY;
    return code;
}

static int dropout_float_infer(struct net_call *call, struct ivon_error *error)
{
    return dropout_set(call, NET_FLOAT, error);
}

static int dropout_boolean_infer(struct net_call *call, struct ivon_error *error)
{
    return dropout_set(call, NET_BOOLEAN, error);
}

static int dropout_infer(struct net_call *call, struct ivon_error *error)
{
    const struct net_tensor *training = net_input(call, 2);
    if (training && (training->type != NET_BOOLEAN || training->count != 1 || !training->data))
        return net_fail(call, error, "its training mode is no constant");
    if (training && *(const unsigned char *)training->data)
        return net_fail(call, error, "it is in training mode; export the network for inference");
    return dropout_set(call, NET_BOOLEAN, error);
}

/* p 2^32: a word below it drops its element. */
static uint32_t dropout_threshold(double ratio)
{
    double words = round(ratio * 0x1p32);
    return words < 0x1p32 ? (uint32_t)words : UINT32_MAX;
}

IVON_DISPATCH static void dropout_compare(unsigned char *mask, const uint32_t *words,
                                          uint32_t threshold, size_t count)
{
    for (size_t i = 0; i < count; i++)
        mask[i] = words[i] >= threshold;
}

/* Elements `first` on of an example, which lie in pieces of `inner`. */
static void dropout_draw_piece(const struct net_call *call, size_t example, size_t examples,
                               size_t first, size_t count)
{
    const struct net_dropout *dropout = call->dropout;
    uint32_t words[NET_MASK_PIECE];
    call->masks->words(call->masks->context, dropout, example, first, count, words);
    for (size_t done = 0; done < count;) {
        size_t outer = (first + done) / dropout->inner, at = (first + done) % dropout->inner;
        size_t left = dropout->inner - at < count - done ? dropout->inner - at : count - done;
        unsigned char *mask = (unsigned char *)call->prepared +
                              (outer * examples + example) * dropout->inner + at;
        dropout_compare(mask, words + done, dropout_threshold(dropout->ratio), left);
        done += left;
    }
}

static void dropout_draw(const struct net_call *call)
{
    size_t size = net_dropout_size(call->dropout), examples = call->inputs[0]->count / size;
    for (size_t i = 0; i < examples; i++)
        for (size_t first = 0; first < size; first += NET_MASK_PIECE)
            dropout_draw_piece(call, i, examples, first,
                               size - first < NET_MASK_PIECE ? size - first : NET_MASK_PIECE);
}

static float dropout_scale(const struct net_call *call)
{
    return (float)(1 / (1 - call->dropout->ratio));
}

IVON_DISPATCH static void dropout_apply(float *out, const float *x, const unsigned char *mask,
                                        float scale, size_t count)
{
    for (size_t i = 0; i < count; i++)
        out[i] = mask[i] ? x[i] * scale : 0;
}

IVON_DISPATCH static void dropout_add(float *out, const float *x, const unsigned char *mask,
                                      float scale, size_t count)
{
    for (size_t i = 0; i < count; i++)
        out[i] += mask[i] ? x[i] * scale : 0;
}

/* The mask as an output; outside of training, nothing was dropped. */
static void dropout_tell_mask(const struct net_call *call, struct net_tensor *mask)
{
    const unsigned char *drawn = call->dropout ? call->prepared : NULL;
    for (size_t i = 0; mask->type == NET_FLOAT && i < mask->count; i++)
        ((float *)mask->data)[i] = drawn ? (float)drawn[i] : 1;
    for (size_t i = 0; mask->type == NET_BOOLEAN && i < mask->count; i++)
        ((unsigned char *)mask->data)[i] = drawn ? drawn[i] : 1;
}

/* Outside of training only if the mask is wanted. */
static int dropout_forward(const struct net_call *call, struct ivon_error *error)
{
    (void)error;
    const struct net_tensor *input = call->inputs[0], *output = call->outputs[0];
    struct net_tensor *mask = call->node->output_count > 1 ? call->outputs[1] : NULL;
    if (call->dropout && input->count)
        dropout_draw(call);
    if (output && call->dropout)
        dropout_apply(output->data, input->data, call->prepared, dropout_scale(call), input->count);
    else if (output && output->data != input->data && input->count)
        memcpy(output->data, input->data, input->count * net_type_size(input->type));
    if (mask)
        dropout_tell_mask(call, mask);
    return 0;
}

static void dropout_backward(const struct net_call *call, const float *const *output_adjoints,
                             float *const *input_adjoints)
{
    size_t count = call->inputs[0]->count;
    if (!output_adjoints[0] || !input_adjoints[0])
        return;
    if (call->dropout)
        dropout_add(input_adjoints[0], output_adjoints[0], call->prepared, dropout_scale(call),
                    count);
    for (size_t i = 0; i < count && !call->dropout; i++)
        input_adjoints[0][i] += output_adjoints[0][i];
}

/* The mask does not move. */
static void dropout_tangent(const struct net_call *call, const float *const *input_tangents,
                            float *const *output_tangents)
{
    size_t count = call->inputs[0]->count, size = count * sizeof(float);
    const float *from = input_tangents[0];
    if (output_tangents[0] && from && call->dropout)
        dropout_apply(output_tangents[0], from, call->prepared, dropout_scale(call), count);
    else if (output_tangents[0] && from && size)
        memcpy(output_tangents[0], from, size);
    else if (output_tangents[0] && size)
        memset(output_tangents[0], 0, size);
}

static void dropout_tangent_of_floats(const struct net_call *call,
                                      const float *const *input_tangents,
                                      float *const *output_tangents)
{
    dropout_tangent(call, input_tangents, output_tangents);
    if (call->node->output_count > 1 && output_tangents[1])
        memset(output_tangents[1], 0, call->inputs[0]->count * sizeof(float));
}

#define DROPOUT                                                                                    \
    .inputs_min = 1, .outputs_max = 2, .flags = NET_ALIAS | NET_DROPOUT,                           \
    .forward = dropout_forward, .backward = dropout_backward

const struct net_operator net_dropout_operators[] = {
    {.name = "Dropout",
     .since = 1,
     .inputs_max = 1,
     .attributes = {{"ratio", NET_FLT}},
     .infer = dropout_float_infer,
     .tangent = dropout_tangent_of_floats,
     DROPOUT},
    {.name = "Dropout",
     .since = 10,
     .inputs_max = 1,
     .attributes = {{"ratio", NET_FLT}},
     .infer = dropout_boolean_infer,
     .tangent = dropout_tangent,
     DROPOUT},
    {.name = "Dropout",
     .since = 12,
     .inputs_max = 3,
     .settings = 1U << 1,
     .attributes = {{"seed", NET_INT}},
     .infer = dropout_infer,
     .tangent = dropout_tangent,
     DROPOUT},
    {0},
};
