/*
 * Removing an example also removes its curvature: one Newton step of the retraining moves its
 * outputs by Δf = (I − V Λ)^(−1) V e, V = ρ J Σ Jᵀ (the Gauss-Newton form of the jackknife; Koh &
 * Liang 2017, arXiv:1703.04730; Giordano et al. 2019, arXiv:1806.00550). With Λ = R Rᵀ
 *
 *   Δf = V e + V R z,   (I − Rᵀ V R) z = Rᵀ V e
 *
 * by conjugate gradients for all examples of a tile at once, a backward and a tangent pass each
 * step. I − Rᵀ V R is positive where Σ^(−1) holds the example's own curvature; where it is not,
 * the example keeps V e, and is counted.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bayes/sensitivity/private.h"
#include "core/error.h"

/* Of a tile's examples, wide numbers each. */
struct leverage {
    double *residual, *direction, *product, *squares; /* squares: one for each example */
    float *moved;                                     /* V R z */
    bool *going;
};

int sensitivity_leverage_new(struct leverage **out, size_t tile, size_t wide,
                             struct ivon_error *error)
{
    struct leverage *leverage = calloc(1, sizeof *leverage);
    if (!leverage)
        return ivon_error_memory(error);
    leverage->residual = calloc(tile * wide, sizeof *leverage->residual);
    leverage->direction = calloc(tile * wide, sizeof *leverage->direction);
    leverage->product = calloc(tile * wide, sizeof *leverage->product);
    leverage->squares = calloc(tile, sizeof *leverage->squares);
    leverage->moved = calloc(tile * wide, sizeof *leverage->moved);
    leverage->going = calloc(tile, sizeof *leverage->going);
    *out = leverage;
    if (leverage->residual && leverage->direction && leverage->product && leverage->squares &&
        leverage->moved && leverage->going)
        return 0;
    sensitivity_leverage_free(leverage);
    *out = NULL;
    return ivon_error_memory(error);
}

void sensitivity_leverage_free(struct leverage *leverage)
{
    if (!leverage)
        return;
    free(leverage->residual);
    free(leverage->direction);
    free(leverage->product);
    free(leverage->squares);
    free(leverage->moved);
    free(leverage->going);
    free(leverage);
}

void sensitivity_multiply_root(const struct pass *pass, size_t e, bool transposed, double *x)
{
    const struct ivon_sensitivity *sensitivity = pass->sensitivity;
    const struct likelihood *likelihood = &sensitivity->likelihood;
    size_t tokens = sensitivity->outputs.tokens, k = sensitivity->outputs.k;
    for (size_t t = 0; t < tokens; t++) {
        size_t row = e * tokens + t;
        if (targets_count(&pass->targets, likelihood->kind, k, row))
            likelihood_curvature_root(likelihood, pass->worker->outputs + row * k, transposed,
                                      x + t * k);
        else
            memset(x + t * k, 0, k * sizeof *x);
    }
}

double sensitivity_dot(const double *a, const double *b, size_t count)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += a[i] * b[i];
    return sum;
}

/* Returns V R direction of all examples; null where nothing moves. */
static const float *find_product(const struct pass *pass, const struct leverage *leverage,
                                 size_t wide)
{
    struct sensitivity_worker *worker = pass->worker;
    size_t tile = pass->sensitivity->runner.tile;
    memset(worker->adjoint, 0, tile * wide * sizeof *worker->adjoint);
    for (size_t e = 0; e < pass->count; e++) {
        double *x = leverage->product + e * wide;
        memcpy(x, leverage->direction + e * wide, wide * sizeof *x);
        sensitivity_multiply_root(pass, e, false, x);
        for (size_t i = 0; i < wide && leverage->going[e]; i++)
            worker->adjoint[e * wide + i] = (float)x[i];
    }
    net_derivative_backward(pass->derivative, worker->adjoint, NULL);
    return covariance_tangent(worker->covariance, pass->count);
}

/* One step of one example; returns whether another one is needed. */
static bool step_example(const struct pass *pass, const struct leverage *leverage, size_t e,
                         const float *product, size_t wide, double enough)
{
    double *residual = leverage->residual + e * wide, *direction = leverage->direction + e * wide;
    double *image = leverage->product + e * wide;
    for (size_t i = 0; i < wide; i++)
        image[i] = (double)product[e * wide + i];
    sensitivity_multiply_root(pass, e, true, image);
    for (size_t i = 0; i < wide; i++)
        image[i] = direction[i] - image[i];
    double curvature = sensitivity_dot(direction, image, wide);
    if (!(curvature > 0)) {
        memset(leverage->moved + e * wide, 0, wide * sizeof *leverage->moved);
        pass->worker->outside++;
        return false;
    }
    double step = leverage->squares[e] / curvature;
    for (size_t i = 0; i < wide; i++) {
        leverage->moved[e * wide + i] += (float)(step * (double)product[e * wide + i]);
        residual[i] -= step * image[i];
    }
    double squares = sensitivity_dot(residual, residual, wide);
    for (size_t i = 0; i < wide; i++)
        direction[i] = residual[i] + squares / leverage->squares[e] * direction[i];
    leverage->squares[e] = squares;
    return squares > enough;
}

void sensitivity_leverage_apply(const struct pass *pass, float *deviation)
{
    const double TOLERANCE = 1e-5; /* of the right side: products are in floats */
    const struct leverage *leverage = pass->worker->leverage;
    size_t wide = pass->sensitivity->outputs.tokens * pass->sensitivity->outputs.k;
    size_t steps = wide + 2, going = 0;
    double *enough = pass->worker->enough;
    memset(leverage->moved, 0, pass->count * wide * sizeof *leverage->moved);
    for (size_t e = 0; e < pass->count; e++) {
        double *residual = leverage->residual + e * wide;
        for (size_t i = 0; i < wide; i++)
            residual[i] = (double)deviation[e * wide + i];
        sensitivity_multiply_root(pass, e, true, residual);
        memcpy(leverage->direction + e * wide, residual, wide * sizeof *residual);
        leverage->squares[e] = sensitivity_dot(residual, residual, wide);
        enough[e] = TOLERANCE * TOLERANCE * leverage->squares[e];
        leverage->going[e] = leverage->squares[e] > 0;
        going += leverage->going[e];
    }
    for (size_t s = 0; s < steps && going; s++) {
        const float *product = find_product(pass, leverage, wide);
        going = 0;
        for (size_t e = 0; e < pass->count && product; e++) {
            if (leverage->going[e])
                leverage->going[e] = step_example(pass, leverage, e, product, wide, enough[e]);
            going += leverage->going[e];
        }
    }
    for (size_t i = 0; i < pass->count * wide; i++)
        deviation[i] += leverage->moved[i];
}
