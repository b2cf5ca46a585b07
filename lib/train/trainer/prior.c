/*
 * A posterior as the prior of a training. IVON's own posterior has a variance for each element,
 * 1/(λ (h + δ_p)): the one nearest to a prior of precision P has P's diagonal in δ_p = diag P/λ,
 * while the mean is pulled by all of it, P (m − m_p)/λ, the prior's gradient averaged over weights
 * drawn around m.
 *
 * The precision is first multiplied by a scale X, so that the prior is q_p^X, which has the same
 * mean. (Source: the factor γ of online EWC, Schwarz et al., ICML 2018, arXiv:1805.06370.)
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bayes/posterior.h"
#include "bayes/transfer.h"
#include "core/error.h"
#include "train/trainer/private.h"

static int prior_refuse(const struct ivon_trainer *trainer, const struct ivon_source *source,
                        size_t parameter, const char *what, struct ivon_error *error)
{
    return ivon_error_set(
        error, IVON_ERROR_DATA, "%s: tensor '%s' has %s, expected a posterior of what is trained",
        ivon_source_path(source), trainer_parameter(trainer, parameter)->name, what);
}

/* Finds for each parameter the mean that the posterior has of it, -1 where it has none. */
static int prior_match(const struct ivon_trainer *trainer, struct ivon_source *source,
                       ptrdiff_t *means, bool *wanted, struct ivon_error *error)
{
    for (size_t i = 0; i < trainer->network->parameter_count; i++) {
        const struct ivon_tensor *own = trainer_parameter(trainer, i);
        means[i] = ivon_source_find(source, IVON_MEAN, own->name);
        int code = means[i] < 0 ? ivon_source_refuse_opaque(source, IVON_MEAN, own->name, error)
                                : 0;
        if (code)
            return code;
        if (means[i] < 0)
            continue;
        if (!posterior_same_shape(own, ivon_source_tensor(source, (size_t)means[i])))
            return prior_refuse(trainer, source, i, "another shape", error);
        wanted[means[i]] = true;
    }
    return 0;
}

static int prior_set(struct ivon_trainer *trainer, struct ivon_source *source, size_t parameter,
                     size_t mean, struct ivon_error *error)
{
    struct training_prior *prior = &trainer->prior;
    const struct ivon_tensor *own = trainer_parameter(trainer, parameter);
    float *m = prior->mean.arrays[parameter];
    float *pull = prior->precision ? prior->pull.arrays[parameter] : NULL;
    int code = transfer_floats(source, mean, 0, own->count, m, error);
    if (prior->precision)
        prior->pull_of[mean] = pull;
    return code ? code
                : optimizer_set_prior(trainer->optimizer, parameter, m,
                                      prior->decay.arrays[parameter], pull, error);
}

/* Every parameter that the posterior has gets its diagonal, which `diagonal` leads to. */
static int prior_set_all(struct ivon_trainer *trainer, struct ivon_source *source,
                         const ptrdiff_t *means, struct precision *precision, float **diagonal,
                         struct ivon_error *error)
{
    size_t count = trainer->network->parameter_count;
    int code = 0;
    for (size_t i = 0; i < count && !code; i++) {
        if (means[i] < 0)
            continue;
        diagonal[means[i]] = trainer->prior.decay.arrays[i];
        if (!precision_covers(precision, (size_t)means[i])) {
            code = ivon_source_refuse_opaque(source, IVON_HESSIAN,
                                             trainer_parameter(trainer, i)->name, error);
            code = code ? code : prior_refuse(trainer, source, i, "no Hessian", error);
        }
    }
    if (!code)
        code = precision_diagonal(precision, diagonal, trainer->pool, error);
    for (size_t i = 0; i < count && !code; i++)
        if (means[i] >= 0)
            code = prior_set(trainer, source, i, (size_t)means[i], error);
    return code;
}

/* A precision that is a diagonal is not kept: the optimizer knows what it pulls. */
static int prior_make(struct training_prior *prior, const struct ivon_trainer *trainer,
                      struct ivon_source *source, struct precision *precision,
                      struct ivon_error *error)
{
    int code = weights_init(&prior->mean, trainer->network, error);
    if (!code)
        code = weights_init(&prior->decay, trainer->network, error);
    if (code || precision_is_diagonal(precision))
        return code;
    memset(prior->mean.data, 0, prior->mean.size); /* of what the posterior does not have */
    prior->precision = precision;
    prior->pull_of = calloc(ivon_source_tensor_count(source) + 1, sizeof *prior->pull_of);
    return prior->pull_of ? weights_init(&prior->pull, trainer->network, error)
                          : ivon_error_memory(error);
}

/* Fails where the method, its settings or the scale do not suit a prior. */
static int prior_check(const struct ivon_trainer *trainer, struct ivon_error *error)
{
    double scale = trainer->options.prior_scale;
    if (trainer->options.method != IVON_METHOD_IVON)
        return ivon_error_set(error, IVON_ERROR_ARGUMENT, "only IVON takes a posterior as a prior");
    if (!(scale > 0 && isfinite(scale)))
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "the prior's precision is multiplied by %g, expected a positive "
                              "number",
                              scale);
    for (size_t i = 0; i < trainer->network->parameter_count; i++)
        if (optimizer_group_of(trainer->optimizer, i)->ess != trainer->ess)
            return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                                  "tensor '%s' has an ess of %g, expected that of all, %g, with a "
                                  "posterior as the prior",
                                  trainer_parameter(trainer, i)->name,
                                  optimizer_group_of(trainer->optimizer, i)->ess, trainer->ess);
    return 0;
}

int prior_take(struct ivon_trainer *trainer, struct ivon_source *source, struct ivon_error *error)
{
    size_t tensors = ivon_source_tensor_count(source);
    struct training_prior *prior = &trainer->prior;
    struct precision *precision = NULL;
    ptrdiff_t *means = calloc(trainer->network->parameter_count + 1, sizeof *means);
    bool *wanted = calloc(tensors + 1, sizeof *wanted);
    float **diagonal = calloc(tensors + 1, sizeof *diagonal);
    int code = means && wanted && diagonal ? 0 : ivon_error_memory(error);
    if (!code)
        code = prior_check(trainer, error);
    if (!code)
        code = prior_match(trainer, source, means, wanted, error);
    if (!code)
        code = precision_new(&precision, source, wanted,
                             trainer->ess / trainer->options.prior_scale, error);
    if (!code)
        code = prior_make(prior, trainer, source, precision, error);
    if (!code)
        code = prior_set_all(trainer, source, means, precision, diagonal, error);
    if (!prior->precision)
        precision_free(precision);
    free(means);
    free(wanted);
    free(diagonal);
    return code;
}

int prior_pull(struct ivon_trainer *trainer, struct ivon_error *error)
{
    struct training_prior *prior = &trainer->prior;
    if (!prior->precision)
        return 0;
    for (size_t i = 0; i < trainer->network->parameter_count; i++) {
        const float *mean = optimizer_mean(trainer->optimizer, i), *from = prior->mean.arrays[i];
        for (size_t j = 0; j < trainer_parameter(trainer, i)->count; j++)
            prior->pull.arrays[i][j] = mean[j] - from[j];
    }
    return precision_multiply(prior->precision, (const float *const *)prior->pull_of,
                              prior->pull_of, trainer->pool, error);
}

void prior_release(struct training_prior *prior)
{
    precision_free(prior->precision);
    weights_release(&prior->mean);
    weights_release(&prior->decay);
    weights_release(&prior->pull);
    free(prior->pull_of);
    *prior = (struct training_prior){0};
}
