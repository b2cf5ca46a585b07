/* Two sources as one: a model's tensors, and another file's as their Hessian. */
#ifndef FORMATS_POSTERIOR_COMBINED_H
#define FORMATS_POSTERIOR_COMBINED_H

#include "ivon/stream.h"

/*
 * Everything of `model`, with the Hessians of `hessian`, or, when it has none, its means, as
 * Hessians by the same names and in the same shapes; whatever else it holds is left out. Its ess
 * and weight decay hold, else the model's. Takes over both, whether or not this succeeds.
 */
int combined_open(struct ivon_source **source, struct ivon_source *model,
                  struct ivon_source *hessian, struct ivon_error *error);

/* The model of a combined source; any other source itself. */
const struct ivon_source *combined_model(const struct ivon_source *source);

#endif
