/* PNG: the chunks, with their lengths and checksums; the pixels deflated anew. JPEG has no
   checksums and is left to others. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "tests/fuzz/mutators/mutators.h"

enum { PIXELS_MAX = 1 << 16, HEAD = 8, FRAME = 12 /* length, kind and checksum */ };

static size_t big_endian(const uint8_t *at)
{
    return (size_t)at[0] << 24 | (size_t)at[1] << 16 | (size_t)at[2] << 8 | at[3];
}

static void put_big_endian(struct buffer *out, uint64_t number)
{
    const uint8_t bytes[] = {(uint8_t)(number >> 24), (uint8_t)(number >> 16),
                             (uint8_t)(number >> 8), (uint8_t)number};
    put(out, bytes, sizeof bytes);
}

static void put_chunk(struct buffer *out, const uint8_t *kind, const struct buffer *content)
{
    uLong sum = crc32(crc32(0, kind, 4), content->data, (uInt)content->size);
    put_big_endian(out, once_in(64) ? other_number(content->size) : content->size);
    put(out, kind, 4);
    put(out, content->data, content->size);
    put_big_endian(out, sum);
}

/* Changes the rows of pixels behind a chunk's compression; the chunk as it is where that fails. */
static void put_pixels(struct buffer *content, const uint8_t *data, size_t size)
{
    static uint8_t inflated[PIXELS_MAX], changed[PIXELS_MAX];
    uLongf length = sizeof inflated, room = content->room;
    struct buffer rows = {.data = changed, .room = sizeof changed};
    if (uncompress(inflated, &length, data, (uLong)size) != Z_OK) {
        put(content, data, size);
        return;
    }
    put_mutated(&rows, inflated, (size_t)length);
    content->overflows |= compress2(content->data, &room, rows.data, (uLong)rows.size, 1) != Z_OK;
    content->size = content->overflows ? 0 : (size_t)room;
}

bool mutate_structure(struct buffer *out, const uint8_t *data, size_t size)
{
    size_t chunks = 0, at = HEAD;
    if (size < HEAD + FRAME || data[0] != 0x89)
        return false;
    while (size - at >= FRAME && big_endian(data + at) <= size - at - FRAME) {
        at += FRAME + big_endian(data + at);
        chunks++;
    }
    put(out, data, HEAD);
    at = HEAD;
    for (size_t i = 0, chosen = pick(chunks); i < chunks; i++) {
        const uint8_t *kind = data + at + 4, *from = kind + 4;
        size_t length = big_endian(data + at);
        struct buffer content = new_buffer(out->room);
        if (i != chosen)
            put(&content, from, length);
        else if (memcmp(kind, "IDAT", 4) == 0 && !once_in(4))
            put_pixels(&content, from, length);
        else
            put_mutated(&content, from, length);
        if (i != chosen || !once_in(16)) /* else it is left out */
            put_chunk(out, kind, &content);
        out->overflows |= content.overflows;
        free(content.data);
        at += FRAME + length;
    }
    return chunks;
}
