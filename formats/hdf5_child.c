/* Runs in the child process of formats/hdf5_safe.c: here the HDF5 library meets the file. */
#include "formats/hdf5_child.h"

#include <hdf5.h>
#include <hdf5_hl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "formats/bytes.h"
#include "formats/hdf5_types.h"
#include "ivon/stream.h"

enum {
    DEPTH_MAX = 32,
    ATTRIBUTES_MAX = 1024,
    REASON_SIZE = 256,
    OPEN_MAX = 4, /* data sets kept open with their chunk caches */
};

struct child {
    struct sandbox_child *sandbox;
    const struct hdf5_child_context *context;
    hid_t file;
    char failure[512]; /* why the file as a whole is refused; empty when it is not */
    char reason[REASON_SIZE]; /* HDF5's last complaint */

    char *catalogue; /* grows */
    size_t size;
    size_t capacity;

    char **paths; /* of the objects, in the catalogue's order */
    size_t object_count;
    haddr_t *groups; /* addresses of the groups seen, since hard links can make circles */
    size_t group_count;

    struct {
        hid_t dataset; /* or negative */
        size_t object;
        uint64_t used; /* when */
    } open[OPEN_MAX];
    uint64_t clock;
};

static bool refuse(struct child *child, const char *what, const char *path)
{
    if (!child->failure[0])
        snprintf(child->failure, sizeof child->failure, "%s%s%s%s", path ? "'" : "",
                 path ? path : "", path ? "' " : "", what);
    return false;
}

/*
 * HDF5 calls `failed` when one of its functions fails, and any later call forgets why: so the
 * innermost description, the one that names the cause, is kept at once.
 */
static herr_t innermost(unsigned n, const H5E_error2_t *entry, void *reason)
{
    if (n == 0 && entry->desc)
        snprintf(reason, REASON_SIZE, "%s", entry->desc);
    return 0;
}

static herr_t failed(hid_t stack, void *reason)
{
    return H5Ewalk2(stack, H5E_WALK_UPWARD, innermost, reason);
}

/* The catalogue. */

static bool put(struct child *child, const void *data, size_t size)
{
    if (size > child->capacity - child->size) {
        size_t capacity = child->capacity ? child->capacity : 4096;
        while (size > capacity - child->size)
            capacity *= 2;
        if (capacity > HDF5_CATALOGUE_MAX)
            return refuse(child, "it names too many or too long things", NULL);
        char *grown = realloc(child->catalogue, capacity);
        if (!grown)
            return refuse(child, "its list of contents exceeds the memory", NULL);
        child->catalogue = grown;
        child->capacity = capacity;
    }
    memcpy(child->catalogue + child->size, data, size);
    child->size += size;
    return true;
}

static bool put_u8(struct child *child, uint8_t value)
{
    return put(child, &value, sizeof value);
}

static bool put_u32(struct child *child, uint32_t value)
{
    return put(child, &value, sizeof value);
}

static bool put_i64(struct child *child, int64_t value)
{
    return put(child, &value, sizeof value);
}

static bool put_string(struct child *child, const char *text, size_t length)
{
    return put_u32(child, (uint32_t)length) && put(child, text, length);
}

/* Attributes: scalars and one-element arrays of numbers, and strings. Others are passed over. */

static bool put_text_attribute(struct child *child, hid_t attribute, hid_t type, const char *name)
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
    bool fine = length > HDF5_TEXT_MAX || (put_string(child, name, strlen(name)) &&
                                           put_u8(child, 't') && put_string(child, text, length));
    variable ? (void)H5free_memory(text) : free(text);
    return fine;
}

static bool put_number_attribute(struct child *child, hid_t attribute, bool is_integer,
                                 const char *name)
{
    int64_t integer = 0;
    double number = 0;
    hid_t type = is_integer ? H5T_NATIVE_INT64 : H5T_NATIVE_DOUBLE;
    if (H5Aread(attribute, type, is_integer ? (void *)&integer : (void *)&number) < 0)
        return true;
    return put_string(child, name, strlen(name)) && put_u8(child, is_integer ? 'i' : 'f') &&
           (is_integer ? put_i64(child, integer) : put(child, &number, sizeof number));
}

