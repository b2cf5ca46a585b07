/*
 * How HDF5 writes a file of ours: to the descriptor that atomic.h holds, and in the belief that
 * every write succeeds. After one that fails, HDF5 1.10 can neither close a file nor forget it, and
 * crashes at the end of the process; so failures are kept from it, and found here afterwards.
 */
#ifndef FORMATS_HDF5_DRIVER_H
#define FORMATS_HDF5_DRIVER_H

#include <hdf5.h>
#include <stdint.h>

#include "formats/io/atomic.h"

enum {
    HDF5_DRIVER_ALIGNMENT = 64 /* bytes, of each data set: they can be mapped and read in place */
};

struct hdf5_driver {
    struct atomic_file *file;
    struct ivon_error *error;
    int code;      /* of the first failure, which `error` describes */
    uint64_t size; /* of the file as HDF5 closed it, whose end may not have been written */
    hid_t id;
};

/* Prepares a file access property list; negative on failure. The driver must outlive the file. */
herr_t hdf5_driver_set(hid_t file_access, struct hdf5_driver *driver);

/* After the file and the property list were closed. */
void hdf5_driver_release(struct hdf5_driver *driver);

#endif
