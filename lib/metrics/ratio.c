#include <math.h>

#include "ivon/metrics.h"

void ivon_ratio_add(struct ivon_ratio *ratio, double x, double t)
{
    if (!(t > 0))
        return;
    double n = (double)++ratio->examples;
    double delta_x = x - ratio->mean_x, delta_t = t - ratio->mean_t;
    ratio->x += x;
    ratio->t += t;
    ratio->mean_x += delta_x / n;
    ratio->mean_t += delta_t / n;
    ratio->xx += delta_x * (x - ratio->mean_x);
    ratio->xt += delta_x * (t - ratio->mean_t);
    ratio->tt += delta_t * (t - ratio->mean_t);
}

struct ivon_metric ivon_ratio_metric(const char *name, const struct ivon_ratio *ratio)
{
    double n = (double)ratio->examples, r = ratio->x / ratio->t;
    if (!ratio->examples)
        return (struct ivon_metric){name, NAN, NAN};
    /* Σ (x − r t) is 0, so deviations from the means suffice. */
    double squares = ratio->xx - r * (2 * ratio->xt - r * ratio->tt);
    double error = n > 1 ? sqrt(n / (n - 1) * (squares < 0 ? 0 : squares)) / ratio->t : NAN;
    return (struct ivon_metric){name, r, error};
}
