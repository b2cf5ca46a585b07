#include "ivon/records.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <zlib.h>

#include "core/error.h"
#include "core/options.h"

#define TITLE "ivon-records "

enum { HEADER_SIZE = 15 + 21 + 26, RUN_AT = 15, SIZE_AT = 15 + 21, RECORD_MAX = 1 << 30 };

struct ivon_records {
    char *path;
    int descriptor;
    size_t size; /* of a record's content */
    uint64_t count;
    char header[HEADER_SIZE + 1];
    unsigned char *buffer; /* for a content and its checksum */
    double sync_seconds, synced;
};

static int records_fail(const struct ivon_records *records, int code, const char *what,
                        struct ivon_error *error)
{
    return ivon_error_set(error, code, "%s: cannot %s: %s", records->path, what, strerror(errno));
}

static double records_now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static int records_write_header(struct ivon_records *records,
                                const struct ivon_records_options *options,
                                struct ivon_error *error)
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    char run[17];
    if (!EVP_Digest(options->run, options->run_size, digest, NULL, EVP_sha256(), NULL))
        return ivon_error_set(error, IVON_ERROR_INTERNAL, "%s: cannot hash the options",
                              records->path);
    for (size_t i = 0; i < 8; i++)
        sprintf(run + 2 * i, "%02x", digest[i]);
    snprintf(records->header, sizeof records->header, TITLE "1\nrun %s\nsize %020zu\n", run,
             options->record_size);
    return 0;
}

/* Opens and locks the file, until the one that is locked is the one that has the name: another run
   may have removed it in between. */
static int open_locked(struct ivon_records *records, struct ivon_error *error)
{
    for (;;) {
        struct stat opened, named;
        records->descriptor = open(records->path,
                                   O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, 0666);
        if (records->descriptor < 0 || fstat(records->descriptor, &opened))
            return records_fail(records, IVON_ERROR_CREATE, "create it", error);
        if (!S_ISREG(opened.st_mode))
            return ivon_error_set(error, IVON_ERROR_CREATE, "%s: not a regular file",
                                  records->path);
        if (flock(records->descriptor, LOCK_EX | LOCK_NB))
            return errno == EWOULDBLOCK
                       ? ivon_error_set(error, IVON_ERROR_CREATE,
                                        "%s: another process is writing it", records->path)
                       : records_fail(records, IVON_ERROR_CREATE, "lock it", error);
        if (lstat(records->path, &named) == 0 && named.st_ino == opened.st_ino &&
            named.st_dev == opened.st_dev)
            return 0;
        close(records->descriptor);
    }
}

/* Reads up to `size` bytes, fewer at the end of the file only. */
static ssize_t read_at(const struct ivon_records *records, void *data, size_t size, uint64_t offset)
{
    size_t done = 0;
    while (done < size) {
        ssize_t got = pread(records->descriptor, (char *)data + done, size - done,
                            (off_t)(offset + done));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -1;
        if (got == 0)
            break;
        done += (size_t)got;
    }
    return (ssize_t)done;
}

static int write_at(const struct ivon_records *records, const void *data, size_t size,
                    uint64_t offset, struct ivon_error *error)
{
    const char *from = data;
    while (size) {
        ssize_t written = pwrite(records->descriptor, from, size, (off_t)offset);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            return records_fail(records, IVON_ERROR_IO, "write it", error);
        from += written;
        offset += (uint64_t)written;
        size -= (size_t)written;
    }
    return 0;
}

static uint64_t records_offset_of(const struct ivon_records *records, uint64_t record)
{
    return HEADER_SIZE + record * (records->size + 4);
}

/* The checksum of the next record, whose content is in the buffer. */
static void records_checksum(const struct ivon_records *records, unsigned char bytes[4])
{
    unsigned char number[8];
    for (int i = 0; i < 8; i++)
        number[i] = (unsigned char)(records->count >> 8 * i);
    uLong crc = crc32(0, (const Bytef *)records->header, HEADER_SIZE);
    crc = crc32(crc, number, sizeof number);
    crc = crc32(crc, records->buffer, (uInt)records->size);
    for (int i = 0; i < 4; i++)
        bytes[i] = (unsigned char)(crc >> 8 * i);
}

/* Returns an error if an existing header does not allow its file to be resumed, or overwritten. */
static int records_check_header(const struct ivon_records *records, const char *found, size_t size,
                                bool resume, struct ivon_error *error)
{
    const char *expected = records->header;
    size_t title = strlen(TITLE);
    if (memcmp(found, expected, size) == 0)
        return 0; /* whole, or torn when it was written */
    if (size < title || memcmp(found, expected, title) != 0)
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: is in the way, and not the records of an interrupted run: "
                              "remove it, or name another output",
                              records->path);
    if (!resume)
        return 0;
    if (size < HEADER_SIZE || memcmp(found, expected, RUN_AT) != 0)
        return ivon_error_hint(error, IVON_HINT_START_ANEW,
                               ivon_error_set(error, IVON_ERROR_DATA,
                                              "%s: records of another version, or a damaged header",
                                              records->path));
    if (memcmp(found + RUN_AT, expected + RUN_AT, SIZE_AT - RUN_AT) != 0)
        return ivon_error_hint(error, IVON_HINT_START_ANEW,
                               ivon_error_set(error, IVON_ERROR_DATA,
                                              "%s: was made with other options or inputs",
                                              records->path));
    return ivon_error_hint(error, IVON_HINT_START_ANEW,
                           ivon_error_set(error, IVON_ERROR_DATA,
                                          "%s: its records have another size, expected %zu bytes",
                                          records->path, records->size));
}

