/* Writing the ivon-posterior(5) format. */
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/meter.h"
#include "core/stream.h"
#include "formats/io/atomic.h"
#include "formats/hdf5/layout.h"
#include "formats/posterior/parts.h"
#include "formats/posterior/stored_tensor.h"
#include "formats/posterior/posterior.h"

struct sink {
    struct atomic_file file;
    size_t count;
    struct stored_tensor tensors[];
};

static int posterior_sink_write(void *self, size_t tensor, size_t first, size_t count,
                                const void *buffer, struct ivon_error *error)
{
    struct sink *sink = self;
    const struct stored_tensor *place = tensor < sink->count ? &sink->tensors[tensor] : NULL;
    return stored_tensor_write(&sink->file, sink->file.path, place, tensor, first, count, buffer,
                               error);
}

static int posterior_sink_commit(void *self, struct ivon_error *error)
{
    struct sink *sink = self;
    return atomic_commit(&sink->file, error);
}

static void posterior_sink_close(void *self)
{
    struct sink *sink = self;
    atomic_close(&sink->file);
    free(sink);
}

static const struct ivon_sink_class posterior_sink_class = {
    .write = posterior_sink_write, .commit = posterior_sink_commit, .close = posterior_sink_close};

struct atomic_file *posterior_place(const struct ivon_sink *whole, size_t tensor, uint64_t *offset)
{
    struct sink *sink = sink_self(whole, &posterior_sink_class);
    *offset = sink->tensors[tensor].offset;
    return &sink->file;
}

static bool put_header(hid_t file, const struct ivon_header *header, int version)
{
    return hdf5_put_text(file, "format", "ivon-posterior") &&
           hdf5_put_integer(file, "format_version", version) &&
           hdf5_put_number(file, "ess", header->ess) &&
           hdf5_put_number(file, "weight_decay", header->weight_decay) &&
           hdf5_put_integer(file, "step", header->step) &&
           hdf5_put_integer(file, "n_train", header->n_train) &&
           hdf5_put_number(file, "newton_decrement", header->decrement) &&
           hdf5_put_text(file, "creator", header->creator) &&
           hdf5_put_text(file, "provenance", header->provenance);
}

static bool posterior_sink_put_dataset(struct hdf5_layout *layout, const char *path,
                                       const struct ivon_tensor *tensor,
                                       const struct ivon_header *header, uint64_t *offset)
{
    hid_t dataset = hdf5_put_dataset(layout, path, tensor->dtype, tensor->rank, tensor->shape,
                                     offset);
    bool fine = dataset >= 0;
    if (fine && tensor->ess != header->ess)
        fine = hdf5_put_number(dataset, "ess", tensor->ess);
    if (fine && tensor->weight_decay != header->weight_decay)
        fine = hdf5_put_number(dataset, "weight_decay", tensor->weight_decay);
    if (dataset >= 0)
        H5Dclose(dataset);
    return fine;
}

static int put_tensor(struct hdf5_layout *layout, const struct ivon_tensor *tensor,
                      const struct ivon_header *header, const char *output, uint64_t *offset,
                      struct ivon_error *error)
{
    if (!tensor_name_valid(tensor->name))
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "%s: '%s' is not a usable name for a tensor", output, tensor->name);
    if (tensor->part == IVON_OPAQUE)
        return parts_refuse_opaque(output, tensor, error);
    const char *part = ivon_part_name(tensor->part);
    bool bare = part_is_bytes(tensor->part);
    char *path = malloc(strlen(part) + strlen(tensor->name) + 2);
    if (!path)
        return ivon_error_memory(error);
    strcpy(path, part);
    if (!bare)
        strcat(strcat(path, "/"), tensor->name);
    bool fine = posterior_sink_put_dataset(layout, path, tensor, header, offset);
    free(path);
    return fine ? 0
                : ivon_error_set(error, IVON_ERROR_CREATE,
                                 "%s: HDF5 cannot hold tensor '%s' beside the others", output,
                                 tensor->name);
}

/* The description of the sink's tensors, while the file is laid out. */
struct description {
    struct sink *sink;
    const struct ivon_header *header;
    const struct ivon_tensor *tensors;
    const struct ivon_progress *progress;
};

static int posterior_sink_describe(void *context, struct hdf5_layout *layout,
                                   struct ivon_error *error)
{
    const struct description *description = context;
    struct sink *sink = description->sink;
    if (!put_header(hdf5_layout_root(layout), description->header,
                    parts_version(description->tensors, sink->count)))
        return ivon_error_set(error, IVON_ERROR_IO, "%s: HDF5 cannot write it", sink->file.path);
    for (size_t i = 0; i < sink->count; i++) {
        const struct ivon_tensor *tensor = &description->tensors[i];
        int code = progress_ask(description->progress, error);
        if (!code)
            code = put_tensor(layout, tensor, description->header, sink->file.path,
                              &sink->tensors[i].offset, error);
        if (code)
            return code;
        sink->tensors[i].size = ivon_dtype_size(tensor->dtype);
        sink->tensors[i].count = tensor->count;
    }
    return 0;
}

int posterior_create(struct ivon_sink **out, const char *path, const struct ivon_header *header,
                     const struct ivon_tensor *tensors, size_t tensor_count,
                     const struct ivon_create_options *options, struct ivon_error *error)
{
    struct sink *sink = calloc(1, sizeof *sink + tensor_count * sizeof sink->tensors[0]);
    if (!sink)
        return ivon_error_memory(error);
    sink->count = tensor_count;
    int code = atomic_open(&sink->file, path, options->replace, error);
    if (code) {
        free(sink);
        return code;
    }
    struct description description = {.sink = sink,
                                      .header = header,
                                      .tensors = tensors,
                                      .progress = &options->resources.progress};
    code = hdf5_lay_out(&sink->file, posterior_sink_describe, &description, error);
    if (!code)
        code = ivon_sink_new(out, &posterior_sink_class, sink, error);
    if (code)
        posterior_sink_close(sink);
    return code;
}
