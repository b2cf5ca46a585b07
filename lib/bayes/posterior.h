/* Functions for every posterior, whatever is computed from it. */
#ifndef BAYES_POSTERIOR_H
#define BAYES_POSTERIOR_H

#include "ivon/stream.h"

bool posterior_same_shape(const struct ivon_tensor *a, const struct ivon_tensor *b);

/* The checkpoint's ess and weight decay: the header's, else those of its first Hessian, else
   NaN. */
double posterior_ess(const struct ivon_source *source);
double posterior_weight_decay(const struct ivon_source *source);

/* Fails unless a Hessian has the shape of its mean, a positive ess and, if `with_weight_decay`, a
   weight decay that is not negative. */
int posterior_check_hessian(const struct ivon_source *source, const struct ivon_tensor *mean,
                            const struct ivon_tensor *hessian, bool with_weight_decay,
                            struct ivon_error *error);

/* The same of the numbers alone: for the Hessian of a block, whose shape structure_read checks. */
int posterior_check_scale(const struct ivon_source *source, const struct ivon_tensor *hessian,
                          bool with_weight_decay, struct ivon_error *error);

/* Says that element `element` of a Hessian, h, leaves no positive, finite h + δ. */
int posterior_refuse_hessian(const struct ivon_source *source, const struct ivon_tensor *hessian,
                             double h, size_t element, struct ivon_error *error);

/*
 * scale/(h + δ) of elements [first, first + count) of the Hessian `tensor`. Fails where h + δ is
 * not finite and positive, or the result does not fit into binary32.
 */
int posterior_inverse_precision(struct ivon_source *source, size_t tensor, double scale,
                                size_t first, size_t count, float *out, struct ivon_error *error);

#endif
