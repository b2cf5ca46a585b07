/* The data sets of one group of an HDF5 file as examples. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "core/class_names.h"
#include "core/error.h"
#include "formats/dataset/dataset.h"
#include "formats/hdf5/safe.h"

enum { DEFAULT_MEMORY = 64 << 20 };

struct dataset_hdf5 {
    struct hdf5_file *file;
    const struct hdf5_object *objects; /* the file's */
    size_t object_count;
    size_t *fields; /* their objects */
    char *path;     /* for messages */
    struct class_names classes;
};

/* Strings, as the numbers of the classes of these names. */
static int dataset_hdf5_read_names(struct dataset_hdf5 *dataset, size_t field, uint64_t first,
                                   size_t count, int64_t *numbers, struct ivon_error *error)
{
    const struct hdf5_object *object = &dataset->objects[dataset->fields[field]];
    size_t size = object->string_size;
    char *names = calloc(count + 1, size);
    if (!names)
        return ivon_error_memory(error);
    int code = hdf5_read_strings(dataset->file, dataset->fields[field], first, count, names, error);
    for (size_t i = 0; i < count && !code; i++) {
        const char *name = names + i * size;
        code = dataset_find_class(&numbers[i], &dataset->classes, dataset->path, object->path,
                                  first + i, name, strlen(name), error);
    }
    free(names);
    return code;
}

static int hdf5_examples_read(void *self, size_t field, uint64_t first, size_t count, void *buffer,
                              struct ivon_error *error)
{
    struct dataset_hdf5 *dataset = self;
    const struct hdf5_object *object = &dataset->objects[dataset->fields[field]];
    if (object->refused) /* but its names are classes */
        return dataset_hdf5_read_names(dataset, field, first, count, buffer, error);
    size_t example = object->count / (size_t)object->shape[0];
    size_t start = (size_t)first * example, size = count * example;
    int code = hdf5_read(dataset->file, dataset->fields[field], start, size, buffer, error);
    hdf5_advise(dataset->file, dataset->fields[field], start, size, MADV_DONTNEED);
    return code;
}

static void hdf5_examples_close(void *self)
{
    struct dataset_hdf5 *dataset = self;
    hdf5_close(dataset->file);
    class_names_release(&dataset->classes);
    free(dataset->path);
    free(dataset->fields);
    free(dataset);
}

/* The name of an object that lies below a group ("" or "train"), or null. */
static const char *name_within(const struct hdf5_object *object, const char *group, size_t length)
{
    if (!length)
        return object->path;
    return strncmp(object->path, group, length) == 0 && object->path[length] == '/'
               ? object->path + length + 1
               : NULL;
}

static int check_group(const struct dataset_hdf5 *dataset, const struct dataset_request *request,
                       const char *group, size_t length, struct ivon_error *error)
{
    size_t count = 0;
    char list[DATASET_LIST_SIZE];
    const char **names = calloc(dataset->object_count, sizeof *names);
    if (!names)
        return ivon_error_memory(error);
    for (size_t i = 0; i < dataset->object_count; i++) {
        const struct hdf5_object *object = &dataset->objects[i];
        if (!object->is_dataset && strlen(object->path) == length &&
            strncmp(object->path, group, length) == 0) {
            free(names);
            return 0;
        }
        if (!object->is_dataset && *object->path)
            names[count++] = object->path;
    }
    dataset_list(list, sizeof list, names, count);
    free(names);
    return ivon_error_set(error, IVON_ERROR_DATA, "%s: there is no group '%.*s', %s%s",
                          request->path, (int)(length < 200 ? length : 200), group,
                          count ? "but " : "nor any other", count ? list : "");
}

