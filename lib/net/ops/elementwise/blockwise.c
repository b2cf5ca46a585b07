#include "net/ops/elementwise/blockwise.h"

#include <stdlib.h>
#include <string.h>

#include "core/dispatch.h"

enum { PARAMETERS_MAX = 2 };

/* Operands. */

struct parameters {
    size_t count;
    float values[PARAMETERS_MAX];
    struct net_tensor tensors[PARAMETERS_MAX];
};

int block_parameters(struct net_call *call, const float *values, size_t count,
                     struct ivon_error *error)
{
    struct parameters *parameters = net_prepare(call, sizeof *parameters, error);
    if (!parameters)
        return IVON_ERROR_MEMORY;
    parameters->count = count;
    for (size_t i = 0; i < count; i++) {
        parameters->values[i] = values[i];
        parameters->tensors[i] = (struct net_tensor){
            .type = NET_FLOAT, .count = 1, .data = &parameters->values[i]};
    }
    return 0;
}

size_t block_operand_count(const struct net_call *call)
{
    const struct parameters *parameters = call->prepared;
    return call->node->input_count + (parameters ? parameters->count : 0);
}

const struct net_tensor *block_operand(const struct net_call *call, size_t i)
{
    const struct parameters *parameters = call->prepared;
    size_t inputs = call->node->input_count;
    return i < inputs ? call->inputs[i] : &parameters->tensors[i - inputs];
}

/* Shapes. */

int block_expect(const struct net_call *call, size_t input, unsigned types,
                 struct ivon_error *error)
{
    const struct net_tensor *tensor = call->inputs[input];
    if (!tensor)
        return net_fail(call, error, "input %zu is left out", input);
    if (types & 1U << tensor->type)
        return 0;
    char expected[64] = "";
    for (int type = NET_FLOAT; type <= NET_BOOLEAN; type++)
        if (types & 1U << type) {
            strcat(expected, *expected ? " or " : "");
            strcat(expected, net_type_name((enum net_type)type));
        }
    return net_fail(call, error, "input %zu is of type %s, expected %s", input,
                    net_type_name(tensor->type), expected);
}

/* Returns whether an adjoint of the operand is summed over axes. */
static bool needs_sums(const struct net_tensor *operand, const struct net_tensor *output)
{
    return operand && operand->type == NET_FLOAT && operand->count != output->count;
}

static int size_workspace(struct net_call *call, struct ivon_error *error)
{
    size_t count = block_operand_count(call);
    size_t size = count * (2 * sizeof(struct broadcast) + sizeof(void *) + sizeof(double *));
    for (size_t i = 0; i < call->node->input_count; i++) {
        size_t sums;
        if (needs_sums(call->inputs[i], call->outputs[0]) &&
            (__builtin_mul_overflow(call->inputs[i]->count, sizeof(double), &sums) ||
             __builtin_add_overflow(size, sums, &size) || size > PTRDIFF_MAX))
            return net_fail(call, error, "its inputs are too large");
    }
    call->workspace_size = size;
    return 0;
}

int block_infer(struct net_call *call, enum net_type type, size_t needed, struct ivon_error *error)
{
    struct net_tensor common = {.rank = 0};
    for (size_t i = 0; i < call->node->input_count; i++) {
        const struct net_tensor *input = call->inputs[i];
        char have[256], other[256];
        if (!input && i < needed)
            return net_fail(call, error, "input %zu is left out", i);
        if (input && !net_broadcast(&common, input, &common.rank, common.shape))
            return net_fail(call, error, "input %zu is %s, which does not broadcast to %s", i,
                            net_shape_text(input, other), net_shape_text(&common, have));
    }
    int code = net_tensor_set(call->outputs[0], type, common.rank, common.shape, error);
    return code ? code : size_workspace(call, error);
}

/* Runs over all blocks. */

struct run {
    struct broadcast *operands; /* read these */
    struct broadcast *others;   /* tangents of operands, or their adjoints */
    const void **pointers;
    double **sums;
    size_t total, at, most; /* elements: of the output, done, of a block */
    struct block block;
};

/* Lays out the workspace. The size of every part is a multiple of sizeof(double). */
static void run_begin(struct run *run, const struct net_call *call)
{
    size_t count = block_operand_count(call), widest = net_type_size(call->outputs[0]->type);
    run->operands = call->workspace;
    run->others = run->operands + count;
    run->pointers = (const void **)(run->others + count);
    run->sums = (double **)(run->pointers + count);
    for (size_t i = 0; i < count; i++) {
        const struct net_tensor *operand = block_operand(call, i);
        run->pointers[i] = NULL;
        run->sums[i] = NULL;
        if (!operand)
            continue;
        size_t size = net_type_size(operand->type);
        widest = size > widest ? size : widest;
        broadcast_begin(&run->operands[i], operand, call->outputs[0]);
    }
    run->total = call->outputs[0]->count;
    run->at = 0;
    size_t most = BLOCK_BYTES / widest;
    run->most = most < BLOCK_FLOATS ? most : BLOCK_FLOATS;
    run->block = (struct block){
        .call = call, .operand_count = count, .operands = run->pointers, .count = 0};
}

