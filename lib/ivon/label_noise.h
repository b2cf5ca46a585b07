/*
 * Labels that are likely to be wrong, by confident learning (Northcutt, Jiang & Chuang, JAIR 2021,
 * arXiv:1911.00068, sections 3.1 and 3.2). It takes the probabilities of each example as predicted
 * without it, as the removal of single examples gives them (ivon/sensitivity.h), and so needs no
 * cross-validation. With n_i examples labelled i:
 *
 *   t_j    the mean of p_j over the examples labelled j: how sure the network is of its class j
 *   C_ij   the examples labelled i whose most probable class among those with p_j >= t_j is j
 *   Q_ij   n_i C_ij / Σ_j C_ij; where no example labelled i counts, n_i at i = j
 *   wrong  Σ_{i ≠ j} Q_ij
 *
 * Suspects are as many examples, those whose label has the least probability. Where the network is
 * often wrong itself, `wrong` counts its errors, too, and is too large.
 */
#ifndef IVON_LABEL_NOISE_H
#define IVON_LABEL_NOISE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ivon/api.h"
#include "ivon/error.h"

#ifdef __cplusplus
extern "C" {
#endif

struct ivon_label_noise;

/* For logits of so many classes; of 1: the logit of label 1 against label 0. */
IVON_API int ivon_label_noise_new(struct ivon_label_noise **noise, size_t outputs,
                                  struct ivon_error *error);
IVON_API void ivon_label_noise_free(struct ivon_label_noise *noise);

/* Adds examples, numbered on from the last one. `logits`: count × outputs. An example with
   counts[i] false is passed over; `counts` may be null. Keeps a float for each class of an example.
   Fails with IVON_ERROR_DATA, and the example's number, on a logit that is not finite and on a
   label that is no class. */
IVON_API int ivon_label_noise_add(struct ivon_label_noise *noise, size_t count,
                                  const int64_t *labels, const float *logits, const bool *counts,
                                  struct ivon_error *error);

/* One class, over all that was added. */
struct ivon_class_noise {
    uint64_t count;     /* n_i */
    double threshold;   /* t_i; NaN without examples */
    double wrong;       /* Σ_{j ≠ i} Q_ij */
    int64_t confused;   /* the j of the greatest of these; −1: all are 0 */
    double confused_by; /* that Q_ij */
};

/* *classes receives one entry for each class, to be freed with free(); *wrong their sum. Either may
   be null. */
IVON_API int ivon_label_noise_estimate(const struct ivon_label_noise *noise,
                                       struct ivon_class_noise **classes, double *wrong,
                                       struct ivon_error *error);

struct ivon_suspect {
    uint64_t example;
    int64_t label, suggested; /* suggested: the most probable other class */
    double label_probability, suggested_probability;
    double loss; /* −log of the label's */
};

/* *suspects receives the `most` examples whose label has the least probability, or all there are,
   least first and equal ones by their number, to be freed with free(). */
IVON_API int ivon_label_noise_suspects(const struct ivon_label_noise *noise, size_t most,
                                       struct ivon_suspect **suspects, size_t *count,
                                       struct ivon_error *error);

#ifdef __cplusplus
}
#endif

#endif
