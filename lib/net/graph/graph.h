/*
 * A network as a graph: values, and nodes that compute values from values. A format's reader builds
 * one (graph_new, graph_add_…, graph_finish); a plan (net/plan/plan.h) runs it.
 *
 * Elements are float, int64_t or bytes that are 0 or 1; a reader converts what a file holds to one
 * of these. Row-major order, no strides.
 */
#ifndef NET_GRAPH_GRAPH_H
#define NET_GRAPH_GRAPH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ivon/error.h"
#include "ivon/network.h"
#include "ivon/stream.h"

enum net_type { NET_FLOAT, NET_INTEGER, NET_BOOLEAN };

/* The type that integers have in a file. Quantization saturates to it; nothing else depends on
   it. */
enum net_integers { NET_ANY_INTEGERS, NET_INT8, NET_UINT8, NET_INT16, NET_UINT16 };

/* Bytes of one element. */
size_t net_type_size(enum net_type type);

/* "float", "integer", "boolean". */
const char *net_type_name(enum net_type type);

struct net_tensor {
    enum net_type type;
    enum net_integers integers; /* of constants, inputs, and what quantization gives */
    int rank;
    int64_t shape[IVON_RANK_MAX];
    size_t count; /* product of the shape */
    void *data;   /* null while the elements are not known */
};

/* Sets rank, shape and count; fails where the product, in bytes, overflows. */
int net_tensor_set(struct net_tensor *tensor, enum net_type type, int rank, const int64_t *shape,
                   struct ivon_error *error);

/* Returns whether rank and extents are the same. */
bool net_same_shape(const struct net_tensor *a, const struct net_tensor *b);

/* "2x3x224x224"; "scalar" without dimensions; "?" for a free one. */
const char *net_shape_text(const struct net_tensor *tensor, char text[256]);

enum net_attribute_kind { NET_INT, NET_FLT, NET_TEXT, NET_INTS, NET_FLTS, NET_TEXTS, NET_TENSOR };

struct net_attribute {
    char *name;
    enum net_attribute_kind kind;
    int64_t integer;
    double number;
    char *text; /* of NET_TEXTS: `count` texts one after the other, each with its final zero */
    int64_t *integers;
    double *numbers;
    size_t count;             /* of integers, numbers or texts */
    struct net_tensor tensor; /* owns its data */
};

#define NET_NONE SIZE_MAX /* an input that is left out, an output that is not wanted */

/* A condition under which a node is computed: nodes of the branches of an If. */
struct net_guard {
    size_t condition; /* a value: one boolean */
    bool when;
};

struct net_node {
    const struct net_operator *op;
    char *name;      /* for messages; may be empty */
    size_t *inputs;  /* values, or NET_NONE */
    size_t *outputs; /* values, or NET_NONE */
    size_t input_count, output_count;
    struct net_attribute *attributes;
    size_t attribute_count;
    struct net_guard *guards; /* all must hold, where they are known with the plan */
    size_t guard_count;
    /* Of a node that cannot be run, whose op is net_refused: the reason, and the operator where it
       is the reason. */
    char *refusal, *refused_operator;
};

enum net_role {
    NET_COMPUTED,  /* by a node */
    NET_INPUT,     /* given by the caller; extents may be free (-1) */
    NET_CONSTANT,  /* its data are in the graph */
    NET_PARAMETER, /* bound to a tensor of a checkpoint */
};

struct net_value {
    char *name;
    enum net_role role;
    bool bound;   /* a checkpoint gave it its elements */
    bool literal; /* of a constant: it is part of the graph's text */
    bool set;     /* the caller did; no checkpoint changes them */
    bool outside; /* of a constant: a graph that is written does not hold it, its checkpoint does */
    bool typed;   /* whether `tensor` has a type and a shape: not for NET_COMPUTED */
    struct net_tensor tensor; /* a constant owns its data */
    size_t producer;          /* node, or NET_NONE */
    size_t parameter;         /* of a NET_PARAMETER: its number, in order of binding */
    int repeated;             /* of a buffer in an input's place: 1 + the axis of examples; or 0 */
};

/* An output as the file lists it. */
struct net_output {
    size_t value;
    bool no_floats; /* the file says that it holds something else */
    int rank;       /* -1: the file does not say */
};

struct ivon_network {
    char *path; /* for messages */
    struct net_value *values;
    size_t value_count, value_capacity;
    struct net_node *nodes; /* after graph_finish: every node after those it takes from */
    size_t node_count, node_capacity;
    size_t *inputs; /* values, in the file's order, constants and parameters left out */
    size_t input_count;
    size_t *outputs; /* as listed, or the one that was chosen */
    size_t output_count;
    struct net_output *listed; /* all outputs, in the file's order */
    size_t listed_count;
    bool chosen;        /* one of them was, and is the only output */
    bool inside;        /* a checkpoint, and part of it */
    size_t *parameters; /* tensors of the source that was bound, in order of binding */
    size_t parameter_count;
    size_t *by_name; /* open-addressing table of value numbers */
    size_t by_name_size;
    const struct net_guard *guards; /* of the nodes that are added; null between calls */
    size_t guard_count;
};

