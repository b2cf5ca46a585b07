/*
 * Zip archives that are written: stored entries of known sizes, whose content is written to the
 * file by their offsets, in any order. Everything else comes last, when the content is there to
 * take checksums of. The bytes are a function of names and contents.
 */
#ifndef FORMATS_IO_ZIP_WRITER_H
#define FORMATS_IO_ZIP_WRITER_H

#include "formats/io/atomic.h"

enum { ZIP_ALIGNMENT = 64 /* of the content within the file */ };

/* All zero, it is empty. */
struct zip_writer {
    struct zip_planned *entries;
    size_t count, capacity;
    uint64_t end; /* of the last content */
};

/* Plans an entry, and says where in the file its `size` bytes go. `path` is for messages. */
int zip_writer_add(struct zip_writer *writer, const char *path, const char *name, uint64_t size,
                   uint64_t *offset, struct ivon_error *error);

/* The size of the whole file. */
uint64_t zip_writer_size(const struct zip_writer *writer);

/* Writes headers and directory around the content, which it reads back. */
int zip_writer_finish(const struct zip_writer *writer, struct atomic_file *file,
                      struct ivon_error *error);

void zip_writer_release(struct zip_writer *writer);

#endif
