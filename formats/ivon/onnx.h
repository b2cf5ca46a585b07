/* ONNX files as networks. */
#ifndef IVON_ONNX_H
#define IVON_ONNX_H

#include "ivon/network.h"
#include "ivon/stream.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Reads a graph of opset 13 to 17. External data are read from files beside it, by relative names
 * that stay within its directory. Every count, offset and extent is checked.
 */
IVON_API int ivon_onnx_open(struct ivon_network **network, const char *path,
                            struct ivon_error *error);

/* The same for the bytes of a file, named `name` in messages. External data are refused. */
IVON_API int ivon_onnx_from_memory(struct ivon_network **network, const char *name,
                                   const void *bytes, size_t size, struct ivon_error *error);

/* The graph inside a checkpoint (its tensor of part IVON_GRAPH); IVON_ERROR_DATA when it has
   none. */
IVON_API int ivon_onnx_from_checkpoint(struct ivon_network **network, struct ivon_source *source,
                                       struct ivon_error *error);

#ifdef __cplusplus
}
#endif

#endif
