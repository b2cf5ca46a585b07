/* Writing NumPy's npz. */
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/meter.h"
#include "core/stream.h"
#include "formats/numpy/array.h"
#include "formats/io/atomic.h"
#include "formats/numpy/npz.h"
#include "formats/posterior/parts.h"
#include "formats/posterior/stored_tensor.h"
#include "formats/io/zip_writer.h"

struct sink {
    struct atomic_file file;
    struct zip_writer zip;
    size_t count;
    struct stored_tensor tensors[];
};

static int numpy_sink_write(void *self, size_t tensor, size_t first, size_t count,
                            const void *buffer, struct ivon_error *error)
{
    struct sink *sink = self;
    const struct stored_tensor *place = tensor < sink->count ? &sink->tensors[tensor] : NULL;
    return stored_tensor_write(&sink->file, sink->file.path, place, tensor, first, count, buffer,
                               error);
}

static int numpy_sink_commit(void *self, struct ivon_error *error)
{
    struct sink *sink = self;
    int code = zip_writer_finish(&sink->zip, &sink->file, error);
    return code ? code : atomic_commit(&sink->file, error);
}

static void numpy_sink_close(void *self)
{
    struct sink *sink = self;
    atomic_close(&sink->file);
    zip_writer_release(&sink->zip);
    free(sink);
}

static const struct ivon_sink_class numpy_sink_class = {
    .write = numpy_sink_write, .commit = numpy_sink_commit, .close = numpy_sink_close};

struct atomic_file *npz_place(const struct ivon_sink *whole, size_t tensor, uint64_t *offset)
{
    struct sink *sink = sink_self(whole, &numpy_sink_class);
    *offset = sink->tensors[tensor].offset;
    return &sink->file;
}

/* Plans the member NAME.npy, writes its header, and says where its elements go. */
static int add_array(struct sink *sink, const char *name, enum ivon_dtype dtype, int rank,
                     const int64_t *shape, uint64_t *offset, struct ivon_error *error)
{
    char header[NPY_HEADER_MAX];
    size_t count, size = strlen(name) + sizeof ".npy";
    if (dtype == IVON_BF16)
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "%s: tensor '%s': npz cannot hold bf16 (convert to f32, or write "
                              "safetensors)",
                              sink->file.path, name);
    if (!tensor_shape_count(rank, shape, ivon_dtype_size(dtype), &count))
        return ivon_error_set(error, IVON_ERROR_ARGUMENT, "%s: tensor '%s': impossible shape",
                              sink->file.path, name);
    char *member = malloc(size);
    if (!member)
        return ivon_error_memory(error);
    strcat(strcpy(member, name), ".npy");
    size_t head = npy_header(header, dtype, rank, shape);
    uint64_t content = (uint64_t)count * ivon_dtype_size(dtype) + head;
    int code = zip_writer_add(&sink->zip, sink->file.path, member, content, offset, error);
    free(member);
    if (!code)
        code = atomic_write(&sink->file, *offset, header, head, error);
    *offset += head;
    return code;
}

static int numpy_sink_put_number(void *context, const char *key, const struct parts_number *number,
                                 struct ivon_error *error)
{
    uint64_t offset;
    struct sink *sink = context;
    enum ivon_dtype dtype = number->is_integer ? IVON_I64 : IVON_F64;
    int code = add_array(sink, key, dtype, 0, NULL, &offset, error);
    const void *value = number->is_integer ? (const void *)&number->integer : &number->number;
    return code ? code : atomic_write(&sink->file, offset, value, 8, error);
}

static int numpy_sink_put_text(struct sink *sink, const char *key, const char *text,
                               struct ivon_error *error)
{
    uint64_t offset;
    if (!text)
        return 0;
    int64_t length = (int64_t)strlen(text);
    int code = add_array(sink, key, IVON_U8, 1, &length, &offset, error);
    return code ? code : atomic_write(&sink->file, offset, text, (size_t)length, error);
}

static int add_all(struct sink *sink, const struct ivon_header *header,
                   const struct ivon_tensor *tensors, const struct ivon_progress *progress,
                   struct ivon_error *error)
{
    char **names = NULL;
    const char *path = sink->file.path;
    bool prefixes;
    int code = parts_need_posterior(header, tensors, sink->count, NULL, NULL, &prefixes, error);
    if (!code)
        code = parts_stored_names(&names, path, tensors, sink->count, true, !prefixes, false,
                                  error);
    if (code)
        return code;
    code = parts_put(path, header, tensors, sink->count, numpy_sink_put_number, sink, error);
    if (!code)
        code = numpy_sink_put_text(sink, "creator", header->creator, error);
    if (!code)
        code = numpy_sink_put_text(sink, "provenance", header->provenance, error);
    for (size_t i = 0; i < sink->count && !code; i++) {
        const struct ivon_tensor *tensor = &tensors[i];
        sink->tensors[i].size = ivon_dtype_size(tensor->dtype);
        sink->tensors[i].count = tensor->count;
        code = progress_ask(progress, error);
        if (!code)
            code = add_array(sink, names[i], tensor->dtype, tensor->rank, tensor->shape,
                             &sink->tensors[i].offset, error);
    }
    parts_free_names(names, sink->count);
    return code ? code : atomic_reserve(&sink->file, zip_writer_size(&sink->zip), error);
}

int npz_create(struct ivon_sink **out, const char *path, const struct ivon_header *header,
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
    code = add_all(sink, header, tensors, &options->resources.progress, error);
    if (!code)
        code = ivon_sink_new(out, &numpy_sink_class, sink, error);
    if (code)
        numpy_sink_close(sink);
    return code;
}
