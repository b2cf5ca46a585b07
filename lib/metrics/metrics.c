#include "ivon/metrics.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "metrics/moments.h"
#include "metrics/likelihood/probabilities.h"
#include "metrics/likelihood/targets.h"
#include "core/error.h"
#include "core/options.h"

enum {
    BINS = 15,
    BINS_MAX = 1 << 16,
    GROUPS = 32, /* of examples, for the standard error of ece_classwise */
    VALUES_MAX = 7,
    DIGIT = 11, /* bits by which confidences are sorted at a time */
};

struct ivon_metrics {
    enum ivon_likelihood likelihood;
    const struct ivon_likelihood_traits *traits;
    size_t outputs, bins;
    struct moments accuracy, nll, square; /* over examples */
    /* The confidence of every prediction, in the order of calls; negative if the prediction is
       wrong. */
    float *confidences;
    size_t confidence_count, confidence_capacity;
    /* The starts of bins of equal count; Σ (correct − conf) in each bin; working memory. */
    double *starts, *gaps;
    /* Σ ([c = y] − p_c), GROUPS × bins × K, of categorical predictions. Most p_c are in the first
       bin: the class is the last axis so that the others' pages stay untouched. */
    double *classwise;
    size_t group_sizes[GROUPS];
    struct ivon_metric values[VALUES_MAX];
};

static const struct options_kind metrics_options = {.defaults = "ivon_metrics_defaults"};

void ivon_metrics_options_init(struct ivon_metrics_options *options, size_t size)
{
    const struct ivon_metrics_options defaults = {.size = sizeof defaults};
    options_init(options, size, &defaults);
}

int ivon_metrics_new(struct ivon_metrics **out, const struct ivon_metrics_options *given,
                     struct ivon_error *error)
{
    struct ivon_metrics_options own = ivon_metrics_defaults();
    const struct ivon_metrics_options *options = &own;
    int code = options_read(&metrics_options, &own, given, error);
    if (code)
        return code;
    size_t outputs = options->outputs, cells;
    int bins = options->bins ? options->bins : BINS;
    const struct ivon_likelihood_traits *traits = ivon_likelihood_traits(options->likelihood);
    if (!traits)
        return ivon_error_set(error, IVON_ERROR_ARGUMENT, "no such likelihood: %d",
                              (int)options->likelihood);
    if (!outputs)
        return ivon_error_set(error, IVON_ERROR_ARGUMENT, "0 outputs, expected 1 or more");
    if (bins < 1 || bins > BINS_MAX)
        return ivon_error_set(error, IVON_ERROR_ARGUMENT, "%d bins, expected 1 to %d", bins,
                              BINS_MAX);
    if (__builtin_mul_overflow(outputs, (size_t)bins * GROUPS, &cells) ||
        cells > PTRDIFF_MAX / sizeof(double))
        return ivon_error_memory(error);
    struct ivon_metrics *metrics = calloc(1, sizeof *metrics);
    if (!metrics)
        return ivon_error_memory(error);
    metrics->likelihood = options->likelihood;
    metrics->traits = traits;
    metrics->outputs = outputs;
    metrics->bins = (size_t)bins;
    metrics->starts = calloc((size_t)bins, sizeof *metrics->starts);
    metrics->gaps = calloc((size_t)bins, sizeof *metrics->gaps);
    if (traits->classes)
        metrics->classwise = calloc(cells, sizeof *metrics->classwise);
    if (!metrics->starts || !metrics->gaps || (traits->classes && !metrics->classwise)) {
        ivon_metrics_free(metrics);
        return ivon_error_memory(error);
    }
    *out = metrics;
    return 0;
}

void ivon_metrics_free(struct ivon_metrics *metrics)
{
    if (!metrics)
        return;
    free(metrics->confidences);
    free(metrics->starts);
    free(metrics->gaps);
    free(metrics->classwise);
    free(metrics);
}

/* Reserves memory for `more` confidences. */
static int metrics_reserve(struct ivon_metrics *metrics, size_t more, struct ivon_error *error)
{
    size_t needed, capacity = metrics->confidence_capacity;
    if (__builtin_add_overflow(metrics->confidence_count, more, &needed) ||
        needed > PTRDIFF_MAX / sizeof(float) / 2)
        return ivon_error_memory(error);
    if (needed <= capacity)
        return 0;
    capacity = needed < 2 * capacity ? 2 * capacity : needed;
    float *confidences = realloc(metrics->confidences, capacity * sizeof *confidences);
    if (!confidences)
        return ivon_error_memory(error);
    metrics->confidences = confidences;
    metrics->confidence_capacity = capacity;
    return 0;
}

