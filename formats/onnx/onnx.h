/*
 * ONNX files as checkpoints: the weights of the graph (formats/onnx/weights.h) are means and
 * buffers, and the graph without them, in which they are inputs by name, is the part IVON_GRAPH.
 */
#ifndef FORMATS_ONNX_ONNX_H
#define FORMATS_ONNX_ONNX_H

#include "formats/io/mapped.h"
#include "ivon/checkpoint.h"

/* Returns whether a file begins as ONNX files do, or is named as one. */
bool onnx_recognise(const struct mapped_file *file);

/* Opens a mapped file, which the source takes over, whether or not this succeeds. */
int onnx_open(struct ivon_source **source, struct mapped_file *mapped,
              const struct ivon_open_options *options, struct ivon_error *error);

/* Returns whether a file can hold the tensor: no Hessian, no momentum, nothing opaque. */
bool onnx_carries(const struct ivon_source *like, const struct ivon_tensor *tensor);

/* ivon_checkpoint_create for this format. One of the tensors is the graph. */
int onnx_create(struct ivon_sink **sink, const char *path, const struct ivon_header *header,
                const struct ivon_tensor *tensors, size_t tensor_count,
                const struct ivon_create_options *options, struct ivon_error *error);

#endif
