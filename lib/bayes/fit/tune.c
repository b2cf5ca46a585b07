/* The weight decay and the noise that a fit has in the end. */
#include <math.h>
#include <stdlib.h>

#include "bayes/fit/private.h"
#include "core/error.h"

double fit_squares(const struct ivon_fit *fit, size_t parameter)
{
    double sum = 0;
    for (size_t i = 0; i < fit->parameter_counts[parameter]; i++) {
        double m = (double)fit->mean.arrays[parameter][i];
        sum += m * m;
    }
    return sum;
}

int fit_parts_new(struct ivon_fit *fit, struct ivon_error *error)
{
    size_t count = fit->network->parameter_count;
    bool regression = ivon_likelihood_traits(fit->options.task.likelihood)->noise;
    struct evidence *evidence = &fit->evidence;
    free(evidence->parts);
    *evidence = (struct evidence){.n = fit->n_train,
                                  .loss = fit->loss,
                                  .scale = 1,
                                  .outputs = regression ? (double)fit->outputs.k : 0,
                                  .noise = regression ? fit->likelihood.noise_std : NAN};
    evidence->parts = calloc(fit->layer_count + count + 1, sizeof *evidence->parts);
    if (!fit->decays)
        fit->decays = calloc(count + 1, sizeof *fit->decays);
    if (!evidence->parts || !fit->decays)
        return ivon_error_memory(error);
    for (size_t l = 0; l < fit->layer_count; l++) {
        const struct fit_layer *layer = &fit->layers[l];
        double squares = fit_squares(fit, layer->weight);
        squares += layer->bias == NET_NONE ? 0 : fit_squares(fit, layer->bias);
        evidence->parts[evidence->count++] = (struct evidence_part){
            layer->h, layer->outputs * layer->columns, squares, fit->options.weight_decay};
    }
    for (size_t p = 0; p < count; p++)
        if (fit->diagonal[p])
            evidence->parts[evidence->count++] = (struct evidence_part){
                fit->diagonal[p], fit->parameter_counts[p], fit_squares(fit, p),
                fit->options.weight_decay};
    return 0;
}

static bool is_zero(const float *values, size_t count)
{
    size_t i = 0;
    while (i < count && values[i] == 0)
        i++;
    return i == count;
}

/* Returns whether h of a layer's weight is 0, the last column being that of the bias where no basis
   mixes it with the others. */
static bool is_flat(const struct fit_layer *layer)
{
    bool beside = layer->bias != NET_NONE && !layer->factors[FIT_INPUT].rotated;
    for (size_t o = 0; layer->h && o < layer->outputs; o++)
        if (!is_zero(layer->h + o * layer->columns, layer->columns - beside))
            return false;
    return layer->h;
}

const char *ivon_fit_flat(const struct ivon_fit *fit, size_t *count)
{
    size_t first = SIZE_MAX;
    *count = 0;
    for (size_t l = 0; l < fit->layer_count; l++)
        if (is_flat(&fit->layers[l])) {
            ++*count;
            first = fit->layers[l].weight < first ? fit->layers[l].weight : first;
        }
    for (size_t p = 0; p < fit->network->parameter_count; p++)
        if (fit->diagonal[p] && is_zero(fit->diagonal[p], fit->parameter_counts[p])) {
            ++*count;
            first = p < first ? p : first;
        }
    return first == SIZE_MAX ? NULL : fit_name(fit, first);
}

static void scale_all(float *values, size_t count, double scale)
{
    for (size_t i = 0; i < count; i++)
        values[i] = (float)(scale * (double)values[i]);
}

