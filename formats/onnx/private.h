/* The declarations that the files of the ONNX reader share. */
#ifndef FORMATS_ONNX_PRIVATE_H
#define FORMATS_ONNX_PRIVATE_H

#include <onnx/onnx.pb-c.h>

#include "formats/io/mapped.h"
#include "formats/onnx/wire.h"
#include "net/graph/operator.h"

/* The opset that is written where it has all of a graph. */
enum { ONNX_OPSET_WRITTEN = 13 };

/* Field numbers of onnx.proto, where a message is read or written in place. */
enum {
    ONNX_MODEL_IR_VERSION = 1,
    ONNX_MODEL_PRODUCER_NAME = 2,
    ONNX_MODEL_PRODUCER_VERSION = 3,
    ONNX_MODEL_GRAPH = 7,
    ONNX_MODEL_METADATA = 14,
    ONNX_ENTRY_KEY = 1, /* of metadata and external data */
    ONNX_ENTRY_VALUE = 2,
    ONNX_GRAPH_NODE = 1,
    ONNX_GRAPH_INITIALIZER = 5,
    ONNX_GRAPH_INPUT = 11,
    ONNX_NODE_INPUT = 1,
    ONNX_NODE_OUTPUT = 2,
    ONNX_NODE_OPERATOR = 4,
    ONNX_NODE_ATTRIBUTE = 5,
    ONNX_NODE_DOMAIN = 7,
    ONNX_ATTRIBUTE_NAME = 1,
    ONNX_ATTRIBUTE_TENSOR = 5,
    ONNX_TENSOR_DIMS = 1,
    ONNX_TENSOR_DATA_TYPE = 2,
    ONNX_TENSOR_SEGMENT = 3,
    ONNX_TENSOR_NAME = 8,
    ONNX_TENSOR_RAW_DATA = 9,
    ONNX_TENSOR_EXTERNAL_DATA = 13,
    ONNX_TENSOR_DATA_LOCATION = 14,
    ONNX_VALUE_NAME = 1, /* of an input */
    ONNX_VALUE_TYPE = 2,
    ONNX_TYPE_TENSOR = 1,
    ONNX_TENSOR_TYPE_ELEMENTS = 1,
    ONNX_TENSOR_TYPE_SHAPE = 2,
    ONNX_SHAPE_EXTENT = 1,
    ONNX_EXTENT_VALUE = 1,
};

/*
 * Checks a model's bytes, before they are read by whatever parser: fields that do not lie within
 * their messages, messages nested too deeply, since parsers recurse, and more than 2 GiB are
 * refused.
 */
int onnx_check(const char *path, const void *bytes, size_t size, struct ivon_error *error);

/*
 * Checks and unpacks a model, freed by onnx__model_proto__free_unpacked(model, NULL). Refuses those
 * that take far more memory than they are long.
 */
int onnx_unpack(Onnx__ModelProto **model, const char *path, const void *bytes, size_t size,
                struct ivon_error *error);

/* The same for one tensor of a model that was checked. */
int onnx_unpack_tensor(Onnx__TensorProto **tensor, const char *path, struct onnx_span bytes,
                       struct ivon_error *error);

/* The same for one attribute, which was not checked. */
int onnx_unpack_attribute(Onnx__AttributeProto **attribute, const char *path,
                          struct onnx_span bytes, struct ivon_error *error);

/* A file that holds the elements of tensors. */
struct onnx_data_file {
    char *location; /* as the model names it */
    struct mapped_file mapped;
    uint64_t used; /* bytes that tensors took from it so far */
};

struct onnx_scope;

struct onnx_reader {
    const char *path; /* of the model, for messages */
    char *directory;  /* where it lies, without symbolic links; null: external data are refused */
    struct onnx_data_file *files; /* each mapped once, until the reader is released */
    size_t file_count;
    const Onnx__ModelProto *model;
    struct ivon_network *network; /* that is being built */
    size_t nodes_left;            /* that may still be added: bounds what calls and loops unroll */
    size_t scope_count;           /* of scopes so far: makes names unique */
    /* Adds what a node computes: one node, or those within it. */
    int (*add_node)(struct onnx_scope *scope, const Onnx__NodeProto *node,
                    struct ivon_error *error);
};

