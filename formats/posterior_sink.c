/*
 * Writing the ivon-posterior(5) format. HDF5 lays the file out, with every data set contiguous and
 * allocated but not written; then it is closed, and the data go straight to their places, from any
 * thread.
 */
#include <hdf5.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/error.h"
#include "core/stream.h"
#include "formats/atomic.h"
#include "formats/hdf5_types.h"
#include "ivon/checkpoint.h"

enum { ALIGNMENT = 64 /* bytes, of every object: tensors can be mapped and read in place */ };

struct sink {
    struct atomic_file file;
    size_t count;
    struct {
        uint64_t offset;
        size_t size; /* of an element */
        size_t count;
    } tensors[];
};

static int sink_write(void *self, size_t tensor, size_t first, size_t count, const void *buffer,
                      struct ivon_error *error)
{
    struct sink *sink = self;
    if (tensor >= sink->count || first > sink->tensors[tensor].count ||
        count > sink->tensors[tensor].count - first)
        return ivon_error_set(error, IVON_ERROR_ARGUMENT, "%s: no such range of tensor %zu",
                              sink->file.path, tensor);
    size_t size = sink->tensors[tensor].size;
    return atomic_write(&sink->file, sink->tensors[tensor].offset + first * size, buffer,
                        count * size, error);
}

static int sink_commit(void *self, struct ivon_error *error)
{
    struct sink *sink = self;
    return atomic_commit(&sink->file, error);
}

static void sink_close(void *self)
{
    struct sink *sink = self;
    atomic_close(&sink->file);
    free(sink);
}

/* The HDF5 side, open only while the file is laid out. Negative identifiers are not open. */
struct layout {
    hid_t file;
    hid_t file_access, file_creation, group_creation, dataset_creation;
};

