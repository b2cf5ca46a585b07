/* Λ = ∂²L/∂f² of one row: diag p − p pᵀ of classes, else diagonal. */
#include <math.h>
#include <string.h>

#include "metrics/likelihood/likelihood.h"

void likelihood_curvature_column(const struct likelihood *likelihood, const float *p, size_t k,
                                 float *column)
{
    const struct likelihood_kind *kind = likelihood_kind_of(likelihood->kind);
    memset(column, 0, likelihood->k * sizeof *column);
    if (!kind->traits.classes) {
        column[k] = (float)sqrt(kind->curvature(likelihood, p, k));
        return;
    }
    double scale = sqrt((double)p[k]), others = 0;
    for (size_t i = 0; i < likelihood->k; i++) {
        column[i] = (float)(scale * (double)p[i]);
        others += i == k ? 0 : (double)p[i];
    }
    column[k] = (float)(-scale * others); /* p_k − 1, in which small values would be lost */
}

/*
 * Of classes, Λ x = p (x − pᵀx) and Rᵀ x = √p (pᵀx − x) do not see a constant that is added to x.
 * Taken from x less that of the likeliest class m, no sum has p_m, whose distance from 1 a float
 * loses.
 */
static size_t find_likeliest(const float *p, size_t k)
{
    size_t m = 0;
    for (size_t i = 1; i < k; i++)
        m = p[i] > p[m] ? i : m;
    return m;
}

static void apply_to_classes(const float *p, size_t k, float *x)
{
    const double most = (double)x[find_likeliest(p, k)];
    double mean = 0;
    for (size_t i = 0; i < k; i++)
        mean += (double)p[i] * ((double)x[i] - most);
    for (size_t i = 0; i < k; i++)
        x[i] = (float)((double)p[i] * ((double)x[i] - most - mean));
}

void likelihood_curvature_apply(const struct likelihood *likelihood, const float *p, float *x)
{
    const struct likelihood_kind *kind = likelihood_kind_of(likelihood->kind);
    if (kind->traits.classes) {
        apply_to_classes(p, likelihood->k, x);
        return;
    }
    for (size_t i = 0; i < likelihood->k; i++)
        x[i] = (float)(kind->curvature(likelihood, p, i) * (double)x[i]);
}

static void transposed_root_of_classes(const float *p, size_t k, double *x)
{
    const double most = x[find_likeliest(p, k)];
    double mean = 0;
    for (size_t i = 0; i < k; i++)
        mean += (double)p[i] * (x[i] - most);
    for (size_t i = 0; i < k; i++)
        x[i] = sqrt((double)p[i]) * (mean - (x[i] - most));
}

/* R x = p √pᵀx − √p x, of which element m is p_m Σ √p_i x_i − √p_m x_m Σ p_i over the others. */
static void root_of_classes(const float *p, size_t k, double *x)
{
    size_t m = find_likeliest(p, k);
    double sum = 0, others = 0, most = (double)p[m];
    for (size_t i = 0; i < k; i++) {
        sum += i == m ? 0 : sqrt((double)p[i]) * x[i];
        others += i == m ? 0 : (double)p[i];
    }
    const double all = sum + sqrt(most) * x[m], own = most * sum - sqrt(most) * x[m] * others;
    for (size_t i = 0; i < k; i++)
        x[i] = (double)p[i] * all - sqrt((double)p[i]) * x[i];
    x[m] = own;
}

void likelihood_curvature_root(const struct likelihood *likelihood, const float *p, bool transposed,
                               double *x)
{
    const struct likelihood_kind *kind = likelihood_kind_of(likelihood->kind);
    if (kind->traits.classes) {
        (transposed ? transposed_root_of_classes : root_of_classes)(p, likelihood->k, x);
        return;
    }
    for (size_t i = 0; i < likelihood->k; i++)
        x[i] *= sqrt(kind->curvature(likelihood, p, i));
}
