/*
 * Targets of rows of K outputs, one row for each example or for each of its tokens.
 *
 * Which of them count is said in ivon/targets.h.
 */
#ifndef METRICS_LIKELIHOOD_TARGETS_H
#define METRICS_LIKELIHOOD_TARGETS_H

#include "ivon/examples.h"
#include "ivon/targets.h"

/* Labels (categorical one for each row, Bernoulli K) or numbers (Gaussian, K), or neither. */
struct row_targets {
    const int64_t *labels;
    const float *numbers;
    int64_t ignored; /* a label that does not count; INT64_MIN: none */
};

/* The targets from row `row` on. */
struct row_targets targets_from(const struct row_targets *targets, enum ivon_likelihood likelihood,
                                size_t k, size_t row);

/* Returns whether the row counts, as ivon_target_counts has it; a row without labels counts. */
bool targets_count(const struct row_targets *targets, enum ivon_likelihood likelihood, size_t k,
                   size_t row);

/* Marks which rows of `examples` examples of `tokens` rows each count, and counts those of each
   example. */
void targets_mark(const struct row_targets *targets, enum ivon_likelihood likelihood, size_t k,
                  size_t tokens, size_t examples, bool *counts, size_t *positions);

/* Reads labels, which may be stored as floats that are whole. */
int targets_read(struct ivon_examples *examples, size_t field, uint64_t first, size_t count,
                 int64_t *labels, struct ivon_error *error);

/* Fails on the first of `rows` rows that counts and has a label that is no class, or no 0 or 1.
   `tokens` rows make an example, the first of which is `first` of `examples`, which may be null. */
int targets_check(const struct row_targets *targets, enum ivon_likelihood likelihood, size_t k,
                  size_t tokens, const struct ivon_examples *examples, uint64_t first, size_t rows,
                  struct ivon_error *error);

#endif