static bool put_attribute(struct child *child, hid_t attribute, const char *name)
{
    hid_t type = H5Aget_type(attribute);
    hid_t space = H5Aget_space(attribute);
    H5T_class_t class = H5Tget_class(type);
    bool fine = true;
    if (H5Sget_simple_extent_npoints(space) == 1) {
        if (class == H5T_STRING)
            fine = put_text_attribute(child, attribute, type, name);
        else if (class == H5T_INTEGER || class == H5T_FLOAT)
            fine = put_number_attribute(child, attribute, class == H5T_INTEGER, name);
    }
    H5Sclose(space);
    H5Tclose(type);
    return fine;
}

struct attribute_walk {
    struct child *child;
    unsigned seen;
};

static herr_t attribute_met(hid_t object, const char *name, const H5A_info_t *info, void *data)
{
    (void)info;
    struct attribute_walk *walk = data;
    if (++walk->seen > ATTRIBUTES_MAX) {
        refuse(walk->child, "it has too many attributes", NULL);
        return -1;
    }
    hid_t attribute = H5Aopen(object, name, H5P_DEFAULT);
    if (attribute < 0)
        return 0;
    bool fine = put_attribute(walk->child, attribute, name);
    H5Aclose(attribute);
    return fine ? 0 : -1;
}

/* The attributes with an end mark, an empty name: how many there are is known only afterwards. */
static bool put_attributes(struct child *child, hid_t object, const char *path)
{
    struct attribute_walk walk = {child, 0};
    if (H5Aiterate2(object, H5_INDEX_NAME, H5_ITER_NATIVE, NULL, attribute_met, &walk) < 0) {
        char what[300];
        snprintf(what, sizeof what, "its attributes cannot be read: %s", child->reason);
        return refuse(child, what, path);
    }
    return put_string(child, "", 0);
}

/* Data sets. */

struct dataset {
    enum ivon_dtype dtype;
    int rank;
    int64_t shape[IVON_RANK_MAX];
    int64_t offset;
};

static const char *examine_shape(hid_t dataset, struct dataset *result)
{
    hsize_t extents[H5S_MAX_RANK];
    const char *refused = NULL;
    hid_t space = H5Dget_space(dataset);
    H5S_class_t class = H5Sget_simple_extent_type(space);
    result->rank = H5Sget_simple_extent_ndims(space);
    if (class != H5S_SCALAR && class != H5S_SIMPLE)
        refused = "has no elements to speak of, expected a shape";
    else if (result->rank < 0 || result->rank > IVON_RANK_MAX)
        refused = "has more than 8 dimensions";
    else if (result->rank > 0 && H5Sget_simple_extent_dims(space, extents, NULL) < 0)
        refused = "has a damaged shape";
    else
        for (int i = 0; i < result->rank; i++) {
            if (extents[i] > INT64_MAX)
                refused = "has an absurd shape";
            result->shape[i] = (int64_t)extents[i];
        }
    H5Sclose(space);
    return refused;
}

/* Checks where the data are; *expansion is how many bytes one byte of the file may stand for. */
static const char *examine_storage(hid_t properties, unsigned *expansion)
{
    H5D_layout_t layout = H5Pget_layout(properties);
    int filters = H5Pget_nfilters(properties);
    *expansion = 1;
    if (layout == H5D_VIRTUAL)
        return "is a virtual data set, which reads other files";
    if (H5Pget_external_count(properties) != 0)
        return "is stored in other files";
    if (layout != H5D_CONTIGUOUS && layout != H5D_CHUNKED && layout != H5D_COMPACT)
        return "has an unknown layout";
    if (filters < 0)
        return "has a damaged list of filters";
    for (int i = 0; i < filters; i++) {
        unsigned flags, config;
        size_t values = 0;
        H5Z_filter_t filter =
            H5Pget_filter2(properties, (unsigned)i, &flags, &values, NULL, 0, NULL, &config);
        if (filter != H5Z_FILTER_DEFLATE && filter != H5Z_FILTER_SHUFFLE &&
            filter != H5Z_FILTER_FLETCHER32)
            return "uses a filter other than deflate, shuffle and fletcher32";
        if (filter == H5Z_FILTER_DEFLATE)
            *expansion = DEFLATE_EXPANSION;
    }
    return NULL;
}

