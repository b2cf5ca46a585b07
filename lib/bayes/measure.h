/* M of a query (ivon/influence.h), a row of outputs at a time: its value and its derivative. */
#ifndef BAYES_MEASURE_H
#define BAYES_MEASURE_H

#include "bayes/outputs.h"
#include "ivon/influence.h"
#include "metrics/likelihood/likelihood.h"

struct measure {
    enum ivon_measure kind;
    size_t output; /* c of IVON_MEASURE_LOGIT */
};

/* Returns whether it is a loss, as it is or of single tokens. */
bool measure_is_loss(const struct measure *measure);

/* Fails where there is no such measure, or the outputs of a network of that name do not have it. */
int measure_check(const struct measure *measure, const struct outputs *outputs, const char *network,
                  struct ivon_error *error);

/* Fails where the outputs have no axis of tokens. */
int measure_check_tokens(const struct outputs *outputs, const char *network,
                         struct ivon_error *error);

/* M of one row whose target is given; 0 where it does not count. */
double measure_value(const struct measure *measure, const struct likelihood *likelihood,
                     const float *f, const struct row_targets *target);

/* Sets ∂M/∂f, K numbers, of what is no loss. */
void measure_adjoint(const struct measure *measure, const struct likelihood *likelihood,
                     const float *f, const struct row_targets *target, float *adjoint);

#endif
