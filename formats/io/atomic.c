#define _GNU_SOURCE
#include "formats/io/atomic.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/error.h"
#include "ivon/output.h"

static int atomic_fail(struct atomic_file *file, int code, const char *what,
                       struct ivon_error *error)
{
    return ivon_error_set(error, code, "%s: cannot %s: %s", file->path, what, strerror(errno));
}

char *atomic_temporary_name(const char *target)
{
    const char *slash = strrchr(target, '/');
    int directory = slash ? (int)(slash - target + 1) : 0;
    char *name;
    return asprintf(&name, "%.*s.%s.ivon-tmp", directory, target, target + directory) < 0 ? NULL
                                                                                          : name;
}

/*
 * The temporary files that are there, for who ends the process at once: a list to which a signal
 * handler looks at any moment. Its nodes are used again, and never freed.
 */
struct open_file {
    _Atomic(char *) temporary; /* null: free for another */
    char *before;              /* which a handler may still be looking at */
    struct open_file *next;
};
static _Atomic(struct open_file *) open_files;
static pthread_mutex_t open_lock = PTHREAD_MUTEX_INITIALIZER;

struct open_file *atomic_note(const char *temporary)
{
    char *copy = strdup(temporary);
    pthread_mutex_lock(&open_lock);
    struct open_file *node = open_files;
    while (node && node->temporary)
        node = node->next;
    if (!node && copy && (node = calloc(1, sizeof *node))) {
        node->next = open_files;
        open_files = node;
    }
    if (node)
        node->temporary = copy;
    else
        free(copy);
    pthread_mutex_unlock(&open_lock);
    return node;
}

void atomic_forget(struct open_file **noted)
{
    struct open_file *node = *noted;
    *noted = NULL;
    if (!node)
        return;
    pthread_mutex_lock(&open_lock);
    free(node->before);
    node->before = atomic_exchange(&node->temporary, NULL);
    pthread_mutex_unlock(&open_lock);
}

void ivon_outputs_abandon(void)
{
    for (struct open_file *node = open_files; node; node = node->next) {
        const char *temporary = node->temporary;
        if (temporary)
            unlink(temporary);
    }
    for (struct open_file *node = open_files; node; node = node->next) {
        const char *temporary = node->temporary;
        if (temporary)
            rmdir(temporary); /* which was not empty before */
    }
}

/* Opens and locks the temporary file, until the one that is locked is the one that has the name:
   another run may have renamed it in between. */
static int open_temporary(struct atomic_file *file, struct ivon_error *error)
{
    for (;;) {
        struct stat opened, named;
        file->descriptor = open(file->temporary,
                                O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, 0666);
        if (file->descriptor < 0)
            return atomic_fail(file, IVON_ERROR_CREATE, "create it", error);
        if (flock(file->descriptor, LOCK_EX | LOCK_NB) && errno == EWOULDBLOCK)
            return ivon_error_set(error, IVON_ERROR_CREATE, "%s: another process is writing it",
                                  file->path);
        if (fstat(file->descriptor, &opened))
            return atomic_fail(file, IVON_ERROR_CREATE, "create it", error);
        if (lstat(file->temporary, &named) == 0 && named.st_ino == opened.st_ino &&
            named.st_dev == opened.st_dev) {
            if (S_ISREG(opened.st_mode) && opened.st_uid == geteuid() && opened.st_nlink == 1)
                return 0;
            return ivon_error_set(error, IVON_ERROR_CREATE,
                                  "%s: cannot create it: '%s' is in the way", file->path,
                                  file->temporary);
        }
        close(file->descriptor);
    }
}

/* Links in /dev and /proc lead to the descriptors of a process: they are devices themselves. */
static bool is_device_link(const char *path)
{
    const char *slash = strrchr(path, '/');
    char *directory = slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");
    char *real = directory ? realpath(directory, NULL) : NULL;
    bool device = real && (strcmp(real, "/dev") == 0 || strncmp(real, "/proc/", 6) == 0);
    free(directory);
    free(real);
    return device;
}

/* Looks at the target that is there already, if one is. A symbolic link is not what it leads to: it
   is replaced itself, by a file with the permissions of the one that it leads to. */
