#include "formats/hdf5/catalogue.h"

#include <hdf5_hl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "formats/hdf5/child.h"
#include "formats/hdf5/dataset.h"

enum {
    DEPTH_MAX = 32,
    ATTRIBUTES_MAX = 1024,
};

static bool hdf5_catalogue_refuse(struct hdf5_catalogue *catalogue, const char *what,
                                  const char *path)
{
    if (!catalogue->failure[0])
        snprintf(catalogue->failure, sizeof catalogue->failure, "%s%s%s%s", path ? "'" : "",
                 path ? path : "", path ? "' " : "", what);
    return false;
}

static bool hdf5_catalogue_put(struct hdf5_catalogue *catalogue, const void *data, size_t size)
{
    if (size > catalogue->capacity - catalogue->size) {
        size_t capacity = catalogue->capacity ? catalogue->capacity : 4096;
        while (size > capacity - catalogue->size)
            capacity *= 2;
        if (capacity > HDF5_CATALOGUE_MAX)
            return hdf5_catalogue_refuse(catalogue, "it names too many or too long things", NULL);
        char *grown = realloc(catalogue->data, capacity);
        if (!grown)
            return hdf5_catalogue_refuse(catalogue, "its list of contents exceeds the memory",
                                         NULL);
        catalogue->data = grown;
        catalogue->capacity = capacity;
    }
    memcpy(catalogue->data + catalogue->size, data, size);
    catalogue->size += size;
    return true;
}

static bool put_u8(struct hdf5_catalogue *catalogue, uint8_t value)
{
    return hdf5_catalogue_put(catalogue, &value, sizeof value);
}

static bool put_u32(struct hdf5_catalogue *catalogue, uint32_t value)
{
    return hdf5_catalogue_put(catalogue, &value, sizeof value);
}

static bool put_i64(struct hdf5_catalogue *catalogue, int64_t value)
{
    return hdf5_catalogue_put(catalogue, &value, sizeof value);
}

static bool put_string(struct hdf5_catalogue *catalogue, const char *text, size_t length)
{
    return put_u32(catalogue, (uint32_t)length) && hdf5_catalogue_put(catalogue, text, length);
}

/* Attributes: scalars and one-element arrays of numbers, and strings. Others are passed over. */

static bool put_text_attribute(struct hdf5_catalogue *catalogue, hid_t attribute, hid_t type,
                               const char *name)
{
    char *text = NULL;
    size_t length;
    bool variable = H5Tis_variable_str(type) > 0;
    size_t size = variable ? 0 : H5Tget_size(type);
    if (size > HDF5_TEXT_MAX)
        return true;
    if (variable) {
        hid_t memory = H5Tcopy(H5T_C_S1);
        H5Tset_size(memory, H5T_VARIABLE);
        H5Tset_cset(memory, H5Tget_cset(type));
        herr_t status = H5Aread(attribute, memory, &text);
        H5Tclose(memory);
        if (status < 0 || !text)
            return true;
        length = strnlen(text, HDF5_TEXT_MAX + 1);
    } else {
        text = calloc(1, size + 1);
        if (!text || H5Aread(attribute, type, text) < 0) {
            free(text);
            return true;
        }
        length = strlen(text);
    }
    bool fine = length > HDF5_TEXT_MAX ||
                (put_string(catalogue, name, strlen(name)) && put_u8(catalogue, 't') &&
                 put_string(catalogue, text, length));
    variable ? (void)H5free_memory(text) : free(text);
    return fine;
}

static bool put_number_attribute(struct hdf5_catalogue *catalogue, hid_t attribute, bool is_integer,
                                 const char *name)
{
    int64_t integer = 0;
    double number = 0;
    hid_t type = is_integer ? H5T_NATIVE_INT64 : H5T_NATIVE_DOUBLE;
    if (H5Aread(attribute, type, is_integer ? (void *)&integer : (void *)&number) < 0)
        return true;
    return put_string(catalogue, name, strlen(name)) && put_u8(catalogue, is_integer ? 'i' : 'f') &&
           (is_integer ? put_i64(catalogue, integer)
                       : hdf5_catalogue_put(catalogue, &number, sizeof number));
}

static bool hdf5_catalogue_put_attribute(struct hdf5_catalogue *catalogue, hid_t attribute,
                                         const char *name)
{
    hid_t type = H5Aget_type(attribute);
    hid_t space = H5Aget_space(attribute);
    H5T_class_t class = H5Tget_class(type);
    bool fine = true;
    if (H5Sget_simple_extent_npoints(space) == 1) {
        if (class == H5T_STRING)
            fine = put_text_attribute(catalogue, attribute, type, name);
        else if (class == H5T_INTEGER || class == H5T_FLOAT)
            fine = put_number_attribute(catalogue, attribute, class == H5T_INTEGER, name);
    }
    H5Sclose(space);
    H5Tclose(type);
    return fine;
}

