/*
 * Checkpoint files as sources and sinks. A file's format is recognised by its content, not by its
 * name: ivon-posterior(5), PyTorch's zip files, safetensors (one file, or several by their index),
 * numpy's npz, ONNX, Flax's msgpack, Keras' HDF5. How each holds a posterior: ivon-formats(5).
 */
#ifndef IVON_CHECKPOINT_H
#define IVON_CHECKPOINT_H

#include "ivon/stream.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The origin of a Hessian, in files other than ivon-posterior(5). */
enum ivon_hessian_from {
    IVON_HESSIAN_FROM_IVON, /* what the optimizer IVON or an earlier conversion saved */
    IVON_HESSIAN_FROM_ADAM  /* Adam's second moments: h ≈ batch · v / (1 − β₂ᵗ) */
};

/* In the defaults all but the size is zero. */
struct ivon_open_options {
    size_t size;                     /* sizeof this struct: set by ivon_open_defaults() */
    bool no_sandbox;                 /* parse without seccomp; still in a child process */
    struct ivon_resources resources; /* memory: for decompressing; 0: 64 MiB */
    /* An option that follows and does not apply to the file's format is IVON_ERROR_ARGUMENT. If
       `for_several` says that the options are meant for several files, such an option is ignored,
       except for the file `hessian`, which belongs to one file. */
    bool for_several;
    /* A second file, null: none. Its tensors are the Hessian, by name, or it is the state of an
       optimizer of PyTorch. The first file must have no Hessian of its own. */
    const char *hessian;
    /* Of PyTorch's and Flax's files: the path of the state dict within a nested file, "ema.model",
       null: the only one that fits. */
    const char *key;
    /* Of PyTorch's files alone: the kind of optimizer that a Hessian is of; */
    enum ivon_hessian_from hessian_from;
    /* the batch of Adam's gradients, needed for IVON_HESSIAN_FROM_ADAM; */
    double batch;
    /* the names of the optimizer's parameters, in its order, null: those that the files tell. */
    const char *const *parameters;
    size_t parameter_count;
    /* Returns whether a name is that of a buffer, in formats that do not say; null: its type and
       name decide. */
    bool (*is_buffer)(void *context, const char *name);
    void *is_buffer_context;
};

/* See struct ivon_open_options. */
IVON_API void ivon_open_options_init(struct ivon_open_options *options, size_t size);
static inline struct ivon_open_options ivon_open_defaults(void)
{
    struct ivon_open_options options;
    ivon_open_options_init(&options, sizeof options);
    return options;
}

/*
 * Opens a checkpoint: a file, or a directory's weights (ivon_directory_find). Null options are the
 * defaults. The result is trustworthy in form (every
 * tensor lies within the file, Hessians and means may still differ in what they name), not in
 * content: numbers may be non-finite.
 *
 * HDF5 files are parsed in a child process that is forked here. Memory-mapped: a file that another
 * process truncates while it is open makes reading it raise SIGBUS.
 */
IVON_API int ivon_checkpoint_open(struct ivon_source **source, const char *path,
                                  const struct ivon_open_options *options,
                                  struct ivon_error *error);

enum ivon_format {
    /* By the path's suffix: .h5 and .hdf5, .safetensors and .safetensors.index.json, .npz, .onnx;
       without a suffix IVON_FORMAT_POSTERIOR. Any other is IVON_ERROR_ARGUMENT. */
    IVON_FORMAT_BY_NAME,
    IVON_FORMAT_POSTERIOR,
    IVON_FORMAT_SAFETENSORS,
    IVON_FORMAT_NPZ,
    /* The graph among the tensors, with the means and the buffers in it. It has no place for
       Hessians and momenta (IVON_ERROR_ARGUMENT), nor for tensors that the graph does not name. */
    IVON_FORMAT_ONNX
};

/* The names of those behind IVON_FORMAT_BY_NAME, in their order. */
#define IVON_FORMAT_NAMES "h5|safetensors|npz|onnx"

