#include "ivon/selective.h"

#include <math.h>
#include <stdlib.h>

#include "core/error.h"

/* A row by its rank: the greatest key first. */
struct selective_row {
    double key, error;
    size_t row;
};

/* The curve over ranks, from 0: r_i, and where its tie ends. */
struct selective_curve {
    size_t count;
    struct selective_row *rows;
    double *risk;
    size_t *end; /* of the rows of one key, by their first rank */
};

static int selective_compare(const void *a, const void *b)
{
    const struct selective_row *left = a, *right = b;
    return (left->key < right->key) - (left->key > right->key);
}

/* Sorts the rows and sets their risks: within a tie errors are spread evenly. */
static double selective_rank(struct selective_curve *curve)
{
    double sum = 0, area = 0;
    qsort(curve->rows, curve->count, sizeof *curve->rows, selective_compare);
    for (size_t i = 0, end; i < curve->count; i = end) {
        double errors = 0;
        for (end = i; end < curve->count && curve->rows[end].key == curve->rows[i].key; end++)
            errors += curve->rows[end].error;
        for (size_t r = i; r < end; r++) {
            double share = (double)(r + 1 - i) / (double)(end - i);
            curve->risk[r] = (sum + share * errors) / (double)(r + 1);
            area += curve->risk[r];
        }
        curve->end[i] = end;
        sum += errors;
    }
    return area / (double)curve->count;
}

/*
 * The derivative of the area by row j's weight is r_j + Σ_{i ≥ j} (e_j − r_i)/i − aurc, times 1/n.
 * In a tie of m rows, whose errors are E in sum, behind C rows with errors S, it is the mean over
 * j's ranks p = 1 … m, of which each has j's error among those up to it: with j at p or before,
 * rank i of the tie has the risk (S + e_j + (i − 1) (E − e_j)/(m − 1))/(C + i) = a_i + b_i e_j, and
 * counts in the sum for i of the m ranks. All are linear in e_j.
 */
struct selective_tie {
    double constant, slope;
};

static struct selective_tie selective_tie(const struct selective_curve *curve, size_t first)
{
    size_t end = curve->end[first];
    double m = (double)(end - first), before = (double)first;
    double start = first ? curve->risk[first - 1] * before : 0;
    double errors = curve->risk[end - 1] * (double)end - start;
    struct selective_tie tie = {0};
    for (size_t r = first; r < end; r++) {
        double i = (double)(r - first + 1), place = before + i;
        double share = end - first > 1 ? (i - 1) / (m - 1) : 0;
        double a = (start + share * errors) / place, b = (1 - share) / place;
        tie.constant += (a - i * a / place) / m;
        tie.slope += (b + i * (1 - b) / place) / m;
    }
    return tie;
}

/* Adds sign times n times the derivatives. */
static void selective_differentiate(const struct selective_curve *curve, double area, double sign,
                                    double *derivatives)
{
    size_t n = curve->count;
    double *after = curve->risk + n; /* from each rank on Σ 1/i, then Σ r_i/i */
    after[n] = after[2 * n + 1] = 0;
    for (size_t i = n; i-- > 0;) {
        after[i] = after[i + 1] + 1 / (double)(i + 1);
        after[n + 1 + i] = after[n + 2 + i] + curve->risk[i] / (double)(i + 1);
    }
    for (size_t i = 0; i < n; i = curve->end[i]) {
        size_t end = curve->end[i];
        struct selective_tie tie = selective_tie(curve, i);
        for (size_t r = i; r < end; r++)
            derivatives[curve->rows[r].row] +=
                sign * (tie.constant - after[n + 1 + end] +
                        (tie.slope + after[end]) * curve->rows[r].error - area);
    }
}

/* √(Σ d²/(n (n − 1))) of derivatives whose sum is zero. */
static double selective_error(const double *derivatives, size_t count)
{
    double square = 0, n = (double)count;
    for (size_t i = 0; i < count; i++)
        square += derivatives[i] * derivatives[i];
    return count > 1 ? sqrt(square / n / (n - 1)) : NAN;
}

