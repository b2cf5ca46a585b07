/* Checkpoints that PyTorch's torch.save wrote (zip, from torch 1.6 on), read. */
#ifndef FORMATS_TORCH_H
#define FORMATS_TORCH_H

#include <stdbool.h>

#include "formats/mapped.h"
#include "ivon/checkpoint.h"

/* Whether the bytes are a zip archive with a pickle as PyTorch names it, or a bare pickle: files of
   older versions are, and are refused with the way out. */
bool torch_recognise(const struct mapped_file *file);

/* Opens a mapped file, which the source takes over, whether or not this succeeds. */
int torch_open(struct ivon_source **source, struct mapped_file *mapped,
               const struct ivon_open_options *options, struct ivon_error *error);

#endif
