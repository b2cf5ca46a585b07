#include "bayes/merge/kernel.h"

#include <math.h>

#include "core/dispatch.h"

IVON_DISPATCH void merge_accumulate(struct merge_sums *restrict sums,
                                    const double *restrict base_mean, const double *restrict mean,
                                    const double *restrict hessian, double alpha, double a,
                                    double b, size_t count)
{
    if (!hessian) {
        for (size_t i = 0; i < count; i++)
            sums->displacement[i] += alpha * (mean[i] - base_mean[i]);
        return;
    }
    double slope = alpha * a, offset = alpha * b;
    for (size_t i = 0; i < count; i++) {
        double displacement = mean[i] - base_mean[i];
        double weight = slope * hessian[i] + offset;
        sums->displacement[i] += alpha * displacement;
        sums->weighted[i] += weight * displacement;
        sums->precision[i] += weight;
    }
}

IVON_DISPATCH void merge_by_precision(double *restrict mean, double *restrict precision,
                                      const double *restrict base_mean,
                                      const double *restrict base_precision, double base_scale,
                                      const struct merge_sums *restrict sums, double s,
                                      size_t count)
{
    for (size_t i = 0; i < count; i++) {
        double base = base_scale * base_precision[i];
        double total = base + s * sums->precision[i];
        precision[i] = total;
        mean[i] = base_mean[i] + s * (base * sums->displacement[i] + sums->weighted[i]) / total;
    }
}

IVON_DISPATCH void merge_linearly(double *restrict mean, double *restrict precision,
                                  const double *restrict base_mean,
                                  const double *restrict base_precision, double base_scale,
                                  const struct merge_sums *restrict sums, double s, double factor,
                                  size_t count)
{
    for (size_t i = 0; i < count; i++) {
        precision[i] = base_scale * base_precision[i] + s * sums->precision[i];
        mean[i] = base_mean[i] + factor * sums->displacement[i];
    }
}

IVON_DISPATCH void merge_compute_precision(double *restrict out, const double *restrict hessian,
                                           double scale, double delta, size_t count)
{
    for (size_t i = 0; i < count; i++)
        out[i] = scale * (hessian[i] + delta);
}

IVON_DISPATCH bool merge_any_not_positive(const double *values, size_t count)
{
    int any = 0;
    for (size_t i = 0; i < count; i++)
        any |= !(values[i] > 0);
    return any;
}

IVON_DISPATCH bool merge_any_not_below(const double *values, double bound, size_t count)
{
    int any = 0;
    for (size_t i = 0; i < count; i++)
        any |= !(fabs(values[i]) < bound);
    return any;
}

IVON_DISPATCH void merge_store_hessian(float *restrict out, const double *restrict precision,
                                       double ess, double delta, size_t count)
{
    int any = 0;
    for (size_t i = 0; i < count; i++) {
        out[i] = (float)(precision[i] / ess - delta);
        any |= !((double)out[i] + delta > 0);
    }
    if (!any)
        return;
    for (size_t i = 0; i < count; i++)
        while (precision[i] > 0 && !((double)out[i] + delta > 0))
            out[i] = nextafterf(out[i], INFINITY);
}
