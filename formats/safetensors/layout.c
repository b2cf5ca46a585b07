#include "formats/safetensors/layout.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/stream.h"
#include "formats/posterior/combined.h"
#include "formats/io/number_text.h"
#include "formats/io/strings.h"
#include "formats/posterior/parts.h"

/* The request that a layout is made from. */
struct request {
    const char *path;
    const struct ivon_header *header;
    uint64_t shard_size;
    const char *framework; /* null: none to name */
    const struct ivon_source *like_source;
    const struct safetensors *like; /* null when there is nothing to be alike to */
    bool posterior;
    bool bare_buffers;
    bool indexed;     /* the output is an index */
    bool like_shards; /* the shards are those of `like` */
    bool like_order;  /* and so is the order of their tensors */
};

/* A tensor's place in the order: by shard, then as below. */
struct item {
    size_t shard;
    size_t rank; /* in `like`; SIZE_MAX where it does not have it */
    size_t alignment;
    const char *name;
    size_t tensor;
};

/* The order of `like`, and behind it what it does not have. */
static int compare_ranks(const void *a, const void *b)
{
    const struct item *left = a, *right = b;
    if (left->shard != right->shard)
        return left->shard < right->shard ? -1 : 1;
    if (left->rank != right->rank)
        return left->rank < right->rank ? -1 : 1;
    return strcmp(left->name, right->name);
}

/* Larger elements first, so that all are aligned. */
static int compare_alignments(const void *a, const void *b)
{
    const struct item *left = a, *right = b;
    if (left->shard == right->shard && left->alignment != right->alignment)
        return left->alignment > right->alignment ? -1 : 1;
    return compare_ranks(a, b);
}

/* The index of a tensor in `like`; -1 for none. */
static ptrdiff_t like_index(const struct request *request, const struct ivon_tensor *tensor)
{
    return request->like ? ivon_source_find(request->like_source, tensor->part, tensor->name) : -1;
}

/* The shard of `like` for a tensor: where it is, else where its mean is, else the last. */
static size_t like_shard(const struct request *request, const struct ivon_tensor *tensor)
{
    ptrdiff_t at = like_index(request, tensor);
    if (at < 0)
        at = ivon_source_find(request->like_source, IVON_MEAN, tensor->name);
    return at < 0 ? request->like->file_count - 1 : request->like->places[at].file;
}

/* A buffer that needs no mark: any, where that is asked for, else one that `like` has by its bare
   name, without saying that it is one. */
static bool plain_buffer(void *context, const struct ivon_tensor *tensor)
{
    const struct request *request = context;
    return request->bare_buffers ||
           (request->like && !request->like->posterior && like_index(request, tensor) >= 0);
}

/* Puts the tensors in order, and in that order each one's shard of `like`, or 0, into `shards`. */
static int sort_tensors(struct safetensors_layout *layout, struct request *request, size_t *shards,
                        struct ivon_error *error)
{
    struct item *items = calloc(layout->count + 1, sizeof *items);
    if (!items)
        return ivon_error_memory(error);
    request->like_order = request->like != NULL;
    for (size_t i = 0; i < layout->count; i++) {
        const struct ivon_tensor *tensor = &layout->tensors[i];
        ptrdiff_t at = like_index(request, tensor);
        items[i] = (struct item){.rank = at < 0 ? SIZE_MAX : (size_t)at,
                                 .alignment = ivon_dtype_size(tensor->dtype),
                                 .name = layout->names[i],
                                 .tensor = i};
        if (request->like && request->like_shards)
            items[i].shard = like_shard(request, tensor);
        if (at < 0 || ivon_source_tensor(request->like_source, (size_t)at)->dtype != tensor->dtype)
            request->like_order = false;
    }
    qsort(items, layout->count, sizeof *items,
          request->like_order ? compare_ranks : compare_alignments);
    for (size_t i = 0; i < layout->count; i++) {
        layout->order[i] = items[i].tensor;
        shards[i] = items[i].shard;
    }
    free(items);
    return 0;
}

static int tensor_bytes(const struct ivon_tensor *tensor, const char *path, uint64_t *bytes,
                        struct ivon_error *error)
{
    size_t count, size = ivon_dtype_size(tensor->dtype);
    if (tensor->part == IVON_OPAQUE) { /* of a safetensors file, as this is to be */
        *bytes = tensor->count;
        return tensor->rank < 0 ? parts_refuse_opaque(path, tensor, error) : 0;
    }
    if (!tensor_shape_count(tensor->rank, tensor->shape, size, &count) || count != tensor->count)
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "%s: tensor '%s': its shape does not have its number of elements",
                              path, tensor->name);
    *bytes = (uint64_t)count * size;
    return 0;
}

