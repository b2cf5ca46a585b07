#include "formats/posterior/stored_tensor.h"

#include "core/error.h"

int stored_tensor_write(struct atomic_file *file, const char *path,
                        const struct stored_tensor *place, size_t tensor, size_t first,
                        size_t count, const void *buffer, struct ivon_error *error)
{
    if (!place || first > place->count || count > place->count - first)
        return ivon_error_set(error, IVON_ERROR_ARGUMENT, "%s: no such range of tensor %zu", path,
                              tensor);
    return atomic_write(file, place->offset + first * place->size, buffer, count * place->size,
                        error);
}
