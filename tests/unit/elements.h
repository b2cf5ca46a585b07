/*
 * For tests of operators that move elements.
 *
 * Tolerances: these operators copy and add. With a step of 1, elements of size 1 and directions of
 * size 1, a central difference is half the difference of two floats below 2, each rounded by up to
 * 2^-24: off by 2^-24, relative to 1 + |tangent|. In <w, Jv> = <J'w, v> adjoints are sums of floats
 * that start at 1, rounded once or twice per element by 2^-24 of their size; the scale of the
 * comparison is the sum of all terms, at least a quarter per element on average. 2^-20 is four
 * times what eight roundings in one direction would give.
 */
#ifndef TESTS_UNIT_ELEMENTS_H
#define TESTS_UNIT_ELEMENTS_H

#include "tests/unit/operator.h"

static const double difference_tolerance = 0x1p-23, identity_tolerance = 0x1p-20;

static inline void check_derivatives(struct trial *trial)
{
    trial_check_derivatives(trial, 1, 1.0, difference_tolerance, identity_tolerance);
}

/* Input 0 of that type, every element another (every bit as good as random for booleans). */
static inline struct net_tensor *add_numbered(struct trial *trial, enum net_type type, int rank,
                                              const int64_t *shape)
{
    struct net_tensor *tensor = &trial->inputs[trial->node.input_count];
    trial->input_list[trial->node.input_count++] = tensor;
    assert_int_equal(net_tensor_set(tensor, type, rank, shape, NULL), 0);
    assert_int_equal(net_tensor_allocate(tensor, NULL), 0);
    for (size_t i = 0; i < tensor->count; i++) {
        if (type == NET_FLOAT)
            ((float *)tensor->data)[i] = (float)i - 3;
        else if (type == NET_INTEGER)
            ((int64_t *)tensor->data)[i] = (int64_t)i << 33;
        else
            ((uint8_t *)tensor->data)[i] = (i * 2654435761U >> 13) & 1;
    }
    return tensor;
}

static inline void add_list(struct trial *trial, size_t count, const int64_t *values)
{
    trial_integers(trial, 1, (const int64_t[]){(int64_t)count}, values);
}

#define LIST(...)                                                                                  \
    sizeof(const int64_t[]){__VA_ARGS__} / sizeof(int64_t), (const int64_t[])                      \
    {                                                                                              \
        __VA_ARGS__                                                                                \
    }

static inline void same_element(const struct net_tensor *a, size_t i, const struct net_tensor *b,
                                size_t j, const char *what)
{
    size_t size = net_type_size(a->type);
    assert_int_equal(a->type, b->type);
    assert_true(i < a->count && j < b->count);
    if (memcmp((char *)a->data + i * size, (char *)b->data + j * size, size) != 0)
        fail_msg("%s: element %zu is not element %zu of the input", what, i, j);
}

static inline void check_shape(const struct net_tensor *tensor, size_t rank, const int64_t *shape)
{
    assert_int_equal(tensor->rank, rank);
    for (size_t i = 0; i < rank; i++)
        assert_int_equal(tensor->shape[i], shape[i]);
}

/* Row-major number of a multi-index. */
static inline size_t number(const struct net_tensor *tensor, const int64_t *index)
{
    size_t n = 0;
    for (int i = 0; i < tensor->rank; i++)
        n = n * (size_t)tensor->shape[i] + (size_t)index[i];
    return n;
}

/* The multi-index of a row-major number. */
static inline void index_of(const struct net_tensor *tensor, size_t n, int64_t *index)
{
    for (int i = tensor->rank - 1; i >= 0; i--) {
        index[i] = (int64_t)(n % (size_t)tensor->shape[i]);
        n /= (size_t)tensor->shape[i];
    }
}

static inline void refuse(struct trial *trial, const char *why)
{
    struct ivon_error error = {0};
    int code = trial_run(trial, &error);
    assert_int_equal(code, IVON_ERROR_DATA);
    assert_int_equal(error.code, code);
    if (!strstr(error.message, why))
        fail_msg("'%s' does not say '%s'", error.message, why);
    trial_end(trial);
}

#endif