/* Cuts the order into shards: at those of `like`, or where one more tensor would be too much. */
static int safetensors_layout_cut(struct safetensors_layout *layout, const struct request *request,
                                  const size_t *like_shards, struct ivon_error *error)
{
    for (size_t i = 0; i < layout->count; i++) {
        const struct ivon_tensor *tensor = &layout->tensors[layout->order[i]];
        uint64_t bytes = 0;
        int code = tensor_bytes(tensor, request->path, &bytes, error);
        if (code)
            return code;
        if (request->shard_size && bytes > request->shard_size)
            return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                                  "%s: tensor '%s' has %llu bytes, and a shard may hold %llu",
                                  request->path, tensor->name, (unsigned long long)bytes,
                                  (unsigned long long)request->shard_size);
        struct safetensors_shard *shard = &layout->shards[layout->shard_count - 1];
        bool full = request->shard_size && bytes > request->shard_size - shard->size;
        if (shard->count && (full || like_shards[i] != like_shards[i - 1])) {
            shard = &layout->shards[layout->shard_count++];
            shard->first = i;
        }
        shard->count++;
        if (__builtin_add_overflow(shard->size, bytes, &shard->size))
            return ivon_error_set(error, IVON_ERROR_ARGUMENT, "%s: too large for a file",
                                  request->path);
    }
    return 0;
}

bool safetensors_index_name(const char *path)
{
    return string_ends_with(path, SAFETENSORS_INDEX);
}

/* The text before SAFETENSORS_INDEX in the last component of a path, *length bytes long. */
static const char *stem(const char *path, int *length)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    bool index = safetensors_index_name(name);
    *length = index ? (int)(strlen(name) - strlen(SAFETENSORS_INDEX)) : 0;
    return name;
}

/* A shard's name: that of `like`, with the output's stem instead of its index's; or by number. */
static char *shard_name(const struct safetensors_layout *layout, const struct request *request,
                        const size_t *like_shards, size_t shard)
{
    int length, like_length = 0;
    const char *start = stem(request->path, &length), *rest = NULL;
    size_t size = strlen(request->path) + 64;
    if (request->like && request->like_shards && layout->count) {
        rest = request->like->files[like_shards[layout->shards[shard].first]].name;
        const char *like_start = stem(request->like->index_path, &like_length);
        if (strncmp(rest, like_start, (size_t)like_length) == 0)
            rest += like_length;
        else
            length = 0;
        size += strlen(rest);
    }
    char *name = malloc(size);
    if (name && rest)
        snprintf(name, size, "%.*s%s", length, start, rest);
    else if (name)
        snprintf(name, size, "%.*s-%05zu-of-%05zu.safetensors", length, start, shard + 1,
                 layout->shard_count);
    return name;
}

/* A copy of metadata of `like`, which may be null, without what this output says for itself. */
static json_t *inherit(const struct request *request, json_t *from)
{
    json_t *metadata = json_object(), *value;
    const char *key;
    json_object_foreach(
        from, key, value) if (!(request->like && request->like->posterior && parts_own_key(key)) &&
                              strcmp(key, "creator") != 0 && strcmp(key, "provenance") != 0)
        json_object_set(metadata, key, value);
    return metadata;
}

static int safetensors_layout_put_number(void *context, const char *key,
                                         const struct parts_number *number,
                                         struct ivon_error *error)
{
    char text[NUMBER_TEXT_MAX];
    size_t size = number->is_integer ? number_text_i64(text, number->integer)
                                     : number_text_f64(text, number->number);
    return json_object_set_new(context, key, json_stringn(text, size)) ? ivon_error_memory(error)
                                                                       : 0;
}

static int safetensors_layout_put_text(json_t *metadata, const char *key, const char *text,
                                       const char *path, struct ivon_error *error)
{
    return text && json_object_set_new(metadata, key, json_string(text))
               ? ivon_error_set(error, IVON_ERROR_ARGUMENT, "%s: '%s' is no text in UTF-8", path,
                                key)
               : 0;
}

static uint64_t total_size(const struct safetensors_layout *layout)
{
    uint64_t total = 0;
    for (size_t i = 0; i < layout->shard_count; i++)
        total += layout->shards[i].size;
    return total;
}

