#include "ivon/checkpoint.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "core/error.h"
#include "core/options.h"
#include "formats/directory/directory.h"
#include "formats/flax/flax.h"
#include "formats/hdf5/safe.h"
#include "formats/io/mapped.h"
#include "formats/io/strings.h"
#include "formats/io/suffix.h"
#include "formats/io/zip.h"
#include "formats/keras/keras.h"
#include "formats/numpy/array.h"
#include "formats/numpy/npz.h"
#include "formats/onnx/onnx.h"
#include "formats/posterior/combined.h"
#include "formats/posterior/posterior.h"
#include "formats/posterior/shared_sink.h"
#include "formats/safetensors/safetensors.h"
#include "formats/torch/torch.h"

enum { SUFFIXES_MAX = 2, DEFAULT_MEMORY = 64 << 20 };

/* Arrays end where an element is null; functions that a format lacks are null. */
struct format {
    const char *name; /* in messages: "in NAME format" */
    bool (*recognise)(const struct mapped_file *file);
    /* Opens a file that was recognised, which the source takes over. */
    int (*open)(struct ivon_source **source, struct mapped_file *file,
                const struct ivon_open_options *options, struct ivon_error *error);
    /* Opens what may be the state of a model's optimizer. Such a format holds more than tensors by
       name: hessian_from, batch and parameters apply to it. */
    int (*open_optimizer)(struct ivon_source **source, struct mapped_file *file,
                          const struct ivon_open_options *options, const struct ivon_source *model,
                          struct ivon_error *error);
    /* Opens the shards of an index, the first of which was recognised. */
    int (*open_shards)(struct ivon_source **source, struct shard_index *index,
                       const struct ivon_open_options *options, struct ivon_error *error);
    bool nested;      /* key applies */
    bool names_parts; /* is_buffer does not apply */

    /* A format that is written has a value of enum ivon_format. */
    enum ivon_format written;
    const char *suffixes[SUFFIXES_MAX + 1];
    const char *index_suffix; /* of an index, which is written with its shards */
    int (*create)(struct ivon_sink **sink, const char *path, const struct ivon_header *header,
                  const struct ivon_tensor *tensors, size_t tensor_count,
                  const struct ivon_create_options *options, struct ivon_error *error);
    shared_sink_place *place; /* null: several ranks cannot write it together */
    /* Returns whether it can hold a tensor of `like`, which may be null. Null: any but opaque
       ones. */
    bool (*carries)(const struct ivon_source *like, const struct ivon_tensor *tensor);
};

static struct hdf5_limits hdf5_limits_of(const struct ivon_open_options *options)
{
    return (struct hdf5_limits){.sandbox = !options->no_sandbox,
                                .memory = options->resources.memory ? options->resources.memory
                                                                    : DEFAULT_MEMORY};
}

/* Opens what an HDF5 file holds: a posterior, or weights of Keras. */
static int open_hdf5_checkpoint(struct ivon_source **source, struct mapped_file *mapped,
                                const struct ivon_open_options *options, struct ivon_error *error)
{
    const struct hdf5_limits limits = hdf5_limits_of(options);
    struct hdf5_file *file = NULL;
    char *path = strdup(mapped->path);
    int code = path ? 0 : ivon_error_memory(error);
    if (code)
        mapped_close(mapped);
    else
        code = hdf5_open(&file, mapped, &limits, error);
    if (!code)
        code = keras_recognise(file) ? keras_open(source, file, path, error)
                                     : posterior_open(source, file, path, error);
    free(path);
    return code;
}

static int open_keras_shards(struct ivon_source **source, struct shard_index *index,
                             const struct ivon_open_options *options, struct ivon_error *error)
{
    const struct hdf5_limits limits = hdf5_limits_of(options);
    return keras_open_shards(source, index, &limits, error);
}

/* Opens the HDF5 file that an archive of Keras has inside. */
static int open_keras_archive(struct ivon_source **source, struct mapped_file *mapped,
                              const struct ivon_open_options *options, struct ivon_error *error)
{
    int code = keras_enter_archive(mapped, error);
    if (!code)
        return open_hdf5_checkpoint(source, mapped, options, error);
    mapped_close(mapped);
    return code;
}

/* A file is of the first format that recognises it: PyTorch's and Keras' are zip archives, as npz
   are, and a pickle begins as the length does that a safetensors file begins with, if it is 640 or
   so. */
