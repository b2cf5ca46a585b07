/* Decimal numbers in text, to floats, as fast as their digits can be read. */
#ifndef FORMATS_IO_DECIMAL_H
#define FORMATS_IO_DECIMAL_H

#include <stdbool.h>

/*
 * Reads the number that begins at `at`, which are digits with a sign, a point and an exponent where
 * they have these, rounded once to a float. Returns the end of it; null where there is no number,
 * or none of which these steps can tell how it is rounded: then strtof has to.
 */
const char *decimal_float(const char *at, const char *end, float *value);

#endif
