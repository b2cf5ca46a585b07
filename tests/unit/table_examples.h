/* Examples from arrays in memory, "x" and targets "y". */
#ifndef TESTS_UNIT_TABLE_EXAMPLES_H
#define TESTS_UNIT_TABLE_EXAMPLES_H

#include "core/error.h"
#include "core/examples.h"
#include "model.h"

struct table {
    const void *data[2];
    size_t sizes[2]; /* bytes of one example */
    bool fails;
};

static inline int table_read(void *self, size_t field, uint64_t first, size_t count, void *buffer,
                             struct ivon_error *error)
{
    const struct table *table = self;
    if (table->fails)
        return ivon_error_set(error, IVON_ERROR_IO, "out of reach");
    memcpy(buffer, (const char *)table->data[field] + first * table->sizes[field],
           count * table->sizes[field]);
    return 0;
}

static inline void table_close(void *self)
{
    (void)self;
}

static inline struct ivon_examples *open_table(struct table *table, size_t count, int rank,
                                               const int64_t *shape, const float *x,
                                               enum ivon_dtype dtype, int target_rank,
                                               const int64_t *target_shape, const void *targets)
{
    static const struct ivon_examples_class class = {.read = table_read, .close = table_close};
    static const struct examples_scaling scalings[2] = {{.divisor = 1, .channels = 1},
                                                        {.divisor = 1, .channels = 1}};
    struct ivon_field fields[2] = {{.name = "x", .dtype = IVON_F32, .rank = rank},
                                   {.name = "y", .dtype = dtype, .rank = target_rank}};
    struct ivon_examples *examples = NULL;
    *table = (struct table){.data = {x, targets}, .sizes = {sizeof *x, ivon_dtype_size(dtype)}};
    for (int i = 0; i < rank; i++)
        table->sizes[0] *= (size_t)(fields[0].shape[i] = shape[i]);
    for (int i = 0; i < target_rank; i++)
        table->sizes[1] *= (size_t)(fields[1].shape[i] = target_shape[i]);
    assert_int_equal(ivon_examples_new(&examples, &class, table, "data", count, fields, scalings,
                                       targets ? 2 : 1, NULL),
                     0);
    return examples;
}

#endif
