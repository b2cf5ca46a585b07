#include "net/derivative/uses.h"

#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "net/derivative/private.h"
#include "net/ops/product/product.h"

/* Finding uses. */

/* Returns the parameter that a value is, or is the transpose of: then *turned is set. */
static size_t use_parameter(const struct net_derivative *derivative, size_t value, bool *turned)
{
    size_t root = derivative_root(derivative, value);
    size_t parameter = derivative_parameter(derivative, root);
    size_t node = derivative->network->values[root].producer;
    *turned = false;
    if (parameter != NET_NONE || node == NET_NONE)
        return parameter;
    const struct plan_step *step = &derivative->plan->steps[node];
    if (step->kind != PLAN_CALL || !plan_swaps_last_two(step) || step->call.inputs[0]->rank != 2)
        return NET_NONE;
    *turned = true;
    return derivative_input_parameter(derivative, step, 0);
}

/* Sets the weight, which the step takes as `stored` says, a matrix of so many columns; false if it
   is no wanted parameter, or its transpose was cut into other rows. */
static bool use_set_weight(const struct net_derivative *derivative, const struct plan_step *step,
                           size_t input, bool stored_by_inputs, struct net_use *use)
{
    size_t value = step->inputs[input];
    bool turned;
    if (!derivative_shared_input(derivative, step, input))
        return false;
    use->input = input;
    use->weight = use_parameter(derivative, value, &turned);
    use->transposed = stored_by_inputs != turned;
    if (use->weight == NET_NONE || !derivative->wanted[use->weight])
        return false;
    const struct net_tensor *root =
        &derivative->plan->values[derivative_root(derivative, value)].tensor;
    size_t columns = stored_by_inputs ? use->outputs : use->inputs;
    return derivative->values[value].size == use->inputs * use->outputs &&
           (!turned || (size_t)root->shape[1] == columns);
}

/* Sets the bias, input 2 of a step, if it is one. */
static void use_set_bias(const struct net_derivative *derivative, const struct plan_step *step,
                         struct net_use *use)
{
    use->bias = NET_NONE;
    if (use->input != 1 || step->input_count < 3 || !derivative_shared_input(derivative, step, 2))
        return;
    const struct net_tensor *bias = step->call.inputs[2];
    bool row = bias->rank == 0 || (size_t)bias->shape[bias->rank - 1] == use->outputs;
    if (row && bias->count == use->outputs && derivative->values[step->inputs[2]].used_once)
        use->bias = derivative_input_parameter(derivative, step, 2);
}

/* Returns whether all products of a batch have the same matrix, whose steps these are. */
static bool use_has_one(const struct net_matmul *product, const size_t *steps)
{
    for (int i = 0; i < product->batch_rank; i++)
        if (steps[i])
            return false;
    return true;
}

/* Rows of input 0 by a weight, or a weight by columns of input 1. */
static bool use_of_product(const struct net_derivative *derivative, const struct plan_step *step,
                           struct net_use *use)
{
    const struct net_operator *op = step->call.node->op;
    const struct net_matmul *p = op->product ? op->product(&step->call) : NULL;
    if (!p || !p->batch_count)
        return false;
    size_t input = derivative_shared_input(derivative, step, 1), tile = derivative->tile;
    size_t vectors = p->batch_count * (size_t)(input ? p->m : p->n);
    use->inputs = (size_t)p->k;
    use->outputs = (size_t)(input ? p->n : p->m);
    use->positions = vectors / tile;
    return vectors % tile == 0 && use_has_one(p, input ? p->step_b : p->step_a) &&
           use_set_weight(derivative, step, input, input ? !p->transpose_b : p->transpose_a, use);
}

static bool use_has_planes(const struct plan_step *step)
{
    const struct net_operator *op = step->call.node->op;
    return op->planes && op->planes(&step->call, 0, 0, NULL);
}

