/* A state dict in several of PyTorch's files, as an index has them. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "core/error.h"
#include "core/stream.h"
#include "formats/posterior/buffers.h"
#include "formats/torch/torch.h"

struct torch_shards {
    struct ivon_source **shards;
    size_t count;
    struct place {
        size_t shard, tensor;
    } * places; /* by tensor of the whole */
};

static int shards_read(void *self, size_t tensor, size_t first, size_t count, void *buffer,
                       struct ivon_error *error)
{
    const struct torch_shards *shards = self;
    const struct place *place = &shards->places[tensor];
    return ivon_source_read(shards->shards[place->shard], place->tensor, first, count, buffer,
                            error);
}

static const void *shards_view(void *self, size_t tensor)
{
    const struct torch_shards *shards = self;
    const struct place *place = &shards->places[tensor];
    return ivon_source_view(shards->shards[place->shard], place->tensor, 0);
}

static void shards_advise(void *self, size_t tensor, size_t first, size_t count, int advice)
{
    const struct torch_shards *shards = self;
    const struct place *place = &shards->places[tensor];
    if (advice == MADV_WILLNEED)
        ivon_source_will_need(shards->shards[place->shard], place->tensor, first, count);
    else
        ivon_source_done_with(shards->shards[place->shard], place->tensor, first, count);
}

static void shards_close(void *self)
{
    struct torch_shards *shards = self;
    for (size_t i = 0; i < shards->count; i++)
        ivon_source_close(shards->shards[i]);
    free(shards->shards);
    free(shards->places);
    free(shards);
}

/* Adds a shard's tensors, and other names of them, to the whole. */
static int add_shard(struct torch_shards *shards, struct shard_index *index, size_t shard,
                     struct tensor_list *tensors, struct ivon_error *error)
{
    const struct ivon_source *source = shards->shards[shard];
    size_t count = ivon_source_tensor_count(source);
    struct place *places = realloc(shards->places,
                                   (tensors->count + count + 1) * sizeof *shards->places);
    if (!places)
        return ivon_error_memory(error);
    shards->places = places;
    int code = 0;
    for (size_t i = 0; i < count && !code; i++) {
        const struct ivon_tensor *tensor = ivon_source_tensor(source, i);
        places[tensors->count] = (struct place){shard, i};
        code = shard_index_check(index, shard, tensor->name, error);
        if (!code)
            code = tensor_list_append(tensors, tensor, error);
    }
    size_t first = tensors->alias_count;
    if (!code)
        code = tensor_list_aliases_of(tensors, source, error);
    for (size_t i = first; i < tensors->alias_count && !code; i++)
        code = shard_index_check(index, shard, tensors->aliases[i].name, error);
    return code;
}

static int open_shards(struct torch_shards *shards, struct shard_index *index,
                       const struct ivon_open_options *options, struct tensor_list *tensors,
                       struct ivon_error *error)
{
    shards->shards = calloc(index->shard_count + 1, sizeof *shards->shards);
    if (!shards->shards)
        return ivon_error_memory(error);
    int code = 0;
    for (size_t i = 0; i < index->shard_count && !code; i++) {
        struct mapped_file file;
        code = shard_index_open(index, i, &file, error);
        if (!code)
            code = torch_open_shard(&shards->shards[i], &file, options, error);
        shards->count += !code;
        if (!code)
            code = add_shard(shards, index, i, tensors, error);
    }
    return code ? code : shard_index_complete(index, error);
}

int torch_open_shards(struct ivon_source **source, struct shard_index *index,
                      const struct ivon_open_options *options, struct ivon_error *error)
{
    static const struct ivon_source_class class = {
        .read = shards_read, .view = shards_view, .advise = shards_advise, .close = shards_close};
    struct tensor_list tensors = {0};
    struct ivon_header header = ivon_header_empty();
    struct torch_shards *shards = calloc(1, sizeof *shards);
    int code = shards ? open_shards(shards, index, options, &tensors, error)
                      : ivon_error_memory(error);
    if (!code)
        code = buffers_settle(&tensors, error);
    if (!code)
        code = ivon_source_new(source, &class, shards, index->path, &header, &tensors, error);
    if (code) {
        tensor_list_release(&tensors);
        if (shards)
            shards_close(shards);
    }
    return code;
}
