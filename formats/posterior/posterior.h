/* The ivon-posterior(5) format, read and written. */
#ifndef FORMATS_POSTERIOR_POSTERIOR_H
#define FORMATS_POSTERIOR_POSTERIOR_H

#include "formats/io/mapped.h"
#include "ivon/checkpoint.h"

/* Opens a mapped HDF5 file, which the source takes over, whether or not this succeeds. */
int posterior_open(struct ivon_source **source, struct mapped_file *mapped,
                   const struct ivon_open_options *options, struct ivon_error *error);

/* ivon_checkpoint_create for this format. */
int posterior_create(struct ivon_sink **sink, const char *path, const struct ivon_header *header,
                     const struct ivon_tensor *tensors, size_t tensor_count,
                     const struct ivon_create_options *options, struct ivon_error *error);

#endif
