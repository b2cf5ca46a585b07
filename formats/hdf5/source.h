/* A checkpoint whose tensors are data sets of an HDF5 file. */
#ifndef FORMATS_HDF5_SOURCE_H
#define FORMATS_HDF5_SOURCE_H

#include "core/stream.h"
#include "formats/hdf5/safe.h"

/* The data set of a tensor, by its index among hdf5_objects of the file. */
struct hdf5_place {
    struct hdf5_file *file;
    size_t object;
};

/* Makes the source of open files, unless `code`, of what came before, is a failure, which then is
   returned. `places` are those of the tensors; they, the array of files, the files and `tensors`
   are taken over, whether or not this succeeds. */
int hdf5_source_join(struct ivon_source **source, int code, struct hdf5_file **files,
                     size_t file_count, struct hdf5_place *places, const char *path,
                     const struct ivon_header *header, struct tensor_list *tensors,
                     struct ivon_error *error);

/* The same of one file, where `objects` are the tensors' places, which are taken over, too. */
int hdf5_source_new(struct ivon_source **source, int code, struct hdf5_file *file, size_t *objects,
                    const char *path, const struct ivon_header *header, struct tensor_list *tensors,
                    struct ivon_error *error);

/* Describes a data set as a tensor of that name, means being floating-point numbers and all else
   buffers; opaque where it cannot be read, but is not damaged. IVON_ERROR_DATA where it is damaged,
   or the name is not usable. */
int hdf5_source_append(struct tensor_list *tensors, const struct hdf5_object *object,
                       const char *name, const char *path, struct ivon_error *error);

#endif