static const struct format formats[] = {
    {.name = "HDF5",
     .recognise = hdf5_recognise,
     .open = open_hdf5_checkpoint,
     .open_shards = open_keras_shards,
     .names_parts = true,
     .written = IVON_FORMAT_POSTERIOR,
     .suffixes = {".h5", ".hdf5"},
     .create = posterior_create,
     .place = posterior_place},
    {.name = "safetensors",
     .recognise = safetensors_recognise,
     .open = safetensors_open,
     .open_shards = safetensors_open_shards,
     .written = IVON_FORMAT_SAFETENSORS,
     .suffixes = {".safetensors"},
     .index_suffix = SAFETENSORS_INDEX,
     .create = safetensors_create,
     .place = safetensors_place,
     .carries = safetensors_carries},
    {.name = "PyTorch's",
     .recognise = torch_recognise,
     .open = torch_open,
     .open_optimizer = torch_open_optimizer,
     .open_shards = torch_open_shards,
     .nested = true},
    {.name = "Keras'",
     .recognise = keras_recognise_archive,
     .open = open_keras_archive,
     .names_parts = true},
    {.name = "npz",
     .recognise = zip_recognise,
     .open = npz_open,
     .written = IVON_FORMAT_NPZ,
     .suffixes = {".npz"},
     .create = npz_create,
     .place = npz_place},
    {.name = "ONNX",
     .recognise = onnx_recognise,
     .open = onnx_open,
     .written = IVON_FORMAT_ONNX,
     .suffixes = {".onnx"},
     .create = onnx_create,
     .carries = onnx_carries},
    {.name = "Flax's", .recognise = flax_recognise, .open = flax_open, .nested = true},
};

enum { FORMAT_COUNT = sizeof formats / sizeof formats[0] };

/* The format that recognises a file, or null. */
static const struct format *format_recognise(const struct mapped_file *file)
{
    for (size_t i = 0; i < FORMAT_COUNT && file->size; i++)
        if (formats[i].recognise(file))
            return &formats[i];
    return NULL;
}

/* The format that is written as a value of enum ivon_format, or null. */
static const struct format *format_written(enum ivon_format written)
{
    for (size_t i = 0; i < FORMAT_COUNT; i++)
        if (formats[i].create && formats[i].written == written)
            return &formats[i];
    return NULL;
}

/* Lists the formats as messages do: those that are written, in the order of their values, and then
   those that are read only. */
static void format_list(const struct format *list[FORMAT_COUNT])
{
    const struct format *format;
    size_t count = 0;
    for (enum ivon_format value = IVON_FORMAT_BY_NAME + 1; (format = format_written(value));
         value++)
        list[count++] = format;
    for (size_t i = 0; i < FORMAT_COUNT; i++)
        if (!formats[i].create)
            list[count++] = &formats[i];
}

/* The first format that an index is written of. */
static const struct format *format_with_index(void)
{
    const struct format *format = formats;
    while (!format->index_suffix)
        format++;
    return format;
}

/* An index does not say of what format its shards are; the first of them does. Where that is of no
   format with shards, the reader of another says what is wrong with it. */
static const struct format *format_of_shards(const struct mapped_file *first)
{
    const struct format *format = format_recognise(first);
    return format && format->open_shards ? format : format_with_index();
}

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
    if (options->batch != 0 && !format->open_optimizer)
        wrong = "batch-size";
    if (options->hessian_from != IVON_HESSIAN_FROM_IVON && !format->open_optimizer)
        wrong = "hessian-from";
    if (options->parameters && !format->open_optimizer)
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

static int open_index(struct ivon_source **source, struct mapped_file *mapped,
                      const struct ivon_open_options *options, struct ivon_error *error)
{
    struct shard_index index;
    struct mapped_file first = {0};
    int code = shard_index_read(&index, mapped, error);
    mapped_close(mapped);
    if (!code && index.shard_count)
        code = shard_index_open(&index, 0, &first, error);
    const struct format *format = format_of_shards(&first);
    struct ivon_open_options own = *options;
    mapped_close(&first);
    if (!code)
        code = checkpoint_check_options(format, index.path, &own, error);
    if (!code)
        code = format->open_shards(source, &index, &own, error);
    shard_index_release(&index);
    return code;
}

static const struct format sharded = {
    .name = "sharded", .recognise = shard_index_recognise, .open = open_index};

/* Describes a file that is not a checkpoint, by its first bytes. */
static const char *other_kind(const struct mapped_file *file)
{
    if (!file->size)
        return "is empty";
    if (npy_recognise(file))
        return "is a single array of NumPy";
    if (gzip_recognise(file))
        return "is compressed by gzip";
    return "is in no format that is known here";
}

static int checkpoint_refuse_unknown(const struct mapped_file *file, const char *path,
                                     struct ivon_error *error)
{
    char expected[256];
    const struct format *list[FORMAT_COUNT];
    const char *names[FORMAT_COUNT];
    format_list(list);
    for (size_t i = 0; i < FORMAT_COUNT; i++)
        names[i] = list[i]->name;
    strings_alternatives(expected, sizeof expected, names, FORMAT_COUNT);
    return ivon_error_set(error, IVON_ERROR_DATA, "%s: %s, expected a checkpoint in %s format",
                          path, other_kind(file), expected);
}

