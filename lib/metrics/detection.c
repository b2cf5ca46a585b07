#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "metrics/moments.h"
#include "core/error.h"
#include "ivon/metrics.h"

/* How many of either kind have one score. Everything is a function of these, from the highest score
   to the lowest; where out is the positive class, from the lowest to the highest. */
struct level {
    size_t in, out;
};

struct levels {
    struct level *items;
    size_t count, in, out;
};

static int compare_falling(const void *a, const void *b)
{
    float left = *(const float *)a, right = *(const float *)b;
    return (left < right) - (left > right);
}

static float *sort_scores(const float *scores, size_t count)
{
    float *sorted = malloc(count * sizeof *sorted);
    if (sorted) {
        memcpy(sorted, scores, count * sizeof *sorted);
        qsort(sorted, count, sizeof *sorted, compare_falling);
    }
    return sorted;
}

static int find_levels(struct levels *levels, const float *in, const float *out,
                       struct ivon_error *error)
{
    float *left = sort_scores(in, levels->in), *right = sort_scores(out, levels->out);
    size_t i = 0, j = 0;
    levels->items = calloc(levels->in + levels->out, sizeof *levels->items);
    int code = left && right && levels->items ? 0 : ivon_error_memory(error);
    while (!code && (i < levels->in || j < levels->out)) {
        struct level *level = &levels->items[levels->count++];
        float score = j == levels->out || (i < levels->in && left[i] >= right[j]) ? left[i]
                                                                                  : right[j];
        for (; i < levels->in && left[i] == score; i++)
            level->in++;
        for (; j < levels->out && right[j] == score; j++)
            level->out++;
    }
    free(left);
    free(right);
    return code;
}

/* DeLong's components: for each score, the share of the other kind that it is on the right side of.
   By ranks (Sun & Xu, IEEE Signal Processing Letters 2014). */
static struct ivon_metric auroc(const struct levels *levels)
{
    double in_count = (double)levels->in, out_count = (double)levels->out;
    double in_above = 0, out_above = 0;
    struct moments in = {0}, out = {0};
    for (size_t l = 0; l < levels->count; l++) {
        struct level level = levels->items[l];
        double level_in = (double)level.in, level_out = (double)level.out;
        moments_add(&in, (out_count - out_above - level_out / 2) / out_count, level.in);
        moments_add(&out, (in_above + level_in / 2) / in_count, level.out);
        in_above += level_in;
        out_above += level_out;
    }
    return (struct ivon_metric){"auroc", moments_mean(&in),
                                sqrt(moments_variance(&in) + moments_variance(&out))};
}

static void detection_swap_classes(struct levels *levels)
{
    for (size_t l = 0; l < levels->count; l++) {
        struct level *level = &levels->items[l];
        *level = (struct level){.in = level->out, .out = level->in};
    }
    for (size_t l = 0; l < levels->count / 2; l++) {
        struct level swapped = levels->items[l];
        levels->items[l] = levels->items[levels->count - 1 - l];
        levels->items[levels->count - 1 - l] = swapped;
    }
    *levels = (struct levels){levels->items, levels->count, levels->out, levels->in};
}

/*
 * AP = 1/m Σ_l p_l P_l, where level l holds p_l of the m positives, and R_l positives and O_l
 * negatives score it or more; P_l = R_l/(R_l + O_l). Its derivative by the weight of one positive
 * at level k is P_k − AP + (H_k − H̄), H_k = Σ_{l ≥ k} p_l O_l/(R_l + O_l)², and of one negative
 * −n/m (N_k − N̄), N_k = Σ_{l ≥ k} p_l R_l/(R_l + O_l)² (n negatives). The variance is that of the
 * derivatives (infinitesimal jackknife).
 */
