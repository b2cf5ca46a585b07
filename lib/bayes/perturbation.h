/*
 * The posterior that examples are removed from (ivon/sensitivity.h): its means, ρΣ, and the two
 * numbers ρ and N. What computes with removals begins with these functions, in this order.
 */
#ifndef BAYES_PERTURBATION_H
#define BAYES_PERTURBATION_H

#include "bayes/covariance.h"
#include "ivon/examples.h"
#include "ivon/task.h"

/* Makes Σ of the parameters that `sample` selects, of which *fixed have no Hessian. Fails where
   nothing can move. */
int perturbation_covariance(struct covariance **covariance, size_t *fixed,
                            const struct ivon_network *network, struct ivon_source *source,
                            const struct ivon_sample_options *sample, struct ivon_error *error);

/* The sizes that were asked for, and where N comes from if none was. */
struct perturbation_request {
    double rho;                  /* NaN: λ/N */
    int64_t n_train;             /* N; -1: the checkpoint's, else the positions of `whole` */
    struct ivon_examples *whole; /* the training data */
    const char *targets;         /* their field of targets */
    size_t outputs;              /* K */
    const struct ivon_task *task;
};

/* Fails where the request cannot be met whatever the posterior is. */
int perturbation_check(const struct perturbation_request *request, struct ivon_error *error);

/* Finds ρ and N. */
int perturbation_scale(struct covariance_scale *scale, struct ivon_source *source,
                       const struct perturbation_request *request, struct ivon_error *error);

/* Reads the means, and ρΣ for `rho` as requested, into memory. */
int perturbation_load(struct covariance *covariance, struct weights *mean,
                      const struct ivon_sample_options *sample,
                      const struct covariance_scale *scale, int threads, struct ivon_error *error);

#endif
