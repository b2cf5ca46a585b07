/* The catalogue of formats/hdf5/child.h: what a foreign file contains. */
#ifndef FORMATS_HDF5_CATALOGUE_H
#define FORMATS_HDF5_CATALOGUE_H

#include <hdf5.h>

#include "formats/io/mapped.h"

struct hdf5_catalogue {
    /* The caller's: */
    const char *reason; /* where HDF5's last complaint is */
    size_t chunk_max;   /* bytes of a chunk */

    /* Made: */
    hid_t file;
    char *data; /* grows; to be freed */
    size_t size;
    size_t capacity;
    char **paths; /* of the objects, in the catalogue's order */
    size_t object_count;

    /* While it is made: */
    size_t file_size;
    char failure[512]; /* why the file as a whole is refused; empty when it is not */
    haddr_t *groups;   /* addresses of the groups seen, since hard links can make circles */
    size_t group_count;
};

/* Opens the file and writes the catalogue, or instead of it why the file is refused. */
void hdf5_catalogue_make(struct hdf5_catalogue *catalogue, const struct mapped_file *file);

#endif
