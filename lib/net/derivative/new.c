/* The setup of a derivative: plans, lists, and the memory layout. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/memory.h"
#include "net/derivative/private.h"

/* Memory. */

/* Reserves an array. The first pass has no memory and only counts; false on overflow. */
static bool derivative_new_claim(struct net_derivative *derivative, size_t rows, size_t size,
                                 float **array)
{
    size_t count, rounded;
    if (__builtin_mul_overflow(rows, size, &count) ||
        __builtin_add_overflow(count, 2 * DERIVATIVE_ALIGNMENT, &rounded))
        return false;
    rounded = rounded / DERIVATIVE_ALIGNMENT * DERIVATIVE_ALIGNMENT;
    *array = derivative->memory ? derivative->memory + derivative->memory_count : NULL;
    return !__builtin_add_overflow(derivative->memory_count, rounded, &derivative->memory_count);
}

static bool lay_out_values(struct net_derivative *derivative)
{
    size_t count = derivative->network->value_count, tile = derivative->tile;
    bool fine = true, whole = derivative->whole, tangents = !whole && !derivative->rows;
    for (size_t i = 0; i < count; i++) {
        struct derivative_value *value = &derivative->values[i];
        if (value->active && value->per_example && derivative_root(derivative, i) == i)
            fine &= derivative_new_claim(derivative, tile, value->size, &value->adjoint);
    }
    derivative->adjoint_count = derivative->memory_count;
    for (size_t i = 0; i < count; i++) {
        struct derivative_value *value = &derivative->values[i];
        if (value->active && value->per_example && derivative_root(derivative, i) == i && tangents)
            fine &= derivative_new_claim(derivative, tile, value->size, &value->tangent);
        if (whole)
            value->tangent = value->adjoint;
    }
    derivative->shared_first = derivative->memory_count;
    for (size_t i = 0; i < count; i++) {
        struct derivative_value *value = &derivative->values[i];
        bool parameter = derivative_parameter(derivative, i) != NET_NONE;
        bool own = !value->per_example && !value->single_use && !value->told;
        if (value->active && own && !(whole && parameter) && derivative_root(derivative, i) == i)
            fine &= derivative_new_claim(derivative, tile, value->size, &value->shared);
    }
    derivative->shared_count = derivative->memory_count - derivative->shared_first;
    return fine;
}

/* Returns the floats that the diagonal of a step's single-use input 1 takes when arranged. */
static size_t arranged_count(const struct net_derivative *derivative, size_t i)
{
    const struct plan_step *step = &derivative->plan->steps[i];
    const struct net_operator *op = step->call.node->op;
    bool single_use = op->quadratic && derivative_shared_input(derivative, step, 1) &&
                      derivative->values[step->inputs[1]].single_use;
    if (single_use)
        single_use = !derivative_block(derivative, derivative_input_parameter(derivative, step, 1));
    return single_use ? op->arranged_count(&derivative->unit->steps[i].call) : 0;
}

/* Reserves what blocks need: for rows of examples, or for the gradient of one. Raises *squares to
   the floats that such rows take in a block. */
static bool lay_out_blocks(struct net_derivative *derivative, size_t *squares)
{
    size_t rotated = 0, x = 0;
    for (size_t p = 0; p < derivative->network->parameter_count; p++) {
        const struct net_block *block = derivative_block(derivative, p);
        if (!block || block->weight != p)
            continue;
        const struct derivative_value *value = &derivative->values[derivative->parameter_values[p]];
        bool rank_one = value->single_use &&
                        derivative->steps[value->user].kind == DERIVATIVE_RANK_ONE;
        size_t size = block->rows * block->columns, columns = derivative->tile * block->columns;
        if (!rank_one)
            x = size > x ? size : x;
        if (rank_one && columns > *squares)
            *squares = columns;
        if (rank_one && block->rows > rotated)
            rotated = block->rows;
    }
    return derivative_new_claim(derivative, derivative->tile, rotated, &derivative->rotated) &
           derivative_new_claim(derivative, 1, x, &derivative->x) &
           derivative_new_claim(derivative, 1, x, &derivative->scratch);
}

