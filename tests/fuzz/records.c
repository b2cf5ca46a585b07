/* Resumes from bytes as the records of a run: what was taken is what stays, and more can follow. */
#include <assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ivon/records.h"
#include "tests/fuzz/fuzz.h"

enum { CONTENT = 16, WHOLE = CONTENT + 4, HEADER = 62 };

static char scratch[4096];
static volatile unsigned char kept; /* so that no read is optimised away */

static int take(void *context, const void *record, struct ivon_error *error)
{
    (void)error;
    for (int i = 0; i < CONTENT; i++)
        kept = ((const unsigned char *)record)[i];
    ++*(uint64_t *)context;
    return 0;
}

static uint64_t size_of(const char *path)
{
    struct stat status;
    assert(stat(path, &status) == 0);
    return (uint64_t)status.st_size;
}

static void remove_scratch(void)
{
    unlink(scratch);
}

/* The name of a file that is written in place, which one in memory alone would not have. */
static const char *scratch_file(void)
{
    const char *directory = getenv("TMPDIR");
    if (!*scratch) {
        snprintf(scratch, sizeof scratch, "%s/ivon-fuzz-%d", directory ? directory : "/dev/shm",
                 (int)getpid());
        atexit(remove_scratch);
    }
    return scratch;
}

int fuzz_one(const uint8_t *data, size_t size)
{
    const char *path = scratch_file();
    const struct ivon_records_options options = {
        .size = sizeof options, "run", 3, CONTENT, true, -1};
    struct ivon_records *records = NULL;
    struct ivon_error error = {0};
    uint64_t count = 0, again = 0;
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert(file >= 0 && write(file, data, size) == (ssize_t)size);
    close(file);
    int code = ivon_records_open(&records, path, &options, take, &count, &error);
    if (code) {
        assert(code == IVON_ERROR_DATA && count == 0 && size_of(path) == size);
        assert(error.code == code && error.message[0] && !strchr(error.message, '\n'));
    } else {
        assert(count == 0 || HEADER + count * WHOLE <= size);
        assert(ivon_records_count(records) == count);
        assert(size_of(path) == HEADER + count * WHOLE);
        assert(ivon_records_append(records, "sixteen bytes ..", &error) == 0);
        assert(ivon_records_close(records, false, &error) == 0);
        assert(ivon_records_open(&records, path, &options, take, &again, &error) == 0);
        assert(again == count + 1);
        assert(ivon_records_close(records, true, &error) == 0);
    }
    return code ? -1 : 0;
}
