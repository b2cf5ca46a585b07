/* Models' directories: what reading and writing them share (ivon/directory.h). */
#ifndef FORMATS_DIRECTORY_DIRECTORY_H
#define FORMATS_DIRECTORY_DIRECTORY_H

#include "ivon/directory.h"

#define DIRECTORY_WEIGHTS "model.safetensors"
#define DIRECTORY_INDEX   "model.safetensors.index.json"
#define DIRECTORY_FACTORS "adapter_model.safetensors"

/* The names of weights, in the order in which transformers' from_pretrained looks for them, and
   then those of Keras. */
enum { DIRECTORY_WEIGHTS_COUNT = 7 };
extern const char *const directory_weights_names[DIRECTORY_WEIGHTS_COUNT];

/* The names of an adapter's factors, in the order in which PEFT looks for them. */
enum { DIRECTORY_FACTORS_COUNT = 2 };
extern const char *const directory_factors_names[DIRECTORY_FACTORS_COUNT];

/* Returns whether a path is that of a directory, or of a link to one. */
bool directory_exists(const char *path);

/* DIRECTORY/NAME, to be freed; null when memory is exhausted. */
char *directory_path(const char *directory, const char *name);

#endif
