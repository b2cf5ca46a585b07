/*
 * Zip archives (PKWARE APPNOTE 6.3), Zip64 among them, by their central directory: the entries'
 * own headers may leave sizes out. Entries are stored, and then lie in memory as they are, or
 * deflated. Opening an archive checks the directory, opening an entry checks where it lies.
 */
#ifndef FORMATS_IO_ZIP_H
#define FORMATS_IO_ZIP_H

#include <stdbool.h>

#include "formats/io/bytes.h"
#include "formats/io/mapped.h"

struct zip_entry {
    char *name;
    const char *refused; /* why it cannot be opened; null when it can */
    bool deflated;
    uint64_t header;      /* offset of the entry's own header */
    uint64_t stored_size; /* bytes in the archive */
    uint64_t size;        /* bytes of content */
    uint32_t crc;
};

struct zip_archive;

/* Returns whether the bytes begin as a zip archive does. */
bool zip_recognise(const struct mapped_file *file);

/* Borrows the mapped file. Names are unique. */
int zip_open(struct zip_archive **archive, const struct mapped_file *file,
             struct ivon_error *error);
void zip_close(struct zip_archive *archive);

/* In the directory's order; borrowed. */
const struct zip_entry *zip_entries(const struct zip_archive *archive, size_t *count);

/* The index of the entry of that name, or -1. */
ptrdiff_t zip_find(const struct zip_archive *archive, const char *name);

/* An entry's content, to be closed before the archive. Stored content can be viewed; its checksum
   is not compared, since nothing else reads all of it. */
int zip_entry_open(struct bytes **bytes, const struct zip_archive *archive, size_t entry,
                   struct ivon_error *error);

#endif
