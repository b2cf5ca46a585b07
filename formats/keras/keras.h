/*
 * Weights of Keras: HDF5 as version 3 writes it (NAME.weights.h5, which NAME.keras has inside) and
 * as earlier ones do (NAME.h5). Names are those of layers and weights: "dense/kernel".
 */
#ifndef FORMATS_KERAS_KERAS_H
#define FORMATS_KERAS_KERAS_H

#include "formats/hdf5/safe.h"
#include "ivon/checkpoint.h"

/* Returns whether an HDF5 file holds weights of Keras. */
bool keras_recognise(const struct hdf5_file *file);

/* Opens them, and takes the file over, whether or not this succeeds. */
int keras_open(struct ivon_source **source, struct hdf5_file *file, const char *path,
               struct ivon_error *error);

/* Returns whether a file is a zip archive with weights of Keras; narrows one to these, which have
   to be stored. */
bool keras_recognise_archive(const struct mapped_file *mapped);
int keras_enter_archive(struct mapped_file *mapped, struct ivon_error *error);

#endif
