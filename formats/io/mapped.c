#define _GNU_SOURCE
#include "formats/io/mapped.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/error.h"
#include "ivon/input.h"

enum {
    AROUND = 1 << 16, /* bytes: as many as the kernel maps at a time, or one page */
    PIECE = 1 << 16,  /* of standard input */
};

#ifndef __has_feature /* clang's */
#define __has_feature(name) 0
#endif

/* The rest of a file's last page reads as zeros; AddressSanitizer is to see who reads it. */
#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
#include <sanitizer/asan_interface.h>

static void guard(const struct mapped_file *file)
{
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), rest = (page - file->size % page) % page;
    __asan_poison_memory_region(file->data + file->size, rest);
}

static void unguard(const struct mapped_file *file)
{
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), rest = (page - file->size % page) % page;
    __asan_unpoison_memory_region(file->data + file->size, rest);
}
#else
#define guard(file)   ((void)(file))
#define unguard(file) ((void)(file))
#endif

/* All that is mapped, which a file within it is a part of. */
static struct mapped_file whole_of(const struct mapped_file *file)
{
    return (struct mapped_file){.path = file->path,
                                .data = file->data - file->before,
                                .size = file->before + file->size + file->behind};
}

/* Sets the error of a file that cannot be opened; most often it does not exist. */
static int refuse_name(const char *path, int number, struct ivon_error *error)
{
    if (!*path)
        return ivon_error_set(error, IVON_ERROR_INPUT, "the name of an input is empty");
    return ivon_error_set(error, IVON_ERROR_INPUT, "%s: cannot open it: %s", path,
                          strerror(number));
}

/* Opens what standard input holds, which is read to its end into a file in memory: what is let go
   of there stays. That file then is standard input, known by its seals when it is opened again. */
static int mapped_spool(int *descriptor, struct ivon_error *error)
{
    enum { SEALS = F_SEAL_SHRINK | F_SEAL_GROW };
    char piece[PIECE];
    ssize_t got = 0, put = 0;
    int seals = fcntl(STDIN_FILENO, F_GET_SEALS);
    if (seals >= 0 && (seals & SEALS) == SEALS) {
        *descriptor = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
        return *descriptor < 0 ? ivon_error_memory(error) : 0;
    }
    *descriptor = memfd_create("standard input", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    while (*descriptor >= 0 && put == got && (got = read(STDIN_FILENO, piece, sizeof piece)) > 0)
        for (put = 0; put < got;) {
            ssize_t more = write(*descriptor, piece + put, (size_t)(got - put));
            if (more <= 0)
                break;
            put += more;
        }
    if (got < 0 && errno == EBADF)
        return ivon_error_set(error, IVON_ERROR_INPUT,
                              "-: standard input is closed, as it is for ranks of MPI: name a "
                              "file");
    if (got < 0)
        return ivon_error_set(error, IVON_ERROR_IO, "-: cannot read standard input: %s",
                              strerror(errno));
    bool whole = *descriptor >= 0 && got == 0 && !fcntl(*descriptor, F_ADD_SEALS, SEALS) &&
                 dup2(*descriptor, STDIN_FILENO) >= 0;
    return whole ? 0 : ivon_error_memory(error);
}

static int mapped_open_name(int *descriptor, const char *path, struct ivon_error *error)
{
    if (strcmp(path, "-") == 0)
        return mapped_spool(descriptor, error);
    /* Without waiting, should it be a pipe that nobody writes to. */
    *descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    return *descriptor < 0 ? refuse_name(path, errno, error) : 0;
}

int ivon_input_open(FILE **file, const char *path, struct ivon_error *error)
{
    int descriptor = -1, code = 0;
    if (strcmp(path, "-") == 0)
        code = mapped_spool(&descriptor, error);
    else if ((descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY)) < 0)
        code = refuse_name(path, errno, error);
    if (!code)
        lseek(descriptor, 0, SEEK_SET); /* of what was read before; a pipe has no beginning */
    *file = code ? NULL : fdopen(descriptor, "rb");
    if (!code && !*file)
        code = ivon_error_memory(error);
    if (code && descriptor >= 0)
        close(descriptor);
    return code;
}

int mapped_open(struct mapped_file *file, const char *path, struct ivon_error *error)
{
    *file = (struct mapped_file){.path = strdup(path)};
    if (!file->path)
        return ivon_error_memory(error);
    struct stat status;
    int descriptor = -1, code = mapped_open_name(&descriptor, path, error);
    if (!code && fstat(descriptor, &status))
        code = refuse_name(path, errno, error);
    if (code)
        goto done;
    if (!S_ISREG(status.st_mode)) {
        code = ivon_error_set(error, IVON_ERROR_INPUT, "%s: %s, expected a regular file", path,
                              S_ISDIR(status.st_mode) ? "is a directory" : "is a device or a pipe");
        goto done;
    }
    file->size = (uint64_t)status.st_size;
    if (!file->size)
        goto done;
    void *data = mmap(NULL, file->size, PROT_READ, MAP_SHARED, descriptor, 0);
    if (data == MAP_FAILED && errno == ENOMEM)
        code = ivon_error_memory(error);
    else if (data == MAP_FAILED)
        code = ivon_error_set(error, IVON_ERROR_INPUT, "%s: cannot map it: %s", path,
                              strerror(errno));
    else {
        file->data = data;
        guard(file);
    }
done:
    if (descriptor >= 0)
        close(descriptor);
    if (code)
        mapped_close(file);
    return code;
}

void mapped_close(struct mapped_file *file)
{
    if (file->data) {
        const struct mapped_file whole = whole_of(file);
        unguard(&whole);
        munmap((void *)whole.data, whole.size);
    }
    free(file->path);
    *file = (struct mapped_file){0};
}

void mapped_narrow(struct mapped_file *file, uint64_t offset, uint64_t size)
{
    file->before += offset;
    file->behind += file->size - offset - size;
    file->data += offset;
    file->size = size;
}

/* Rounds outwards: a page that is read brings its neighbours with it, which would stay. */
void mapped_advise(const struct mapped_file *file, uint64_t offset, uint64_t size, int advice)
{
    if (offset >= file->size || size > file->size - offset)
        return;
    const struct mapped_file whole = whole_of(file);
    offset += file->before;
    uint64_t base = (uintptr_t)whole.data % AROUND;
    uint64_t start = (base + offset) / AROUND * AROUND;
    uint64_t end = ((base + offset + size) / AROUND + 1) * AROUND - base;
    start = start > base ? start - base : 0;
    end = end < whole.size ? end : whole.size;
    madvise((void *)(whole.data + start), end - start, advice);
}
