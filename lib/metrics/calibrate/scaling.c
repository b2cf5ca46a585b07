/*
 * Scaling of logarithms of probabilities. Both are convex: with z = β l, l = log p, the mean NLL
 * has the derivatives E_q[l] − l_y and Var_q[l] by β = 1/T, q = softmax(z); with z = w l + b, one
 * number of either for each class, those of the outputs are q − onehot(y) and diag q − q qᵀ.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "metrics/calibrate/calibration.h"

static const double scale_min = 1.0 / 64, scale_max = 64;
static const double ridge = 0.01; /* of the sum over rows: a normal prior's precision */

double calibration_log(float p)
{
    return log(p < 0x1p-126f ? 0x1p-126 : p > 1 ? 1 : (double)p);
}

/* The mean of E_q[l] − l_y over rows; *slope receives that of Var_q[l]. */
static double temperature_derivative(const double *logs, const int64_t *labels, size_t n, size_t k,
                                     double beta, double *slope)
{
    double gradient = 0, curvature = 0;
    for (size_t i = 0; i < n; i++) {
        const double *l = logs + i * k;
        double largest = -INFINITY, total = 0, mean = 0, square = 0;
        for (size_t c = 0; c < k; c++)
            largest = fmax(largest, l[c]);
        for (size_t c = 0; c < k; c++) {
            double below = l[c] - largest, weight = exp(beta * below);
            total += weight;
            mean += weight * below;
            square += weight * below * below;
        }
        mean /= total;
        gradient += mean - (l[labels[i]] - largest);
        curvature += square / total - mean * mean;
    }
    *slope = curvature / (double)n;
    return gradient / (double)n;
}

/* Newton's method between bounds that every step narrows. */
double scaling_fit_temperature(const double *logs, const int64_t *labels, size_t n, size_t k)
{
    double low = scale_min, high = scale_max, beta = 1, slope;
    /* Rounding leaves as much of a derivative that is zero, of numbers up to 126 log 2. */
    if (fabs(temperature_derivative(logs, labels, n, k, 1, &slope)) <= 0x1p-44 && slope <= 0x1p-44)
        return 1; /* every temperature close to 1 is as good */
    if (temperature_derivative(logs, labels, n, k, low, &slope) >= 0)
        return 1 / low;
    if (temperature_derivative(logs, labels, n, k, high, &slope) <= 0)
        return 1 / high;
    for (int i = 0; i < 100; i++) {
        double gradient = temperature_derivative(logs, labels, n, k, beta, &slope);
        if (gradient > 0)
            high = beta;
        else
            low = beta;
        double next = beta - gradient / slope;
        if (!(next > low && next < high))
            next = sqrt(low * high);
        double change = fabs(next - beta);
        beta = next;
        if (change <= 0x1p-46 * beta)
            break;
    }
    return 1 / beta;
}

/* Vector scaling: parameters are w, then b; gradients and directions likewise. */
struct vector_fit {
    const double *logs;
    const int64_t *labels;
    size_t n, k;
    double *q;                                /* n × K, softmax of the outputs */
    double *parameters, *gradient, *diagonal; /* 2 K each, as the next */
    double *direction, *residual, *product, *conjugate, *trial;
};

/* The objective at parameters; q receives the probabilities. */
static double vector_objective(struct vector_fit *fit, const double *parameters)
{
    size_t k = fit->k;
    const double *w = parameters, *b = parameters + k;
    double sum = 0, prior = 0;
    for (size_t i = 0; i < fit->n; i++) {
        const double *l = fit->logs + i * k;
        double *q = fit->q + i * k, largest = -INFINITY, total = 0;
        for (size_t c = 0; c < k; c++) {
            q[c] = w[c] * l[c] + b[c];
            largest = fmax(largest, q[c]);
        }
        double truth = q[fit->labels[i]] - largest;
        for (size_t c = 0; c < k; c++)
            total += q[c] = exp(q[c] - largest);
        for (size_t c = 0; c < k; c++)
            q[c] /= total;
        sum += log(fmax(total, 1)) - truth; /* the largest is 1 */
    }
    for (size_t c = 0; c < k; c++)
        prior += (w[c] - 1) * (w[c] - 1) + b[c] * b[c];
    return sum + ridge / 2 * prior;
}

