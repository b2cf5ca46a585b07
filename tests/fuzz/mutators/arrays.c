/* Arrays in files of their own: npy, IDX, and either behind gzip, whose checksum and size
   follow. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "tests/fuzz/mutators/mutators.h"

static void put_idx(struct buffer *out, const uint8_t *data, size_t size)
{
    size_t extent = 4 + 4 * pick(size > 3 ? data[3] : 0);
    if (size < 8 || extent > size - 4 || once_in(4)) {
        put_mutated(out, data, size);
        return;
    }
    uint64_t number = 0;
    for (size_t i = 0; i < 4; i++)
        number = number << 8 | data[extent + i];
    number = other_number(number);
    uint8_t changed[4] = {(uint8_t)(number >> 24), (uint8_t)(number >> 16), (uint8_t)(number >> 8),
                          (uint8_t)number};
    put(out, data, extent);
    put(out, changed, 4);
    put(out, data + extent + 4, size - extent - 4);
}

static void put_array(struct buffer *out, const uint8_t *data, size_t size)
{
    if (!mutate_npy(out, data, size))
        put_idx(out, data, size);
}

static bool run_gzip(struct buffer *out, const struct buffer *in, bool deflates)
{
    z_stream stream = {.next_in = in->data,
                       .avail_in = (uInt)in->size,
                       .next_out = out->data,
                       .avail_out = (uInt)out->room};
    int code = deflates
                   ? deflateInit2(&stream, 1, Z_DEFLATED, MAX_WBITS + 16, 8, Z_DEFAULT_STRATEGY)
                   : inflateInit2(&stream, MAX_WBITS + 16);
    assert(code == Z_OK);
    code = deflates ? deflate(&stream, Z_FINISH) : inflate(&stream, Z_FINISH);
    out->size = (size_t)stream.total_out;
    if (deflates)
        deflateEnd(&stream);
    else
        inflateEnd(&stream);
    return code == Z_STREAM_END;
}

bool mutate_structure(struct buffer *out, const uint8_t *data, size_t size)
{
    enum { CONTENT_MAX = 1 << 16 };
    if (size < 4)
        return false;
    if (data[0] != 0x1f || data[1] != 0x8b) {
        put_array(out, data, size);
        return true;
    }
    static uint8_t inflated[CONTENT_MAX], room[2 * CONTENT_MAX];
    struct buffer content = {.data = inflated, .room = sizeof inflated};
    struct buffer changed = {.data = room, .room = sizeof room}, packed = new_buffer(size);
    put(&packed, data, size);
    bool fine = run_gzip(&content, &packed, false) && content.size;
    if (fine) {
        put_array(&changed, content.data, content.size);
        out->overflows |= !run_gzip(out, &changed, true);
    }
    free(packed.data);
    return fine;
}
