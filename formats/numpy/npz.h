/* NumPy's npz as a checkpoint: a zip archive of arrays "NAME.npy". */
#ifndef FORMATS_NUMPY_NPZ_H
#define FORMATS_NUMPY_NPZ_H

#include "formats/io/mapped.h"
#include "ivon/checkpoint.h"

/* Opens a mapped zip archive, which the source takes over, whether or not this succeeds. */
int npz_open(struct ivon_source **source, struct mapped_file *mapped,
             const struct ivon_open_options *options, struct ivon_error *error);

/* ivon_checkpoint_create for this format. */
int npz_create(struct ivon_sink **sink, const char *path, const struct ivon_header *header,
               const struct ivon_tensor *tensors, size_t tensor_count,
               const struct ivon_create_options *options, struct ivon_error *error);

/* The file of such a sink that a tensor lies in, and where (formats/posterior/shared_sink.h). */
struct atomic_file *npz_place(const struct ivon_sink *sink, size_t tensor, uint64_t *offset);

#endif
