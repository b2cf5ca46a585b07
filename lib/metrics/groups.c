#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "ivon/selective.h"
#include "metrics/likelihood/probabilities.h"
#include "metrics/likelihood/targets.h"
#include "metrics/moments.h"

struct group {
    int64_t number;
    struct moments values[IVON_GROUP_METRICS_MAX];
};

struct ivon_group_metrics {
    enum ivon_likelihood likelihood;
    const struct ivon_likelihood_traits *traits;
    size_t outputs;
    double bound; /* of 90 % of a normal distribution */
    struct group *groups;
    size_t count, capacity;
};

int ivon_group_metrics_new(struct ivon_group_metrics **out, enum ivon_likelihood likelihood,
                           size_t outputs, struct ivon_error *error)
{
    const struct ivon_likelihood_traits *traits = ivon_likelihood_traits(likelihood);
    if (!traits || !outputs)
        return ivon_error_set(error, IVON_ERROR_ARGUMENT, "no such likelihood, or no outputs");
    struct ivon_group_metrics *metrics = calloc(1, sizeof *metrics);
    if (!metrics)
        return ivon_error_memory(error);
    *metrics = (struct ivon_group_metrics){.likelihood = likelihood,
                                           .traits = traits,
                                           .outputs = outputs,
                                           .bound = ivon_normal_bound(0.9)};
    *out = metrics;
    return 0;
}

void ivon_group_metrics_free(struct ivon_group_metrics *metrics)
{
    if (metrics)
        free(metrics->groups);
    free(metrics);
}

/* The group of a number, which is made where there is none; null: memory is exhausted. */
static struct group *group_find(struct ivon_group_metrics *metrics, int64_t number,
                                struct ivon_error *error)
{
    size_t low = 0, high = metrics->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (metrics->groups[middle].number < number)
            low = middle + 1;
        else
            high = middle;
    }
    if (low < metrics->count && metrics->groups[low].number == number)
        return &metrics->groups[low];
    if (metrics->count == metrics->capacity) {
        size_t capacity = 2 * metrics->capacity + 8;
        struct group *grown = realloc(metrics->groups, capacity * sizeof *grown);
        if (!grown) {
            ivon_error_memory(error);
            return NULL;
        }
        metrics->groups = grown;
        metrics->capacity = capacity;
    }
    struct group *group = &metrics->groups[low];
    memmove(group + 1, group, (metrics->count - low) * sizeof *group);
    *group = (struct group){.number = number};
    metrics->count++;
    return group;
}

static void group_add_classes(struct group *group, const float *p, size_t k, size_t label,
                              double loss)
{
    size_t best = probabilities_best(p, k);
    double square = 0;
    for (size_t c = 0; c < k; c++) {
        double residual = probability_clamp(p[c]) - (c == label);
        square += residual * residual;
    }
    moments_add(&group->values[0], best == label, 1);
    moments_add(&group->values[1], loss, 1);
    moments_add(&group->values[2], square, 1);
    moments_add(&group->values[3], probability_clamp(p[best]) - (best == label), 1);
}

static void group_add_events(struct group *group, const float *p, size_t k, const int64_t *targets,
                             double loss)
{
    double correct = 0, square = 0, confidence = 0;
    for (size_t i = 0; i < k; i++) {
        double probability = probability_clamp(p[i]), residual = probability - (double)targets[i];
        bool best = probability_best(p[i]);
        correct += best == (targets[i] == 1);
        confidence += best ? probability : 1 - probability;
        square += residual * residual;
    }
    double scale = 1 / (double)k;
    moments_add(&group->values[0], correct * scale, 1);
    moments_add(&group->values[1], loss, 1);
    moments_add(&group->values[2], square * scale, 1);
    moments_add(&group->values[3], (confidence - correct) * scale, 1);
}

int ivon_group_metrics_add(struct ivon_group_metrics *metrics, int64_t number,
                           const float *probabilities, const int64_t *labels, int64_t ignored,
                           struct ivon_error *error)
{
    const struct row_targets targets = {.labels = labels, .ignored = ignored};
    if (metrics->traits->regression)
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "these metrics are of regression, expected no probabilities");
    if (!targets_count(&targets, metrics->likelihood, metrics->outputs, 0))
        return 0;
    int code = targets_check(&targets, metrics->likelihood, metrics->outputs, 1, NULL, 0, 1, error);
    if (!code)
        code = probabilities_check(probabilities, metrics->outputs, 0, error);
    struct group *group = code ? NULL : group_find(metrics, number, error);
    if (!group)
        return code ? code : IVON_ERROR_MEMORY;
    double loss = probabilities_loss(metrics->likelihood, probabilities, metrics->outputs, labels);
    if (metrics->traits->classes)
        group_add_classes(group, probabilities, metrics->outputs, (size_t)labels[0], loss);
    else
        group_add_events(group, probabilities, metrics->outputs, labels, loss);
    return 0;
}

int ivon_group_metrics_add_regression(struct ivon_group_metrics *metrics, int64_t number,
                                      const float *means, const float *deviations,
                                      const float *targets, struct ivon_error *error)
{
    double square = 0, score = 0, hits = 0, scale = 1 / (double)metrics->outputs;
    if (!metrics->traits->regression)
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "these metrics are of probabilities, expected no regression");
    struct group *group = group_find(metrics, number, error);
    if (!group)
        return IVON_ERROR_MEMORY;
    for (size_t i = 0; i < metrics->outputs; i++) {
        double residual = (double)targets[i] - (double)means[i], std = (double)deviations[i];
        square += residual * residual;
        score += ivon_crps_normal((double)means[i], std, (double)targets[i]);
        hits += fabs(residual) <= metrics->bound * std;
    }
    moments_add(&group->values[0], square * scale, 1);
    moments_add(&group->values[1], score * scale, 1);
    moments_add(&group->values[2], hits * scale, 1);
    return 0;
}

size_t ivon_group_metrics_count(const struct ivon_group_metrics *metrics)
{
    return metrics->count;
}

struct ivon_group_result ivon_group_metrics_get(const struct ivon_group_metrics *metrics,
                                                size_t place)
{
    static const char *const classes[] = {"accuracy", "nll", "brier", "overconfidence"};
    static const char *const regression[] = {"rmse", "crps", "coverage_90"};
    bool numbers = metrics->traits->regression;
    const struct group *group = &metrics->groups[place];
    struct ivon_group_result result = {
        .group = group->number, .rows = group->values[0].count, .count = numbers ? 3 : 4};
    for (size_t i = 0; i < result.count; i++)
        result.values[i] = (struct ivon_metric){numbers ? regression[i] : classes[i],
                                                moments_mean(&group->values[i]),
                                                sqrt(moments_variance(&group->values[i]))};
    if (numbers) {
        double root = sqrt(result.values[0].value);
        result.values[0].value = root;
        result.values[0].standard_error /= 2 * root;
    }
    return result;
}
