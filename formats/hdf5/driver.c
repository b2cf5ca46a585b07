#include "formats/hdf5/driver.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* HDF5's view of the open file, of which it knows the first member only. */
struct open_file {
    H5FD_t public;
    struct hdf5_driver *driver;
    haddr_t allocated, written; /* ends */
};

static H5FD_t *driver_open(const char *name, unsigned flags, hid_t access, haddr_t maximum)
{
    struct hdf5_driver *const *driver = H5Pget_driver_info(access);
    struct open_file *file = driver ? calloc(1, sizeof *file) : NULL;
    (void)name;
    (void)flags;
    (void)maximum;
    if (!file)
        return NULL;
    file->driver = *driver;
    return &file->public;
}

static herr_t driver_close(H5FD_t *self)
{
    struct open_file *file = (struct open_file *)self;
    file->driver->size = file->allocated;
    free(file);
    return 0;
}

/* As HDF5's own driver of POSIX files, but that elements come to driver_allocate piece by piece,
   and are not put together where they are few. */
static herr_t driver_query(const H5FD_t *self, unsigned long *flags)
{
    (void)self;
    *flags = H5FD_FEAT_AGGREGATE_METADATA | H5FD_FEAT_ACCUMULATE_METADATA | H5FD_FEAT_DATA_SIEVE |
             H5FD_FEAT_DEFAULT_VFD_COMPATIBLE;
    return 0;
}

/* Aligns elements. HDF5 can do so itself, but keeps a list of what it then leaves free, through
   which it looks for every data set: that takes minutes where there are tens of thousands. */
static haddr_t driver_allocate(H5FD_t *self, H5FD_mem_t type, hid_t transfer, hsize_t size)
{
    struct open_file *file = (struct open_file *)self;
    haddr_t address = file->allocated;
    (void)transfer;
    if (type == H5FD_MEM_DRAW)
        address += -address % HDF5_DRIVER_ALIGNMENT;
    file->allocated = address + size;
    return address;
}

static haddr_t driver_get_allocated(const H5FD_t *self, H5FD_mem_t type)
{
    (void)type;
    return ((const struct open_file *)self)->allocated;
}

static herr_t driver_set_allocated(H5FD_t *self, H5FD_mem_t type, haddr_t address)
{
    (void)type;
    ((struct open_file *)self)->allocated = address;
    return 0;
}

static haddr_t driver_get_written(const H5FD_t *self, H5FD_mem_t type)
{
    (void)type;
    return ((const struct open_file *)self)->written;
}

/* Bytes that were never written read as zeros. */
static herr_t driver_read(H5FD_t *self, H5FD_mem_t type, hid_t transfer, haddr_t address,
                          size_t size, void *buffer)
{
    struct open_file *file = (struct open_file *)self;
    char *to = buffer;
    (void)type;
    (void)transfer;
    while (size) {
        ssize_t count = pread(file->driver->file->descriptor, to, size, (off_t)address);
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0)
            return -1;
        if (count == 0) {
            memset(to, 0, size);
            return 0;
        }
        to += count;
        address += (haddr_t)count;
        size -= (size_t)count;
    }
    return 0;
}

static herr_t driver_write(H5FD_t *self, H5FD_mem_t type, hid_t transfer, haddr_t address,
                           size_t size, const void *buffer)
{
    struct open_file *file = (struct open_file *)self;
    struct hdf5_driver *driver = file->driver;
    (void)type;
    (void)transfer;
    if (!driver->code)
        driver->code = atomic_write(driver->file, address, buffer, size, driver->error);
    if (address + size > file->written)
        file->written = address + size;
    return 0;
}

herr_t hdf5_driver_set(hid_t file_access, struct hdf5_driver *driver)
{
    static const H5FD_class_t class = {
        .name = "ivon",
        .maxaddr = INT64_MAX,
        .fc_degree = H5F_CLOSE_WEAK,
        .fapl_size = sizeof driver,
        .open = driver_open,
        .close = driver_close,
        .query = driver_query,
        .alloc = driver_allocate,
        .get_eoa = driver_get_allocated,
        .set_eoa = driver_set_allocated,
        .get_eof = driver_get_written,
        .read = driver_read,
        .write = driver_write,
        .fl_map = H5FD_FLMAP_DICHOTOMY,
    };
    driver->id = H5FDregister(&class);
    return driver->id < 0 ? -1 : H5Pset_driver(file_access, driver->id, &driver);
}

void hdf5_driver_release(struct hdf5_driver *driver)
{
    if (driver->id >= 0)
        H5FDunregister(driver->id);
}
