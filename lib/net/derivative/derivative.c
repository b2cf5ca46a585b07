#include "net/derivative/private.h"

#include <string.h>

#include "net/ops/normalize/normalize.h"

size_t derivative_root(const struct net_derivative *derivative, size_t value)
{
    return derivative->plan->values[value].root;
}

size_t derivative_parameter(const struct net_derivative *derivative, size_t root)
{
    const struct net_value *value = &derivative->network->values[root];
    return value->role == NET_PARAMETER ? value->parameter : NET_NONE;
}

size_t derivative_input_parameter(const struct net_derivative *derivative,
                                  const struct plan_step *step, size_t input)
{
    return derivative_parameter(derivative, derivative_root(derivative, step->inputs[input]));
}

const struct net_block *derivative_block(const struct net_derivative *derivative, size_t parameter)
{
    const struct net_block *block = parameter == NET_NONE ? NULL : &derivative->blocks[parameter];
    return block && block->rows ? block : NULL;
}

bool derivative_shared_input(const struct net_derivative *derivative, const struct plan_step *step,
                             size_t input)
{
    size_t value = step->inputs[input];
    return value != NET_NONE && derivative->values[value].active &&
           !derivative->values[value].per_example;
}

const float *derivative_output_adjoint(const struct net_derivative *derivative,
                                       const struct plan_step *step, size_t j)
{
    size_t value = step->outputs[j];
    return value == NET_NONE || !derivative->values[value].active
               ? NULL
               : derivative->values[derivative_root(derivative, value)].adjoint;
}

int net_derivative_set_parameters(struct net_derivative *derivative, const float *const *parameters,
                                  struct ivon_error *error)
{
    return net_plan_set_parameters(derivative->plan, parameters, error);
}

int net_derivative_run(struct net_derivative *derivative, const void *const *inputs,
                       struct ivon_error *error)
{
    derivative->sums_current = false;
    derivative->shared_current = 0;
    return net_plan_run(derivative->plan, inputs, error);
}

const struct net_tensor *net_derivative_output(const struct net_derivative *derivative)
{
    return net_plan_output(derivative->plan, 0);
}

void net_derivative_set_masks(struct net_derivative *derivative, const struct net_masks *masks)
{
    derivative->plan->masks = *masks;
}

void net_derivative_statistics(const struct net_derivative *derivative, double *statistics)
{
    const struct net_training *training = derivative->plan->training;
    const struct net_value *values = derivative->network->values;
    for (size_t i = 0; i < net_training_count(training); i++) {
        const struct net_running *running = net_training_node(training, i);
        const float *mean = values[running->mean].tensor.data;
        const float *variance = values[running->variance].tensor.data;
        struct net_batch batch = net_batch_statistics(&derivative->plan->steps[running->node].call);
        double *means = statistics, *variances = statistics + running->channels;
        for (size_t c = 0; c < running->channels; c++) {
            means[c] = batch.count ? batch.mean[c] : (double)mean[c];
            variances[c] = batch.count ? net_unbiased(batch.variance[c], batch.count)
                                       : (double)variance[c];
        }
        statistics += 2 * running->channels;
    }
}

/* Returns the array for the sum over examples of a shared root's adjoint; for a parameter it is the
   caller's array. */
static float *summed_adjoint(const struct net_derivative *derivative, size_t root,
                             float *const *gradients)
{
    size_t parameter = derivative_parameter(derivative, root);
    return parameter == NET_NONE ? derivative->values[root].shared : gradients[parameter];
}

static float *value_adjoint(const struct net_derivative *derivative, size_t value,
                            float *const *gradients)
{
    if (value == NET_NONE || !derivative->values[value].active)
        return NULL;
    size_t root = derivative_root(derivative, value);
    if (derivative->values[root].per_example)
        return derivative->values[root].adjoint;
    return gradients ? summed_adjoint(derivative, root, gradients) : NULL;
}

static void step_backward(struct net_derivative *derivative, size_t i, float *const *gradients)
{
    const struct plan_step *step = &derivative->plan->steps[i];
    bool wanted = false;
    for (size_t j = 0; j < step->output_count; j++)
        derivative->output_arrays[j] = value_adjoint(derivative, step->outputs[j], gradients);
    for (size_t j = 0; j < step->input_count; j++) {
        derivative->input_arrays[j] = value_adjoint(derivative, step->inputs[j], gradients);
        wanted |= derivative->input_arrays[j] != NULL;
    }
    if (wanted)
        step->call.node->op->backward(&step->call, (const float *const *)derivative->output_arrays,
                                      derivative->input_arrays);
}

void net_derivative_backward(struct net_derivative *derivative, const float *adjoints,
                             float *const *gradients)
{
    size_t root = derivative_root(derivative, derivative->network->outputs[0]);
    if (!derivative->values[root].active)
        return;
    derivative->shared_current = 0;
    memset(derivative->adjoints, 0, derivative->adjoint_count * sizeof(float));
    if (gradients)
        memset(derivative->memory + derivative->shared_first, 0,
               derivative->shared_count * sizeof(float));
    memcpy(derivative->values[root].adjoint, adjoints,
           derivative->tile * derivative->values[root].size * sizeof(float));
    for (size_t i = derivative->network->node_count; i-- > 0;) {
        enum derivative_kind kind = derivative->steps[i].kind;
        if (kind != DERIVATIVE_NONE && (kind != DERIVATIVE_SHARED || gradients))
            step_backward(derivative, i, gradients);
    }
}

static const float *value_tangent(const struct net_derivative *derivative, size_t value,
                                  const float *const *direction)
{
    if (value == NET_NONE || !derivative->values[value].active)
        return NULL;
    size_t root = derivative_root(derivative, value);
    size_t parameter = derivative_parameter(derivative, root);
    if (parameter != NET_NONE)
        return direction[parameter];
    return derivative->values[root].per_example ? derivative->values[root].tangent
                                                : derivative->values[root].shared;
}

const float *net_derivative_tangent(struct net_derivative *derivative,
                                    const float *const *direction)
{
    derivative->shared_current = 0;
    if (derivative->whole && derivative->adjoint_count)
        memset(derivative->adjoints, 0, derivative->adjoint_count * sizeof(float));
    for (size_t i = 0; i < derivative->network->node_count; i++) {
        const struct plan_step *step = &derivative->plan->steps[i];
        if (derivative->steps[i].kind == DERIVATIVE_NONE)
            continue;
        for (size_t j = 0; j < step->input_count; j++)
            derivative->input_arrays[j] = (float *)value_tangent(derivative, step->inputs[j],
                                                                 direction);
        for (size_t j = 0; j < step->output_count; j++)
            derivative->output_arrays[j] = (float *)value_tangent(derivative, step->outputs[j],
                                                                  direction);
        step->call.node->op->tangent(&step->call, (const float *const *)derivative->input_arrays,
                                     derivative->output_arrays);
    }
    return value_tangent(derivative, derivative->network->outputs[0], direction);
}
