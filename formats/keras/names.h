/* The names of Keras' weights, of which version 3 stores numbers alone. */
#ifndef FORMATS_KERAS_NAMES_H
#define FORMATS_KERAS_NAMES_H

#include "formats/hdf5/safe.h"

/* Returns whether an object is a weight: a data set in a group `vars`, or in a file of versions
   before 3 in a layer's group; but none of an optimizer or a metric. */
bool keras_is_weight(const struct hdf5_object *object, bool legacy);

/* Returns whether the objects are as versions before 3 have them. */
bool keras_is_legacy(const struct hdf5_object *objects, size_t count);

/* Names each object that is a weight, the others null: by layers and weights if these names differ
   from each other, else all by their paths. To be freed by keras_free_names. */
int keras_name_weights(char ***names, const struct hdf5_object *objects, size_t count,
                       struct ivon_error *error);
void keras_free_names(char **names, size_t count);

#endif
