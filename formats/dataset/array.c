/* Arrays as examples: of an npz file, of an npy or IDX file, or of two such. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "formats/numpy/array.h"
#include "formats/dataset/dataset.h"
#include "formats/io/strided.h"
#include "formats/io/zip.h"

enum { DEFAULT_MEMORY = 64 << 20 };

struct dataset_arrays {
    struct mapped_file files[2];
    struct zip_archive *archive; /* null for npy and IDX */
    struct slabs *slabs;         /* of deflated arrays in Fortran order; null when there are none */
    struct array *arrays;
    size_t *examples; /* elements of an example of each */
    size_t count;
    struct class_names classes; /* whose names the last array may have */
};

/* Strings, as the numbers of the classes of these names. */
static int arrays_read_names(struct dataset_arrays *dataset, struct array *array, uint64_t first,
                             size_t count, int64_t *numbers, struct ivon_error *error)
{
    char text[ARRAY_STRING_MAX + 1];
    unsigned char *strings = calloc(count + 1, array->string_size);
    if (!strings)
        return ivon_error_memory(error);
    int code = array_read_strings(array, first, count, strings, error);
    for (size_t i = 0; i < count && !code; i++) {
        size_t size = array_string(array, strings + i * array->string_size, text);
        code = dataset_find_class(&numbers[i], &dataset->classes, bytes_name(array->bytes), NULL,
                                  first + i, text, size, error);
    }
    free(strings);
    return code;
}

static int arrays_read(void *self, size_t field, uint64_t first, size_t count, void *buffer,
                       struct ivon_error *error)
{
    struct dataset_arrays *dataset = self;
    struct array *array = &dataset->arrays[field];
    size_t example = dataset->examples[field], size = ivon_dtype_size(array->dtype);
    if (array->string_size)
        return arrays_read_names(dataset, array, first, count, buffer, error);
    if (!array->fortran || bytes_view(array->bytes))
        return array_read(array, first * example, count * example, buffer, error);
    int code = slabs_read(dataset->slabs, field, size, array->rank, array->shape, first * example,
                          count * example, buffer, error);
    if (!code && array->swapped)
        array_swap(buffer, size, count * example);
    return code;
}

/* Bytes of a deflated array's elements, as they are stored. */
static int fetch_array(void *context, size_t field, uint64_t offset, size_t size, void *out,
                       struct ivon_error *error)
{
    struct dataset_arrays *dataset = context;
    struct array *array = &dataset->arrays[field];
    return bytes_read(array->bytes, array->offset + offset, size, out, error);
}

static void arrays_close(void *self)
{
    struct dataset_arrays *dataset = self;
    if (!dataset)
        return;
    for (size_t i = 0; i < dataset->count; i++)
        array_close(&dataset->arrays[i]);
    slabs_free(dataset->slabs);
    zip_close(dataset->archive);
    class_names_release(&dataset->classes);
    mapped_close(&dataset->files[0]);
    mapped_close(&dataset->files[1]);
    free(dataset->arrays);
    free(dataset->examples);
    free(dataset);
}

/* Takes over the file. Room for arrays is still to be made; arrays_close() releases what there is,
   in any case. */
static int arrays_new(struct dataset_arrays **out, const struct dataset_request *request,
                      struct mapped_file *file, struct ivon_error *error)
{
    const struct ivon_dataset_options *options = request->options;
    struct dataset_arrays *dataset = *out = calloc(1, sizeof *dataset);
    if (!dataset)
        return ivon_error_memory(error);
    dataset->files[0] = *file;
    *file = (struct mapped_file){0};
    return class_names_init(&dataset->classes, options->classes, options->class_count, error);
}

/* Fails on what cannot be read: strings, but for targets where classes have names. */
static int arrays_check(const struct dataset_arrays *dataset, const struct array *array,
                        bool target, struct ivon_error *error)
{
    if (!target || !array->string_size)
        return array_refuse_opaque(array, error);
    return dataset->classes.count
               ? 0
               : ivon_error_hint(error, IVON_HINT_CLASSES,
                                 ivon_error_set(error, IVON_ERROR_DATA,
                                                "%s: holds strings, expected numbers",
                                                bytes_name(array->bytes)));
}

static int arrays_reserve(struct dataset_arrays *dataset, size_t count, struct ivon_error *error)
{
    dataset->arrays = calloc(count, sizeof *dataset->arrays);
    dataset->examples = calloc(count, sizeof *dataset->examples);
    if (!dataset->arrays || !dataset->examples)
        return ivon_error_memory(error);
    dataset->count = count;
    return 0;
}

