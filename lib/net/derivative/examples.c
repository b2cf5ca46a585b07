/* Computations for each example of a tile: its own gradient, multiplied by Σ, and the quadratic
   form. */
#include <math.h>
#include <string.h>

#include "net/derivative/private.h"
#include "net/derivative/vectors.h"

/* Brings what depends on the metric up to date, once per run and metric. */
static void update_metric(struct net_derivative *derivative, const struct net_metric *metric)
{
    if (derivative->sums_current && derivative->sums_diagonal == metric->diagonal &&
        derivative->sums_blocks == metric->blocks)
        return;
    for (size_t i = 0; i < derivative->network->node_count; i++) {
        struct derivative_step *own = &derivative->steps[i];
        const struct plan_step *step = &derivative->plan->steps[i];
        const float *diagonal =
            own->arranged ? metric->diagonal[derivative_input_parameter(derivative, step, 1)]
                          : NULL;
        if (diagonal != own->arranged_from)
            step->call.node->op->arrange(&derivative->unit->steps[i].call, diagonal, own->arranged);
        own->arranged_from = diagonal;
        if (own->kind == DERIVATIVE_RANK_ONE)
            derivative_rank_one_update(derivative, i, metric);
    }
    derivative->sums_current = true;
    derivative->sums_diagonal = metric->diagonal;
    derivative->sums_blocks = metric->blocks;
}

/* One example at a time. */

/* Sets the address of a value in the unit plan to example e's slice of the tile. */
static void point_value(struct net_derivative *derivative, size_t value, size_t e)
{
    if (value == NET_NONE || derivative->unit == derivative->plan)
        return;
    const struct plan_value *from = &derivative->plan->values[value];
    struct net_tensor *to = &derivative->unit->values[value].tensor;
    const struct derivative_value *own = &derivative->values[value];
    if (from->stage == PLAN_KNOWN)
        return;
    size_t offset = own->per_example ? e * own->size * net_type_size(from->tensor.type) : 0;
    to->data = from->tensor.data ? (char *)from->tensor.data + offset : NULL;
}

/* The call of step i for example e alone. */
static const struct net_call *unit_call(struct net_derivative *derivative, size_t i, size_t e)
{
    const struct plan_step *step = &derivative->plan->steps[i];
    for (size_t j = 0; j < step->input_count; j++)
        point_value(derivative, step->inputs[j], e);
    for (size_t j = 0; j < step->output_count; j++)
        point_value(derivative, step->outputs[j], e);
    return &derivative->unit->steps[i].call;
}

/* Example e's part of an array that is kept for the whole tile. */
static float *example_part(const struct net_derivative *derivative, size_t value, float *array,
                           size_t e)
{
    return array ? array + e * derivative->values[value].size : NULL;
}

/* Sets the arrays of a step's outputs for example e: of their adjoints, or their tangents. */
static void set_output_arrays(struct net_derivative *derivative, const struct plan_step *step,
                              size_t e, bool tangents)
{
    for (size_t j = 0; j < step->output_count; j++) {
        size_t value = step->outputs[j];
        derivative->output_arrays[j] = NULL;
        if (value == NET_NONE || !derivative->values[value].active)
            continue;
        const struct derivative_value *root =
            &derivative->values[derivative_root(derivative, value)];
        float *own = tangents ? root->tangent : root->adjoint;
        derivative->output_arrays[j] = example_part(derivative, value,
                                                    root->per_example ? own : root->shared, e);
    }
}

/* The array of example e for a shared root that is not single-use. */
static float *shared_part(const struct net_derivative *derivative, size_t value, size_t e)
{
    return example_part(derivative, value,
                        derivative->values[derivative_root(derivative, value)].shared, e);
}

/*
 * Computes example e's gradient at step i. With `single_use`, the gradients of single-use
 * parameters go to `piece`, and input_arrays point into it. Otherwise the gradients of the other
 * shared inputs are added to their arrays. skip_input_1 leaves out input 1.
 */