/* Positions of images by the weights of filters. */
static bool use_of_images(const struct net_derivative *derivative, const struct plan_step *step,
                          struct net_use *use)
{
    const struct net_tensor *weight = step->call.inputs[1], *output = step->call.outputs[0];
    use->outputs = (size_t)weight->shape[0];
    use->inputs = use->outputs ? weight->count / use->outputs : 0;
    use->positions = use->outputs ? output->count / derivative->tile / use->outputs : 0;
    use->planes = use->positions > 1;
    if (use->planes && step->call.node->op->bands)
        step->call.node->op->bands(&step->call, 0, 0, &use->bands, NULL);
    return use_set_weight(derivative, step, 1, false, use);
}

/* Rows of a table. */
static bool use_of_table(const struct net_derivative *derivative, const struct plan_step *step,
                         struct net_use *use)
{
    const struct net_tensor *table = step->call.inputs[0], *indices = step->call.inputs[1];
    size_t value = step->inputs[1];
    if (table->rank != 2 || !derivative->values[value].per_example ||
        net_axis(net_attribute_integer(step->call.node, "axis", 0), 2) != 0)
        return false;
    use->lookup = true;
    use->inputs = (size_t)table->shape[0];
    use->outputs = (size_t)table->shape[1];
    use->positions = indices->count / derivative->tile;
    bool direct = derivative_input_parameter(derivative, step, 0) != NET_NONE;
    return direct && use_set_weight(derivative, step, 0, true, use);
}

static bool find_use(const struct net_derivative *derivative, size_t i, struct net_use *use)
{
    const struct plan_step *step = &derivative->plan->steps[i];
    enum derivative_kind kind = derivative->steps[i].kind;
    bool found = false;
    *use = (struct net_use){.step = i};
    if (kind == DERIVATIVE_NONE || kind == DERIVATIVE_SHARED)
        return false;
    if (step->call.node->op->flags & NET_LOOKUP)
        found = use_of_table(derivative, step, use);
    else if (use_has_planes(step))
        found = use_of_images(derivative, step, use);
    else
        found = use_of_product(derivative, step, use);
    if (found)
        use_set_bias(derivative, step, use);
    return found;
}

/* Counts the uses of each parameter: of a transpose, those of its output. */
static void count_weight_uses(const struct net_derivative *derivative, size_t *counts)
{
    bool turned;
    for (size_t i = 0; i < derivative->network->node_count; i++) {
        const struct plan_step *step = &derivative->plan->steps[i];
        bool counted = derivative->steps[i].kind != DERIVATIVE_NONE;
        if (counted && step->outputs[0] != NET_NONE)
            counted = use_parameter(derivative, step->outputs[0], &turned) == NET_NONE;
        for (size_t j = 0; j < step->input_count && counted; j++) {
            size_t parameter = step->inputs[j] == NET_NONE
                                   ? NET_NONE
                                   : use_parameter(derivative, step->inputs[j], &turned);
            if (parameter != NET_NONE)
                counts[parameter]++;
        }
    }
}

/* Marks the weights of complete uses, and their transposes, which no other node has. */
static void mark_told(struct net_derivative *derivative)
{
    for (size_t u = 0; u < derivative->use_count; u++)
        for (size_t i = 0; i < derivative->network->value_count; i++) {
            struct derivative_value *value = &derivative->values[i];
            bool turned;
            if (derivative->uses[u].complete && value->active && !value->per_example)
                value->told |= use_parameter(derivative, i, &turned) == derivative->uses[u].weight;
        }
}

int derivative_find_uses(struct net_derivative *derivative, struct ivon_error *error)
{
    const struct ivon_network *network = derivative->network;
    size_t *counts = calloc(network->parameter_count + 1, sizeof *counts);
    derivative->uses = calloc(network->node_count + 1, sizeof *derivative->uses);
    if (!counts || !derivative->uses) {
        free(counts);
        return ivon_error_memory(error);
    }
    count_weight_uses(derivative, counts);
    for (size_t i = 0; i < network->node_count && !derivative->whole; i++) {
        struct net_use *use = &derivative->uses[derivative->use_count];
        if (!find_use(derivative, i, use))
            continue;
        derivative->use_count++;
        counts[use->weight]--;
    }
    for (size_t i = 0; i < derivative->use_count; i++)
        derivative->uses[i].complete = counts[derivative->uses[i].weight] == 0;
    if (derivative->rows)
        mark_told(derivative);
    free(counts);
    return 0;
}

