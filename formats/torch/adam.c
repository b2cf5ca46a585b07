/* The state that Adam keeps for each parameter, by its index: second moments and a step. */
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/error.h"
#include "formats/torch/private.h"

static const double BATCH_MAX = 1e12;

static double second_beta(const struct pickle_node *group, struct torch_archive *archive)
{
    size_t count;
    double beta;
    struct pickle_node **betas = pickle_sequence(pickle_get(group, "betas"), &count);
    return count == 2 && torch_number(archive, betas[1], &beta) && beta > 0 && beta < 1 ? beta
                                                                                        : NAN;
}

/* The entry of the state for each parameter: at its index, which counts over all groups. */
static int find_states(const struct torch_optimizer *optimizer, const struct pickle_node *state,
                       struct pickle_node **found, struct ivon_error *error)
{
    for (size_t i = 0; i < state->count; i += 2) {
        const struct pickle_node *key = state->items[i];
        if (key->kind != PICKLE_INTEGER || key->integer < 0 ||
            (uint64_t)key->integer >= optimizer->parameter_count)
            return ivon_error_set(error, IVON_ERROR_DATA,
                                  "%s: the state of the optimizer has keys that are none of its "
                                  "%zu parameters",
                                  optimizer->path, optimizer->parameter_count);
        found[key->integer] = state->items[i + 1];
    }
    return 0;
}

static int read_moment(struct torch_optimizer *optimizer, struct torch_archive *archive,
                       const struct pickle_node *state, size_t index, double beta, double batch,
                       struct ivon_error *error)
{
    enum { STATE_ITEMS_MAX = 64 }; /* many states may be one that is large */
    char what[80];
    double step;
    struct torch_moment *moment = &optimizer->moments[index];
    snprintf(what, sizeof what, "state[%zu].exp_avg_sq", index);
    if (state->kind != PICKLE_DICT || state->count > STATE_ITEMS_MAX)
        return ivon_error_set(error, IVON_ERROR_DATA, "%s: '%s' is missing", optimizer->path, what);
    int code = torch_tensor_read(archive, pickle_get(state, "exp_avg_sq"), what, &moment->tensor,
                                 error);
    if (code)
        return code;
    if (!ivon_dtype_is_float(moment->tensor.stored))
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: tensor '%s': has elements of type %s, expected floating point",
                              optimizer->path, what, ivon_dtype_name(moment->tensor.stored));
    if (!torch_number(archive, pickle_get(state, "step"), &step) || !(step >= 1) || step >= 0x1p53)
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: state[%zu].step is no number of 1 or more", optimizer->path,
                              index);
    if (isnan(beta))
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: the betas of parameter %zu are no pair of numbers below 1",
                              optimizer->path, index);
    /* 1 − β₂ᵗ without the rounding of a power near 1 */
    moment->tensor.scale = batch / -expm1(step * log(beta));
    moment->known = true;
    if ((int64_t)step > optimizer->step)
        optimizer->step = (int64_t)step;
    return 0;
}

/* The index of the parameter that a group lists at `place`. */
static int parameter_index(const struct torch_optimizer *optimizer, const struct torch_group *group,
                           size_t place, size_t *index, struct ivon_error *error)
{
    const struct pickle_node *node = group->parameters[place];
    *index = group->first + place;
    if (node->kind != PICKLE_INTEGER || node->integer < 0 || (uint64_t)node->integer != *index)
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: the optimizer's parameters are not numbered by their groups",
                              optimizer->path);
    return 0;
}

static int read_moments(struct torch_optimizer *optimizer, struct torch_archive *archive,
                        const struct torch_found *found, struct pickle_node **states, double batch,
                        struct ivon_error *error)
{
    size_t count;
    struct pickle_node **nodes = pickle_sequence(pickle_get(found->node, "param_groups"), &count);
    for (size_t g = 0; g < optimizer->group_count; g++) {
        const struct torch_group *group = &optimizer->groups[g];
        double beta = second_beta(nodes[g], archive);
        for (size_t i = 0; i < group->parameter_count; i++) {
            size_t index;
            int code = parameter_index(optimizer, group, i, &index, error);
            if (!code && states[index])
                code = read_moment(optimizer, archive, states[index], index, beta, batch, error);
            if (code)
                return code;
        }
    }
    return 0;
}

int torch_adam_read(struct torch_optimizer *optimizer, struct torch_archive *archive,
                    const struct torch_found *found, double batch, struct ivon_error *error)
{
    const char *path = archive->file.path;
    if (!(batch >= 1) || batch > BATCH_MAX)
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "%s: a Hessian from Adam's second moments takes the batch size of "
                              "its gradients, a number from 1 to 1e12, not %g",
                              path, batch);
    int code = torch_groups_read(optimizer, found, path, error);
    if (code)
        return code;
    struct pickle_node **states = calloc(optimizer->parameter_count + 1, sizeof *states);
    optimizer->moments = calloc(optimizer->parameter_count + 1, sizeof *optimizer->moments);
    if (!states || !optimizer->moments)
        code = ivon_error_memory(error);
    if (!code)
        code = find_states(optimizer, pickle_get(found->node, "state"), states, error);
    if (!code)
        code = read_moments(optimizer, archive, found, states, batch, error);
    free(states);
    return code;
}
