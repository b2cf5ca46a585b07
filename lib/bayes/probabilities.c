#include "bayes/probabilities.h"

#include <inttypes.h>

#include "core/error.h"

/* What a mean of probabilities in binary32 may lie above 1. */
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

size_t probabilities_best(const float *probabilities, size_t count)
{
    size_t best = 0;
    for (size_t i = 1; i < count; i++)
        if (probabilities[i] > probabilities[best])
            best = i;
    return best;
}
