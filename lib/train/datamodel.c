/* The scores of influences, from sums and from what trainings on halves showed. */
#include <math.h>
#include <stdlib.h>

#include "core/error.h"
#include "ivon/datamodel.h"

struct scoring {
    size_t halves;
    double *sums, *values; /* of one query, and behind them of all halves but one */
    double *left;          /* its score without each half */
    double *means;         /* sums over queries of those */
};

/* The scores of a query without each half. */
static int scoring_leave_out(struct scoring *scoring, struct ivon_error *error)
{
    size_t count = scoring->halves;
    double *sums = scoring->sums + count, *values = scoring->values + count;
    int code = 0;
    for (size_t out = 0; out < count && !code; out++) {
        for (size_t i = 0, kept = 0; i < count; i++) {
            sums[kept] = scoring->sums[i];
            values[kept] = scoring->values[i];
            kept += i != out;
        }
        code = ivon_rank_correlation(&scoring->left[out], sums, values, count - 1, error);
    }
    return code;
}

/* One query, to which the halves' numbers are `stride` apart. */
static int scoring_query(struct scoring *scoring, const double *sums, const double *values,
                         size_t stride, double *score, double *half_error, struct ivon_error *error)
{
    size_t count = scoring->halves;
    for (size_t i = 0; i < count; i++) {
        scoring->sums[i] = sums[i * stride];
        scoring->values[i] = -values[i * stride];
    }
    *half_error = NAN;
    int code = ivon_rank_correlation(score, scoring->sums, scoring->values, count, error);
    if (code || isnan(*score))
        return code;
    code = scoring_leave_out(scoring, error);
    *half_error = ivon_jackknife(scoring->left, count);
    for (size_t i = 0; i < count; i++)
        scoring->means[i] += scoring->left[i];
    return code;
}

static void scoring_conclude(struct scoring *scoring, const struct ivon_ratio *ratio,
                             struct ivon_datamodel_score *score)
{
    const struct ivon_metric mean = ivon_ratio_metric("lds", ratio);
    *score = (struct ivon_datamodel_score){mean.value, NAN, mean.standard_error, ratio->examples};
    for (size_t i = 0; i < scoring->halves; i++)
        scoring->means[i] /= (double)ratio->examples;
    if (ratio->examples)
        score->half_error = ivon_jackknife(scoring->means, scoring->halves);
}

int ivon_datamodel_score(struct ivon_datamodel_score *score, double *scores, double *errors,
                         const double *sums, const double *values, size_t halves, uint64_t queries,
                         struct ivon_error *error)
{
    double *space = calloc(halves + 1, 6 * sizeof *space);
    struct scoring scoring = {halves, space, space + 2 * halves, space + 4 * halves,
                              space + 5 * halves};
    struct ivon_ratio ratio = {0};
    int code = space ? 0 : ivon_error_memory(error);
    for (uint64_t query = 0; query < queries && !code; query++) {
        code = scoring_query(&scoring, sums + query, values + query, (size_t)queries,
                             &scores[query], &errors[query], error);
        if (!code && !isnan(scores[query]))
            ivon_ratio_add(&ratio, scores[query], 1);
    }
    if (!code)
        scoring_conclude(&scoring, &ratio, score);
    free(space);
    return code;
}