static double selective_coverage(const struct selective_curve *curve, double risk)
{
    size_t answered = 0;
    for (size_t i = 0; i < curve->count; i = curve->end[i])
        if (curve->risk[curve->end[i] - 1] <= risk)
            answered = curve->end[i];
    return (double)answered / (double)curve->count;
}

static struct ivon_metric selective_at_risk(const struct selective_curve *curve, double risk)
{
    double n = (double)curve->count, c = selective_coverage(curve, risk);
    double noise = c > 0 ? sqrt(risk * (1 - risk) / (n * c)) : NAN;
    double half =
        (selective_coverage(curve, risk + noise) - selective_coverage(curve, risk - noise)) / 2;
    double variance = curve->count > 1 && c > 0 ? c * (1 - c) / (n - 1) + half * half : NAN;
    return (struct ivon_metric){"coverage_at_risk", c, sqrt(variance)};
}

static int selective_check(const float *confidences, const float *errors, size_t count,
                           struct ivon_error *error)
{
    for (size_t i = 0; i < count; i++)
        if (isnan(confidences[i]) || !(errors[i] >= 0 && errors[i] <= 1))
            return ivon_error_set(error, IVON_ERROR_DATA,
                                  "row %zu has the confidence %g and the error %g, expected a "
                                  "number, and one from 0 to 1",
                                  i, (double)confidences[i], (double)errors[i]);
    return 0;
}

/* Fills in the metrics; the curve's memory is there. */
static void selective_measure(struct selective_curve *curve, const float *confidences,
                              const float *errors, double risk, double *derivatives,
                              struct ivon_metric *metrics)
{
    size_t n = curve->count;
    for (size_t i = 0; i < n; i++)
        curve->rows[i] = (struct selective_row){(double)confidences[i], (double)errors[i], i};
    double area = selective_rank(curve);
    selective_differentiate(curve, area, 1, derivatives);
    metrics[0] = (struct ivon_metric){"aurc", area, selective_error(derivatives, n)};
    metrics[2] = selective_at_risk(curve, risk);
    for (size_t i = 0; i < n; i++)
        curve->rows[i] = (struct selective_row){-(double)errors[i], (double)errors[i], i};
    double best = selective_rank(curve);
    selective_differentiate(curve, best, -1, derivatives);
    metrics[1] = (struct ivon_metric){"e_aurc", fmax(area - best, 0),
                                      selective_error(derivatives, n)};
}

int ivon_selective(struct ivon_metric metrics[IVON_SELECTIVE_COUNT], const float *confidences,
                   const float *errors, size_t count, double risk, struct ivon_error *error)
{
    static const char *const names[] = {"aurc", "e_aurc", "coverage_at_risk"};
    struct selective_curve curve = {.count = count};
    for (size_t i = 0; i < IVON_SELECTIVE_COUNT; i++)
        metrics[i] = (struct ivon_metric){names[i], NAN, NAN};
    int code = selective_check(confidences, errors, count, error);
    if (code || !count)
        return code;
    double *derivatives = calloc(count, sizeof *derivatives);
    curve.rows = calloc(count, sizeof *curve.rows);
    curve.risk = calloc(count + 1, 3 * sizeof *curve.risk);
    curve.end = calloc(count, sizeof *curve.end);
    if (!derivatives || !curve.rows || !curve.risk || !curve.end)
        code = ivon_error_memory(error);
    else
        selective_measure(&curve, confidences, errors, risk, derivatives, metrics);
    free(derivatives);
    free(curve.rows);
    free(curve.risk);
    free(curve.end);
    return code;
}

/* The logistic regression. */

struct line_fit {
    const float *confidences, *errors;
    size_t count;
    double gradient[2]; /* by intercept and slope */
    double information[3];
};

