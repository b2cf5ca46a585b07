#include "formats/io/zip_writer.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "core/error.h"

/* Sizes of the records' fixed parts, and of fields among the extra ones; see PKWARE's APPNOTE. */
enum {
    LOCAL_SIZE = 30,
    CENTRAL_SIZE = 46,
    END_SIZE = 22,
    END64_SIZE = 56,
    LOCATOR64_SIZE = 20,
    FIELD_SIZE = 4,      /* a field's head */
    SIZES64 = 2 * 8,     /* of a local Zip64 field */
    PADDING_ID = 0xd935, /* alignment, as zipalign has it: u16 the alignment, padding */
    PADDING_MIN = FIELD_SIZE + 2,
    ZIP64_ID = 1,
    NAME_MAX_SIZE = UINT16_MAX,
    UTF8_FLAG = 1 << 11,
    VERSION = 20,
    VERSION64 = 45,
    UNIX = 3 << 8,
    MIDNIGHT_1980 = 0x21 << 16, /* the format's first moment: date and time */
    PIECE = 1 << 20,
};
static const uint32_t REGULAR_0644 = UINT32_C(0100644) << 16;

struct zip_planned {
    char *name;
    uint64_t header, content, size;
};

/* A record under construction. */
struct record {
    unsigned char *data;
    size_t size;
};

static void zip_writer_put(struct record *record, uint64_t value, size_t size)
{
    memcpy(record->data + record->size, &value, size); /* little-endian, as this machine is */
    record->size += size;
}

static bool wide(uint64_t value)
{
    return value >= UINT32_MAX;
}

static uint32_t zip_writer_narrow(uint64_t value)
{
    return wide(value) ? UINT32_MAX : (uint32_t)value;
}

int zip_writer_add(struct zip_writer *writer, const char *path, const char *name, uint64_t size,
                   uint64_t *offset, struct ivon_error *error)
{
    if (strlen(name) > NAME_MAX_SIZE)
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "%s: '%.80s...' is too long a name for a zip archive", path, name);
    if (writer->count == writer->capacity) {
        size_t capacity = writer->capacity ? 2 * writer->capacity : 64;
        struct zip_planned *grown = realloc(writer->entries, capacity * sizeof *grown);
        if (!grown)
            return ivon_error_memory(error);
        writer->entries = grown;
        writer->capacity = capacity;
    }
    struct zip_planned entry = {.name = strdup(name), .header = writer->end, .size = size};
    if (!entry.name)
        return ivon_error_memory(error);
    uint64_t before = entry.header + LOCAL_SIZE + strlen(name) + PADDING_MIN;
    if (wide(size))
        before += FIELD_SIZE + SIZES64;
    entry.content = (before + ZIP_ALIGNMENT - 1) / ZIP_ALIGNMENT * ZIP_ALIGNMENT;
    writer->entries[writer->count++] = entry;
    *offset = entry.content;
    if (size > INT64_MAX / 2 || entry.content > INT64_MAX / 2)
        return ivon_error_set(error, IVON_ERROR_ARGUMENT, "%s: too large for a file", path);
    writer->end = entry.content + size;
    return 0;
}

static uint16_t flags(const char *name)
{
    while (*name && (unsigned char)*name < 0x80)
        name++;
    return *name ? UTF8_FLAG : 0;
}

static size_t central_size(const struct zip_planned *entry)
{
    size_t values = (wide(entry->size) ? 2U : 0U) + wide(entry->header);
    return CENTRAL_SIZE + strlen(entry->name) + (values ? FIELD_SIZE + 8 * values : 0);
}

static uint64_t directory_size(const struct zip_writer *writer)
{
    uint64_t size = 0;
    for (size_t i = 0; i < writer->count; i++)
        size += central_size(&writer->entries[i]);
    return size;
}

static bool needs_end64(const struct zip_writer *writer, uint64_t directory)
{
    return writer->count >= UINT16_MAX || wide(writer->end) || wide(directory);
}

uint64_t zip_writer_size(const struct zip_writer *writer)
{
    uint64_t directory = directory_size(writer);
    return writer->end + directory + END_SIZE +
           (needs_end64(writer, directory) ? END64_SIZE + LOCATOR64_SIZE : 0);
}

/* Writes the fields that local and central headers have in common. */
static void put_common(struct record *record, const struct zip_planned *entry, uint32_t crc,
                       size_t extra)
{
    bool zip64 = wide(entry->size) || wide(entry->header);
    zip_writer_put(record, zip64 ? VERSION64 : VERSION, 2);
    zip_writer_put(record, flags(entry->name), 2);
    zip_writer_put(record, 0, 2); /* stored */
    zip_writer_put(record, MIDNIGHT_1980, 4);
    zip_writer_put(record, crc, 4);
    zip_writer_put(record, zip_writer_narrow(entry->size), 4);
    zip_writer_put(record, zip_writer_narrow(entry->size), 4);
    zip_writer_put(record, strlen(entry->name), 2);
    zip_writer_put(record, extra, 2);
}

static void put_name(struct record *record, const char *name)
{
    size_t length = strlen(name);
    memcpy(record->data + record->size, name, length);
    record->size += length;
}

