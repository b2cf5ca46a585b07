/* The declarations that the files of the ONNX reader share. */
#ifndef FORMATS_ONNX_PRIVATE_H
#define FORMATS_ONNX_PRIVATE_H

#include <onnx/onnx.pb-c.h>

#include "net/graph/graph.h"

/* The opset that is written where it has all of a graph. */
enum { ONNX_OPSET_WRITTEN = 13 };

/*
 * Unpacks a model, freed by onnx__model_proto__free_unpacked(model, NULL). Refuses messages nested
 * too deeply, since the parser recurses, and those that take far more memory than they are long.
 */
int onnx_unpack(Onnx__ModelProto **model, const char *path, const void *bytes, size_t size,
                struct ivon_error *error);

/* A file that holds the elements of tensors. */
struct onnx_data_file {
    char *location;
    uint64_t used; /* bytes that tensors took from it so far */
};

struct onnx_reader {
    const char *path; /* of the model, for messages */
    int opset;        /* that the model imports */
    char *directory;  /* where it lies, without symbolic links; null: external data are refused */
    struct onnx_data_file *files;
    size_t file_count;
};

/* Makes a tensor, for the caller to free its data. `name` is for messages. */
int onnx_tensor(struct onnx_reader *reader, const char *name, const Onnx__TensorProto *proto,
                struct net_tensor *tensor, struct ivon_error *error);

/* Sets *type to what a tensor of that data type becomes; false if the type is not supported. */
bool onnx_net_type(int32_t data_type, enum net_type *type);

/* The type of a tensor's integers, or NET_ANY_INTEGERS; and a file's type for them. */
enum net_integers onnx_integers(int32_t data_type);
int32_t onnx_integers_type(enum net_integers integers);

/* "float16", "complex64" … */
const char *onnx_type_name(int32_t data_type);

#endif
