/* An array in a run of bytes: what npy and IDX files hold, and the members of npz files. */
#ifndef FORMATS_ARRAY_H
#define FORMATS_ARRAY_H

#include <stdbool.h>

#include "formats/bytes.h"
#include "formats/mapped.h"
#include "ivon/stream.h"

struct array {
    struct bytes *bytes;
    uint64_t offset; /* of the first element */
    bool swapped;    /* big-endian */
    enum ivon_dtype dtype;
    int rank;
    int64_t shape[IVON_RANK_MAX];
};

bool npy_recognise(const struct mapped_file *file);
bool idx_recognise(const struct mapped_file *file);
bool gzip_recognise(const struct mapped_file *file);

/* Reads the description of the array that array->bytes holds, and checks it against their size. */
int npy_parse(struct array *array, struct ivon_error *error);
int idx_parse(struct array *array, struct ivon_error *error);

/* Opens a mapped npy or IDX file, the latter also gzipped, which is borrowed. */
int array_open(struct array *array, const struct mapped_file *file, struct ivon_error *error);
/* Accepts an array that is all zero. */
void array_close(struct array *array);

/* Elements [first, first + count) in the machine's byte order; the range must lie within. */
int array_read(struct array *array, uint64_t first, size_t count, void *out,
               struct ivon_error *error);

#endif
