/* Copies in which each axis of the output has a table of positions along that axis of the input:
   padding, cropping, repeating the nearest element. */
#ifndef NET_OPS_MOVEMENT_TABLE_COPY_H
#define NET_OPS_MOVEMENT_TABLE_COPY_H

#include "net/graph/operator.h"

struct net_table_copy {
    int rank;
    int64_t rows; /* of the output, along its last axis */
    struct {
        int64_t count;         /* of the output */
        const int64_t *offset; /* of each position, in elements of the input; -1: none */
    } axes[IVON_RANK_MAX];
};

/* Returns the bytes that the tables of an output take; its shape is set. */
size_t net_table_copy_size(const struct net_tensor *output);

/* Returns the position along an axis of the input that position `at` of the output copies, or -1 if
   it copies none. */
typedef int64_t net_table_source(const void *context, int axis, int64_t at);

/* Fills the tables at `tables`, which the copy borrows. */
void net_table_copy_begin(struct net_table_copy *copy, const struct net_tensor *input,
                          const struct net_tensor *output, int64_t *tables,
                          net_table_source *source, const void *context);

/* Positions that copy none get *constant. Where `in` is null, the input's elements are 0, and so is
   the constant. */
void net_table_copy_run(const struct net_table_copy *copy, enum net_type type, void *out,
                        const void *in, const void *constant);

/* The transpose: to[…] += from[…], unless `to` is null. Returns the sum of the elements of `from`
   at positions that copy none. */
double net_table_copy_add(const struct net_table_copy *copy, float *to, const float *from);

#endif
