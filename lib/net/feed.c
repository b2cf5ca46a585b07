#include "net/feed.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/examples.h"
#include "core/memory.h"
#include "core/stream.h"

enum { LIST_SIZE = 256 };

static const char *field_text(const struct ivon_examples *examples, const struct ivon_field *field,
                              char text[256])
{
    struct net_tensor shape = {.rank = field->rank + 1};
    shape.shape[0] = (int64_t)ivon_examples_count(examples);
    memcpy(shape.shape + 1, field->shape, (size_t)field->rank * sizeof field->shape[0]);
    return net_shape_text(&shape, text);
}

/* Compares extents; ignores those of 1. */
static bool same_without_ones(const struct net_tensor *input, const struct ivon_field *field)
{
    int i = 1, j = 0;
    for (;;) {
        while (i < input->rank && input->shape[i] == 1)
            i++;
        while (j < field->rank && field->shape[j] == 1)
            j++;
        if (i == input->rank || j == field->rank)
            return i == input->rank && j == field->rank;
        if (input->shape[i++] != field->shape[j++])
            return false;
    }
}

static bool same_extents(const struct net_tensor *input, const struct ivon_field *field)
{
    if (input->rank != field->rank + 1)
        return false;
    for (int i = 1; i < input->rank; i++)
        if (input->shape[i] >= 0 && input->shape[i] != field->shape[i - 1])
            return false;
    return true;
}

/* Free extents match any field. Without free extents, equal element counts of one example
   suffice. */
static bool feed_agrees(const struct net_tensor *input, const struct ivon_field *field)
{
    size_t count;
    if (input->rank < 1)
        return false;
    if (same_extents(input, field))
        return true;
    for (int i = 1; i < input->rank; i++)
        if (input->shape[i] < 0)
            return false;
    bool flat = input->rank == 2 || field->rank == 1;
    return same_without_ones(input, field) ||
           (flat && tensor_shape_count(input->rank - 1, input->shape + 1, 1, &count) &&
            count == field->count);
}

static ptrdiff_t find_field(const struct feed *feed, const char *input,
                            const struct ivon_feed_name *names, size_t name_count)
{
    for (size_t i = 0; i < name_count; i++)
        if (strcmp(names[i].input, input) == 0)
            return ivon_examples_find(feed->examples, names[i].field);
    if (feed->network->input_count == 1 && !name_count)
        return ivon_examples_field_count(feed->examples) ? 0 : -1;
    return ivon_examples_find(feed->examples, input);
}

static int pair_input(struct feed *feed, size_t index, const struct ivon_feed_name *names,
                      size_t name_count, struct ivon_error *error)
{
    char wanted[256], found[256];
    const struct net_value *value = &feed->network->values[feed->network->inputs[index]];
    struct feed_field *input = &feed->inputs[index];
    ptrdiff_t at = find_field(feed, value->name, names, name_count);
    if (at < 0)
        return ivon_error_set(
            error, IVON_ERROR_DATA,
            "%s: input '%s' of the graph is neither a tensor of the checkpoint nor "
            "an array of %s",
            feed->network->path, value->name, ivon_examples_path(feed->examples));
    const struct ivon_field *field = ivon_examples_field(feed->examples, (size_t)at);
    if (!feed_agrees(&value->tensor, field))
        return ivon_error_hint(
            error, examples_extents_hint(feed->examples),
            ivon_error_set(error, IVON_ERROR_DATA,
                           "%s: array '%s' has shape %s, input '%s' of %s takes %s",
                           ivon_examples_path(feed->examples), field->name,
                           field_text(feed->examples, field, found), value->name,
                           feed->network->path, net_shape_text(&value->tensor, wanted)));
    int64_t extent = value->tensor.shape[0];
    if (extent >= 0 && feed->fixed >= 0 && extent != feed->fixed)
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: inputs take %lld and %lld examples at a time",
                              feed->network->path, (long long)feed->fixed, (long long)extent);
    if (extent >= 0)
        feed->fixed = extent;
    input->field = (size_t)at;
    input->type = value->tensor.type;
    input->count = field->count;
    return 0;
}

