#include "bayes/covariance.h"

#include <stdlib.h>

#include "core/error.h"

int covariance_new(struct covariance **out, const struct ivon_network *network,
                   struct ivon_source *source, const struct ivon_sample_options *options,
                   struct ivon_error *error)
{
    const struct covariance_kind *kind = &covariance_diagonal;
    struct covariance *covariance = calloc(1, kind->size);
    if (!covariance)
        return ivon_error_memory(error);
    covariance->kind = kind;
    covariance->network = network;
    covariance->source = source;
    covariance->random = calloc(network->parameter_count + 1, sizeof *covariance->random);
    if (!covariance->random) {
        covariance_free(covariance);
        return ivon_error_memory(error);
    }
    for (size_t i = 0; i < network->parameter_count; i++) {
        const char *name = ivon_source_tensor(source, network->parameters[i])->name;
        bool selected = !options->selected || options->selected(options->selected_context, name);
        covariance->random[i] = selected && ivon_source_find(source, IVON_HESSIAN, name) >= 0;
    }
    *out = covariance;
    return 0;
}

void covariance_free(struct covariance *covariance)
{
    if (!covariance)
        return;
    covariance->kind->release(covariance);
    free(covariance->random);
    free(covariance);
}

int covariance_draw(const struct covariance *covariance, struct weights *weights,
                    const struct ivon_sample_options *options, uint64_t sample, int threads,
                    struct ivon_error *error)
{
    return covariance->kind->draw(covariance, weights, options, sample, threads, error);
}

int covariance_load(struct covariance *covariance, const struct covariance_scale *scale,
                    int threads, struct ivon_error *error)
{
    return covariance->kind->load(covariance, scale, threads, error);
}

size_t covariance_memory(const struct covariance *covariance)
{
    return covariance->kind->memory(covariance);
}

void covariance_apply(const struct covariance *covariance, const double *x, struct weights *product)
{
    covariance->kind->apply(covariance, x, product);
}

void covariance_quadratic(const struct covariance *covariance, struct net_derivative *derivative,
                          size_t count, double *q)
{
    covariance->kind->quadratic(covariance, derivative, count, q);
}

const float *covariance_tangent(const struct covariance *covariance,
                                struct net_derivative *derivative, size_t count)
{
    return covariance->kind->tangent(covariance, derivative, count);
}

double covariance_log_determinant(const struct covariance *covariance)
{
    return covariance->kind->log_determinant(covariance);
}