static void keep_confidence(struct ivon_metrics *metrics, double confidence, bool correct)
{
    metrics->confidences[metrics->confidence_count++] = copysignf((float)confidence,
                                                                  correct ? 1.0f : -1.0f);
}

static double calibration_gap(float signed_confidence)
{
    return (signbit(signed_confidence) ? 0.0 : 1.0) - fabsf(signed_confidence);
}

/* Returns the group of an example: its own for the first examples, then a random one (the finalizer
   of SplitMix64; Steele et al., OOPSLA 2014), since examples are often sorted or periodic. */
static size_t metrics_choose_group(uint64_t example)
{
    uint64_t bits = (example + 1) * 0x9e3779b97f4a7c15u;
    bits = (bits ^ bits >> 30) * 0xbf58476d1ce4e5b9u;
    bits = (bits ^ bits >> 27) * 0x94d049bb133111ebu;
    return example < GROUPS ? (size_t)example : (size_t)((bits ^ bits >> 31) % GROUPS);
}

static inline size_t confidence_bin(float confidence, size_t bins)
{
    float product = (float)bins * confidence;
    return product < (float)bins ? (size_t)product : bins - 1;
}

size_t ivon_confidence_bin(float confidence, size_t bins)
{
    return confidence_bin(confidence, bins);
}

static void add_classwise(struct ivon_metrics *metrics, const float *p, size_t class)
{
    size_t outputs = metrics->outputs, bins = metrics->bins;
    size_t group = metrics_choose_group(metrics->accuracy.count);
    double *gaps = metrics->classwise + group * bins * outputs;
    metrics->group_sizes[group]++;
    for (size_t c = 0; c < outputs; c++) {
        double probability = probability_clamp(p[c]);
        gaps[confidence_bin(p[c], bins) * outputs + c] += (c == class) - probability;
    }
}

static void metrics_add_categorical(struct ivon_metrics *metrics, const float *p, size_t class,
                                    double loss)
{
    size_t best = probabilities_best(p, metrics->outputs);
    double square = 0;
    for (size_t c = 0; c < metrics->outputs; c++) {
        double residual = probability_clamp(p[c]) - (c == class);
        square += residual * residual;
    }
    add_classwise(metrics, p, class);
    moments_add(&metrics->accuracy, best == class, 1);
    moments_add(&metrics->nll, loss, 1);
    moments_add(&metrics->square, square, 1);
    keep_confidence(metrics, probability_clamp(p[best]), best == class);
}

static void metrics_add_bernoulli(struct ivon_metrics *metrics, const float *p,
                                  const int64_t *targets, double loss)
{
    double correct = 0, square = 0, outputs = (double)metrics->outputs;
    for (size_t k = 0; k < metrics->outputs; k++) {
        double probability = probability_clamp(p[k]), residual = probability - (double)targets[k];
        bool best = probability_best(p[k]), right = best == (targets[k] == 1);
        correct += right;
        square += residual * residual;
        keep_confidence(metrics, best ? probability : 1 - probability, right);
    }
    moments_add(&metrics->accuracy, correct / outputs, 1);
    moments_add(&metrics->nll, loss, 1);
    moments_add(&metrics->square, square / outputs, 1);
}

int ivon_metrics_add(struct ivon_metrics *metrics, uint64_t first, size_t count,
                     const float *probabilities, const int64_t *labels, int64_t ignored,
                     struct ivon_error *error)
{
    enum ivon_likelihood likelihood = metrics->likelihood;
    const struct row_targets targets = {.labels = labels, .ignored = ignored};
    size_t outputs = metrics->outputs, width = ivon_likelihood_targets(likelihood, outputs), more;
    if (metrics->traits->regression)
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "these metrics are of regression, expected no probabilities");
    int code = targets_check(&targets, likelihood, outputs, 1, NULL, first, count, error);
    for (size_t i = 0; i < count && !code; i++)
        if (targets_count(&targets, likelihood, outputs, i))
            code = probabilities_check(probabilities + i * outputs, outputs, first + i, error);
    if (code)
        return code;
    if (__builtin_mul_overflow(count, width, &more))
        return ivon_error_memory(error);
    code = metrics_reserve(metrics, more, error);
    for (size_t i = 0; i < count && !code; i++) {
        const float *p = probabilities + i * outputs;
        if (!targets_count(&targets, likelihood, outputs, i))
            continue;
        double loss = probabilities_loss(likelihood, p, outputs, labels + i * width);
        if (metrics->traits->classes)
            metrics_add_categorical(metrics, p, (size_t)labels[i], loss);
        else
            metrics_add_bernoulli(metrics, p, labels + i * width, loss);
    }
    return code;
}

