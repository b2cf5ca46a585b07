#include <math.h>
#include <stdlib.h>

#include "metrics/moments.h"
#include "metrics/likelihood/probabilities.h"
#include "core/error.h"
#include "ivon/metrics.h"

struct ivon_comparison {
    bool classes;
    size_t outputs;
    struct moments agreement, variation; /* over examples */
    struct ivon_metric values[2];
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

int ivon_comparison_add(struct ivon_comparison *comparison, uint64_t first, size_t count,
                        const float *p, const float *q, const bool *counts,
                        struct ivon_error *error)
{
    size_t outputs = comparison->outputs;
    int code = 0;
    for (size_t i = 0; i < count && !code; i++) {
        if (counts && !counts[i])
            continue;
        code = probabilities_check(p + i * outputs, outputs, first + i, error);
        if (!code)
            code = probabilities_check(q + i * outputs, outputs, first + i, error);
    }
    for (size_t i = 0; i < count && !code; i++)
        if (!counts || counts[i])
            comparison_add_row(comparison, p + i * outputs, q + i * outputs);
    return code;
}

const struct ivon_metric *ivon_comparison_values(struct ivon_comparison *comparison, size_t *count)
{
    const struct moments *agreement = &comparison->agreement, *variation = &comparison->variation;
    comparison->values[0] = (struct ivon_metric){"agreement", moments_mean(agreement),
                                                 sqrt(moments_variance(agreement))};
    comparison->values[1] = (struct ivon_metric){"total_variation", moments_mean(variation),
                                                 sqrt(moments_variance(variation))};
    *count = 2;
    return comparison->values;
}