/* Hands out the whole records, and counts them. */
static int records_read_all(struct ivon_records *records,
                            int (*on_record)(void *context, const void *record,
                                             struct ivon_error *error),
                            void *context, struct ivon_error *error)
{
    size_t whole = records->size + 4;
    unsigned char sum[4];
    for (;; records->count++) {
        ssize_t got = read_at(records, records->buffer, whole,
                              records_offset_of(records, records->count));
        if (got < 0)
            return records_fail(records, IVON_ERROR_IO, "read it", error);
        if ((size_t)got < whole)
            return 0;
        records_checksum(records, sum);
        if (memcmp(records->buffer + records->size, sum, 4) != 0)
            return 0;
        int code = on_record(context, records->buffer, error);
        if (code)
            return code;
    }
}

/* Leaves the header and the records that were counted, so that the next one can be appended. */
static int records_settle(struct ivon_records *records, struct ivon_error *error)
{
    if (ftruncate(records->descriptor,
                  records->count ? (off_t)records_offset_of(records, records->count) : 0))
        return records_fail(records, IVON_ERROR_IO, "cut it", error);
    return records->count ? 0 : write_at(records, records->header, HEADER_SIZE, 0, error);
}

static int records_start(struct ivon_records *records, const struct ivon_records_options *options,
                         int (*on_record)(void *context, const void *record,
                                          struct ivon_error *error),
                         void *context, struct ivon_error *error)
{
    char found[HEADER_SIZE];
    int code = records_write_header(records, options, error);
    if (!code)
        code = open_locked(records, error);
    if (code)
        return code;
    ssize_t size = read_at(records, found, HEADER_SIZE, 0);
    if (size < 0)
        return records_fail(records, IVON_ERROR_IO, "read it", error);
    code = records_check_header(records, found, (size_t)size, options->resume, error);
    if (!code && options->resume && size == HEADER_SIZE)
        code = records_read_all(records, on_record, context, error);
    return code ? code : records_settle(records, error);
}

static void records_release(struct ivon_records *records)
{
    if (records->descriptor >= 0)
        close(records->descriptor);
    free(records->buffer);
    free(records->path);
    free(records);
}

static const struct options_kind records_options = {.defaults = "ivon_records_defaults"};

void ivon_records_options_init(struct ivon_records_options *options, size_t size)
{
    const struct ivon_records_options defaults = {.size = sizeof defaults};
    options_init(options, size, &defaults);
}

int ivon_records_open(struct ivon_records **out, const char *path,
                      const struct ivon_records_options *given,
                      int (*on_record)(void *context, const void *record, struct ivon_error *error),
                      void *context, struct ivon_error *error)
{
    struct ivon_records_options own = ivon_records_defaults();
    const struct ivon_records_options *options = &own;
    int code = options_read(&records_options, &own, given, error);
    if (code)
        return code;
    if (options->record_size < 1 || options->record_size > RECORD_MAX)
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "%s: records of %zu bytes, expected 1 to %d", path,
                              options->record_size, RECORD_MAX);
    struct ivon_records *records = calloc(1, sizeof *records);
    if (!records)
        return ivon_error_memory(error);
    records->descriptor = -1;
    records->size = options->record_size;
    records->sync_seconds = options->sync_seconds;
    records->synced = records_now();
    records->path = strdup(path);
    records->buffer = malloc(records->size + 4);
    code = records->path && records->buffer
               ? records_start(records, options, on_record, context, error)
               : ivon_error_memory(error);
    if (code)
        records_release(records);
    else
        *out = records;
    return code;
}

uint64_t ivon_records_count(const struct ivon_records *records)
{
    return records->count;
}

static int sync_records(struct ivon_records *records, struct ivon_error *error)
{
    records->synced = records_now();
    return fdatasync(records->descriptor) ? records_fail(records, IVON_ERROR_IO, "write it", error)
                                          : 0;
}

int ivon_records_append(struct ivon_records *records, const void *record, struct ivon_error *error)
{
    memcpy(records->buffer, record, records->size);
    records_checksum(records, records->buffer + records->size);
    int code = write_at(records, records->buffer, records->size + 4,
                        records_offset_of(records, records->count), error);
    if (code)
        return code;
    records->count++;
    double seconds = records->sync_seconds;
    return seconds >= 0 && records_now() - records->synced >= seconds ? sync_records(records, error)
                                                                      : 0;
}

int ivon_records_close(struct ivon_records *records, bool remove, struct ivon_error *error)
{
    int code = 0;
    if (!records)
        return 0;
    if (!remove)
        code = sync_records(records, error);
    else if (unlink(records->path)) /* while it is locked: no other run can have it yet */
        code = records_fail(records, IVON_ERROR_IO, "remove it", error);
    records_release(records);
    return code;
}
