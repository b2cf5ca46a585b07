#include "formats/hdf5/dataset.h"

#include <stdlib.h>
#include <string.h>

#include "formats/io/bytes.h"
#include "formats/hdf5/child.h"
#include "formats/hdf5/types.h"

/* A data set that cannot be read, but is as it should be otherwise. */
static const char *odd(struct hdf5_dataset *result, const char *stored_as, const char *refused)
{
    result->stored_as = stored_as;
    return refused;
}

static const char *examine_shape(hid_t dataset, struct hdf5_dataset *result)
{
    hsize_t extents[H5S_MAX_RANK];
    const char *refused = NULL;
    hid_t space = H5Dget_space(dataset);
    H5S_class_t class = H5Sget_simple_extent_type(space);
    result->rank = H5Sget_simple_extent_ndims(space);
    if (class != H5S_SCALAR && class != H5S_SIMPLE)
        refused = odd(result, "nothing", "has no elements to speak of, expected a shape");
    else if (result->rank > IVON_RANK_MAX)
        refused = odd(result, "more than 8 dimensions", "has more than 8 dimensions");
    else if (result->rank < 0 ||
             (result->rank > 0 && H5Sget_simple_extent_dims(space, extents, NULL) < 0))
        refused = "has a damaged shape";
    else
        for (int i = 0; i < result->rank; i++) {
            if (extents[i] > INT64_MAX)
                refused = "has an absurd shape";
            result->shape[i] = (int64_t)extents[i];
        }
    H5Sclose(space);
    if (refused)
        result->rank = -1;
    return refused;
}

