/* Files of calibrations: ivon-calibrate(1) says what is in them. */
#ifndef CMD_SHARED_INPUTS_CALIBRATION_H
#define CMD_SHARED_INPUTS_CALIBRATION_H

#include "ivon/calibrate.h"

/* Reads one, to be freed. */
int calibration_read(struct ivon_calibration **calibration, const char *path,
                     struct ivon_error *error);

/* Sets what stands for the spread of a mean, `count` numbers: the root of the sum of squares of
   both deviations. `aleatoric` may be null: it is unknown. */
void calibration_deviations(float *deviations, const float *epistemic, const float *aleatoric,
                            size_t count);

/* The outputs that a calibration is of: the probabilities of a row, or its means. */
size_t calibration_outputs(enum ivon_likelihood likelihood, size_t outputs);

#endif
