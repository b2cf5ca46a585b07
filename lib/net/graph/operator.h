/*
 * The table of operators: one row each, in the file of its family under lib/net/ops. A row's
 * functions stand together, with the formula above them. Names and semantics are ONNX's, opsets
 * NET_OPSET_LEAST to NET_OPSET_MOST.
 *
 * Where an opset changed an operator's inputs, attributes or meaning, both versions have a row, one
 * after the other, which share their functions: a row is in force from its `since` on, until the
 * next row of that name. A macro above the table has what the rows of a family have in common. What
 * an opset only added, such as an element type, needs no row.
 */
#ifndef NET_GRAPH_OPERATOR_H
#define NET_GRAPH_OPERATOR_H

#include "net/graph/dropout.h"
#include "net/graph/graph.h"

struct net_matmul;     /* net/ops/product/product.h */
struct net_chain_link; /* net/ops/elementwise/elementwise.h */
struct net_finish;     /* net/ops/convolution/finish.h */

/* One node at one set of shapes, in one thread. */
struct net_call {
    const struct net_node *node;
    struct net_tensor **inputs;  /* node->input_count; null where one is left out */
    struct net_tensor **outputs; /* node->output_count; null where one is not wanted */
    size_t memory;               /* bytes that a run may take, set before infer; 0: no bound */
    /* Bytes of scratch memory for forward and the derivatives; set by infer. */
    size_t workspace_size;
    void *workspace; /* 64-byte aligned; never null while the operator runs */
    /* Memory of infer for these shapes. It may include space where forward leaves data for the
       derivatives: one malloc'd block, or null. */
    void *prepared;
    /* Set by infer if output 0 equals input 0 at these shapes, as for a Pad by zero. */
    bool alias;
    /* Set before infer of BatchNormalization: it normalizes by the current batch
       (net/graph/training.h). */
    bool training;
    /* Set before infer of a Dropout that drops; and where its masks come from. */
    const struct net_dropout *dropout;
    const struct net_masks *masks;
    /* The element-wise steps that forward of a NET_FINISHES applies to its output, too; or null. */
    const struct net_finish *finish;
};

/* Of the planes that `planes` sets, those of one channel whose taps differ along the window's first
   axis alone overlap: they are parts of one band. The matrix of columns has row
   (channel taps + tap) inner + j at element tap `step` of band channel inner + j. */
struct net_bands {
    size_t taps;  /* along the first axis */
    size_t inner; /* taps along the other axes */
    size_t step;
    size_t size; /* elements of a band */
};

enum {
    /* Output 0 has the elements of input 0 in the same order. It costs nothing if they share memory
       and no further output is wanted. */
    NET_ALIAS = 1,
    /* Output 0 may use the memory of an input of its size. */
    NET_IN_PLACE = 2,
    /* Needs its inputs' shapes only, not their elements. */
    NET_SHAPE_ONLY = 4,
    /* Output 0 is a second name of input 0. */
    NET_IDENTITY = 8,
    /* Output 0 is the sum of inputs 0 and 1, broadcast. */
    NET_SUM = 16,
    /* Output 0 is input 0 with its axes in the order of the attribute perm, else reversed. */
    NET_TRANSPOSE = 32,
    /* Normalizes by running statistics, inputs 3 and 4; in training by the batch (training.h). */
    NET_BATCH_NORM = 64,
    /* Output 0 is input 1 where input 0 is true, else input 2. If input 0 is known with the plan,
       it is that input, of any type and shape, and nothing is computed for the other. */
    NET_SELECT = 256,
    /* Also in force at older opsets, with the same definition: ONNX Runtime had the
       operator first and writes it into graphs that it optimizes. */
    NET_EARLIER = 128,
    /* Output 0 is the softmax of input 0 along the attribute axis, its logarithm, or the logistic
       function of input 0: what a likelihood applies itself (net/graph/adapt.h). */
    NET_SOFTMAX = 1 << 16,
    NET_LOG_SOFTMAX = 1 << 17,
    NET_LOGISTIC = 1 << 18,
    /* Output 0 is input 0 in the element type that the attribute `to` names. */
    NET_CAST = 1 << 19,
    /* Output 0 is input 0 where that is not below 0, else 0. */
    NET_RECTIFIER = 1 << 20,
    /* Output 0 has the parts of input 0, along the attribute axis (by default 0), that the integers
       of input 1 name; negative ones count from the end. */
    NET_LOOKUP = 1 << 21,
    /* Output 0 is input 0, of which a plan for training drops elements (net/graph/dropout.h). */
    NET_DROPOUT = 1 << 22,
    /* Output 0 can be left out, too. */
    NET_FIRST_OPTIONAL = 4096,
    /* Normalizes over the axes that the attribute axes lists, by default 0, 2 and 3; examples are
       mixed if 0 is one of them. */
    NET_OVER_AXES = 8192,
    /* Output 0 is input 1 where input 0 holds, else input 2, broadcast. */
    NET_WHERE = 512,
    /* Output 0 says where input 0 is NaN. */
    NET_IS_NAN = 1024,
    /* Can apply element-wise steps to its output, of one image's channels each
       (ops/convolution/finish.h). */
    NET_FINISHES = 2048,
};

