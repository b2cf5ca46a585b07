/* A whole file, read-only in memory: where every reader of a foreign file begins. */
#ifndef FORMATS_IO_MAPPED_H
#define FORMATS_IO_MAPPED_H

#include <stdint.h>

#include "ivon/error.h"

struct mapped_file {
    char *path;
    const unsigned char *data; /* null when the file is empty */
    uint64_t size;
    uint64_t before, behind; /* bytes of the file that are not these: see mapped_narrow */
};

/* "-" is standard input, which is read to its end, and held in memory (ivon/input.h). */
int mapped_open(struct mapped_file *file, const char *path, struct ivon_error *error);
void mapped_close(struct mapped_file *file);

/* Makes a file that lies within a file the file: bytes [offset, offset + size), which must be some
   of it. */
void mapped_narrow(struct mapped_file *file, uint64_t offset, uint64_t size);

/* Passes madvise's MADV_WILLNEED or MADV_DONTNEED on for a range of bytes. */
void mapped_advise(const struct mapped_file *file, uint64_t offset, uint64_t size, int advice);

#endif
