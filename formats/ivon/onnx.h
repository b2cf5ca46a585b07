/* ONNX files as networks, and networks as ONNX files. */
#ifndef IVON_ONNX_H
#define IVON_ONNX_H

#include "ivon/network.h"
#include "ivon/stream.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Reads a graph of opset 7 to 28. External data are read from files beside it, by relative names
 * that stay within its directory. Every count, offset and extent is checked.
 */
IVON_API int ivon_onnx_open(struct ivon_network **network, const char *path,
                            struct ivon_error *error);

/* The same for the bytes of a file, named `name` in messages. External data are refused. */
IVON_API int ivon_onnx_from_memory(struct ivon_network **network, const char *name,
                                   const void *bytes, size_t size, struct ivon_error *error);

/* The graph inside a checkpoint (its tensor of part IVON_GRAPH); IVON_ERROR_DATA when it has none.
   An ONNX file is such a checkpoint: there the weights are inputs of the graph, by name, which
   ivon_network_bind() gives their numbers without a copy of the file. */
IVON_API int ivon_onnx_from_checkpoint(struct ivon_network **network, struct ivon_source *source,
                                       struct ivon_error *error);

/*
 * A network as the bytes of an ONNX file, for the caller to free(): the opset nearest to 13 in
 * which all its operators are in force as they are, and the IR version that came with it. The same
 * network gives the same bytes.
 *
 * Without weights (null), inputs, parameters and, of a trainer of low-rank factors, the base become
 * named inputs, and a checkpoint binds them later. With weights, those whose names are among its
 * means and buffers become initializers that hold the checkpoint's numbers, as binary32 or int64;
 * shapes must agree. What else is constant in the network is an initializer in any case. Free
 * extents are named: "n" on the first axis.
 *
 * The outputs' shapes are found by planning the network twice, with its free extents at two sizes:
 * what fails there fails here, and so does what takes more than 4 GiB of memory there
 * (IVON_ERROR_MEMORY). Fails where the bytes would be more than 2 GiB (IVON_ERROR_DATA).
 */
IVON_API int ivon_onnx_write(void **bytes, size_t *size, const struct ivon_network *network,
                             struct ivon_source *weights, struct ivon_error *error);

#ifdef __cplusplus
}
#endif

#endif
