/*
 * Networks: a graph of operators whose parameters come from a checkpoint, by name. A format reads
 * the graph (ivon/onnx.h).
 */
#ifndef IVON_NETWORK_H
#define IVON_NETWORK_H

#include <stdbool.h>

#include "ivon/stream.h"

#ifdef __cplusplus
extern "C" {
#endif

struct ivon_network;

IVON_API void ivon_network_free(struct ivon_network *network);

/* Feeds array `field` of the data to input `input` of the graph. */
struct ivon_feed_name {
    const char *input, *field;
};

/* The tensors that a graph and a checkpoint do not share. */
struct ivon_unbound {
    size_t means;            /* how many means it has no place for */
    const char *mean;        /* the first of them; null: none. Borrowed from the source */
    size_t initializers;     /* of floats, that keep the graph's own values */
    const char *initializer; /* the first of them; null: none. Borrowed from the network */
};

/*
 * Gives the graph a checkpoint's tensors: means become parameters, buffers constants, in the place
 * of initializers and inputs of the same name, and of what an Identity node passes on under that
 * name (exporters store equal tensors once). Shapes must agree. Initializers that the checkpoint
 * does not have keep their values.
 *
 * Fails when no mean has a place, and when a mean without one has as many elements as an
 * initializer that got nothing: the exporter then folded it into another tensor, and the graph
 * would silently run with weights that the checkpoint does not have.
 *
 * The source must outlive the network. May be called once.
 */
IVON_API int ivon_network_bind(struct ivon_network *network, struct ivon_source *source,
                               struct ivon_unbound *unbound, struct ivon_error *error);

#ifdef __cplusplus
}
#endif

#endif
