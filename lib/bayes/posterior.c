#include "bayes/posterior.h"

#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bayes/transfer.h"
#include "core/dispatch.h"
#include "core/error.h"

enum { TILE = 512 /* elements */ };

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

int posterior_check_scale(const struct ivon_source *source, const struct ivon_tensor *hessian,
                          bool with_weight_decay, struct ivon_error *error)
{
    const char *path = ivon_source_path(source);
    if (isnan(hessian->ess))
        return ivon_error_hint(
            error, IVON_HINT_ESS,
            ivon_error_set(error, IVON_ERROR_DATA,
                           "%s: Hessian of '%s' has no ess, expected a positive number", path,
                           hessian->name));
    if (!(hessian->ess > 0) || isinf(hessian->ess))
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: Hessian of '%s' has ess %g, expected a positive number", path,
                              hessian->name, hessian->ess);
    if (with_weight_decay && isnan(hessian->weight_decay))
        return ivon_error_hint(
            error, IVON_HINT_WEIGHT_DECAY,
            ivon_error_set(error, IVON_ERROR_DATA,
                           "%s: Hessian of '%s' has no weight_decay, expected zero or more", path,
                           hessian->name));
    if (with_weight_decay && (!(hessian->weight_decay >= 0) || isinf(hessian->weight_decay)))
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: Hessian of '%s' has weight_decay %g, expected zero or more",
                              path, hessian->name, hessian->weight_decay);
    return 0;
}

int posterior_check_hessian(const struct ivon_source *source, const struct ivon_tensor *mean,
                            const struct ivon_tensor *hessian, bool with_weight_decay,
                            struct ivon_error *error)
{
    char found[256], expected[256];
    if (!posterior_same_shape(mean, hessian))
        return ivon_error_set(
            error, IVON_ERROR_DATA, "%s: Hessian of '%s' has shape %s, its mean has %s",
            ivon_source_path(source), mean->name, ivon_tensor_shape_text(hessian, found),
            ivon_tensor_shape_text(mean, expected));
    return posterior_check_scale(source, hessian, with_weight_decay, error);
}

int posterior_refuse_hessian(const struct ivon_source *source, const struct ivon_tensor *hessian,
                             double h, size_t element, struct ivon_error *error)
{
    const char *path = ivon_source_path(source);
    double delta = hessian->weight_decay;
    if (!isfinite(h + delta))
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: Hessian of '%s' is %g at element %zu, expected a finite number",
                              path, hessian->name, h, element);
    return ivon_error_set(error, IVON_ERROR_DATA,
                          "%s: Hessian of '%s' is %g at element %zu, with weight_decay %g expected "
                          "above %g",
                          path, hessian->name, h, element, delta, 0 - delta);
}

IVON_DISPATCH static bool invert(float *restrict out, const double *restrict hessian, double scale,
                                 double delta, size_t count)
{
    int bad = 0;
    for (size_t i = 0; i < count; i++) {
        double precision = hessian[i] + delta;
        out[i] = (float)(scale / precision);
        bad |= !(precision > 0) | !(precision <= DBL_MAX) | !(out[i] <= FLT_MAX);
    }
    return !bad;
}

int posterior_inverse_precision(struct ivon_source *source, size_t tensor, double scale,
                                size_t first, size_t count, float *out, struct ivon_error *error)
{
    double hessians[TILE];
    unsigned char *block = NULL;
    const struct ivon_tensor *hessian = ivon_source_tensor(source, tensor);
    int code = 0;
    for (size_t done = 0; done < count && !code; done += TILE) {
        size_t piece = count - done < TILE ? count - done : TILE;
        code = transfer_numbers(source, tensor, first + done, piece, TILE, &block, hessians, error);
        if (code || invert(out + done, hessians, scale, hessian->weight_decay, piece))
            continue;
        size_t i = 0;
        while (i + 1 < piece && hessians[i] + hessian->weight_decay > 0 &&
               isfinite(hessians[i] + hessian->weight_decay) && isfinite(out[done + i]))
            i++;
        code = isinf(out[done + i]) && hessians[i] + hessian->weight_decay > 0
                   ? ivon_error_set(error, IVON_ERROR_DATA,
                                    "%s: Hessian of '%s' is %g at element %zu: %g / (h + "
                                    "weight_decay) does not fit into f32",
                                    ivon_source_path(source), hessian->name, hessians[i],
                                    first + done + i, scale)
                   : posterior_refuse_hessian(source, hessian, hessians[i], first + done + i,
                                              error);
    }
    free(block);
    return code;
}