/* ", but 'a', 'b'". */
static const char *list_inputs(const struct ivon_network *network, char list[LIST_SIZE])
{
    size_t used = 0;
    list[0] = '\0';
    for (size_t i = 0; i < network->input_count && used < LIST_SIZE; i++)
        used += (size_t)snprintf(list + used, LIST_SIZE - used, "%s'%s'", i ? ", " : ", but ",
                                 network->values[network->inputs[i]].name);
    return list;
}

static int feed_check_names(const struct feed *feed, const struct ivon_feed_name *names,
                            size_t name_count, struct ivon_error *error)
{
    char list[LIST_SIZE];
    for (size_t i = 0; i < name_count; i++) {
        bool known = false;
        for (size_t j = 0; j < feed->network->input_count; j++)
            known |= strcmp(feed->network->values[feed->network->inputs[j]].name, names[i].input) ==
                     0;
        if (!known)
            return ivon_error_set(error, IVON_ERROR_ARGUMENT, "%s: the graph has no input '%s'%s",
                                  feed->network->path, names[i].input,
                                  list_inputs(feed->network, list));
    }
    return 0;
}

int feed_open(struct feed *feed, const struct ivon_network *network, struct ivon_examples *examples,
              const struct ivon_feed_name *names, size_t name_count, struct ivon_error *error)
{
    *feed = (struct feed){.network = network, .examples = examples, .fixed = -1};
    feed->inputs = calloc(network->input_count + 1, sizeof *feed->inputs);
    int code = feed->inputs ? 0 : ivon_error_memory(error);
    if (!code && !network->input_count)
        code = ivon_error_set(error, IVON_ERROR_DATA, "%s: the graph takes no data", network->path);
    if (!code)
        code = feed_check_names(feed, names, name_count, error);
    for (size_t i = 0; i < network->input_count && !code; i++)
        code = pair_input(feed, i, names, name_count, error);
    if (!code && feed->fixed == 0)
        code = ivon_error_set(error, IVON_ERROR_DATA, "%s: the graph takes 0 examples at a time",
                              network->path);
    if (code)
        feed_close(feed);
    return code;
}

void feed_close(struct feed *feed)
{
    for (size_t i = 0; feed->inputs && i < feed->network->input_count; i++)
        free(feed->inputs[i].data);
    free(feed->inputs);
    *feed = (struct feed){0};
}

int feed_expect_single(const struct feed *feed, struct ivon_error *error)
{
    if (feed->fixed <= 1)
        return 0;
    return ivon_error_set(error, IVON_ERROR_DATA,
                          "%s: takes exactly %lld examples at a time, which cannot be told apart: "
                          "export it with a free batch axis, or for one example",
                          feed->network->path, (long long)feed->fixed);
}

size_t feed_example_size(const struct feed *feed)
{
    size_t size = 0;
    for (size_t i = 0; i < feed->network->input_count; i++)
        size += feed->inputs[i].count * net_type_size(feed->inputs[i].type);
    return size;
}

int feed_shapes(const struct feed *feed, int64_t tile, struct net_tensor *inputs,
                struct ivon_error *error)
{
    for (size_t i = 0; i < feed->network->input_count; i++) {
        const struct net_tensor *declared = &feed->network->values[feed->network->inputs[i]].tensor;
        const struct ivon_field *field = ivon_examples_field(feed->examples, feed->inputs[i].field);
        int64_t shape[IVON_RANK_MAX] = {tile};
        for (int j = 1; j < declared->rank; j++)
            shape[j] = declared->shape[j] >= 0 ? declared->shape[j] : field->shape[j - 1];
        int code = net_tensor_set(&inputs[i], declared->type, declared->rank, shape, error);
        if (code)
            return code;
    }
    return 0;
}