typedef void net_unary(float *out, const float *a, size_t count);
typedef void net_binary(float *out, const float *a, const float *b, size_t count);

/* The domain of operators that stand for parts of a graph that ONNX has in another form. */
#define NET_OWN_DOMAIN "ivon"

/* The opsets of ONNX's own operators that can be in force. */
enum { NET_OPSET_LEAST = 7, NET_OPSET_MOST = 28 };

enum { NET_OPERATOR_ATTRIBUTES_MAX = 10, NET_OPERATOR_LATER_MAX = 4, NET_VARIADIC = -1 };

struct net_operator {
    const char *domain; /* null: ONNX's own; else such as "com.microsoft" */
    const char *name;
    int since;                  /* the opset that introduced it, or this version of it */
    int inputs_min, inputs_max; /* NET_VARIADIC: no upper bound */
    int outputs_max;
    unsigned flags;
    unsigned planned; /* bits of the inputs of floats whose elements a plan must know */
    /* Bits of other inputs of floats that are settings of the computation, and no weights, even if
       they are constants of the graph. */
    unsigned settings;
    /* Bits of the inputs that are a layer's weights where they are constants; and of those that are
       if they have one axis and several elements, as a bias that is added. */
    unsigned weights, vectors;
    struct {
        const char *name;
        enum net_attribute_kind kind;
    } attributes[NET_OPERATOR_ATTRIBUTES_MAX];
    /* The attributes that an opset after NET_OPSET_LEAST and after `since` introduced. */
    struct {
        const char *name;
        int since;
    } later[NET_OPERATOR_LATER_MAX];

    /*
     * The shape rule: sets type, rank, shape and count of every output (net_tensor_set), and checks
     * types, ranks and extents of the inputs, since graphs are untrusted. Inputs whose elements are
     * known when the plan is made (shapes, axes) have their data already. Products of extents may
     * overflow and must be checked. May set workspace_size and prepared; is called again for other
     * shapes.
     */
    int (*infer)(struct net_call *call, struct ivon_error *error);

    /* Like infer, with the last two axes of input 0, 1 or both swapped. Null: not supported. */
    int (*infer_transposed)(struct net_call *call, bool transpose_a, bool transpose_b,
                            struct ivon_error *error);

    /* outputs = f(inputs). Fails only on elements that shapes cannot exclude, such as an index out
       of range. Null for NET_ALIAS with one output. */
    int (*forward)(const struct net_call *call, struct ivon_error *error);

    /* forward of `first` and of `second`, whose input 0 is what nothing else uses: the output of
       `first`, finished as first->finish says. It is stored nowhere. `paired_workspace` returns the
       bytes of second->workspace that this takes, or 0 if it is not possible at these shapes. */
    size_t (*paired_workspace)(const struct net_call *first, const struct net_call *second);
    void (*forward_paired)(const struct net_call *first, const struct net_call *second);

    /* vjp: ADDS (∂f/∂input_i)ᵀ output_adjoints to input_adjoints[i], which has input i's shape.
       Null input adjoints are not wanted; null output adjoints are zero. Only for float tensors.
       Inputs and outputs hold the values that forward left there. */
    void (*backward)(const struct net_call *call, const float *const *output_adjoints,
                     float *const *input_adjoints);

    /* jvp: SETS output_tangents[j] to Σ_i (∂f_j/∂input_i) input_tangents[i]. Null input tangents
       are zero. */
    void (*tangent)(const struct net_call *call, const float *const *input_tangents,
                    float *const *output_tangents);

