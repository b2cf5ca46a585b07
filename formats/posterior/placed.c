#include "formats/posterior/placed.h"

#include "core/error.h"

int placed_write(struct atomic_file *file, const char *path, const struct placed *place,
                 size_t tensor, size_t first, size_t count, const void *buffer,
                 struct ivon_error *error)
{
    if (!place || first > place->count || count > place->count - first)
        return ivon_error_set(error, IVON_ERROR_ARGUMENT, "%s: no such range of tensor %zu", path,
                              tensor);
    return atomic_write(file, place->offset + first * place->size, buffer, count * place->size,
                        error);
}
