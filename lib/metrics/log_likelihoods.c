#include "metrics/log_likelihoods.h"

#include <inttypes.h>
#include <math.h>

#include "core/error.h"

int log_likelihoods_check(const struct ivon_log_likelihoods *block, double exponent,
                          struct ivon_error *error)
{
    if (!(exponent >= 0) || isinf(exponent))
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "exponent %g of the likelihoods, expected 0 or more", exponent);
    if (!block->samples)
        return ivon_error_set(error, IVON_ERROR_ARGUMENT, "0 samples, expected 1 or more");
    if (block->samples > PTRDIFF_MAX / (2 * sizeof(double)))
        return ivon_error_memory(error);
    const double *values = block->values;
    for (size_t s = 0; s < block->samples; s++, values += block->examples)
        for (size_t i = 0; i < block->examples; i++)
            if (!(values[i] < INFINITY))
                return ivon_error_set(error, IVON_ERROR_DATA,
                                      "row %" PRIu64 ": log-likelihood %g in sample %zu, expected "
                                      "a finite one or -inf",
                                      block->first + i, values[i], s);
    return 0;
}

void log_likelihoods_copy(const struct ivon_log_likelihoods *block, size_t i, double *values)
{
    for (size_t s = 0; s < block->samples; s++)
        values[s] = block->values[s * block->examples + i];
}

double log_sum_exp(const double *values, size_t count)
{
    double most = -INFINITY, sum = 0;
    for (size_t i = 0; i < count; i++)
        most = values[i] > most ? values[i] : most;
    if (isinf(most))
        return most;
    for (size_t i = 0; i < count; i++)
        sum += exp(values[i] - most);
    return most + log(sum);
}