/* h and the gradient for the noise that was found, and the weight decay of each parameter. */
static void fit_settle(struct ivon_fit *fit)
{
    struct evidence *evidence = &fit->evidence;
    size_t part = 0;
    for (size_t l = 0; l < fit->layer_count; l++, part++) {
        const struct fit_layer *layer = &fit->layers[l];
        const struct fit_factor *factor = &layer->factors[FIT_OUTPUT];
        fit->decays[layer->weight] = evidence->parts[part].decay;
        if (layer->bias != NET_NONE)
            fit->decays[layer->bias] = evidence->parts[part].decay;
        if (evidence->scale != 1) {
            scale_all(layer->h, layer->outputs * layer->columns, evidence->scale);
            scale_all(layer->gradient, layer->outputs * layer->columns, evidence->scale);
            if (factor->rotated)
                scale_all(factor->spectrum, factor->rows, evidence->scale);
        }
    }
    for (size_t p = 0; p < fit->network->parameter_count; p++)
        if (fit->diagonal[p]) {
            fit->decays[p] = evidence->parts[part++].decay;
            if (evidence->scale != 1)
                scale_all(fit->diagonal[p], fit->parameter_counts[p], evidence->scale);
        }
    scale_all(fit->diagonal_gradient, fit->diagonal_count, evidence->scale);
    if (evidence->outputs > 0)
        fit->likelihood.noise_std = evidence_noise(evidence);
    evidence->loss *= evidence->scale;
    evidence->noise = fit->likelihood.noise_std;
    evidence->scale = 1;
}

static int check_part(const struct ivon_fit *fit, const struct evidence_part *part,
                      size_t parameter, struct ivon_error *error)
{
    size_t without = 0, infinite = 0;
    for (size_t i = 0; i < part->count; i++) {
        infinite += isfinite(part->h[i]) ? 0 : 1;
        without += part->h[i] > 0 || part->decay > 0 ? 0 : 1;
    }
    if (infinite)
        return fit_refuse_infinite(fit, parameter, error);
    if (!without)
        return 0;
    const char *name = fit_name(fit, parameter);
    return ivon_error_hint(error, IVON_HINT_WEIGHT_DECAY,
                           ivon_error_set(error, IVON_ERROR_DATA,
                                          "%s: the data say nothing of %zu of %zu elements of the "
                                          "Hessian of '%s', and there is no weight decay: their "
                                          "variance is infinite",
                                          ivon_source_path(fit->source), without, part->count,
                                          name));
}

/* The curvature is finite; and without a weight decay, what no example bends has no precision. */
static int fit_check_curvature(const struct ivon_fit *fit, struct ivon_error *error)
{
    const struct evidence_part *part = fit->evidence.parts;
    int code = 0;
    for (size_t l = 0; l < fit->layer_count && !code; l++)
        code = check_part(fit, part++, fit->layers[l].weight, error);
    for (size_t p = 0; p < fit->network->parameter_count && !code; p++)
        if (fit->diagonal[p])
            code = check_part(fit, part++, p, error);
    return code;
}

/* Finds the noise, unless it was given, and where asked the weight decays. */
static int fit_maximize(struct ivon_fit *fit, bool decays, struct ivon_error *error)
{
    const struct ivon_fit_options *options = &fit->options;
    bool noise = ivon_likelihood_traits(options->task.likelihood)->noise &&
                 isnan(options->task.noise_std);
    if (noise)
        evidence_maximize_noise(&fit->evidence, decays, options->each);
    else if (decays)
        evidence_maximize(&fit->evidence, options->each);
    fit_settle(fit);
    return fit_check_curvature(fit, error);
}

int fit_tune_restore(struct ivon_fit *fit, const struct fit_tuned *tuned, struct ivon_error *error)
{
    struct evidence *evidence = &fit->evidence;
    int code = fit_parts_new(fit, error);
    if (code)
        return code;
    for (size_t i = 0; i < evidence->count; i++)
        evidence->parts[i].decay = tuned->decays[i];
    evidence->loss = tuned->loss;
    evidence->noise = evidence->outputs > 0 ? tuned->noise : evidence->noise;
    fit_settle(fit);
    return fit_check_curvature(fit, error);
}

int fit_tune(struct ivon_fit *fit, struct ivon_error *error)
{
    int code = fit_parts_new(fit, error);
    return code ? code : fit_maximize(fit, isnan(fit->options.weight_decay), error);
}

int fit_tune_to(struct ivon_fit *fit, double weight_decay, struct ivon_error *error)
{
    for (size_t i = 0; i < fit->evidence.count; i++)
        fit->evidence.parts[i].decay = weight_decay;
    return fit_maximize(fit, false, error);
}
