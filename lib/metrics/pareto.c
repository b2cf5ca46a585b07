#include "metrics/pareto.h"

#include <math.h>

/* Returns the k that maximizes the likelihood for a given θ = −k/σ. */
static double profile_shape(double theta, const double *sorted, size_t count)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += log1p(-theta * sorted[i]);
    return sum / (double)count;
}

/* Zhang & Stephens' estimate of θ: its mean under the profile likelihood, over quantiles of a prior
   that is scaled by the largest value and the first quartile of the data. */
static double estimate_theta(const double *sorted, size_t count)
{
    double size = (double)count;
    size_t points = 30 + (size_t)sqrt(size);
    double largest = sorted[count - 1], quartile = sorted[(count + 2) / 4 - 1];
    double max_likelihood = -INFINITY, weights = 0, sum = 0;
    for (size_t j = 0; j < points; j++) {
        double spread = 1 - sqrt((double)points / ((double)j + 0.5));
        double theta = 1 / largest + spread / (3 * quartile);
        double k = profile_shape(theta, sorted, count);
        double likelihood = size * (log(-theta / k) - k - 1);
        if (likelihood > max_likelihood) {
            double scale = exp(max_likelihood - likelihood);
            weights *= scale;
            sum *= scale;
            max_likelihood = likelihood;
        }
        double weight = exp(likelihood - max_likelihood);
        weights += weight;
        sum += weight * theta;
    }
    return sum / weights;
}

struct pareto pareto_fit(const double *sorted, size_t count)
{
    enum { PRIOR = 10 }; /* the weight of k = ½, in observations */
    double theta = estimate_theta(sorted, count), size = (double)count;
    double k = profile_shape(theta, sorted, count), sigma = -k / theta;
    k = (k * size + 0.5 * PRIOR) / (size + PRIOR);
    if (!isfinite(k) || !(sigma > 0))
        k = INFINITY;
    return (struct pareto){k, sigma};
}

double pareto_quantile(const struct pareto *pareto, double p)
{
    double exponential = -log1p(-p); /* the quantile for k = 0 and σ = 1 */
    double k = pareto->k;
    return pareto->sigma * (k == 0 ? exponential : expm1(k * exponential) / k);
}