static struct ivon_metric average_precision(const char *name, const struct levels *levels)
{
    double ratio = (double)levels->out / (double)levels->in, sum = 0;
    double at_in = 0, at_out = 0;                                           /* H and N */
    double positives = (double)levels->in, negatives = (double)levels->out; /* R and O */
    struct moments in = {0}, out = {0};
    for (size_t l = levels->count; l-- > 0;) {
        struct level level = levels->items[l];
        double share = (double)level.in / (positives + negatives);
        double precision = positives / (positives + negatives);
        at_in += share * (1 - precision);
        at_out += share * precision;
        moments_add(&in, precision + at_in, level.in);
        moments_add(&out, ratio * at_out, level.out);
        sum += (double)level.in * precision;
        positives -= (double)level.in;
        negatives -= (double)level.out;
    }
    return (struct ivon_metric){name, sum / (double)levels->in,
                                sqrt(moments_variance(&in) + moments_variance(&out))};
}

/* The squared share of `count` that a threshold selects. */
static double share_variance(double share, size_t count)
{
    return count > 1 ? share * (1 - share) / (double)(count - 1) : NAN;
}

static double fpr_at(const struct levels *levels, double tpr)
{
    double in = 0, out = 0;
    for (size_t l = 0; l < levels->count && in < tpr * (double)levels->in; l++) {
        in += (double)levels->items[l].in;
        out += (double)levels->items[l].out;
    }
    return out / (double)levels->out;
}

static struct ivon_metric fpr95(const struct levels *levels)
{
    const double tpr = 0.95;
    double value = fpr_at(levels, tpr), noise = sqrt(tpr * (1 - tpr) / (double)levels->in);
    double half_difference = levels->in < 19 /* the threshold lies beyond TPR = 1 */
                                 ? NAN
                                 : (fpr_at(levels, tpr + noise) - fpr_at(levels, tpr - noise)) / 2;
    return (struct ivon_metric){
        "fpr95", value,
        sqrt(share_variance(value, levels->out) + half_difference * half_difference)};
}

static struct ivon_metric detection_error(const struct levels *levels)
{
    double in = 0, out = 0, best = 0.5, best_tpr = 0, best_fpr = 0;
    for (size_t l = 0; l < levels->count; l++) {
        in += (double)levels->items[l].in;
        out += (double)levels->items[l].out;
        double tpr = in / (double)levels->in, fpr = out / (double)levels->out;
        if ((1 - tpr + fpr) / 2 < best) {
            best = (1 - tpr + fpr) / 2;
            best_tpr = tpr;
            best_fpr = fpr;
        }
    }
    return (struct ivon_metric){
        "detection_error", best,
        sqrt(share_variance(best_tpr, levels->in) + share_variance(best_fpr, levels->out)) / 2};
}

static int check_scores(const float *scores, size_t count, const char *kind,
                        struct ivon_error *error)
{
    for (size_t i = 0; i < count; i++)
        if (isnan(scores[i]))
            return ivon_error_set(error, IVON_ERROR_DATA,
                                  "row %zu of the %s data: the score is not a number", i, kind);
    return 0;
}

int ivon_detection(struct ivon_metric metrics[IVON_DETECTION_COUNT], const float *in,
                   size_t in_count, const float *out, size_t out_count, struct ivon_error *error)
{
    static const char *const names[IVON_DETECTION_COUNT] = {"auroc", "aupr_in", "aupr_out", "fpr95",
                                                            "detection_error"};
    struct levels levels = {.in = in_count, .out = out_count};
    int code = check_scores(in, in_count, "in-distribution", error);
    if (!code)
        code = check_scores(out, out_count, "out-of-distribution", error);
    if (code)
        return code;
    if (!in_count || !out_count) {
        for (int i = 0; i < IVON_DETECTION_COUNT; i++)
            metrics[i] = (struct ivon_metric){names[i], NAN, NAN};
        return 0;
    }
    code = find_levels(&levels, in, out, error);
    if (!code) {
        metrics[0] = auroc(&levels);
        metrics[1] = average_precision(names[1], &levels);
        metrics[3] = fpr95(&levels);
        metrics[4] = detection_error(&levels);
        detection_swap_classes(&levels);
        metrics[2] = average_precision(names[2], &levels);
    }
    free(levels.items);
    return code;
}
