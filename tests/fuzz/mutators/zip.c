/*
 * Zip archives, of npz and of PyTorch: one entry's content is changed, by what it holds, or the
 * entries are; then the archive is written anew with the sizes, checksums and places that it should
 * have.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "tests/fuzz/mutators/mutators.h"

enum { ENTRIES_MAX = 512, CONTENT_MAX = 1 << 20, CENTRAL = 46, LOCAL = 30, END = 22 };

struct entry {
    struct buffer name, content;
    bool deflated, kept;
};

struct archive {
    struct entry entries[ENTRIES_MAX];
    size_t count;
};

static size_t number_at(const uint8_t *at, size_t width)
{
    size_t number = 0;
    for (size_t i = 0; i < width; i++)
        number |= (size_t)at[i] << (8 * i);
    return number;
}

static struct buffer copy_of(const uint8_t *data, size_t size)
{
    struct buffer buffer = new_buffer(size);
    put(&buffer, data, size);
    return buffer;
}

/* Runs raw deflate one way or the other; what does not fit is cut off. */
static struct buffer inflated(const uint8_t *data, size_t size, size_t room)
{
    struct buffer out = new_buffer(room < CONTENT_MAX ? room : CONTENT_MAX);
    z_stream stream = {.next_in = (Bytef *)(uintptr_t)data,
                       .avail_in = (uInt)size,
                       .next_out = out.data,
                       .avail_out = (uInt)out.room};
    assert(inflateInit2(&stream, -MAX_WBITS) == Z_OK);
    inflate(&stream, Z_FINISH);
    out.size = (size_t)stream.total_out;
    inflateEnd(&stream);
    return out;
}

static struct buffer deflated(const struct buffer *content)
{
    struct buffer out = new_buffer(content->size + content->size / 8 + 64);
    z_stream stream = {.next_in = content->data,
                       .avail_in = (uInt)content->size,
                       .next_out = out.data,
                       .avail_out = (uInt)out.room};
    assert(deflateInit2(&stream, 1, Z_DEFLATED, -MAX_WBITS, 8, Z_DEFAULT_STRATEGY) == Z_OK);
    deflate(&stream, Z_FINISH);
    out.size = (size_t)stream.total_out;
    deflateEnd(&stream);
    return out;
}

/* Takes an entry of the directory; returns what it takes there, or 0 where it is none. */
static size_t take_entry(struct entry *entry, const uint8_t *at, size_t left, const uint8_t *data,
                         size_t size)
{
    if (left < CENTRAL || memcmp(at, "PK\1\2", 4) != 0)
        return 0;
    size_t name = number_at(at + 28, 2), header = number_at(at + 42, 4),
           stored = number_at(at + 20, 4);
    size_t whole = CENTRAL + name + number_at(at + 30, 2) + number_at(at + 32, 2);
    if (whole > left || header > size || size - header < LOCAL)
        return 0;
    size_t begin = header + LOCAL + number_at(data + header + 26, 2) +
                   number_at(data + header + 28, 2);
    if (begin > size)
        return 0;
    stored = stored < size - begin ? stored : size - begin;
    bool packed = number_at(at + 10, 2) == 8;
    *entry = (struct entry){.name = copy_of(at + CENTRAL, name),
                            .content = packed
                                           ? inflated(data + begin, stored, number_at(at + 24, 4))
                                           : copy_of(data + begin, stored),
                            .deflated = packed,
                            .kept = true};
    return whole;
}

static bool take_archive(struct archive *archive, const uint8_t *data, size_t size)
{
    size_t end = size < END ? 0 : size - END;
    while (end && memcmp(data + end, "PK\5\6", 4) != 0)
        end--;
    if (!end)
        return false;
    size_t at = number_at(data + end + 16, 4), count = number_at(data + end + 10, 2), length = 1;
    for (; at < end && archive->count < count && archive->count < ENTRIES_MAX - 1 && length;
         at += length) {
        length = take_entry(&archive->entries[archive->count], data + at, end - at, data, size);
        archive->count += length != 0;
    }
    return archive->count > 0;
}

static void free_entry(struct entry *entry)
{
    free(entry->name.data);
    free(entry->content.data);
}

static bool ends_in(const struct buffer *name, const char *suffix)
{
    size_t size = strlen(suffix);
    return name->size >= size && memcmp(name->data + name->size - size, suffix, size) == 0;
}

static void change_content(struct entry *entry)
{
    struct buffer *content = &entry->content, changed = new_buffer(2 * content->size + 4096);
    bool done = false;
    if (ends_in(&entry->name, ".pkl"))
        done = mutate_pickle(&changed, content->data, content->size);
    if (!done)
        done = mutate_npy(&changed, content->data, content->size);
    if (!done)
        put_mutated(&changed, content->data, content->size);
    free(content->data);
    *content = changed;
}

