/* Tensors of a sink that lie in a file as they are. */
#ifndef FORMATS_POSTERIOR_STORED_TENSOR_H
#define FORMATS_POSTERIOR_STORED_TENSOR_H

#include "formats/io/atomic.h"

struct stored_tensor {
    uint64_t offset; /* of the elements, in the file */
    size_t size;     /* of an element, in bytes */
    size_t count;    /* of elements */
};

/* Writes elements [first, first + count) of tensor `tensor`, which lies at `place`; null: there is
   no such tensor. A range that is not the tensor's is refused, with the output's name, `path`. */
int stored_tensor_write(struct atomic_file *file, const char *path,
                        const struct stored_tensor *place, size_t tensor, size_t first,
                        size_t count, const void *buffer, struct ivon_error *error);

#endif
