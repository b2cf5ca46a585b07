#include "formats/io/zip.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"

/* Sizes of the fixed parts of the records, and the signatures that they begin with. */
enum {
    LOCAL_SIZE = 30,
    CENTRAL_SIZE = 46,
    END_SIZE = 22,
    LOCATOR64_SIZE = 20,
    END64_SIZE = 56,
    COMMENT_MAX = 65535,
    ENTRIES_MAX = 1 << 20,
    LOCAL = 0x04034b50,
    CENTRAL = 0x02014b50,
    END = 0x06054b50,
    LOCATOR64 = 0x07064b50,
    END64 = 0x06064b50,
};

struct zip_archive {
    const struct mapped_file *file;
    struct zip_entry *entries;
    const struct zip_entry **by_name; /* sorted */
    size_t count;
    uint64_t directory, directory_size;
};

static uint16_t u16(const unsigned char *at)
{
    uint16_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

static uint32_t u32(const unsigned char *at)
{
    uint32_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

static uint64_t u64(const unsigned char *at)
{
    uint64_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

static int zip_damaged(const struct zip_archive *archive, const char *what,
                       struct ivon_error *error)
{
    return ivon_error_set(error, IVON_ERROR_DATA, "%s: damaged zip archive: %s",
                          archive->file->path, what);
}

bool zip_recognise(const struct mapped_file *file)
{
    return file->size >= END_SIZE && (u32(file->data) == LOCAL || u32(file->data) == END);
}

/* The record at the file's end that a comment of the remaining length follows; null if none. */
static const unsigned char *zip_find_end(const struct mapped_file *file)
{
    for (uint64_t comment = 0; comment <= COMMENT_MAX && comment + END_SIZE <= file->size;
         comment++) {
        const unsigned char *end = file->data + (file->size - END_SIZE - comment);
        if (u32(end) == END && u16(end + 20) == comment)
            return end;
    }
    return NULL;
}

/* The Zip64 record, where a locator in front of the end record points at one; null if none. */
static const unsigned char *find_end64(const struct mapped_file *file, uint64_t end)
{
    if (end < LOCATOR64_SIZE || u32(file->data + end - LOCATOR64_SIZE) != LOCATOR64)
        return NULL;
    uint64_t offset = u64(file->data + end - LOCATOR64_SIZE + 8);
    uint64_t last = end - LOCATOR64_SIZE;
    if (last < END64_SIZE || offset > last - END64_SIZE || u32(file->data + offset) != END64)
        return NULL;
    return file->data + offset;
}

static int find_directory(struct zip_archive *archive, uint64_t *entries, struct ivon_error *error)
{
    const struct mapped_file *file = archive->file;
    const unsigned char *end = zip_find_end(file);
    if (!end)
        return zip_damaged(archive, "it has no directory, as when it is cut off", error);
    uint64_t limit = (uint64_t)(end - file->data);
    const unsigned char *end64 = find_end64(file, limit);
    uint32_t disks;
    if (end64) {
        disks = u32(end64 + 16) | u32(end64 + 20);
        *entries = u64(end64 + 32);
        archive->directory_size = u64(end64 + 40);
        archive->directory = u64(end64 + 48);
        limit = (uint64_t)(end64 - file->data);
    } else {
        disks = (uint32_t)u16(end + 4) | u16(end + 6);
        *entries = u16(end + 10);
        archive->directory_size = u32(end + 12);
        archive->directory = u32(end + 16);
    }
    if (disks)
        return zip_damaged(archive, "it is one part of several", error);
    if (archive->directory > limit || archive->directory_size > limit - archive->directory)
        return zip_damaged(archive, "its directory lies outside of it", error);
    if (*entries > ENTRIES_MAX || *entries > archive->directory_size / CENTRAL_SIZE)
        return zip_damaged(archive, "its directory is smaller than its entries", error);
    return 0;
}

/* Takes from the Zip64 field, among the extra ones, the values that did not fit elsewhere. */
static bool read_zip64(struct zip_entry *entry, const unsigned char *extra, size_t size)
{
    uint64_t *const values[] = {&entry->size, &entry->stored_size, &entry->header};
    while (size >= 4 && u16(extra) != 1) {
        size_t skip = (size_t)u16(extra + 2) + 4;
        if (skip > size)
            return false;
        extra += skip;
        size -= skip;
    }
    size_t left = size >= 4 ? u16(extra + 2) : 0;
    if (size >= 4 && left > size - 4)
        return false;
    const unsigned char *at = extra + 4;
    for (size_t i = 0; i < 3; i++) {
        if (*values[i] != UINT32_MAX)
            continue;
        if (left < 8)
            return false;
        *values[i] = u64(at);
        at += 8;
        left -= 8;
    }
    return true;
}

/* Parses one entry of the directory; *size is what it takes there, of `left` bytes. */
static int zip_read_entry(const struct zip_archive *archive, struct zip_entry *entry,
                          const unsigned char *at, uint64_t left, uint64_t *size,
                          struct ivon_error *error)
{
    if (left < CENTRAL_SIZE || u32(at) != CENTRAL)
        return zip_damaged(archive, "an entry of its directory is no such thing", error);
    size_t name = u16(at + 28), extra = u16(at + 30), comment = u16(at + 32);
    *size = CENTRAL_SIZE + name + extra + comment;
    if (*size > left || memchr(at + CENTRAL_SIZE, '\0', name))
        return zip_damaged(archive, "an entry of its directory has an impossible name", error);
    *entry = (struct zip_entry){.name = strndup((const char *)at + CENTRAL_SIZE, name),
                                .deflated = u16(at + 10) == 8,
                                .crc = u32(at + 16),
                                .stored_size = u32(at + 20),
                                .size = u32(at + 24),
                                .header = u32(at + 42)};
    if (!entry->name)
        return ivon_error_memory(error);
    if (u16(at + 8) & 1)
        entry->refused = "is encrypted";
    else if (u16(at + 10) != 0 && !entry->deflated)
        entry->refused = "is compressed by another method than deflate";
    bool fits = entry->size != UINT32_MAX && entry->stored_size != UINT32_MAX &&
                entry->header != UINT32_MAX;
    if (!fits && !read_zip64(entry, at + CENTRAL_SIZE + name, extra))
        return zip_damaged(archive, "an entry of its directory lacks a size", error);
    return 0;
}

static int zip_compare(const void *a, const void *b)
{
    const struct zip_entry *const *left = a, *const *right = b;
    return strcmp((*left)->name, (*right)->name);
}

static int read_directory(struct zip_archive *archive, uint64_t count, struct ivon_error *error)
{
    const unsigned char *at = archive->file->data + archive->directory;
    uint64_t left = archive->directory_size, size = 0;
    archive->entries = calloc(count ? count : 1, sizeof *archive->entries);
    archive->by_name = calloc(count ? count : 1, sizeof *archive->by_name);
    if (!archive->entries || !archive->by_name)
        return ivon_error_memory(error);
    for (; archive->count < count; at += size, left -= size) {
        struct zip_entry *entry = &archive->entries[archive->count];
        archive->by_name[archive->count++] = entry;
        int code = zip_read_entry(archive, entry, at, left, &size, error);
        if (code)
            return code;
    }
    qsort(archive->by_name, count, sizeof *archive->by_name, zip_compare);
    for (size_t i = 1; i < count; i++)
        if (zip_compare(&archive->by_name[i - 1], &archive->by_name[i]) == 0)
            return ivon_error_set(error, IVON_ERROR_DATA,
                                  "%s: damaged zip archive: '%s' occurs "
                                  "twice",
                                  archive->file->path, archive->by_name[i]->name);
    return 0;
}

int zip_open(struct zip_archive **out, const struct mapped_file *file, struct ivon_error *error)
{
    uint64_t count = 0;
    struct zip_archive *archive = calloc(1, sizeof *archive);
    if (!archive)
        return ivon_error_memory(error);
    archive->file = file;
    int code = find_directory(archive, &count, error);
    if (!code)
        code = read_directory(archive, count, error);
    if (code) {
        zip_close(archive);
        return code;
    }
    *out = archive;
    return 0;
}

void zip_close(struct zip_archive *archive)
{
    if (!archive)
        return;
    for (size_t i = 0; i < archive->count; i++)
        free(archive->entries[i].name);
    free(archive->entries);
    free(archive->by_name);
    free(archive);
}

const struct zip_entry *zip_entries(const struct zip_archive *archive, size_t *count)
{
    *count = archive->count;
    return archive->entries;
}

ptrdiff_t zip_find(const struct zip_archive *archive, const char *name)
{
    size_t low = 0, high = archive->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(archive->by_name[middle]->name, name);
        if (order == 0)
            return archive->by_name[middle] - archive->entries;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return -1;
}

/* The first of an entry's bytes, behind its own header and in front of the directory; null if
   impossible. */
static const unsigned char *zip_locate(const struct zip_archive *archive,
                                       const struct zip_entry *entry)
{
    uint64_t left = archive->directory;
    if (left < LOCAL_SIZE || entry->header > left - LOCAL_SIZE)
        return NULL;
    const unsigned char *header = archive->file->data + entry->header;
    left -= entry->header + LOCAL_SIZE;
    uint64_t skip = (uint64_t)u16(header + 26) + u16(header + 28);
    if (u32(header) != LOCAL || skip > left || entry->stored_size > left - skip ||
        (!entry->deflated && entry->size != entry->stored_size))
        return NULL;
    return header + LOCAL_SIZE + skip;
}

int zip_entry_open(struct bytes **bytes, const struct zip_archive *archive, size_t index,
                   struct ivon_error *error)
{
    const struct zip_entry *entry = &archive->entries[index];
    const char *path = archive->file->path;
    if (entry->refused)
        return ivon_error_set(error, IVON_ERROR_DATA, "%s: '%s' %s", path, entry->name,
                              entry->refused);
    struct bytes_origin origin = {.file = archive->file,
                                  .data = zip_locate(archive, entry),
                                  .data_size = entry->stored_size,
                                  .coding = entry->deflated ? BYTES_DEFLATED : BYTES_STORED,
                                  .size = entry->size,
                                  .crc = entry->crc};
    if (!origin.data)
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: damaged zip archive: '%s' is not where "
                              "its directory says",
                              path, entry->name);
    size_t size = strlen(path) + strlen(entry->name) + sizeof ": ''";
    char *name = malloc(size);
    if (!name)
        return ivon_error_memory(error);
    snprintf(name, size, "%s: '%s'", path, entry->name);
    origin.name = name;
    int code = bytes_open(bytes, &origin, error);
    free(name);
    return code;
}
