/*
 * Flax's checkpoints (flax.serialization): a tree of maps in MessagePack, whose leaves are arrays
 * that are each an extension. A tensor's name is the keys that lead to it, with slashes between
 * them. Of a training's state, which has `params`, these and `batch_stats` are the checkpoint.
 */
#ifndef FORMATS_FLAX_FLAX_H
#define FORMATS_FLAX_FLAX_H

#include "formats/io/mapped.h"
#include "ivon/checkpoint.h"

/* Returns whether the bytes begin as a map of MessagePack does, with a text as its first key. */
bool flax_recognise(const struct mapped_file *file);

/* Opens a mapped file, which the source takes over, whether or not this succeeds. */
int flax_open(struct ivon_source **source, struct mapped_file *mapped,
              const struct ivon_open_options *options, struct ivon_error *error);

#endif
