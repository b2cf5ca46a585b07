/* The Hessians that a source has of its own, as the base of a low-rank correction. */
#include <stdlib.h>

#include "bayes/fit/private.h"
#include "bayes/posterior.h"
#include "bayes/structure.h"
#include "bayes/transfer.h"
#include "core/error.h"
#include "net/derivative/metric.h"

/* h of a parameter as the source has it, and its weight decay. The curvature of the data counts by
   one ess. */
static int load_hessian(const struct ivon_fit *fit, size_t parameter, float *h,
                        struct ivon_error *error)
{
    struct ivon_source *source = fit->source;
    const struct ivon_tensor *mean = ivon_source_tensor(source,
                                                        fit->network->parameters[parameter]);
    ptrdiff_t index = ivon_source_find(source, IVON_HESSIAN, mean->name);
    if (index < 0)
        return ivon_error_set(error, IVON_ERROR_DATA, "%s: '%s' has no Hessian",
                              ivon_source_path(source), mean->name);
    const struct ivon_tensor *hessian = ivon_source_tensor(source, (size_t)index);
    int code = posterior_check_hessian(source, mean, hessian, true, error);
    if (!code && hessian->ess != fit->ess)
        code = ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: Hessian of '%s' has an ess of %g, expected that of all, %g",
                              ivon_source_path(source), mean->name, hessian->ess, fit->ess);
    fit->decays[parameter] = hessian->weight_decay;
    if (!code) /* for what it checks: h + δ is above 0 */
        code = posterior_inverse_precision(source, (size_t)index, 1, 0, mean->count, h, error);
    return code ? code : transfer_floats(source, (size_t)index, 0, mean->count, h, error);
}

static int load_layer(struct ivon_fit *fit, const struct fit_layer *layer, struct ivon_error *error)
{
    const struct net_block block = {.weight = layer->weight,
                                    .bias = layer->bias,
                                    .rows = layer->outputs,
                                    .columns = layer->columns,
                                    .transposed = layer->transposed};
    bool has_bias = layer->bias != NET_NONE;
    float *weight = calloc(fit->parameter_counts[layer->weight] + 1, sizeof *weight);
    float *bias = has_bias ? calloc(fit->parameter_counts[layer->bias] + 1, sizeof *bias) : NULL;
    int code = weight && (!has_bias || bias) ? load_hessian(fit, layer->weight, weight, error)
                                             : ivon_error_memory(error);
    if (!code && has_bias)
        code = load_hessian(fit, layer->bias, bias, error);
    if (!code && has_bias && fit->decays[layer->bias] != fit->decays[layer->weight])
        code = ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: a weight and its bias have different weight decays, %g and %g",
                              ivon_source_path(fit->source), fit->decays[layer->weight],
                              fit->decays[layer->bias]);
    if (!code)
        net_block_gather(&block, weight, bias, layer->h);
    free(weight);
    free(bias);
    return code;
}

/* The source's own Hessians in place of moments; the pass over the data finds the loss and its
   gradient. */
int fit_own_run(struct ivon_fit *fit, struct ivon_error *error)
{
    struct fit_pass pass = {.fit = fit, .on_gradient = fit_gradient_add};
    size_t part = 0;
    int code = structure_refuse(fit->source, "bases of low-rank corrections", error);
    if (!code)
        code = fit_pass_run(&pass, error);
    if (!code)
        code = fit_parts_new(fit, error);
    for (size_t l = 0; l < fit->layer_count && !code; l++) {
        code = load_layer(fit, &fit->layers[l], error);
        fit->evidence.parts[part++].decay = fit->decays[fit->layers[l].weight];
    }
    for (size_t p = 0; p < fit->network->parameter_count && !code; p++)
        if (fit->diagonal[p]) {
            code = load_hessian(fit, p, fit->diagonal[p], error);
            fit->evidence.parts[part++].decay = fit->decays[p];
        }
    return code;
}