static int make_metadata(struct safetensors_layout *layout, const struct request *request,
                         const size_t *like_shards, struct ivon_error *error)
{
    const struct safetensors *like = request->like;
    for (size_t i = 0; i < layout->shard_count; i++) {
        struct safetensors_shard *shard = &layout->shards[i];
        size_t from = request->like_shards && shard->count ? like_shards[shard->first] : 0;
        bool any = like && from < like->file_count;
        shard->metadata = inherit(request, any ? like->files[from].metadata : NULL);
        if (!shard->metadata)
            return ivon_error_memory(error);
        if (request->framework && !json_object_get(shard->metadata, "format") &&
            json_object_set_new(shard->metadata, "format", json_string(request->framework)))
            return ivon_error_memory(error);
    }
    json_t *whole = layout->shards[0].metadata;
    if (request->indexed) {
        json_t *from = like && like->index_path ? like->metadata : NULL;
        whole = layout->metadata = inherit(request, from);
        json_t *total = json_integer((json_int_t)total_size(layout));
        if (!whole || json_object_set_new(whole, "total_size", total))
            return ivon_error_memory(error);
    }
    int code = request->posterior
                   ? parts_put(request->path, request->header, layout->tensors, layout->count,
                               safetensors_layout_put_number, whole, error)
                   : 0;
    if (!code)
        code = safetensors_layout_put_text(whole, "creator", request->header->creator,
                                           request->path, error);
    return code ? code
                : safetensors_layout_put_text(whole, "provenance", request->header->provenance,
                                              request->path, error);
}

static int make_shards(struct safetensors_layout *layout, struct request *request,
                       struct ivon_error *error)
{
    size_t *like_shards = calloc(layout->count + 1, sizeof *like_shards);
    layout->order = calloc(layout->count + 1, sizeof *layout->order);
    layout->shards = calloc(layout->count + 1, sizeof *layout->shards);
    int code = like_shards && layout->order && layout->shards ? 0 : ivon_error_memory(error);
    layout->shard_count = layout->shards && (layout->count || !request->indexed);
    if (!code)
        code = sort_tensors(layout, request, like_shards, error);
    if (!code)
        code = safetensors_layout_cut(layout, request, like_shards, error);
    for (size_t i = 0; i < layout->shard_count && request->indexed && !code; i++)
        if (!(layout->shards[i].name = shard_name(layout, request, like_shards, i)))
            code = ivon_error_memory(error);
    if (!code)
        code = make_metadata(layout, request, like_shards, error);
    free(like_shards);
    return code;
}

int safetensors_lay_out(struct safetensors_layout *layout, const char *path,
                        const struct ivon_header *header, const struct ivon_tensor *tensors,
                        size_t count, const struct ivon_create_options *options,
                        struct ivon_error *error)
{
    struct request request = {.path = path,
                              .header = header,
                              .shard_size = options->shard_size,
                              .framework = options->framework,
                              .bare_buffers = options->bare_buffers,
                              .like_source = options->like ? combined_model(options->like) : NULL,
                              .like = safetensors_of(options->like),
                              .indexed = safetensors_index_name(path)};
    request.like_shards = request.indexed && request.like && request.like->index_path &&
                          request.like->file_count && !request.shard_size;
    *layout = (struct safetensors_layout){.tensors = tensors, .count = count};
    int code = parts_need_posterior(header, tensors, count, plain_buffer, &request,
                                    &request.posterior, error);
    if (!code)
        code = parts_stored_names(&layout->names, path, tensors, count, request.posterior, false,
                                  request.like != NULL, error);
    for (size_t i = 0; i < count && !code; i++)
        if (strcmp(layout->names[i], SAFETENSORS_METADATA) == 0)
            code = ivon_error_set(error, IVON_ERROR_ARGUMENT,
                                  "%s: no tensor of a safetensors file may be called '%s'", path,
                                  SAFETENSORS_METADATA);
    if (!code)
        code = make_shards(layout, &request, error);
    if (code)
        safetensors_layout_release(layout);
    return code;
}

void safetensors_layout_release(struct safetensors_layout *layout)
{
    for (size_t i = 0; i < layout->shard_count; i++) {
        free(layout->shards[i].name);
        json_decref(layout->shards[i].metadata);
    }
    parts_free_names(layout->names, layout->count);
    json_decref(layout->metadata);
    free(layout->order);
    free(layout->shards);
    *layout = (struct safetensors_layout){0};
}
