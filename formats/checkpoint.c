#define _GNU_SOURCE
#include "ivon/checkpoint.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/error.h"
#include "formats/hdf5/safe.h"
#include "formats/posterior/joined.h"
#include "formats/io/mapped.h"
#include "formats/numpy/npz.h"
#include "formats/posterior/posterior.h"
#include "formats/safetensors/safetensors.h"
#include "formats/io/suffix.h"
#include "formats/torch/torch.h"
#include "formats/io/zip.h"

struct format {
    const char *name;
    bool (*recognise)(const struct mapped_file *file);
    int (*open)(struct ivon_source **source, struct mapped_file *file,
                const struct ivon_open_options *options, struct ivon_error *error);
    bool names_parts; /* so that is_buffer has nothing to say */
    bool nested;      /* holds more than tensors by name: key, hessian_from and batch apply */
};

/* An index does not say of what format its shards are; the first of them does. */
static int open_index(struct ivon_source **source, struct mapped_file *mapped,
                      const struct ivon_open_options *options, struct ivon_error *error)
{
    struct shard_index index;
    struct mapped_file first = {0};
    int code = shard_index_read(&index, mapped, error);
    mapped_close(mapped);
    if (!code && index.shard_count)
        code = shard_index_open(&index, 0, &first, error);
    bool torch = !code && first.size && torch_recognise(&first);
    mapped_close(&first);
    if (!code)
        code = torch ? torch_open_shards(source, &index, options, error)
                     : safetensors_open_shards(source, &index, options, error);
    shard_index_release(&index);
    return code;
}

static const struct format formats[] = {
    {.name = "HDF5", .recognise = hdf5_recognise, .open = posterior_open, .names_parts = true},
    {.name = "PyTorch's", .recognise = torch_recognise, .open = torch_open, .nested = true},
    {.name = "npz", .recognise = zip_recognise, .open = npz_open},
    {.name = "safetensors", .recognise = safetensors_recognise, .open = safetensors_open},
    {.name = "sharded", .recognise = shard_index_recognise, .open = open_index},
};

/* Leaves out what is said of an optimizer's state. */
static void leave_optimizer(struct ivon_open_options *options)
{
    options->batch = 0;
    options->hessian_from = IVON_HESSIAN_FROM_IVON;
    options->parameters = NULL;
    options->parameter_count = 0;
}

/* Leaves out the options that say nothing about the format, or refuses them. */
static int checkpoint_check_options(const struct format *format, const char *path,
                                    struct ivon_open_options *options, struct ivon_error *error)
{
    const char *wrong = NULL;
    if (options->is_buffer && format->names_parts)
        wrong = "buffers";
    if (options->batch != 0 && !format->nested)
        wrong = "batch-size";
    if (options->hessian_from != IVON_HESSIAN_FROM_IVON && !format->nested)
        wrong = "hessian-from";
    if (options->parameters && !format->nested)
        wrong = "parameters";
    if (options->key && !format->nested)
        wrong = "key";
    if (wrong && options->for_several) {
        options->is_buffer = format->names_parts ? NULL : options->is_buffer;
        leave_optimizer(options);
        options->key = NULL;
        return 0;
    }
    return wrong ? ivon_error_set(error, IVON_ERROR_ARGUMENT,
                                  "%s: option '%s' does not apply to a file in %s format", path,
                                  wrong, format->name)
                 : 0;
}

/* Describes a file that is not a checkpoint, as far as its first bytes tell. */
static const char *other_kind(const struct mapped_file *file)
{
    static const char npy[] = "\x93NUMPY";
    if (!file->size)
        return "is empty";
    if (file->size >= sizeof npy && memcmp(file->data, npy, sizeof npy - 1) == 0)
        return "is a single array of NumPy";
    if (file->size > 2 && file->data[0] == 0x1f && file->data[1] == 0x8b)
        return "is compressed by gzip";
    /* ONNX begins with its version, field 1, a varint; field 2 to 8 follows */
    if (file->size > 2 && file->data[0] == 0x08 && file->data[1] < 0x80 && file->data[2] > 0x10 &&
        file->data[2] < 0x48)
        return "looks like an ONNX graph";
    return "is in no format that is known here";
}

/* A directory as a model hub has it is named by its index, or by the file of its weights. */
static int refuse_directory(const char *path, int code, struct ivon_error *error)
{
    static const char *const names[] = {"model.safetensors.index.json", "model.safetensors",
                                        "pytorch_model.bin.index.json", "pytorch_model.bin",
                                        "adapter_model.safetensors",    "adapter_model.bin"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char *inside;
        if (asprintf(&inside, "%s/%s", path, names[i]) < 0)
            return ivon_error_memory(error);
        bool there = access(inside, R_OK) == 0;
        if (there)
            ivon_error_set(error, code, "%s: is a directory: name %s", path, inside);
        free(inside);
        if (there)
            break;
    }
    return code;
}

