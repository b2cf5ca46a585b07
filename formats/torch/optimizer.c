/* The state that IVON keeps: flat vectors for each group of parameters. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "formats/torch/private.h"

enum { WHAT = 320, PARAMETERS_MAX = 1 << 18 };

/* How a value of a group is named in messages. */
static void name_value(const struct torch_optimizer *optimizer, size_t group, const char *key,
                       char what[WHAT])
{
    snprintf(what, WHAT, "%.200s%sparam_groups[%zu].%s", optimizer->key, *optimizer->key ? "." : "",
             group, key);
}

static int read_value(const struct torch_optimizer *optimizer, struct torch_archive *archive,
                      const struct pickle_node *node, size_t group, const char *key, double *value,
                      struct ivon_error *error)
{
    char what[WHAT], text[PICKLE_DESCRIPTION];
    const struct pickle_node *found = pickle_get(node, key);
    *value = NAN;
    if (!found || found->kind == PICKLE_NONE || torch_number(archive, found, value))
        return 0;
    name_value(optimizer, group, key, what);
    return ivon_error_set(error, IVON_ERROR_DATA, "%s: %s is %s, expected a number",
                          optimizer->path, what, pickle_describe(found, text));
}

/* A vector of floating-point numbers. */
static int read_vector(const struct torch_optimizer *optimizer, struct torch_archive *archive,
                       const struct pickle_node *node, size_t group, const char *key,
                       struct torch_tensor *vector, struct ivon_error *error)
{
    char what[WHAT];
    name_value(optimizer, group, key, what);
    int code = torch_tensor_read(archive, node, what, vector, error);
    if (!code && (vector->rank != 1 || !ivon_dtype_is_float(vector->stored)))
        code = ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: tensor '%s': has %d dimensions of type %s, expected one of "
                              "floating point",
                              optimizer->path, what, vector->rank, ivon_dtype_name(vector->stored));
    return code;
}

static int read_vectors(const struct torch_optimizer *optimizer, struct torch_archive *archive,
                        const struct pickle_node *node, size_t index, struct torch_group *group,
                        struct ivon_error *error)
{
    const struct pickle_node *momentum = pickle_get(node, "momentum");
    double numel = NAN;
    group->has_momentum = torch_is_tensor(momentum);
    int code = read_vector(optimizer, archive, pickle_get(node, "hess"), index, "hess",
                           &group->hessian, error);
    if (!code && group->has_momentum)
        code = read_vector(optimizer, archive, momentum, index, "momentum", &group->momentum,
                           error);
    if (!code)
        code = read_value(optimizer, archive, node, index, "numel", &numel, error);
    if (code)
        return code;
    if (group->has_momentum && group->momentum.count != group->hessian.count)
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: group %zu: momentum has %zu elements, hess has %zu",
                              optimizer->path, index, group->momentum.count, group->hessian.count);
    if (!isnan(numel) && numel != (double)group->hessian.count)
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: group %zu: hess has %zu elements, numel is %.17g",
                              optimizer->path, index, group->hessian.count, numel);
    return 0;
}

int torch_groups_read(struct torch_optimizer *optimizer, const struct torch_found *found,
                      const char *path, struct ivon_error *error)
{
    size_t count;
    struct pickle_node **nodes = pickle_sequence(pickle_get(found->node, "param_groups"), &count);
    *optimizer = (struct torch_optimizer){.path = path, .key = strdup(found->path), .step = -1};
    optimizer->groups = calloc(count + 1, sizeof *optimizer->groups);
    if (!optimizer->key || !optimizer->groups)
        return ivon_error_memory(error);
    for (size_t i = 0; i < count; i++) {
        struct torch_group *group = &optimizer->groups[optimizer->group_count++];
        size_t names;
        group->parameters = pickle_sequence(pickle_get(nodes[i], "params"),
                                            &group->parameter_count);
        group->names = pickle_sequence(pickle_get(nodes[i], "param_names"), &names);
        group->names = names == group->parameter_count ? group->names : NULL;
        group->first = optimizer->parameter_count;
        group->ess = group->weight_decay = NAN;
        if (!group->parameter_count)
            return ivon_error_set(error, IVON_ERROR_DATA,
                                  "%s: group %zu of the optimizer lists no 'params'", path, i);
        optimizer->parameter_count += group->parameter_count;
        if (optimizer->parameter_count > PARAMETERS_MAX)
            return ivon_error_set(error, IVON_ERROR_DATA,
                                  "%s: the optimizer has more than %d parameters", path,
                                  PARAMETERS_MAX);
    }
    return 0;
}

/* The number of updates, where a variant of the optimizer saves it. */
static int64_t read_step(const struct pickle_node *node, struct torch_archive *archive)
{
    const struct pickle_node *state = pickle_get(node, "state");
    const struct pickle_node *const places[] = {pickle_get(node, "current_step"),
                                                pickle_get(state, "current_step"),
                                                pickle_get(state, "step")};
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        double step;
        if (torch_number(archive, places[i], &step) && step >= 0 && step < 0x1p53)
            return (int64_t)step;
    }
    return -1;
}

int torch_ivon_read(struct torch_optimizer *optimizer, struct torch_archive *archive,
                    const struct torch_found *found, struct ivon_error *error)
{
    size_t count;
    struct pickle_node **nodes = pickle_sequence(pickle_get(found->node, "param_groups"), &count);
    int code = torch_groups_read(optimizer, found, archive->file.path, error);
    for (size_t i = 0; i < optimizer->group_count && !code; i++) {
        struct torch_group *group = &optimizer->groups[i];
        code = read_vectors(optimizer, archive, nodes[i], i, group, error);
        if (!code)
            code = read_value(optimizer, archive, nodes[i], i, "ess", &group->ess, error);
        if (!code)
            code = read_value(optimizer, archive, nodes[i], i, "weight_decay", &group->weight_decay,
                              error);
    }
    if (!code)
        optimizer->step = read_step(found->node, archive);
    return code;
}

void torch_optimizer_release(struct torch_optimizer *optimizer)
{
    free(optimizer->key);
    free(optimizer->groups);
    free(optimizer->moments);
    *optimizer = (struct torch_optimizer){0};
}