static void form_gradient(struct net_derivative *derivative, size_t i, size_t e, bool single_use,
                          bool skip_input_1)
{
    const struct plan_step *step = &derivative->plan->steps[i];
    const struct net_call *call = unit_call(derivative, i, e);
    float *piece = derivative->piece;
    for (size_t j = 0; j < step->input_count; j++) {
        derivative->input_arrays[j] = NULL;
        if (!derivative_shared_input(derivative, step, j))
            continue;
        const struct derivative_value *value = &derivative->values[step->inputs[j]];
        if (value->single_use != single_use || (skip_input_1 && j == 1))
            continue;
        if (!single_use) {
            derivative->input_arrays[j] = shared_part(derivative, step->inputs[j], e);
            continue;
        }
        derivative->input_arrays[j] = piece;
        memset(piece, 0, value->size * sizeof *piece);
        piece += (value->size + DERIVATIVE_ALIGNMENT - 1) / DERIVATIVE_ALIGNMENT *
                 DERIVATIVE_ALIGNMENT;
    }
    set_output_arrays(derivative, step, e, false);
    call->node->op->backward(call, (const float *const *)derivative->output_arrays,
                             derivative->input_arrays);
}

/* Returns whether a shared input has an array: otherwise rows of uses tell what the step adds. */
static bool has_shared_array(const struct net_derivative *derivative, const struct plan_step *step)
{
    for (size_t j = 0; j < step->input_count; j++)
        if (derivative_shared_input(derivative, step, j) &&
            shared_part(derivative, step->inputs[j], 0))
            return true;
    return false;
}

void derivative_form_shared(struct net_derivative *derivative, size_t count)
{
    if (derivative->shared_current >= count)
        return;
    derivative->shared_current = count;
    memset(derivative->memory + derivative->shared_first, 0,
           derivative->shared_count * sizeof(float));
    for (size_t i = derivative->network->node_count; i-- > 0;) {
        const struct plan_step *step = &derivative->plan->steps[i];
        const struct derivative_step *own = &derivative->steps[i];
        if (!has_shared_array(derivative, step))
            continue;
        if (own->kind == DERIVATIVE_UNIT && own->multi_use)
            for (size_t e = 0; e < count; e++)
                form_gradient(derivative, i, e, false, false);
        for (size_t e = 0; e < count && own->kind == DERIVATIVE_SHARED; e++) {
            for (size_t j = 0; j < step->input_count; j++)
                derivative->input_arrays[j] = derivative_shared_input(derivative, step, j)
                                                  ? shared_part(derivative, step->inputs[j], e)
                                                  : NULL;
            set_output_arrays(derivative, step, e, false);
            step->call.node->op->backward(&step->call,
                                          (const float *const *)derivative->output_arrays,
                                          derivative->input_arrays);
        }
    }
}

/* Computes the gradients of a parameter that one node uses, directly. */
static void form_alone(struct net_derivative *derivative, size_t value, size_t count,
                       float *gradients)
{
    size_t i = derivative->values[value].user;
    const struct plan_step *step = &derivative->plan->steps[i];
    for (size_t e = 0; e < count; e++) {
        const struct net_call *call = unit_call(derivative, i, e);
        for (size_t j = 0; j < step->input_count; j++)
            derivative->input_arrays[j] = step->inputs[j] != NET_NONE &&
                                                  derivative_root(derivative, step->inputs[j]) ==
                                                      value
                                              ? example_part(derivative, value, gradients, e)
                                              : NULL;
        set_output_arrays(derivative, step, e, false);
        call->node->op->backward(call, (const float *const *)derivative->output_arrays,
                                 derivative->input_arrays);
    }
}

void net_derivative_gradients(struct net_derivative *derivative, size_t parameter, size_t count,
                              float *gradients)
{
    size_t i = derivative->parameter_values[parameter];
    const struct derivative_value *value = &derivative->values[i];
    size_t all = count * derivative->network->values[i].tensor.count;
    memset(gradients, 0, all * sizeof *gradients);
    bool none = derivative->whole || value->told;
    for (size_t j = 0; j < all && none; j++)
        gradients[j] = NAN;
    if (none || !value->active)
        return;
    if (value->single_use && derivative->steps[value->user].kind == DERIVATIVE_NONE)
        return; /* a comparison, say, moves nothing */
    if (value->single_use) {
        form_alone(derivative, i, count, gradients);
        return;
    }
    derivative_form_shared(derivative, count);
    memcpy(gradients, value->shared, all * sizeof *gradients);
}