    /* Returns whether a tile of several examples has the outputs of each example alone, one after
       the other, if the outputs' shapes let it: `tile` and `example` are the same node at both
       shapes. Null: always. */
    bool (*separable)(const struct net_call *tile, const struct net_call *example);

    /* Returns the matrix product of inputs 0 and 1 that computes output 0 at these shapes, up to
       the attributes alpha and beta and a bias, input 2. Returns null if output 0 is no such
       product. */
    const struct net_matmul *(*product)(const struct net_call *call);

    /* For an operator of images: at each position of output 0, N × o × positions, the o numbers are
       the products of input 1, seen as a matrix of o rows, and a column of elements of input 0 or
       zeros, up to a bias, input 2. Sets the matrices of columns of the first `count` images, which
       have a column for each position and begin `stride` floats apart. Returns false if output 0 is
       no such product; `planes` null: it only says so. */
    bool (*planes)(const struct net_call *call, size_t count, size_t stride, float *planes);

    /* Sets the bands of these planes, and their layout; those of images begin `stride` floats
       apart. Returns false if planes do not overlap; `bands` null: it sets the layout alone. */
    bool (*bands)(const struct net_call *call, size_t count, size_t stride,
                  struct net_bands *layout, float *bands);

    /*
     * Computes gᵀ Σ g for a diagonal matrix Σ, where g is the gradient of input 1 for the output
     * adjoints dy. It does not reorder g: instead `arrange` copies the diagonal, of input 1's
     * shape, to the order in which `quadratic` forms g. `arranged_count` returns the floats of the
     * copy, or 0 if this is not possible at these shapes. All three are null if it is never
     * possible. The calls are as for backward.
     */
    size_t (*arranged_count)(const struct net_call *call);
    void (*arrange)(const struct net_call *call, const float *diagonal, float *arranged);
    double (*quadratic)(const struct net_call *call, const float *dy, const float *arranged);

    /* For element-wise operators on floats, whose chains run in one pass. `out` may be `a` or
       `b`. */
    net_unary *unary;
    net_binary *binary;

    /* Sets up to two links of a chain that compute the same as a call whose running value is input
       0. Returns their number. Null: the function above is the one link. */
    int (*links)(const struct net_call *call, struct net_chain_link *links);
};