static void change_name(struct entry *entry, const struct entry *other)
{
    static const char *const known[] = {"ess.npy",
                                        "hessian/a.weight.npy",
                                        "buffers/a.npy",
                                        "momentum/scalar.npy",
                                        "ivon-posterior.npy",
                                        "provenance.npy",
                                        "model.onnx.npy",
                                        "archive/data.pkl",
                                        "archive/data/0",
                                        "archive/byteorder",
                                        "archive/version",
                                        "archive/constants.pkl",
                                        "a/b/data.pkl"};
    struct buffer name = new_buffer(2 * entry->name.size + other->name.size + 64);
    const char *text = known[pick(sizeof known / sizeof *known)];
    if (once_in(3))
        put(&name, text, strlen(text));
    else if (once_in(2))
        put(&name, other->name.data, other->name.size);
    else
        put_mutated(&name, entry->name.data, entry->name.size);
    free(entry->name.data);
    entry->name = name;
}

static void change(struct archive *archive)
{
    size_t at = pick(archive->count), other = pick(archive->count);
    for (size_t i = 0; i < archive->count && !once_in(4); i++) /* rather a pickle than a storage */
        if (ends_in(&archive->entries[i].name, ".pkl"))
            at = i;
    struct entry *entry = &archive->entries[at], *from = &archive->entries[other], *last;
    switch (pick(20)) {
    case 0:
        entry->kept = false;
        break;
    case 1: { /* one more */
        struct entry copy = {copy_of(entry->name.data, entry->name.size),
                             copy_of(from->content.data, from->content.size), from->deflated, true};
        last = &archive->entries[archive->count++];
        *last = copy;
        if (!once_in(4))
            change_name(last, entry);
        break;
    }
    case 2:
        change_name(entry, from);
        break;
    case 3: {
        struct entry swapped = *entry;
        *entry = *from;
        *from = swapped;
        break;
    }
    case 4:
        entry->deflated = !entry->deflated;
        break;
    default:
        change_content(entry);
    }
}

/* The part that both records of an entry have, with a number that is wrong now and then. */
static void put_common(struct buffer *out, const struct entry *entry, const struct buffer *stored)
{
    bool wrong = once_in(200);
    size_t field = pick(4);
    put_number(out, 20, 2);
    put_number(out, 0, 2);
    put_number(out, wrong && field == 0 ? other_number(8) : entry->deflated ? 8 : 0, 2);
    put_number(out, 0x00210000, 4);
    put_number(out, crc32(0, entry->content.data, (uInt)entry->content.size), 4);
    put_number(out, wrong && field == 1 ? other_number(stored->size) : stored->size, 4);
    put_number(out, wrong && field == 2 ? other_number(entry->content.size) : entry->content.size,
               4);
    put_number(out, wrong && field == 3 ? other_number(entry->name.size) : entry->name.size, 2);
    put_number(out, 0, 2);
}

static void put_entry(struct buffer *out, struct buffer *directory, const struct entry *entry)
{
    size_t begin = out->size;
    struct buffer stored = entry->deflated ? deflated(&entry->content)
                                           : copy_of(entry->content.data, entry->content.size);
    put(out, "PK\3\4", 4);
    put_common(out, entry, &stored);
    put(out, entry->name.data, entry->name.size);
    put(out, stored.data, stored.size);
    put(directory, "PK\1\2\x14", 6);
    put_common(directory, entry, &stored);
    put_number(directory, 0, 6);
    put_number(directory, 0, 4);
    put_number(directory, once_in(400) ? other_number(begin) : begin, 4);
    put(directory, entry->name.data, entry->name.size);
    free(stored.data);
}

static void put_archive(struct buffer *out, const struct archive *archive)
{
    struct buffer directory = new_buffer(out->room);
    size_t kept = 0;
    for (size_t i = 0; i < archive->count; i++) {
        if (!archive->entries[i].kept)
            continue;
        put_entry(out, &directory, &archive->entries[i]);
        kept++;
    }
    size_t begin = out->size;
    put(out, directory.data, directory.size);
    put(out, "PK\5\6\0\0\0", 8);
    put_number(out, kept, 2);
    put_number(out, kept, 2);
    put_number(out, directory.size, 4);
    put_number(out, begin, 4);
    put_number(out, 0, 2);
    out->overflows |= directory.overflows;
    free(directory.data);
}

bool mutate_structure(struct buffer *out, const uint8_t *data, size_t size)
{
    static struct archive archive;
    archive.count = 0;
    if (!take_archive(&archive, data, size))
        return false;
    change(&archive);
    put_archive(out, &archive);
    for (size_t i = 0; i < archive.count; i++)
        free_entry(&archive.entries[i]);
    return true;
}
