#include "formats/keras/keras.h"

#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "formats/hdf5/source.h"
#include "formats/io/zip.h"
#include "formats/keras/names.h"
#include "formats/posterior/buffers.h"

static const char entry_name[] = "model.weights.h5";

bool keras_recognise(const struct hdf5_file *file)
{
    size_t count;
    const struct hdf5_object *objects = hdf5_objects(file, &count);
    bool legacy = keras_is_legacy(objects, count), found = false;
    for (size_t i = 0; i < count && !found; i++)
        found = keras_is_weight(&objects[i], legacy);
    return found && !hdf5_attribute(&objects[0], "format");
}

int keras_list(struct tensor_list *tensors, size_t *indices, const struct hdf5_object *objects,
               size_t count, const char *path, struct ivon_error *error)
{
    char **names = NULL;
    int code = keras_name_weights(&names, objects, count, error);
    for (size_t i = 0; i < count && !code; i++) {
        if (!names[i])
            continue;
        indices[tensors->count] = i;
        code = hdf5_source_append(tensors, &objects[i], names[i], path, error);
    }
    keras_free_names(names, count);
    return code ? code : buffers_settle(tensors, error);
}

int keras_open(struct ivon_source **source, struct hdf5_file *file, const char *path,
               struct ivon_error *error)
{
    const struct ivon_header header = ivon_header_empty();
    struct tensor_list tensors = {0};
    size_t count;
    const struct hdf5_object *objects = hdf5_objects(file, &count);
    size_t *indices = calloc(count, sizeof *indices);
    int code = indices ? keras_list(&tensors, indices, objects, count, path, error)
                       : ivon_error_memory(error);
    return hdf5_source_new(source, code, file, indices, path, &header, &tensors, error);
}

bool keras_recognise_archive(const struct mapped_file *mapped)
{
    struct zip_archive *zip = NULL;
    bool found = zip_recognise(mapped) && zip_open(&zip, mapped, NULL) == 0 &&
                 zip_find(zip, entry_name) >= 0;
    zip_close(zip);
    return found;
}

int keras_enter_archive(struct mapped_file *mapped, struct ivon_error *error)
{
    struct zip_archive *zip = NULL;
    struct bytes *bytes = NULL;
    int code = zip_open(&zip, mapped, error);
    ptrdiff_t entry = code ? -1 : zip_find(zip, entry_name);
    if (!code && entry < 0)
        code = ivon_error_memory(error); /* it was there */
    if (!code)
        code = zip_entry_open(&bytes, zip, (size_t)entry, error);
    const unsigned char *view = code ? NULL : bytes_view(bytes);
    uint64_t size = code ? 0 : bytes_size(bytes);
    if (!code && !view)
        code = ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: '%s' is deflated, where Keras stores it: take it out of the "
                              "archive",
                              mapped->path, entry_name);
    bytes_close(bytes);
    zip_close(zip);
    if (!code)
        mapped_narrow(mapped, (uint64_t)(view - mapped->data), size);
    return code;
}
