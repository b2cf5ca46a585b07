/* Scores of single examples for active learning: see ivon/acquire.h for their formulas. */
#include "ivon/acquire.h"

#include <math.h>

#include "core/error.h"

static const struct ivon_acquisition_traits acquisitions[] = {
    [IVON_ACQUIRE_BALD] = {.name = "bald", .samples = true},
    [IVON_ACQUIRE_ENTROPY] = {.name = "entropy"},
    [IVON_ACQUIRE_VARIATION_RATIO] = {.name = "variation-ratio"},
    [IVON_ACQUIRE_MARGIN] = {.name = "margin", .ascending = true},
    [IVON_ACQUIRE_BATCHBALD] = {.name = "batchbald", .samples = true, .joint = true},
};

const struct ivon_acquisition_traits *ivon_acquisition_traits(enum ivon_acquisition acquisition)
{
    size_t count = sizeof acquisitions / sizeof *acquisitions;
    return (size_t)acquisition < count ? &acquisitions[acquisition] : NULL;
}

/* Of classes; one alone has no next. */
static double margin_of(const float *p, size_t k)
{
    double most = 0, next = 0;
    for (size_t i = 0; i < k; i++) {
        double value = (double)p[i];
        next = fmax(next, fmin(most, value));
        most = fmax(most, value);
    }
    return most - next;
}

static double acquisition_of_row(enum ivon_acquisition acquisition, bool classes, size_t k,
                                 const struct ivon_predictions *p, size_t row)
{
    switch (acquisition) {
    case IVON_ACQUIRE_BALD:
        return (double)p->mutual_information[row];
    case IVON_ACQUIRE_ENTROPY:
        return (double)p->entropy[row];
    case IVON_ACQUIRE_VARIATION_RATIO:
        return 1 - (double)p->max_probability[row];
    default:
        /* Of an event |2p − 1| = 2 max(p, 1 − p) − 1, and so of the events' means. */
        return classes ? margin_of(p->probabilities + row * k, k)
                       : 2 * (double)p->max_probability[row] - 1;
    }
}

int ivon_acquisition_scores(enum ivon_acquisition acquisition, enum ivon_likelihood likelihood,
                            const struct ivon_predict_shape *shape,
                            const struct ivon_predictions *predictions, double *scores,
                            struct ivon_error *error)
{
    const struct ivon_acquisition_traits *own = ivon_acquisition_traits(acquisition);
    const struct ivon_likelihood_traits *traits = ivon_likelihood_traits(likelihood);
    size_t tokens = shape->tokens ? (size_t)shape->tokens : 1;
    if (!own || own->joint)
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "acquisition %d is none of single examples", (int)acquisition);
    if (!traits || traits->regression || !predictions->max_probability || !predictions->entropy ||
        !predictions->probabilities || (own->samples && !predictions->mutual_information))
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "acquisition %s: the predictions have not what it is made of",
                              own->name);
    for (size_t i = 0; i < predictions->count; i++) {
        scores[i] = 0;
        for (size_t t = 0; t < tokens; t++)
            scores[i] += acquisition_of_row(acquisition, traits->classes, shape->outputs,
                                            predictions, i * tokens + t);
        scores[i] /= (double)tokens;
    }
    return 0;
}
