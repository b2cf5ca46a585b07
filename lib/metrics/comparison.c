#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#include "metrics/moments.h"
#include "metrics/likelihood/probabilities.h"
#include "core/error.h"
#include "ivon/metrics.h"

struct ivon_comparison {
    enum ivon_likelihood likelihood;
    bool classes;
    size_t outputs;
    struct moments agreement, variation; /* over examples */
    bool told;                           /* there were targets */
    struct moments accuracy, nll;        /* of p, less that of q */
    struct ivon_metric values[4];
};

int ivon_comparison_new(struct ivon_comparison **out, enum ivon_likelihood likelihood,
                        size_t outputs, struct ivon_error *error)
{
    const struct ivon_likelihood_traits *traits = ivon_likelihood_traits(likelihood);
    if (!traits || traits->regression || !outputs)
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "only categorical and Bernoulli predictions, of one output or more, "
                              "are compared");
    struct ivon_comparison *comparison = calloc(1, sizeof *comparison);
    if (!comparison)
        return ivon_error_memory(error);
    comparison->likelihood = likelihood;
    comparison->classes = traits->classes;
    comparison->outputs = outputs;
    *out = comparison;
    return 0;
}

void ivon_comparison_free(struct ivon_comparison *comparison)
{
    free(comparison);
}

static void comparison_add_row(struct ivon_comparison *comparison, const float *p, const float *q)
{
    size_t outputs = comparison->outputs, agree = 0;
    double distance = 0;
    for (size_t k = 0; k < outputs; k++) {
        distance += fabs(probability_clamp(p[k]) - probability_clamp(q[k]));
        agree += probability_best(p[k]) == probability_best(q[k]);
    }
    if (comparison->classes) {
        agree = probabilities_best(p, outputs) == probabilities_best(q, outputs);
        moments_add(&comparison->agreement, (double)agree, 1);
        moments_add(&comparison->variation, distance / 2, 1);
    } else {
        moments_add(&comparison->agreement, (double)agree / (double)outputs, 1);
        moments_add(&comparison->variation, distance / (double)outputs, 1);
    }
}

/* Sets 1 for a row whose best class is right, and its loss; of events their means. */
static void comparison_score(const struct ivon_comparison *comparison, const float *p,
                             const int64_t *targets, double *accuracy, double *nll)
{
    size_t outputs = comparison->outputs;
    *accuracy = 0;
    *nll = probabilities_loss(comparison->likelihood, p, outputs, targets);
    if (comparison->classes) {
        *accuracy = probabilities_best(p, outputs) == (size_t)targets[0];
        return;
    }
    for (size_t k = 0; k < outputs; k++)
        *accuracy += (probability_best(p[k]) == (targets[k] == 1)) / (double)outputs;
}

static void comparison_add_targets(struct ivon_comparison *comparison, const float *p,
                                   const float *q, const int64_t *targets)
{
    double accuracy[2], nll[2];
    comparison_score(comparison, p, targets, &accuracy[0], &nll[0]);
    comparison_score(comparison, q, targets, &accuracy[1], &nll[1]);
    moments_add(&comparison->accuracy, accuracy[0] - accuracy[1], 1);
    moments_add(&comparison->nll, nll[0] - nll[1], 1);
}

static int comparison_check_targets(const struct ivon_comparison *comparison,
                                    const int64_t *targets, uint64_t row, struct ivon_error *error)
{
    size_t most = comparison->classes ? comparison->outputs - 1 : 1;
    for (size_t k = 0; k < (comparison->classes ? 1 : comparison->outputs); k++)
        if (targets[k] < 0 || (uint64_t)targets[k] > most)
            return ivon_error_set(error, IVON_ERROR_DATA,
                                  "row %" PRIu64 ": target %" PRId64 ", expected 0 to %zu", row,
                                  targets[k], most);
    return 0;
}

int ivon_comparison_add(struct ivon_comparison *comparison, uint64_t first, size_t count,
                        const float *p, const float *q, const int64_t *targets, const bool *counts,
                        struct ivon_error *error)
{
    size_t outputs = comparison->outputs, each = comparison->classes ? 1 : outputs;
    int (*check)(const float *, size_t, uint64_t,
                 struct ivon_error *) = comparison->classes ? probabilities_check_classes
                                                            : probabilities_check;
    int code = 0;
    for (size_t i = 0; i < count && !code; i++) {
        if (counts && !counts[i])
            continue;
        code = check(p + i * outputs, outputs, first + i, error);
        if (!code)
            code = check(q + i * outputs, outputs, first + i, error);
        if (!code && targets)
            code = comparison_check_targets(comparison, targets + i * each, first + i, error);
    }
    for (size_t i = 0; i < count && !code; i++) {
        if (counts && !counts[i])
            continue;
        comparison_add_row(comparison, p + i * outputs, q + i * outputs);
        if (targets)
            comparison_add_targets(comparison, p + i * outputs, q + i * outputs,
                                   targets + i * each);
    }
    comparison->told |= targets && !code;
    return code;
}

static struct ivon_metric comparison_metric(const char *name, const struct moments *moments)
{
    return (struct ivon_metric){name, moments_mean(moments), sqrt(moments_variance(moments))};
}

const struct ivon_metric *ivon_comparison_values(struct ivon_comparison *comparison, size_t *count)
{
    struct ivon_metric *values = comparison->values;
    values[0] = comparison_metric("agreement", &comparison->agreement);
    values[1] = comparison_metric("total_variation", &comparison->variation);
    values[2] = comparison_metric("accuracy_difference", &comparison->accuracy);
    values[3] = comparison_metric("nll_difference", &comparison->nll);
    *count = comparison->told ? 4 : 2;
    return values;
}