/* Checks where the data are; *expansion is how many bytes one byte of the file may stand for. */
static const char *examine_storage(hid_t properties, unsigned *expansion,
                                   struct hdf5_dataset *result)
{
    H5D_layout_t layout = H5Pget_layout(properties);
    int filters = H5Pget_nfilters(properties);
    *expansion = 1;
    if (layout == H5D_VIRTUAL)
        return odd(result, "a view of other files",
                   "is a virtual data set, which reads other files");
    if (H5Pget_external_count(properties) != 0)
        return odd(result, "data in other files", "is stored in other files");
    if (layout != H5D_CONTIGUOUS && layout != H5D_CHUNKED && layout != H5D_COMPACT)
        return "has an unknown layout";
    if (filters < 0)
        return "has a damaged list of filters";
    for (int i = 0; i < filters; i++) {
        unsigned flags, config;
        size_t values = 0;
        H5Z_filter_t filter = H5Pget_filter2(properties, (unsigned)i, &flags, &values, NULL, 0,
                                             NULL, &config);
        if (filter != H5Z_FILTER_DEFLATE && filter != H5Z_FILTER_SHUFFLE &&
            filter != H5Z_FILTER_FLETCHER32)
            return odd(result, "filtered data",
                       "uses a filter other than deflate, shuffle and fletcher32");
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

/* Returns whether elements are bfloat16 as Keras has h5py store them, which does not know the type:
   two bytes without a meaning, and an attribute that gives it. */
static bool is_marked_bfloat16(hid_t dataset, hid_t type)
{
    static const char mark[] = "bfloat16";
    char *text = NULL;
    if (H5Tget_class(type) != H5T_OPAQUE || H5Tget_size(type) != 2 ||
        H5Aexists(dataset, "dtype") <= 0)
        return false;
    hid_t attribute = H5Aopen(dataset, "dtype", H5P_DEFAULT);
    hid_t stored = H5Aget_type(attribute), space = H5Aget_space(attribute);
    bool marked = H5Tis_variable_str(stored) > 0 && H5Sget_simple_extent_npoints(space) == 1 &&
                  H5Aread(attribute, stored, &text) >= 0 && text &&
                  strncmp(text, mark, sizeof mark) == 0;
    H5free_memory(text);
    H5Sclose(space);
    H5Tclose(stored);
    H5Aclose(attribute);
    return marked;
}

static bool examine_type(hid_t dataset, hid_t type, enum ivon_dtype *dtype, bool *as_stored)
{
    if (!is_marked_bfloat16(dataset, type))
        return hdf5_type_recognise(type, dtype, as_stored);
    *dtype = IVON_BF16;
    *as_stored = true;
    return true;
}

/* How messages call a type that is not read. */
static const char *type_name(hid_t type)
{
    switch (H5Tget_class(type)) {
    case H5T_INTEGER:
        return "integers of an unusual size";
    case H5T_FLOAT:
        return "floating-point numbers of an unusual format";
    case H5T_STRING:
        return "strings";
    case H5T_BITFIELD:
        return "bit fields";
    case H5T_OPAQUE:
        return "opaque bytes";
    case H5T_COMPOUND:
        return "compounds";
    case H5T_REFERENCE:
        return "references";
    case H5T_ENUM:
        return "enumerations";
    case H5T_VLEN:
        return "lists of varying length";
    case H5T_ARRAY:
        return "arrays";
    default:
        return "an unknown type";
    }
}

/* Checks that elements of that size can be in the file, and in memory. */
static const char *examine_size(hid_t properties, const struct hdf5_dataset *result,
                                size_t element_size, double most, size_t chunk_max)
{
    double bytes = (double)element_size;
    for (int i = 0; i < result->rank; i++)
        bytes *= (double)result->shape[i];
    if (bytes > most)
        return "has more elements than the file can hold";
    return chunk_bytes(properties, element_size) > chunk_max
               ? "has chunks that exceed the memory it may take (h5repack makes them smaller)"
               : NULL;
}

/* The bytes that a string of the type takes when it is read; 0 for those that are not. */
static size_t string_bytes(hid_t type)
{
    size_t size = H5Tget_size(type);
    if (H5Tget_class(type) != H5T_STRING)
        return 0;
    if (H5Tis_variable_str(type) > 0)
        return HDF5_STRING_MAX + 1;
    return size <= HDF5_STRING_MAX ? size + 1 : 0;
}

const char *hdf5_dataset_examine(hid_t dataset, size_t file_size, size_t chunk_max,
                                 struct hdf5_dataset *result)
{
    unsigned expansion = 1;
    bool as_stored = false;
    hid_t properties = H5Dget_create_plist(dataset);
    hid_t type = H5Dget_type(dataset);
    const char *refused = examine_shape(dataset, result);
    if (!refused)
        refused = examine_storage(properties, &expansion, result);
    double most = (double)file_size * expansion;
    if (!refused && !examine_type(dataset, type, &result->dtype, &as_stored)) {
        if (result->rank == 1 &&
            !examine_size(properties, result, H5Tget_size(type), most, chunk_max))
            result->string_size = string_bytes(type);
        refused = odd(result, type_name(type),
                      "has elements that are neither numbers nor booleans");
    }
    if (!refused) {
        refused = examine_size(properties, result, ivon_dtype_size(result->dtype), most, chunk_max);
        haddr_t offset = H5Dget_offset(dataset);
        bool mapped = H5Pget_layout(properties) == H5D_CONTIGUOUS && as_stored;
        result->offset = mapped && offset != HADDR_UNDEF ? (int64_t)offset : -1;
    }
    H5Tclose(type);
    H5Pclose(properties);
    return refused;
}

/* Strings. */

/* Copies strings of varying length, null pointers being empty ones; false where one is too long. */
static bool copy_varying_strings(char *out, size_t size, char *const *strings, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++, out += size) {
        size_t length = strings[i] ? strnlen(strings[i], size) : 0;
        if (length >= size)
            return false;
        memset(out, 0, size);
        if (length)
            memcpy(out, strings[i], length);
    }
    return true;
}

/* Reads what is selected of `space`, along one axis. */
static const char *read_selected(hid_t dataset, hid_t space, bool variable, size_t size,
                                 uint64_t count, char *out, const char *reason)
{
    hsize_t extent = count;
    hid_t type = H5Dget_type(dataset), own = H5Tcopy(H5T_C_S1);
    hid_t memory = H5Screate_simple(1, &extent, NULL);
    char **strings = variable ? calloc(count, sizeof *strings) : NULL;
    const char *problem = NULL;
    bool described = H5Tset_size(own, variable ? H5T_VARIABLE : size) >= 0 &&
                     H5Tset_cset(own, H5Tget_cset(type)) >= 0;
    if (variable && !strings)
        problem = "its strings exceed the memory";
    else if (!described || H5Dread(dataset, own, memory, space, H5P_DEFAULT,
                                   variable ? (void *)strings : (void *)out) < 0)
        problem = reason;
    else if (variable && !copy_varying_strings(out, size, strings, count))
        problem = "it has strings of more than 256 bytes";
    if (strings)
        H5Dvlen_reclaim(own, memory, H5P_DEFAULT, strings);
    free(strings);
    H5Sclose(memory);
    H5Tclose(own);
    H5Tclose(type);
    return problem;
}

const char *hdf5_dataset_read_strings(hid_t dataset, const struct hdf5_dataset *examined,
                                      uint64_t first, uint64_t count, char *out, const char *reason)
{
    hsize_t start = first, extent = count;
    hid_t type = H5Dget_type(dataset), space = H5Dget_space(dataset);
    bool variable = H5Tis_variable_str(type) > 0;
    const char *problem = reason;
    if (space >= 0 && H5Sselect_hyperslab(space, H5S_SELECT_SET, &start, NULL, &extent, NULL) >= 0)
        problem = read_selected(dataset, space, variable, examined->string_size, count, out,
                                reason);
    H5Sclose(space);
    H5Tclose(type);
    return problem;
}

/*
 * A range of row-major elements is a sequence of boxes: at each position the largest that starts
 * there and ends within the range, whole in all dimensions after the one that it extends along.
 */
static bool read_boxes(hid_t dataset, hid_t memory_type, const struct hdf5_dataset *shape,
                       uint64_t first, uint64_t count, size_t element_size, char *out)
{
    hid_t space = H5Dget_space(dataset);
    bool fine = space >= 0;
    while (fine && count) {
        hsize_t start[IVON_RANK_MAX] = {0}, extent[IVON_RANK_MAX];
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

bool hdf5_dataset_read(hid_t dataset, const struct hdf5_dataset *examined, uint64_t first,
                       uint64_t count, char *out)
{
    hid_t stored = H5Dget_type(dataset); /* no type is converted to bytes without a meaning */
    bool is_opaque = H5Tget_class(stored) == H5T_OPAQUE;
    hid_t type = is_opaque ? H5Tcopy(stored) : hdf5_type_new(examined->dtype);
    bool fine = examined->rank ? read_boxes(dataset, type, examined, first, count,
                                            ivon_dtype_size(examined->dtype), out)
                               : H5Dread(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, out) >= 0;
    H5Tclose(type);
    H5Tclose(stored);
    return fine;
}
