#include "ivon/information.h"

#include <math.h>
#include <stdlib.h>

#include "bayes/moments.h"
#include "core/error.h"

struct ivon_information {
    struct moments waic, loo; /* over examples */
    double threshold, most;   /* of Pareto's k */
    uint64_t high;
};

int ivon_information_new(struct ivon_information **out, size_t samples, struct ivon_error *error)
{
    struct ivon_information *information = calloc(1, sizeof *information);
    if (!information)
        return ivon_error_memory(error);
    information->threshold = ivon_pareto_k_threshold(samples);
    information->most = NAN;
    *out = information;
    return 0;
}

void ivon_information_free(struct ivon_information *information)
{
    free(information);
}

void ivon_information_add(struct ivon_information *information, size_t count, const double *waic,
                          const double *loo, const double *pareto_k)
{
    for (size_t i = 0; i < count; i++) {
        if (waic)
            moments_add(&information->waic, waic[i], 1);
        if (loo)
            moments_add(&information->loo, loo[i], 1);
        if (!pareto_k)
            continue;
        information->high += pareto_k[i] > information->threshold;
        information->most = fmax(information->most, pareto_k[i]); /* the one that is a number */
    }
}

static struct ivon_metric metric_of(const char *name, const struct moments *moments)
{
    return (struct ivon_metric){name, moments_mean(moments), sqrt(moments_variance(moments))};
}

struct ivon_information_summary
ivon_information_summarize(const struct ivon_information *information)
{
    return (struct ivon_information_summary){
        .waic = metric_of("waic", &information->waic),
        .psis_loo = metric_of("psis_loo", &information->loo),
        .pareto_k_threshold = information->threshold,
        .pareto_k_max = information->most,
        .pareto_k_high = information->high,
    };
}
