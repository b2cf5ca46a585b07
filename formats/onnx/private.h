/* The declarations that the files of the ONNX reader share. */
#ifndef FORMATS_ONNX_PRIVATE_H
#define FORMATS_ONNX_PRIVATE_H

#include <onnx/onnx.pb-c.h>

#include "formats/io/mapped.h"
#include "formats/onnx/wire.h"
#include "net/graph/graph.h"

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

/* A file that holds the elements of tensors. */
struct onnx_data_file {
    char *location; /* as the model names it */
    struct mapped_file mapped;
    uint64_t used; /* bytes that tensors took from it so far */
};

struct onnx_reader {
    const char *path; /* of the model, for messages */
    int opset;        /* that the model imports */
    char *directory;  /* where it lies, without symbolic links; null: external data are refused */
    struct onnx_data_file *files; /* each mapped once, until the reader is released */
    size_t file_count;
};

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

/* "float16", "complex64" … */
const char *onnx_type_name(int32_t data_type);

/* Returns whether elements of the type are floating-point or complex numbers. */
bool onnx_type_is_float(int32_t data_type);

#endif
