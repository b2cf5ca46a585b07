/*
 * Data as a stream of examples: named arrays whose first axis counts the examples. Formats
 * implement it (see ivon/dataset.h), computations read it in pieces.
 */
#ifndef IVON_EXAMPLES_H
#define IVON_EXAMPLES_H

#include <stddef.h>
#include <stdint.h>

#include "ivon/api.h"
#include "ivon/dtype.h"
#include "ivon/error.h"
#include "ivon/stream.h"

#ifdef __cplusplus
extern "C" {
#endif

/* One array of the examples: an input of the network, or the targets. */
struct ivon_field {
    const char *name;
    enum ivon_dtype dtype; /* as stored */
    int rank;              /* of one example: a vector of n numbers has rank 1, a label rank 0 */
    int64_t shape[IVON_RANK_MAX];
    size_t count; /* elements of one example */
};

struct ivon_examples;

IVON_API void ivon_examples_close(struct ivon_examples *examples);

/* The name under which they were opened, for messages; borrowed. */
IVON_API const char *ivon_examples_path(const struct ivon_examples *examples);

/* How many examples there are. */
IVON_API uint64_t ivon_examples_count(const struct ivon_examples *examples);

IVON_API size_t ivon_examples_field_count(const struct ivon_examples *examples);
/* Borrowed. */
IVON_API const struct ivon_field *ivon_examples_field(const struct ivon_examples *examples,
                                                      size_t i);
/* The index of the field of that name, or -1. */
IVON_API ptrdiff_t ivon_examples_find(const struct ivon_examples *examples, const char *name);

/*
 * Elements of the examples [first, first + count), converted. `…_f32`: floating point as it is,
 * rounded once; integers exactly up to 2^24; u8 divided by 255, and then whatever normalization the
 * field was opened with. What is not finite then is IVON_ERROR_DATA, which names the row. `…_i64`:
 * integers; floating-point values must be whole numbers, else IVON_ERROR_DATA names the row,
 * counted from 0. Not for several threads at once. Reading in rising order is what every format is
 * fast at.
 */
IVON_API int ivon_examples_read_f32(struct ivon_examples *examples, size_t field, uint64_t first,
                                    size_t count, float *out, struct ivon_error *error);
IVON_API int ivon_examples_read_i64(struct ivon_examples *examples, size_t field, uint64_t first,
                                    size_t count, int64_t *out, struct ivon_error *error);

/*
 * `count` of the examples, chosen at random without replacement, in their order: a function of
 * `seed` and the two numbers alone. The set that they are of must outlive them.
 */
IVON_API int ivon_examples_subsample(struct ivon_examples **subsample, struct ivon_examples *all,
                                     uint64_t count, uint64_t seed, struct ivon_error *error);

/*
 * Examples over the caller's memory: `data[i]` holds the elements of `fields[i]`, `rows` examples
 * one behind the other, aligned for their type. The descriptions are copied, with the counts
 * computed anew, and the data borrowed. Targets are a field of their name, the last. Bytes
 * (IVON_U8) are divided by 255 where they are read as floats. IVON_ERROR_ARGUMENT where a
 * description makes no sense, IVON_ERROR_DATA where examples have no elements or more than memory
 * can have.
 */
IVON_API int ivon_examples_from_memory(struct ivon_examples **examples, const char *name,
                                       uint64_t rows, const struct ivon_field *fields,
                                       const void *const *data, size_t field_count,
                                       struct ivon_error *error);

/* The number of an example as messages call it: in such a set that in the whole one. */
IVON_API uint64_t ivon_examples_number(const struct ivon_examples *examples, uint64_t example);

/* The characters of a text (`characters` of struct ivon_dataset_options), in UTF-8, each at the
   number of its token; borrowed. Null, and *count 0, of other examples. */
IVON_API const char *const *ivon_examples_characters(const struct ivon_examples *examples,
                                                     size_t *count);

/* Those whose numbers, from 0 and rising, are listed. */
IVON_API int ivon_examples_select(struct ivon_examples **selected, struct ivon_examples *all,
                                  const uint64_t *rows, uint64_t count, struct ivon_error *error);

#ifdef __cplusplus
}
#endif

#endif
