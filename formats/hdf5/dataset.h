/* Data sets of foreign files, for the child process of formats/hdf5/safe.h. */
#ifndef FORMATS_HDF5_DATASET_H
#define FORMATS_HDF5_DATASET_H

#include <hdf5.h>
#include <stdbool.h>

#include "ivon/stream.h"

struct hdf5_dataset {
    enum ivon_dtype dtype;
    int rank; /* -1: of one that is opaque, not known */
    int64_t shape[IVON_RANK_MAX];
    int64_t offset; /* of the elements, in the file; negative: they are not there as they are */
    /* Of one that is refused, but not damaged: how it is stored, "compound". Else null. */
    const char *stored_as;
    /* Of strings along one axis, which are refused where numbers are wanted: the bytes that each
       takes when it is read, with a null byte at its end. Else 0. */
    size_t string_size;
};

/* Tells what a data set of a file of `file_size` bytes holds; returns why it cannot be read, or
   null. A chunk may have `chunk_max` bytes. */
const char *hdf5_dataset_examine(hid_t dataset, size_t file_size, size_t chunk_max,
                                 struct hdf5_dataset *result);

/* Reads strings [first, first + count) of one that was examined, each filled up with null bytes.
   Returns what is wrong, or null; `reason` is where HDF5's complaints are. */
const char *hdf5_dataset_read_strings(hid_t dataset, const struct hdf5_dataset *examined,
                                      uint64_t first, uint64_t count, char *out,
                                      const char *reason);

/* Reads row-major elements [first, first + count) of one that was examined. */
bool hdf5_dataset_read(hid_t dataset, const struct hdf5_dataset *examined, uint64_t first,
                       uint64_t count, char *out);

#endif