/* Tensors. */

/* The directory of a file, without symbolic links and without a slash at its end, for the caller to
   free; null if there is none. */
char *onnx_directory_of(const char *path);

/* Frees what the reader holds: files of external data, the directory. */
void onnx_reader_release(struct onnx_reader *reader);

/* The elements of a tensor, as they are stored. */
struct onnx_elements {
    const unsigned char *bytes;
    void *owned;                       /* null when the bytes are another's */
    const struct onnx_data_file *file; /* of external data, else null; until the next call */
};

/* Finds the `size` bytes of a tensor whose data are external. */
int onnx_find_external(struct onnx_reader *reader, const char *name, const Onnx__TensorProto *proto,
                       uint64_t size, struct onnx_elements *elements, struct ivon_error *error);

/* Finds the elements of a tensor, `count` of a type, wherever they are. What is not owned lies in
   `proto` or in a file of the reader. */
int onnx_find_elements(struct onnx_reader *reader, const char *name, const Onnx__TensorProto *proto,
                       enum ivon_dtype dtype, size_t count, struct onnx_elements *elements,
                       struct ivon_error *error);

/* Makes a tensor, for the caller to free its data. `name` is for messages. */
int onnx_tensor(struct onnx_reader *reader, const char *name, const Onnx__TensorProto *proto,
                struct net_tensor *tensor, struct ivon_error *error);

/* Sets *type to what a tensor of that data type becomes; false if the type is not supported. */
bool onnx_net_type(int32_t data_type, enum net_type *type);

/* Sets *dtype to the type of its elements as they are stored; false if the type is not
   supported. */
bool onnx_stored_dtype(int32_t data_type, enum ivon_dtype *dtype);

/* The data type of ONNX that stores elements of a type. */
int32_t onnx_data_type(enum ivon_dtype dtype);

/* The type of a tensor's integers, or NET_ANY_INTEGERS; and a file's type for them. */
enum net_integers onnx_integers(int32_t data_type);
int32_t onnx_integers_type(enum net_integers integers);

/* "float16", "complex64" … */
const char *onnx_type_name(int32_t data_type);

/* Returns whether elements of the type are floating-point or complex numbers. */
bool onnx_type_is_float(int32_t data_type);

/* A string field, empty if it is absent. */
const char *onnx_text(const char *string);

/* Returns whether a domain is that of ONNX's own operators. */
bool onnx_own_domain(const char *domain);

/* A field that this description of ONNX does not have: the bytes of the last one with that number
   that holds bytes; null data if there is none. */
struct onnx_span onnx_unknown_field(const ProtobufCMessage *message, unsigned field);

/* Scopes. */

/* A call of a function, which gives the attributes of its nodes their values. */
struct onnx_frame {
    const Onnx__FunctionProto *function;
    const Onnx__NodeProto *node;
    const struct onnx_scope *caller;
    Onnx__AttributeProto **defaults; /* of attributes that the call leaves out */
    size_t default_count;
};

/*
 * The names of one graph. Those of the model's graph are the network's names; a function's call, a
 * branch and a round of a loop have scopes of their own, whose values get names that no other
 * value has.
 */
struct onnx_scope {
    struct onnx_reader *reader;
    const struct onnx_scope *outer; /* whose values a subgraph may take; null: none */
    bool global;                    /* the model's graph */
    char *prefix;                   /* of its nodes' and values' names */
    void *names;                    /* tree of struct onnx_alias, by name */
    const struct onnx_frame *frame; /* of the call that it belongs to; null: none */
    int depth;                      /* of scopes within scopes */
};

/* Begins a scope of a node within `outer`, or of a call from there. Released in any case. */
int onnx_scope_init(struct onnx_scope *scope, const struct onnx_scope *outer, const char *node,
                    struct ivon_error *error);
void onnx_scope_release(struct onnx_scope *scope);

