/*
 * A checkpoint as a stream of tensors. A source lists its tensors first, then hands out their
 * elements in pieces of any size; a sink is made with a list of tensors, then accepts elements
 * in pieces of any size and order. Formats implement them (see ivon/checkpoint.h), computations
 * join them, and neither knows the other.
 *
 * Elements of a tensor are counted in row-major order.
 */
#ifndef IVON_STREAM_H
#define IVON_STREAM_H

#include <stddef.h>
#include <stdint.h>

#include "ivon/api.h"
#include "ivon/dtype.h"
#include "ivon/error.h"
#include "ivon/options.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { IVON_RANK_MAX = 8 };

/* The role of a tensor in the posterior. */
enum ivon_part {
    IVON_MEAN,     /* m, one per parameter */
    IVON_HESSIAN,  /* h, per example, without the weight decay */
    IVON_MOMENTUM, /* g, for resuming the training */
    /* Of a weight whose covariance has a structure, named as its mean (ivon-posterior(5)): the
       orthonormal bases of its input and output side, in which its h is given, the factors'
       eigenvalues; the factor of the input side itself; the vectors of a low-rank correction. */
    IVON_BASIS_INPUT,
    IVON_BASIS_OUTPUT,
    IVON_SPECTRUM_INPUT,
    IVON_SPECTRUM_OUTPUT,
    IVON_GRAM,
    IVON_LOW_RANK,
    IVON_BUFFER,    /* carried along, not random: batch-norm statistics, masks */
    IVON_GRAPH,     /* the network itself, as the bytes of an ONNX file */
    IVON_STRUCTURE, /* how these belong together, as JSON text */
    IVON_OPAQUE,    /* stored in a way that is not read here: known by name, carried as bytes */
    IVON_PART_COUNT
};

/* "mean", "hessian", "momentum", "basis_input", "basis_output", "spectrum_input",
   "spectrum_output", "gram", "lowrank_vectors", "buffers", "model.onnx", "structure.json",
   "opaque". */
IVON_API const char *ivon_part_name(enum ivon_part part);

struct ivon_tensor {
    const char *name; /* UTF-8 without control characters; unique within its part */
    enum ivon_part part;
    enum ivon_dtype dtype;
    int rank;
    int64_t shape[IVON_RANK_MAX];
    size_t count; /* product of the shape */
    /* Of an opaque tensor: how its file says that it is stored ("F8_E4M3", "compounds"). Its dtype
       is IVON_U8 and its count how many bytes of it there are, none where the format does not give
       them; its rank is -1 where the shape is not known. Its name is the file's, prefixes and all.
       Of any other tensor: null. */
    const char *stored_as;
    /* Of a Hessian: the values that hold for this tensor, its own or else the checkpoint's; NaN
       when the checkpoint names none. Of anything else: NaN. */
    double ess;
    double weight_decay;
};

/* A checkpoint's data about itself. Strings are null when absent. */
struct ivon_header {
    double ess;          /* effective sample size λ; NaN when absent */
    double weight_decay; /* δ; NaN when absent */
    int64_t step;        /* of the training; -1 when absent */
    int64_t n_train;     /* number of training examples; -1 when absent */
    double decrement;    /* Newton's, of a fit (ivon/fit.h): how far the mean is from a minimum; NaN
                            when absent */
    const char *creator;
    const char *provenance; /* JSON text */
    /* Of a source whose file does not name everything itself: by which rule names and Hessians were
       found, and what about that may be wrong; one line each. Not written. */
    const char *mapping;
    const char *warning;
};

/* A header in which everything is absent. */
IVON_API struct ivon_header ivon_header_empty(void);

struct ivon_source;
struct ivon_sink;

IVON_API void ivon_source_close(struct ivon_source *source);

/* The name under which the source was opened, for messages. Borrowed, as are the next three. */
IVON_API const char *ivon_source_path(const struct ivon_source *source);
IVON_API const struct ivon_header *ivon_source_header(const struct ivon_source *source);
IVON_API size_t ivon_source_tensor_count(const struct ivon_source *source);
IVON_API const struct ivon_tensor *ivon_source_tensor(const struct ivon_source *source, size_t i);

/* The index of a tensor, or -1 when the source does not have it. */
IVON_API ptrdiff_t ivon_source_find(const struct ivon_source *source, enum ivon_part part,
                                    const char *name);

/* The name of the mean that a file also stores under `name`, such as tied weights; null when it
   does not. Borrowed. */
IVON_API const char *ivon_source_alias(const struct ivon_source *source, const char *name);

/*
 * Looks among the opaque tensors for one that was to be this: 0 when there is none, else
 * IVON_ERROR_DATA, which names file, tensor, and how it is stored.
 */
IVON_API int ivon_source_refuse_opaque(const struct ivon_source *source, enum ivon_part part,
                                       const char *name, struct ivon_error *error);

/* An opaque tensor's name without the prefix that says what it is to the posterior; any other
   tensor's name. */
IVON_API const char *ivon_tensor_bare_name(const struct ivon_tensor *tensor);

/* "30x40"; "scalar" of rank 0; "?" of an opaque tensor whose shape is not known. Returns `text`. */
IVON_API const char *ivon_tensor_shape_text(const struct ivon_tensor *tensor, char text[256]);

/*
 * Fills `buffer` with the elements [first, first + count) of a tensor, in its own dtype. Several
 * threads may read at once. The range must lie within the tensor.
 */
IVON_API int ivon_source_read(struct ivon_source *source, size_t tensor, size_t first, size_t count,
                              void *buffer, struct ivon_error *error);

/*
 * The address of element `first`, when the whole tensor lies in memory as it is, aligned for its
 * dtype; null when it has to be read. Borrowed until the source is closed.
 */
IVON_API const void *ivon_source_view(struct ivon_source *source, size_t tensor, size_t first);

/* Says that a range will soon be used, or will not be used again. Changes speed and memory only. */
IVON_API void ivon_source_will_need(struct ivon_source *source, size_t tensor, size_t first,
                                    size_t count);
IVON_API void ivon_source_done_with(struct ivon_source *source, size_t tensor, size_t first,
                                    size_t count);

/*
 * A source over the caller's memory, for posteriors that were never in a file: `data[i]` holds
 * the elements of `tensors[i]`. The descriptions are copied, the data borrowed.
 */
IVON_API int ivon_source_from_memory(struct ivon_source **source, const char *name,
                                     const struct ivon_header *header,
                                     const struct ivon_tensor *tensors, const void *const *data,
                                     size_t tensor_count, struct ivon_error *error);

/* Closing a sink that was not committed leaves no trace of it. */
IVON_API void ivon_sink_close(struct ivon_sink *sink);

/* Writes the elements [first, first + count) of a tensor, in its own dtype. Several threads may
   write at once, each range exactly once. */
IVON_API int ivon_sink_write(struct ivon_sink *sink, size_t tensor, size_t first, size_t count,
                             const void *buffer, struct ivon_error *error);

/* Makes the output durable and gives it its name. Until then the name's old file is untouched. */
IVON_API int ivon_sink_commit(struct ivon_sink *sink, struct ivon_error *error);

/* A sink into the caller's memory: the elements of tensor i are written to `data[i]`; where that is
   null they are dropped. */
IVON_API int ivon_sink_to_memory(struct ivon_sink **sink, const struct ivon_tensor *tensors,
                                 void *const *data, size_t tensor_count, struct ivon_error *error);

#ifdef __cplusplus
}
#endif

#endif