/* In the defaults all but the size is zero. */
struct ivon_create_options {
    size_t size;  /* sizeof this struct: set by ivon_create_defaults() */
    bool replace; /* an existing file may be replaced, at commit */
    enum ivon_format format;
    uint64_t shard_size; /* safetensors: a file holds at most so many bytes of data; 0: no bound */
    /* safetensors: metadata and, with an index as output, the shards are as this source has them,
       if it is safetensors too; null: none. Borrowed until the call returns. */
    struct ivon_source *like;
    struct ivon_resources resources; /* progress: asked whether to stop while it is laid out;
                                        ranks: see ivon_checkpoint_create */
    /* safetensors: the library that the file is for, as `format` of every file's metadata, "pt",
       where `like` names none; null: none. */
    const char *framework;
    /* safetensors without a Hessian or a number of the header: buffers have bare names, as models
       have them, also those that are means when they are read again. */
    bool bare_buffers;
};

/* See struct ivon_create_options. */
IVON_API void ivon_create_options_init(struct ivon_create_options *options, size_t size);
static inline struct ivon_create_options ivon_create_defaults(void)
{
    struct ivon_create_options options;
    ivon_create_options_init(&options, sizeof options);
    return options;
}

/*
 * Creates a checkpoint of the given tensors. Null options are the defaults. The space on disk is
 * set aside at once. Tensors of a Hessian whose ess or weight_decay is neither NaN nor the header's
 * keep it as attributes of their own; IVON_ERROR_ARGUMENT where the format cannot hold that, or a
 * tensor's type.
 *
 * The files of an index get their names one after the other, the index last; where they replace
 * others the old index is removed first. A process that is stopped in between leaves no index.
 *
 * With ranks all of them create the checkpoint together, and then commit it: each element is
 * written by one of them. Rank 0 lays it out, by its path, header and options; the tensors have to
 * be the same on all. All ranks have to see the output's directory: IVON_ERROR_CREATE names one
 * that does not. IVON_ERROR_ARGUMENT for a format that is not shared (ivon_checkpoint_shared).
 */
IVON_API int ivon_checkpoint_create(struct ivon_sink **sink, const char *path,
                                    const struct ivon_header *header,
                                    const struct ivon_tensor *tensors, size_t tensor_count,
                                    const struct ivon_create_options *options,
                                    struct ivon_error *error);

/* Returns whether several ranks can create such a file together: not in every format. */
IVON_API bool ivon_checkpoint_shared(const char *path, const struct ivon_create_options *options);

/* Returns whether a path is named as an index of shards is, files that lie beside it. */
IVON_API bool ivon_checkpoint_has_shards(const char *path);

/* Returns whether a file created with these options can hold a tensor of options->like: not every
   format can hold one that is opaque, a Hessian or a momentum. */
IVON_API bool ivon_checkpoint_carries(const char *path, const struct ivon_create_options *options,
                                      const struct ivon_tensor *tensor);

/*
 * The file that a path names: that of the factors, where it is a directory of an adapter of PEFT's,
 * with adapter_config.json in it; else the path itself. To be freed; null when memory is
 * exhausted.
 */
IVON_API char *ivon_checkpoint_adapter_file(const char *path);

/* The path of the configuration beside an adapter's file, to be freed; null where there is none, or
   no memory. */
IVON_API char *ivon_checkpoint_adapter_config(const char *path);

/*
 * The model that an adapter, opened as any checkpoint, makes of its base, by the configuration
 * beside its file: see ivon_adapter_apply (ivon/adapter.h). Takes over `factors`, whether or not
 * this succeeds.
 */
IVON_API int ivon_checkpoint_apply_adapter(struct ivon_source **source, struct ivon_source *base,
                                           struct ivon_source *factors, struct ivon_error *error);

/* The SHA-256 of a file's bytes as 64 hexadecimal digits and a null byte; of an index, of its bytes
   and behind them those of its shards, by name; of a directory, of the weights that it has. */
IVON_API int ivon_checkpoint_hash(char digest[65], const char *path, struct ivon_error *error);

#ifdef __cplusplus
}
#endif

#endif
