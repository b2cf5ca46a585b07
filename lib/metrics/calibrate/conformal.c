/* Scores, their quantile, and the sets that they make (ivon/calibrate.h). */
#include <math.h>
#include <stdlib.h>

#include "core/error.h"
#include "core/random.h"
#include "metrics/calibrate/calibration.h"

enum { WORDS = 4 /* of a block of random ones */ };

struct conformal_score {
    double score, tie;
};

double calibration_uniform(uint64_t seed, const char *purpose, uint64_t number, uint64_t c)
{
    uint64_t words[WORDS];
    const struct random_stream stream = random_stream_of(seed, number, purpose);
    random_words(&stream, c / WORDS, 1, words);
    return (double)(words[c % WORDS] >> 11) * 0x1p-53 + 0x1p-54;
}

static const char *const score_purposes[] = {
    [CONFORMAL_HELD_OUT] = "conformal.score.held_out", [CONFORMAL_NEW] = "conformal.score.new"};
static const char *const tie_purposes[] = {
    [CONFORMAL_HELD_OUT] = "conformal.tie.held_out", [CONFORMAL_NEW] = "conformal.tie.new"};

static int conformal_compare_ranked(const void *a, const void *b)
{
    const struct ranked *left = a, *right = b;
    return left->p != right->p ? (left->p < right->p) - (left->p > right->p)
                               : (left->class > right->class) - (left->class < right->class);
}

void conformal_scores(const struct conformal *conformal, size_t k, double u, const float *p,
                      struct ranked *ranked, double *scores)
{
    double sum = 0;
    if (conformal->score == IVON_CONFORMAL_THR) {
        for (size_t c = 0; c < k; c++)
            scores[c] = 1 - (double)p[c];
        return;
    }
    for (size_t c = 0; c < k; c++)
        ranked[c] = (struct ranked){p[c], c};
    qsort(ranked, k, sizeof *ranked, conformal_compare_ranked);
    for (size_t r = 0; r < k; r++) {
        double own = (double)ranked[r].p;
        scores[ranked[r].class] = sum + u * own;
        sum += own;
        if (conformal->score == IVON_CONFORMAL_RAPS && r >= conformal->free_ranks)
            scores[ranked[r].class] += conformal->penalty * (double)(r + 1 - conformal->free_ranks);
    }
}

static double conformal_score_draw(const struct conformal *conformal, enum conformal_draw draw,
                                   uint64_t number)
{
    return conformal->score == IVON_CONFORMAL_THR
               ? 0
               : calibration_uniform(conformal->seed, score_purposes[draw], number, 0);
}

int64_t conformal_set(const struct conformal *conformal, size_t k, uint64_t number, const float *p,
                      struct ranked *ranked, double *scores, int64_t *set)
{
    double quantile = conformal->quantiles[0];
    int64_t size = 0;
    conformal_scores(conformal, k, conformal_score_draw(conformal, CONFORMAL_NEW, number), p,
                     ranked, scores);
    for (size_t c = 0; c < k; c++) {
        bool in = scores[c] < quantile ||
                  (scores[c] == quantile &&
                   calibration_uniform(conformal->seed, tie_purposes[CONFORMAL_NEW], number, c) <=
                       conformal->tie);
        set[c] = in;
        size += in;
    }
    return size;
}

static int conformal_compare_scores(const void *a, const void *b)
{
    const struct conformal_score *left = a, *right = b;
    return left->score != right->score ? (left->score > right->score) - (left->score < right->score)
                                       : (left->tie > right->tie) - (left->tie < right->tie);
}

/* The one of n scores that is the quantile; infinite where they are too few. */
static struct conformal_score conformal_choose(double coverage, struct conformal_score *scores,
                                               size_t n)
{
    /* A whole number of scores, but for the product's rounding, is not one more. */
    double rank = ceil(((double)n + 1) * coverage - 1e-9);
    if (rank > (double)n)
        return (struct conformal_score){INFINITY, 1};
    qsort(scores, n, sizeof *scores, conformal_compare_scores);
    return scores[rank < 1 ? 0 : (size_t)rank - 1];
}

/* The scores of the rows' own classes. */
static int conformal_score_classes(const struct conformal *conformal,
                                   const struct calibration_rows *rows, size_t k,
                                   const float *probabilities, struct conformal_score *out,
                                   struct ivon_error *error)
{
    const struct ivon_calibration_data *data = rows->data;
    struct ranked *ranked = calloc(k, sizeof *ranked);
    double *scores = calloc(k, sizeof *scores);
    int code = ranked && scores ? 0 : ivon_error_memory(error);
    for (size_t i = 0; i < rows->count && !code; i++) {
        uint64_t number = data->numbers[rows->list[i]];
        size_t label = (size_t)data->labels[rows->list[i]];
        conformal_scores(conformal, k, conformal_score_draw(conformal, CONFORMAL_HELD_OUT, number),
                         probabilities + i * k, ranked, scores);
        out[i].score = scores[label];
        out[i].tie = calibration_uniform(conformal->seed, tie_purposes[CONFORMAL_HELD_OUT], number,
                                         label);
    }
    free(ranked);
    free(scores);
    return code;
}

/* Those of one output of a regression. */
static void conformal_score_numbers(const struct conformal *conformal,
                                    const struct calibration_rows *rows, size_t k, size_t output,
                                    struct conformal_score *out)
{
    const struct ivon_calibration_data *data = rows->data;
    for (size_t i = 0; i < rows->count; i++) {
        size_t at = rows->list[i] * k + output;
        double score = fabs((double)data->targets[at] - (double)data->means[at]);
        if (conformal->score == IVON_CONFORMAL_NORMALISED)
            score /= (double)data->deviations[at];
        out[i] = (struct conformal_score){score, 0};
    }
}

int conformal_fit(struct conformal *conformal, const struct calibration_rows *rows, size_t k,
                  const float *probabilities, struct ivon_error *error)
{
    struct conformal_score *scores = calloc(rows->count, sizeof *scores);
    conformal->quantile_count = probabilities ? 1 : k;
    conformal->quantiles = calloc(conformal->quantile_count, sizeof *conformal->quantiles);
    conformal->rows = rows->count;
    int code = scores && conformal->quantiles ? 0 : ivon_error_memory(error);
    if (!code && probabilities)
        code = conformal_score_classes(conformal, rows, k, probabilities, scores, error);
    for (size_t i = 0; i < conformal->quantile_count && !code; i++) {
        if (!probabilities)
            conformal_score_numbers(conformal, rows, k, i, scores);
        struct conformal_score chosen = conformal_choose(conformal->coverage, scores, rows->count);
        conformal->quantiles[i] = chosen.score;
        conformal->tie = chosen.tie;
    }
    free(scores);
    return code;
}
