/* One safetensors file: its header, checked against its data. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/json_members.h"
#include "core/stream.h"
#include "formats/io/strings.h"
#include "formats/safetensors/safetensors.h"

enum {
    TENSOR_MAX = 4096,      /* bytes of a tensor's description */
    METADATA_MAX = 1 << 24, /* bytes of all metadata */
    TYPE_MAX = 32,          /* bytes of a type's name */
};

/* The format's other types, which are not read. */
static const struct {
    const char *name;
    unsigned bits; /* of an element */
} others[] = {{"F4", 4},          {"F6_E2M3", 6},     {"F6_E3M2", 6},
              {"F8_E4M3", 8},     {"F8_E5M2", 8},     {"F8_E8M0", 8},
              {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8}, {"C64", 64}};

/* The header's length; 0 where there can be none. */
static uint64_t header_length(const struct mapped_file *file)
{
    uint64_t length;
    if (file->size <= SAFETENSORS_LENGTH_SIZE || file->data[SAFETENSORS_LENGTH_SIZE] != '{')
        return 0;
    memcpy(&length, file->data, sizeof length);
    return length >= 2 && length <= file->size - SAFETENSORS_LENGTH_SIZE ? length : 0;
}

bool safetensors_recognise(const struct mapped_file *file)
{
    return header_length(file) > 0;
}

static int safetensors_file_damaged(const struct safetensors_file *file, const char *name,
                                    const char *why, struct ivon_error *error)
{
    return ivon_error_set(error, IVON_ERROR_DATA, "%s: tensor '%s': %s", file->mapped.path, name,
                          why);
}

const char *safetensors_dtype(enum ivon_dtype dtype)
{
    static const char *const names[IVON_DTYPE_COUNT] = {
        "F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8", "BOOL"};
    return names[dtype];
}

static int safetensors_file_read_dtype(const struct safetensors_file *file,
                                       struct safetensors_tensor *tensor, const json_t *dtype,
                                       struct ivon_error *error)
{
    const char *found = json_string_value(dtype);
    if (!found)
        return safetensors_file_damaged(file, tensor->name, "its dtype is missing", error);
    for (enum ivon_dtype i = 0; i < IVON_DTYPE_COUNT; i++)
        if (strcmp(found, safetensors_dtype(i)) == 0) {
            tensor->dtype = i;
            return 0;
        }
    if (!*found || strlen(found) > TYPE_MAX)
        return safetensors_file_damaged(file, tensor->name, "its dtype is no name of a type",
                                        error);
    tensor->dtype = IVON_U8;
    tensor->stored_as = strdup(found);
    return tensor->stored_as ? 0 : ivon_error_memory(error);
}

/* A tensor of a readable type whose shape is not read: "F32 of 9 dimensions". */
static int make_opaque(struct safetensors_tensor *tensor, size_t rank, struct ivon_error *error)
{
    char text[TYPE_MAX + 40];
    snprintf(text, sizeof text, "%s of %zu dimensions",
             tensor->stored_as ? tensor->stored_as : safetensors_dtype(tensor->dtype), rank);
    free(tensor->stored_as);
    tensor->stored_as = strdup(text);
    tensor->dtype = IVON_U8;
    tensor->rank = -1;
    return tensor->stored_as ? 0 : ivon_error_memory(error);
}

static int safetensors_file_read_shape(const struct safetensors_file *file,
                                       struct safetensors_tensor *tensor, const json_t *shape,
                                       struct ivon_error *error)
{
    size_t rank = json_array_size(shape);
    if (!json_is_array(shape))
        return safetensors_file_damaged(file, tensor->name, "its shape is missing", error);
    if (rank > IVON_RANK_MAX)
        return make_opaque(tensor, rank, error);
    tensor->rank = (int)rank;
    for (size_t i = 0; i < rank; i++) {
        const json_t *extent = json_array_get(shape, i);
        tensor->shape[i] = json_integer_value(extent);
        if (!json_is_integer(extent) || tensor->shape[i] < 0)
            return safetensors_file_damaged(file, tensor->name,
                                            "its shape is no list of whole numbers", error);
    }
    return 0;
}

