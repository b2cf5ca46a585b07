/*
 * Element-wise operators, run over blocks of elements in the output's order. Operands are the
 * node's inputs, followed by attributes that count as scalar operands.
 */
#ifndef NET_OPS_ELEMENTWISE_BLOCKWISE_H
#define NET_OPS_ELEMENTWISE_BLOCKWISE_H

#include "net/ops/elementwise/elementwise.h"

/* Of one operand. */
enum { BLOCK_BYTES = 4096, BLOCK_FLOATS = BLOCK_BYTES / sizeof(float) };

/* One tensor read in the order of another, to whose shape it is broadcast. */
struct broadcast {
    _Alignas(64) unsigned char scratch[BLOCK_BYTES];
    const unsigned char *data;
    size_t size;   /* of an element */
    size_t offset; /* of the next element in `data` */
    /* Axes of the output, the fastest first, merged where the operand allows it. */
    int rank;
    size_t extent[IVON_RANK_MAX], stride[IVON_RANK_MAX], index[IVON_RANK_MAX];
    /* scratch begins with `same_count` times the element at `same`. */
    size_t same, same_count;
};

void broadcast_begin(struct broadcast *broadcast, const struct net_tensor *operand,
                     const struct net_tensor *output);

/* Returns the next `count` elements, at most BLOCK_BYTES: in place, or copied to scratch. */
const void *broadcast_next(struct broadcast *broadcast, size_t count);

/* The transpose: adds the next `count` values to sums, which has the operand's shape. */
void broadcast_add(struct broadcast *broadcast, const float *values, size_t count, double *sums);

/* Run a chain block by block, on values that are in no tensor: the first begins the operands of all
   links, the second computes the next `count` elements, at most BLOCK_FLOATS. `running` has room
   for them; `out` may be `value`. */
void chain_begin(const struct net_chain *chain, struct broadcast *operands);
void chain_next(const struct net_chain *chain, struct broadcast *operands, const float *value,
                float *running, float *out, size_t count);

/* The block of operands that a kernel works on. */
struct block {
    const struct net_call *call;
    size_t operand_count, count;
    const void *const *operands; /* `count` elements each; null where one is left out */
    const float *output;         /* for slopes: the result of forward */
};

typedef void block_kernel(void *out, const struct block *block);

/* out = ∂output/∂operand `which` */
typedef void block_slope(float *out, const struct block *block, size_t which);

/* For infer: attributes as operands behind the inputs. */
int block_parameters(struct net_call *call, const float *values, size_t count,
                     struct ivon_error *error);

size_t block_operand_count(const struct net_call *call);
const struct net_tensor *block_operand(const struct net_call *call, size_t i);

/*
 * For infer: output 0 gets `type` and the operands' common shape, the call the workspace that the
 * functions below take. Operands may be left out from `needed` on.
 */
int block_infer(struct net_call *call, enum net_type type, size_t needed, struct ivon_error *error);

/* For infer: checks that the type of an input is among `types`, 1 << NET_FLOAT | …. */
int block_expect(const struct net_call *call, size_t input, unsigned types,
                 struct ivon_error *error);

void block_forward(const struct net_call *call, block_kernel *kernel);
void block_backward(const struct net_call *call, block_slope *slope,
                    const float *const *output_adjoints, float *const *input_adjoints);
void block_tangent(const struct net_call *call, block_slope *slope,
                   const float *const *input_tangents, float *const *output_tangents);

/* forward on floats of a row that has `unary`, or `binary` and two operands. */
void block_chain(const struct net_call *call);

/* infer and forward of rows of one tensor of floats, which attributes may follow. */
int block_float_infer(struct net_call *call, struct ivon_error *error);
int block_float_forward(const struct net_call *call, struct ivon_error *error);

/* Towards 0; 0 of NaN, the nearest where there is none. */
static inline int64_t block_truncate(float x)
{
    if (x >= 0x1p63F)
        return INT64_MAX;
    return x > -0x1p63F ? (int64_t)x : x <= -0x1p63F ? INT64_MIN : 0;
}

/* A loop whose iterations are independent, although `out` may be an operand. */
#define BLOCK_EACH(count) _Pragma("GCC ivdep") for (size_t i = 0; i < (count); i++)

/* The backward and tangent of a row, from name##_slope. */
#define BLOCK_DERIVATIVES(name)                                                                    \
    static void name##_backward(const struct net_call *call, const float *const *output_adjoints,  \
                                float *const *input_adjoints)                                      \
    {                                                                                              \
        block_backward(call, name##_slope, output_adjoints, input_adjoints);                       \
    }                                                                                              \
    static void name##_tangent(const struct net_call *call, const float *const *input_tangents,    \
                               float *const *output_tangents)                                      \
    {                                                                                              \
        block_tangent(call, name##_slope, input_tangents, output_tangents);                        \
    }

#endif
