/*
 * safetensors: the length of a header (u64), the header (JSON: for each tensor its dtype, shape and
 * place in the data, and "__metadata__", strings by name), data without holes to the file's end.
 * https://huggingface.co/docs/safetensors
 *
 * Several files, the shards, may hold one checkpoint: an index, JSON in a file
 * "NAME.safetensors.index.json", has the shard of each tensor in "weight_map".
 */
#ifndef FORMATS_SAFETENSORS_SAFETENSORS_H
#define FORMATS_SAFETENSORS_SAFETENSORS_H

#include <jansson.h>

#include "formats/io/mapped.h"
#include "formats/posterior/shard_index.h"
#include "ivon/checkpoint.h"

#define SAFETENSORS_METADATA "__metadata__"
#define SAFETENSORS_INDEX    ".safetensors.index.json"
enum {
    SAFETENSORS_LENGTH_SIZE = 8,
    SAFETENSORS_HEADER_MAX = 100000000,
    SAFETENSORS_ALIGNMENT = 8, /* of the data in files that are written */
};

struct safetensors_tensor {
    char *name;
    enum ivon_dtype dtype;
    char *stored_as; /* of a tensor that is opaque, whose elements are its bytes; else null */
    int rank;        /* -1: more dimensions than are read */
    int64_t shape[IVON_RANK_MAX];
    uint64_t offset; /* in the file */
    uint64_t size;
};

/* One file. All zero, it is empty. */
struct safetensors_file {
    char *name; /* of a shard: in the index's directory; else null */
    struct mapped_file mapped;
    uint64_t data;                      /* where the data begin */
    json_t *metadata;                   /* strings by name; null when there are none */
    struct safetensors_tensor *tensors; /* in the order of their data */
    size_t count;
};

/* The state of a source over safetensors. */
struct safetensors {
    struct safetensors_file *files; /* by name; one when there is no index */
    size_t file_count;
    char *index_path; /* null when there is none */
    json_t *metadata; /* the index's, else the file's; or null. Says what the whole is. */
    bool posterior;
    struct {
        size_t file;
        const struct safetensors_tensor *tensor;
    } * places; /* per tensor of the source, which are those of the files in order */
};

/* Returns whether the bytes begin as a safetensors file does. */
bool safetensors_recognise(const struct mapped_file *file);

/* "F32", "BOOL" … */
const char *safetensors_dtype(enum ivon_dtype dtype);

/* Returns whether a path is that of an index. */
bool safetensors_index_name(const char *path);

/* Reads the header of file->mapped, which becomes the file's whether or not this succeeds. */
int safetensors_parse(struct safetensors_file *file, struct ivon_error *error);
void safetensors_release(struct safetensors_file *file);

/* Opens a mapped file, which the source takes over, whether or not this succeeds. */
int safetensors_open(struct ivon_source **source, struct mapped_file *mapped,
                     const struct ivon_open_options *options, struct ivon_error *error);

/* Opens the shards of an index, which the caller keeps. */
int safetensors_open_shards(struct ivon_source **source, struct shard_index *index,
                            const struct ivon_open_options *options, struct ivon_error *error);

/* Returns whether a file can hold a tensor of `like`, which may be null: one that is opaque as its
   bytes, if `like` is safetensors too. */
bool safetensors_carries(const struct ivon_source *like, const struct ivon_tensor *tensor);

/* The state of a source, or of the first that it joins; null if it is of another format. */
const struct safetensors *safetensors_of(const struct ivon_source *source);

/* ivon_checkpoint_create for this format: with an index when the path is that of one. */
int safetensors_create(struct ivon_sink **sink, const char *path, const struct ivon_header *header,
                       const struct ivon_tensor *tensors, size_t tensor_count,
                       const struct ivon_create_options *options, struct ivon_error *error);

/* The file of such a sink that a tensor lies in, and where (formats/posterior/shared_sink.h). */
struct atomic_file *safetensors_place(const struct ivon_sink *sink, size_t tensor,
                                      uint64_t *offset);

#endif
