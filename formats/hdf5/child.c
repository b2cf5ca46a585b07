/* Runs in the child process of formats/hdf5/safe.c: here the HDF5 library meets the file, which
   hdf5/catalogue.c lists and hdf5/dataset.c reads. */
#include "formats/hdf5/child.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "formats/hdf5/catalogue.h"
#include "formats/hdf5/dataset.h"

enum {
    REASON_SIZE = 256,
    OPEN_MAX = 4, /* data sets kept open with their chunk caches */
};

struct child {
    struct sandbox_child *sandbox;
    const struct hdf5_child_context *context;
    struct hdf5_catalogue catalogue;
    char reason[REASON_SIZE]; /* HDF5's last complaint */
    struct {
        hid_t dataset; /* or negative */
        size_t object;
        uint64_t used; /* when */
    } open[OPEN_MAX];
    uint64_t clock;
};

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

static herr_t hdf5_child_failed(hid_t stack, void *reason)
{
    return H5Ewalk2(stack, H5E_WALK_UPWARD, innermost, reason);
}

/* Opens a data set with a chunk cache that holds a row of chunks, if that is within bounds: pieces
   are asked for in row-major order, and a chunk that left the cache is decompressed again. */
static hid_t open_dataset(struct child *child, const char *path)
{
    hid_t access = H5Pcreate(H5P_DATASET_ACCESS);
    H5Pset_chunk_cache(access, 12421, child->catalogue.chunk_max, 1.0);
    hid_t dataset = H5Dopen2(child->catalogue.file, path, access);
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
    child->open[oldest].dataset = open_dataset(child, child->catalogue.paths[object]);
    child->open[oldest].object = object;
    child->open[oldest].used = ++child->clock;
    return child->open[oldest].dataset;
}

/* Answers one request; returns what went wrong, or null. */
static const char *answer(struct child *child, const struct hdf5_request *request)
{
    struct hdf5_dataset shape = {0};
    if (request->object >= child->catalogue.object_count)
        return "no such data set";
    hid_t dataset = find_dataset(child, request->object);
    if (dataset < 0)
        return child->reason;
    const char *refused = hdf5_dataset_examine(dataset, child->context->file->size,
                                               child->catalogue.chunk_max, &shape);
    if (refused && !shape.string_size)
        return refused;
    size_t size = refused ? shape.string_size : ivon_dtype_size(shape.dtype);
    if (request->count > child->sandbox->window_size / size)
        return "asked for too much at once";
    if (refused)
        return hdf5_dataset_read_strings(dataset, &shape, request->first, request->count,
                                         child->sandbox->window, child->reason);
    return hdf5_dataset_read(dataset, &shape, request->first, request->count,
                             child->sandbox->window)
               ? NULL
               : child->reason;
}

void hdf5_child_serve(struct sandbox_child *sandbox, void *context)
{
    struct child child = {.sandbox = sandbox, .context = context, .reason = "no reason given"};
    for (int i = 0; i < OPEN_MAX; i++)
        child.open[i].dataset = -1;
    H5dont_atexit();
    H5open();
    H5Eset_auto2(H5E_DEFAULT, hdf5_child_failed, child.reason);
    H5Lunregister(H5L_TYPE_EXTERNAL);
    H5PLset_loading_state(0);
    child.catalogue.reason = child.reason;
    child.catalogue.chunk_max = child.context->memory / OPEN_MAX;
    hdf5_catalogue_make(&child.catalogue, child.context->file);
    uint64_t size = child.catalogue.size;
    if (!sandbox_send(sandbox->socket, &size, sizeof size) ||
        !sandbox_send(sandbox->socket, child.catalogue.data, size))
        return;
    free(child.catalogue.data);
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
