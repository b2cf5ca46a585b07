/* The inside of a calibration: what was fitted to held-out rows (ivon/calibrate.h). */
#ifndef METRICS_CALIBRATE_CALIBRATION_H
#define METRICS_CALIBRATE_CALIBRATION_H

#include "ivon/calibrate.h"

/* A rising function: linear between its knots, constant beyond them. */
struct isotonic {
    size_t count; /* at least 1 */
    double *x;    /* rising strictly */
    double *y;    /* never falling */
};

struct conformal {
    enum ivon_conformal score;
    double coverage, penalty;
    uint64_t free_ranks, seed;
    size_t quantile_count; /* 1, or K of regression */
    double *quantiles;     /* each may be infinite */
    double tie; /* of classes: a score equal to the quantile belongs to the set up to this number */
    uint64_t rows;
};

struct ivon_calibration {
    enum ivon_likelihood likelihood;
    size_t outputs;
    enum ivon_calibration_method method;
    uint64_t rows; /* that it was fitted to */
    double temperature;
    double *weights, *biases;  /* K each; of events 2 K */
    struct isotonic *isotonic; /* K */
    struct conformal conformal;
};

/* Rows in the order of a list, among those of the data. */
struct calibration_rows {
    const struct ivon_calibration_data *data;
    const size_t *list;
    size_t count;
};

/* log p, of p not below the least normal number. */
double calibration_log(float p);

/* Fit T, or w and b, which hold 1 and 0, to n rows of K logarithms and their labels. */
double scaling_fit_temperature(const double *logs, const int64_t *labels, size_t n, size_t k);
int scaling_fit_vector(const double *logs, const int64_t *labels, size_t n, size_t k,
                       double *weights, double *biases, struct ivon_error *error);

/* Fits T, or w and b of each event's two classes, to rows of K events. */
int events_fit_scaling(struct ivon_calibration *calibration, const struct calibration_rows *rows,
                       struct ivon_error *error);
/* Recalibrates the K probabilities of a row, by a method. */
void events_apply(const struct ivon_calibration *calibration, const float *p, float *out);

/* How many weights, and biases, a calibration by vector scaling has. */
size_t calibration_scalings(const struct ivon_calibration *calibration);

/* The isotonic function of x, `count` numbers, that tells y, 0 or 1. */
int isotonic_fit(struct isotonic *isotonic, const float *x, const bool *y, size_t count,
                 struct ivon_error *error);
void isotonic_release(struct isotonic *isotonic);
double isotonic_value(const struct isotonic *isotonic, double x);

/* The random numbers that a row has. */
enum conformal_draw { CONFORMAL_HELD_OUT, CONFORMAL_NEW };

/* Finds the quantiles of scores of the rows. */
int conformal_fit(struct conformal *conformal, const struct calibration_rows *rows, size_t k,
                  const float *probabilities, struct ivon_error *error);

/* A class with its probability. */
struct ranked {
    float p;
    size_t class;
};

/* Sets the score of each of K classes. `ranked` is scratch for K. */
void conformal_scores(const struct conformal *conformal, size_t k, double u, const float *p,
                      struct ranked *ranked, double *scores);

/* Marks the classes of a set, K of 0 and 1, and returns their number. `ranked` and `scores` are
   scratch for K each. */
int64_t conformal_set(const struct conformal *conformal, size_t k, uint64_t number, const float *p,
                      struct ranked *ranked, double *scores, int64_t *set);

/* A number of (0, 1) for a purpose: number c of a row. */
double calibration_uniform(uint64_t seed, const char *purpose, uint64_t number, uint64_t c);

/* Fails unless the options make sense. */
int calibration_check_options(const struct ivon_calibrate_options *options,
                              struct ivon_error *error);

/* Fits to the rows of a list, that were checked. */
int calibration_fit_rows(struct ivon_calibration **out,
                         const struct ivon_calibrate_options *options,
                         const struct calibration_rows *rows, struct ivon_error *error);

/* Fails unless data that the options need are there, and are numbers, probabilities and labels. */
int calibration_check_data(const struct ivon_calibrate_options *options,
                           const struct ivon_calibration_data *data, struct ivon_error *error);

/* Reads options as options_read does. */
int calibration_read_options(struct ivon_calibrate_options *own,
                             const struct ivon_calibrate_options *given, struct ivon_error *error);

#endif
