/* Outputs of any kind, whole or absent. */
#ifndef IVON_OUTPUT_H
#define IVON_OUTPUT_H

#include <stdbool.h>
#include <stddef.h>

#include "ivon/api.h"
#include "ivon/error.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Writes `size` bytes as the file `path`: beside it first, under a hidden name, then, once they are
 * on disk, under its own. An existing file is refused unless `replace`, and stays as it was where
 * this fails: with IVON_ERROR_CREATE or IVON_ERROR_IO.
 */
IVON_API int ivon_output_write(const char *path, const void *data, size_t size, bool replace,
                               struct ivon_error *error);

/* Removes what is beside the paths of all outputs that are not complete, of any kind. Safe in a
   signal handler; for one that ends the process. */
IVON_API void ivon_outputs_abandon(void);

#ifdef __cplusplus
}
#endif

#endif
