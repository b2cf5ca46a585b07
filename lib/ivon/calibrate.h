/*
 * Predictions made honest by held-out data, which neither the training nor a choice among models
 * has seen: probabilities of classes are recalibrated, and sets of classes, or intervals of
 * numbers, hold the truth as often as is asked for (conformal prediction).
 *
 * Recalibration of a row's probabilities p of K classes, which are clamped to 2^-126 and more:
 *   temperature   softmax(log p / T); T minimises the NLL of the held-out rows (Guo et al., ICML
 *                 2017), within 1/64 to 64
 *   vector        softmax(w log p + b), elementwise; w and b minimise the NLL, summed over rows,
 *                 and 0.005 (|w − 1|² + |b|²), a normal prior of standard deviation 10, which keeps
 *                 them finite where classes are separable
 *   isotonic      for each class the least-squares rising function of p_c that tells [c = y], by
 *                 pooling adjacent violators, linear between the blocks' ends, clamped to 1/(n + 2)
 *                 and 1 − 1/(n + 2) for n rows; then divided by their sum (Zadrozny & Elkan, KDD
 *                 2002)
 * K events (Bernoulli) are each two classes, of probabilities 1 − p_k, 2^-25 or more, and p_k. One
 * T serves them all, σ(logit p / T); vector scaling is of each event by itself (of two classes the
 * beta calibration of Kull et al., AISTATS 2017), as isotonic regression is, which is of p_k alone.
 * Their probabilities become 1 − 2^-24 at most. They have no conformal sets.
 *
 * Split conformal prediction (Vovk et al. 2005; Lei et al., JASA 2018): n held-out rows with scores
 * s have the threshold q, the ⌈(n + 1) level⌉-th smallest score, infinite where there are fewer. A
 * set holds what has a score of q or less. If held-out and new examples are exchangeable, a set
 * holds the truth with a probability from level to level + 1/(n + 1): over all examples, not for
 * those of one class, and over the draw of the held-out examples. Scores of class c, with the
 * classes in falling order of p, of equal ones the lowest first, r_c the rank of c from 1, u
 * uniform, one for each row:
 *   thr    1 − p_c (Sadinle et al., JASA 2019)
 *   aps    Σ_{r_k < r_c} p_k + u p_c (Romano et al., NeurIPS 2020)
 *   raps   that + penalty · max(0, r_c − free_ranks) (Angelopoulos et al., ICLR 2021)
 * Equal scores are ordered by a second uniform number for each row and class, so that ties do not
 * make sets larger; sets may be empty. Of regression, for each of K outputs by itself, and ties
 * belong to the interval:
 *   absolute     |y − mean|
 *   normalised   |y − mean| / std, std² = epistemic² + aleatoric²
 *
 * With a recalibration and conformal scores both, a random half of the examples fits the first, the
 * others give the threshold: else the guarantee would not hold. Random numbers are functions of
 * seed and the row's number (ivon/sample.h has the same generator): of new rows others than of
 * held-out ones. A uniform number is the greater 53 bits of a word of block c/4 of Philox, and
 * 2^-54.
 */
#ifndef IVON_CALIBRATE_H
#define IVON_CALIBRATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ivon/api.h"
#include "ivon/error.h"
#include "ivon/metrics.h"

