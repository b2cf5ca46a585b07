#include "formats/hdf5/layout.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/error.h"
#include "formats/hdf5/driver.h"
#include "formats/hdf5/types.h"
#include "ivon/stream.h"

/* Open only while the file is laid out. Negative identifiers are not open. */
struct hdf5_layout {
    hid_t file;
    hid_t file_access, file_creation, group_creation, dataset_creation;
};

hid_t hdf5_layout_root(const struct hdf5_layout *layout)
{
    return layout->file;
}

static bool hdf5_layout_put_attribute(hid_t object, const char *name, hid_t type, const void *value)
{
    hid_t space = H5Screate(H5S_SCALAR);
    hid_t attribute = H5Acreate2(object, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    bool fine = attribute >= 0 && H5Awrite(attribute, type, value) >= 0;
    if (attribute >= 0)
        H5Aclose(attribute);
    H5Sclose(space);
    return fine;
}

bool hdf5_put_number(hid_t object, const char *name, double value)
{
    return isnan(value) || hdf5_layout_put_attribute(object, name, H5T_IEEE_F64LE, &value);
}

bool hdf5_put_integer(hid_t object, const char *name, int64_t value)
{
    return value < 0 || hdf5_layout_put_attribute(object, name, H5T_STD_I64LE, &value);
}

bool hdf5_put_text(hid_t object, const char *name, const char *text)
{
    if (!text || !*text)
        return true;
    hid_t type = H5Tcopy(H5T_C_S1);
    H5Tset_size(type, strlen(text));
    H5Tset_strpad(type, H5T_STR_NULLPAD);
    H5Tset_cset(type, H5T_CSET_UTF8);
    bool fine = hdf5_layout_put_attribute(object, name, type, text);
    H5Tclose(type);
    return fine;
}

/* Timestamps off, so that equal inputs give equal bytes; order of creation kept. */
static bool open_layout(struct hdf5_layout *layout, struct hdf5_driver *driver)
{
    layout->file_access = H5Pcreate(H5P_FILE_ACCESS);
    layout->file_creation = H5Pcreate(H5P_FILE_CREATE);
    layout->group_creation = H5Pcreate(H5P_GROUP_CREATE);
    layout->dataset_creation = H5Pcreate(H5P_DATASET_CREATE);
    unsigned order = H5P_CRT_ORDER_TRACKED | H5P_CRT_ORDER_INDEXED;
    if (H5Pset_libver_bounds(layout->file_access, H5F_LIBVER_V18, H5F_LIBVER_LATEST) < 0 ||
        hdf5_driver_set(layout->file_access, driver) < 0 ||
        H5Pset_obj_track_times(layout->file_creation, 0) < 0 ||
        H5Pset_link_creation_order(layout->file_creation, order) < 0 ||
        H5Pset_obj_track_times(layout->group_creation, 0) < 0 ||
        H5Pset_link_creation_order(layout->group_creation, order) < 0 ||
        H5Pset_obj_track_times(layout->dataset_creation, 0) < 0 ||
        H5Pset_layout(layout->dataset_creation, H5D_CONTIGUOUS) < 0 ||
        H5Pset_alloc_time(layout->dataset_creation, H5D_ALLOC_TIME_EARLY) < 0 ||
        H5Pset_fill_time(layout->dataset_creation, H5D_FILL_TIME_NEVER) < 0)
        return false;
    layout->file = H5Fcreate(driver->file->temporary, H5F_ACC_TRUNC, layout->file_creation,
                             layout->file_access);
    return layout->file >= 0;
}

static bool close_layout(struct hdf5_layout *layout)
{
    bool fine = layout->file < 0 || H5Fclose(layout->file) >= 0;
    H5Pclose(layout->file_access);
    H5Pclose(layout->file_creation);
    H5Pclose(layout->group_creation);
    H5Pclose(layout->dataset_creation);
    return fine;
}

/* Makes the groups above the last component of `path` that do not exist yet. */
static bool make_groups(struct hdf5_layout *layout, char *path)
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

hid_t hdf5_put_dataset(struct hdf5_layout *layout, const char *path, enum ivon_dtype dtype,
                       int rank, const int64_t *shape, uint64_t *offset)
{
    hsize_t extents[IVON_RANK_MAX];
    bool empty = false;
    for (int i = 0; i < rank; i++) {
        extents[i] = (hsize_t)shape[i];
        empty = empty || !shape[i];
    }
    char *copy = strdup(path);
    bool fine = copy && make_groups(layout, copy);
    free(copy);
    if (!fine)
        return -1;
    hid_t type = hdf5_type_new(dtype);
    hid_t space = rank ? H5Screate_simple(rank, extents, NULL) : H5Screate(H5S_SCALAR);
    hid_t dataset = H5Dcreate2(layout->file, path, type, space, H5P_DEFAULT,
                               layout->dataset_creation, H5P_DEFAULT);
    H5Sclose(space);
    H5Tclose(type);
    haddr_t address = dataset >= 0 ? H5Dget_offset(dataset) : HADDR_UNDEF;
    if (dataset >= 0 && address == HADDR_UNDEF && !empty) {
        H5Dclose(dataset);
        return -1;
    }
    *offset = address;
    return dataset;
}

static int cannot_write(struct hdf5_driver *driver)
{
    if (!driver->code)
        driver->code = ivon_error_set(driver->error, IVON_ERROR_IO, "%s: HDF5 cannot write it",
                                      driver->file->path);
    return driver->code;
}

static int hdf5_layout_lay_out(struct hdf5_driver *driver, hdf5_describe *describe, void *context)
{
    struct hdf5_layout layout = {.file = -1};
    int code = 0;
    if (!open_layout(&layout, driver))
        code = cannot_write(driver);
    else
        code = describe(context, &layout, driver->error);
    if (!close_layout(&layout) && !code)
        code = cannot_write(driver);
    hdf5_driver_release(driver);
    return code ? code : driver->code;
}

int hdf5_lay_out(struct atomic_file *file, hdf5_describe *describe, void *context,
                 struct ivon_error *error)
{
    struct hdf5_driver driver = {.file = file, .error = error, .id = -1};
    H5E_auto2_t print;
    void *data;
    H5Eget_auto2(H5E_DEFAULT, &print, &data);
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    int code = hdf5_layout_lay_out(&driver, describe, context);
    H5Eset_auto2(H5E_DEFAULT, print, data);
    if (!code)
        code = atomic_reserve(file, driver.size, error);
    if (!code && ftruncate(file->descriptor, (off_t)driver.size))
        code = ivon_error_set(error, IVON_ERROR_IO, "%s: cannot write it: %s", file->path,
                              strerror(errno));
    return code;
}