/* Finds the next parameter, from value *i on, that keeps an array for every example. */
static bool next_shared(const struct net_derivative *derivative, size_t *i, size_t *parameter)
{
    for (; *i < derivative->network->value_count; ++*i) {
        *parameter = derivative_parameter(derivative, *i);
        if (*parameter != NET_NONE && derivative->values[*i].shared)
            return true;
    }
    return false;
}

/* The product of the metric and one example's gradients, in arrays of the parameters' shapes: with
   `q`, *q += gᵀ Σ g; else g ← Σ g. */

static void use_diagonal(const float *diagonal, float *gradient, size_t count, double *q)
{
    if (q)
        *q += derivative_weighted_square(diagonal, gradient, count);
    else
        derivative_multiply(gradient, diagonal, count);
}

/* The arrays of a block may be null: the gradient is zero. */
static void use_block(struct net_derivative *derivative, const struct net_block *block,
                      float *weight, float *bias, double *q)
{
    float *x = derivative->x, *scratch = derivative->scratch;
    net_block_gather(block, weight, bias, x);
    if (q) {
        net_block_rotate(block, x, scratch);
        *q += derivative_weighted_square(block->diagonal, x, block->rows * block->columns);
        return;
    }
    net_block_multiply(block, x, scratch);
    net_block_scatter(block, x, weight, bias);
}

/* Of the single-use parameters of a step, whose gradients input_arrays point to. */
static void use_pieces(struct net_derivative *derivative, const struct plan_step *step,
                       const struct net_metric *metric, double *q)
{
    float **arrays = derivative->input_arrays;
    for (size_t j = 0; j < step->input_count; j++) {
        if (!arrays[j])
            continue;
        size_t parameter = derivative_input_parameter(derivative, step, j);
        const struct net_block *block = net_metric_block(metric, parameter);
        if (!block) {
            use_diagonal(metric->diagonal[parameter], arrays[j],
                         derivative->values[step->inputs[j]].size, q);
            continue;
        }
        float *bias = NULL;
        for (size_t k = 0; k < step->input_count && block->bias != NET_NONE; k++)
            if (arrays[k] && derivative_input_parameter(derivative, step, k) == block->bias)
                bias = arrays[k];
        if (parameter == block->weight)
            use_block(derivative, block, arrays[j], bias, q);
    }
}

/* Returns an example's array of a parameter; null where its gradient is zero. */
static float *parameter_part(const struct net_derivative *derivative, size_t parameter, size_t e)
{
    size_t value = parameter == NET_NONE ? NET_NONE : derivative->parameter_values[parameter];
    return value == NET_NONE ? NULL : shared_part(derivative, value, e);
}

/* Of the parameters that keep an array for every example. */
static void use_shared(struct net_derivative *derivative, const struct net_metric *metric,
                       size_t count, double *q)
{
    size_t parameter;
    for (size_t i = 0; next_shared(derivative, &i, &parameter); i++) {
        const struct net_block *block = net_metric_block(metric, parameter);
        bool second = block && parameter != block->weight &&
                      parameter_part(derivative, block->weight, 0);
        for (size_t e = 0; e < count && !second; e++)
            if (block)
                use_block(derivative, block, parameter_part(derivative, block->weight, e),
                          parameter_part(derivative, block->bias, e), q ? q + e : NULL);
            else
                use_diagonal(metric->diagonal[parameter], shared_part(derivative, i, e),
                             derivative->values[i].size, q ? q + e : NULL);
    }
}

static void unit_quadratic(struct net_derivative *derivative, size_t i,
                           const struct net_metric *metric, size_t e, double *q)
{
    const struct plan_step *step = &derivative->plan->steps[i];
    const float *arranged = derivative->steps[i].arranged;
    if (arranged) {
        const struct net_call *call = unit_call(derivative, i, e);
        set_output_arrays(derivative, step, e, false);
        *q += call->node->op->quadratic(call, derivative->output_arrays[0], arranged);
    }
    form_gradient(derivative, i, e, true, arranged != NULL);
    use_pieces(derivative, step, metric, q);
}

