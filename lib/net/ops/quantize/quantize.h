/* Integers that stand for numbers: x = scale (q − zero). */
#ifndef NET_OPS_QUANTIZE_QUANTIZE_H
#define NET_OPS_QUANTIZE_QUANTIZE_H

#include "core/vector_math.h"
#include "net/graph/operator.h"

/* The places of the elements' scales and zeros: one for all, or for each index of an axis, or for
   each block along it. */
struct quantize_places {
    size_t length, inner; /* the axis, and elements of each of its indices */
    size_t block, blocks; /* indices that share a scale; 0: one for all */
    bool by_inner;        /* each element of an index has a scale of its own */
};

/* For infer: reads the places of input `scale`'s elements for those of `x`; input `scale + 1`, if
   it is there, must have its shape, and integers. */
int quantize_read_places(const struct net_call *call, const struct net_tensor *x, size_t scale,
                         int64_t axis, int64_t block, struct quantize_places *places,
                         struct ivon_error *error);

static inline size_t quantize_place(const struct quantize_places *places, size_t i)
{
    if (!places->block)
        return 0;
    size_t at = i / places->inner % places->length / places->block;
    if (!places->by_inner)
        return at;
    size_t outer = i / places->inner / places->length;
    return (outer * places->blocks + at) * places->inner + i % places->inner;
}

/* Sets the type that input `zero` gives to an output, or ONNX's number of one; 0 and no input:
   uint8. */
int quantize_read_type(const struct net_call *call, size_t zero, int64_t data_type,
                       enum net_integers *type, struct ivon_error *error);

/* x, rounded to even, plus zero, as the nearest integer of a type. */
int64_t quantize_saturate(float x, int64_t zero, enum net_integers type);

/* The zero of a place; 0 where the input is left out. */
int64_t quantize_zero(const struct net_tensor *zeros, size_t place);

#endif
