/*
 * The covariance that IVON trains: Σ = diag 1/(λ(h + δ)). Samples are drawn from the source by
 * address, so that they take no memory; ρΣ is kept in memory for what is computed of gradients.
 */
#include <math.h>
#include <string.h>

#include "bayes/covariance.h"
#include "bayes/posterior.h"

struct diagonal {
    struct covariance base;
    struct weights variance; /* ρσ² of every parameter, once loaded */
};

static const struct diagonal *diagonal_of(const struct covariance *covariance)
{
    return (const struct diagonal *)(const void *)covariance;
}

static void diagonal_release(struct covariance *covariance)
{
    struct diagonal *diagonal = (struct diagonal *)(void *)covariance;
    weights_release(&diagonal->variance);
}

/* Samples. */

struct diagonal_sample {
    const struct covariance *covariance;
    struct ivon_sample_options random, still;
    uint64_t number;
};

/* Gives up the pages of a range of a mean and its Hessian, which a file may be mapped to: what was
   read is in memory of its own. */
static void diagonal_read(const struct covariance *covariance, size_t mean,
                          const struct weights_range *range)
{
    struct ivon_source *source = covariance->source;
    ptrdiff_t hessian = ivon_source_find(source, IVON_HESSIAN,
                                         ivon_source_tensor(source, mean)->name);
    ivon_source_done_with(source, mean, range->first, range->count);
    if (hessian >= 0)
        ivon_source_done_with(source, (size_t)hessian, range->first, range->count);
}

static int diagonal_draw_range(void *context, const struct weights_range *range, float *out,
                               struct ivon_error *error)
{
    const struct diagonal_sample *sample = context;
    const struct covariance *covariance = sample->covariance;
    bool random = covariance->random[range->parameter];
    size_t mean = covariance->network->parameters[range->parameter];
    int code = ivon_sample_draw(covariance->source, mean, random ? &sample->random : &sample->still,
                                sample->number, range->first, range->count, out, error);
    diagonal_read(covariance, mean, range);
    return code;
}

static int diagonal_draw(const struct covariance *covariance, struct weights *weights,
                         const struct ivon_sample_options *options, uint64_t number, int threads,
                         struct ivon_error *error)
{
    /* covariance->random replaces the filter, which is not made for several threads. */
    struct diagonal_sample sample = {covariance, *options, *options, number};
    sample.random.selected = sample.still.selected = NULL;
    sample.still.temperature = 0;
    return weights_fill(weights, covariance->network, covariance->source, threads,
                        diagonal_draw_range, &sample, error);
}

/* ρΣ in memory. */

struct diagonal_loading {
    const struct covariance *covariance;
    const struct covariance_scale *scale;
};

static int diagonal_load_range(void *context, const struct weights_range *range, float *out,
                               struct ivon_error *error)
{
    const struct diagonal_loading *loading = context;
    const struct covariance *covariance = loading->covariance;
    struct ivon_source *source = covariance->source;
    size_t mean = covariance->network->parameters[range->parameter];
    if (!covariance->random[range->parameter]) {
        memset(out, 0, range->count * sizeof *out);
        return 0;
    }
    ptrdiff_t hessian = ivon_source_find(source, IVON_HESSIAN,
                                         ivon_source_tensor(source, mean)->name);
    double ess = ivon_source_tensor(source, (size_t)hessian)->ess;
    double rho = loading->scale->rho;
    double scale = isnan(rho) ? 1 / loading->scale->n_train : rho / ess;
    int code = posterior_inverse_precision(source, (size_t)hessian, scale, range->first,
                                           range->count, out, error);
    diagonal_read(covariance, mean, range);
    return code;
}

static int diagonal_load(struct covariance *covariance, const struct covariance_scale *scale,
                         int threads, struct ivon_error *error)
{
    struct diagonal *diagonal = (struct diagonal *)(void *)covariance;
    struct diagonal_loading loading = {covariance, scale};
    weights_release(&diagonal->variance);
    int code = weights_init(&diagonal->variance, covariance->network, error);
    if (!code)
        code = weights_fill(&diagonal->variance, covariance->network, covariance->source, threads,
                            diagonal_load_range, &loading, error);
    return code;
}

static size_t diagonal_memory(const struct covariance *covariance)
{
    return diagonal_of(covariance)->variance.size;
}

static void diagonal_apply(const struct covariance *covariance, const double *x,
                           struct weights *product)
{
    const float *variance = diagonal_of(covariance)->variance.data;
    for (size_t i = 0; i < product->size / sizeof(float); i++)
        product->data[i] = (float)(x[i] * (double)variance[i]);
}

static struct net_metric diagonal_metric(const struct covariance *covariance)
{
    return (struct net_metric){
        .diagonal = (const float *const *)diagonal_of(covariance)->variance.arrays};
}

static void diagonal_quadratic(const struct covariance *covariance,
                               struct net_derivative *derivative, size_t count, double *q)
{
    const struct net_metric metric = diagonal_metric(covariance);
    net_derivative_quadratic(derivative, &metric, count, q);
}

static const float *diagonal_tangent(const struct covariance *covariance,
                                     struct net_derivative *derivative, size_t count)
{
    const struct net_metric metric = diagonal_metric(covariance);
    return net_derivative_own_tangent(derivative, &metric, count);
}

static double diagonal_log_determinant(const struct covariance *covariance)
{
    const struct diagonal *diagonal = diagonal_of(covariance);
    const struct ivon_network *network = covariance->network;
    double sum = 0;
    for (size_t p = 0; p < network->parameter_count; p++) {
        size_t count = ivon_source_tensor(covariance->source, network->parameters[p])->count;
        for (size_t i = 0; i < count && covariance->random[p]; i++)
            sum += log((double)diagonal->variance.arrays[p][i]);
    }
    return sum;
}

const struct covariance_kind covariance_diagonal = {
    .size = sizeof(struct diagonal),
    .release = diagonal_release,
    .draw = diagonal_draw,
    .memory = diagonal_memory,
    .load = diagonal_load,
    .apply = diagonal_apply,
    .quadratic = diagonal_quadratic,
    .tangent = diagonal_tangent,
    .log_determinant = diagonal_log_determinant,
};
