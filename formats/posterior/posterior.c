#include "formats/posterior/posterior.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/stream.h"
#include "formats/posterior/buffers.h"
#include "formats/posterior/parts.h"
#include "formats/hdf5/source.h"

static double posterior_number(const struct hdf5_object *object, const char *name, double otherwise)
{
    const struct hdf5_attribute *attribute = hdf5_attribute(object, name);
    return attribute && !attribute->text ? attribute->number : otherwise;
}

static int64_t posterior_natural(const struct hdf5_object *object, const char *name)
{
    const struct hdf5_attribute *attribute = hdf5_attribute(object, name);
    return attribute && attribute->is_integer && attribute->integer >= 0 ? attribute->integer : -1;
}

static const char *posterior_text(const struct hdf5_object *object, const char *name)
{
    const struct hdf5_attribute *attribute = hdf5_attribute(object, name);
    return attribute ? attribute->text : NULL;
}

static int posterior_read_header(const struct hdf5_object *root, const char *path,
                                 struct ivon_header *header, int *version_found,
                                 struct ivon_error *error)
{
    const char *format = posterior_text(root, "format");
    double version = posterior_number(root, "format_version", NAN);
    if (!format || strcmp(format, "ivon-posterior") != 0)
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: an HDF5 file, but not a posterior: attribute 'format' is %s, "
                              "expected 'ivon-posterior'",
                              path, format ? "another" : "missing");
    if (version != 1 && version != PARTS_VERSION)
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: attribute 'format_version' is %g, expected 1 or %d", path,
                              version, PARTS_VERSION);
    *version_found = version > 1 ? PARTS_VERSION : 1;
    *header = (struct ivon_header){
        .ess = posterior_number(root, "ess", NAN),
        .weight_decay = posterior_number(root, "weight_decay", NAN),
        .step = posterior_natural(root, "step"),
        .n_train = posterior_natural(root, "n_train"),
        .decrement = posterior_number(root, "newton_decrement", NAN),
        .creator = posterior_text(root, "creator"),
        .provenance = posterior_text(root, "provenance"),
    };
    return 0;
}

/* Tells a tensor's part and name from its path in a file of a version; false for what is not a
   tensor of ours. */
static bool posterior_locate(const char *path, int version, enum ivon_part *part, const char **name)
{
    for (enum ivon_part candidate = 0; candidate < IVON_OPAQUE; candidate++) {
        size_t length = strlen(ivon_part_name(candidate));
        bool bytes = part_is_bytes(candidate);
        if (parts_version_of(candidate) > version ||
            strncmp(path, ivon_part_name(candidate), length) != 0 ||
            (path[length] && (bytes || path[length] != '/')))
            continue;
        *part = candidate;
        *name = bytes ? path : path + length + (path[length] == '/');
        return true;
    }
    return false;
}

static int posterior_add_tensor(struct tensor_list *tensors, const struct hdf5_object *object,
                                enum ivon_part part, const char *name,
                                const struct ivon_header *header, const char *path,
                                struct ivon_error *error)
{
    bool is_float = ivon_dtype_is_float(object->dtype);
    int code = hdf5_source_append(tensors, object, name, path, error);
    if (code || object->stored_as)
        return code;
    struct ivon_tensor *tensor = &tensors->items[tensors->count - 1];
    tensor->part = part;
    if (part < IVON_BUFFER && !is_float)
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: '%s' has elements of type %s, expected floating point", path,
                              object->path, ivon_dtype_name(object->dtype));
    if (part_is_bytes(part) && (object->dtype != IVON_U8 || object->rank != 1))
        return ivon_error_set(error, IVON_ERROR_DATA, "%s: '%s' is no list of bytes", path,
                              object->path);
    if (part == IVON_HESSIAN) {
        tensor->ess = posterior_number(object, "ess", header->ess);
        tensor->weight_decay = posterior_number(object, "weight_decay", header->weight_decay);
    }
    return 0;
}

static int posterior_list_tensors(const struct hdf5_file *file, size_t *indices,
                                  struct tensor_list *tensors, const struct ivon_header *header,
                                  int version, const char *path, struct ivon_error *error)
{
    size_t count;
    const struct hdf5_object *objects = hdf5_objects(file, &count);
    for (size_t i = 0; i < count; i++) {
        enum ivon_part part;
        const char *name;
        if (!objects[i].is_dataset || !posterior_locate(objects[i].path, version, &part, &name))
            continue;
        indices[tensors->count] = i;
        int code = posterior_add_tensor(tensors, &objects[i], part, name, header, path, error);
        if (code)
            return code;
    }
    return buffers_settle(tensors, error);
}

int posterior_open(struct ivon_source **source, struct hdf5_file *file, const char *path,
                   struct ivon_error *error)
{
    struct tensor_list tensors = {0};
    struct ivon_header header;
    size_t count;
    int version = 1;
    const struct hdf5_object *objects = hdf5_objects(file, &count);
    size_t *indices = calloc(count, sizeof *indices);
    int code = indices ? posterior_read_header(objects, path, &header, &version, error)
                       : ivon_error_memory(error);
    if (!code)
        code = posterior_list_tensors(file, indices, &tensors, &header, version, path, error);
    return hdf5_source_new(source, code, file, indices, path, &header, &tensors, error);
}
