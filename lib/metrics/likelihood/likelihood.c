#include "metrics/likelihood/likelihood.h"

#include <math.h>
#include <string.h>

#include "core/dispatch.h"
#include "core/vector_math.h"

void likelihood_evaluate(const struct likelihood *likelihood, size_t rows, const float *f,
                         const struct row_targets *targets, float *p, double *loss)
{
    const struct likelihood_kind *kind = likelihood_kind_of(likelihood->kind);
    size_t k = likelihood->k;
    for (size_t i = 0; i < rows; i++) {
        const struct row_targets own = targets_from(targets, likelihood->kind, k, i);
        bool counts = targets_count(&own, likelihood->kind, k, 0);
        double value = kind->loss(likelihood, f + i * k, &own, counts, p ? p + i * k : NULL);
        if (loss)
            loss[i] = counts ? value : 0;
    }
}

void likelihood_residual(const struct likelihood *likelihood, size_t rows, const float *p,
                         const struct row_targets *targets, float *e)
{
    const struct likelihood_kind *kind = likelihood_kind_of(likelihood->kind);
    size_t k = likelihood->k;
    if (e != p)
        memcpy(e, p, rows * k * sizeof *e);
    for (size_t i = 0; i < rows; i++) {
        const struct row_targets own = targets_from(targets, likelihood->kind, k, i);
        if (targets_count(&own, likelihood->kind, k, 0))
            kind->residual(likelihood, &own, e + i * k);
        else
            memset(e + i * k, 0, k * sizeof *e);
    }
}

IVON_DISPATCH bool likelihood_is_finite(const float *values, size_t count)
{
    uint32_t found = 0;
    for (size_t i = 0; i < count; i++)
        found |= vector_bits(vector_abs(values[i])) > 0x7f7fffff;
    return !found;
}

float likelihood_error(const struct likelihood *likelihood, const float *f,
                       const struct row_targets *target, int64_t *prediction)
{
    const struct likelihood_kind *kind = likelihood_kind_of(likelihood->kind);
    bool counts = targets_count(target, likelihood->kind, likelihood->k, 0);
    float error = kind->error(likelihood, f, target, counts, prediction);
    return counts && !likelihood_is_finite(f, likelihood->k) ? 1 : error;
}

bool likelihood_is_known(const struct likelihood *likelihood)
{
    return !likelihood_kind_of(likelihood->kind)->traits.noise || likelihood->noise_std > 0;
}

IVON_DISPATCH float likelihood_largest(const float *values, size_t count)
{
    int32_t largest = INT32_MIN;
    for (size_t i = 0; i < count; i++)
        largest = vector_larger(largest, values[i]);
    return vector_ordered_float(largest);
}

IVON_DISPATCH static void likelihood_add_floats(float *sum, const float *values, float scale,
                                                size_t count)
{
    for (size_t i = 0; i < count; i++)
        sum[i] += scale * values[i];
}

IVON_DISPATCH static void likelihood_add_doubles(double *sum, const float *values, float scale,
                                                 size_t count)
{
    for (size_t i = 0; i < count; i++)
        sum[i] += (double)(scale * values[i]);
}

void likelihood_add_scaled(const struct likelihood_sums *sums, size_t at, const float *values,
                           float scale, size_t count)
{
    if (sums->total)
        likelihood_add_doubles(sums->total + at, values, scale, count);
    else
        likelihood_add_floats(sums->probabilities + at, values, scale, count);
}

double likelihood_uniform(double normal)
{
    return 0.5 * erfc(-normal / sqrt(2.0));
}

void likelihood_add_log(double *log_scale, double *sum, double value)
{
    if (value > *log_scale) {
        *sum = *sum * exp(*log_scale - value) + 1;
        *log_scale = value;
    } else if (value > -INFINITY) {
        *sum += exp(value - *log_scale);
    }
}
