#include "formats/io/bytes.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <zlib.h>

#include "core/error.h"

enum { PIECE = 1 << 30, SCRATCH = 1 << 14 };

struct bytes {
    struct bytes_origin origin; /* owns its name */
    uint64_t size;
    bool size_known;
    z_stream stream; /* unless stored */
    bool open;
    uint64_t consumed; /* of the data, by the stream */
    uint64_t position; /* of the next byte that comes out */
    uint32_t crc;      /* of all that came out */
};

static int bytes_damaged(const struct bytes *bytes, const char *why, struct ivon_error *error)
{
    return ivon_error_set(error, IVON_ERROR_DATA, "%s: damaged compressed data: %s",
                          bytes->origin.name, why);
}

int bytes_open(struct bytes **out, const struct bytes_origin *origin, struct ivon_error *error)
{
    struct bytes *bytes = calloc(1, sizeof *bytes);
    if (!bytes)
        return ivon_error_memory(error);
    bytes->origin = *origin;
    bytes->origin.name = strdup(origin->name);
    bool fine = bytes->origin.name != NULL;
    if (fine && origin->coding != BYTES_STORED)
        fine = bytes->open = inflateInit2(&bytes->stream, origin->coding == BYTES_GZIPPED
                                                              ? 16 + MAX_WBITS
                                                              : -MAX_WBITS) == Z_OK;
    if (!fine) {
        bytes_close(bytes);
        return ivon_error_memory(error);
    }
    uint64_t most;
    if (__builtin_mul_overflow(origin->data_size, (uint64_t)DEFLATE_EXPANSION, &most))
        most = UINT64_MAX;
    bytes->size_known = origin->coding != BYTES_GZIPPED;
    bytes->size = origin->coding == BYTES_STORED     ? origin->data_size
                  : origin->coding == BYTES_DEFLATED ? origin->size
                                                     : most;
    if (bytes->size > most) {
        bytes_close(bytes);
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: is said to hold %llu bytes, more than "
                              "its %llu can expand to",
                              origin->name, (unsigned long long)origin->size,
                              (unsigned long long)origin->data_size);
    }
    *out = bytes;
    return 0;
}

void bytes_close(struct bytes *bytes)
{
    if (!bytes)
        return;
    if (bytes->open)
        inflateEnd(&bytes->stream);
    free((char *)bytes->origin.name);
    free(bytes);
}

const char *bytes_name(const struct bytes *bytes)
{
    return bytes->origin.name;
}

uint64_t bytes_size(const struct bytes *bytes)
{
    return bytes->size;
}

const unsigned char *bytes_view(const struct bytes *bytes)
{
    return bytes->origin.coding == BYTES_STORED ? bytes->origin.data : NULL;
}

int bytes_expect(struct bytes *bytes, uint64_t size, struct ivon_error *error)
{
    if (size > bytes->size || (bytes->size_known && size != bytes->size))
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: has %s%llu bytes, expected %llu by its own account",
                              bytes->origin.name, bytes->size_known ? "" : "at most ",
                              (unsigned long long)bytes->size, (unsigned long long)size);
    bytes->size = size;
    bytes->size_known = true;
    return 0;
}

/* Begins the gzip member that follows the one that ended; false if there is none. */
static bool next_member(struct bytes *bytes)
{
    const unsigned char *next = bytes->origin.data + bytes->consumed;
    return bytes->origin.coding == BYTES_GZIPPED &&
           bytes->origin.data_size - bytes->consumed >= 2 && next[0] == 0x1f && next[1] == 0x8b &&
           inflateReset(&bytes->stream) == Z_OK;
}