static double mean_square(const double *means, const float *targets, size_t outputs)
{
    double square = 0;
    for (size_t k = 0; k < outputs; k++)
        square += (means[k] - targets[k]) * (means[k] - targets[k]);
    return square / (double)outputs;
}

/* Fails on values that make a metric NaN. An error that overflows is infinite, and is kept. */
static int check_regression(const double *means, const float *targets, size_t outputs,
                            double log_density, uint64_t row, struct ivon_error *error)
{
    for (size_t k = 0; k < outputs; k++)
        if (!isfinite(means[k]) || !isfinite(targets[k]))
            return ivon_error_set(error, IVON_ERROR_DATA,
                                  "row %llu: output %zu has the mean %g and the target %g, "
                                  "expected finite numbers",
                                  (unsigned long long)row, k, means[k], (double)targets[k]);
    if (isnan(log_density))
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "row %llu: the logarithm of its density is nan, expected a number",
                              (unsigned long long)row);
    return 0;
}

int ivon_metrics_add_regression(struct ivon_metrics *metrics, size_t count, const double *means,
                                const float *targets, const double *log_densities,
                                struct ivon_error *error)
{
    size_t outputs = metrics->outputs;
    if (!metrics->traits->regression)
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "these metrics are of probabilities, expected no regression");
    int code = 0;
    for (size_t i = 0; i < count && !code; i++)
        code = check_regression(means + i * outputs, targets + i * outputs, outputs,
                                log_densities[i], metrics->nll.count + i, error);
    if (code)
        return code;
    for (size_t i = 0; i < count; i++) {
        moments_add(&metrics->square,
                    mean_square(means + i * outputs, targets + i * outputs, outputs), 1);
        moments_add(&metrics->nll, -log_densities[i], 1);
    }
    return 0;
}

/* Sorts by one digit of the bits, which rise as numbers do that are not negative. */
static void metrics_sort_digit(float *restrict to, const float *restrict from, size_t count,
                               int shift)
{
    size_t ends[1 << DIGIT] = {0}, sum = 0;
    uint32_t bits;
    for (size_t i = 0; i < count; i++) {
        memcpy(&bits, &from[i], sizeof bits);
        ends[bits >> shift & ((1 << DIGIT) - 1)]++;
    }
    for (size_t i = 0; i < 1 << DIGIT; i++) {
        size_t here = ends[i];
        ends[i] = sum;
        sum += here;
    }
    for (size_t i = 0; i < count; i++) {
        memcpy(&bits, &from[i], sizeof bits);
        to[ends[bits >> shift & ((1 << DIGIT) - 1)]++] = from[i];
    }
}

/* Sorts numbers from 0 on, in memory for twice as many; returns where they are. */
static const float *metrics_sort(float *values, size_t count)
{
    float *from = values, *to = values + count;
    for (int shift = 0; shift < 32; shift += DIGIT) {
        metrics_sort_digit(to, from, count, shift);
        float *next = from;
        from = to;
        to = next;
    }
    return from;
}

/* Sets the starts of bins of equal count. Returns their number, which equal confidences may
   reduce. `scratch` holds two floats for each confidence. */
static size_t start_adaptive(struct ivon_metrics *metrics, float *scratch)
{
    size_t count = metrics->confidence_count, used = 0, end;
    uint64_t bins = metrics->bins, last = 0;
    for (size_t i = 0; i < count; i++)
        scratch[i] = fabsf(metrics->confidences[i]);
    const float *sorted = metrics_sort(scratch, count);
    for (size_t i = 0; i < count; i = end) {
        for (end = i + 1; end < count && sorted[end] == sorted[i];)
            end++;
        uint64_t bin = (i + end - 1) * bins / 2 / count; /* mean rank (i + end − 1)/2 */
        if (!used || bin != last)
            metrics->starts[used++] = sorted[i];
        last = bin;
    }
    return used;
}

/* Returns the last bin that starts at or below a confidence; without starts, bins have equal
   width. */