/* The bytes of one chunk; 0 when the data set is not chunked, SIZE_MAX when they are too many. */
static size_t chunk_bytes(hid_t properties, size_t element_size)
{
    hsize_t extents[H5S_MAX_RANK];
    if (H5Pget_layout(properties) != H5D_CHUNKED)
        return 0;
    int rank = H5Pget_chunk(properties, H5S_MAX_RANK, extents);
    size_t bytes = element_size;
    for (int i = 0; i < rank; i++)
        if (__builtin_mul_overflow(bytes, (size_t)extents[i], &bytes))
            return SIZE_MAX;
    return bytes;
}

static const char *examine(struct child *child, hid_t dataset, struct dataset *result)
{
    unsigned expansion;
    bool as_stored;
    hid_t properties = H5Dget_create_plist(dataset);
    hid_t type = H5Dget_type(dataset);
    const char *refused = examine_storage(properties, &expansion);
    if (!refused)
        refused = examine_shape(dataset, result);
    if (!refused && !hdf5_type_recognise(type, &result->dtype, &as_stored))
        refused = "has elements that are neither numbers nor booleans";
    if (!refused) {
        double bytes = (double)ivon_dtype_size(result->dtype);
        for (int i = 0; i < result->rank; i++)
            bytes *= (double)result->shape[i];
        size_t chunk = chunk_bytes(properties, ivon_dtype_size(result->dtype));
        if (bytes > (double)child->context->file->size * expansion)
            refused = "has more elements than the file can hold";
        else if (chunk > child->context->memory / OPEN_MAX)
            refused = "has chunks that exceed the memory (a larger --memory, or h5repack, helps)";
        haddr_t offset = H5Dget_offset(dataset);
        bool mapped = H5Pget_layout(properties) == H5D_CONTIGUOUS && as_stored;
        result->offset = mapped && offset != HADDR_UNDEF ? (int64_t)offset : -1;
    }
    H5Tclose(type);
    H5Pclose(properties);
    return refused;
}

static bool put_dataset(struct child *child, hid_t dataset)
{
    struct dataset found = {0};
    const char *refused = examine(child, dataset, &found);
    if (!put_string(child, refused ? refused : "", refused ? strlen(refused) : 0))
        return false;
    if (refused)
        return true;
    return put_u32(child, found.dtype) && put_u32(child, (uint32_t)found.rank) &&
           put(child, found.shape, (size_t)found.rank * sizeof found.shape[0]) &&
           put_i64(child, found.offset);
}

/* The walk through the groups. */

struct group_walk {
    struct child *child;
    const char *path; /* of the group: "" or "mean/" */
    int depth;
};

static bool put_object(struct child *child, hid_t object, const char *path, int depth);

static bool put_link(struct child *child, hid_t group, const char *name, H5L_type_t type,
                     const char *path, int depth)
{
    if (type == H5L_TYPE_SOFT)
        return refuse(child, "is a soft link, expected a group or a data set", path);
    if (type != H5L_TYPE_HARD)
        return refuse(child, "is a link to another file", path);
    hid_t object = H5Oopen(group, name, H5P_DEFAULT);
    if (object < 0) {
        char what[300];
        snprintf(what, sizeof what, "cannot be opened: %s", child->reason);
        return refuse(child, what, path);
    }
    bool fine = put_object(child, object, path, depth);
    H5Oclose(object);
    return fine;
}

static herr_t link_met(hid_t group, const char *name, const H5L_info_t *info, void *data)
{
    const struct group_walk *walk = data;
    size_t size = strlen(walk->path) + strlen(name) + 1;
    char *path = malloc(size);
    if (!path) {
        refuse(walk->child, "its names exceed the memory", NULL);
        return -1;
    }
    snprintf(path, size, "%s%s", walk->path, name);
    bool fine = put_link(walk->child, group, name, info->type, path, walk->depth);
    free(path);
    return fine ? 0 : -1;
}

/* Where the file tracks the order in which its parts were made, that is the order. */
static H5_index_t group_index(hid_t group)
{
    unsigned flags = 0;
    hid_t properties = H5Gget_create_plist(group);
    H5Pget_link_creation_order(properties, &flags);
    H5Pclose(properties);
    return flags & H5P_CRT_ORDER_TRACKED ? H5_INDEX_CRT_ORDER : H5_INDEX_NAME;
}