struct attribute_walk {
    struct hdf5_catalogue *catalogue;
    unsigned seen;
};

static herr_t attribute_met(hid_t object, const char *name, const H5A_info_t *info, void *data)
{
    (void)info;
    struct attribute_walk *walk = data;
    if (++walk->seen > ATTRIBUTES_MAX) {
        hdf5_catalogue_refuse(walk->catalogue, "it has too many attributes", NULL);
        return -1;
    }
    hid_t attribute = H5Aopen(object, name, H5P_DEFAULT);
    if (attribute < 0)
        return 0;
    bool fine = hdf5_catalogue_put_attribute(walk->catalogue, attribute, name);
    H5Aclose(attribute);
    return fine ? 0 : -1;
}

/* The attributes with an end mark, an empty name: how many there are is known only afterwards. */
static bool put_attributes(struct hdf5_catalogue *catalogue, hid_t object, const char *path)
{
    struct attribute_walk walk = {catalogue, 0};
    if (H5Aiterate2(object, H5_INDEX_NAME, H5_ITER_NATIVE, NULL, attribute_met, &walk) < 0) {
        char what[300];
        snprintf(what, sizeof what, "its attributes cannot be read: %s", catalogue->reason);
        return hdf5_catalogue_refuse(catalogue, what, path);
    }
    return put_string(catalogue, "", 0);
}

/* Objects. */

static bool hdf5_catalogue_put_dataset(struct hdf5_catalogue *catalogue, hid_t dataset)
{
    struct hdf5_dataset found = {0};
    const char *refused = hdf5_dataset_examine(dataset, catalogue->file_size, catalogue->chunk_max,
                                               &found);
    if (!put_string(catalogue, refused ? refused : "", refused ? strlen(refused) : 0))
        return false;
    const char *stored_as = found.stored_as ? found.stored_as : "";
    bool known = found.rank >= 0 && found.rank <= IVON_RANK_MAX;
    uint32_t rank = known ? (uint32_t)found.rank : IVON_RANK_MAX + 1;
    bool fine = refused ? put_string(catalogue, stored_as, strlen(stored_as)) &&
                              put_u32(catalogue, (uint32_t)found.string_size)
                        : put_u32(catalogue, found.dtype) && put_i64(catalogue, found.offset);
    return fine && put_u32(catalogue, rank) &&
           hdf5_catalogue_put(catalogue, found.shape, known ? rank * sizeof found.shape[0] : 0);
}

struct group_walk {
    struct hdf5_catalogue *catalogue;
    const char *path; /* of the group: "" or "mean/" */
    int depth;
};

static bool put_object(struct hdf5_catalogue *catalogue, hid_t object, const char *path, int depth);

static bool put_link(struct hdf5_catalogue *catalogue, hid_t group, const char *name,
                     H5L_type_t type, const char *path, int depth)
{
    if (type == H5L_TYPE_SOFT)
        return hdf5_catalogue_refuse(catalogue, "is a soft link, expected a group or a data set",
                                     path);
    if (type != H5L_TYPE_HARD)
        return hdf5_catalogue_refuse(catalogue, "is a link to another file", path);
    hid_t object = H5Oopen(group, name, H5P_DEFAULT);
    if (object < 0) {
        char what[300];
        snprintf(what, sizeof what, "cannot be opened: %s", catalogue->reason);
        return hdf5_catalogue_refuse(catalogue, what, path);
    }
    bool fine = put_object(catalogue, object, path, depth);
    H5Oclose(object);
    return fine;
}

static herr_t link_met(hid_t group, const char *name, const H5L_info_t *info, void *data)
{
    const struct group_walk *walk = data;
    size_t size = strlen(walk->path) + strlen(name) + 1;
    char *path = malloc(size);
    if (!path) {
        hdf5_catalogue_refuse(walk->catalogue, "its names exceed the memory", NULL);
        return -1;
    }
    snprintf(path, size, "%s%s", walk->path, name);
    bool fine = put_link(walk->catalogue, group, name, info->type, path, walk->depth);
    free(path);
    return fine ? 0 : -1;
}

/* The order of creation, if the file tracks it for the group; else the order of names. */
static H5_index_t group_index(hid_t group)
{
    unsigned flags = 0;
    hid_t properties = H5Gget_create_plist(group);
    H5Pget_link_creation_order(properties, &flags);
    H5Pclose(properties);
    return flags & H5P_CRT_ORDER_TRACKED ? H5_INDEX_CRT_ORDER : H5_INDEX_NAME;
}

