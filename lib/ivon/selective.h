/*
 * The worth of confidences: to abstain where they are low (selective prediction), and to be
 * believed as they are. And how good a normal distribution's prediction of a number is. Each metric
 * comes with its standard error over rows, which are taken as independent.
 */
#ifndef IVON_SELECTIVE_H
#define IVON_SELECTIVE_H

#include "ivon/metrics.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * A predictor that abstains answers the rows of greatest confidence. With n rows in falling order
 * of confidence and errors e from 0 to 1, the risk of answering i of them is r_i = Σ_{j ≤ i} e_j/i.
 * Rows of equal confidence are in random order, of which this is the mean. In this order:
 *   aurc: Σ_i r_i/n, the area under the risk-coverage curve (Geifman et al., ICLR 2019)
 *   e_aurc: what exceeds the area of the best order, by rising errors
 *   coverage_at_risk: the greatest share i/n of rows whose risk is at most `risk`; rows of equal
 *     confidence are answered together, or not; 0: there is none
 * Standard errors: of the areas by the infinitesimal jackknife, row j's derivative being
 * r_j + Σ_{i ≥ j} (e_j − r_i)/i − aurc, of which ties have the mean; of the coverage c √(c (1 −
 * c)/(n − 1)) and, in quadrature, half of the difference of the coverages at risk ± √(risk (1 −
 * risk)/(n c)) (Woodruff, JASA 1952). NaN without rows. A number that is NaN fails with its row.
 */
enum { IVON_SELECTIVE_COUNT = 3 };
IVON_API int ivon_selective(struct ivon_metric metrics[IVON_SELECTIVE_COUNT],
                            const float *confidences, const float *errors, size_t count,
                            double risk, struct ivon_error *error);

/*
 * The logistic regression of being right (1) or wrong (0, whatever error above 0) on the logit of
 * the confidence, which is clamped to 2^-24 and 1 − 2^-24: calibration_slope and
 * calibration_intercept, which are 1 and 0 where confidences are probabilities of being right; a
 * slope below 1 is of confidences that are too extreme (Cox, Biometrika 1958). Standard errors are
 * those of the inverse Fisher information. Both are NaN where rows are all right, all wrong, or
 * told apart without an exception, and where confidences are all equal.
 */
enum { IVON_CALIBRATION_LINE_COUNT = 2 };
IVON_API void ivon_calibration_line(struct ivon_metric metrics[IVON_CALIBRATION_LINE_COUNT],
                                    const float *confidences, const float *errors, size_t count);

/* The continuous ranked probability score of y where N(mean, std²) is predicted:
   std (z (2 Φ(z) − 1) + 2 φ(z) − 1/√π), z = (y − mean)/std; |y − mean| for a std of 0 (Gneiting &
   Raftery, JASA 2007). */
IVON_API double ivon_crps_normal(double mean, double std, double y);

/* The bound that |x| of a standard normal number stays below with this probability, from 0 to 1. */
IVON_API double ivon_normal_bound(double probability);

/*
 * Metrics by group: of rows that have a number in common, such as their class. Groups are kept in
 * the order of their numbers.
 */
struct ivon_group_metrics;

IVON_API int ivon_group_metrics_new(struct ivon_group_metrics **metrics,
                                    enum ivon_likelihood likelihood, size_t outputs,
                                    struct ivon_error *error);
IVON_API void ivon_group_metrics_free(struct ivon_group_metrics *metrics);

/* Adds a row of probabilities to a group, with its target as ivon_metrics_add takes it; one that
   does not count is passed over. */
IVON_API int ivon_group_metrics_add(struct ivon_group_metrics *metrics, int64_t group,
                                    const float *probabilities, const int64_t *targets,
                                    int64_t ignored, struct ivon_error *error);

/* Adds a row of regression: K means, standard deviations and targets. */
IVON_API int ivon_group_metrics_add_regression(struct ivon_group_metrics *metrics, int64_t group,
                                               const float *means, const float *deviations,
                                               const float *targets, struct ivon_error *error);

enum { IVON_GROUP_METRICS_MAX = 4 };
struct ivon_group_result {
    int64_t group;
    uint64_t rows;
    struct ivon_metric values[IVON_GROUP_METRICS_MAX];
    size_t count;
};

/* How many groups there are, and the one of a place from 0: accuracy, nll, brier, and
   overconfidence, the mean of confidence − accuracy, of classes and events; rmse, crps and
   coverage_90, the share of targets within 90 % of the normal distribution, of regression. */
IVON_API size_t ivon_group_metrics_count(const struct ivon_group_metrics *metrics);
IVON_API struct ivon_group_result ivon_group_metrics_get(const struct ivon_group_metrics *metrics,
                                                         size_t place);

#ifdef __cplusplus
}
#endif

#endif