/* Reserves what the examples' quadratic forms and own tangents need. */
static bool lay_out_forms(struct net_derivative *derivative)
{
    size_t piece = 0, squares = 0;
    bool fine = true;
    for (size_t i = 0; i < derivative->network->node_count; i++) {
        const struct plan_step *step = &derivative->plan->steps[i];
        struct derivative_step *own = &derivative->steps[i];
        if (own->kind == DERIVATIVE_UNIT) {
            size_t all = 0;
            for (size_t j = 0; j < step->input_count; j++)
                if (derivative_shared_input(derivative, step, j))
                    all += derivative->values[step->inputs[j]].size + DERIVATIVE_ALIGNMENT;
            piece = all > piece ? all : piece;
            own->arranged_count = arranged_count(derivative, i);
            if (own->arranged_count)
                fine &= derivative_new_claim(derivative, 1, own->arranged_count, &own->arranged);
        } else if (own->kind == DERIVATIVE_RANK_ONE) {
            const struct net_tensor *a = step->call.inputs[0];
            squares = a->count > squares ? a->count : squares;
            fine &= derivative_new_claim(derivative, 1, step->call.outputs[0]->count,
                                         &own->row_sums);
        }
    }
    fine &= lay_out_blocks(derivative, &squares);
    fine &= derivative_new_claim(derivative, 1, piece, &derivative->piece);
    fine &= derivative_new_claim(derivative, 1, squares, &derivative->squares);
    return fine;
}

static bool derivative_new_lay_out(struct net_derivative *derivative)
{
    derivative->memory_count = 0;
    bool fine = lay_out_values(derivative) && (derivative->rows || lay_out_forms(derivative));
    derivative->adjoints = derivative->memory;
    return fine;
}

size_t net_derivative_memory(const struct net_derivative *derivative)
{
    size_t plans = net_plan_memory(derivative->plan);
    if (derivative->unit && derivative->unit != derivative->plan)
        plans += net_plan_memory(derivative->unit);
    return plans + derivative->memory_count * sizeof(float);
}

static int derivative_new_allocate(struct net_derivative *derivative, size_t memory,
                                   struct ivon_error *error)
{
    bool fine = derivative_new_lay_out(derivative) && derivative->memory_count < PTRDIFF_MAX / 64;
    double total = fine ? (double)net_derivative_memory(derivative) : 1e18;
    if (!fine || (memory && total > (double)memory)) {
        char examples[64] = "a batch";
        if (!derivative->whole)
            snprintf(examples, sizeof examples, "%zu example%s", derivative->tile,
                     derivative->tile == 1 ? "" : "s");
        return ivon_error_hint(
            error, IVON_HINT_MEMORY,
            ivon_error_set(error, IVON_ERROR_MEMORY,
                           "%s: the derivatives of %s take %.6g MB of memory, %.6g MB are "
                           "allowed",
                           derivative->network->path, examples, total / 1e6,
                           memory ? (double)memory / 1e6 : 1e12));
    }
    size_t size = derivative->memory_count * sizeof(float);
    derivative->memory = memory_aligned(size);
    if (!derivative->memory)
        return ivon_error_memory(error);
    memset(derivative->memory, 0, memory_rounded(size));
    derivative_new_lay_out(derivative);
    return 0;
}

/* Sets the value of each parameter. */
static void find_parameters(struct net_derivative *derivative)
{
    const struct ivon_network *network = derivative->network;
    for (size_t p = 0; p < network->parameter_count; p++)
        derivative->parameter_values[p] = NET_NONE;
    for (size_t i = 0; i < network->value_count; i++)
        if (network->values[i].role == NET_PARAMETER)
            derivative->parameter_values[network->values[i].parameter] = i;
}