/* With a model, it is that model's Hessian which is opened. */
static int open_one(struct ivon_source **source, const char *given,
                    struct ivon_open_options *options, const struct ivon_source *model,
                    struct ivon_error *error)
{
    struct mapped_file file;
    char *found = NULL;
    int code = ivon_directory_find(&found, given, error);
    if (!code)
        code = mapped_open(&file, found, error);
    free(found);
    if (code)
        return code;
    const char *path = file.path;
    const struct format *format = format_recognise(&file);
    if (!format && file.size && sharded.recognise(&file))
        format = &sharded;
    code = format ? checkpoint_check_options(format, path, options, error)
                  : checkpoint_refuse_unknown(&file, path, error);
    if (!format || code) {
        mapped_close(&file);
        return code;
    }
    return model && format->open_optimizer
               ? format->open_optimizer(source, &file, options, model, error)
               : format->open(source, &file, options, error);
}

static const struct options_kind open_options = {
    .defaults = "ivon_open_defaults",
    .reserved = {OPTIONS_RESERVED(struct ivon_open_options, resources.reserved)}};

void ivon_open_options_init(struct ivon_open_options *options, size_t size)
{
    const struct ivon_open_options defaults = {.size = sizeof defaults};
    options_init(options, size, &defaults);
}

int ivon_checkpoint_open(struct ivon_source **source, const char *path,
                         const struct ivon_open_options *given, struct ivon_error *error)
{
    struct ivon_open_options options = ivon_open_defaults(), other;
    struct ivon_source *model = NULL, *hessian = NULL;
    int code = options_read(&open_options, &options, given, error);
    if (code)
        return code;
    other = options;
    if (options.hessian)
        leave_optimizer(&options);
    other.is_buffer = NULL;
    other.key = NULL;
    other.for_several = false;
    code = open_one(&model, path, &options, NULL, error);
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
    return combined_open(source, model, hessian, error);
}

bool ivon_checkpoint_has_shards(const char *path)
{
    return shard_index_name(path);
}

static bool format_is_index(const struct format *format, const char *path)
{
    return format->index_suffix && string_ends_with(path, format->index_suffix);
}

/* The format that a name's suffix says; null for none. */
static const struct format *format_by_suffix(const char *path)
{
    for (size_t i = 0; i < FORMAT_COUNT; i++)
        if (suffix_is_one_of(path, formats[i].suffixes) || format_is_index(&formats[i], path))
            return &formats[i];
    return NULL;
}

bool ivon_directory_is_output(const char *path, const char *like)
{
    size_t length = strlen(path);
    if (length && path[length - 1] == '/')
        return true;
    if (format_by_suffix(path))
        return false;
    return directory_exists(path) || (!suffix_of(path) && directory_exists(like));
}

/* The same, HDF5 where there is no suffix; null for an unknown one. */
static const struct format *format_by_name(const char *path)
{
    const struct format *format = format_by_suffix(path);
    return format || suffix_of(path) ? format : format_written(IVON_FORMAT_POSTERIOR);
}

static const struct format *format_to_create(const char *path,
                                             const struct ivon_create_options *options)
{
    return options->format == IVON_FORMAT_BY_NAME ? format_by_name(path)
                                                  : format_written(options->format);
}

static const struct options_kind create_options = {
    .defaults = "ivon_create_defaults",
    .reserved = {OPTIONS_RESERVED(struct ivon_create_options, resources.reserved)}};

void ivon_create_options_init(struct ivon_create_options *options, size_t size)
{
    const struct ivon_create_options defaults = {.size = sizeof defaults};
    options_init(options, size, &defaults);
}

bool ivon_checkpoint_carries(const char *path, const struct ivon_create_options *given,
                             const struct ivon_tensor *tensor)
{
    struct ivon_create_options options = ivon_create_defaults();
    const struct format *format = options_read(&create_options, &options, given, NULL)
                                      ? NULL
                                      : format_to_create(path, &options);
    return format && format->carries ? format->carries(options.like, tensor)
                                     : tensor->part != IVON_OPAQUE;
}

bool ivon_checkpoint_shared(const char *path, const struct ivon_create_options *given)
{
    struct ivon_create_options options = ivon_create_defaults();
    const struct format *format = options_read(&create_options, &options, given, NULL)
                                      ? NULL
                                      : format_to_create(path, &options);
    return format && format->place;
}