/* The attributes of a node; `otherwise` where it has none. Their kinds were checked when the node
   was added. `…_integers` returns null where there is none. */
int64_t net_attribute_integer(const struct net_node *node, const char *name, int64_t otherwise);
double net_attribute_number(const struct net_node *node, const char *name, double otherwise);
const char *net_attribute_text(const struct net_node *node, const char *name,
                               const char *otherwise);
const int64_t *net_attribute_integers(const struct net_node *node, const char *name, size_t *count);
/* Text i of a list; null where there is none. */
const char *net_attribute_text_at(const struct net_node *node, const char *name, size_t i);
const struct net_attribute *net_attribute(const struct net_node *node, const char *name);

/* Building. */

int graph_new(struct ivon_network **network, const char *path, struct ivon_error *error);

/* The value of that name, or NET_NONE. */
size_t graph_find(const struct ivon_network *network, const char *name);

/* The value of that name, made if there is none yet. */
int graph_value(struct ivon_network *network, const char *name, size_t *value,
                struct ivon_error *error);

/* Declares a graph input; free extents are -1. Does nothing where the value is already constant:
   older files list initializers among the inputs. */
int graph_add_input(struct ivon_network *network, const char *name, enum net_type type, int rank,
                    const int64_t *shape, struct ivon_error *error);

/* Says that a value is no longer an input. */
void graph_forget_input(struct ivon_network *network, size_t value);

/* Fails where the graph has a place for a tensor that is opaque in the source. */
int graph_refuse_opaque(const struct ivon_network *network, const struct ivon_source *source,
                        struct ivon_error *error);

/* Returns whether an Identity node gives the value its elements; if so, disconnects the node. */
bool graph_cut_identity(struct ivon_network *network, struct net_value *value);

/* Gives a value its elements; takes over tensor->data (malloc'd, by net_tensor_allocate) in any
   case. A graph input of that name is an input no more. */
int graph_add_constant(struct ivon_network *network, const char *name, struct net_tensor *tensor,
                       struct ivon_error *error);

int graph_add_output(struct ivon_network *network, const char *name, struct ivon_error *error);

/* Says what the file does of the output that was added last; a rank of -1: nothing. */
void graph_describe_output(struct ivon_network *network, bool no_floats, int rank);

/*
 * Adds a node. Takes over the attributes in any case (the array and what it points to, all
 * malloc'd). An empty input or output name is one left out. Fails when an output already has a
 * producer. If the operator has another number of inputs or outputs, does not have such an
 * attribute or has it in another kind, the node is added as one that cannot be run.
 */
int graph_add_node(struct ivon_network *network, const struct net_operator *op, const char *name,
                   const char *const *inputs, size_t input_count, const char *const *outputs,
                   size_t output_count, struct net_attribute *attributes, size_t attribute_count,
                   struct ivon_error *error);

/*
 * Adds a node that cannot be run. Nothing is wrong with the graph as long as no output needs it.
 * `refusal` is the reason, a sentence's end without the path. Where the operator is the reason,
 * `operator_name` is its name and `refusal` advice on it, which may be empty; else it is null.
 */
int graph_add_refused(struct ivon_network *network, const char *operator_name, const char *refusal,
                      const char *name, const char *const *inputs, size_t input_count,
                      const char *const *outputs, size_t output_count, struct ivon_error *error);

/* Fails if none of the outputs can be computed. The message has all operators that are the reason,
   each with the number of its nodes. Only after graph_finish. */
int graph_check(const struct ivon_network *network, struct ivon_error *error);

/* Finds the elements of a value that constants and known shapes determine already, by computing
   them; for the caller to free tensor->data. Returns false if they are not known. */
bool graph_known(const struct ivon_network *network, size_t value, struct net_tensor *tensor);

/* Sorts the nodes, and checks that every value is defined, and that there is an output. Removes the
   nodes that no output needs. May be called again after changes. */
int graph_finish(struct ivon_network *network, struct ivon_error *error);

/* Allocates data for tensor->count elements, 64-byte aligned, zeroed. */
int net_tensor_allocate(struct net_tensor *tensor, struct ivon_error *error);

/* Reads a tensor of a checkpoint whole, as the type that a graph computes in. On failure too, the
   data are the caller's to free. */
int net_tensor_read(struct net_tensor *tensor, struct ivon_source *source, size_t index,
                    struct ivon_error *error);

/* Makes the tensor that an attribute of numbers or a tensor holds, for the caller to free its data.
   Not for text. */
int net_attribute_constant(const struct net_attribute *attribute, struct net_tensor *tensor,
                           struct ivon_error *error);

void net_attributes_free(struct net_attribute *attributes, size_t count);

#endif
