/* Standard errors of metrics against the spread of replications. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "ivon/metrics.h"

enum { EXAMPLES = 300, OUTPUTS_MAX = 8, METRICS_MAX = 7, REPLICATIONS = 2000 };

static float p[EXAMPLES * OUTPUTS_MAX];
static int64_t y[EXAMPLES * OUTPUTS_MAX];

static uint64_t state = 1;

static double uniform(void)
{
    state = state * 6364136223846793005ULL + 1442695040888963407ULL;
    return (double)(state >> 11) * 0x1p-53;
}

struct replications {
    size_t count; /* of metrics */
    struct {
        const char *name;
        double sum, square, variance;
    } metrics[METRICS_MAX];
};

static struct ivon_metrics *new_metrics(enum ivon_likelihood likelihood, size_t outputs)
{
    /* Four bins: .5 is a boundary, so that no bin joins gaps of both signs, and a gap of .25 is
       four standard deviations of a bin's mean or more. */
    struct ivon_metrics_options options = {.size = sizeof options, likelihood, outputs, 4};
    struct ivon_metrics *metrics = NULL;
    assert_int_equal(ivon_metrics_new(&metrics, &options, NULL), 0);
    return metrics;
}

/* Takes the values of one replication, and frees it. */
static void replicate(struct replications *replications, struct ivon_metrics *metrics)
{
    const struct ivon_metric *values = ivon_metrics_values(metrics, &replications->count);
    for (size_t i = 0; i < replications->count; i++) {
        replications->metrics[i].name = values[i].name;
        replications->metrics[i].sum += values[i].value;
        replications->metrics[i].square += values[i].value * values[i].value;
        replications->metrics[i].variance += values[i].standard_error * values[i].standard_error;
    }
    ivon_metrics_free(metrics);
}

/*
 * The variance of 2,000 replications is known to √(2/2000) = 3.2 %, so their standard deviation to
 * 1.6 %; the mean of the estimated variances is more exact by far. Four of these are 6.4 %. To that
 * add 1 % for what the delta method leaves out, of order 1/n with n = 300.
 */
static void check_replications(const struct replications *replications)
{
    for (size_t i = 0; i < replications->count; i++) {
        const char *name = replications->metrics[i].name;
        double mean = replications->metrics[i].sum / REPLICATIONS;
        double square = replications->metrics[i].square / REPLICATIONS;
        double spread = sqrt((square - mean * mean) * REPLICATIONS / (REPLICATIONS - 1));
        double ratio = sqrt(replications->metrics[i].variance / REPLICATIONS) / spread;
        print_message("%s: standard error %.3f of the replications' spread\n", name, ratio);
        if (!(fabs(ratio - 1) < 0.064 + 0.01))
            fail_msg("%s: the standard error is %g of the spread", name, ratio);
    }
}

/* Two classes: the more probable one has u, uniform in (.5, 1), and is right with u − .25 only, so
   that every bin has a gap of .25. */
static void categorical(void **unused)
{
    (void)unused;
    struct replications replications = {0};
    for (int r = 0; r < REPLICATIONS; r++) {
        struct ivon_metrics *metrics = new_metrics(IVON_CATEGORICAL, 2);
        for (size_t i = 0; i < EXAMPLES; i++) {
            double confidence = 0.5 + 0.5 * uniform();
            size_t top = uniform() < 0.5;
            p[2 * i + top] = (float)confidence;
            p[2 * i + 1 - top] = (float)(1 - confidence);
            y[i] = (int64_t)(uniform() < confidence - 0.25 ? top : 1 - top);
        }
        assert_int_equal(ivon_metrics_add(metrics, 0, EXAMPLES, p, y, INT64_MIN, NULL), 0);
        replicate(&replications, metrics);
    }
    assert_int_equal(replications.count, 7);
    check_replications(&replications);
}

/* Eight outputs that repeat each other in three of four examples: as independent ones, they would
   have a standard error (1 + 7 · ¾)^-½ = .4 times that. */
static void bernoulli_counts_an_example_once(void **unused)
{
    (void)unused;
    enum { K = OUTPUTS_MAX };
    struct replications replications = {0};
    for (int r = 0; r < REPLICATIONS; r++) {
        struct ivon_metrics *metrics = new_metrics(IVON_BERNOULLI, K);
        for (size_t i = 0; i < EXAMPLES; i++) {
            double one = 0.5 + 0.5 * uniform();
            bool repeated = uniform() < 0.75;
            for (size_t k = 0; k < K; k++) {
                p[i * K + k] = (float)one;
                y[i * K + k] = k && repeated ? y[i * K] : uniform() < one - 0.25;
            }
        }
        assert_int_equal(ivon_metrics_add(metrics, 0, EXAMPLES, p, y, INT64_MIN, NULL), 0);
        replicate(&replications, metrics);
    }
    assert_int_equal(replications.count, 6);
    check_replications(&replications);
}

static void gaussian(void **unused)
{
    (void)unused;
    struct replications replications = {0};
    for (int r = 0; r < REPLICATIONS; r++) {
        struct ivon_metrics *metrics = new_metrics(IVON_GAUSSIAN, 2);
        for (size_t i = 0; i < EXAMPLES; i++) {
            double both = uniform(), means[2] = {both, both + 0.1 * uniform()};
            assert_int_equal(
                ivon_metrics_add_regression(metrics, 1, means, (const float[]){0, 0}, means, NULL),
                0);
        }
        replicate(&replications, metrics);
    }
    assert_int_equal(replications.count, 2);
    check_replications(&replications);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(categorical),
        cmocka_unit_test(bernoulli_counts_an_example_once),
        cmocka_unit_test(gaussian),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
