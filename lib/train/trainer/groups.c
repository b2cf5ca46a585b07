/* The groups of parameters, each with settings of its own: the first of an optimizer's groups is
   that of all others. */
#include <fnmatch.h>
#include <math.h>
#include <stdlib.h>

#include "core/error.h"
#include "train/trainer/private.h"

static struct optimizer_group groups_default(const struct ivon_trainer *trainer,
                                             enum optimizer_method method)
{
    const struct ivon_train_options *options = &trainer->options;
    struct optimizer_group group = optimizer_group_defaults(method);
    group.rate = options->rate;
    group.weight_decay = options->weight_decay;
    group.beta1 = options->beta1;
    group.beta2 = options->beta2;
    group.debias = options->debias;
    group.ess = trainer->ess;
    group.hessian_init = options->hessian_init;
    group.rescale = options->rescale;
    group.clip = options->clip_radius;
    return group;
}

static double groups_own_or(double own, double common)
{
    return isnan(own) ? common : own;
}

static int groups_check(const struct ivon_trainer *trainer, const struct ivon_train_group *group,
                        struct ivon_error *error)
{
    const struct ivon_method_traits *traits = ivon_method_traits(trainer->options.method);
    if (traits->posterior || (isnan(group->ess) && isnan(group->hessian_init)))
        return 0;
    return ivon_error_set(
        error, IVON_ERROR_ARGUMENT, "group '%s' has an %s, which %s has not", group->pattern,
        isnan(group->ess) ? "initial Hessian" : "effective sample size", traits->name);
}

/* The group of a name: 0, or one more than the number of the first pattern that matches. */
static size_t groups_find(const struct ivon_train_options *options, const char *name)
{
    for (size_t g = 0; g < options->group_count; g++)
        if (fnmatch(options->groups[g].pattern, name, 0) == 0)
            return g + 1;
    return 0;
}

/* Fails where no parameter is in a group: what it says would be said in vain. */
static int groups_check_used(const struct ivon_trainer *trainer, size_t group,
                             const struct optimizer_tensor *tensors, struct ivon_error *error)
{
    size_t count = trainer->network->parameter_count;
    const char *pattern = trainer->options.groups[group - 1].pattern;
    bool matched = false;
    for (size_t i = 0; i < count; i++) {
        if (tensors[i].group == group)
            return 0;
        matched |= fnmatch(pattern, tensors[i].name, 0) == 0;
    }
    return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                          matched ? "group '%s': the groups before it have all parameters of such "
                                    "names, expected one that is left"
                                  : "group '%s' matches no parameter that is trained",
                          pattern);
}

int groups_make(const struct ivon_trainer *trainer, enum optimizer_method method,
                struct optimizer_group **out, struct optimizer_tensor *tensors,
                struct ivon_error *error)
{
    const struct ivon_train_options *options = &trainer->options;
    struct optimizer_group *groups = calloc(options->group_count + 1, sizeof *groups);
    int code = groups ? 0 : ivon_error_memory(error);
    for (size_t i = 0; i < trainer->network->parameter_count && !code; i++)
        tensors[i].group = groups_find(options, tensors[i].name);
    if (!code)
        groups[0] = groups_default(trainer, method);
    for (size_t g = 1; g <= options->group_count && !code; g++) {
        const struct ivon_train_group *own = &options->groups[g - 1];
        groups[g] = groups[0];
        groups[g].rate = groups_own_or(own->rate, options->rate);
        groups[g].weight_decay = groups_own_or(own->weight_decay, options->weight_decay);
        groups[g].ess = groups_own_or(own->ess, trainer->ess);
        groups[g].hessian_init = groups_own_or(own->hessian_init, options->hessian_init);
        code = groups_check(trainer, own, error);
        if (!code)
            code = groups_check_used(trainer, g, tensors, error);
    }
    if (code)
        free(groups);
    else
        *out = groups;
    return code;
}
