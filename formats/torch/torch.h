/* Checkpoints that PyTorch's torch.save wrote (zip, from torch 1.6 on), read. */
#ifndef FORMATS_TORCH_TORCH_H
#define FORMATS_TORCH_TORCH_H

#include <stdbool.h>

#include "formats/io/mapped.h"
#include "formats/posterior/shard_index.h"
#include "ivon/checkpoint.h"

/* Returns whether the bytes are a zip archive with a pickle as PyTorch names it, or a bare pickle,
   as older versions wrote: torch_open refuses those, and says what to do. */
bool torch_recognise(const struct mapped_file *file);

/* Opens a mapped file, which the source takes over, whether or not this succeeds. */
int torch_open(struct ivon_source **source, struct mapped_file *mapped,
               const struct ivon_open_options *options, struct ivon_error *error);

/* As torch_open; but a file that has an optimizer's state and no state dict, such as a trainer's
   optimizer.pt, is a source of Hessians only, with the names of the model. Borrows the model until
   the call returns. */
int torch_open_optimizer(struct ivon_source **source, struct mapped_file *mapped,
                         const struct ivon_open_options *options, const struct ivon_source *model,
                         struct ivon_error *error);

/* As torch_open, for one of several files of a state dict: names stay as they are. */
int torch_open_shard(struct ivon_source **source, struct mapped_file *mapped,
                     const struct ivon_open_options *options, struct ivon_error *error);

/* Opens the shards of an index, which the caller keeps. */
int torch_open_shards(struct ivon_source **source, struct shard_index *index,
                      const struct ivon_open_options *options, struct ivon_error *error);

#endif