/* Returns the elements of a wanted parameter; false if it is not wanted, or no such parameter. */
static bool wanted_size(const struct net_derivative *derivative, size_t parameter, size_t *size)
{
    const struct ivon_network *network = derivative->network;
    if (parameter >= network->parameter_count || !derivative->wanted[parameter] ||
        derivative->parameter_values[parameter] == NET_NONE)
        return false;
    *size = network->values[derivative->parameter_values[parameter]].tensor.count;
    return true;
}

/* Copies the blocks of wanted parameters. */
static int copy_blocks(struct net_derivative *derivative, const struct net_block *const *blocks,
                       struct ivon_error *error)
{
    const struct ivon_network *network = derivative->network;
    for (size_t p = 0; p < network->parameter_count; p++) {
        const struct net_block *block = blocks[p];
        size_t weight, bias = 0, inputs, product;
        if (!block || !derivative->wanted[p])
            continue;
        bool biased = block->bias != NET_NONE;
        inputs = block->columns - biased;
        bool fits = (p == block->weight || p == block->bias) &&
                    wanted_size(derivative, block->weight, &weight) &&
                    (!biased ||
                     (wanted_size(derivative, block->bias, &bias) && bias == block->rows &&
                      block->bias != block->weight && blocks[block->bias] == block)) &&
                    blocks[block->weight] == block && block->columns >= biased &&
                    !__builtin_mul_overflow(block->rows, inputs, &product) && product == weight;
        if (!fits)
            return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                                  "%s: the block of parameter %zu has %zu rows of %zu numbers, "
                                  "which its parameters, all wanted, do not have",
                                  network->path, p, block->rows, block->columns);
        derivative->blocks[p] = (struct net_block){.weight = block->weight,
                                                   .bias = block->bias,
                                                   .rows = block->rows,
                                                   .columns = block->columns,
                                                   .transposed = block->transposed};
    }
    return 0;
}

static int allocate_lists(struct net_derivative *derivative, const bool *wanted,
                          struct ivon_error *error)
{
    const struct ivon_network *network = derivative->network;
    size_t arguments = 1;
    for (size_t i = 0; i < network->node_count; i++) {
        const struct net_node *node = &network->nodes[i];
        arguments = node->input_count > arguments ? node->input_count : arguments;
        arguments = node->output_count > arguments ? node->output_count : arguments;
    }
    derivative->values = calloc(network->value_count + 1, sizeof *derivative->values);
    derivative->steps = calloc(network->node_count + 1, sizeof *derivative->steps);
    derivative->wanted = calloc(network->parameter_count + 1, sizeof *derivative->wanted);
    derivative->blocks = calloc(network->parameter_count + 1, sizeof *derivative->blocks);
    derivative->parameter_values = calloc(network->parameter_count + 1,
                                          sizeof *derivative->parameter_values);
    derivative->input_arrays = calloc(arguments, sizeof *derivative->input_arrays);
    derivative->output_arrays = calloc(arguments, sizeof *derivative->output_arrays);
    if (!derivative->values || !derivative->steps || !derivative->wanted || !derivative->blocks ||
        !derivative->parameter_values || !derivative->input_arrays || !derivative->output_arrays)
        return ivon_error_memory(error);
    if (network->parameter_count)
        memcpy(derivative->wanted, wanted, network->parameter_count * sizeof *wanted);
    find_parameters(derivative);
    return 0;
}

/* Makes the plans for a tile; *separable is set if its examples lie one after the other. */
static int derivative_new_start(struct net_derivative *derivative, const struct net_tensor *inputs,
                                const struct net_tensor *unit_inputs, const bool *wanted,
                                const struct net_block *const *blocks, size_t memory,
                                bool *separable, struct ivon_error *error)
{
    int code = net_expect_evaluation(derivative->network, error);
    if (!code)
        code = allocate_lists(derivative, wanted, error);
    if (!code && blocks)
        code = copy_blocks(derivative, blocks, error);
    if (!code)
        code = plan_new(&derivative->plan, derivative->network, NULL, inputs, PLAN_KEEP_ALL, memory,
                        error);
    if (!code && derivative->tile > 1)
        code = plan_new(&derivative->unit, derivative->network, NULL, unit_inputs, PLAN_KEEP_NONE,
                        memory, error);
    else
        derivative->unit = derivative->plan;
    if (code)
        return code;
    derivative_find_needed(derivative);
    *separable = derivative_classify(derivative);
    return 0;
}

