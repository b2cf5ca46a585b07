/*
 * The table of operators: one row each, in the file of its family under lib/net/ops. A row's
 * functions stand together, with the formula above them. Names and semantics are ONNX's, opset 13
 * to 17.
 */
#ifndef NET_GRAPH_OPERATOR_H
#define NET_GRAPH_OPERATOR_H

#include "net/graph/graph.h"

struct net_matmul;     /* net/ops/product.h */
struct net_chain_link; /* net/ops/elementwise.h */

/* One node at one set of shapes, in one thread. */
struct net_call {
    const struct net_node *node;
    struct net_tensor **inputs;  /* node->input_count; null where one is left out */
    struct net_tensor **outputs; /* node->output_count; null where one is not wanted */
    /* Bytes of scratch memory that forward and the derivatives may use; set by infer. */
    size_t workspace_size;
    void *workspace; /* 64-byte aligned; never null while the operator runs */
    /* Whatever infer wants to work out once for these shapes, and room for what forward leaves for
       the derivatives: one malloc'd block, or null. */
    void *prepared;
    /* Set by infer where at these shapes output 0 is input 0, as a Pad by nothing. */
    bool alias;
    /* Given to infer of BatchNormalization: normalizes by the batch at hand
       (net/graph/training.h). */
    bool training;
};

enum {
    /* Output 0 has the elements of input 0 in the same order: no work where they share memory, and
       no further output is wanted. */
    NET_ALIAS = 1,
    /* Output 0 may take the memory of an input that has its size. */
    NET_IN_PLACE = 2,
    /* Needs its inputs' shapes only, not their elements. */
    NET_SHAPE_ONLY = 4,
    /* Output 0 is input 0, and nothing else: a second name of it. */
    NET_IDENTITY = 8,
    /* Output 0 is the sum of inputs 0 and 1, broadcast. */
    NET_SUM = 16,
    /* Output 0 is input 0 with its axes in the order of the attribute perm, else reversed. */
    NET_TRANSPOSE = 32,
    /* Normalizes by running statistics, inputs 3 and 4; in training by the batch (training.h). */
    NET_BATCH_NORM = 64,
    /* Stands in graphs of opsets before the one that brought it too, by the same definition: ONNX
       Runtime had it first, and writes it into the graphs that it optimizes. */
    NET_EARLIER = 128,
};

typedef void net_unary(float *out, const float *a, size_t count);
typedef void net_binary(float *out, const float *a, const float *b, size_t count);

enum { NET_OPERATOR_ATTRIBUTES_MAX = 10, NET_OPERATOR_LATER_MAX = 2, NET_VARIADIC = -1 };

struct net_operator {
    const char *name;
    int since;                  /* the opset that brought it */
    int inputs_min, inputs_max; /* NET_VARIADIC: no upper bound */
    int outputs_max;
    unsigned flags;
    struct {
        const char *name;
        enum net_attribute_kind kind;
    } attributes[NET_OPERATOR_ATTRIBUTES_MAX];
    /* Of the attributes those that an opset after 13 and after the operator's brought. */
    struct {
        const char *name;
        int since;
    } later[NET_OPERATOR_LATER_MAX];

    /*
     * The shape rule: sets type, rank, shape and count of every output (net_tensor_set), and checks
     * types, ranks and extents of the inputs: they come from strangers. Inputs whose elements are
     * known when the plan is made (shapes, axes) have their data already. Must not trust extents to
     * multiply without overflow. May set workspace_size and prepared; is called again for other
     * shapes.
     */
    int (*infer)(struct net_call *call, struct ivon_error *error);

    /* As infer, where input 0, 1 or both are to be taken with their last two axes swapped. Null:
       the operator cannot. */
    int (*infer_transposed)(struct net_call *call, bool transpose_a, bool transpose_b,
                            struct ivon_error *error);

    /* outputs = f(inputs). Fails only on elements that no shape can rule out, as an index that is
       out of range. Null for NET_ALIAS with one output. */
    int (*forward)(const struct net_call *call, struct ivon_error *error);

    /*
     * vjp: ADDS to input_adjoints[i], which has input i's shape, (∂f/∂input_i)ᵀ output_adjoints.
     * Null input adjoints are not wanted; null output adjoints are zero. Only for float tensors.
     * Inputs and outputs hold what forward left there.
     */
    void (*backward)(const struct net_call *call, const float *const *output_adjoints,
                     float *const *input_adjoints);