/* Writes the header in front of an entry's content. */
static int write_local(const struct zip_planned *entry, uint32_t crc, unsigned char *buffer,
                       struct atomic_file *file, struct ivon_error *error)
{
    struct record record = {.data = buffer};
    size_t length = strlen(entry->name), total = (size_t)(entry->content - entry->header);
    size_t extra = total - LOCAL_SIZE - length;
    zip_writer_put(&record, 0x04034b50, 4);
    put_common(&record, entry, crc, extra);
    put_name(&record, entry->name);
    if (wide(entry->size)) {
        zip_writer_put(&record, ZIP64_ID, 2);
        zip_writer_put(&record, SIZES64, 2);
        zip_writer_put(&record, entry->size, 8);
        zip_writer_put(&record, entry->size, 8);
    }
    size_t padding = total - record.size - PADDING_MIN;
    zip_writer_put(&record, PADDING_ID, 2);
    zip_writer_put(&record, 2 + padding, 2);
    zip_writer_put(&record, ZIP_ALIGNMENT, 2);
    memset(record.data + record.size, 0, padding);
    return atomic_write(file, entry->header, record.data, total, error);
}

static int write_central(const struct zip_planned *entry, uint32_t crc, unsigned char *buffer,
                         uint64_t *at, struct atomic_file *file, struct ivon_error *error)
{
    struct record record = {.data = buffer};
    size_t size = central_size(entry), extra = size - CENTRAL_SIZE - strlen(entry->name);
    zip_writer_put(&record, 0x02014b50, 4);
    zip_writer_put(&record, UNIX | VERSION64, 2);
    put_common(&record, entry, crc, extra);
    zip_writer_put(&record, 0, 6); /* no comment, the first disk, binary */
    zip_writer_put(&record, REGULAR_0644, 4);
    zip_writer_put(&record, zip_writer_narrow(entry->header), 4);
    put_name(&record, entry->name);
    if (extra) {
        zip_writer_put(&record, ZIP64_ID, 2);
        zip_writer_put(&record, extra - FIELD_SIZE, 2);
    }
    if (wide(entry->size)) {
        zip_writer_put(&record, entry->size, 8);
        zip_writer_put(&record, entry->size, 8);
    }
    if (wide(entry->header))
        zip_writer_put(&record, entry->header, 8);
    *at += size;
    return atomic_write(file, *at - size, record.data, size, error);
}

static int write_end(const struct zip_writer *writer, struct atomic_file *file,
                     struct ivon_error *error)
{
    unsigned char buffer[END64_SIZE + LOCATOR64_SIZE + END_SIZE];
    struct record record = {.data = buffer};
    uint64_t size = directory_size(writer), end = writer->end + size;
    size_t count = writer->count < UINT16_MAX ? writer->count : UINT16_MAX;
    if (needs_end64(writer, size)) {
        zip_writer_put(&record, 0x06064b50, 4);
        zip_writer_put(&record, END64_SIZE - 12, 8); /* of what follows */
        zip_writer_put(&record, UNIX | VERSION64, 2);
        zip_writer_put(&record, VERSION64, 2);
        zip_writer_put(&record, 0, 8); /* the first disk */
        zip_writer_put(&record, writer->count, 8);
        zip_writer_put(&record, writer->count, 8);
        zip_writer_put(&record, size, 8);
        zip_writer_put(&record, writer->end, 8);
        zip_writer_put(&record, 0x07064b50, 4);
        zip_writer_put(&record, 0, 4);
        zip_writer_put(&record, end, 8);
        zip_writer_put(&record, 1, 4); /* one disk */
    }
    zip_writer_put(&record, 0x06054b50, 4);
    zip_writer_put(&record, 0, 4);
    zip_writer_put(&record, count, 2);
    zip_writer_put(&record, count, 2);
    zip_writer_put(&record, zip_writer_narrow(size), 4);
    zip_writer_put(&record, zip_writer_narrow(writer->end), 4);
    zip_writer_put(&record, 0, 2);
    return atomic_write(file, end, buffer, record.size, error);
}

static int zip_writer_checksum(const struct zip_planned *entry, struct atomic_file *file,
                               void *buffer, uint32_t *crc, struct ivon_error *error)
{
    int code = 0;
    uLong sum = crc32(0, NULL, 0);
    for (uint64_t at = 0; at < entry->size && !code; at += PIECE) {
        size_t size = entry->size - at < PIECE ? (size_t)(entry->size - at) : PIECE;
        code = atomic_read(file, entry->content + at, buffer, size, error);
        sum = code ? sum : crc32(sum, buffer, (uInt)size);
    }
    *crc = (uint32_t)sum;
    return code;
}

int zip_writer_finish(const struct zip_writer *writer, struct atomic_file *file,
                      struct ivon_error *error)
{
    unsigned char *buffer = malloc(PIECE); /* longer than any record */
    uint64_t at = writer->end;
    int code = buffer ? 0 : ivon_error_memory(error);
    for (size_t i = 0; i < writer->count && !code; i++) {
        uint32_t crc;
        code = zip_writer_checksum(&writer->entries[i], file, buffer, &crc, error);
        if (!code)
            code = write_local(&writer->entries[i], crc, buffer, file, error);
        if (!code)
            code = write_central(&writer->entries[i], crc, buffer, &at, file, error);
    }
    free(buffer);
    return code ? code : write_end(writer, file, error);
}

void zip_writer_release(struct zip_writer *writer)
{
    for (size_t i = 0; i < writer->count; i++)
        free(writer->entries[i].name);
    free(writer->entries);
    *writer = (struct zip_writer){0};
}
