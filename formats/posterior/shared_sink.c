#define _GNU_SOURCE
#include "formats/posterior/shared_sink.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/error.h"
#include "core/ranks.h"
#include "core/stream.h"
#include "formats/posterior/stored_tensor.h"

/* The layout that rank 0 tells the others: sizes, then files, then the tensors' places. */
struct shared_sizes {
    size_t files, tensors;
    char host[64]; /* of rank 0 */
};

struct shared_file {
    char temporary[PATH_MAX];
    struct atomic_identity identity;
};

struct shared_place {
    size_t file;
    struct stored_tensor stored;
};

struct shared_sink {
    struct ivon_ranks *ranks;
    struct ivon_sink *whole; /* rank 0's; null on others */
    char *path;
    struct shared_sizes sizes;
    struct shared_file *told;
    struct shared_place *places;
    struct atomic_file **owned; /* on rank 0: the whole's */
    struct atomic_file *joined; /* on others */
    size_t joined_count;        /* that are open */
    bool prepared;
};

static int shared_sink_write(void *self, size_t tensor, size_t first, size_t count,
                             const void *buffer, struct ivon_error *error)
{
    struct shared_sink *sink = self;
    if (sink->whole)
        return ivon_sink_write(sink->whole, tensor, first, count, buffer, error);
    const struct shared_place *place = tensor < sink->sizes.tensors ? &sink->places[tensor] : NULL;
    return stored_tensor_write(place ? &sink->joined[place->file] : NULL, sink->path,
                               place ? &place->stored : NULL, tensor, first, count, buffer, error);
}

/* Makes durable what each rank wrote. */
static int shared_sink_prepare(void *self, struct ivon_error *error)
{
    struct shared_sink *sink = self;
    int code = 0;
    for (size_t i = 0; i < sink->joined_count && !code && !sink->prepared; i++)
        code = atomic_sync(&sink->joined[i], error);
    if (!sink->prepared)
        code = ivon_ranks_agree(sink->ranks, code, error);
    sink->prepared = !code;
    return code;
}

static int shared_sink_commit(void *self, struct ivon_error *error)
{
    struct shared_sink *sink = self;
    int code = shared_sink_prepare(sink, error);
    if (!code && sink->whole)
        code = ivon_sink_commit(sink->whole, error);
    return ivon_ranks_agree(sink->ranks, code, error);
}

static void shared_sink_close(void *self)
{
    struct shared_sink *sink = self;
    for (size_t i = 0; i < sink->joined_count; i++)
        atomic_close(&sink->joined[i]);
    ivon_sink_close(sink->whole);
    free(sink->path);
    free(sink->told);
    free(sink->places);
    free(sink->owned);
    free(sink->joined);
    free(sink);
}

static int shared_sink_allocate(struct shared_sink *sink, struct ivon_error *error)
{
    sink->told = calloc(sink->sizes.files + 1, sizeof *sink->told);
    sink->places = calloc(sink->sizes.tensors + 1, sizeof *sink->places);
    sink->joined = calloc(sink->sizes.files + 1, sizeof *sink->joined);
    return sink->told && sink->places && sink->joined ? 0 : ivon_error_memory(error);
}

/* The number of a file of the whole, which is shared and told if it is new. */
static int shared_sink_number(struct shared_sink *sink, struct atomic_file *file, size_t *number,
                              struct ivon_error *error)
{
    size_t count = sink->sizes.files;
    for (*number = 0; *number < count; ++*number)
        if (sink->owned[*number] == file)
            return 0;
    struct shared_file *told = realloc(sink->told, (count + 1) * sizeof *told);
    sink->told = told ? told : sink->told;
    struct atomic_file **owned = realloc(sink->owned, (count + 1) * sizeof *owned);
    sink->owned = owned ? owned : sink->owned;
    if (!told || !owned)
        return ivon_error_memory(error);
    if (strlen(file->temporary) >= sizeof told->temporary)
        return ivon_error_set(error, IVON_ERROR_CREATE, "%s: the name is too long", sink->path);
    told[count] = (struct shared_file){0};
    strcpy(told[count].temporary, file->temporary);
    owned[count] = file;
    sink->sizes.files++;
    return atomic_share(file, &told[count].identity, error);
}

