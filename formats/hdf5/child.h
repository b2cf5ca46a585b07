/*
 * The two sides of formats/hdf5/safe.h and what they say to each other. Integers are in the
 * machine's own order: both sides are one program.
 *
 * The child begins with one catalogue: u64 size, then that many bytes: u8 status; when it is 0,
 * the objects until the end, else text. A string is a u32 length and its bytes. An object is
 *   string path; u8 is_dataset; the attributes and an empty string;
 *   of a data set: string refused (empty when it can be read), and then
 *   if refused, string stored_as (empty when it is damaged) and u32 string_size, else u32 dtype and
 *   i64 offset;
 *   u32 rank (one more than IVON_RANK_MAX: not known), i64 shape[rank]
 * An attribute is string name, never empty; u8 kind ('t', 'i', 'f'); string | i64 | f64.
 *
 * Then it answers requests, until the socket closes: each reply is u32 size of a message, empty
 * on success, then the message. The data are in the window.
 */
#ifndef FORMATS_HDF5_CHILD_H
#define FORMATS_HDF5_CHILD_H

#include <stdint.h>

#include "formats/io/mapped.h"
#include "formats/io/sandbox.h"

struct hdf5_request {
    uint64_t object; /* in the order of the catalogue */
    uint64_t first;
    uint64_t count;
};

struct hdf5_child_context {
    const struct mapped_file *file;
    size_t memory; /* for chunk caches */
};

enum {
    HDF5_CATALOGUE_MAX = 1 << 28, /* bytes */
    HDF5_OBJECTS_MAX = 1 << 19,
    HDF5_TEXT_MAX = 65536, /* of an attribute */
    HDF5_STRING_MAX = 256, /* of one of the strings of a data set */
};

/* The child's life, for sandbox_start; `context` is a struct hdf5_child_context. */
void hdf5_child_serve(struct sandbox_child *child, void *context);

#endif
