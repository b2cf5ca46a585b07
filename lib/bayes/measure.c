#include "bayes/measure.h"

#include <math.h>
#include <string.h>

#include "core/error.h"

bool measure_is_loss(const struct measure *measure)
{
    return measure->kind == IVON_MEASURE_LOSS || measure->kind == IVON_MEASURE_TOKEN_LOSS;
}

int measure_check_tokens(const struct outputs *outputs, const char *network,
                         struct ivon_error *error)
{
    return outputs->token_axis
               ? 0
               : ivon_error_set(error, IVON_ERROR_ARGUMENT,
                                "%s: the output has no axis of tokens, each of which was to count "
                                "by itself",
                                network);
}

int measure_check(const struct measure *measure, const struct outputs *outputs, const char *network,
                  struct ivon_error *error)
{
    switch (measure->kind) {
    case IVON_MEASURE_LOSS:
        return 0;
    case IVON_MEASURE_LOGIT:
        return measure->output < outputs->k
                   ? 0
                   : ivon_error_set(error, IVON_ERROR_ARGUMENT,
                                    "%s: there is no output %zu to measure: the network has %zu, "
                                    "counted from 0",
                                    network, measure->output, outputs->k);
    case IVON_MEASURE_MARGIN:
        return !ivon_likelihood_traits(outputs->likelihood)->regression
                   ? 0
                   : ivon_error_set(error, IVON_ERROR_ARGUMENT,
                                    "%s: a margin is between classes, and its outputs are numbers",
                                    network);
    case IVON_MEASURE_TOKEN_LOSS:
        return measure_check_tokens(outputs, network, error);
    default:
        return ivon_error_set(error, IVON_ERROR_ARGUMENT, "%d is not a measure of queries",
                              (int)measure->kind);
    }
}

/* log Σ_{c≠y} exp f_c, and of these the largest f. */
static double measure_others(const float *f, size_t k, size_t y, double *largest, double *sum)
{
    *largest = -INFINITY;
    *sum = 0;
    for (size_t c = 0; c < k; c++)
        *largest = c != y && (double)f[c] > *largest ? (double)f[c] : *largest;
    for (size_t c = 0; c < k; c++)
        *sum += c != y ? exp((double)f[c] - *largest) : 0;
    return *largest + log(*sum);
}

/*
 * The log odds of class y are f_y − log Σ_{c≠y} exp f_c, whose derivatives are 1 at y and the
 * softmax of the others elsewhere; those of an event y f − (1 − y) f.
 */
static double margin_value(const struct likelihood *likelihood, const float *f,
                           const int64_t *labels)
{
    double largest, sum, value = 0;
    if (likelihood->kind != IVON_BERNOULLI)
        return measure_others(f, likelihood->k, (size_t)labels[0], &largest, &sum) -
               (double)f[labels[0]];
    for (size_t c = 0; c < likelihood->k; c++)
        value += labels[c] ? -(double)f[c] : (double)f[c];
    return value;
}

static void margin_adjoint(const struct likelihood *likelihood, const float *f,
                           const int64_t *labels, float *adjoint)
{
    size_t k = likelihood->k;
    double largest, sum;
    if (likelihood->kind == IVON_BERNOULLI) {
        for (size_t c = 0; c < k; c++)
            adjoint[c] = labels[c] ? -1 : 1;
        return;
    }
    size_t y = (size_t)labels[0];
    measure_others(f, k, y, &largest, &sum);
    for (size_t c = 0; c < k; c++)
        adjoint[c] = c == y ? -1 : (float)(exp((double)f[c] - largest) / sum);
}

double measure_value(const struct measure *measure, const struct likelihood *likelihood,
                     const float *f, const struct row_targets *target)
{
    double loss = 0;
    if (measure_is_loss(measure)) {
        likelihood_evaluate(likelihood, 1, f, target, NULL, &loss);
        return loss;
    }
    if (!targets_count(target, likelihood->kind, likelihood->k, 0))
        return 0;
    return measure->kind == IVON_MEASURE_MARGIN ? margin_value(likelihood, f, target->labels)
                                                : -(double)f[measure->output];
}

void measure_adjoint(const struct measure *measure, const struct likelihood *likelihood,
                     const float *f, const struct row_targets *target, float *adjoint)
{
    memset(adjoint, 0, likelihood->k * sizeof *adjoint);
    if (!targets_count(target, likelihood->kind, likelihood->k, 0))
        return;
    if (measure->kind == IVON_MEASURE_MARGIN)
        margin_adjoint(likelihood, f, target->labels, adjoint);
    else
        adjoint[measure->output] = -1;
}
