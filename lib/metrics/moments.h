/* A mean and its standard error, from values that come one by one. */
#ifndef METRICS_MOMENTS_H
#define METRICS_MOMENTS_H

#include <math.h>
#include <stddef.h>

/* Zero-initialised, it is empty. An infinite value makes the mean infinite and its error NaN, which
   is why the sum stands beside the running mean. */
struct moments {
    size_t count;
    double sum;
    double mean, square; /* Σ (value − mean)² (Welford, Technometrics 1962) */
};

/* Adds one value `times` times. */
static inline void moments_add(struct moments *moments, double value, size_t times)
{
    if (!times)
        return;
    double weight = (double)times, delta = value - moments->mean;
    moments->count += times;
    moments->sum += weight * value;
    moments->mean += delta * (weight / (double)moments->count);
    moments->square += weight * delta * (value - moments->mean);
}

static inline double moments_mean(const struct moments *moments)
{
    return moments->count ? moments->sum / (double)moments->count : NAN;
}

/* Of the mean, squared. */
static inline double moments_variance(const struct moments *moments)
{
    double count = (double)moments->count;
    return moments->count > 1 ? moments->square / (count - 1) / count : NAN;
}

#endif
