/* A checkpoint whose tensors are data sets of an HDF5 file. */
#ifndef FORMATS_HDF5_SOURCE_H
#define FORMATS_HDF5_SOURCE_H

#include "core/stream.h"
#include "formats/hdf5/safe.h"

/* Makes the source of an open file, unless `code`, of what came before, is a failure, which then is
   returned. `objects` are the tensors' indices among hdf5_objects; it, the file and `tensors` are
   taken over, whether or not this succeeds. */
int hdf5_source_new(struct ivon_source **source, int code, struct hdf5_file *file, size_t *objects,
                    const char *path, const struct ivon_header *header, struct tensor_list *tensors,
                    struct ivon_error *error);

/* Describes a data set as a tensor of that name, means being floating-point numbers and all else
   buffers; opaque where it cannot be read, but is not damaged. IVON_ERROR_DATA where it is damaged,
   or the name is not usable. */
int hdf5_source_append(struct tensor_list *tensors, const struct hdf5_object *object,
                       const char *name, const char *path, struct ivon_error *error);

#endif
