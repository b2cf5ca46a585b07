/* The ivon-posterior(5) format, read and written. */
#ifndef FORMATS_POSTERIOR_POSTERIOR_H
#define FORMATS_POSTERIOR_POSTERIOR_H

#include "formats/hdf5/safe.h"
#include "ivon/checkpoint.h"

/* Opens what an HDF5 file holds, which the source takes over, whether or not this succeeds. */
int posterior_open(struct ivon_source **source, struct hdf5_file *file, const char *path,
                   struct ivon_error *error);

/* ivon_checkpoint_create for this format. */
int posterior_create(struct ivon_sink **sink, const char *path, const struct ivon_header *header,
                     const struct ivon_tensor *tensors, size_t tensor_count,
                     const struct ivon_create_options *options, struct ivon_error *error);

/* The file of such a sink that a tensor lies in, and where (formats/posterior/shared_sink.h). */
struct atomic_file *posterior_place(const struct ivon_sink *sink, size_t tensor, uint64_t *offset);

#endif