void net_derivative_quadratic(struct net_derivative *derivative, const struct net_metric *metric,
                              size_t count, double *q)
{
    for (size_t e = 0; e < count; e++)
        q[e] = derivative->whole ? (double)NAN : 0;
    if (derivative->whole)
        return;
    update_metric(derivative, metric);
    derivative_form_shared(derivative, count);
    use_shared(derivative, metric, count, q);
    for (size_t i = 0; i < derivative->network->node_count; i++) {
        if (derivative->steps[i].kind == DERIVATIVE_RANK_ONE)
            derivative_rank_one_quadratic(derivative, i, metric, count, q);
        for (size_t e = 0; e < count && derivative->steps[i].kind == DERIVATIVE_UNIT; e++)
            unit_quadratic(derivative, i, metric, e, &q[e]);
    }
}

/* Tangents in the direction of each example's own Σ g. */

static void set_tangents(struct net_derivative *derivative, const struct plan_step *step, size_t e)
{
    for (size_t j = 0; j < step->input_count; j++) {
        size_t value = step->inputs[j];
        if (value == NET_NONE || !derivative->values[value].active)
            derivative->input_arrays[j] = NULL;
        else if (derivative->values[value].per_example)
            derivative->input_arrays[j] = example_part(
                derivative, value, derivative->values[derivative_root(derivative, value)].tangent,
                e);
        else if (!derivative->values[value].single_use)
            derivative->input_arrays[j] = shared_part(derivative, value, e);
    }
    set_output_arrays(derivative, step, e, true);
}

static void unit_tangent(struct net_derivative *derivative, size_t i,
                         const struct net_metric *metric, size_t e)
{
    const struct plan_step *step = &derivative->plan->steps[i];
    form_gradient(derivative, i, e, true, false);
    use_pieces(derivative, step, metric, NULL);
    set_tangents(derivative, step, e);
    const struct net_call *call = unit_call(derivative, i, e);
    call->node->op->tangent(call, (const float *const *)derivative->input_arrays,
                            derivative->output_arrays);
}

/* Computes tangents without the part of single-use parameters, which derivative_rank_one_tangent
   adds. */
static void tile_tangent(struct net_derivative *derivative, const struct plan_step *step, size_t e)
{
    set_tangents(derivative, step, e);
    for (size_t j = 0; j < step->input_count; j++)
        if (step->inputs[j] != NET_NONE && derivative->values[step->inputs[j]].single_use)
            derivative->input_arrays[j] = NULL;
    step->call.node->op->tangent(&step->call, (const float *const *)derivative->input_arrays,
                                 derivative->output_arrays);
}

const float *net_derivative_own_tangent(struct net_derivative *derivative,
                                        const struct net_metric *metric, size_t count)
{
    if (derivative->whole)
        return NULL;
    update_metric(derivative, metric);
    derivative_form_shared(derivative, count);
    use_shared(derivative, metric, count, NULL);
    derivative->shared_current = 0;
    for (size_t i = 0; i < derivative->network->node_count; i++) {
        const struct plan_step *step = &derivative->plan->steps[i];
        enum derivative_kind kind = derivative->steps[i].kind;
        for (size_t e = 0; e < count && kind == DERIVATIVE_SHARED; e++)
            tile_tangent(derivative, step, e);
        if (kind == DERIVATIVE_PLAIN || kind == DERIVATIVE_RANK_ONE)
            tile_tangent(derivative, step, 0);
        if (kind == DERIVATIVE_RANK_ONE)
            derivative_rank_one_tangent(derivative, i, metric, derivative->output_arrays[0]);
        for (size_t e = 0; e < count && kind == DERIVATIVE_UNIT; e++)
            unit_tangent(derivative, i, metric, e);
    }
    size_t output = derivative_root(derivative, derivative->network->outputs[0]);
    return derivative->values[output].tangent;
}
