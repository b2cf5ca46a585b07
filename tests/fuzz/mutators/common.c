#include "tests/fuzz/mutators/mutators.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static uint64_t state;

size_t pick(size_t bound)
{
    state = state * 6364136223846793005ULL + 1442695040888963407ULL;
    return bound ? (size_t)((state >> 33) % bound) : 0;
}

bool once_in(size_t times)
{
    return pick(times) == 0;
}

uint64_t other_number(uint64_t number)
{
    static const uint64_t edges[] = {
        0,          1,          2,          3,         4,          7,          8,
        9,          16,         64,         127,       128,        255,        256,
        1000,       65535,      65536,      INT32_MAX, 1ULL << 31, UINT32_MAX, 1ULL << 32,
        1ULL << 40, 1ULL << 61, 1ULL << 62, INT64_MAX, 1ULL << 63, UINT64_MAX, UINT64_MAX - 1};
    switch (pick(6)) {
    case 0:
        return number + 1;
    case 1:
        return number - 1;
    case 2:
        return number * (2 + pick(3));
    case 3:
        return number ^ 1ULL << pick(64);
    default:
        return edges[pick(sizeof edges / sizeof *edges)];
    }
}

struct buffer new_buffer(size_t size)
{
    struct buffer buffer = {.data = malloc(size + 1), .room = size};
    assert(buffer.data);
    return buffer;
}

void put(struct buffer *buffer, const void *data, size_t size)
{
    if (size > buffer->room - buffer->size) {
        buffer->overflows = true;
        return;
    }
    if (size)
        memcpy(buffer->data + buffer->size, data, size);
    buffer->size += size;
}

void put_number(struct buffer *buffer, uint64_t number, size_t size)
{
    uint8_t bytes[8];
    for (size_t i = 0; i < size; i++)
        bytes[i] = (uint8_t)(number >> (8 * i));
    put(buffer, bytes, size);
}

void put_mutated(struct buffer *buffer, const uint8_t *data, size_t size)
{
    size_t room = 2 * size + 16;
    struct buffer copy = new_buffer(room);
    put(&copy, data, size);
    put(buffer, copy.data, LLVMFuzzerMutate(copy.data, size, room));
    free(copy.data);
}

/* Of an input of several files, one is changed. */
#ifdef PARTS
#include "tests/fuzz/parts.h"

static bool mutate(struct buffer *out, const uint8_t *data, size_t size)
{
    struct part parts[PARTS];
    split_parts(parts, PARTS, data, size);
    size_t which = pick(PARTS);
    bool fine = true;
    for (size_t i = 0; i < PARTS; i++) {
        struct buffer part = new_buffer(out->room);
        const struct part *from = &parts[i == which && once_in(16) ? pick(PARTS) : i];
        if (i == which && from == &parts[i])
            fine = mutate_structure(&part, parts[i].data, parts[i].size);
        else
            put(&part, from->data, from->size);
        put_number(out, part.size, 4);
        put(out, part.data, part.size);
        out->overflows |= part.overflows;
        free(part.data);
    }
    return fine;
}
#else
static bool mutate(struct buffer *out, const uint8_t *data, size_t size)
{
    return mutate_structure(out, data, size);
}
#endif

/* One time in four the bytes are mutated as they are: a format's own frame is to be tried too. */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t room, unsigned seed)
{
    state = seed * 2654435761ULL + 1;
    pick(1);
    if (once_in(4))
        return LLVMFuzzerMutate(data, size, room);
    struct buffer out = new_buffer(room);
    size_t done = 0;
    for (size_t times = 1 + pick(3); times--;) {
        out.size = 0;
        out.overflows = false;
        if (!mutate(&out, data, size) || out.overflows || !out.size)
            break;
        memcpy(data, out.data, out.size);
        size = out.size;
        done++;
    }
    free(out.data);
    return done ? size : LLVMFuzzerMutate(data, size, room);
}
