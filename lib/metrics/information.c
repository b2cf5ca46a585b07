#include "ivon/information.h"

#include <math.h>
#include <stdlib.h>

#include "core/error.h"

struct ivon_information {
    struct ivon_ratio waic, loo;
    double threshold, pareto_k_max; /* of Pareto's k */
    uint64_t pareto_k_high;
};

int ivon_information_new(struct ivon_information **out, size_t samples, struct ivon_error *error)
{
    struct ivon_information *information = calloc(1, sizeof *information);
    if (!information)
        return ivon_error_memory(error);
    information->threshold = ivon_pareto_k_threshold(samples);
    information->pareto_k_max = NAN;
    *out = information;
    return 0;
}

void ivon_information_free(struct ivon_information *information)
{
    free(information);
}

void ivon_information_add(struct ivon_information *information, size_t count, const double *waic,
                          const double *loo, const double *pareto_k, const size_t *positions)
{
    for (size_t i = 0; i < count; i++) {
        double t = positions ? (double)positions[i] : 1;
        if (waic)
            ivon_ratio_add(&information->waic, waic[i], t);
        if (loo)
            ivon_ratio_add(&information->loo, loo[i], t);
        if (!pareto_k || !(t > 0))
            continue;
        information->pareto_k_high += pareto_k[i] > information->threshold;
        information->pareto_k_max = fmax(information->pareto_k_max, pareto_k[i]); /* ignores NaN */
    }
}

struct ivon_information_summary ivon_information_summarize(
    const struct ivon_information *information)
{
    return (struct ivon_information_summary){
        .waic = ivon_ratio_metric("waic", &information->waic),
        .psis_loo = ivon_ratio_metric("psis_loo", &information->loo),
        .pareto_k_threshold = information->threshold,
        .pareto_k_max = information->pareto_k_max,
        .pareto_k_high = information->pareto_k_high,
    };
}
