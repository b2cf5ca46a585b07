/* Moving elements of tensors in blocks, between sources and types. */
#ifndef BAYES_TRANSFER_H
#define BAYES_TRANSFER_H

#include "ivon/stream.h"

/* Points *at to a range of a tensor: in place if it can be, else read into *block, which is
   allocated on first use, for `capacity` elements of any type. */
int transfer_fetch(struct ivon_source *source, size_t tensor, size_t first, size_t count,
                   size_t capacity, unsigned char **block, const unsigned char **at,
                   struct ivon_error *error);

/* Sets `out` to a range of a tensor of any floating-point type, read into *block as above. */
int transfer_numbers(struct ivon_source *source, size_t tensor, size_t first, size_t count,
                     size_t capacity, unsigned char **block, double *out, struct ivon_error *error);

/* Sets `out` to a range of a tensor of any floating-point type, each element rounded once. */
int transfer_floats(struct ivon_source *source, size_t tensor, size_t first, size_t count,
                    float *out, struct ivon_error *error);

/* The smallest magnitude that rounds to infinity in a floating-point type. */
double transfer_overflow_bound(enum ivon_dtype dtype);

/* Converts between floating-point types, each element rounded once. Stops at a finite element that
   does not fit and returns its index; else `count`. */
size_t transfer_convert(void *out, enum ivon_dtype to, const void *in, enum ivon_dtype from,
                        size_t count);

/* The error for that element, `at` elements into a block of `name` that begins with `first`. */
int transfer_overflow(const struct ivon_source *source, const char *name, size_t first,
                      const void *block, enum ivon_dtype from, enum ivon_dtype to, size_t at,
                      struct ivon_error *error);

#endif
