/*
 * Random access to deflated entries of a zip archive, from several threads. Inflating is
 * sequential: a few windows remember what came out last, and reading in rising order, or a little
 * back, is fast; going back further than a window starts again from the entry's beginning.
 */
#ifndef FORMATS_IO_INFLATED_H
#define FORMATS_IO_INFLATED_H

#include "formats/io/zip.h"

struct inflated;

/* Borrows the archive. The windows have `memory` bytes altogether. */
int inflated_new(struct inflated **inflated, const struct zip_archive *archive, size_t memory,
                 struct ivon_error *error);
void inflated_free(struct inflated *inflated);

/* Bytes [offset, offset + size) of an entry. */
int inflated_read(struct inflated *inflated, size_t entry, uint64_t offset, size_t size, void *out,
                  struct ivon_error *error);

#endif
