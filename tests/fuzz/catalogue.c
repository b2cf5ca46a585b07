/*
 * What the process that parses HDF5 says to the one that asked: a file may have taken it over, and
 * so nothing that it says may do harm.
 */
#define hdf5_recognise    other_hdf5_recognise /* the library has them already */
#define hdf5_open         other_hdf5_open
#define hdf5_close        other_hdf5_close
#define hdf5_objects      other_hdf5_objects
#define hdf5_attribute    other_hdf5_attribute
#define hdf5_read         other_hdf5_read
#define hdf5_read_strings other_hdf5_read_strings
#define hdf5_view         other_hdf5_view
#define hdf5_advise       other_hdf5_advise
#include "formats/hdf5/safe.c"

#include <assert.h>
#include <stdio.h>

#include "tests/fuzz/fuzz.h"

enum { FILE_SIZE = 1 << 12 };

static volatile unsigned char kept; /* so that no read is optimised away */

/* Every byte that an object claims to have in the file is there. */
static void read_object(const struct hdf5_file *file, size_t index)
{
    const struct hdf5_object *object = &file->objects[index];
    size_t count;
    kept = (unsigned char)strlen(object->path);
    for (size_t i = 0; i < object->attribute_count; i++)
        assert(hdf5_attribute(object, object->attributes[i].name));
    if (object->string_size)
        assert(object->refused && object->rank == 1 && object->string_size <= HDF5_STRING_MAX + 1 &&
               object->count == (size_t)object->shape[0]);
    if (!object->is_dataset || object->refused)
        return;
    assert(object->rank >= 0 && object->rank <= IVON_RANK_MAX && object->dtype < IVON_DTYPE_COUNT);
    assert(tensor_shape_count(object->rank, object->shape, ivon_dtype_size(object->dtype), &count));
    assert(count == object->count);
    for (size_t i = 0; object->offset >= 0 && i < count * ivon_dtype_size(object->dtype); i++)
        kept = file->mapped.data[(size_t)object->offset + i];
}

int fuzz_one(const uint8_t *data, size_t size)
{
    static char path[] = "fuzz.h5";
    unsigned char *content = calloc(1, FILE_SIZE); /* exactly as large as it claims to be */
    struct hdf5_file file = {.mapped = {.path = path, .data = content, .size = FILE_SIZE}};
    struct ivon_error error = {0};
    assert(content);
    int code = hdf5_safe_parse(&file, (const char *)data, size, &error);
    assert(!code || (code == IVON_ERROR_DATA && error.message[0]));
    for (size_t i = 0; !code && i < file.object_count; i++)
        read_object(&file, i);
    struct hdf5_file *whole = calloc(1, sizeof *whole);
    assert(whole);
    *whole = file;
    whole->mapped = (struct mapped_file){0};
    hdf5_close(whole);
    free(content);
    return code ? -1 : 0;
}
