#include "net/ops/movement/table_copy.h"

size_t net_table_copy_size(const struct net_tensor *output)
{
    size_t count = 0;
    for (int i = 0; i < output->rank && output->count; i++)
        count += (size_t)output->shape[i];
    return count * sizeof(int64_t);
}

void net_table_copy_begin(struct net_table_copy *copy, const struct net_tensor *input,
                          const struct net_tensor *output, int64_t *tables,
                          net_table_source *source, const void *context)
{
    int64_t stride = 1;
    copy->rank = output->rank;
    copy->rows = 0;
    if (!output->count)
        return;
    for (int k = output->rank - 1; k >= 0; k--) {
        copy->axes[k].count = output->shape[k];
        copy->axes[k].offset = tables;
        for (int64_t i = 0; i < output->shape[k]; i++) {
            int64_t position = source(context, k, i);
            *tables++ = position < 0 ? -1 : position * stride;
        }
        stride *= input->shape[k];
    }
    copy->rows = copy->rank ? (int64_t)output->count / output->shape[copy->rank - 1] : 1;
}

/* The rows of the output, along its last axis, one after another. */
struct table_walk {
    const struct net_table_copy *copy;
    int64_t index[IVON_RANK_MAX];
    const int64_t *offset; /* of the last axis */
    int64_t count;
};

static struct table_walk table_walk_start(const struct net_table_copy *copy)
{
    static const int64_t first = 0;
    struct table_walk walk = {.copy = copy, .offset = &first, .count = 1};
    if (copy->rank && copy->rows) {
        walk.offset = copy->axes[copy->rank - 1].offset;
        walk.count = copy->axes[copy->rank - 1].count;
    }
    return walk;
}

/* Returns the start of the current row in the input, or -1; advances to the next row. */
static int64_t table_walk_row(struct table_walk *walk)
{
    const struct net_table_copy *copy = walk->copy;
    int64_t first = 0;
    for (int k = 0; k < copy->rank - 1; k++) {
        int64_t offset = copy->axes[k].offset[walk->index[k]];
        first = first < 0 || offset < 0 ? -1 : first + offset;
    }
    for (int k = copy->rank - 2; k >= 0 && ++walk->index[k] == copy->axes[k].count; k--)
        walk->index[k] = 0;
    return first;
}

#define TABLE_COPY(name, type)                                                                     \
    static void name(const struct net_table_copy *copy, type *out, const type *in, type constant)  \
    {                                                                                              \
        struct table_walk walk = table_walk_start(copy);                                           \
        for (int64_t row = 0; row < copy->rows; row++, out += walk.count) {                        \
            int64_t first = table_walk_row(&walk);                                                 \
            for (int64_t i = 0; i < walk.count; i++) {                                             \
                bool none = first < 0 || walk.offset[i] < 0;                                       \
                out[i] = none ? constant : in ? in[first + walk.offset[i]] : 0;                    \
            }                                                                                      \
        }                                                                                          \
    }
TABLE_COPY(table_copy_float, float)
TABLE_COPY(table_copy_integer, int64_t)
TABLE_COPY(table_copy_boolean, uint8_t)
#undef TABLE_COPY

void net_table_copy_run(const struct net_table_copy *copy, enum net_type type, void *out,
                        const void *in, const void *constant)
{
    if (type == NET_FLOAT)
        table_copy_float(copy, out, in, constant ? *(const float *)constant : 0);
    else if (type == NET_INTEGER)
        table_copy_integer(copy, out, in, constant ? *(const int64_t *)constant : 0);
    else
        table_copy_boolean(copy, out, in, constant ? *(const uint8_t *)constant : 0);
}

double net_table_copy_add(const struct net_table_copy *copy, float *to, const float *from)
{
    double outside = 0;
    struct table_walk walk = table_walk_start(copy);
    for (int64_t row = 0; row < copy->rows; row++, from += walk.count) {
        int64_t first = table_walk_row(&walk);
        for (int64_t i = 0; i < walk.count; i++) {
            if (first < 0 || walk.offset[i] < 0)
                outside += (double)from[i];
            else if (to)
                to[first + walk.offset[i]] += from[i];
        }
    }
    return outside;
}