int feed_check_shapes(const struct feed *feed, const struct feed *planned, struct ivon_error *error)
{
    const struct ivon_network *network = feed->network;
    size_t count = network->input_count;
    char found[256], expected[256];
    struct net_tensor *others = calloc(2 * count + 1, sizeof *others);
    if (!others)
        return ivon_error_memory(error);
    struct net_tensor *own = others + count;
    int code = feed_shapes(planned, 1, others, error);
    if (!code)
        code = feed_shapes(feed, 1, own, error);
    for (size_t i = 0; i < count && !code; i++)
        if (memcmp(own[i].shape, others[i].shape, (size_t)own[i].rank * sizeof *own[i].shape) != 0)
            code = ivon_error_set(
                error, IVON_ERROR_DATA, "%s: an example for input '%s' has shape %s, %s has %s",
                ivon_examples_path(feed->examples), network->values[network->inputs[i]].name,
                net_shape_text(&own[i], found), ivon_examples_path(planned->examples),
                net_shape_text(&others[i], expected));
    free(others);
    return code;
}

static int feed_reserve(struct feed *feed, size_t count, struct ivon_error *error)
{
    if (count <= feed->capacity)
        return 0;
    for (size_t i = 0; i < feed->network->input_count; i++) {
        struct feed_field *input = &feed->inputs[i];
        size_t size;
        if (__builtin_mul_overflow(count * net_type_size(input->type), input->count, &size) ||
            size > PTRDIFF_MAX)
            return ivon_error_memory(error);
        free(input->data);
        input->data = memory_aligned(size);
        if (!input->data)
            return ivon_error_memory(error);
    }
    feed->capacity = count;
    return 0;
}

/* Reads whole numbers, which have to be 0 or 1, a few examples at a time. */
static int feed_load_booleans(struct feed *feed, const struct feed_field *input, uint64_t first,
                              size_t count, struct ivon_error *error)
{
    enum { PIECE = 1 << 14 };
    size_t size = input->count ? input->count : 1, most = size < PIECE ? PIECE / size : 1;
    int64_t *numbers = calloc(most * size, sizeof *numbers);
    unsigned char *to = input->data;
    int code = numbers ? 0 : ivon_error_memory(error);
    for (size_t at = 0; at < count && !code; at += most) {
        size_t piece = count - at < most ? count - at : most;
        code = ivon_examples_read_i64(feed->examples, input->field, first + at, piece, numbers,
                                      error);
        for (size_t i = 0; i < piece * input->count && !code; i++) {
            *to++ = numbers[i] != 0;
            if (numbers[i] != 0 && numbers[i] != 1)
                code = ivon_error_set(
                    error, IVON_ERROR_DATA,
                    "%s: row %" PRIu64 ": '%s' holds %" PRId64 ", expected 0 or 1: the graph's "
                    "input is boolean",
                    ivon_examples_path(feed->examples), first + at + i / input->count,
                    ivon_examples_field(feed->examples, input->field)->name, numbers[i]);
        }
    }
    free(numbers);
    return code;
}

int feed_load(struct feed *feed, uint64_t first, size_t count, struct ivon_error *error)
{
    int code = feed_reserve(feed, count, error);
    for (size_t i = 0; i < feed->network->input_count && !code; i++) {
        struct feed_field *input = &feed->inputs[i];
        if (input->type == NET_FLOAT)
            code = ivon_examples_read_f32(feed->examples, input->field, first, count, input->data,
                                          error);
        else if (input->type == NET_INTEGER)
            code = ivon_examples_read_i64(feed->examples, input->field, first, count, input->data,
                                          error);
        else
            code = feed_load_booleans(feed, input, first, count, error);
    }
    feed->first = first;
    feed->count = count;
    return code;
}

void feed_tile(const struct feed *feed, size_t at, size_t tile, const void **inputs, void *scratch)
{
    char *to = scratch;
    size_t present = feed->count - at < tile ? feed->count - at : tile;
    for (size_t i = 0; i < feed->network->input_count; i++) {
        const struct feed_field *input = &feed->inputs[i];
        size_t size = input->count * net_type_size(input->type);
        const char *from = (const char *)input->data + at * size;
        inputs[i] = from;
        if (present == tile)
            continue;
        memcpy(to, from, present * size);
        for (size_t j = present; j < tile; j++)
            memcpy(to + j * size, from + (present - 1) * size, size);
        inputs[i] = to;
        to += memory_rounded(tile * size);
    }
}