static size_t find_bin(const double *starts, size_t bins, float confidence)
{
    size_t low = 0, high = bins;
    if (!starts)
        return confidence_bin(confidence, bins);
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (starts[middle] <= confidence)
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* The calibration error over bins with these starts, or of equal width, computed as a mean over
   examples (see the header). */
static struct moments calibration(struct ivon_metrics *metrics, const double *starts, size_t bins)
{
    size_t count = metrics->confidence_count;
    size_t width = ivon_likelihood_targets(metrics->likelihood, metrics->outputs);
    struct moments error = {0};
    memset(metrics->gaps, 0, bins * sizeof *metrics->gaps);
    for (size_t i = 0; i < count; i++) {
        float signed_confidence = metrics->confidences[i];
        metrics->gaps[find_bin(starts, bins, fabsf(signed_confidence))] += calibration_gap(
            signed_confidence);
    }
    for (size_t i = 0; i < count; i += width) {
        double sum = 0;
        for (size_t k = i; k < i + width; k++) {
            float signed_confidence = metrics->confidences[k];
            double gap = metrics->gaps[find_bin(starts, bins, fabsf(signed_confidence))];
            sum += gap < 0   ? -calibration_gap(signed_confidence)
                   : gap > 0 ? calibration_gap(signed_confidence)
                             : 0;
        }
        moments_add(&error, sum / (double)width, 1);
    }
    return error;
}

static struct ivon_metric calibration_classwise(const struct ivon_metrics *metrics)
{
    size_t cells = metrics->bins * metrics->outputs, examples = metrics->accuracy.count, used = 0;
    double groups[GROUPS] = {0}, count = (double)examples, scale = (double)metrics->outputs;
    double sum = 0, square = 0;
    for (size_t i = 0; i < cells; i++) {
        double gap = 0;
        for (size_t g = 0; g < GROUPS; g++)
            gap += metrics->classwise[g * cells + i];
        for (size_t g = 0; g < GROUPS && gap != 0; g++)
            groups[g] += (gap < 0 ? -1 : 1) * metrics->classwise[g * cells + i] / scale;
        sum += fabs(gap) / scale;
    }
    for (size_t g = 0; g < GROUPS; g++) {
        double excess = groups[g] - (double)metrics->group_sizes[g] * (sum / count);
        square += excess * excess;
        used += metrics->group_sizes[g] > 0;
    }
    /* For random groups, G/(G − 1) Σ excess² has the expectation Σ_i (z_i − z̄)². */
    double variance = used > 1 ? (double)used / (double)(used - 1) * square / count / count : NAN;
    return (struct ivon_metric){"ece_classwise", examples ? sum / count : NAN, sqrt(variance)};
}

static struct ivon_metric metric_from_moments(const char *name, const struct moments *moments)
{
    return (struct ivon_metric){name, moments_mean(moments), sqrt(moments_variance(moments))};
}

static bool fill_calibration(struct ivon_metrics *metrics, struct ivon_metric *values)
{
    size_t count = metrics->confidence_count;
    struct moments error = calibration(metrics, NULL, metrics->bins);
    values[0] = metric_from_moments("ece", &error);
    float *scratch = calloc(count ? count : 1, 2 * sizeof *scratch);
    if (!scratch)
        return false;
    size_t bins = start_adaptive(metrics, scratch);
    error = calibration(metrics, metrics->starts, bins);
    values[1] = metric_from_moments("ece_adaptive", &error);
    free(scratch);
    return true;
}

const struct ivon_metric *ivon_metrics_values(struct ivon_metrics *metrics, size_t *count)
{
    struct ivon_metric *values = metrics->values;
    struct ivon_metric nll = metric_from_moments("nll", &metrics->nll);
    struct ivon_metric square = metric_from_moments("brier", &metrics->square);
    if (metrics->traits->regression) {
        double root = sqrt(square.value);
        values[0] = (struct ivon_metric){"rmse", root, square.standard_error / (2 * root)};
        values[1] = nll;
        *count = 2;
        return values;
    }
    double perplexity = exp(nll.value);
    values[0] = metric_from_moments("accuracy", &metrics->accuracy);
    values[1] = nll;
    values[2] = (struct ivon_metric){"perplexity", perplexity, perplexity * nll.standard_error};
    values[3] = square;
    if (!fill_calibration(metrics, values + 4))
        return NULL;
    *count = 6;
    if (metrics->traits->classes)
        values[(*count)++] = calibration_classwise(metrics);
    return values;
}
