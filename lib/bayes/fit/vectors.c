#include "bayes/fit/vectors.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/stream.h"

enum { BLOCK = 1 << 17 /* elements that are sent at a time */ };
static const size_t END = SIZE_MAX; /* in place of a tensor: nothing is asked for any more */

/* Ranges. */

static size_t vectors_piece_count(size_t size)
{
    return (size + VECTORS_PIECE - 1) / VECTORS_PIECE;
}

struct ranks_range vectors_pieces(const struct ivon_ranks *ranks, size_t size)
{
    return ranks_range(ranks, vectors_piece_count(size));
}

struct ranks_range vectors_own(const struct ivon_ranks *ranks, size_t size)
{
    const struct ranks_range pieces = vectors_pieces(ranks, size);
    size_t first = pieces.first * VECTORS_PIECE, end = pieces.end * VECTORS_PIECE;
    return (struct ranks_range){first < size ? first : size, end < size ? end : size};
}

struct ranks_range vectors_within(struct ranks_range own, size_t at, size_t count)
{
    size_t first = own.first > at ? own.first : at;
    size_t end = own.end < at + count ? own.end : at + count;
    return (struct ranks_range){first, first < end ? end : first};
}

/* Blocks of a tensor. */

/* Elements of a tensor that lie one behind the other in a piece. */
struct vectors_run {
    size_t row, place, length;
    int owner;
};

/* The longest from an element on, before `end`. */
static struct vectors_run vectors_run_at(const struct vectors_set *set,
                                         const struct vectors_tensor *tensor, size_t element,
                                         size_t end)
{
    size_t i = element % tensor->count, within = i % tensor->inner;
    size_t place = tensor->at + i / tensor->inner * tensor->outer + within * tensor->step;
    size_t length = tensor->step == 1 ? tensor->inner - within : 1;
    length = vectors_piece_end(place, place + length) - place;
    return (struct vectors_run){
        element / tensor->count, place, length < end - element ? length : end - element,
        ranks_owner(set->ranks, vectors_piece_count(set->size), place / VECTORS_PIECE)};
}

/* A range of a tensor that rank 0 asks for. */
struct vectors_request {
    size_t tensor, first, count;
};

/* Sets `out` to the elements of the range that this rank has; returns how many they are. */
static size_t vectors_pack(const struct vectors_set *set, const struct vectors_request *request,
                           float *out)
{
    const struct vectors_tensor *tensor = &set->tensors[request->tensor];
    int rank = ivon_ranks_rank(set->ranks);
    size_t end = request->first + request->count, packed = 0;
    struct vectors_run run;
    for (size_t at = request->first; at < end; at += run.length) {
        run = vectors_run_at(set, tensor, at, end);
        if (run.owner != rank)
            continue;
        memcpy(out + packed, tensor->data + run.row * tensor->stride + (run.place - tensor->first),
               run.length * sizeof *out);
        packed += run.length;
    }
    return packed;
}

/* Answers rank 0 until it asks for nothing more. */
static void vectors_serve(const struct vectors_set *set, float *packed)
{
    struct vectors_request request;
    for (;;) {
        ranks_receive(set->ranks, 0, &request, sizeof request);
        if (request.tensor == END)
            return;
        ranks_send(set->ranks, 0, packed, vectors_pack(set, &request, packed) * sizeof *packed);
    }
}

/* The source of rank 0. */

struct vectors_source {
    struct vectors_set set;
    struct vectors_tensor *tensors; /* the set's */
    struct ivon_source *memory;
    float *packed;   /* a block: the elements of each rank, one behind the other */
    size_t *offsets; /* of each rank's */
    pthread_t thread;
    bool serving; /* the others wait for requests */
};

/* Sets `out` to a range of at most a block. */
static void vectors_read_block(struct vectors_source *source, const struct vectors_request *request,
                               float *out)
{
    const struct vectors_set *set = &source->set;
    const struct vectors_tensor *tensor = &set->tensors[request->tensor];
    size_t *offsets = source->offsets, end = request->first + request->count;
    int count = ivon_ranks_count(set->ranks);
    struct vectors_run run;
    memset(offsets, 0, ((size_t)count + 1) * sizeof *offsets);
    for (size_t at = request->first; at < end; at += run.length) {
        run = vectors_run_at(set, tensor, at, end);
        offsets[run.owner + 1] += run.length;
    }
    for (int r = 1; r < count; r++)
        if (offsets[r + 1])
            ranks_send(set->ranks, r, request, sizeof *request);
    vectors_pack(set, request, source->packed);
    for (int r = 1; r < count; r++) {
        size_t length = offsets[r + 1];
        offsets[r + 1] += offsets[r];
        if (length)
            ranks_receive(set->ranks, r, source->packed + offsets[r], length * sizeof *out);
    }
    for (size_t at = request->first; at < end; at += run.length) {
        run = vectors_run_at(set, tensor, at, end);
        memcpy(out + (at - request->first), source->packed + offsets[run.owner],
               run.length * sizeof *out);
        offsets[run.owner] += run.length;
    }
}

