#include "bayes/perturbation.h"

#include <math.h>

#include "bayes/posterior.h"
#include "core/error.h"
#include "ivon/targets.h"

int perturbation_covariance(struct covariance **covariance, size_t *fixed,
                            const struct ivon_network *network, struct ivon_source *source,
                            const struct ivon_sample_options *sample, struct ivon_error *error)
{
    struct ivon_sample_options check = *sample;
    check.temperature = 1; /* whatever is drawn, Σ is needed */
    int code = covariance_new(covariance, network, source, &check, error);
    if (code)
        return code;
    const struct draw_counts counts = draw_count((*covariance)->draw, &check);
    *fixed = counts.lacking;
    return counts.random ? 0 : draw_refuse(source, &counts, "nothing can move", error);
}

static int perturbation_check_rho(double rho, struct ivon_error *error)
{
    return rho > 0 && !isinf(rho) ? 0
                                  : ivon_error_set(error, IVON_ERROR_ARGUMENT,
                                                   "rho is %g, expected a positive number", rho);
}

int perturbation_check(const struct perturbation_request *request, struct ivon_error *error)
{
    const struct ivon_task *task = request->task;
    if (ivon_likelihood_traits(task->likelihood)->noise && !(task->noise_std > 0))
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "the Gaussian likelihood needs the standard deviation of the noise");
    return isnan(request->rho) ? 0 : perturbation_check_rho(request->rho, error);
}

/* N: what is given, else the checkpoint's, else what counts in the training data. */
static int perturbation_count(double *n_train, const struct ivon_source *source,
                              const struct perturbation_request *request, struct ivon_error *error)
{
    const struct ivon_task *task = request->task;
    int64_t stored = ivon_source_header(source)->n_train;
    struct ivon_positions positions;
    *n_train = request->n_train > 0 ? (double)request->n_train : (double)stored;
    if (*n_train > 0)
        return 0;
    int code = ivon_positions_count(&positions, request->whole, request->targets, task->likelihood,
                                    request->outputs, task->ignored, error);
    *n_train = code ? NAN : (double)positions.counted;
    if (!code && !positions.counted)
        code = ivon_error_set(
            error, IVON_ERROR_DATA,
            "%s: all targets are the ignored label %lld, expected some that count",
            ivon_examples_path(request->whole), (long long)task->ignored);
    return code;
}

int perturbation_scale(struct covariance_scale *scale, struct ivon_source *source,
                       const struct perturbation_request *request, struct ivon_error *error)
{
    int code = perturbation_count(&scale->n_train, source, request, error);
    if (code)
        return code;
    scale->rho = isnan(request->rho) ? posterior_ess(source) / scale->n_train : request->rho;
    return perturbation_check_rho(scale->rho, error);
}

int perturbation_load(struct covariance *covariance, struct weights *mean,
                      const struct ivon_sample_options *sample,
                      const struct covariance_scale *scale, int threads, struct ivon_error *error)
{
    struct ivon_sample_options at_mean = *sample;
    at_mean.temperature = 0;
    int code = weights_init(mean, covariance->network, error);
    if (!code)
        code = covariance_draw(covariance, mean, &at_mean, 0, threads, error);
    return code ? code : covariance_load(covariance, scale, threads, error);
}
