/*
 * Checkpoint files as sources and sinks. A file's format is recognised by its content, not by its
 * name.
 */
#ifndef IVON_CHECKPOINT_H
#define IVON_CHECKPOINT_H

#include "ivon/stream.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Zero-initialised, these are the defaults. */
struct ivon_open_options {
    bool no_sandbox; /* parse without seccomp; still in a child process */
    size_t memory;   /* bytes for decompressing; 0: 64 MiB */
};

/*
 * Opens a checkpoint. The result is trustworthy in form (every tensor lies within the file, Hessians
 * and means may still differ in what they name), not in content: numbers may be non-finite.
 *
 * HDF5 files are parsed in a child process that is forked here. Memory-mapped: a file that another
 * process truncates while it is open makes reading it raise SIGBUS.
 */
IVON_API int ivon_checkpoint_open(struct ivon_source **source, const char *path,
                                  const struct ivon_open_options *options,
                                  struct ivon_error *error);

/* Zero-initialised, these are the defaults. */
struct ivon_create_options {
    bool replace; /* an existing file may be replaced, at commit */
};

/*
 * Creates an ivon-posterior(5) file for the given tensors. The space on disk is set aside at once.
 * Tensors of a Hessian whose ess or weight_decay is neither NaN nor the header's keep it as
 * attributes of their own.
 */
IVON_API int ivon_checkpoint_create(struct ivon_sink **sink, const char *path,
                                    const struct ivon_header *header,
                                    const struct ivon_tensor *tensors, size_t tensor_count,
                                    const struct ivon_create_options *options,
                                    struct ivon_error *error);

/* The SHA-256 of a file's bytes as 64 hexadecimal digits and a null byte. */
IVON_API int ivon_checkpoint_hash(char digest[65], const char *path, struct ivon_error *error);

#ifdef __cplusplus
}
#endif

#endif