/* The last step: examples of arrays that are open. */
static int arrays_make(struct ivon_examples **examples, struct dataset_arrays *dataset,
                       const struct dataset_request *request, const char *const *names,
                       bool targets, struct ivon_error *error)
{
    static const struct ivon_examples_class class = {.read = arrays_read, .close = arrays_close};
    struct dataset_array *described = calloc(dataset->count, sizeof *described);
    if (!described)
        return ivon_error_memory(error);
    for (size_t i = 0; i < dataset->count; i++) {
        const struct array *array = &dataset->arrays[i];
        described[i] = (struct dataset_array){.name = names[i],
                                              .dtype = array->string_size ? IVON_I64 : array->dtype,
                                              .rank = array->rank};
        memcpy(described[i].shape, array->shape, sizeof array->shape);
        dataset->examples[i] = 1;
        for (int axis = 1; axis < array->rank; axis++)
            dataset->examples[i] *= (size_t)array->shape[axis];
    }
    int code = dataset_make(examples, &class, dataset, request, described, dataset->count, targets,
                            error);
    free(described);
    return code;
}

int dataset_array_open(struct ivon_examples **examples, struct dataset_request *request,
                       struct mapped_file *file, struct ivon_error *error)
{
    const char *names[2] = {dataset_input_name(request, error), dataset_targets_name(request)};
    bool pair = request->targets.path && !dataset_targets_refused(request);
    if (!names[0])
        return IVON_ERROR_ARGUMENT;
    if (!pair && dataset_targets_required(request))
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: holds one array, and no targets '%s' (a second file's, as "
                              "INPUTS,TARGETS)",
                              request->path, names[1]);
    struct dataset_arrays *dataset;
    int code = arrays_new(&dataset, request, file, error);
    if (dataset) {
        dataset->files[1] = request->targets;
        request->targets = (struct mapped_file){0};
    }
    if (!code)
        code = arrays_reserve(dataset, pair ? 2 : 1, error);
    for (size_t i = 0; !code && i < dataset->count; i++) {
        code = array_open(&dataset->arrays[i], &dataset->files[i], error);
        if (!code)
            code = arrays_check(dataset, &dataset->arrays[i], i == 1, error);
    }
    if (!code)
        code = arrays_make(examples, dataset, request, names, pair, error);
    if (code)
        arrays_close(dataset);
    return code;
}

/* npz: the members whose names end in ".npy", without that. */

/* Copies of the members' names, freed with free_names; `entries` are their places. */
static char **member_names(const struct zip_archive *archive, size_t **entries, size_t *count)
{
    static const char suffix[] = ".npy";
    size_t entry_count, end = sizeof suffix - 1;
    const struct zip_entry *all = zip_entries(archive, &entry_count);
    char **names = calloc(entry_count + 1, sizeof *names);
    *entries = calloc(entry_count + 1, sizeof **entries);
    *count = 0;
    for (size_t i = 0; names && *entries && i < entry_count; i++) {
        size_t length = strlen(all[i].name);
        if (length <= end || strcmp(all[i].name + length - end, suffix) != 0)
            continue;
        (*entries)[*count] = i;
        names[*count] = strndup(all[i].name, length - end);
        if (!names[(*count)++])
            break;
    }
    return names;
}

static void free_names(char **names, size_t count)
{
    for (size_t i = 0; names && i < count; i++)
        free(names[i]);
    free(names);
}

static int dataset_array_open_members(struct ivon_examples **examples,
                                      struct dataset_arrays *dataset,
                                      const struct dataset_request *request, char *const *names,
                                      const size_t *entries, size_t count, struct ivon_error *error)
{
    struct dataset_selection selection = {0};
    const char **selected = NULL;
    int code = dataset_select(&selection, request, (const char *const *)names, count, error);
    if (!code)
        code = arrays_reserve(dataset, selection.count, error);
    if (!code)
        selected = calloc(selection.count, sizeof *selected);
    for (size_t i = 0; i < selection.count && selected && !code; i++) {
        struct array *array = &dataset->arrays[i];
        selected[i] = names[selection.arrays[i]];
        code = zip_entry_open(&array->bytes, dataset->archive, entries[selection.arrays[i]], error);
        if (!code)
            code = npy_parse(array, error);
        if (!code)
            code = arrays_check(dataset, array, selection.targets && i == selection.count - 1,
                                error);
        if (!code && array->fortran && !bytes_view(array->bytes) && !dataset->slabs)
            code = slabs_new(&dataset->slabs,
                             request->options->resources.memory ? request->options->resources.memory
                                                                : DEFAULT_MEMORY,
                             fetch_array, dataset, error);
    }
    if (!code)
        code = selected
                   ? arrays_make(examples, dataset, request, selected, selection.targets, error)
                   : ivon_error_memory(error);
    free(selected);
    free(selection.arrays);
    return code;
}

int dataset_npz_open(struct ivon_examples **examples, struct dataset_request *request,
                     struct mapped_file *file, struct ivon_error *error)
{
    size_t *entries = NULL, count = 0;
    char **names = NULL;
    struct dataset_arrays *dataset;
    int code = arrays_new(&dataset, request, file, error);
    if (!code)
        code = zip_open(&dataset->archive, &dataset->files[0], error);
    if (!code) {
        names = member_names(dataset->archive, &entries, &count);
        if (!names || !entries || (count && !names[count - 1]))
            code = ivon_error_memory(error);
    }
    if (!code)
        code = dataset_array_open_members(examples, dataset, request, names, entries, count, error);
    free_names(names, count);
    free(entries);
    if (code)
        arrays_close(dataset);
    return code;
}
