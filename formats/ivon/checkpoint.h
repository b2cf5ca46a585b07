/*
 * Checkpoint files as sources and sinks. A file's format is recognised by its content, not by its
 * name: ivon-posterior(5), PyTorch's zip files, safetensors (one file, or several by their index),
 * numpy's npz. How each holds a posterior: ivon-formats(5).
 */
#ifndef IVON_CHECKPOINT_H
#define IVON_CHECKPOINT_H

#include "ivon/stream.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Where a Hessian comes from, in files that are no ivon-posterior(5). */
enum ivon_hessian_from {
    IVON_HESSIAN_FROM_IVON, /* what the optimizer IVON or an earlier conversion saved */
    IVON_HESSIAN_FROM_ADAM  /* Adam's second moments: h ≈ batch · v / (1 − β₂ᵗ) */
};

/* Zero-initialised, these are the defaults. */
struct ivon_open_options {
    bool no_sandbox; /* parse without seccomp; still in a child process */
    size_t memory;   /* bytes for decompressing; 0: 64 MiB */
    /* For formats other than ivon-posterior(5); one that says nothing about the file's format is
       IVON_ERROR_ARGUMENT, */
    bool for_several; /* unless they are meant for several files: then it is passed over, but for
                            a Hessian, which is one file's */
    const char *key;  /* path of the state dict within a nested file, "ema.model"; null: guessed
                            where only one fits */
    const char
        *hessian; /* a second file, null: none. Its tensors are the Hessian, by name; or it is
                            an optimizer's state, and what follows says of what kind */
    enum ivon_hessian_from hessian_from;
    double batch;                  /* of Adam's gradients; needed for IVON_HESSIAN_FROM_ADAM */
    const char *const *parameters; /* the names of the optimizer's, in its order; null: its own, or
                                      as the file lets one tell */
    size_t parameter_count;
    /* Which tensors of a state dict are buffers, by name; null: as the file lets one tell. */
    bool (*is_buffer)(void *context, const char *name);
    void *is_buffer_context;
};

/*
 * Opens a checkpoint. The result is trustworthy in form (every tensor lies within the file,
 * Hessians and means may still differ in what they name), not in content: numbers may be
 * non-finite.
 *
 * HDF5 files are parsed in a child process that is forked here. Memory-mapped: a file that another
 * process truncates while it is open makes reading it raise SIGBUS.
 */
IVON_API int ivon_checkpoint_open(struct ivon_source **source, const char *path,
                                  const struct ivon_open_options *options,
                                  struct ivon_error *error);

enum ivon_format {
    /* By the path's suffix: .h5 and .hdf5, .safetensors and .safetensors.index.json, .npz; without
       a suffix IVON_FORMAT_POSTERIOR. Any other is IVON_ERROR_ARGUMENT. */
    IVON_FORMAT_BY_NAME,
    IVON_FORMAT_POSTERIOR,
    IVON_FORMAT_SAFETENSORS,
    IVON_FORMAT_NPZ
};

/* Zero-initialised, these are the defaults. */
struct ivon_create_options {
    bool replace; /* an existing file may be replaced, at commit */
    enum ivon_format format;
    uint64_t shard_size; /* safetensors: a file holds at most so many bytes of data; 0: no bound */
    /* safetensors: metadata and, with an index as output, the shards are as this source has them,
       if it is safetensors too; null: none. Borrowed until the call returns. */
    struct ivon_source *like;
    struct ivon_progress progress; /* asked whether to stop while the file is laid out */
};

/*
 * Creates a checkpoint of the given tensors. The space on disk is set aside at once. Tensors of a
 * Hessian whose ess or weight_decay is neither NaN nor the header's keep it as attributes of their
 * own; IVON_ERROR_ARGUMENT where the format cannot hold that, or a tensor's type.
 *
 * The files of an index get their names one after the other, the index last; where they replace
 * others the old index is removed first. A process that is stopped in between leaves no index.
 */
IVON_API int ivon_checkpoint_create(struct ivon_sink **sink, const char *path,
                                    const struct ivon_header *header,
                                    const struct ivon_tensor *tensors, size_t tensor_count,
                                    const struct ivon_create_options *options,
                                    struct ivon_error *error);

/* Whether a file created so can hold a tensor of options->like that is opaque; one that is not it
   always can. */
IVON_API bool ivon_checkpoint_carries(const char *path, const struct ivon_create_options *options,
                                      const struct ivon_tensor *tensor);

/* The SHA-256 of a file's bytes as 64 hexadecimal digits and a null byte. */
IVON_API int ivon_checkpoint_hash(char digest[65], const char *path, struct ivon_error *error);

#ifdef __cplusplus
}
#endif

#endif
