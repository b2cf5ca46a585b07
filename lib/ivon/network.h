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

/* The name of the network's input `i`, or null behind the last; borrowed. What is bound, or set, is
   no input. */
IVON_API const char *ivon_network_input(const struct ivon_network *network, size_t i);

/* The numbers of an input: floats, or else whole numbers or booleans, as tokens are; the extents of
   several examples, -1 for one that is free. */
struct ivon_input_shape {
    bool floats;
    int rank;
    int64_t shape[IVON_RANK_MAX];
};
/* That of the network's input `i`, which there has to be. */
IVON_API struct ivon_input_shape ivon_network_input_shape(const struct ivon_network *network,
                                                          size_t i);

/* The function of the outputs that a likelihood applies itself: it takes logits, of classes or of
   events. */
enum ivon_link { IVON_LINK_IDENTITY, IVON_LINK_SOFTMAX, IVON_LINK_LOGISTIC };

enum ivon_axis { IVON_AXIS_BATCH, IVON_AXIS_TOKEN, IVON_AXIS_CLASS };

/* A value for an input of the graph: numbers, or true and false, with commas between them; of one
   number all elements are that. */
struct ivon_input_value {
    const char *input, *value;
};

/* The axis, from 0, along which an input or the output has examples. Without a name: all of those
   that have such an axis. */
struct ivon_batch_axis {
    const char *name;
    int axis;
};

/* In the defaults all but the size is zero. */
struct ivon_adapt_options {
    size_t size; /* sizeof this struct: set by ivon_adapt_defaults() */
    /* The name of the output; null: the first that the file does not say to hold something else
       than floats. */
    const char *output;
    /* A function that is taken from the end of the graph, if that is it or its logarithm, or one of
       them that is only renamed or reshaped: the outputs are then what it is computed of. */
    enum ivon_link link;
    /* The outputs are probabilities, wherever the graph does not end so: the outputs are log p, of
       events log p - log(1 - p), p at least the least normal float. */
    bool probabilities;
    /* The meaning of each axis of the output, of which one is the batch. Axes of tokens become one,
       in their order, and so do those of classes. 0: batch, token, class. */
    const enum ivon_axis *axes;
    size_t axis_count;
    const struct ivon_input_value *values;
    size_t value_count;
    const struct ivon_batch_axis *batch_axes; /* the first of each name, or without one, counts */
    size_t batch_axis_count;
};

IVON_API void ivon_adapt_options_init(struct ivon_adapt_options *options, size_t size);
static inline struct ivon_adapt_options ivon_adapt_defaults(void)
{
    struct ivon_adapt_options options;
    ivon_adapt_options_init(&options, sizeof options);
    return options;
}

/* The changes that were made. Names are borrowed from the network. */
struct ivon_adaptation {
    const char *output;      /* that was chosen */
    const char *passed_over; /* the graph's first output, which holds no floats; null: none */
    const char *cut;         /* the operator that was taken from the end; null: none */
};

/*
 * Adapts a network to what data and likelihood are like, before it is bound: once, or not at all.
 * Nodes, inputs and parameters that only other outputs need are left out; a graph is run although
 * such nodes are not supported. Inputs that are a tensor of `source` (or null) keep their axes.
 */
IVON_API int ivon_network_adapt(struct ivon_network *network, struct ivon_source *source,
                                const struct ivon_adapt_options *options,
                                struct ivon_adaptation *adaptation, struct ivon_error *error);

/* Feeds array `field` of the data to input `input` of the graph. */
struct ivon_feed_name {
    const char *input, *field;
};

struct ivon_bind_options {
    size_t size;             /* sizeof this struct: set by ivon_bind_defaults() */
    bool keep_graph_weights; /* the graph may keep weights of its own where means lack a place, and
                                weights of layers that the checkpoint lacks */
    unsigned char reserved[7];
};

IVON_API void ivon_bind_options_init(struct ivon_bind_options *options, size_t size);

static inline struct ivon_bind_options ivon_bind_defaults(void)
{
    struct ivon_bind_options options;
    ivon_bind_options_init(&options, sizeof options);
    return options;
}

/* The differences of a graph and a checkpoint, and weights that were found by their values. Names
   are borrowed from the source and the network; null where there is none. */
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
 * does not have (IVON_HINT_KEEP_WEIGHTS). Fails so, too, when the checkpoint lacks what a layer
 * applies to data, such as the factor of a product or a bias, and the graph has numbers of its own
 * for it, unless the graph is inside the checkpoint. Buffers, masks, and other constants may be the
 * graph's. Fails when a node that an output needs is not supported.
 *
 * A network that was not adapted keeps the first of its outputs that may hold floats. A buffer in
 * the place of an input, of one element along the input's first free axis, is repeated there for
 * every example.
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