static bool put_attribute(hid_t object, const char *name, hid_t type, const void *value)
{
    hid_t space = H5Screate(H5S_SCALAR);
    hid_t attribute = H5Acreate2(object, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    bool fine = attribute >= 0 && H5Awrite(attribute, type, value) >= 0;
    if (attribute >= 0)
        H5Aclose(attribute);
    H5Sclose(space);
    return fine;
}

static bool put_number(hid_t object, const char *name, double value)
{
    return isnan(value) || put_attribute(object, name, H5T_IEEE_F64LE, &value);
}

static bool put_integer(hid_t object, const char *name, int64_t value)
{
    return value < 0 || put_attribute(object, name, H5T_STD_I64LE, &value);
}

static bool put_text(hid_t object, const char *name, const char *text)
{
    if (!text || !*text)
        return true;
    hid_t type = H5Tcopy(H5T_C_S1);
    H5Tset_size(type, strlen(text));
    H5Tset_strpad(type, H5T_STR_NULLPAD);
    H5Tset_cset(type, H5T_CSET_UTF8);
    bool fine = put_attribute(object, name, type, text);
    H5Tclose(type);
    return fine;
}

static bool put_header(hid_t file, const struct ivon_header *header)
{
    return put_text(file, "format", "ivon-posterior") && put_integer(file, "format_version", 1) &&
           put_number(file, "ess", header->ess) &&
           put_number(file, "weight_decay", header->weight_decay) &&
           put_integer(file, "step", header->step) &&
           put_integer(file, "n_train", header->n_train) &&
           put_text(file, "creator", header->creator) &&
           put_text(file, "provenance", header->provenance);
}

/* Timestamps off, so that equal inputs give equal bytes; order of creation kept. */
static bool open_layout(struct layout *layout, const char *path)
{
    layout->file_access = H5Pcreate(H5P_FILE_ACCESS);
    layout->file_creation = H5Pcreate(H5P_FILE_CREATE);
    layout->group_creation = H5Pcreate(H5P_GROUP_CREATE);
    layout->dataset_creation = H5Pcreate(H5P_DATASET_CREATE);
    unsigned order = H5P_CRT_ORDER_TRACKED | H5P_CRT_ORDER_INDEXED;
    if (H5Pset_libver_bounds(layout->file_access, H5F_LIBVER_V18, H5F_LIBVER_LATEST) < 0 ||
        H5Pset_alignment(layout->file_access, 0, ALIGNMENT) < 0 ||
        H5Pset_file_locking(layout->file_access, 0, 1) < 0 || /* the lock on it is ours */
        H5Pset_obj_track_times(layout->file_creation, 0) < 0 ||
        H5Pset_link_creation_order(layout->file_creation, order) < 0 ||
        H5Pset_obj_track_times(layout->group_creation, 0) < 0 ||
        H5Pset_link_creation_order(layout->group_creation, order) < 0 ||
        H5Pset_obj_track_times(layout->dataset_creation, 0) < 0 ||
        H5Pset_layout(layout->dataset_creation, H5D_CONTIGUOUS) < 0 ||
        H5Pset_alloc_time(layout->dataset_creation, H5D_ALLOC_TIME_EARLY) < 0 ||
        H5Pset_fill_time(layout->dataset_creation, H5D_FILL_TIME_NEVER) < 0)
        return false;
    layout->file = H5Fcreate(path, H5F_ACC_TRUNC, layout->file_creation, layout->file_access);
    return layout->file >= 0;
}

static bool close_layout(struct layout *layout)
{
    bool fine = layout->file < 0 || H5Fclose(layout->file) >= 0;
    H5Pclose(layout->file_access);
    H5Pclose(layout->file_creation);
    H5Pclose(layout->group_creation);
    H5Pclose(layout->dataset_creation);
    return fine;
}

/* Makes the groups above the last component of `path` that do not exist yet. */
static bool make_groups(struct layout *layout, char *path)
{
    for (char *slash = strchr(path, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        bool fine = H5Lexists(layout->file, path, H5P_DEFAULT) > 0;
        if (!fine) {
            hid_t group = H5Gcreate2(layout->file, path, H5P_DEFAULT, layout->group_creation,
                                     H5P_DEFAULT);
            fine = group >= 0;
            if (fine)
                H5Gclose(group);
        }
        *slash = '/';
        if (!fine)
            return false;
    }
    return true;
}

static bool put_dataset(struct layout *layout, const char *path, const struct ivon_tensor *tensor,
                        const struct ivon_header *header, uint64_t *offset)
{
    hsize_t extents[IVON_RANK_MAX];
    for (int i = 0; i < tensor->rank; i++)
        extents[i] = (hsize_t)tensor->shape[i];
    hid_t type = hdf5_type_new(tensor->dtype);
    hid_t space = tensor->rank ? H5Screate_simple(tensor->rank, extents, NULL)
                               : H5Screate(H5S_SCALAR);
    hid_t dataset = H5Dcreate2(layout->file, path, type, space, H5P_DEFAULT,
                               layout->dataset_creation, H5P_DEFAULT);
    bool fine = dataset >= 0;
    if (fine && tensor->ess != header->ess)
        fine = put_number(dataset, "ess", tensor->ess);
    if (fine && tensor->weight_decay != header->weight_decay)
        fine = put_number(dataset, "weight_decay", tensor->weight_decay);
    haddr_t address = fine ? H5Dget_offset(dataset) : HADDR_UNDEF;
    fine = fine && (address != HADDR_UNDEF || !tensor->count);
    *offset = address;
    if (dataset >= 0)
        H5Dclose(dataset);
    H5Sclose(space);
    H5Tclose(type);
    return fine;
}

static int put_tensor(struct layout *layout, const struct ivon_tensor *tensor,
                      const struct ivon_header *header, const char *output, uint64_t *offset,
                      struct ivon_error *error)
{
    if (!tensor_name_valid(tensor->name))
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "%s: '%s' is not a usable name for a tensor", output, tensor->name);
    const char *part = ivon_part_name(tensor->part);
    bool bare = tensor->part == IVON_GRAPH;
    char *path = malloc(strlen(part) + strlen(tensor->name) + 2);
    if (!path)
        return ivon_error_memory(error);
    strcpy(path, part);
    if (!bare)
        strcat(strcat(path, "/"), tensor->name);
    bool fine = make_groups(layout, path) && put_dataset(layout, path, tensor, header, offset);
    free(path);
    return fine ? 0
                : ivon_error_set(error, IVON_ERROR_CREATE,
                                 "%s: HDF5 cannot hold tensor '%s' beside the others", output,
                                 tensor->name);
}

static int lay_out(struct sink *sink, const struct ivon_header *header,
                   const struct ivon_tensor *tensors, struct ivon_error *error)
{
    struct layout layout = {.file = -1};
    int code = 0;
    if (!open_layout(&layout, sink->file.temporary) || !put_header(layout.file, header))
        code = ivon_error_set(error, IVON_ERROR_IO, "%s: HDF5 cannot write it", sink->file.path);
    for (size_t i = 0; i < sink->count && !code; i++) {
        code = put_tensor(&layout, &tensors[i], header, sink->file.path, &sink->tensors[i].offset,
                          error);
        sink->tensors[i].size = ivon_dtype_size(tensors[i].dtype);
        sink->tensors[i].count = tensors[i].count;
    }
    if (!close_layout(&layout) && !code)
        code = ivon_error_set(error, IVON_ERROR_IO,
                              "%s: HDF5 cannot write it: is the disk full?", sink->file.path);
    return code;
}

/* Runs lay_out with HDF5's own error printing off, and the caller's setting back afterwards. */
static int lay_out_quietly(struct sink *sink, const struct ivon_header *header,
                           const struct ivon_tensor *tensors, struct ivon_error *error)
{
    H5E_auto2_t print;
    void *data;
    H5Eget_auto2(H5E_DEFAULT, &print, &data);
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    int code = lay_out(sink, header, tensors, error);
    H5Eset_auto2(H5E_DEFAULT, print, data);
    return code;
}

int ivon_checkpoint_create(struct ivon_sink **out, const char *path,
                           const struct ivon_header *header, const struct ivon_tensor *tensors,
                           size_t tensor_count, const struct ivon_create_options *options,
                           struct ivon_error *error)
{
    static const struct ivon_sink_class class = {
        .write = sink_write, .commit = sink_commit, .close = sink_close};
    struct sink *sink = calloc(1, sizeof *sink + tensor_count * sizeof sink->tensors[0]);
    if (!sink)
        return ivon_error_memory(error);
    sink->count = tensor_count;
    int code = atomic_open(&sink->file, path, options && options->replace, error);
    if (code) {
        free(sink);
        return code;
    }
    struct stat status;
    code = lay_out_quietly(sink, header, tensors, error);
    if (!code && fstat(sink->file.descriptor, &status) == 0)
        code = atomic_reserve(&sink->file, (uint64_t)status.st_size, error);
    if (!code)
        code = ivon_sink_new(out, &class, sink, error);
    if (code)
        sink_close(sink);
    return code;
}