static int check_target(struct atomic_file *file, bool replace, struct ivon_error *error)
{
    struct stat named, old;
    const char *path = file->path;
    if (lstat(path, &named))
        return 0;
    bool link = S_ISLNK(named.st_mode);
    bool followed = !link || stat(path, &old) == 0;
    if (!link)
        old = named;
    if (followed && S_ISDIR(old.st_mode))
        return ivon_error_set(error, IVON_ERROR_CREATE,
                              "%s: is a directory, expected a file to write", path);
    if ((followed && !S_ISREG(old.st_mode)) || (link && is_device_link(path)))
        return ivon_error_set(error, IVON_ERROR_CREATE,
                              "%s: is a device or a pipe, expected a file to write", path);
    if (!replace)
        return ivon_error_hint(
            error, link ? IVON_HINT_REPLACE_LINK : IVON_HINT_REPLACE,
            ivon_error_set(error, IVON_ERROR_CREATE,
                           link ? "%s: a symbolic link exists" : "%s: file exists", path));
    file->replaces = true;
    file->mode = followed ? old.st_mode & 07777 : 0;
    return 0;
}

int atomic_open(struct atomic_file *file, const char *path, bool replace, struct ivon_error *error)
{
    *file = (struct atomic_file){.descriptor = -1, .path = strdup(path)};
    int code = 0;
    if (!file->path) {
        code = ivon_error_memory(error);
        goto done;
    }
    if (!*path) {
        code = ivon_error_set(error, IVON_ERROR_CREATE, "the name of an output is empty");
        goto done;
    }
    if (strcmp(path, "-") == 0) {
        code = ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "standard output cannot take what is not written in order: name a "
                              "file");
        goto done;
    }
    code = check_target(file, replace, error);
    if (code)
        goto done;
    file->temporary = atomic_temporary_name(path);
    if (!file->temporary) {
        code = ivon_error_memory(error);
        goto done;
    }
    code = open_temporary(file, error);
    if (!code)
        file->noted = atomic_note(file->temporary);
    if (code) {
        if (file->descriptor >= 0)
            close(file->descriptor);
        file->descriptor = -1; /* what has the name is not ours to remove */
        goto done;
    }
    if (ftruncate(file->descriptor, 0))
        code = atomic_fail(file, IVON_ERROR_IO, "empty it", error);
    /* A file that replaces a private one is private from its first byte on. */
    else if (file->mode && fchmod(file->descriptor, (file->mode & 0777) | S_IRUSR | S_IWUSR))
        code = atomic_fail(file, IVON_ERROR_IO, "set its permissions", error);
done:
    if (code)
        atomic_close(file);
    return code;
}

int atomic_reserve(struct atomic_file *file, uint64_t size, struct ivon_error *error)
{
    if (size > INT64_MAX)
        return ivon_error_set(error, IVON_ERROR_IO, "%s: too large for a file", file->path);
    int result;
    do
        result = fallocate(file->descriptor, 0, 0, (off_t)size);
    while (result && errno == EINTR);
    if (result && (errno == ENOSPC || errno == EDQUOT || errno == EFBIG))
        return ivon_error_set(error, IVON_ERROR_IO, "%s: cannot write its %.1f MB: %s", file->path,
                              (double)size / 1e6, strerror(errno));
    return 0; /* a file system that cannot reserve reports a full disk when it comes to it */
}

int atomic_write(struct atomic_file *file, uint64_t offset, const void *data, size_t size,
                 struct ivon_error *error)
{
    const char *from = data;
    while (size) {
        ssize_t written = pwrite(file->descriptor, from, size, (off_t)offset);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            return atomic_fail(file, IVON_ERROR_IO, "write it", error);
        from += written;
        offset += (uint64_t)written;
        size -= (size_t)written;
    }
    return 0;
}

int atomic_read(struct atomic_file *file, uint64_t offset, void *data, size_t size,
                struct ivon_error *error)
{
    char *to = data;
    while (size) {
        ssize_t done = pread(file->descriptor, to, size, (off_t)offset);
        if (done < 0 && errno == EINTR)
            continue;
        if (!done)
            errno = EIO; /* somebody cut it off */
        if (done <= 0)
            return atomic_fail(file, IVON_ERROR_IO, "read it back", error);
        to += done;
        offset += (uint64_t)done;
        size -= (size_t)done;
    }
    return 0;
}

