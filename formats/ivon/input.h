/*
 * Files that are read from their beginning to their end, such as lists of names.
 */
#ifndef IVON_INPUT_H
#define IVON_INPUT_H

#include <stdio.h>

#include "ivon/api.h"
#include "ivon/error.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Opens a file or a pipe, to be closed with fclose. "-" is standard input, as it is for whatever
 * this library opens: at the first such call it is read to its end and held in memory, and
 * descriptor 0 becomes what was read, so that it may be opened again, one file after the other.
 * Fails with IVON_ERROR_INPUT, or IVON_ERROR_IO where standard input cannot be read.
 */
IVON_API int ivon_input_open(FILE **file, const char *path, struct ivon_error *error);

#ifdef __cplusplus
}
#endif

#endif