static bool group_is_new(struct child *child, hid_t group, const char *path)
{
    H5O_info_t info;
    if (H5Oget_info2(group, &info, H5O_INFO_BASIC) < 0)
        return refuse(child, "is damaged", path);
    for (size_t i = 0; i < child->group_count; i++)
        if (child->groups[i] == info.addr)
            return refuse(child, "is a group that has two names", path);
    haddr_t *grown = realloc(child->groups, (child->group_count + 1) * sizeof *grown);
    if (!grown)
        return refuse(child, "its groups exceed the memory", NULL);
    child->groups = grown;
    child->groups[child->group_count++] = info.addr;
    return true;
}

static bool put_group(struct child *child, hid_t group, const char *path, int depth)
{
    char *prefix = malloc(strlen(path) + 2);
    if (!prefix)
        return refuse(child, "its names exceed the memory", NULL);
    sprintf(prefix, "%s%s", path, *path ? "/" : "");
    struct group_walk walk = {child, prefix, depth + 1};
    bool fine = H5Literate(group, group_index(group), H5_ITER_INC, NULL, link_met, &walk) >= 0;
    free(prefix);
    if (!fine && !child->failure[0]) {
        char what[300];
        snprintf(what, sizeof what, "its list of links is damaged: %s", child->reason);
        return refuse(child, what, path);
    }
    return fine;
}

static bool remember_path(struct child *child, const char *path)
{
    if (child->object_count == HDF5_OBJECTS_MAX)
        return refuse(child, "it has too many data sets", NULL);
    if ((child->object_count & (child->object_count - 1)) == 0) {
        size_t capacity = child->object_count ? 2 * child->object_count : 1;
        char **grown = realloc(child->paths, capacity * sizeof *grown);
        if (!grown)
            return refuse(child, "its names exceed the memory", NULL);
        child->paths = grown;
    }
    char *copy = strdup(path);
    if (!copy)
        return refuse(child, "its names exceed the memory", NULL);
    child->paths[child->object_count++] = copy;
    return true;
}

static bool put_object(struct child *child, hid_t object, const char *path, int depth)
{
    H5I_type_t type = H5Iget_type(object);
    if (type != H5I_GROUP && type != H5I_DATASET)
        return true; /* a named type: nothing to read */
    if (depth > DEPTH_MAX)
        return refuse(child, "is nested too deeply", path);
    if (type == H5I_GROUP && !group_is_new(child, object, path))
        return false;
    return remember_path(child, path) && put_string(child, path, strlen(path)) &&
           put_u8(child, type == H5I_DATASET) && put_attributes(child, object, path) &&
           (type == H5I_DATASET ? put_dataset(child, object)
                                : put_group(child, object, path, depth));
}

/* Reading on request. */

/* Opens a data set with a chunk cache that holds a row of chunks, if that is within bounds: pieces
   are asked for in row-major order, and a chunk that left the cache is decompressed again. */
static hid_t open_dataset(struct child *child, const char *path)
{
    hid_t access = H5Pcreate(H5P_DATASET_ACCESS);
    H5Pset_chunk_cache(access, 12421, child->context->memory / OPEN_MAX, 1.0);
    hid_t dataset = H5Dopen2(child->file, path, access);
    H5Pclose(access);
    return dataset;
}

static hid_t find_dataset(struct child *child, size_t object)
{
    int oldest = 0;
    for (int i = 0; i < OPEN_MAX; i++) {
        if (child->open[i].dataset >= 0 && child->open[i].object == object) {
            child->open[i].used = ++child->clock;
            return child->open[i].dataset;
        }
        if (child->open[i].used < child->open[oldest].used)
            oldest = i;
    }
    if (child->open[oldest].dataset >= 0)
        H5Dclose(child->open[oldest].dataset);
    child->open[oldest].dataset = open_dataset(child, child->paths[object]);
    child->open[oldest].object = object;
    child->open[oldest].used = ++child->clock;
    return child->open[oldest].dataset;
}

/*
 * A range of row-major elements is a sequence of boxes: at each position the largest that starts
 * there and ends within the range, whole in all dimensions after the one that it extends along.
 */