int atomic_share(struct atomic_file *file, struct atomic_identity *identity,
                 struct ivon_error *error)
{
    struct stat status;
    if (flock(file->descriptor, LOCK_SH | LOCK_NB) && errno == EWOULDBLOCK) {
        atomic_forget(&file->noted); /* it is that other's now, to remove it, too */
        close(file->descriptor);
        file->descriptor = -1;
        return ivon_error_set(error, IVON_ERROR_CREATE, "%s: another process is writing it",
                              file->path);
    }
    if (fstat(file->descriptor, &status) ||
        getrandom(identity->token, sizeof identity->token, 0) != sizeof identity->token)
        return atomic_fail(file, IVON_ERROR_CREATE, "share it", error);
    identity->inode = status.st_ino;
    identity->size = (uint64_t)status.st_size;
    int code = atomic_write(file, identity->size, identity->token, sizeof identity->token, error);
    if (!code && fsync(file->descriptor)) /* on other machines, too */
        code = atomic_fail(file, IVON_ERROR_IO, "write it", error);
    return code;
}

int atomic_settle(struct atomic_file *file, const struct atomic_identity *identity,
                  struct ivon_error *error)
{
    return ftruncate(file->descriptor, (off_t)identity->size)
               ? atomic_fail(file, IVON_ERROR_IO, "write it", error)
               : 0;
}

/* Returns why an open file is not the one of an identity, or null. */
static const char *atomic_examine(int descriptor, const struct atomic_identity *identity)
{
    struct stat status;
    unsigned char token[sizeof identity->token];
    if (flock(descriptor, LOCK_SH | LOCK_NB) && errno == EWOULDBLOCK)
        return "another process is writing it";
    if (fstat(descriptor, &status))
        return strerror(errno);
    if (!S_ISREG(status.st_mode) || status.st_ino != identity->inode ||
        pread(descriptor, token, sizeof token, (off_t)identity->size) != sizeof token ||
        memcmp(token, identity->token, sizeof token) != 0)
        return "another file has its name";
    return NULL;
}

const char *atomic_join(struct atomic_file *file, const char *path, const char *temporary,
                        const struct atomic_identity *identity)
{
    *file = (struct atomic_file){.path = strdup(path)};
    file->descriptor = open(temporary, O_RDWR | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    const char *fault = file->descriptor < 0 || !file->path
                            ? strerror(errno)
                            : atomic_examine(file->descriptor, identity);
    if (fault)
        atomic_close(file);
    return fault;
}

void atomic_sync_around(const char *target)
{
    char *copy = strdup(target);
    if (!copy)
        return;
    char *slash = strrchr(copy, '/');
    if (slash)
        slash[slash == copy] = '\0';
    int directory = open(slash ? copy : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (directory >= 0) {
        (void)fsync(directory); /* not every file system can */
        close(directory);
    }
    free(copy);
}

int atomic_sync(struct atomic_file *file, struct ivon_error *error)
{
    if (file->mode && fchmod(file->descriptor, file->mode))
        return atomic_fail(file, IVON_ERROR_IO, "set its permissions", error);
    if (fsync(file->descriptor))
        return atomic_fail(file, IVON_ERROR_IO, "write it", error);
    return 0;
}

int atomic_publish(struct atomic_file *file, int *descriptor, struct ivon_error *error)
{
    int code = atomic_sync(file, error);
    if (code)
        return code;
    if (rename(file->temporary, file->path))
        return atomic_fail(file, IVON_ERROR_CREATE, "give it its name", error);
    atomic_forget(&file->noted);
    *descriptor = file->descriptor;
    file->descriptor = -1;
    atomic_sync_around(file->path);
    return 0;
}

int atomic_commit(struct atomic_file *file, struct ivon_error *error)
{
    int descriptor = -1;
    int code = atomic_publish(file, &descriptor, error);
    if (!code)
        close(descriptor);
    return code;
}

int atomic_copy(struct atomic_file *file, uint64_t to, int descriptor, uint64_t from, uint64_t size,
                struct ivon_error *error)
{
    enum { PIECE = 1 << 16 };
    struct atomic_file source = {.path = file->path, .descriptor = descriptor};
    char *piece = malloc(PIECE);
    int code = piece ? 0 : ivon_error_memory(error);
    for (uint64_t at = 0; at < size && !code; at += PIECE) {
        size_t count = size - at < PIECE ? (size_t)(size - at) : PIECE;
        code = atomic_read(&source, from + at, piece, count, error);
        if (!code)
            code = atomic_write(file, to + at, piece, count, error);
    }
    free(piece);
    return code;
}

void atomic_close(struct atomic_file *file)
{
    if (file->descriptor >= 0 && file->temporary) {
        unlink(file->temporary);
        atomic_forget(&file->noted);
    }
    if (file->descriptor >= 0)
        close(file->descriptor);
    free(file->path);
    free(file->temporary);
    *file = (struct atomic_file){.descriptor = -1};
}
