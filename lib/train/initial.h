/*
 * How parameters begin: by address (core/random.h), so that an element's value depends on the seed,
 * the tensor's name and its number alone.
 */
#ifndef TRAIN_INITIAL_H
#define TRAIN_INITIAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ivon/train.h"

enum initial_kind {
    INITIAL_ZEROS,
    INITIAL_ONES,
    INITIAL_UNIFORM, /* between −scale and scale */
    INITIAL_NORMAL,  /* with standard deviation `scale` */
};

struct initial {
    enum initial_kind kind;
    double scale;
    bool table; /* of embeddings, which have no fan: no scheme replaces the rule */
};

/*
 * Rules for a weight of shape out × in × kernel…, fan_in = in · kernel, fan_out = out · kernel:
 *   kaiming   normal, √(2/fan_in)                     (He et al., ICCV 2015, Eq. 10)
 *   xavier    uniform, √(6/(fan_in + fan_out))        (Glorot & Bengio, AISTATS 2010, Eq. 16)
 *   linear    uniform, 1/√fan_in: PyTorch's default, for the bias as well
 */
struct initial initial_kaiming(int rank, const int64_t *shape);
struct initial initial_xavier(int rank, const int64_t *shape);
struct initial initial_linear(int rank, const int64_t *shape);

/* The rule under a scheme: zeros, ones and tables keep theirs; what has one axis becomes zeros. */
struct initial initial_apply_scheme(enum ivon_initial scheme, struct initial own, int rank,
                                    const int64_t *shape);

/*
 * Elements [first, first + count) of tensor `name`. Normals are those of the stream (seed,
 * UINT64_MAX, name), a sample that no training reaches; element i of a uniform is from half-word i
 * of that stream, its upper 24 bits.
 */
void initial_fill(const struct initial *rule, uint64_t seed, const char *name, uint64_t first,
                  size_t count, float *out);

#endif
