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

struct ivon_bind_options {
    size_t size;             /* sizeof this struct: set by ivon_bind_defaults() */
    bool keep_graph_weights; /* means may lack a place while the graph keeps weights of its own */
    unsigned char reserved[7];
};

IVON_API void ivon_bind_options_init(struct ivon_bind_options *options, size_t size);

static inline struct ivon_bind_options ivon_bind_defaults(void)
{
    struct ivon_bind_options options;
    ivon_bind_options_init(&options, sizeof options);
    return options;
}

/* What a graph and a checkpoint do not share, and what was found by its value. Names are borrowed
   from the source and the network; null where there is none. */
struct ivon_unbound {
    size_t means;            /* how many means the graph has no place for */
    const char *mean;        /* the first of them */
    size_t initializers;     /* weights of the graph that keep its own values */
    const char *initializer; /* the first of them */
    size_t unused;           /* means that no output needs */
    const char *unused_mean; /* the first of them */
    size_t recognised;       /* weights of the graph that are means by another name or transposed */
    const char *recognised_weight, *recognised_mean; /* the first of them */
};

/*
 * Gives the graph a checkpoint's tensors: means become parameters, buffers constants, in the place
 * of constants and inputs of the same name, and of what an Identity node passes on under that name
 * (exporters store equal tensors once). Shapes must agree. A constant of another name that equals a
 * mean, as it is, in another shape, or transposed, is that mean: exporters fold transposes. Other
 * constants keep their values; means that no output needs are left out.
 *
 * Fails when no mean has a place; when a mean has none and the graph keeps weights of its own, and
 * when such a weight is a matrix product's operand in the shape of a transposed mean: an exporter
 * then folded the mean into it, and the graph would silently run with weights that the checkpoint
 * does not have (IVON_HINT_KEEP_WEIGHTS). Fails when a node that an output needs is not supported.
 *
 * Null options are the defaults. The source must outlive the network. May be called once.
 */
IVON_API int ivon_network_bind(struct ivon_network *network, struct ivon_source *source,
                               const struct ivon_bind_options *options,
                               struct ivon_unbound *unbound, struct ivon_error *error);

#ifdef __cplusplus
}
#endif

#endif