/* Hands out a derivative whose plans are made and whose values are classified; or releases it,
   where `code` is an error already. */
static int derivative_new_complete(struct net_derivative **out, struct net_derivative *derivative,
                                   size_t memory, int code, struct ivon_error *error)
{
    if (!code)
        code = derivative_analyse(derivative, error);
    if (!code)
        code = derivative_new_allocate(derivative, memory, error);
    if (code)
        net_derivative_free(derivative);
    else
        *out = derivative;
    return code;
}

static int derivative_new(struct net_derivative **out, const struct ivon_network *network,
                          const struct net_tensor *inputs, const struct net_tensor *unit_inputs,
                          size_t *tile, const bool *wanted, const struct net_block *const *blocks,
                          bool rows, size_t memory, struct ivon_error *error)
{
    bool separable = false;
    struct net_derivative *derivative = calloc(1, sizeof *derivative);
    if (!derivative)
        return ivon_error_memory(error);
    derivative->network = network;
    derivative->rows = rows;
    derivative->tile = *tile;
    int code = derivative_new_start(derivative, inputs, unit_inputs, wanted, blocks, memory,
                                    &separable, error);
    if (!code && !separable) {
        net_derivative_free(derivative);
        *tile = 1;
        return derivative_new(out, network, unit_inputs, unit_inputs, tile, wanted, blocks, rows,
                              memory, error);
    }
    return derivative_new_complete(out, derivative, memory, code, error);
}

int net_derivative_new(struct net_derivative **out, const struct ivon_network *network,
                       const struct net_tensor *inputs, const struct net_tensor *unit_inputs,
                       size_t *tile, const bool *wanted, const struct net_block *const *blocks,
                       size_t memory, struct ivon_error *error)
{
    return derivative_new(out, network, inputs, unit_inputs, tile, wanted, blocks, false, memory,
                          error);
}

int net_derivative_new_rows(struct net_derivative **out, const struct ivon_network *network,
                            const struct net_tensor *inputs, const struct net_tensor *unit_inputs,
                            size_t *tile, const bool *wanted, size_t memory,
                            struct ivon_error *error)
{
    return derivative_new(out, network, inputs, unit_inputs, tile, wanted, NULL, true, memory,
                          error);
}

int net_derivative_new_summed(struct net_derivative **out, const struct ivon_network *network,
                              const struct net_training *training, const struct net_tensor *inputs,
                              const bool *wanted, size_t memory, struct ivon_error *error)
{
    struct net_derivative *derivative = calloc(1, sizeof *derivative);
    if (!derivative)
        return ivon_error_memory(error);
    derivative->network = network;
    derivative->tile = 1;
    derivative->whole = true;
    int code = allocate_lists(derivative, wanted, error);
    if (!code)
        code = plan_new(&derivative->plan, network, training, inputs, PLAN_KEEP_ALL, memory, error);
    if (!code) {
        derivative_find_needed(derivative);
        derivative_classify_whole(derivative);
    }
    return derivative_new_complete(out, derivative, memory, code, error);
}

void net_derivative_free(struct net_derivative *derivative)
{
    if (!derivative)
        return;
    if (derivative->unit != derivative->plan)
        net_plan_free(derivative->unit);
    net_plan_free(derivative->plan);
    free(derivative->wanted);
    free(derivative->uses);
    free(derivative->blocks);
    free(derivative->parameter_values);
    free(derivative->values);
    free(derivative->steps);
    free(derivative->memory);
    free(derivative->input_arrays);
    free(derivative->output_arrays);
    free(derivative);
}
