/* The gradients of single examples for any operator that has `backward`. */
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "net/operator.h"

/* One example's part of a call. */
struct part {
    struct net_call call;
    struct net_tensor *tensors; /* of inputs, then of outputs; the data of an example */
    struct net_tensor **pointers;
    const float **output_adjoints;
    float **input_adjoints;
};

static void part_free(struct part *part)
{
    free(part->call.workspace);
    free(part->call.prepared);
    free(part->tensors);
    free(part->pointers);
    free(part->output_adjoints);
    free(part->input_adjoints);
}

/* Divides the first axis, where there is one that can be. */
static bool divide(struct net_tensor *tensor, size_t examples)
{
    if (tensor->rank == 0 || (size_t)tensor->shape[0] % examples != 0)
        return false;
    tensor->shape[0] /= (int64_t)examples;
    tensor->count /= examples;
    return true;
}

static bool same_shape(const struct net_tensor *a, const struct net_tensor *b)
{
    return a->type == b->type && a->rank == b->rank &&
           memcmp(a->shape, b->shape, (size_t)a->rank * sizeof *a->shape) == 0;
}

/* Infers the part's call, and checks that its outputs are parts of the whole's. */
static int infer(struct part *part, const struct net_call *whole, size_t examples,
                 struct ivon_error *error)
{
    struct net_call *call = &part->call;
    int code = call->node->operator->infer(call, error);
    for (size_t i = 0; i < call->node->output_count && !code; i++) {
        if (!call->outputs[i])
            continue;
        struct net_tensor expected = *whole->outputs[i];
        if (!divide(&expected, examples) || !same_shape(&expected, call->outputs[i]))
            code = net_fail(call, error, "the examples are not along the first axis of output %zu",
                            i);
        *call->outputs[i] = expected;
    }
    if (!code && call->workspace_size) {
        call->workspace = aligned_alloc(64, (call->workspace_size + 63) / 64 * 64);
        if (!call->workspace)
            code = ivon_error_memory(error);
    }
    return code;
}

static int part_new(struct part *part, const struct net_call *whole, size_t examples,
                    const bool *shared, struct ivon_error *error)
{
    size_t inputs = whole->node->input_count, outputs = whole->node->output_count;
    *part = (struct part){.tensors = calloc(inputs + outputs, sizeof *part->tensors),
                          .pointers = calloc(inputs + outputs, sizeof *part->pointers),
                          .output_adjoints = calloc(outputs, sizeof *part->output_adjoints),
                          .input_adjoints = calloc(inputs, sizeof *part->input_adjoints)};
    if (!part->tensors || !part->pointers || !part->output_adjoints || !part->input_adjoints)
        return ivon_error_memory(error);
    part->call = (struct net_call){
        .node = whole->node, .inputs = part->pointers, .outputs = part->pointers + inputs};
    for (size_t i = 0; i < inputs + outputs; i++) {
        const struct net_tensor *tensor =
            i < inputs ? whole->inputs[i] : whole->outputs[i - inputs];
        if (!tensor)
            continue;
        part->tensors[i] = *tensor;
        part->pointers[i] = &part->tensors[i];
        if (i < inputs && !shared[i] && !divide(&part->tensors[i], examples))
            return net_fail(whole, error, "the examples are not along the first axis of input %zu",
                            i);
    }
    return infer(part, whole, examples, error);
}

/* Where an example's elements lie. */
static void *data_of(const struct net_tensor *whole, const struct net_tensor *part, size_t example)
{
    size_t at = example * part->count * net_type_size(part->type);
    return whole->data ? (unsigned char *)whole->data + at : NULL;
}

static void go_to(struct part *part, const struct net_call *whole, size_t example,
                  const bool *shared, const float *const *output_adjoints)
{
    const struct net_call *call = &part->call;
    for (size_t i = 0; i < call->node->input_count; i++)
        if (call->inputs[i] && !shared[i])
            call->inputs[i]->data = data_of(whole->inputs[i], call->inputs[i], example);
    for (size_t i = 0; i < call->node->output_count; i++) {
        const struct net_tensor *output = call->outputs[i];
        part->output_adjoints[i] = NULL;
        if (!output)
            continue;
        call->outputs[i]->data = data_of(whole->outputs[i], output, example);
        if (output_adjoints[i])
            part->output_adjoints[i] = output_adjoints[i] + example * output->count;
    }
}

int net_parameter_gradient(const struct net_call *call, size_t input, size_t examples,
                           const bool *shared, const float *const *output_adjoints,
                           float *gradients, struct ivon_error *error)
{
    const struct net_operator *operator = call->node->operator;
    size_t size = call->inputs[input]->count;
    if (operator->parameter_gradient) {
        operator->parameter_gradient(call, input, examples, output_adjoints, gradients);
        return 0;
    }
    memset(gradients, 0, examples * size * sizeof *gradients);
    if (!operator->backward)
        return 0;
    struct part part;
    int code = part_new(&part, call, examples, shared, error);
    for (size_t e = 0; e < examples && !code; e++, gradients += size) {
        go_to(&part, call, e, shared, output_adjoints);
        part.input_adjoints[input] = gradients;
        operator->backward(&part.call, part.output_adjoints, part.input_adjoints);
    }
    part_free(&part);
    return code;
}
