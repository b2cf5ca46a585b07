#define _GNU_SOURCE
#include "cmd/shared/inputs/follow.h"

#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "cmd/shared/memory.h"
#include "cmd/shared/report.h"

#define DONE "done"

/* A name that was seen. */
struct file {
    char *name;
    struct file *next; /* in the queue */
    bool queued;
    bool handed, again; /* out; to be handed out at the next event whatever it holds */
    struct stat status; /* when it was handed out */
};

struct follow {
    char *directory;
    struct stat status; /* the directory's, at the start */
    const volatile sig_atomic_t *stop;
    double idle; /* seconds to wait for a file at most; 0: for ever */
    bool tired;  /* that long none came */
    int inotify;
    struct file **files; /* by name */
    size_t count, capacity;
    struct file *first, **last; /* the queue; the end of its links */
    struct file *current;       /* was handed out last */
    char *path;
    bool done, swept; /* `done` has appeared; the directory was read after it */
    bool overflowed;  /* events were lost */
    bool gone;
};

static bool follow_is_candidate(const char *name)
{
    static const char *const others[] = {".part",   ".tmp", "~",    ".csv",  ".json", ".jsonl",
                                         ".ndjson", ".log", ".txt", ".yaml", ".yml"};
    size_t length = strlen(name);
    if (name[0] == '.' || strcmp(name, DONE) == 0)
        return false;
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        size_t suffix = strlen(others[i]);
        if (length >= suffix && strcmp(name + length - suffix, others[i]) == 0)
            return false;
    }
    return true;
}

/* The file of that name, a new one if need be. */
static struct file *file_of(struct follow *follow, const char *name)
{
    size_t low = 0, high = follow->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(follow->files[middle]->name, name);
        if (order == 0)
            return follow->files[middle];
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    if (follow->count == follow->capacity) {
        size_t capacity = follow->capacity ? 2 * follow->capacity : 64;
        follow->files = xreallocarray(follow->files, capacity, sizeof(struct file *));
        follow->capacity = capacity;
    }
    struct file *file = xcalloc(1, sizeof *file);
    file->name = xstrdup(name);
    memmove(follow->files + low + 1, follow->files + low,
            (follow->count++ - low) * sizeof(struct file *));
    return follow->files[low] = file;
}

static void follow_enqueue(struct follow *follow, struct file *file)
{
    if (file->queued)
        return;
    file->queued = true;
    file->next = NULL;
    *follow->last = file;
    follow->last = &file->next;
}

static struct file *dequeue(struct follow *follow)
{
    struct file *file = follow->first;
    if (!file)
        return NULL;
    follow->first = file->next;
    if (!follow->first)
        follow->last = &follow->first;
    file->queued = false;
    return file;
}

/* Makes the path of a file, and returns whether it is one to hand out. */
static bool file_is_due(struct follow *follow, const struct file *file, struct stat *status)
{
    const struct stat *old = &file->status;
    free(follow->path);
    follow->path = xasprintf("%s/%s", follow->directory, file->name);
    return lstat(follow->path, status) == 0 && S_ISREG(status->st_mode) &&
           (!file->handed || status->st_ino != old->st_ino || status->st_dev != old->st_dev ||
            status->st_size != old->st_size || status->st_mtim.tv_sec != old->st_mtim.tv_sec ||
            status->st_mtim.tv_nsec != old->st_mtim.tv_nsec);
}

static int select_entry(const struct dirent *entry)
{
    return strcmp(entry->d_name, DONE) == 0 || follow_is_candidate(entry->d_name);
}

/* Reads the directory, for files to hand out that no event named. */
static int scan(struct follow *follow, struct ivon_error *error)
{
    struct dirent **entries;
    int count = scandir(follow->directory, &entries, select_entry, versionsort);
    if (count < 0 && (errno == ENOENT || errno == ENOTDIR)) {
        follow->gone = true;
        return 0;
    }
    if (count < 0)
        return error_fill(error, IVON_ERROR_INPUT, "%s: cannot read it: %s", follow->directory,
                          strerror(errno));
    for (int i = 0; i < count; i++) {
        const char *name = entries[i]->d_name;
        struct stat status;
        if (strcmp(name, DONE) == 0) {
            follow->done = true;
        } else {
            struct file *file = file_of(follow, name);
            if (file_is_due(follow, file, &status))
                follow_enqueue(follow, file);
        }
        free(entries[i]);
    }
    free(entries);
    return 0;
}

/* A file was closed or renamed into place, or may have been. */
static void arrive(struct follow *follow, struct file *file)
{
    if (file->again)
        file->handed = file->again = false;
    follow_enqueue(follow, file);
}

static void on_event(struct follow *follow, const struct inotify_event *event)
{
    const char *name = event->len ? event->name : "";
    if (event->mask & IN_Q_OVERFLOW) {
        follow->overflowed = true;
    } else if (event->mask & (IN_DELETE_SELF | IN_MOVE_SELF | IN_UNMOUNT | IN_IGNORED)) {
        follow->gone = true;
    } else if (strcmp(name, DONE) == 0) {
        follow->done = true;
    } else if (event->mask & (IN_CLOSE_WRITE | IN_MOVED_TO) && *name && follow_is_candidate(name)) {
        arrive(follow, file_of(follow, name));
    }
}

