/* The interface that a format implements to be a set of examples. */
#ifndef CORE_EXAMPLES_H
#define CORE_EXAMPLES_H

#include "core/random.h"
#include "ivon/examples.h"

/* Ranges are checked, and not empty, before these are called. Elements are handed out as stored. */
struct ivon_examples_class {
    int (*read)(void *self, size_t field, uint64_t first, size_t count, void *buffer,
                struct ivon_error *error);
    void (*close)(void *self);
    /* The number of an example for messages; null: its own. */
    uint64_t (*number)(const void *self, uint64_t example);
    /* The list of ivon_examples_characters; null: there is none. */
    const char *const *(*characters)(const void *self, size_t *count);
    /* A change that may help where a network takes other extents of an example. */
    enum ivon_hint extents_hint;
};

/* How the elements of a field become floats: (x / divisor − mean[c]) / std[c], c being the index
   along the example's first axis, or 0 where `channels` is 1. */
struct examples_scaling {
    double divisor; /* 255 for bytes, else 1 */
    size_t channels;
    const double *mean, *std; /* null: 0 and 1 */
};

/*
 * Makes examples of a class. Copies path, fields and scalings (one for each field); takes over
 * `self` on success. Each field's element count is computed from its shape, which must not overflow
 * or be empty (IVON_ERROR_DATA).
 */
int ivon_examples_new(struct ivon_examples **examples, const struct ivon_examples_class *class,
                      void *self, const char *path, uint64_t count, const struct ivon_field *fields,
                      const struct examples_scaling *scalings, size_t field_count,
                      struct ivon_error *error);

/* Makes `count` examples with the fields and scalings of other examples, which are borrowed. The
   class hands out the field `floats`, unless that is negative, as floats that are scaled. */
int examples_new_like(struct ivon_examples **examples, const struct ivon_examples_class *class,
                      void *self, const char *path, const struct ivon_examples *like,
                      uint64_t count, ptrdiff_t floats, struct ivon_error *error);

/* The class's hint, also of examples that are like those of the class. */
enum ivon_hint examples_extents_hint(const struct ivon_examples *examples);

/* Elements as stored; the range must lie within, and not be empty. */
int examples_read_stored(struct ivon_examples *examples, size_t field, uint64_t first, size_t count,
                         void *buffer, struct ivon_error *error);

/* Chooses `wanted` of the numbers below `total` at random, by the words of a stream; rising. */
void examples_choose(uint64_t *chosen, uint64_t wanted, uint64_t total,
                     const struct random_stream *stream);

#endif
