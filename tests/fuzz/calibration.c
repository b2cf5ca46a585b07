/* Bytes as a calibration, which is then applied, printed, and read again. */
#include <math.h>
#include <stdlib.h>

#include "ivon/calibrate.h"
#include "tests/fuzz/input.h"

enum { OUTPUTS_MAX = 64 };

/* Any predictions become probabilities, sets that count what they hold, intervals in order. */
static void apply(const struct ivon_calibration *calibration, size_t k)
{
    float p[OUTPUTS_MAX], one[OUTPUTS_MAX], out[OUTPUTS_MAX], upper[OUTPUTS_MAX];
    int64_t set[OUTPUTS_MAX], size = 0, sum = 0;
    for (size_t c = 0; c < k; c++)
        p[c] = c ? ldexpf(1, -(int)c) : 0, one[c] = 1;
    p[k - 1] += k > 1 ? p[k - 1] : 1; /* the sum is 1 */
    if (ivon_likelihood_traits(ivon_calibration_summary(calibration).likelihood)->regression) {
        assert(!ivon_calibration_intervals(calibration, 0, 1, p, one, out, upper, NULL));
        for (size_t c = 0; c < k; c++)
            assert(out[c] <= p[c] && p[c] <= upper[c]);
        return;
    }
    assert(!ivon_calibration_apply(calibration, 0, 1, p, out, NULL));
    for (size_t c = 0; c < k; c++)
        assert(out[c] >= 0 && out[c] <= 1);
    if (ivon_calibration_sets(calibration, 7, 1, out, set, &size, NULL))
        return;
    for (size_t c = 0; c < k; c++)
        sum += set[c];
    assert(sum == size);
}

int fuzz_one(const uint8_t *data, size_t size)
{
    struct ivon_calibration *calibration = NULL, *again = NULL;
    struct ivon_error error = {0};
    char *text = NULL;
    int code = ivon_calibration_parse(&calibration, "input", (const char *)data, size, &error);
    assert(!code || *error.message);
    if (code)
        return -1;
    size_t k = ivon_calibration_summary(calibration).outputs;
    if (k <= OUTPUTS_MAX)
        apply(calibration, k);
    assert(!ivon_calibration_print(calibration, &text, NULL));
    assert(!ivon_calibration_parse(&again, "text", text, strlen(text), &error));
    free(text);
    ivon_calibration_free(calibration);
    ivon_calibration_free(again);
    return 0;
}