/* Refuses a name whose suffix says no format that is written. */
static int checkpoint_refuse_suffix(const char *path, struct ivon_error *error)
{
    char expected[256];
    const struct format *list[FORMAT_COUNT];
    const char *suffixes[FORMAT_COUNT * (SUFFIXES_MAX + 1)];
    size_t count = 0;
    format_list(list);
    for (size_t i = 0; i < FORMAT_COUNT; i++) {
        for (size_t k = 0; list[i]->suffixes[k]; k++)
            suffixes[count++] = list[i]->suffixes[k];
        if (list[i]->index_suffix)
            suffixes[count++] = list[i]->index_suffix;
    }
    strings_alternatives(expected, sizeof expected, suffixes, count);
    return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                          "%s: no checkpoint is written as %s, expected a name in %s", path,
                          suffix_of(path), expected);
}

/* Refuses a bound on the shards of a file that is no index. */
static int checkpoint_refuse_shard_size(const char *path, struct ivon_error *error)
{
    const struct format *format = format_with_index();
    return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                          "%s: only %s can be several files, and their name has to end in '%s'",
                          path, format->name, format->index_suffix);
}

/* Creates what one process writes, and says by which function others find its tensors. */
static int checkpoint_create_alone(struct ivon_sink **sink, shared_sink_place **place,
                                   const char *path, const struct ivon_header *header,
                                   const struct ivon_tensor *tensors, size_t tensor_count,
                                   const struct ivon_create_options *options,
                                   struct ivon_error *error)
{
    const struct format *format = format_to_create(path, options);
    if (!format && options->format != IVON_FORMAT_BY_NAME)
        return ivon_error_set(error, IVON_ERROR_ARGUMENT, "%s: no format has the number %d", path,
                              (int)options->format);
    if (!format)
        return checkpoint_refuse_suffix(path, error);
    if (options->shard_size && !format_is_index(format, path))
        return checkpoint_refuse_shard_size(path, error);
    *place = format->place;
    if (options->resources.ranks && !*place)
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "%s: a checkpoint in %s format is written by one process", path,
                              format->name);
    return format->create(sink, path, header, tensors, tensor_count, options, error);
}

int ivon_checkpoint_create(struct ivon_sink **sink, const char *path,
                           const struct ivon_header *header, const struct ivon_tensor *tensors,
                           size_t tensor_count, const struct ivon_create_options *given,
                           struct ivon_error *error)
{
    struct ivon_create_options options = ivon_create_defaults();
    struct ivon_sink *whole = NULL;
    shared_sink_place *place = NULL;
    int code = options_read(&create_options, &options, given, error);
    struct ivon_ranks *ranks = code ? NULL : options.resources.ranks;
    if (!code && !ivon_ranks_rank(ranks))
        code = checkpoint_create_alone(&whole, &place, path, header, tensors, tensor_count,
                                       &options, error);
    if (ranks)
        return shared_sink_new(sink, ranks, whole, place, path, tensors, tensor_count, code, error);
    if (!code)
        *sink = whole;
    return code;
}

static bool hash_file(EVP_MD_CTX *context, const struct mapped_file *file)
{
    enum { PIECE = 8 << 20 };
    bool fine = true;
    for (uint64_t at = 0; fine && at < file->size; at += PIECE) {
        uint64_t size = file->size - at < PIECE ? file->size - at : PIECE;
        fine = EVP_DigestUpdate(context, file->data + at, size);
        mapped_advise(file, at, size, MADV_DONTNEED);
    }
    return fine;
}

/* Adds the shards that an index lists. */
static int hash_shards(EVP_MD_CTX *context, const struct mapped_file *mapped, bool *fine,
                       struct ivon_error *error)
{
    struct shard_index index;
    int code = shard_index_read(&index, mapped, error);
    for (size_t i = 0; i < index.shard_count && !code && *fine; i++) {
        struct mapped_file shard;
        code = shard_index_open(&index, i, &shard, error);
        if (code)
            break;
        *fine = hash_file(context, &shard);
        mapped_close(&shard);
    }
    shard_index_release(&index);
    return code;
}

int ivon_checkpoint_hash(char digest[65], const char *path, struct ivon_error *error)
{
    struct mapped_file file;
    unsigned char bytes[EVP_MAX_MD_SIZE];
    char *found = NULL;
    int code = ivon_directory_find(&found, path, error);
    if (!code)
        code = mapped_open(&file, found, error);
    free(found);
    if (code)
        return code;
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    bool fine = context && EVP_DigestInit_ex(context, EVP_sha256(), NULL) &&
                hash_file(context, &file);
    if (fine && shard_index_name(file.path))
        code = hash_shards(context, &file, &fine, error);
    fine = fine && EVP_DigestFinal_ex(context, bytes, NULL);
    EVP_MD_CTX_free(context);
    mapped_close(&file);
    if (code)
        return code;
    if (!fine)
        return ivon_error_set(error, IVON_ERROR_INTERNAL, "%s: cannot be hashed", path);
    for (size_t i = 0; i < 32; i++)
        sprintf(digest + 2 * i, "%02x", bytes[i]);
    return 0;
}
