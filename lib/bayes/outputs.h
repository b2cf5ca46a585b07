/* A network's outputs for examples, and the targets beside them: rows of K outputs, one row for
   each example or for each of its tokens. */
#ifndef BAYES_OUTPUTS_H
#define BAYES_OUTPUTS_H

#include "ivon/examples.h"
#include "ivon/metrics.h"
#include "net/graph/graph.h"

struct outputs {
    enum ivon_likelihood likelihood;
    size_t tokens; /* rows of one example, at least 1; 0: not known yet */
    bool token_axis;
    size_t k;
};

/* Takes the shapes from a network's output for `tile` examples, axes of one element beyond three
   aside, or compares them with what another
   network's were: the `check` of a runner. The context is a struct outputs. */
int outputs_check(void *context, const char *network, const struct net_tensor *output, size_t tile,
                  struct ivon_error *error);

/* Returns whether every row is a distribution over classes already, which logits are not by
   chance. */
bool outputs_are_probabilities(const struct outputs *outputs, const float *values, size_t rows);

/* Numbers of one example's targets. */
size_t outputs_targets(const struct outputs *outputs);

/* Finds the field of that name; null: there is none. */
int outputs_find_targets(const struct ivon_examples *examples, const char *targets, size_t *field,
                         struct ivon_error *error);

/* Checks that a field holds such targets. */
int outputs_check_targets(const struct outputs *outputs, const struct ivon_examples *examples,
                          size_t field, struct ivon_error *error);

/* Reads the targets of `count` examples into one of the two, as the likelihood has it, and checks
   those that count. */
int outputs_read_targets(const struct outputs *outputs, struct ivon_examples *examples,
                         size_t field, uint64_t first, size_t count, int64_t ignored,
                         int64_t *labels, float *numbers, struct ivon_error *error);

/* Fails where one of `rows` rows is not finite, which weights or inputs that are not cause;
   `first_row` is the first among all rows of the examples. */
int outputs_check_finite(const struct outputs *outputs, const struct ivon_examples *examples,
                         uint64_t first_row, const float *values, size_t rows,
                         struct ivon_error *error);

#endif