    /* jvp: SETS output_tangents[j] to Σ_i (∂f_j/∂input_i) input_tangents[i]. Null input tangents
       are zero. */
    void (*tangent)(const struct net_call *call, const float *const *input_tangents,
                    float *const *output_tangents);

    /* The matrix product of inputs 0 and 1 that output 0 is at these shapes, but for the attributes
       alpha and beta and a bias, input 2; null where it is none. */
    const struct net_matmul *(*product)(const struct net_call *call);

    /*
     * gᵀ Σ g for a diagonal Σ and the gradient g with respect to input 1 for the output adjoints
     * dy, without reordering g: `arrange` puts the diagonal, `variance`, of input 1's shape, in the
     * order that `quadratic` needs. `arranged` returns how many floats that takes; 0: not possible
     * at these shapes. Null: never possible. Calls are as for backward.
     */
    size_t (*arranged)(const struct net_call *call);
    void (*arrange)(const struct net_call *call, const float *variance, float *arranged);
    double (*quadratic)(const struct net_call *call, const float *dy, const float *arranged);

    /* Of element-wise operators on floats, so that chains of them can be run in one pass. out may
       be a or b. */
    net_unary *unary;
    net_binary *binary;

    /* The links, up to two, of a chain that do what a call does with input 0 as the running value;
       their number. Null: one link, of the function above. */
    int (*links)(const struct net_call *call, struct net_chain_link *links);
};

/* Null-terminated by a row without a name; each family in its file. */
extern const struct net_operator net_elementwise_operators[]; /* ops/elementwise.c: of one tensor */
extern const struct net_operator net_arithmetic_operators[];  /* ops/arithmetic.c: of several */
extern const struct net_operator net_power_operators[];       /* ops/power.c */
extern const struct net_operator net_logic_operators[];       /* ops/logic.c: Where, Cast too */
extern const struct net_operator net_product_operators[];     /* ops/product.c: Gemm, MatMul */
extern const struct net_operator net_convolution_operators[]; /* ops/convolution.c */
extern const struct net_operator net_pooling_operators[];     /* ops/pooling.c */
extern const struct net_operator net_normalize_operators[];   /* ops/normalize.c: of examples */
extern const struct net_operator net_batch_operators[];       /* ops/batch_normalization.c */
extern const struct net_operator net_softmax_operators[];     /* ops/softmax.c */
extern const struct net_operator net_reduce_operators[];      /* ops/reduce.c */
extern const struct net_operator net_movement_operators[];    /* ops/movement.c: along axes */
extern const struct net_operator net_concat_operators[];      /* ops/concat.c: Concat, Split */
extern const struct net_operator net_index_operators[];       /* ops/index.c: Gather, Pad */
extern const struct net_operator net_shape_operators[];       /* ops/shape.c: shapes, makers */

/* The row of that name, or null. */
const struct net_operator *net_operator_find(const char *name);

/* Every name, separated by spaces, in alphabetical order, as many as fit. */
void net_operator_list(char *text, size_t size);

/* A message about a node: "PATH: node 'NAME' (Conv): …". `path` is added by whoever knows it. */
int net_fail(const struct net_call *call, struct ivon_error *error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
#ifdef IVON_ANALYSIS /* analysis sees one file at a time, and must know which code comes back */
#define net_fail(...) ((void)net_fail(__VA_ARGS__), IVON_ERROR_DATA)
#endif

/*
 * For evaluating one node alone: infers, allocates every output (net_tensor_allocate), runs.
 * call->outputs point to tensors of the caller, who frees their data. Frees workspace and
 * prepared.
 */
int net_call_evaluate(struct net_call *call, struct ivon_error *error);

/* For shape rules: call->prepared as a zeroed block of `size` bytes, in place of an earlier one.
   Null when memory is exhausted; the error is then set. */
void *net_prepare(struct net_call *call, size_t size, struct ivon_error *error);

/* For shape rules: checks that input `input` is there and a float tensor. */
int net_expect_float(const struct net_call *call, size_t input, struct ivon_error *error);

/* For shape rules. An axis from a stranger: negative counts from the end; -1 when out of range. */
int net_axis(int64_t axis, int rank);

/* The common shape of two tensors under ONNX's (numpy's) broadcasting; false if there is none. */
bool net_broadcast(const struct net_tensor *a, const struct net_tensor *b, int *rank,
                   int64_t *shape);

#endif