/* Lists what lies in the group, and selects from it. */
static int select_fields(struct dataset_hdf5 *dataset, struct dataset_selection *selection,
                         const struct dataset_request *request, const char *group, size_t length,
                         struct ivon_error *error)
{
    size_t count = 0;
    const char **names = calloc(dataset->object_count, sizeof *names);
    size_t *objects = calloc(dataset->object_count, sizeof *objects);
    int code = names && objects ? 0 : ivon_error_memory(error);
    for (size_t i = 0; i < dataset->object_count && !code; i++) {
        const char *name = name_within(&dataset->objects[i], group, length);
        if (!dataset->objects[i].is_dataset || !name)
            continue;
        names[count] = name;
        objects[count++] = i;
    }
    if (!code)
        code = dataset_select(selection, request, names, count, error);
    for (size_t i = 0; i < selection->count && !code; i++)
        selection->arrays[i] = objects[selection->arrays[i]];
    free(names);
    free(objects);
    return code;
}

/* Targets that are strings are numbers where these have names. */
static int dataset_hdf5_check(const struct dataset_hdf5 *dataset,
                              const struct dataset_request *request,
                              const struct hdf5_object *object, bool target,
                              struct ivon_error *error)
{
    if (!object->refused || (target && object->string_size && dataset->classes.count))
        return 0;
    if (target && object->string_size)
        return ivon_error_hint(error, IVON_HINT_CLASSES,
                               ivon_error_set(error, IVON_ERROR_DATA,
                                              "%s: '%s' holds strings, expected numbers",
                                              request->path, object->path));
    return ivon_error_set(error, IVON_ERROR_DATA, "%s: '%s' %s", request->path, object->path,
                          object->refused);
}

static int dataset_hdf5_make(struct ivon_examples **examples, struct dataset_hdf5 *dataset,
                             const struct dataset_selection *selection,
                             const struct dataset_request *request, size_t group_length,
                             struct ivon_error *error)
{
    static const struct ivon_examples_class class = {.read = hdf5_examples_read,
                                                     .close = hdf5_examples_close};
    int code = 0;
    struct dataset_array *arrays = calloc(selection->count, sizeof *arrays);
    if (!arrays)
        return ivon_error_memory(error);
    for (size_t i = 0; i < selection->count && !code; i++) {
        const struct hdf5_object *object = &dataset->objects[dataset->fields[i]];
        bool target = selection->targets && i == selection->count - 1;
        code = dataset_hdf5_check(dataset, request, object, target, error);
        arrays[i] = (struct dataset_array){.name = object->path +
                                                   (group_length ? group_length + 1 : 0),
                                           .dtype = object->refused ? IVON_I64 : object->dtype,
                                           .rank = object->rank};
        memcpy(arrays[i].shape, object->shape, sizeof object->shape);
    }
    if (!code)
        code = dataset_make(examples, &class, dataset, request, arrays, selection->count,
                            selection->targets, error);
    free(arrays);
    return code;
}

int dataset_hdf5_open(struct ivon_examples **examples, struct dataset_request *request,
                      struct mapped_file *file, struct ivon_error *error)
{
    const struct ivon_dataset_options *options = request->options;
    const struct hdf5_limits limits = {
        .sandbox = !options->no_sandbox,
        .memory = options->resources.memory ? options->resources.memory : DEFAULT_MEMORY};
    struct dataset_selection selection = {0};
    const char *group = request->group ? request->group : "";
    group += strspn(group, "/");
    size_t length = strlen(group);
    while (length && group[length - 1] == '/')
        length--;
    struct dataset_hdf5 *dataset = calloc(1, sizeof *dataset);
    if (!dataset)
        return ivon_error_memory(error);
    dataset->path = strdup(request->path);
    int code = dataset->path ? class_names_init(&dataset->classes, options->classes,
                                                options->class_count, error)
                             : ivon_error_memory(error);
    if (!code)
        code = hdf5_open(&dataset->file, file, &limits, error);
    if (!code) {
        dataset->objects = hdf5_objects(dataset->file, &dataset->object_count);
        code = check_group(dataset, request, group, length, error);
    }
    if (!code)
        code = select_fields(dataset, &selection, request, group, length, error);
    dataset->fields = selection.arrays;
    if (!code)
        code = dataset_hdf5_make(examples, dataset, &selection, request, length, error);
    if (code)
        hdf5_examples_close(dataset);
    return code;
}
