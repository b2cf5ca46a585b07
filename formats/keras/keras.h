/*
 * Weights of Keras: HDF5 as version 3 writes it (NAME.weights.h5, which NAME.keras has inside) and
 * as earlier ones do (NAME.h5). Names are those of layers and weights: "dense/kernel".
 * NAME.weights.json lists weights of version 3 in several files, the groups of some in two of them.
 */
#ifndef FORMATS_KERAS_KERAS_H
#define FORMATS_KERAS_KERAS_H

#include "core/stream.h"
#include "formats/hdf5/safe.h"
#include "formats/posterior/shard_index.h"
#include "ivon/checkpoint.h"

/* Returns whether an HDF5 file holds weights of Keras. */
bool keras_recognise(const struct hdf5_file *file);

/* Lists the weights among objects, and the index of each. */
int keras_list(struct tensor_list *tensors, size_t *indices, const struct hdf5_object *objects,
               size_t count, const char *path, struct ivon_error *error);

/* Opens them, and takes the file over, whether or not this succeeds. */
int keras_open(struct ivon_source **source, struct hdf5_file *file, const char *path,
               struct ivon_error *error);

/* Opens those that an index lists. */
int keras_open_shards(struct ivon_source **source, struct shard_index *index,
                      const struct hdf5_limits *limits, struct ivon_error *error);

/* Returns whether a file is a zip archive with weights of Keras; narrows one to these, which have
   to be stored. */
bool keras_recognise_archive(const struct mapped_file *mapped);
int keras_enter_archive(struct mapped_file *mapped, struct ivon_error *error);

#endif
