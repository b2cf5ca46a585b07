#include "bayes/posterior.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/error.h"

const char *posterior_shape_text(const struct ivon_tensor *tensor, char text[256])
{
    size_t length = 0;
    strcpy(text, "scalar");
    for (int i = 0; i < tensor->rank; i++)
        length += (size_t)snprintf(text + length, 256 - length, "%s%" PRId64, i ? "x" : "",
                                   tensor->shape[i]);
    return text;
}

bool posterior_same_shape(const struct ivon_tensor *a, const struct ivon_tensor *b)
{
    return a->rank == b->rank &&
           memcmp(a->shape, b->shape, (size_t)a->rank * sizeof a->shape[0]) == 0;
}

static const struct ivon_tensor *first_hessian(const struct ivon_source *source)
{
    for (size_t i = 0; i < ivon_source_tensor_count(source); i++) {
        const struct ivon_tensor *tensor = ivon_source_tensor(source, i);
        if (tensor->part == IVON_HESSIAN)
            return tensor;
    }
    return NULL;
}

double posterior_ess(const struct ivon_source *source)
{
    double ess = ivon_source_header(source)->ess;
    const struct ivon_tensor *hessian = isnan(ess) ? first_hessian(source) : NULL;
    return hessian ? hessian->ess : ess;
}

double posterior_weight_decay(const struct ivon_source *source)
{
    double weight_decay = ivon_source_header(source)->weight_decay;
    const struct ivon_tensor *hessian = isnan(weight_decay) ? first_hessian(source) : NULL;
    return hessian ? hessian->weight_decay : weight_decay;
}

int posterior_check_hessian(const struct ivon_source *source, const struct ivon_tensor *mean,
                            const struct ivon_tensor *hessian, bool with_weight_decay,
                            struct ivon_error *error)
{
    char found[256], expected[256];
    const char *path = ivon_source_path(source);
    if (!posterior_same_shape(mean, hessian))
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: Hessian of '%s' has shape %s, its mean has %s", path,
                              mean->name, posterior_shape_text(hessian, found),
                              posterior_shape_text(mean, expected));
    if (!(hessian->ess > 0) || isinf(hessian->ess))
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: Hessian of '%s' has ess %g, expected a positive number%s", path,
                              mean->name, hessian->ess,
                              isnan(hessian->ess) ? " (is attribute 'ess' missing?)" : "");
    if (with_weight_decay && (!(hessian->weight_decay >= 0) || isinf(hessian->weight_decay)))
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: Hessian of '%s' has weight_decay %g, expected zero or more%s",
                              path, mean->name, hessian->weight_decay,
                              isnan(hessian->weight_decay)
                                  ? " (is attribute 'weight_decay' missing?)"
                                  : "");
    return 0;
}