#ifdef __cplusplus
extern "C" {
#endif

enum ivon_calibration_method {
    IVON_CALIBRATION_NONE,
    IVON_CALIBRATION_TEMPERATURE,
    IVON_CALIBRATION_VECTOR,
    IVON_CALIBRATION_ISOTONIC
};

enum ivon_conformal {
    IVON_CONFORMAL_NONE,
    IVON_CONFORMAL_THR,
    IVON_CONFORMAL_APS,
    IVON_CONFORMAL_RAPS,
    IVON_CONFORMAL_ABSOLUTE,
    IVON_CONFORMAL_NORMALISED
};

/* The names of both, in the order of their values. */
#define IVON_CALIBRATION_METHOD_NAMES "none|temperature|vector|isotonic"
#define IVON_CONFORMAL_NAMES          "none|thr|aps|raps|absolute|normalised"

struct ivon_calibrate_options {
    size_t size; /* sizeof this struct: set by ivon_calibrate_defaults() */
    enum ivon_likelihood likelihood;
    size_t outputs;                      /* K */
    enum ivon_calibration_method method; /* of a regression none */
    enum ivon_conformal conformal;
    double coverage;   /* the level, between 0 and 1 */
    double penalty;    /* of raps, 0 or more */
    size_t free_ranks; /* of raps: ranks without a penalty */
    uint64_t seed;
};

/* Categorical, by temperature, without conformal scores; coverage .9, penalty .01 of all but 5
   ranks; outputs are left to be set. */
IVON_API void ivon_calibrate_options_init(struct ivon_calibrate_options *options, size_t size);
static inline struct ivon_calibrate_options ivon_calibrate_defaults(void)
{
    struct ivon_calibrate_options options;
    ivon_calibrate_options_init(&options, sizeof options);
    return options;
}

/* Held-out rows that count, with their targets; borrowed. */
struct ivon_calibration_data {
    size_t rows;
    const uint64_t *numbers;    /* rows: of each row, as it is addressed: rising */
    uint64_t tokens;            /* rows of an example, which is number / tokens; 0: 1 */
    const float *probabilities; /* rows × K, of classes or events */
    const int64_t *labels;      /* rows, of classes; of events rows × K */
    const float *means;         /* rows × K, of regression */
    const float *deviations;    /* rows × K, std; null: unknown */
    const float *targets;       /* rows × K, of regression */
};

struct ivon_calibration;

/*
 * Fits what the options ask for. Fails with IVON_ERROR_DATA on what is no probability, label or
 * finite number, with its row's number, and where there are no rows, or none in either half; with
 * IVON_ERROR_ARGUMENT on options that make no sense. Memory: 8 bytes for each probability.
 */
IVON_API int ivon_calibration_fit(struct ivon_calibration **calibration,
                                  const struct ivon_calibrate_options *options,
                                  const struct ivon_calibration_data *data,
                                  struct ivon_error *error);
IVON_API void ivon_calibration_free(struct ivon_calibration *calibration);

struct ivon_calibration_summary {
    enum ivon_likelihood likelihood;
    size_t outputs;
    enum ivon_calibration_method method;
    enum ivon_conformal conformal;
    double temperature;      /* T; NaN: another method */
    double coverage;         /* the level; NaN: nothing conformal */
    double quantile;         /* q; of several outputs the greatest; NaN: nothing conformal */
    uint64_t fitted, scored; /* rows of the recalibration, and of the threshold */
};
IVON_API struct ivon_calibration_summary ivon_calibration_summary(
    const struct ivon_calibration *calibration);

/* Recalibrates `rows` × K probabilities; out may be where they are. Of no method they are copied.
   They are checked as by ivon_metrics_add, in which `first` means the same. */
IVON_API int ivon_calibration_apply(const struct ivon_calibration *calibration, uint64_t first,
                                    size_t rows, const float *probabilities, float *out,
                                    struct ivon_error *error);

/* The sets of the rows numbered from `first` on, of their recalibrated probabilities: rows × K of 0
   and 1, and how many classes each has. Fails where scores are not of classes, or exhaust memory.
   */
IVON_API int ivon_calibration_sets(const struct ivon_calibration *calibration, uint64_t first,
                                   size_t rows, const float *probabilities, int64_t *sets,
                                   int64_t *sizes, struct ivon_error *error);

/* The intervals of a regression's rows, rows × K each. `deviations` may be null where the scores
   are absolute. Fails where scores are not of regression, or a deviation is not above 0. */
IVON_API int ivon_calibration_intervals(const struct ivon_calibration *calibration, uint64_t first,
                                        size_t rows, const float *means, const float *deviations,
                                        float *lower, float *upper, struct ivon_error *error);

/* A metric without and with the calibration. */
struct ivon_calibration_effect {
    struct ivon_metric before, after; /* of one name */
};
enum { IVON_CALIBRATION_EFFECTS_MAX = 8 };

/*
 * Judges a calibration by the options by examples that it was not fitted to: examples fall into
 * `folds` at random, from 2 on, and those of each are judged by a calibration that is fitted to the
 * others. Of classes and events accuracy, nll, brier and ece, as ivon_metrics_values has them, with
 * 15 bins; with conformal scores coverage, the share of rows whose set holds the truth, set_size,
 * the mean number of classes, and empty, the share of empty sets. Before, a set is what a score of
 * aps finds at the threshold `coverage`: what the probabilities promise. Of regression coverage and
 * width: before, the interval of a normal distribution, where deviations are known. Errors count an
 * example's rows as one observation (struct ivon_ratio), but in accuracy, nll, brier and ece.
 */
IVON_API int ivon_calibration_validate(
    struct ivon_calibration_effect effects[IVON_CALIBRATION_EFFECTS_MAX], size_t *count,
    const struct ivon_calibrate_options *options, size_t folds,
    const struct ivon_calibration_data *data, struct ivon_error *error);

/*
 * A calibration as JSON text, which ivon-calibrate(1) documents: *text is to be freed. Parsing
 * fails with IVON_ERROR_DATA, `path` in its message, on what is not a whole calibration of version
 * 1; unknown members are passed over.
 */
IVON_API int ivon_calibration_print(const struct ivon_calibration *calibration, char **text,
                                    struct ivon_error *error);
IVON_API int ivon_calibration_parse(struct ivon_calibration **calibration, const char *path,
                                    const char *text, size_t size, struct ivon_error *error);

#ifdef __cplusplus
}
#endif

#endif