/* On rank 0: where everything lies. */
static int shared_sink_describe(struct shared_sink *sink, shared_sink_place *place,
                                const struct ivon_tensor *tensors, struct ivon_error *error)
{
    gethostname(sink->sizes.host, sizeof sink->sizes.host - 1);
    int code = shared_sink_allocate(sink, error);
    for (size_t i = 0; i < sink->sizes.tensors && !code; i++) {
        struct shared_place *at = &sink->places[i];
        at->stored.size = ivon_dtype_size(tensors[i].dtype);
        at->stored.count = tensors[i].count;
        code = shared_sink_number(sink, place(sink->whole, i, &at->stored.offset), &at->file,
                                  error);
    }
    return code;
}

/* On another rank: opens the files, if they are of these tensors. */
static int shared_sink_join(struct shared_sink *sink, const struct ivon_tensor *tensors,
                            struct ivon_error *error)
{
    char host[sizeof sink->sizes.host] = "?";
    gethostname(host, sizeof host - 1);
    for (size_t i = 0; i < sink->sizes.tensors; i++)
        if (sink->places[i].stored.size != ivon_dtype_size(tensors[i].dtype) ||
            sink->places[i].stored.count != tensors[i].count)
            return ivon_error_set(error, IVON_ERROR_INPUT,
                                  "%s: rank %d on %s has other inputs than rank 0 on %s: tensor "
                                  "'%s' has another size",
                                  sink->path, ivon_ranks_rank(sink->ranks), host, sink->sizes.host,
                                  tensors[i].name);
    for (; sink->joined_count < sink->sizes.files; sink->joined_count++) {
        const struct shared_file *told = &sink->told[sink->joined_count];
        const char *fault = atomic_join(&sink->joined[sink->joined_count], sink->path,
                                        told->temporary, &told->identity);
        if (fault)
            return ivon_error_set(error, IVON_ERROR_CREATE,
                                  "%s: rank %d on %s cannot write the file that rank 0 on %s "
                                  "began (%s): the output's directory has to be the same for all",
                                  sink->path, ivon_ranks_rank(sink->ranks), host, sink->sizes.host,
                                  fault);
    }
    return 0;
}

/* Tells the layout to all. */
static int shared_sink_tell(struct shared_sink *sink, size_t tensor_count, struct ivon_error *error)
{
    struct ivon_ranks *ranks = sink->ranks;
    int code = ivon_ranks_share(ranks, &sink->sizes, sizeof sink->sizes, error);
    if (!code && sink->sizes.tensors != tensor_count)
        code = ivon_error_set(error, IVON_ERROR_INPUT,
                              "%s: rank %d has other inputs than rank 0: %zu tensors, and %zu",
                              sink->path, ivon_ranks_rank(ranks), tensor_count,
                              sink->sizes.tensors);
    if (!code && !sink->whole)
        code = shared_sink_allocate(sink, error);
    code = ivon_ranks_agree(ranks, code, error);
    if (!code)
        code = ivon_ranks_share(ranks, sink->told, sink->sizes.files * sizeof *sink->told, error);
    return code ? code
                : ivon_ranks_share(ranks, sink->places, sink->sizes.tensors * sizeof *sink->places,
                                   error);
}

int shared_sink_new(struct ivon_sink **out, struct ivon_ranks *ranks, struct ivon_sink *whole,
                    shared_sink_place *place, const char *path, const struct ivon_tensor *tensors,
                    size_t tensor_count, int code, struct ivon_error *error)
{
    static const struct ivon_sink_class class = {.write = shared_sink_write,
                                                 .commit = shared_sink_commit,
                                                 .close = shared_sink_close,
                                                 .prepare = shared_sink_prepare};
    struct shared_sink *sink = calloc(1, sizeof *sink);
    if (!sink) {
        ivon_sink_close(whole);
        return ivon_ranks_agree(ranks, code ? code : ivon_error_memory(error), error);
    }
    *sink = (struct shared_sink){
        .ranks = ranks, .whole = whole, .path = strdup(path), .sizes.tensors = tensor_count};
    if (!code && !sink->path)
        code = ivon_error_memory(error);
    if (!code && whole)
        code = shared_sink_describe(sink, place, tensors, error);
    code = ivon_ranks_agree(ranks, code, error);
    if (!code) {
        code = shared_sink_tell(sink, tensor_count, error);
        if (!code && !whole)
            code = shared_sink_join(sink, tensors, error);
        code = ivon_ranks_agree(ranks, code, error);
    }
    for (size_t i = 0; !code && whole && i < sink->sizes.files; i++)
        code = atomic_settle(sink->owned[i], &sink->told[i].identity, error);
    if (!code)
        code = ivon_sink_new(out, &class, sink, error);
    if (code)
        shared_sink_close(sink);
    return code;
}
