#include "formats/hdf5/source.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"

struct hdf5_source {
    struct hdf5_file **files;
    size_t file_count;
    struct hdf5_place *places; /* of the tensors, in their order */
};

static int hdf5_source_read(void *self, size_t tensor, size_t first, size_t count, void *buffer,
                            struct ivon_error *error)
{
    const struct hdf5_place *place = &((struct hdf5_source *)self)->places[tensor];
    return hdf5_read(place->file, place->object, first, count, buffer, error);
}

static const void *hdf5_source_view(void *self, size_t tensor)
{
    const struct hdf5_place *place = &((struct hdf5_source *)self)->places[tensor];
    return hdf5_view(place->file, place->object);
}

static void hdf5_source_advise(void *self, size_t tensor, size_t first, size_t count, int advice)
{
    const struct hdf5_place *place = &((struct hdf5_source *)self)->places[tensor];
    hdf5_advise(place->file, place->object, first, count, advice);
}

static void hdf5_source_release(const struct hdf5_source *source)
{
    for (size_t i = 0; i < source->file_count; i++)
        hdf5_close(source->files[i]);
    free(source->files);
    free(source->places);
}

static void hdf5_source_close(void *self)
{
    hdf5_source_release(self);
    free(self);
}

int hdf5_source_join(struct ivon_source **source, int code, struct hdf5_file **files,
                     size_t file_count, struct hdf5_place *places, const char *path,
                     const struct ivon_header *header, struct tensor_list *tensors,
                     struct ivon_error *error)
{
    static const struct ivon_source_class class = {.read = hdf5_source_read,
                                                   .view = hdf5_source_view,
                                                   .advise = hdf5_source_advise,
                                                   .close = hdf5_source_close};
    const struct hdf5_source whole = {files, file_count, places};
    struct hdf5_source *self = code ? NULL : malloc(sizeof *self);
    if (self) {
        *self = whole;
        code = ivon_source_new(source, &class, self, path, header, tensors, error);
        if (!code)
            return 0;
    } else if (!code) {
        code = ivon_error_memory(error);
    }
    hdf5_source_release(&whole);
    tensor_list_release(tensors);
    free(self);
    return code;
}

int hdf5_source_new(struct ivon_source **source, int code, struct hdf5_file *file, size_t *objects,
                    const char *path, const struct ivon_header *header, struct tensor_list *tensors,
                    struct ivon_error *error)
{
    struct hdf5_file **files = malloc(sizeof *files);
    struct hdf5_place *places = calloc(tensors->count + 1, sizeof *places);
    if (files)
        *files = file;
    else
        hdf5_close(file);
    if (!code && (!files || !places))
        code = ivon_error_memory(error);
    for (size_t i = 0; i < tensors->count && !code; i++)
        places[i] = (struct hdf5_place){file, objects[i]};
    free(objects);
    return hdf5_source_join(source, code, files, files ? 1 : 0, places, path, header, tensors,
                            error);
}

int hdf5_source_append(struct tensor_list *tensors, const struct hdf5_object *object,
                       const char *name, const char *path, struct ivon_error *error)
{
    bool is_float = ivon_dtype_is_float(object->dtype);
    struct ivon_tensor tensor = {.name = object->stored_as ? object->path : name,
                                 .part = object->stored_as ? IVON_OPAQUE
                                         : is_float        ? IVON_MEAN
                                                           : IVON_BUFFER,
                                 .dtype = object->dtype,
                                 .rank = object->rank,
                                 .count = object->stored_as ? 0 : object->count,
                                 .stored_as = object->stored_as,
                                 .ess = NAN,
                                 .weight_decay = NAN};
    if (object->refused && !object->stored_as)
        return ivon_error_set(error, IVON_ERROR_DATA, "%s: '%s' %s", path, object->path,
                              object->refused);
    if (!tensor_name_valid(name))
        return ivon_error_set(error, IVON_ERROR_DATA, "%s: '%s' is not a usable name for a tensor",
                              path, object->path);
    memcpy(tensor.shape, object->shape, sizeof tensor.shape);
    return tensor_list_append(tensors, &tensor, error);
}