/* Returns whether a tensor's shape and type agree with the bytes of its data, as far as the size of
   an element is known. */
static bool size_agrees(const struct safetensors_tensor *tensor)
{
    size_t count;
    unsigned bits = tensor->stored_as ? 0 : 8 * (unsigned)ivon_dtype_size(tensor->dtype);
    for (size_t i = 0; i < sizeof others / sizeof *others && tensor->stored_as; i++)
        if (strcmp(others[i].name, tensor->stored_as) == 0)
            bits = others[i].bits;
    if (tensor->rank < 0)
        return true;
    return tensor_shape_count(tensor->rank, tensor->shape, bits ? bits : 1, &count) &&
           (!bits || (count * bits % 8 == 0 && count * bits / 8 == tensor->size));
}

static int read_place(const struct safetensors_file *file, struct safetensors_tensor *tensor,
                      const json_t *offsets, struct ivon_error *error)
{
    const json_t *begin = json_array_get(offsets, 0), *end = json_array_get(offsets, 1);
    uint64_t size = file->mapped.size - file->data;
    if (json_array_size(offsets) != 2 || !json_is_integer(begin) || !json_is_integer(end))
        return safetensors_file_damaged(file, tensor->name, "its data_offsets are missing", error);
    json_int_t first = json_integer_value(begin), last = json_integer_value(end);
    if (first < 0 || last < first || (uint64_t)last > size)
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: tensor '%s': its data are bytes %lld to %lld, but there are "
                              "%llu",
                              file->mapped.path, tensor->name, (long long)first, (long long)last,
                              (unsigned long long)size);
    tensor->offset = file->data + (uint64_t)first;
    tensor->size = (uint64_t)(last - first);
    if (!size_agrees(tensor))
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: tensor '%s': has %llu bytes of data, its shape and dtype ask "
                              "for another number",
                              file->mapped.path, tensor->name, (unsigned long long)tensor->size);
    return 0;
}

/* Takes over the name. */
static int safetensors_file_add_tensor(struct safetensors_file *file, char *name, size_t *capacity,
                                       struct json_members *members, struct ivon_error *error)
{
    if (file->count == *capacity) {
        size_t more = *capacity ? 2 * *capacity : 64;
        struct safetensors_tensor *grown = realloc(file->tensors, more * sizeof *grown);
        if (!grown) {
            free(name);
            return ivon_error_memory(error);
        }
        file->tensors = grown;
        *capacity = more;
    }
    struct safetensors_tensor *tensor = &file->tensors[file->count++];
    *tensor = (struct safetensors_tensor){.name = name};
    json_t *value;
    int code = json_members_value(members, TENSOR_MAX, &value, error);
    if (code)
        return code;
    code = safetensors_file_read_dtype(file, tensor, json_object_get(value, "dtype"), error);
    if (!code)
        code = safetensors_file_read_shape(file, tensor, json_object_get(value, "shape"), error);
    if (!code)
        code = read_place(file, tensor, json_object_get(value, "data_offsets"), error);
    json_decref(value);
    return code;
}

static int read_metadata(struct safetensors_file *file, struct json_members *members,
                         struct ivon_error *error)
{
    const char *key;
    json_t *value;
    if (file->metadata)
        return ivon_error_set(error, IVON_ERROR_DATA, "%s: '__metadata__' occurs twice",
                              file->mapped.path);
    int code = json_members_value(members, METADATA_MAX, &file->metadata, error);
    if (code)
        return code;
    bool strings = json_is_object(file->metadata);
    json_object_foreach(file->metadata, key, value) strings &= json_is_string(value);
    return strings
               ? 0
               : ivon_error_set(error, IVON_ERROR_DATA,
                                "%s: '__metadata__' is no object of strings", file->mapped.path);
}

