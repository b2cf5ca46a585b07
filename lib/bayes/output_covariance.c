#include "bayes/output_covariance.h"

#include <string.h>

static void output_covariance_backward(const struct output_covariance *of, size_t k)
{
    memset(of->adjoint, 0, of->tile * of->width * sizeof *of->adjoint);
    for (size_t e = 0; e < of->tile; e++)
        of->adjoint[e * of->width + k] = 1;
    net_derivative_backward(of->derivative, of->adjoint, NULL);
}

const double *output_variance(const struct output_covariance *of, size_t k, size_t count)
{
    output_covariance_backward(of, k);
    covariance_quadratic(of->covariance, count, of->quadratic);
    return of->quadratic;
}

const float *output_covariance_column(const struct output_covariance *of, size_t k, size_t count)
{
    output_covariance_backward(of, k);
    return covariance_tangent(of->covariance, count);
}
