/* External data: elements of tensors in files beside the model, each of which is mapped once. */
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/stream.h"
#include "formats/onnx/private.h"

struct place {
    const char *location;
    uint64_t offset, length;
    bool has_length;
};

char *onnx_directory_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    if (!slash)
        return realpath(".", NULL);
    char *parent = strndup(path, (size_t)(slash - path) + 1), *real = NULL;
    if (parent)
        real = realpath(parent, NULL);
    if (real && strcmp(real, "/") == 0)
        *real = '\0';
    free(parent);
    return real;
}

void onnx_reader_release(struct onnx_reader *reader)
{
    for (size_t i = 0; i < reader->file_count; i++) {
        free(reader->files[i].location);
        mapped_close(&reader->files[i].mapped);
    }
    free(reader->files);
    free(reader->directory);
    reader->files = NULL;
    reader->directory = NULL;
    reader->file_count = 0;
}

/* A number in decimal digits alone. */
static bool external_natural(const char *text, uint64_t *number)
{
    *number = 0;
    for (const char *digit = text; *digit; digit++)
        if (*digit < '0' || *digit > '9' || __builtin_mul_overflow(*number, 10U, number) ||
            __builtin_add_overflow(*number, (unsigned)(*digit - '0'), number))
            return false;
    return *text != '\0';
}

static int external_find_place(const struct onnx_reader *reader, const char *name,
                               const Onnx__TensorProto *proto, struct place *place,
                               struct ivon_error *error)
{
    *place = (struct place){0};
    for (size_t i = 0; i < proto->n_external_data; i++) {
        const Onnx__StringStringEntryProto *entry = proto->external_data[i];
        const char *key = entry->key ? entry->key : "", *value = entry->value ? entry->value : "";
        bool fine = true;
        if (strcmp(key, "location") == 0)
            place->location = value;
        else if (strcmp(key, "offset") == 0)
            fine = external_natural(value, &place->offset);
        else if (strcmp(key, "length") == 0)
            fine = place->has_length = external_natural(value, &place->length);
        if (!fine)
            return ivon_error_set(error, IVON_ERROR_DATA,
                                  "%s: tensor '%s': external data of %s '%s', expected a number",
                                  reader->path, name, key, value);
    }
    if (!place->location || !tensor_name_valid(place->location))
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: tensor '%s': external data in '%s', expected a path that stays "
                              "within the model's directory",
                              reader->path, name, place->location ? place->location : "");
    return 0;
}

/* Returns whether a path without symbolic links lies in a directory. */
static bool external_lies_in(const char *path, const char *directory, size_t length)
{
    return strncmp(path, directory, length) == 0 && path[length] == '/';
}

/* Returns whether the model lies in a cache of Hugging Face's hub and the path among its blobs, to
   which the files of CACHE/snapshots/REVISION are links. */
static bool external_is_blob(const struct onnx_reader *reader, const char *path)
{
    static const char snapshots[] = "/snapshots/", blobs[] = "/blobs";
    const char *end = strstr(reader->directory, snapshots);
    size_t length = end ? (size_t)(end - reader->directory) : 0;
    return end && strncmp(path, reader->directory, length) == 0 &&
           external_lies_in(path + length, blobs, sizeof blobs - 1);
}

/* The path of external data, without symbolic links, in the model's directory or among the blobs of
   its cache; for the caller to free. */
static int external_resolve(const struct onnx_reader *reader, const char *name,
                            const char *location, char **path, struct ivon_error *error)
{
    char whole[PATH_MAX];
    size_t length = strlen(reader->directory);
    int written = snprintf(whole, sizeof whole, "%s/%s", reader->directory, location);
    *path = written > 0 && (size_t)written < sizeof whole ? realpath(whole, NULL) : NULL;
    if (!*path)
        return ivon_error_set(error, IVON_ERROR_INPUT,
                              "%s: tensor '%s': external data '%s' cannot be found", reader->path,
                              name, location);
    if (external_lies_in(*path, reader->directory, length) || external_is_blob(reader, *path))
        return 0;
    free(*path);
    *path = NULL;
    return ivon_error_set(error, IVON_ERROR_DATA,
                          "%s: tensor '%s': external data '%s' lead out of the model's directory",
                          reader->path, name, location);
}

/* Maps a file that was not named before. */
static int external_open(struct onnx_reader *reader, const char *name, const char *location,
                         struct ivon_error *error)
{
    enum { FILES_MAX = 1 << 14 };
    if (reader->file_count == FILES_MAX)
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: tensor '%s': more than %d files of external data", reader->path,
                              name, FILES_MAX);
    struct onnx_data_file file = {0}, *grown;
    char *path = NULL;
    int code = external_resolve(reader, name, location, &path, error);
    if (!code)
        code = mapped_open(&file.mapped, path, error);
    free(path);
    if (code)
        return code;
    file.location = strdup(location);
    grown = realloc(reader->files, (reader->file_count + 1) * sizeof *grown);
    if (grown)
        reader->files = grown;
    if (!grown || !file.location) {
        free(file.location);
        mapped_close(&file.mapped);
        return ivon_error_memory(error);
    }
    grown[reader->file_count++] = file;
    return 0;
}

/* The file that a tensor's elements are in: usually that of the tensor before it. */
static int external_file(struct onnx_reader *reader, const char *name, const char *location,
                         struct onnx_data_file **file, struct ivon_error *error)
{
    size_t i = reader->file_count;
    while (i && strcmp(reader->files[i - 1].location, location) != 0)
        i--;
    int code = i ? 0 : external_open(reader, name, location, error);
    if (!code)
        *file = &reader->files[(i ? i : reader->file_count) - 1];
    return code;
}

/* Counts the bytes that are taken from a file. Tied tensors may lie in the same place, but a small
   file must not fill the memory a thousand times over. */
static int external_count_use(const struct onnx_reader *reader, const char *name,
                              struct onnx_data_file *file, uint64_t size, struct ivon_error *error)
{
    enum { USES_MAX = 4 };
    file->used += size;
    if (file->used / USES_MAX > file->mapped.size)
        return ivon_error_set(
            error, IVON_ERROR_DATA,
            "%s: tensor '%s': external data '%s' are used more than %d times over", reader->path,
            name, file->location, USES_MAX);
    return 0;
}

int onnx_find_external(struct onnx_reader *reader, const char *name, const Onnx__TensorProto *proto,
                       uint64_t size, struct onnx_elements *elements, struct ivon_error *error)
{
    struct place place;
    struct onnx_data_file *file = NULL;
    if (!reader->directory)
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: tensor '%s': external data, which only a graph in a file can "
                              "have",
                              reader->path, name);
    int code = external_find_place(reader, name, proto, &place, error);
    if (!code && place.has_length && place.length != size)
        code = ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: tensor '%s': external data of %" PRIu64
                              " bytes, expected %" PRIu64,
                              reader->path, name, place.length, size);
    if (!code)
        code = external_file(reader, name, place.location, &file, error);
    if (code)
        return code;
    uint64_t available = file->mapped.size;
    if (place.offset > available || size > available - place.offset)
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: tensor '%s': external data '%s' have %" PRIu64
                              " bytes, expected "
                              "%" PRIu64 " from %" PRIu64 " on",
                              reader->path, name, place.location, available, size, place.offset);
    code = external_count_use(reader, name, file, size, error);
    if (!code && size)
        elements->bytes = file->mapped.data + place.offset;
    elements->file = file;
    return code;
}