/* The gradient, and the diagonal of the Hessian, at the parameters whose probabilities q are. */
static void vector_differentiate(struct vector_fit *fit)
{
    size_t k = fit->k;
    for (size_t c = 0; c < k; c++) {
        fit->gradient[c] = ridge * (fit->parameters[c] - 1);
        fit->gradient[k + c] = ridge * fit->parameters[k + c];
        fit->diagonal[c] = fit->diagonal[k + c] = ridge;
    }
    for (size_t i = 0; i < fit->n; i++)
        for (size_t c = 0; c < k; c++) {
            double l = fit->logs[i * k + c], q = fit->q[i * k + c];
            double residual = q - ((size_t)fit->labels[i] == c), variance = q * (1 - q);
            fit->gradient[c] += residual * l;
            fit->gradient[k + c] += residual;
            fit->diagonal[c] += variance * l * l;
            fit->diagonal[k + c] += variance;
        }
}

static void vector_product(const struct vector_fit *fit, const double *x, double *out)
{
    size_t k = fit->k;
    for (size_t c = 0; c < 2 * k; c++)
        out[c] = ridge * x[c];
    for (size_t i = 0; i < fit->n; i++) {
        const double *l = fit->logs + i * k, *q = fit->q + i * k;
        double mean = 0;
        for (size_t c = 0; c < k; c++)
            mean += q[c] * (x[c] * l[c] + x[k + c]);
        for (size_t c = 0; c < k; c++) {
            double change = q[c] * (x[c] * l[c] + x[k + c] - mean);
            out[c] += change * l[c];
            out[k + c] += change;
        }
    }
}

static double vector_dot(const double *a, const double *b, size_t count)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += a[i] * b[i];
    return sum;
}

/* Solves Hessian · direction = −gradient by conjugate gradients, preconditioned by the diagonal. */
static void vector_solve(struct vector_fit *fit)
{
    size_t count = 2 * fit->k;
    double energy = 0, first;
    for (size_t i = 0; i < count; i++) {
        fit->direction[i] = 0;
        fit->residual[i] = -fit->gradient[i];
        fit->conjugate[i] = fit->residual[i] / fit->diagonal[i];
        energy += fit->residual[i] * fit->conjugate[i];
    }
    first = energy;
    for (size_t step = 0; step < 4 * count + 20 && energy > 1e-24 * first; step++) {
        vector_product(fit, fit->conjugate, fit->product);
        double length = energy / vector_dot(fit->conjugate, fit->product, count), next = 0;
        for (size_t i = 0; i < count; i++) {
            fit->direction[i] += length * fit->conjugate[i];
            fit->residual[i] -= length * fit->product[i];
            next += fit->residual[i] * fit->residual[i] / fit->diagonal[i];
        }
        for (size_t i = 0; i < count; i++)
            fit->conjugate[i] = fit->residual[i] / fit->diagonal[i] +
                                next / energy * fit->conjugate[i];
        energy = next;
    }
}

/* Newton's steps, halved until the objective falls enough (Armijo). */
static void vector_minimise(struct vector_fit *fit)
{
    size_t count = 2 * fit->k;
    double value = vector_objective(fit, fit->parameters);
    for (int step = 0; step < 200; step++) {
        vector_differentiate(fit);
        vector_solve(fit);
        double descent = -vector_dot(fit->gradient, fit->direction, count), length = 1, next;
        if (!(descent > 1e-18 * (1 + value)))
            return;
        do {
            for (size_t i = 0; i < count; i++)
                fit->trial[i] = fit->parameters[i] + length * fit->direction[i];
            next = vector_objective(fit, fit->trial);
            length /= 2;
        } while (!(next <= value - length / 2 * descent) && length > 0x1p-30);
        if (!(next < value) && length <= 0x1p-30)
            return; /* rounding alone decides */
        memcpy(fit->parameters, fit->trial, count * sizeof *fit->parameters);
        value = next;
    }
}

int scaling_fit_vector(const double *logs, const int64_t *labels, size_t n, size_t k,
                       double *weights, double *biases, struct ivon_error *error)
{
    enum { VECTORS = 8 };
    double *q = calloc(n * k, sizeof *q), *vectors = calloc(2 * k, VECTORS * sizeof *vectors);
    int code = q && vectors ? 0 : ivon_error_memory(error);
    if (!code) {
        struct vector_fit fit = {.logs = logs, .labels = labels, .n = n, .k = k, .q = q};
        double **const places[VECTORS] = {&fit.parameters, &fit.gradient, &fit.diagonal,
                                          &fit.direction,  &fit.residual, &fit.product,
                                          &fit.conjugate,  &fit.trial};
        for (size_t i = 0; i < VECTORS; i++)
            *places[i] = vectors + i * 2 * k;
        memcpy(fit.parameters, weights, k * sizeof *weights);
        memcpy(fit.parameters + k, biases, k * sizeof *biases);
        vector_minimise(&fit);
        memcpy(weights, fit.parameters, k * sizeof *weights);
        memcpy(biases, fit.parameters + k, k * sizeof *biases);
    }
    free(q);
    free(vectors);
    return code;
}