static const struct vectors_tensor *vectors_find(const struct vectors_source *source, size_t index)
{
    for (size_t i = 0; i < source->set.count; i++)
        if (source->tensors[i].index == index)
            return &source->tensors[i];
    return NULL;
}

static int vectors_read(void *self, size_t index, size_t first, size_t count, void *buffer,
                        struct ivon_error *error)
{
    struct vectors_source *source = self;
    const struct vectors_tensor *tensor = vectors_find(source, index);
    if (!tensor)
        return ivon_source_read(source->memory, index, first, count, buffer, error);
    if (!pthread_equal(source->thread, pthread_self()))
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "what ranks hold together is read by the thread alone that asked "
                              "for it");
    float *out = buffer;
    for (size_t done = 0; done < count; done += BLOCK) {
        size_t left = count - done;
        const struct vectors_request request = {(size_t)(tensor - source->tensors), first + done,
                                                left < BLOCK ? left : BLOCK};
        vectors_read_block(source, &request, out + done);
    }
    return 0;
}

static const void *vectors_view(void *self, size_t index)
{
    struct vectors_source *source = self;
    return vectors_find(source, index) ? NULL : ivon_source_view(source->memory, index, 0);
}

static void vectors_close(void *self)
{
    struct vectors_source *source = self;
    const struct vectors_request nothing = {END, 0, 0};
    for (int r = 1; r < ivon_ranks_count(source->set.ranks) && source->serving; r++)
        ranks_send(source->set.ranks, r, &nothing, sizeof nothing);
    ivon_source_close(source->memory);
    free(source->tensors);
    free(source->packed);
    free(source->offsets);
    free(source);
}

/* Makes a source that takes `memory` over in any case; *self is what it is made of. */
static int vectors_source_new(struct ivon_source **out, struct vectors_source **self,
                              const struct vectors_set *set, struct ivon_source *memory,
                              struct ivon_error *error)
{
    static const struct ivon_source_class class = {
        .read = vectors_read, .view = vectors_view, .close = vectors_close};
    size_t ranks = (size_t)ivon_ranks_count(set->ranks);
    struct tensor_list list = {0};
    struct vectors_source *source = calloc(1, sizeof *source);
    if (!source) {
        ivon_source_close(memory);
        return ivon_error_memory(error);
    }
    *source = (struct vectors_source){.set = *set,
                                      .tensors = calloc(set->count + 1, sizeof *source->tensors),
                                      .memory = memory,
                                      .packed = malloc(BLOCK * sizeof *source->packed),
                                      .offsets = calloc(ranks + 1, sizeof *source->offsets),
                                      .thread = pthread_self()};
    int code = source->tensors && source->packed && source->offsets ? 0 : ivon_error_memory(error);
    if (!code && set->count)
        memcpy(source->tensors, set->tensors, set->count * sizeof *source->tensors);
    source->set.tensors = source->tensors;
    for (size_t i = 0; i < ivon_source_tensor_count(memory) && !code; i++)
        code = tensor_list_append(&list, ivon_source_tensor(memory, i), error);
    if (!code)
        code = ivon_source_new(out, &class, source, ivon_source_path(memory),
                               ivon_source_header(memory), &list, error);
    tensor_list_release(&list);
    if (code)
        vectors_close(source);
    *self = code ? NULL : source;
    return code;
}

/* On another rank than rank 0. */
static int vectors_attend(const struct vectors_set *set, struct ivon_error *error)
{
    float *packed = malloc(BLOCK * sizeof *packed);
    int code = ivon_ranks_agree(set->ranks, packed ? 0 : ivon_error_memory(error), error);
    if (!code && packed)
        vectors_serve(set, packed);
    free(packed);
    return code;
}

int vectors_open(struct ivon_source **out, const struct vectors_set *set,
                 struct ivon_source *memory, int code, struct ivon_error *error)
{
    struct ivon_source *source = NULL;
    struct vectors_source *self = NULL;
    *out = set->ranks ? NULL : memory;
    if (!set->ranks)
        return code;
    if (ivon_ranks_rank(set->ranks))
        return vectors_attend(set, error);
    if (!code)
        code = vectors_source_new(&source, &self, set, memory, error);
    code = ivon_ranks_agree(set->ranks, code, error);
    if (code || !self) {
        ivon_source_close(source);
        return code;
    }
    self->serving = true;
    *out = source;
    return 0;
}