static int safetensors_file_read_header(struct safetensors_file *file, struct ivon_error *error)
{
    struct json_members members;
    uint64_t length = header_length(&file->mapped);
    size_t capacity = 0;
    file->data = SAFETENSORS_LENGTH_SIZE + length;
    if (!length)
        return ivon_error_set(error, IVON_ERROR_DATA, "%s: is no safetensors file, or is cut off",
                              file->mapped.path);
    if (length > SAFETENSORS_HEADER_MAX)
        return ivon_error_set(
            error, IVON_ERROR_DATA, "%s: its header has %llu bytes, expected at most %d",
            file->mapped.path, (unsigned long long)length, SAFETENSORS_HEADER_MAX);
    int code = json_members_open(&members, file->mapped.path,
                                 (const char *)file->mapped.data + SAFETENSORS_LENGTH_SIZE, length,
                                 error);
    while (!code) {
        char *name;
        code = json_members_next(&members, &name, error);
        if (code || !name)
            break;
        if (strcmp(name, SAFETENSORS_METADATA) == 0) {
            free(name);
            code = read_metadata(file, &members, error);
        } else {
            code = safetensors_file_add_tensor(file, name, &capacity, &members, error);
        }
    }
    return code ? code : json_members_end(&members, error);
}

/* By place; among tensors without data, which may share one, by name. */
static int safetensors_file_compare_places(const void *a, const void *b)
{
    const struct safetensors_tensor *left = a, *right = b;
    if (left->offset != right->offset)
        return left->offset < right->offset ? -1 : 1;
    if (left->size != right->size)
        return left->size < right->size ? -1 : 1;
    return strcmp(left->name, right->name);
}

/* The data follow each other without holes and overlaps, up to the file's end. */
static int check_places(const struct safetensors_file *file, struct ivon_error *error)
{
    uint64_t data = file->data, at = data;
    for (size_t i = 0; i < file->count; i++) {
        const struct safetensors_tensor *tensor = &file->tensors[i];
        if (tensor->offset != at)
            return ivon_error_set(error, IVON_ERROR_DATA,
                                  "%s: tensor '%s': its data begin at byte %llu, expected %llu, "
                                  "where those before end",
                                  file->mapped.path, tensor->name,
                                  (unsigned long long)(tensor->offset - data),
                                  (unsigned long long)(at - data));
        at += tensor->size;
    }
    if (at != file->mapped.size)
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: has %llu bytes of data, expected %llu by its header",
                              file->mapped.path, (unsigned long long)(file->mapped.size - data),
                              (unsigned long long)(at - data));
    return 0;
}

static int safetensors_file_check_names(const struct safetensors_file *file,
                                        struct ivon_error *error)
{
    int code = 0;
    const char **names = calloc(file->count + 1, sizeof *names);
    if (!names)
        return ivon_error_memory(error);
    for (size_t i = 0; i < file->count; i++)
        names[i] = file->tensors[i].name;
    qsort(names, file->count, sizeof *names, strings_compare);
    for (size_t i = 1; i < file->count && !code; i++)
        if (strcmp(names[i - 1], names[i]) == 0)
            code = ivon_error_set(error, IVON_ERROR_DATA, "%s: tensor '%s' occurs twice",
                                  file->mapped.path, names[i]);
    free(names);
    return code;
}

int safetensors_parse(struct safetensors_file *file, struct ivon_error *error)
{
    int code = safetensors_file_read_header(file, error);
    if (!code && file->count)
        qsort(file->tensors, file->count, sizeof *file->tensors, safetensors_file_compare_places);
    if (!code)
        code = check_places(file, error);
    if (!code)
        code = safetensors_file_check_names(file, error);
    return code;
}

void safetensors_release(struct safetensors_file *file)
{
    for (size_t i = 0; i < file->count; i++) {
        free(file->tensors[i].name);
        free(file->tensors[i].stored_as);
    }
    free(file->tensors);
    json_decref(file->metadata);
    mapped_close(&file->mapped);
    free(file->name);
    *file = (struct safetensors_file){0};
}
