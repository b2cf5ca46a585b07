/*
 * Rows of a network's outputs, and what is summed over weight samples for each: one row for each
 * example, or for each of its tokens.
 *
 * Samples fall into groups, which are summed apart, so that every metric can be computed without
 * one group (the jackknife). Weights ω of all samples add up to 1. Where nothing is computed
 * without a group, and no group has more than one sample, the groups' probabilities may be added up
 * at once: in double, which gives the bits of adding them in the end, in a fraction of the memory.
 */
#ifndef BAYES_PREDICT_ROWS_H
#define BAYES_PREDICT_ROWS_H

#include <stdbool.h>

#include "metrics/likelihood/likelihood.h"

enum { ROWS_GROUPS_MAX = 16 };

struct row_sums {
    struct likelihood likelihood;
    const struct likelihood_kind *kind;
    size_t groups;
    bool together;                        /* the groups' probabilities are one sum */
    size_t capacity;                      /* rows */
    bool same;                            /* all samples are of the same weights */
    double group_weight[ROWS_GROUPS_MAX]; /* Σ ω of each group */
    struct likelihood_sums sums; /* groups × capacity rows; `expected` and `total` of all */
};

/* `together` is of no effect on regression, and on a single group. */
int rows_init(struct row_sums *sums, const struct likelihood *likelihood, size_t groups,
              bool together, size_t capacity, struct ivon_error *error);
void rows_release(struct row_sums *sums);

/* Bytes that one row takes. */
size_t rows_size(const struct likelihood *likelihood, size_t groups, bool together);

/* Forgets everything summed so far. */
void rows_clear(struct row_sums *sums);

/*
 * Adds what one sample, of weight ω and in group `group`, says of the rows [row, row + count):
 * their outputs f, count × K. The group's weight is the caller's to count. `log_likelihoods`,
 * unless null, receives log p(y|f) of each row (0 where it does not count). Different rows may
 * be added by several threads.
 */
void rows_add(struct row_sums *sums, size_t group, double weight, size_t row, size_t count,
              const float *outputs, const struct row_targets *targets, double *log_likelihoods);

/* Adds normal outputs in closed form, as all there is: a regression's, whose likelihood has one
   (likelihood_kind.add_normal). */
void rows_add_normal(struct row_sums *sums, size_t row, size_t count,
                     const struct likelihood_normal *outputs, const struct row_targets *targets);

/* The results of all samples for the rows [row, row + count); arrays that the likelihood does not
   have may be null. See ivon/predict.h. */
struct row_results {
    int64_t *prediction;
    float *probabilities, *max_probability, *entropy, *expected_entropy, *mutual_information;
    float *mean, *epistemic_std, *aleatoric_std;
    double *loss; /* rows_losses has it, not rows_finish */
};
void rows_finish(const struct row_sums *sums, size_t row, size_t count,
                 const struct row_results *results);

/* The averaged probabilities of the rows, without group `without` (ROWS_GROUPS_MAX: with all, as it
   must be where the groups are one sum). */
void rows_probabilities(const struct row_sums *sums, size_t without, size_t row, size_t count,
                        float *out);

/* The same for regression: predictive means, of each target, unless null, and log densities
   (count). */
void rows_densities(const struct row_sums *sums, size_t without, size_t row, size_t count,
                    double *means, double *log_densities);

/* −log of the averaged density of the targets of the rows [row, row + count), as the metrics have
   the NLL; NaN of those that do not count. `probabilities`, of these rows, and `targets`, from
   `row` on, are not used for regression, whose targets were known when samples were added. */
void rows_losses(const struct row_sums *sums, size_t row, size_t count, const float *probabilities,
                 const struct row_targets *targets, double *losses);

#endif