/* Returns the log-likelihood at a line, and sets its derivatives. */
static double line_evaluate(struct line_fit *fit, double intercept, double slope)
{
    double value = 0;
    for (size_t i = 0; i < 2; i++)
        fit->gradient[i] = 0;
    for (size_t i = 0; i < 3; i++)
        fit->information[i] = 0;
    for (size_t i = 0; i < fit->count; i++) {
        double p = fmin(fmax((double)fit->confidences[i], 0x1p-24), 1 - 0x1p-24);
        double x = log(p) - log1p(-p), z = intercept + slope * x;
        double right = fit->errors[i] > 0 ? 0 : 1, q = 1 / (1 + exp(-z)), weight = q * (1 - q);
        value += right * z - (z > 0 ? z + log1p(exp(-z)) : log1p(exp(z)));
        fit->gradient[0] += right - q;
        fit->gradient[1] += (right - q) * x;
        fit->information[0] += weight;
        fit->information[1] += weight * x;
        fit->information[2] += weight * x * x;
    }
    return value;
}

/* Newton's steps, halved until the likelihood rises; false where they do not end. */
static bool line_maximise(struct line_fit *fit, double *intercept, double *slope)
{
    double value = line_evaluate(fit, *intercept, *slope);
    for (int step = 0; step < 100; step++) {
        const double *h = fit->information, *g = fit->gradient;
        double determinant = h[0] * h[2] - h[1] * h[1];
        if (!(determinant > 0x1p-40 * h[0] * h[2]))
            return false; /* equal confidences, or rows that are told apart */
        double up = (h[2] * g[0] - h[1] * g[1]) / determinant;
        double tilt = (h[0] * g[1] - h[1] * g[0]) / determinant;
        double rise = up * g[0] + tilt * g[1], length = 1, next;
        if (rise <= 1e-20 * (1 + fabs(value)))
            return fabs(*slope) < 1e3 && h[0] > 0x1p-20;
        do {
            next = line_evaluate(fit, *intercept + length * up, *slope + length * tilt);
            length /= 2;
        } while (!(next >= value) && length > 0x1p-20);
        *intercept += 2 * length * up;
        *slope += 2 * length * tilt;
        value = next;
    }
    return false;
}

void ivon_calibration_line(struct ivon_metric metrics[IVON_CALIBRATION_LINE_COUNT],
                           const float *confidences, const float *errors, size_t count)
{
    struct line_fit fit = {.confidences = confidences, .errors = errors, .count = count};
    double intercept = 0, slope = 1;
    metrics[0] = (struct ivon_metric){"calibration_slope", NAN, NAN};
    metrics[1] = (struct ivon_metric){"calibration_intercept", NAN, NAN};
    size_t wrong = 0;
    for (size_t i = 0; i < count; i++)
        wrong += errors[i] > 0;
    if (!wrong || wrong == count || !line_maximise(&fit, &intercept, &slope))
        return;
    const double *h = fit.information;
    double determinant = h[0] * h[2] - h[1] * h[1];
    metrics[0].value = slope;
    metrics[0].standard_error = sqrt(h[0] / determinant);
    metrics[1].value = intercept;
    metrics[1].standard_error = sqrt(h[2] / determinant);
}

/* Normal distributions. */

double ivon_normal_bound(double probability)
{
    double low = 0, high = 40;
    for (int i = 0; i < 100; i++) {
        double middle = (low + high) / 2;
        if (erf(middle / sqrt(2)) < probability)
            low = middle;
        else
            high = middle;
    }
    return high;
}

double ivon_crps_normal(double mean, double std, double y)
{
    const double pi = 3.14159265358979323846;
    if (!(std > 0))
        return fabs(y - mean);
    double z = (y - mean) / std;
    return std * (z * erf(z / sqrt(2)) + 2 * exp(-z * z / 2) / sqrt(2 * pi) - 1 / sqrt(pi));
}