/* Names a value of the scope: `value` is its name in the network, or null for one that no other
   value has. */
int onnx_scope_define(struct onnx_scope *scope, const char *name, const char *value,
                      struct ivon_error *error);

/* Returns whether the scope itself defines the name. */
bool onnx_scope_defines(const struct onnx_scope *scope, const char *name);

/* The network's name of what a node calls `name`. */
const char *onnx_scope_find(const struct onnx_scope *scope, const char *name);

/* The text "PREFIXname", malloc'd; null if memory is exhausted. */
char *onnx_scope_prefixed(const struct onnx_scope *scope, const char *name);

/* The version of a domain that the scope's model or function imports; 0: none. */
int onnx_scope_opset(const struct onnx_scope *scope, const char *domain);

/* Building. */

/* Adds the initializers and nodes of a graph. */
int onnx_add_graph(struct onnx_scope *scope, const Onnx__GraphProto *graph,
                   struct ivon_error *error);

int onnx_add_nodes(struct onnx_scope *scope, Onnx__NodeProto *const *nodes, size_t count,
                   struct ivon_error *error);

/* One of ONNX's own operators, at the scope's opset. */
const struct net_operator *onnx_own_operator(const struct onnx_scope *scope, const char *name);

/* Adds a node that the file does not have: its inputs are the network's values. Takes over the
   attributes in any case. */
int onnx_add_made(const struct onnx_scope *scope, const struct net_operator *op,
                  const char *const *inputs, size_t input_count, const char *output,
                  struct net_attribute *attributes, size_t attribute_count,
                  struct ivon_error *error);

/* One attribute of integers, or one integer where `list` is false; null if memory is exhausted. */
struct net_attribute *onnx_made_attribute(const char *name, bool list, int64_t value);

/* Adds a node that cannot be run, for a reason: the operator itself, or `reason`. */
int onnx_add_refused(const struct onnx_scope *scope, const Onnx__NodeProto *node, bool operator_is,
                     const char *reason, struct ivon_error *error);

/* A node as messages name it; valid while the node is. */
const char *onnx_node_name(const Onnx__NodeProto *node);

/* The attribute of that name, with what a function's call gives it; null if there is none. */
const Onnx__AttributeProto *onnx_attribute(const struct onnx_scope *scope,
                                           const Onnx__NodeProto *node, const char *name);

/* The attribute itself, or what the function's call gives it; null if neither has one. */
const Onnx__AttributeProto *onnx_attribute_value(const struct onnx_scope *scope,
                                                 const Onnx__AttributeProto *attribute);

/* Adds a node as an operator. */
int onnx_add_operator(struct onnx_scope *scope, const Onnx__NodeProto *node,
                      const struct net_operator *row, struct ivon_error *error);

/* Adds a node for which no operator is in force at an opset of its domain, as a refused one. */
int onnx_refuse_operator(const struct onnx_scope *scope, const Onnx__NodeProto *node, int opset,
                         struct ivon_error *error);

/* Adds the constant that a node Constant holds: a checkpoint may bind its tensors to it. */
int onnx_add_constant(struct onnx_scope *scope, const Onnx__NodeProto *node,
                      struct ivon_error *error);

/* Each adds what a node with subgraphs computes, or a refused node. */
int onnx_add_if(struct onnx_scope *scope, const Onnx__NodeProto *node, struct ivon_error *error);
int onnx_add_loop(struct onnx_scope *scope, const Onnx__NodeProto *node, struct ivon_error *error);
int onnx_add_scan(struct onnx_scope *scope, const Onnx__NodeProto *node, struct ivon_error *error);

/* The model's function that a node calls; null if it is none. */
const Onnx__FunctionProto *onnx_function(const struct onnx_scope *scope,
                                         const Onnx__NodeProto *node);

/* Adds the nodes of a function in the place of its call. */
int onnx_add_call(struct onnx_scope *scope, const Onnx__FunctionProto *function,
                  const Onnx__NodeProto *node, struct ivon_error *error);

#endif