const struct net_use *net_derivative_uses(const struct net_derivative *derivative, size_t *count)
{
    *count = derivative->use_count;
    return derivative->uses;
}

/* Rows. */

static void use_places(const struct plan_step *step, const struct net_use *use, size_t count,
                       int64_t *places)
{
    const int64_t *indices = step->call.inputs[1]->data;
    for (size_t i = 0; i < count; i++)
        places[i] = indices[i] + (indices[i] < 0 ? (int64_t)use->inputs : 0);
}

/* The numbers of a row of outputs lie so far apart, behind a weight on the left. */
static size_t use_columns(const struct plan_step *step, const struct net_use *use)
{
    bool left = !use->lookup && !use_has_planes(step) && use->input == 0;
    return left ? (size_t)step->call.node->op->product(&step->call)->n : 1;
}

static void use_fill(float *to, size_t count, size_t stride, float value)
{
    for (size_t i = 0; i < count; i++)
        to[i * stride] = value;
}

void net_derivative_use_inputs(struct net_derivative *derivative, const struct net_use *use,
                               size_t count, float *rows, int64_t *places)
{
    const struct plan_step *step = &derivative->plan->steps[use->step];
    const struct net_call *call = &step->call;
    bool biased = use->bias != NET_NONE, right = use->input == 0;
    size_t t = use->positions, total = count * t, n = use->inputs + biased;
    float beta = (float)net_attribute_number(call->node, "beta", 1);
    if (!total)
        return;
    if (use->lookup)
        use_places(step, use, total, places);
    else if (use_has_planes(step))
        call->node->op->planes(call, count, n * t, rows);
    else
        net_matmul_vectors(call->node->op->product(call), right,
                           (float)net_attribute_number(call->node, "alpha", 1),
                           call->inputs[right]->data, total, n, rows);
    if (biased && !use->planes)
        use_fill(rows + use->inputs, total, n, beta);
    for (size_t e = 0; e < count && biased && use->planes; e++)
        use_fill(rows + (e * n + use->inputs) * t, t, 1, beta);
}

void net_derivative_use_bands(struct net_derivative *derivative, const struct net_use *use,
                              size_t count, float *bands)
{
    const struct net_call *call = &derivative->plan->steps[use->step].call;
    struct net_bands layout;
    size_t taken = use->inputs / use->bands.taps, size = use->bands.size;
    size_t all = taken + (use->bias != NET_NONE);
    call->node->op->bands(call, count, all * size, &layout, bands);
    for (size_t e = 0; e < count && all > taken; e++)
        use_fill(bands + (e * all + taken) * size, size, 1, 1);
}

/* rows ← the transposes of `count` matrices of o rows, whose rows are `stride` apart */
static void use_transpose(const float *from, size_t count, size_t o, size_t columns, size_t stride,
                          float *rows)
{
    for (size_t i = 0; i < count; i++, from += o * columns, rows += columns * stride)
        for (size_t c = 0; c < columns; c++)
            for (size_t r = 0; r < o; r++)
                rows[c * stride + r] = from[r * columns + c];
}

void net_derivative_use_adjoints(struct net_derivative *derivative, const struct net_use *use,
                                 size_t count, size_t c, size_t columns, float *rows)
{
    const struct plan_step *step = &derivative->plan->steps[use->step];
    const float *adjoint = derivative_output_adjoint(derivative, step, 0);
    size_t total = count * use->positions, apart = use_columns(step, use), o = use->outputs;
    size_t piece = use->planes ? use->positions * o : o; /* that lies together in both */
    if (apart > 1 && total) {
        use_transpose(adjoint, total / apart, o, apart, columns * o, rows + c * o);
        return;
    }
    for (size_t i = 0; i < total * o / (piece ? piece : 1); i++)
        memcpy(rows + (i * columns + c) * piece, adjoint + i * piece, piece * sizeof *rows);
}

const float *net_derivative_output_adjoint(const struct net_derivative *derivative)
{
    size_t root = derivative_root(derivative, derivative->network->outputs[0]);
    return derivative->values[root].adjoint;
}
