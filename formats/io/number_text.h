/*
 * Finite numbers as decimal text that reads back to the same bits, in any locale: rounded to 6, 7,
 * 8 or 9 significant digits (float), 15, 16 or 17 (double), the first that lies nearer to the
 * number than to any other. Laid out as Python's repr does, but that whole numbers carry no ".0"
 * (save for the negative zero, "-0.0", whose sign readers of integers would lose).
 */
#ifndef FORMATS_IO_NUMBER_TEXT_H
#define FORMATS_IO_NUMBER_TEXT_H

#include <stddef.h>
#include <stdint.h>

enum { NUMBER_TEXT_MAX = 32 /* bytes, more than any of the texts has */ };

/* Write to `text`, without a terminating zero, and return the length. */
size_t number_text_f32(char *text, float value);
size_t number_text_f64(char *text, double value);
size_t number_text_i64(char *text, int64_t value);

#endif