/* Goes to the next block; false after the last. */
static bool run_next(struct run *run)
{
    const struct net_call *call = run->block.call;
    run->at += run->block.count;
    size_t left = run->total - run->at;
    if (!left)
        return false;
    run->block.count = left < run->most ? left : run->most;
    for (size_t i = 0; i < run->block.operand_count; i++)
        if (block_operand(call, i))
            run->pointers[i] = broadcast_next(&run->operands[i], run->block.count);
    run->block.output = call->outputs[0]->type == NET_FLOAT
                            ? (const float *)call->outputs[0]->data + run->at
                            : NULL;
    return true;
}

void block_forward(const struct net_call *call, block_kernel *kernel)
{
    struct run run;
    const struct net_tensor *output = call->outputs[0];
    run_begin(&run, call);
    while (run_next(&run))
        kernel((unsigned char *)output->data + run.at * net_type_size(output->type), &run.block);
}

/* Derivatives. */

IVON_DISPATCH static void blockwise_multiply(float *out, const float *a, const float *b,
                                             size_t count)
{
    BLOCK_EACH(count)
    {
        out[i] = a[i] * b[i];
    }
}

IVON_DISPATCH static void add_product(float *restrict sum, const float *restrict a,
                                      const float *restrict b, size_t count)
{
    for (size_t i = 0; i < count; i++)
        sum[i] += a[i] * b[i];
}

static bool differentiable(const struct net_call *call, size_t input)
{
    return call->inputs[input] && call->inputs[input]->type == NET_FLOAT;
}

static void begin_sums(struct run *run, float *const *input_adjoints)
{
    const struct net_call *call = run->block.call;
    double *sums = (double *)(run->sums + run->block.operand_count);
    for (size_t i = 0; i < call->node->input_count; i++) {
        if (!input_adjoints[i] || !needs_sums(call->inputs[i], call->outputs[0]))
            continue;
        broadcast_begin(&run->others[i], call->inputs[i], call->outputs[0]);
        run->sums[i] = sums;
        memset(sums, 0, call->inputs[i]->count * sizeof *sums);
        sums += call->inputs[i]->count;
    }
}

static void end_sums(const struct run *run, float *const *input_adjoints)
{
    const struct net_call *call = run->block.call;
    for (size_t i = 0; i < call->node->input_count; i++)
        for (size_t j = 0; input_adjoints[i] && run->sums[i] && j < call->inputs[i]->count; j++)
            input_adjoints[i][j] += (float)run->sums[i][j];
}

void block_backward(const struct net_call *call, block_slope *slope,
                    const float *const *output_adjoints, float *const *input_adjoints)
{
    struct run run;
    float slopes[BLOCK_FLOATS];
    if (!output_adjoints[0])
        return;
    run_begin(&run, call);
    begin_sums(&run, input_adjoints);
    while (run_next(&run)) {
        const float *adjoint = output_adjoints[0] + run.at;
        size_t count = run.block.count;
        for (size_t i = 0; i < call->node->input_count; i++) {
            if (!input_adjoints[i] || !differentiable(call, i))
                continue;
            slope(slopes, &run.block, i);
            if (run.sums[i]) {
                blockwise_multiply(slopes, slopes, adjoint, count);
                broadcast_add(&run.others[i], slopes, count, run.sums[i]);
            } else {
                add_product(input_adjoints[i] + run.at, slopes, adjoint, count);
            }
        }
    }
    end_sums(&run, input_adjoints);
}

void block_tangent(const struct net_call *call, block_slope *slope,
                   const float *const *input_tangents, float *const *output_tangents)
{
    struct run run;
    float slopes[BLOCK_FLOATS];
    if (!output_tangents[0])
        return;
    run_begin(&run, call);
    for (size_t i = 0; i < call->node->input_count; i++)
        if (input_tangents[i]) {
            struct net_tensor tangent = *call->inputs[i];
            tangent.data = (void *)input_tangents[i];
            broadcast_begin(&run.others[i], &tangent, call->outputs[0]);
        }
    while (run_next(&run)) {
        float *out = output_tangents[0] + run.at;
        size_t count = run.block.count;
        memset(out, 0, count * sizeof *out);
        for (size_t i = 0; i < call->node->input_count; i++) {
            if (!input_tangents[i] || !differentiable(call, i))
                continue;
            slope(slopes, &run.block, i);
            add_product(out, slopes, broadcast_next(&run.others[i], count), count);
        }
    }
}