/* With a model, it is that model's Hessian which is opened. */
static int open_one(struct ivon_source **source, const char *path,
                    struct ivon_open_options *options, const struct ivon_source *model,
                    struct ivon_error *error)
{
    struct mapped_file file;
    int code = mapped_open(&file, path, error);
    if (code)
        return refuse_directory(path, code, error);
    for (size_t i = 0; i < sizeof formats / sizeof formats[0] && file.size; i++) {
        if (!formats[i].recognise(&file))
            continue;
        code = checkpoint_check_options(&formats[i], path, options, error);
        if (!code && model && formats[i].nested)
            return torch_open_optimizer(source, &file, options, model, error);
        if (!code)
            return formats[i].open(source, &file, options, error);
        mapped_close(&file);
        return code;
    }
    code = ivon_error_set(error, IVON_ERROR_DATA,
                          "%s: %s, expected a checkpoint in HDF5, safetensors, npz or PyTorch's "
                          "format",
                          path, other_kind(&file));
    mapped_close(&file);
    return code;
}

int ivon_checkpoint_open(struct ivon_source **source, const char *path,
                         const struct ivon_open_options *given, struct ivon_error *error)
{
    struct ivon_open_options options = given ? *given : (struct ivon_open_options){0};
    struct ivon_open_options other = options;
    struct ivon_source *model = NULL, *hessian = NULL;
    if (options.hessian)
        leave_optimizer(&options);
    other.is_buffer = NULL;
    other.key = NULL;
    other.for_several = false;
    int code = open_one(&model, path, &options, NULL, error);
    if (code || !options.hessian) {
        if (!code)
            *source = model;
        return code;
    }
    code = open_one(&hessian, options.hessian, &other, model, error);
    if (code) {
        ivon_source_close(model);
        return code;
    }
    return joined_open(source, model, hessian, error);
}

/* The format that a name's suffix says, HDF5 where it has none; negative for an unknown suffix. */
static int format_by_name(const char *path)
{
    static const struct {
        const char *suffix;
        enum ivon_format format;
    } known[] = {{".h5", IVON_FORMAT_POSTERIOR},
                 {".hdf5", IVON_FORMAT_POSTERIOR},
                 {".safetensors", IVON_FORMAT_SAFETENSORS},
                 {".npz", IVON_FORMAT_NPZ}};
    const char *suffix = suffix_of(path);
    for (size_t i = 0; suffix && i < sizeof known / sizeof *known; i++)
        if (strcmp(suffix, known[i].suffix) == 0)
            return (int)known[i].format;
    if (safetensors_index_name(path))
        return IVON_FORMAT_SAFETENSORS;
    return suffix ? -1 : (int)IVON_FORMAT_POSTERIOR;
}

bool ivon_checkpoint_carries(const char *path, const struct ivon_create_options *options,
                             const struct ivon_tensor *tensor)
{
    int format = (int)options->format;
    if (format == IVON_FORMAT_BY_NAME)
        format = format_by_name(path);
    return tensor->part != IVON_OPAQUE || (format == IVON_FORMAT_SAFETENSORS && tensor->rank >= 0 &&
                                           safetensors_of(options->like));
}

int ivon_checkpoint_create(struct ivon_sink **sink, const char *path,
                           const struct ivon_header *header, const struct ivon_tensor *tensors,
                           size_t tensor_count, const struct ivon_create_options *options,
                           struct ivon_error *error)
{
    static const struct ivon_create_options defaults = {0};
    if (!options)
        options = &defaults;
    int format = options->format == IVON_FORMAT_BY_NAME ? format_by_name(path)
                                                        : (int)options->format;
    if (format < 0)
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "%s: no checkpoint is written as %s, expected a name in .h5, .hdf5, "
                              ".safetensors, " SAFETENSORS_INDEX " or .npz",
                              path, suffix_of(path));
    bool sharded = format == IVON_FORMAT_SAFETENSORS && safetensors_index_name(path);
    if (options->shard_size && !sharded)
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "%s: only safetensors can be several files, and their name has to "
                              "end in '%s'",
                              path, SAFETENSORS_INDEX);
    if (format == IVON_FORMAT_SAFETENSORS)
        return safetensors_create(sink, path, header, tensors, tensor_count, options, error);
    if (format == IVON_FORMAT_NPZ)
        return npz_create(sink, path, header, tensors, tensor_count, options, error);
    return posterior_create(sink, path, header, tensors, tensor_count, options, error);
}

int ivon_checkpoint_hash(char digest[65], const char *path, struct ivon_error *error)
{
    enum { PIECE = 8 << 20 };
    struct mapped_file file;
    unsigned char bytes[EVP_MAX_MD_SIZE];
    int code = mapped_open(&file, path, error);
    if (code)
        return code;
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    bool fine = context && EVP_DigestInit_ex(context, EVP_sha256(), NULL);
    for (uint64_t at = 0; fine && at < file.size; at += PIECE) {
        uint64_t size = file.size - at < PIECE ? file.size - at : PIECE;
        fine = EVP_DigestUpdate(context, file.data + at, size);
        mapped_advise(&file, at, size, MADV_DONTNEED);
    }
    fine = fine && EVP_DigestFinal_ex(context, bytes, NULL);
    EVP_MD_CTX_free(context);
    mapped_close(&file);
    if (!fine)
        return ivon_error_set(error, IVON_ERROR_INTERNAL, "%s: cannot be hashed", path);
    for (size_t i = 0; i < 32; i++)
        sprintf(digest + 2 * i, "%02x", bytes[i]);
    return 0;
}