static bool read_boxes(hid_t dataset, hid_t memory_type, const struct dataset *shape,
                       uint64_t first, uint64_t count, size_t element_size, char *out)
{
    hid_t space = H5Dget_space(dataset);
    bool fine = space >= 0;
    while (fine && count) {
        hsize_t start[IVON_RANK_MAX], extent[IVON_RANK_MAX];
        uint64_t stride = 1, rest = first, box;
        int along = shape->rank - 1;
        for (int i = shape->rank - 1; i >= 0; i--) {
            start[i] = rest % (uint64_t)shape->shape[i];
            rest /= (uint64_t)shape->shape[i];
            extent[i] = 1;
        }
        while (along > 0 && start[along] == 0 && stride * (uint64_t)shape->shape[along] <= count) {
            extent[along] = (hsize_t)shape->shape[along];
            stride *= (uint64_t)shape->shape[along--];
        }
        extent[along] = (hsize_t)shape->shape[along] - start[along];
        if (extent[along] > count / stride)
            extent[along] = count / stride;
        box = extent[along] * stride;
        /* Of the box's own shape: HDF5 would map another shape element by element. */
        hid_t memory = H5Screate_simple(shape->rank, extent, NULL);
        fine = H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, extent, NULL) >= 0 &&
               H5Dread(dataset, memory_type, memory, space, H5P_DEFAULT, out) >= 0;
        H5Sclose(memory);
        first += box;
        count -= box;
        out += box * element_size;
    }
    H5Sclose(space);
    return fine;
}

/* Answers one request; returns what went wrong, or null. */
static const char *answer(struct child *child, const struct hdf5_request *request)
{
    struct dataset shape = {0};
    if (request->object >= child->object_count)
        return "no such data set";
    hid_t dataset = find_dataset(child, request->object);
    if (dataset < 0)
        return child->reason;
    const char *refused = examine(child, dataset, &shape);
    if (refused)
        return refused;
    size_t size = ivon_dtype_size(shape.dtype);
    if (request->count > child->sandbox->window_size / size)
        return "asked for too much at once";
    hid_t type = hdf5_type_new(shape.dtype);
    bool fine = shape.rank
                    ? read_boxes(dataset, type, &shape, request->first, request->count, size,
                                 child->sandbox->window)
                    : H5Dread(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT,
                              child->sandbox->window) >= 0;
    H5Tclose(type);
    return fine ? NULL : child->reason;
}

static bool build_catalogue(struct child *child)
{
    const struct mapped_file *file = child->context->file;
    if (!put_u8(child, 0))
        return false;
    child->file = H5LTopen_file_image((void *)file->data, file->size,
                                      H5LT_FILE_IMAGE_DONT_COPY | H5LT_FILE_IMAGE_DONT_RELEASE);
    if (child->file < 0) {
        char what[300];
        snprintf(what, sizeof what, "damaged HDF5 file: %s", child->reason);
        return refuse(child, what, NULL);
    }
    hid_t root = H5Gopen2(child->file, "/", H5P_DEFAULT);
    if (root < 0)
        return refuse(child, "damaged HDF5 file: it has no root group", NULL);
    bool fine = put_object(child, root, "", 0);
    H5Gclose(root);
    return fine;
}

void hdf5_child_serve(struct sandbox_child *sandbox, void *context)
{
    struct child child = {.sandbox = sandbox, .context = context, .reason = "no reason given"};
    for (int i = 0; i < OPEN_MAX; i++)
        child.open[i].dataset = -1;
    H5dont_atexit();
    H5open();
    H5Eset_auto2(H5E_DEFAULT, failed, child.reason);
    H5Lunregister(H5L_TYPE_EXTERNAL);
    H5PLset_loading_state(0);
    if (!build_catalogue(&child)) {
        child.size = 0;
        put_u8(&child, 1);
        put(&child, child.failure, strlen(child.failure));
    }
    uint64_t size = child.size;
    if (!sandbox_send(sandbox->socket, &size, sizeof size) ||
        !sandbox_send(sandbox->socket, child.catalogue, child.size))
        return;
    free(child.catalogue);
    struct hdf5_request request;
    while (sandbox_receive(sandbox->socket, &request, sizeof request)) {
        sandbox_rewind_clock(sandbox);
        const char *problem = answer(&child, &request);
        uint32_t length = problem ? (uint32_t)strlen(problem) : 0;
        if (!sandbox_send(sandbox->socket, &length, sizeof length) ||
            (problem && !sandbox_send(sandbox->socket, problem, length)))
            return;
    }
}
