#include "metrics/likelihood/probabilities.h"

#include <inttypes.h>
#include <math.h>

#include "core/dispatch.h"
#include "core/error.h"
#include "ivon/predict.h"
#include "metrics/likelihood/likelihood.h"
#include "metrics/likelihood/targets.h"

/* The most by which a mean of probabilities in binary32 may exceed 1. */
static const float excess = 1e-5f;

int probabilities_check(const float *probabilities, size_t count, uint64_t row,
                        struct ivon_error *error)
{
    for (size_t i = 0; i < count; i++)
        if (!(probabilities[i] >= 0 && probabilities[i] <= 1 + excess))
            return ivon_error_set(error, IVON_ERROR_DATA,
                                  "row %" PRIu64 ": probability %zu is %g, expected 0 to 1", row, i,
                                  (double)probabilities[i]);
    return 0;
}

int probabilities_check_classes(const float *probabilities, size_t count, uint64_t row,
                                struct ivon_error *error)
{
    static const double tolerance = 0.05;
    double sum = 0;
    int code = probabilities_check(probabilities, count, row, error);
    for (size_t i = 0; i < count; i++)
        sum += (double)probabilities[i];
    if (code || fabs(sum - 1) <= tolerance)
        return code;
    return ivon_error_set(error, IVON_ERROR_DATA,
                          "row %" PRIu64 ": the probabilities of %zu classes have the sum %g, "
                          "expected 1",
                          row, count, sum);
}

IVON_DISPATCH static bool contains(const float *values, float value, size_t count)
{
    int32_t found = 0;
    for (size_t i = 0; i < count; i++)
        found |= values[i] == value;
    return found;
}

size_t probabilities_best(const float *probabilities, size_t count)
{
    enum { BLOCK = 64 };
    float largest = likelihood_largest(probabilities, count);
    size_t first = 0;
    while (first + BLOCK < count && !contains(probabilities + first, largest, BLOCK))
        first += BLOCK;
    for (size_t i = first; i < count; i++)
        if (probabilities[i] == largest)
            return i;
    return 0;
}

double probabilities_loss(enum ivon_likelihood likelihood, const float *p, size_t k,
                          const int64_t *targets)
{
    double loss = 0;
    if (ivon_likelihood_traits(likelihood)->classes)
        return 0 - log(probability_clamp(p[targets[0]])); /* no -0 */
    for (size_t i = 0; i < k; i++) {
        double probability = probability_clamp(p[i]);
        loss -= targets[i] ? log(probability) : log1p(-probability);
    }
    return loss / (double)k;
}

int ivon_probabilities_losses(enum ivon_likelihood likelihood, uint64_t first, size_t rows,
                              size_t outputs, const float *probabilities, const int64_t *labels,
                              int64_t ignored, double *losses, struct ivon_error *error)
{
    const struct row_targets targets = {.labels = labels, .ignored = ignored};
    size_t step = ivon_likelihood_targets(likelihood, outputs);
    int code = targets_check(&targets, likelihood, outputs, 1, NULL, first, rows, error);
    for (size_t i = 0; i < rows && !code; i++)
        losses[i] = targets_count(&targets, likelihood, outputs, i)
                        ? probabilities_loss(likelihood, probabilities + i * outputs, outputs,
                                             labels + i * step)
                        : NAN;
    return code;
}

void ivon_probabilities_describe(enum ivon_likelihood likelihood, size_t rows, size_t outputs,
                                 const float *probabilities, int64_t *prediction,
                                 float *max_probability, float *entropy)
{
    const struct likelihood_kind *kind = likelihood_kind_of(likelihood);
    size_t step = ivon_likelihood_targets(likelihood, outputs);
    for (size_t i = 0; i < rows; i++)
        entropy[i] = (float)kind->describe(probabilities + i * outputs, outputs,
                                           prediction + i * step, &max_probability[i]);
}

int ivon_probabilities_add(float *sum, const float *probabilities, double weight, size_t rows,
                           size_t outputs, uint64_t first, struct ivon_error *error)
{
    for (size_t i = 0; i < rows; i++) {
        int code = probabilities_check(probabilities + i * outputs, outputs, first + i, error);
        if (code)
            return code;
    }
    for (size_t i = 0; i < rows * outputs; i++)
        sum[i] += (float)(weight * (double)probabilities[i]);
    return 0;
}
