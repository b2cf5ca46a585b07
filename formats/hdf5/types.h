/* The HDF5 types of our element types, as they are stored: little-endian. */
#ifndef FORMATS_HDF5_TYPES_H
#define FORMATS_HDF5_TYPES_H

#include <hdf5.h>

#include "ivon/dtype.h"

/* A type that the caller closes; negative on failure. */
hid_t hdf5_type_new(enum ivon_dtype dtype);

/* Recognises a stored type, of either byte order; false when it is none of ours. `as_stored` says
   whether its bytes are those of hdf5_type_new(*dtype). */
bool hdf5_type_recognise(hid_t type, enum ivon_dtype *dtype, bool *as_stored);

#endif
