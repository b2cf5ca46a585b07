/* An array in a run of bytes: what npy and IDX files hold, and the members of npz files. */
#ifndef FORMATS_NUMPY_ARRAY_H
#define FORMATS_NUMPY_ARRAY_H

#include <stdbool.h>

#include "formats/io/bytes.h"
#include "formats/io/mapped.h"
#include "ivon/stream.h"

enum { ARRAY_OPAQUE_SIZE = 64, ARRAY_STRING_MAX = 1024 /* bytes, as they are stored */ };

struct array {
    struct bytes *bytes;
    uint64_t offset; /* of the first element */
    bool swapped;    /* big-endian */
    bool fortran;    /* in Fortran order, which is another than that of rows */
    enum ivon_dtype dtype;
    int rank;
    int64_t shape[IVON_RANK_MAX];
    /* How an array that cannot be read is stored: "<U3", "<f4 of 9 dimensions"; else empty. Its
       rank is -1 where the shape is not known. */
    char opaque[ARRAY_OPAQUE_SIZE];
    size_t string_size; /* bytes of an element, of one that is of strings with one axis; else 0 */
    bool wide;          /* these are code points of four bytes */
};

bool npy_recognise(const struct mapped_file *file);
bool idx_recognise(const struct mapped_file *file);
bool gzip_recognise(const struct mapped_file *file);

/* Reads the description of the array that array->bytes holds, and checks it against their size. An
   npy file's may say that the array is opaque, which is no error. */
int npy_parse(struct array *array, struct ivon_error *error);
int idx_parse(struct array *array, struct ivon_error *error);

/* Writes the header of an npy file, version 1.0 of the format, of a type that is not bf16: ASCII,
   padded to a multiple of 64 bytes, which are returned. Of at most 1 + IVON_RANK_MAX dimensions. */
enum { NPY_HEADER_MAX = 512 };
size_t npy_header(char header[NPY_HEADER_MAX], enum ivon_dtype dtype, int rank,
                  const int64_t *shape);

/* The bytes of a string of a type such as "<U3" or "|S5"; 0: it is no such type, or longer than
   ARRAY_STRING_MAX. */
size_t npy_string_size(const char *type);

/* Writes a string of array->string_size bytes in UTF-8, at most as many, and a zero behind it.
   Returns its length, without what fills it up; bytes are taken as they are. */
size_t array_string(const struct array *array, const unsigned char *element, char *text);

/* Turns the byte order of elements around. */
void array_swap(void *data, size_t element_size, size_t count);

/* The error of an array that is opaque, when it is asked for; 0 for any other. */
int array_refuse_opaque(const struct array *array, struct ivon_error *error);

/* Opens a mapped npy or IDX file, the latter also gzipped, which is borrowed. It may be opaque. */
int array_open(struct array *array, const struct mapped_file *file, struct ivon_error *error);
/* Accepts an array that is all zero. */
void array_close(struct array *array);

/* Elements [first, first + count), row-major, in the machine's byte order; the range must lie
   within. Not of an array in Fortran order that has to be inflated. */
int array_read(struct array *array, uint64_t first, size_t count, void *out,
               struct ivon_error *error);

/* The strings [first, first + count) of an array that has some, as they are stored. */
int array_read_strings(struct array *array, uint64_t first, size_t count, void *out,
                       struct ivon_error *error);

#endif
