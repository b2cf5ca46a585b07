/* The shape rules that the rows of attention share. */
#ifndef NET_OPS_ATTENTION_OPERANDS_H
#define NET_OPS_ATTENTION_OPERANDS_H

#include "net/ops/attention/attention.h"

/* The axes of heads: of examples, of the heads of keys, of the queries' heads that share one. */
enum { HEAD_EXAMPLES, HEAD_KEYS, HEAD_SHARED, HEAD_AXES };

/* Extents that a row's inputs must agree in. */
struct attention_extents {
    int64_t examples, heads, key_heads, queries, first, keys, size, value_size;
};

/* Fails unless heads divide, and everything fits the BLAS library; sets the axes, and all of
   `attention` but operands, masks and bounds, which are none. */
int attention_begin(const struct net_call *call, const struct attention_extents *extents,
                    struct attention *attention, struct ivon_error *error);

/* Sets an operand of examples × rows × (heads × size), whose rows are `row` elements apart, or of
   examples × heads × rows × size. `heads` are the operand's. */
struct attention_operand attention_by_row(const struct attention *attention, int64_t heads,
                                          int64_t rows, int64_t size, int64_t row);
struct attention_operand attention_by_head(const struct attention *attention, int64_t heads,
                                           int64_t rows, int64_t size);

/* Appends input `input` as a mask, which broadcasts to examples × heads × queries × keys; with
   `padded`, keys that it is too short for are not seen. */
int attention_add_mask(const struct net_call *call, struct attention *attention, size_t input,
                       bool padded, struct ivon_error *error);

/* For ONNX Runtime's rows: input `input` says which keys are padding: integers of examples, the
   lengths, or of examples × keys or examples × queries × keys, 0 for what mask_filter_value is
   added to. Does nothing where it is left out. */
int attention_add_padding(const struct net_call *call, struct attention *attention, size_t input,
                          struct ivon_error *error);

/* For ONNX Runtime's rows: input `input` is added to the scores, if it is there. */
int attention_add_bias(const struct net_call *call, struct attention *attention, size_t input,
                       struct ivon_error *error);

/* Sets lengths and masks, which `attention_add_padding` and `attention_add_bias` took from inputs
   `padding` and `bias`. */
void attention_set_masks(const struct net_call *call, size_t padding, size_t bias,
                         struct attention_values *values);

#endif
