#include <string.h>

#include "net/ops/elementwise/blockwise.h"
#include "net/ops/sum.h"

static size_t extent_from_end(const struct net_tensor *tensor, int i)
{
    return i < tensor->rank ? (size_t)tensor->shape[tensor->rank - 1 - i] : 1;
}

/* Appends an axis, or merges it with the previous one if one stride describes both. */
static void append_axis(struct broadcast *b, size_t extent, size_t stride)
{
    if (b->rank && stride == b->stride[b->rank - 1] * b->extent[b->rank - 1]) {
        b->extent[b->rank - 1] *= extent;
        return;
    }
    b->extent[b->rank] = extent;
    b->stride[b->rank] = stride;
    b->index[b->rank++] = 0;
}

void broadcast_begin(struct broadcast *b, const struct net_tensor *operand,
                     const struct net_tensor *output)
{
    b->data = operand->data;
    b->size = net_type_size(operand->type);
    b->offset = 0;
    b->rank = 0;
    b->same = SIZE_MAX;
    b->same_count = 0;
    size_t step = 1;
    for (int i = 0; i < output->rank; i++) {
        size_t extent = extent_from_end(output, i), own = extent_from_end(operand, i);
        if (extent != 1)
            append_axis(b, extent, own == 1 ? 0 : step);
        step *= own;
    }
    if (!b->rank)
        append_axis(b, 1, 1);
}

/* Advances by `count` elements, which stay within the first axis. */
static void broadcast_advance(struct broadcast *b, size_t count)
{
    b->index[0] += count;
    b->offset += count * b->stride[0];
    for (int i = 0; i + 1 < b->rank && b->index[i] == b->extent[i]; i++) {
        b->offset -= b->extent[i] * b->stride[i];
        b->index[i] = 0;
        b->index[i + 1]++;
        b->offset += b->stride[i + 1];
    }
}

static size_t broadcast_run_length(const struct broadcast *b, size_t count)
{
    size_t left = b->extent[0] - b->index[0];
    return left < count ? left : count;
}

static void broadcast_fill(void *out, const void *element, size_t size, size_t count)
{
    if (size == 1) {
        memset(out, *(const unsigned char *)element, count);
    } else if (size == sizeof(float)) {
        float value = *(const float *)element, *floats = out;
        for (size_t i = 0; i < count; i++)
            floats[i] = value;
    } else {
        int64_t value = *(const int64_t *)element, *integers = out;
        for (size_t i = 0; i < count; i++)
            integers[i] = value;
    }
}

static const void *repeat(struct broadcast *b, size_t count)
{
    if (b->same != b->offset || b->same_count < count) {
        /* fill a whole block if the first axis continues */
        size_t whole = BLOCK_BYTES / b->size, left = b->extent[0] - b->index[0];
        b->same_count = left < whole ? left : whole;
        b->same = b->offset;
        broadcast_fill(b->scratch, b->data + b->offset * b->size, b->size, b->same_count);
    }
    broadcast_advance(b, count);
    return b->scratch;
}

const void *broadcast_next(struct broadcast *b, size_t count)
{
    const unsigned char *at = b->data + b->offset * b->size;
    if (broadcast_run_length(b, count) == count) {
        if (b->stride[0] == 0)
            return repeat(b, count);
        broadcast_advance(b, count);
        return at;
    }
    b->same = SIZE_MAX;
    for (size_t done = 0, run; done < count; done += run) {
        run = broadcast_run_length(b, count - done);
        at = b->data + b->offset * b->size;
        if (b->stride[0] == 0)
            broadcast_fill(b->scratch + done * b->size, at, b->size, run);
        else
            memcpy(b->scratch + done * b->size, at, run * b->size);
        broadcast_advance(b, run);
    }
    return b->scratch;
}

void broadcast_add(struct broadcast *b, const float *values, size_t count, double *sums)
{
    for (size_t run; count; count -= run, values += run) {
        run = broadcast_run_length(b, count);
        if (b->stride[0] == 0)
            sums[b->offset] += net_sum(values, run);
        else
            for (size_t i = 0; i < run; i++)
                sums[b->offset + i] += (double)values[i];
        broadcast_advance(b, run);
    }
}
