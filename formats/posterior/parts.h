/*
 * A posterior in a file without groups, safetensors or npz, which knows names and numbers only.
 *
 * A file is a posterior when it is marked as one (PARTS_MARK), or holds a tensor "hessian/NAME".
 * There, "hessian/", "momentum/" and "buffers/" before a name say what the tensor is, "mean/" may,
 * and the header's numbers are found by their names, those that hold for one Hessian as "ess/NAME".
 * Where the mark is 2, so do the prefixes of a structure, "basis_input/" and its like, and a list
 * of bytes "structure.json" is one. In any other file names are names. In both, what has no such
 * prefix is a mean when its elements are floating-point numbers, but for the buffers of
 * formats/posterior/buffers.h, else a buffer; a list of bytes "model.onnx" is the graph.
 */
#ifndef FORMATS_POSTERIOR_PARTS_H
#define FORMATS_POSTERIOR_PARTS_H

#include "core/stream.h"
#include "ivon/checkpoint.h"

#define PARTS_MARK "ivon-posterior" /* its value is the version */

enum { PARTS_VERSION = 2 /* the latest */ };

/* The least version of ivon-posterior(5) that has a part; the one that has all of some tensors. */
int parts_version_of(enum ivon_part part);
int parts_version(const struct ivon_tensor *tensors, size_t count);

struct parts_number {
    double number;
    bool is_integer;
    int64_t integer;
};

/* A file that is read. */
struct parts_file {
    const char *path;
    bool posterior;
    int version;                             /* of the mark, set by parts_header */
    const struct ivon_open_options *options; /* for is_buffer */
    /* Looks a number up: 1 when there is one, 0, or an error. */
    int (*number)(void *context, const char *key, struct parts_number *number,
                  struct ivon_error *error);
    void *context;
};

/* Returns whether a tensor's name makes its file a posterior. */
bool parts_posterior_name(const char *stored);

/* Appends a tensor of a file, whose dtype, rank and shape are given, under its name and part; one
   that is opaque, stored_as and count being given too, as such. */
int parts_append(const struct parts_file *file, struct tensor_list *tensors, const char *stored,
                 const struct ivon_tensor *described, struct ivon_error *error);

/* Reads the mark's version, where there is a mark, and the header's numbers. */
int parts_header(struct parts_file *file, struct ivon_header *header, struct ivon_error *error);

/* Gives the Hessians their ess and weight decay, and buffers their part, once all are listed. */
int parts_finish(const struct parts_file *file, struct tensor_list *tensors,
                 const struct ivon_header *header, struct ivon_error *error);

/* The names under which a file that is written holds its tensors, in a posterior, where buffers may
   be bare, or in any other file. Refuses those that cannot be used, tensors that are the same, and
   opaque ones unless the file carries them. */
int parts_stored_names(char ***names, const char *path, const struct ivon_tensor *tensors,
                       size_t count, bool posterior, bool bare_buffers, bool carries_opaque,
                       struct ivon_error *error);
/* The error of an opaque tensor in a format that cannot hold it. */
int parts_refuse_opaque(const char *path, const struct ivon_tensor *tensor,
                        struct ivon_error *error);
void parts_free_names(char **names, size_t count);

/* Sets *needed: whether tensors have to be a posterior for reading to give back the same. `plain`,
   which may be null, says that a buffer of floating-point numbers need not be distinguished from
   means. */
int parts_need_posterior(const struct ivon_header *header, const struct ivon_tensor *tensors,
                         size_t count, bool (*plain)(void *context, const struct ivon_tensor *),
                         void *context, bool *needed, struct ivon_error *error);

/* Hands out the mark and all numbers of a posterior that is written, the header's first. */
int parts_put(const char *path, const struct ivon_header *header, const struct ivon_tensor *tensors,
              size_t count,
              int (*put)(void *context, const char *key, const struct parts_number *number,
                         struct ivon_error *error),
              void *context, struct ivon_error *error);

/* Returns whether a key is the mark, one of those numbers, or a string of the header. */
bool parts_own_key(const char *key);

#endif
