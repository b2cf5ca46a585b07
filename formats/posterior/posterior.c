#include "formats/posterior/posterior.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/stream.h"
#include "formats/posterior/buffers.h"
#include "formats/posterior/parts.h"
#include "formats/hdf5/safe.h"

enum { DEFAULT_MEMORY = 64 << 20 };

struct posterior {
    struct hdf5_file *file;
    size_t *objects; /* of the tensors, in their order */
};

static int posterior_read(void *self, size_t tensor, size_t first, size_t count, void *buffer,
                          struct ivon_error *error)
{
    struct posterior *posterior = self;
    return hdf5_read(posterior->file, posterior->objects[tensor], first, count, buffer, error);
}

static const void *posterior_view(void *self, size_t tensor)
{
    struct posterior *posterior = self;
    return hdf5_view(posterior->file, posterior->objects[tensor]);
}

static void posterior_advise(void *self, size_t tensor, size_t first, size_t count, int advice)
{
    struct posterior *posterior = self;
    hdf5_advise(posterior->file, posterior->objects[tensor], first, count, advice);
}

static void posterior_close(void *self)
{
    struct posterior *posterior = self;
    hdf5_close(posterior->file);
    free(posterior->objects);
    free(posterior);
}

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
    struct ivon_tensor tensor = {.name = name,
                                 .part = part,
                                 .dtype = object->dtype,
                                 .rank = object->rank,
                                 .count = object->count,
                                 .ess = NAN,
                                 .weight_decay = NAN};
    if (object->refused && !object->stored_as)
        return ivon_error_set(error, IVON_ERROR_DATA, "%s: '%s' %s", path, object->path,
                              object->refused);
    if (!tensor_name_valid(name))
        return ivon_error_set(error, IVON_ERROR_DATA, "%s: '%s' is not a usable name for a tensor",
                              path, object->path);
    memcpy(tensor.shape, object->shape, sizeof tensor.shape);
    if (object->stored_as) {
        tensor.part = IVON_OPAQUE;
        tensor.name = object->path;
        tensor.stored_as = object->stored_as;
        tensor.count = 0;
        return tensor_list_append(tensors, &tensor, error);
    }
    bool is_float = ivon_dtype_is_float(object->dtype);
    if (part < IVON_BUFFER && !is_float)
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: '%s' has elements of type %s, expected floating point", path,
                              object->path, ivon_dtype_name(object->dtype));
    if (part_is_bytes(part) && (object->dtype != IVON_U8 || object->rank != 1))
        return ivon_error_set(error, IVON_ERROR_DATA, "%s: '%s' is no list of bytes", path,
                              object->path);
    if (part == IVON_HESSIAN) {
        tensor.ess = posterior_number(object, "ess", header->ess);
        tensor.weight_decay = posterior_number(object, "weight_decay", header->weight_decay);
    }
    return tensor_list_append(tensors, &tensor, error);
}

static int posterior_list_tensors(struct posterior *posterior, struct tensor_list *tensors,
                                  const struct ivon_header *header, int version, const char *path,
                                  struct ivon_error *error)
{
    size_t count;
    const struct hdf5_object *objects = hdf5_objects(posterior->file, &count);
    posterior->objects = calloc(count, sizeof *posterior->objects);
    if (!posterior->objects)
        return ivon_error_memory(error);
    for (size_t i = 0; i < count; i++) {
        enum ivon_part part;
        const char *name;
        if (!objects[i].is_dataset || !posterior_locate(objects[i].path, version, &part, &name))
            continue;
        int code = posterior_add_tensor(tensors, &objects[i], part, name, header, path, error);
        if (code)
            return code;
        posterior->objects[tensors->count - 1] = i;
    }
    return buffers_settle(tensors, error);
}

int posterior_open(struct ivon_source **source, struct mapped_file *mapped,
                   const struct ivon_open_options *options, struct ivon_error *error)
{
    static const struct ivon_source_class class = {.read = posterior_read,
                                                   .view = posterior_view,
                                                   .advise = posterior_advise,
                                                   .close = posterior_close};
    const struct hdf5_limits limits = {
        .sandbox = !options->no_sandbox,
        .memory = options->resources.memory ? options->resources.memory : DEFAULT_MEMORY};
    struct tensor_list tensors = {0};
    struct ivon_header header;
    size_t count;
    int version = 1;
    char *path = strdup(mapped->path);
    struct posterior *posterior = calloc(1, sizeof *posterior);
    int code = path && posterior ? 0 : ivon_error_memory(error);
    if (code)
        mapped_close(mapped);
    else
        code = hdf5_open(&posterior->file, mapped, &limits, error);
    if (!code)
        code = posterior_read_header(hdf5_objects(posterior->file, &count), path, &header, &version,
                                     error);
    if (!code)
        code = posterior_list_tensors(posterior, &tensors, &header, version, path, error);
    if (!code)
        code = ivon_source_new(source, &class, posterior, path, &header, &tensors, error);
    if (code) {
        tensor_list_release(&tensors);
        if (posterior)
            posterior_close(posterior);
    }
    free(path);
    return code;
}
