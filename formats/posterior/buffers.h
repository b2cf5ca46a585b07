/*
 * The buffers of a state dict: tensors of floating-point numbers that are no parameters, known by
 * their names and by what stands beside them. Batch-norm's running statistics, as PyTorch, Keras
 * and Flax call them; tables that modules compute once, such as rotary frequencies and causal
 * masks; the vectors of spectral norm.
 *
 * A tensor with a Hessian or a momentum was trained and is a parameter, whatever its name.
 */
#ifndef FORMATS_POSTERIOR_BUFFERS_H
#define FORMATS_POSTERIOR_BUFFERS_H

#include "core/stream.h"

/* Makes buffers of such means: called by every reader once all its tensors are listed. */
int buffers_settle(struct tensor_list *tensors, struct ivon_error *error);

/* Sets *distinguishable: whether a reader finds the parts of `tensors` again when all names are
   bare. Buffers of which `plain`, which may be null, says true need not be distinguished from
   means. */
int buffers_distinguishable(const struct ivon_tensor *tensors, size_t count,
                            bool (*plain)(void *context, const struct ivon_tensor *), void *context,
                            bool *distinguishable, struct ivon_error *error);

/* Returns whether a name is that of a running statistic, without regard to the other names. */
bool buffers_statistic(const char *name);

#endif