/* Each table ends with a row without a name. */
extern const struct net_operator net_elementwise_operators[]; /* ops/elementwise.c: of one tensor */
extern const struct net_operator net_dropout_operators[];     /* ops/elementwise/dropout.c */
extern const struct net_operator net_arithmetic_operators[];  /* ops/arithmetic.c: of several */
extern const struct net_operator net_power_operators[];       /* ops/power.c */
extern const struct net_operator net_logic_operators[];       /* ops/logic.c: Where, Cast too */
extern const struct net_operator net_product_operators[];     /* ops/product.c: Gemm, MatMul */
extern const struct net_operator net_fused_gemm_operators[];  /* ops/fused_gemm.c */
extern const struct net_operator net_attention_operators[];   /* ops/attention/ */
extern const struct net_operator net_packed_attention_operators[];
extern const struct net_operator net_multi_head_operators[];
extern const struct net_operator net_rotary_operators[];
extern const struct net_operator net_linear_operators[];      /* LinearAttention */
extern const struct net_operator net_convolution_operators[]; /* ops/convolution/ */
extern const struct net_operator net_fused_conv_operators[];
extern const struct net_operator net_deform_operators[];
extern const struct net_operator net_pooling_operators[];      /* ops/pooling/pooling.c */
extern const struct net_operator net_global_pool_operators[];  /* ops/pooling/global.c */
extern const struct net_operator net_normalize_operators[];    /* ops/normalize/normalize.c */
extern const struct net_operator net_sum_norm_operators[];     /* ops/normalize/sums.c */
extern const struct net_operator net_response_operators[];     /* ops/normalize/response.c */
extern const struct net_operator net_batch_operators[];        /* ops/normalize/batch.c */
extern const struct net_operator net_recurrent_operators[];    /* ops/recurrent/layer.c */
extern const struct net_operator net_softmax_operators[];      /* ops/softmax.c */
extern const struct net_operator net_loss_operators[];         /* ops/loss.c */
extern const struct net_operator net_quantize_operators[];     /* ops/quantize.c */
extern const struct net_operator net_quantized_operators[];    /* ops/quantized.c */
extern const struct net_operator net_gated_operators[];        /* ops/gated.c */
extern const struct net_operator net_causal_operators[];       /* ops/causal_convolution.c */
extern const struct net_operator net_reduce_operators[];       /* ops/reduce.c */
extern const struct net_operator net_movement_operators[];     /* ops/movement.c: along axes */
extern const struct net_operator net_concat_operators[];       /* ops/concat.c: Concat, Split */
extern const struct net_operator net_index_operators[];        /* ops/index.c: Gather */
extern const struct net_operator net_scatter_operators[];      /* ops/scatter.c */
extern const struct net_operator net_property_operators[];     /* ops/property.c: NonZero, Unique */
extern const struct net_operator net_indicator_operators[];    /* ops/indicator.c: OneHot, Trilu */
extern const struct net_operator net_col2im_operators[];       /* ops/col2im.c */
extern const struct net_operator net_resize_operators[];       /* ops/resize/resize.c */
extern const struct net_operator net_grid_operators[];         /* ops/resize/grid.c */
extern const struct net_operator net_roi_operators[];          /* ops/resize/roi_align.c */
extern const struct net_operator net_pad_operators[];          /* ops/pad.c */
extern const struct net_operator net_shape_operators[];        /* ops/shape.c: shapes, makers */
extern const struct net_operator net_select_operators[];       /* ops/select.c: If */
extern const struct net_operator net_activation_operators[];   /* ops/activation.c */
extern const struct net_operator net_trigonometry_operators[]; /* ops/trigonometry.c */
extern const struct net_operator net_cast_operators[];         /* ops/cast.c */
extern const struct net_operator net_modulo_operators[];       /* ops/modulo.c */
extern const struct net_operator net_bits_operators[];         /* ops/bits.c */
extern const struct net_operator net_scan_operators[];         /* ops/scan.c: CumSum, CumProd */
extern const struct net_operator net_selection_operators[];    /* ops/selection.c: ArgMax, TopK */
extern const struct net_operator net_einsum_operators[];       /* ops/einsum/einsum.c */
extern const struct net_operator net_determinant_operators[];  /* ops/determinant.c */
extern const struct net_operator net_norm_operators[];         /* ops/reduce_norm.c */

/* Stands for an operator that cannot be run; its rule fails with the node's refusal. No row of any
   family. */
extern const struct net_operator net_refused;

/* Row `i` of all; null at their end. */
const struct net_operator *net_operator_row(size_t i);

/* Returns the version of an operator that is in force at an opset of its domain (null: ONNX's own),
   or null. Rows that are NET_EARLIER are in force before, too. */
const struct net_operator *net_operator_find(const char *domain, const char *name, int opset);

/* Returns the first opset at which another row takes a row's place; INT_MAX if none does. */
int net_operator_until(const struct net_operator *row);

/* Fails with a message about a node: "PATH: node 'NAME' (Conv): …". The caller adds the path. */
int net_fail(const struct net_call *call, struct ivon_error *error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
#ifdef IVON_ANALYSIS /* analysis sees one file at a time, and must know which code comes back */
#define net_fail(...) ((void)net_fail(__VA_ARGS__), IVON_ERROR_DATA)
#endif

/* Evaluates one node alone: infers, allocates every output (net_tensor_allocate), runs.
   call->outputs point to tensors of the caller, who frees their data. Frees workspace and
   prepared. */
int net_call_evaluate(struct net_call *call, struct ivon_error *error);

/* For shape rules: replaces call->prepared by a zeroed block of `size` bytes. Returns null and sets
   the error if memory is exhausted, or the block is larger than call->memory. */
void *net_prepare(struct net_call *call, size_t size, struct ivon_error *error);

/* For shape rules: fails unless input `input` is present and a float tensor. */
int net_expect_float(const struct net_call *call, size_t input, struct ivon_error *error);

/* For shape rules: resolves an untrusted axis. Negative axes count from the end; -1 if out of
   range. */
int net_axis(int64_t axis, int rank);

/* Computes the common shape of two tensors under ONNX's (numpy's) broadcasting; false if there is
   none. */
bool net_broadcast(const struct net_tensor *a, const struct net_tensor *b, int *rank,
                   int64_t *shape);

#endif
