/* What tests of element-wise operators share: shapes, references element by element, bits. */
#ifndef TESTS_UNIT_ELEMENTWISE_H
#define TESTS_UNIT_ELEMENTWISE_H

#include "operator.h"

/* Extents that broadcast to one another, from empty to eight axes; several need more than one
   block, or end within one. */
static const struct pair {
    int rank[2];
    int64_t shape[2][8];
} pairs[] = {
    {{0, 0}, {{0}, {0}}},
    {{1, 0}, {{5}, {0}}},
    {{0, 2}, {{0}, {3, 1}}},
    {{2, 1}, {{4, 3}, {3}}},
    {{3, 2}, {{2, 3, 4}, {3, 1}}},
    {{3, 3}, {{2, 1, 4}, {1, 3, 1}}},
    {{1, 3}, {{1}, {1, 2, 1}}},
    {{2, 2}, {{0, 3}, {1, 3}}},
    {{2, 1}, {{2, 0}, {1}}},
    {{3, 3}, {{0, INT64_MAX / 32, 3}, {1, 1, 3}}},
    {{8, 8}, {{2, 1, 3, 1, 2, 1, 2, 2}, {1, 2, 3, 2, 1, 1, 2, 1}}},
    {{8, 4}, {{2, 2, 1, 2, 1, 3, 2, 1}, {2, 3, 2, 3}}},
    {{2, 2}, {{3, 700}, {3, 1}}},
    {{2, 1}, {{41, 67}, {67}}},
    {{1, 2}, {{2500}, {3, 2500}}},
    {{1, 1}, {{5000}, {1}}},
    {{2, 2}, {{1024, 1}, {1, 3}}},
    {{1, 1}, {{3000}, {3000}}},
    /* a block of 1024 lies within the first run of 1094, and next within the 15th: equal values */
    {{3, 2}, {{8, 2, 1094}, {2, 1}}},
};

enum { PAIR_COUNT = sizeof pairs / sizeof pairs[0] };

/* Returns whether the second shape of a pair broadcasts to the first, which stays as it is. */
static inline bool pair_keeps_first(const struct pair *pair)
{
    bool keeps = pair->rank[1] <= pair->rank[0];
    for (int i = 1; i <= pair->rank[1] && keeps; i++) {
        int64_t extent = pair->shape[1][pair->rank[1] - i];
        keeps = extent == 1 || extent == pair->shape[0][pair->rank[0] - i];
    }
    return keeps;
}

/* The element of an operand that element `i` of the output takes. */
static inline size_t element(const struct net_tensor *operand, const struct net_tensor *output,
                             size_t i)
{
    size_t at = 0, step = 1;
    for (int axis = 1; axis <= output->rank; axis++) {
        size_t extent = (size_t)output->shape[output->rank - axis];
        size_t own = axis <= operand->rank ? (size_t)operand->shape[operand->rank - axis] : 1;
        at += own == 1 ? 0 : i % extent * step;
        i /= extent;
        step *= own;
    }
    return at;
}

static inline struct net_tensor *add_booleans(struct trial *trial, int rank, const int64_t *shape)
{
    struct net_tensor *tensor = &trial->inputs[trial->node.input_count];
    trial->input_list[trial->node.input_count++] = tensor;
    assert_int_equal(net_tensor_set(tensor, NET_BOOLEAN, rank, shape, NULL), 0);
    assert_int_equal(net_tensor_allocate(tensor, NULL), 0);
    for (size_t i = 0; i < tensor->count; i++)
        ((unsigned char *)tensor->data)[i] = trial_random(trial, 0, 1) < 0.5F;
    return tensor;
}

static inline struct net_tensor *add_integers(struct trial *trial, int rank, const int64_t *shape,
                                              const int64_t *choices, size_t choice_count)
{
    size_t count;
    int64_t extents[8] = {0}, none = 0;
    struct net_tensor probe = {0};
    memcpy(extents, shape, (size_t)rank * sizeof *shape);
    assert_int_equal(net_tensor_set(&probe, NET_INTEGER, rank, extents, NULL), 0);
    count = probe.count;
    int64_t *data = calloc(count + 1, sizeof *data);
    for (size_t i = 0; i < count; i++)
        data[i] = choices[(size_t)trial_random(trial, 0, (double)choice_count)];
    struct net_tensor *tensor = trial_integers(trial, rank, extents, count ? data : &none);
    free(data);
    return tensor;
}

static inline uint32_t bits_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* The same float; any NaN is the same as another. */
static inline bool same_float(float a, float b)
{
    return bits_of(a) == bits_of(b) || (isnan(a) && isnan(b));
}

#endif
