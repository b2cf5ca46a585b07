#include "formats/hdf5/source.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"

struct hdf5_source {
    struct hdf5_file *file;
    size_t *objects; /* of the tensors, in their order */
};

static int hdf5_source_read(void *self, size_t tensor, size_t first, size_t count, void *buffer,
                            struct ivon_error *error)
{
    struct hdf5_source *source = self;
    return hdf5_read(source->file, source->objects[tensor], first, count, buffer, error);
}

static const void *hdf5_source_view(void *self, size_t tensor)
{
    struct hdf5_source *source = self;
    return hdf5_view(source->file, source->objects[tensor]);
}

static void hdf5_source_advise(void *self, size_t tensor, size_t first, size_t count, int advice)
{
    struct hdf5_source *source = self;
    hdf5_advise(source->file, source->objects[tensor], first, count, advice);
}

static void hdf5_source_close(void *self)
{
    struct hdf5_source *source = self;
    hdf5_close(source->file);
    free(source->objects);
    free(source);
}

static void hdf5_source_give_up(struct hdf5_file *file, size_t *objects,
                                struct tensor_list *tensors)
{
    hdf5_close(file);
    free(objects);
    tensor_list_release(tensors);
}

int hdf5_source_new(struct ivon_source **source, int code, struct hdf5_file *file, size_t *objects,
                    const char *path, const struct ivon_header *header, struct tensor_list *tensors,
                    struct ivon_error *error)
{
    static const struct ivon_source_class class = {.read = hdf5_source_read,
                                                   .view = hdf5_source_view,
                                                   .advise = hdf5_source_advise,
                                                   .close = hdf5_source_close};
    struct hdf5_source *self = code ? NULL : calloc(1, sizeof *self);
    if (!self) {
        hdf5_source_give_up(file, objects, tensors);
        return code ? code : ivon_error_memory(error);
    }
    *self = (struct hdf5_source){file, objects};
    code = ivon_source_new(source, &class, self, path, header, tensors, error);
    if (code) {
        tensor_list_release(tensors);
        hdf5_source_close(self);
    }
    return code;
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