/* Takes the events that are there. What follows `done` is left to the last reading. */
static int follow_drain(struct follow *follow, struct ivon_error *error)
{
    union {
        struct inotify_event event;
        char bytes[16 << 10];
    } buffer;
    while (!follow->done) {
        ssize_t size = read(follow->inotify, &buffer, sizeof buffer);
        if (size < 0 && errno == EINTR)
            continue;
        if (size < 0 && errno == EAGAIN)
            return 0;
        if (size <= 0)
            return error_fill(error, IVON_ERROR_IO, "%s: cannot follow it: %s", follow->directory,
                              strerror(size < 0 ? errno : EIO));
        for (ssize_t at = 0; at < size;) {
            const struct inotify_event *event = (const void *)(buffer.bytes + at);
            on_event(follow, event);
            at += (ssize_t)(sizeof *event + event->len);
        }
    }
    return 0;
}

/* Queues all that is to be handed out. */
static int follow_gather(struct follow *follow, struct ivon_error *error)
{
    int code = follow_drain(follow, error);
    if (code || follow->gone || follow->swept)
        return code;
    if (follow->overflowed) {
        follow->overflowed = false;
        for (size_t i = 0; i < follow->count; i++)
            if (follow->files[i]->again)
                arrive(follow, follow->files[i]);
        code = scan(follow, error);
    }
    if (!code && follow->done) {
        follow->swept = true;
        code = scan(follow, error);
    }
    return code;
}

static double follow_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* Waits for an event or a signal, or until a second or what is left of `seconds` is over. The
   second is the longest that a signal can be late which another thread's handler took, and that the
   directory can be away by what it lay in. */
static int await(struct follow *follow, double seconds, struct ivon_error *error)
{
    bool short_wait = seconds < 1;
    const struct timespec most = {.tv_sec = short_wait ? 0 : 1,
                                  .tv_nsec = short_wait ? (long)(1e9 * seconds) : 0};
    struct pollfd poll = {.fd = follow->inotify, .events = POLLIN};
    sigset_t all, old;
    int ready = 0, reason = 0;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old); /* none comes between the look and the wait */
    if (!follow->stop || !*follow->stop) {
        ready = ppoll(&poll, 1, &most, &old);
        reason = errno;
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (ready < 0 && reason != EINTR)
        return error_fill(error, IVON_ERROR_IO, "%s: cannot follow it: %s", follow->directory,
                          strerror(reason));
    struct stat now;
    if (ready == 0 && (stat(follow->directory, &now) || now.st_ino != follow->status.st_ino ||
                       now.st_dev != follow->status.st_dev))
        follow->gone = true;
    return 0;
}

int follow_open(struct follow **out, const char *directory, const volatile sig_atomic_t *stop,
                struct ivon_error *error)
{
    const uint32_t mask = IN_CLOSE_WRITE | IN_MOVED_TO | IN_CREATE /* of `done` */ |
                          IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR;
    struct follow *follow = xcalloc(1, sizeof *follow);
    int code = 0;
    follow->last = &follow->first;
    follow->stop = stop;
    follow->inotify = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    follow->directory = xstrdup(directory);
    for (size_t end = strlen(directory); end-- > 1;)
        if (follow->directory[end] == '/')
            follow->directory[end] = '\0';
        else
            break;
    if (follow->inotify < 0 || inotify_add_watch(follow->inotify, directory, mask) < 0 ||
        stat(directory, &follow->status))
        code = error_input(error, directory, "follow",
                           errno == ENOSPC
                               ? "too many files are watched (fs.inotify.max_user_watches)"
                               : strerror(errno));
    if (!code)
        code = scan(follow, error); /* after the watch began, so that nothing falls between */
    if (code)
        follow_close(follow);
    else
        *out = follow;
    return code;
}

void follow_close(struct follow *follow)
{
    if (!follow)
        return;
    if (follow->inotify >= 0)
        close(follow->inotify);
    for (size_t i = 0; i < follow->count; i++) {
        free(follow->files[i]->name);
        free(follow->files[i]);
    }
    free(follow->files);
    free(follow->path);
    free(follow->directory);
    free(follow);
}

void follow_end_when_idle(struct follow *follow, double seconds)
{
    follow->idle = seconds;
}

bool follow_was_idle(const struct follow *follow)
{
    return follow->tired;
}

int follow_next(struct follow *follow, const char **path, struct ivon_error *error)
{
    double end = follow->idle > 0 ? follow_now() + follow->idle : INFINITY;
    *path = NULL;
    follow->current = NULL;
    follow->tired = false;
    while (!follow->stop || !*follow->stop) {
        int code = follow_gather(follow, error);
        if (code)
            return code;
        for (struct file *file; (file = dequeue(follow));) {
            struct stat status;
            if (!file_is_due(follow, file, &status))
                continue;
            file->status = status;
            file->handed = true;
            file->again = false;
            follow->current = file;
            *path = follow->path;
            return 0;
        }
        if (follow->done)
            return 0;
        if (follow->gone)
            return error_fill(error, IVON_ERROR_INPUT,
                              "%s: was removed or renamed while it was followed",
                              follow->directory);
        double left = end - follow_now();
        if (left <= 0) {
            follow->tired = true;
            return 0;
        }
        code = await(follow, left, error);
        if (code)
            return code;
    }
    return 0;
}

void follow_again(struct follow *follow)
{
    if (follow->current)
        follow->current->again = true;
}
