/*
 * HDF5 files from strangers. A child process (formats/io/sandbox.h) parses the file and lists every
 * data set and attribute; this side checks the list against the file and reads contiguous data
 * straight from its own mapping. Data that HDF5 has to assemble (chunked, compressed, compact,
 * big-endian) the child reads on request.
 *
 * Refused, whoever asks: links out of the file, soft links, external storage, virtual data sets,
 * filters other than deflate, shuffle and fletcher32, element types other than fixed-size numbers
 * and booleans, more elements than the file can hold.
 */
#ifndef FORMATS_HDF5_SAFE_H
#define FORMATS_HDF5_SAFE_H

#include "formats/io/mapped.h"
#include "ivon/stream.h"

struct hdf5_attribute {
    char *name;
    char *text;      /* null for a number */
    double number;   /* NaN for text */
    int64_t integer; /* 0 for text and for what is not an integer */
    bool is_integer;
};

struct hdf5_object {
    char *path;         /* "" for the root, "mean/fc.weight" for a data set */
    char *refused;      /* why this data set cannot be read; null when it can */
    char *stored_as;    /* of one that is refused, but not damaged: how it is stored; else null */
    size_t string_size; /* of strings along one axis: as hdf5_read_strings takes them; else 0 */
    bool is_dataset;
    enum ivon_dtype dtype;
    int rank; /* of one that is refused: -1 where it is not known */
    int64_t shape[IVON_RANK_MAX];
    size_t count;
    int64_t offset; /* of its first byte in the file when it lies there as it is, else -1 */
    struct hdf5_attribute *attributes;
    size_t attribute_count;
};

struct hdf5_file;

struct hdf5_limits {
    bool sandbox;  /* with seccomp */
    size_t memory; /* bytes that the child may use for decompressed pieces */
};

/* Returns whether the bytes look like an HDF5 file. */
bool hdf5_recognise(const struct mapped_file *file);

/* Opens a mapped file, which the result takes over, whether or not this succeeds. */
int hdf5_open(struct hdf5_file **file, struct mapped_file *mapped, const struct hdf5_limits *limits,
              struct ivon_error *error);
void hdf5_close(struct hdf5_file *file);

/* The groups and data sets in the file's order, groups before what they hold; borrowed. */
const struct hdf5_object *hdf5_objects(const struct hdf5_file *file, size_t *count);

/* An attribute of an object, or null. */
const struct hdf5_attribute *hdf5_attribute(const struct hdf5_object *object, const char *name);

/* Elements [first, first + count) of data set `object`; the range must lie within it. */
int hdf5_read(struct hdf5_file *file, size_t object, size_t first, size_t count, void *buffer,
              struct ivon_error *error);

/* Strings [first, first + count) of data set `object`, which is refused and has a string_size: each
   takes that many bytes, the last ones null. */
int hdf5_read_strings(struct hdf5_file *file, size_t object, size_t first, size_t count,
                      char *strings, struct ivon_error *error);

/* The address of a data set's first byte, or null when it has to be read. */
const void *hdf5_view(struct hdf5_file *file, size_t object);

/* As mapped_advise, for a range of elements. */
void hdf5_advise(struct hdf5_file *file, size_t object, size_t first, size_t count, int advice);

#endif