/* Inflates up to `size` bytes, of which *done come; fewer, and no failure, at the end. */
static int inflate_some(struct bytes *bytes, unsigned char *out, size_t size, size_t *done,
                        struct ivon_error *error)
{
    z_stream *stream = &bytes->stream;
    for (*done = 0; *done < size;) {
        uint64_t left = bytes->origin.data_size - bytes->consumed;
        uInt given = (uInt)(left < PIECE ? left : PIECE);
        uInt wanted = (uInt)(size - *done < PIECE ? size - *done : PIECE);
        stream->next_in = (Bytef *)bytes->origin.data + bytes->consumed;
        stream->avail_in = given;
        stream->next_out = out + *done;
        stream->avail_out = wanted;
        int status = inflate(stream, Z_NO_FLUSH);
        size_t produced = wanted - stream->avail_out;
        bytes->consumed += given - stream->avail_in;
        bytes->crc = (uint32_t)crc32(bytes->crc, out + *done, (uInt)produced);
        bytes->position += produced;
        *done += produced;
        if (status == Z_STREAM_END && !next_member(bytes))
            return 0;
        if (status == Z_BUF_ERROR)
            return bytes_damaged(bytes, "they end too early", error);
        if (status == Z_MEM_ERROR)
            return ivon_error_memory(error);
        if (status != Z_OK && status != Z_STREAM_END)
            return bytes_damaged(bytes, stream->msg ? stream->msg : "they cannot be inflated",
                                 error);
    }
    return 0;
}

static int inflate_all(struct bytes *bytes, unsigned char *out, size_t size,
                       struct ivon_error *error)
{
    size_t done;
    int code = inflate_some(bytes, out, size, &done, error);
    if (!code && done < size)
        code = bytes_damaged(bytes, "there are fewer than they should be", error);
    return code;
}

/* Moves to where `offset` comes next. */
static int bytes_seek(struct bytes *bytes, uint64_t offset, struct ivon_error *error)
{
    unsigned char scratch[SCRATCH];
    int code = 0;
    if (offset < bytes->position) {
        if (inflateReset(&bytes->stream) != Z_OK)
            return ivon_error_set(error, IVON_ERROR_INTERNAL, "%s: cannot start again",
                                  bytes->origin.name);
        bytes->consumed = bytes->position = 0;
        bytes->crc = 0;
    }
    while (bytes->position < offset && !code) {
        uint64_t left = offset - bytes->position;
        code = inflate_all(bytes, scratch, left < SCRATCH ? (size_t)left : SCRATCH, error);
    }
    return code;
}

/* After the last byte: that it was the last, and, by the checksum, that all were right. zlib itself
   checks gzip's. */
static int check_end(struct bytes *bytes, struct ivon_error *error)
{
    unsigned char beyond;
    size_t done;
    uint32_t crc = bytes->crc;
    int code = inflate_some(bytes, &beyond, 1, &done, error);
    if (!code && done)
        code = bytes_damaged(bytes, "there are more than they should be", error);
    if (!code && bytes->origin.coding == BYTES_DEFLATED && crc != bytes->origin.crc)
        code = bytes_damaged(bytes, "their checksum differs", error);
    return code;
}

/* Bytes [from, to) of the data were read. */
static void bytes_let_go_range(const struct bytes *bytes, uint64_t from, uint64_t to)
{
    uint64_t start = (uint64_t)(bytes->origin.data - bytes->origin.file->data);
    if (to > from)
        mapped_advise(bytes->origin.file, start + from, to - from, MADV_DONTNEED);
}

void bytes_let_go(const struct bytes *bytes)
{
    bytes_let_go_range(bytes, 0, bytes->origin.data_size);
}

int bytes_read(struct bytes *bytes, uint64_t offset, size_t size, void *out,
               struct ivon_error *error)
{
    if (offset > bytes->size || size > bytes->size - offset)
        return ivon_error_set(error, IVON_ERROR_DATA, "%s: has %llu bytes, expected %llu or more",
                              bytes->origin.name, (unsigned long long)bytes->size,
                              (unsigned long long)offset + size);
    if (!size)
        return 0;
    if (bytes->origin.coding == BYTES_STORED) {
        memcpy(out, bytes->origin.data + offset, size);
        bytes_let_go_range(bytes, offset, offset + size);
        return 0;
    }
    uint64_t before = bytes->consumed;
    int code = bytes_seek(bytes, offset, error);
    if (!code)
        code = inflate_all(bytes, out, size, error);
    if (!code && bytes->size_known && bytes->position == bytes->size)
        code = check_end(bytes, error);
    bytes_let_go_range(bytes, before < bytes->consumed ? before : 0, bytes->consumed);
    return code;
}