static bool group_is_new(struct hdf5_catalogue *catalogue, hid_t group, const char *path)
{
    H5O_info_t info;
    if (H5Oget_info2(group, &info, H5O_INFO_BASIC) < 0)
        return hdf5_catalogue_refuse(catalogue, "is damaged", path);
    for (size_t i = 0; i < catalogue->group_count; i++)
        if (catalogue->groups[i] == info.addr)
            return hdf5_catalogue_refuse(catalogue, "is a group that has two names", path);
    haddr_t *grown = realloc(catalogue->groups, (catalogue->group_count + 1) * sizeof *grown);
    if (!grown)
        return hdf5_catalogue_refuse(catalogue, "its groups exceed the memory", NULL);
    catalogue->groups = grown;
    catalogue->groups[catalogue->group_count++] = info.addr;
    return true;
}

static bool hdf5_catalogue_put_group(struct hdf5_catalogue *catalogue, hid_t group,
                                     const char *path, int depth)
{
    char *prefix = malloc(strlen(path) + 2);
    if (!prefix)
        return hdf5_catalogue_refuse(catalogue, "its names exceed the memory", NULL);
    sprintf(prefix, "%s%s", path, *path ? "/" : "");
    struct group_walk walk = {catalogue, prefix, depth + 1};
    bool fine = H5Literate(group, group_index(group), H5_ITER_INC, NULL, link_met, &walk) >= 0;
    free(prefix);
    if (!fine && !catalogue->failure[0]) {
        char what[300];
        snprintf(what, sizeof what, "its list of links is damaged: %s", catalogue->reason);
        return hdf5_catalogue_refuse(catalogue, what, path);
    }
    return fine;
}

static bool remember_path(struct hdf5_catalogue *catalogue, const char *path)
{
    if (catalogue->object_count == HDF5_OBJECTS_MAX)
        return hdf5_catalogue_refuse(catalogue, "it has too many data sets", NULL);
    if ((catalogue->object_count & (catalogue->object_count - 1)) == 0) {
        size_t capacity = catalogue->object_count ? 2 * catalogue->object_count : 1;
        char **grown = realloc(catalogue->paths, capacity * sizeof *grown);
        if (!grown)
            return hdf5_catalogue_refuse(catalogue, "its names exceed the memory", NULL);
        catalogue->paths = grown;
    }
    char *copy = strdup(path);
    if (!copy)
        return hdf5_catalogue_refuse(catalogue, "its names exceed the memory", NULL);
    catalogue->paths[catalogue->object_count++] = copy;
    return true;
}

static bool put_object(struct hdf5_catalogue *catalogue, hid_t object, const char *path, int depth)
{
    H5I_type_t type = H5Iget_type(object);
    if (type != H5I_GROUP && type != H5I_DATASET)
        return true; /* a named type: nothing to read */
    if (depth > DEPTH_MAX)
        return hdf5_catalogue_refuse(catalogue, "is nested too deeply", path);
    if (type == H5I_GROUP && !group_is_new(catalogue, object, path))
        return false;
    return remember_path(catalogue, path) && put_string(catalogue, path, strlen(path)) &&
           put_u8(catalogue, type == H5I_DATASET) && put_attributes(catalogue, object, path) &&
           (type == H5I_DATASET ? hdf5_catalogue_put_dataset(catalogue, object)
                                : hdf5_catalogue_put_group(catalogue, object, path, depth));
}

static bool list_file(struct hdf5_catalogue *catalogue, const struct mapped_file *file)
{
    if (!put_u8(catalogue, 0))
        return false;
    catalogue->file = H5LTopen_file_image((void *)file->data, file->size,
                                          H5LT_FILE_IMAGE_DONT_COPY | H5LT_FILE_IMAGE_DONT_RELEASE);
    if (catalogue->file < 0) {
        char what[300];
        snprintf(what, sizeof what, "damaged HDF5 file: %s", catalogue->reason);
        return hdf5_catalogue_refuse(catalogue, what, NULL);
    }
    hid_t root = H5Gopen2(catalogue->file, "/", H5P_DEFAULT);
    if (root < 0)
        return hdf5_catalogue_refuse(catalogue, "damaged HDF5 file: it has no root group", NULL);
    bool fine = put_object(catalogue, root, "", 0);
    H5Gclose(root);
    return fine;
}

void hdf5_catalogue_make(struct hdf5_catalogue *catalogue, const struct mapped_file *file)
{
    catalogue->file_size = file->size;
    if (list_file(catalogue, file))
        return;
    catalogue->size = 0;
    put_u8(catalogue, 1);
    hdf5_catalogue_put(catalogue, catalogue->failure, strlen(catalogue->failure));
}
