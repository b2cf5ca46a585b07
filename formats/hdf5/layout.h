/*
 * HDF5 files whose data never pass through HDF5: it lays the file out, with every data set
 * contiguous, aligned to 64 bytes, allocated but not written, and closes it; then the data go
 * straight to their offsets, by formats/io/atomic.h and from any thread. Equal layouts have equal
 * bytes: no times are stored. Groups keep the order in which their members were made.
 */
#ifndef FORMATS_HDF5_LAYOUT_H
#define FORMATS_HDF5_LAYOUT_H

#include <hdf5.h>
#include <stdbool.h>
#include <stdint.h>

#include "formats/io/atomic.h"
#include "ivon/dtype.h"

struct hdf5_layout;

/* Says what is in the file, by the functions below; negative codes are passed on. */
typedef int hdf5_describe(void *context, struct hdf5_layout *layout, struct ivon_error *error);

/* Lays out the temporary file and reserves its space on disk. HDF5's own printing of errors is
   off while `describe` runs, and as the caller had it afterwards. */
int hdf5_lay_out(struct atomic_file *file, hdf5_describe *describe, void *context,
                 struct ivon_error *error);

/* The root group; borrowed. */
hid_t hdf5_layout_root(const struct hdf5_layout *layout);

/* Attributes. A NaN, a negative integer, a null or empty text stand for what is absent: nothing is
   stored. */
bool hdf5_put_number(hid_t object, const char *name, double value);
bool hdf5_put_integer(hid_t object, const char *name, int64_t value);
bool hdf5_put_text(hid_t object, const char *name, const char *text);

/* Makes a data set and the groups on its path that do not exist yet, and sets where in the file
   its first byte will lie. The caller closes it; negative on failure. */
hid_t hdf5_put_dataset(struct hdf5_layout *layout, const char *path, enum ivon_dtype dtype,
                       int rank, const int64_t *shape, uint64_t *offset);

#endif
