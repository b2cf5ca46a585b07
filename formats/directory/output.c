/* Writing a model's directory, whole or absent. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/error.h"
#include "core/stream.h"
#include "formats/directory/directory.h"
#include "formats/io/atomic.h"
#include "formats/io/mapped.h"
#include "formats/io/strings.h"

struct ivon_directory {
    char *path;                /* as the user wrote it, without slashes at its end */
    char *root;                /* where the files are written: hidden, or the path itself */
    char *weights;             /* the sink's path, when it was asked for */
    bool adapter;              /* the weights are an adapter's factors */
    bool hidden;               /* there is no such directory yet */
    bool link;                 /* a symbolic link has its name, and is to be replaced */
    bool replace;              /* files may be replaced */
    int descriptor;            /* of the hidden directory, locked; -1 when there is none */
    struct open_file *noted;   /* of the hidden directory */
    struct atomic_file *files; /* beside the weights; open until they have their names */
    size_t count;
};

static int directory_fail(const struct ivon_directory *directory, int code, const char *what,
                          struct ivon_error *error)
{
    return ivon_error_set(error, code, "%s: cannot %s: %s", directory->path, what, strerror(errno));
}

static bool is_unfinished(const char *name)
{
    return name[0] == '.' && string_ends_with(name, ".ivon-tmp");
}

/* Counts what a directory holds; what killed runs left is nothing. -1 where it cannot be read. */
static int count_entries(const char *path)
{
    DIR *list = opendir(path);
    int count = list ? 0 : -1;
    for (struct dirent *entry; list && (entry = readdir(list));)
        count += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 &&
                 !is_unfinished(entry->d_name);
    if (list)
        closedir(list);
    return count;
}

/* Looks at what has the name already. */
static int directory_check_target(struct ivon_directory *directory, struct ivon_error *error)
{
    struct stat named, led;
    const char *path = directory->path;
    if (!*path)
        return ivon_error_set(error, IVON_ERROR_CREATE, "the name of an output is empty");
    directory->hidden = lstat(path, &named) != 0;
    if (directory->hidden)
        return 0;
    if (S_ISLNK(named.st_mode) && (stat(path, &led) || S_ISDIR(led.st_mode))) {
        directory->hidden = directory->link = true;
        return directory->replace
                   ? 0
                   : ivon_error_hint(error, IVON_HINT_REPLACE_LINK,
                                     ivon_error_set(error, IVON_ERROR_CREATE,
                                                    "%s: a symbolic link exists", path));
    }
    if (!S_ISDIR(named.st_mode))
        return ivon_error_set(error, IVON_ERROR_CREATE,
                              "%s: is a file, expected a directory to write", path);
    int entries = directory->replace ? 0 : count_entries(path);
    if (entries < 0)
        return directory_fail(directory, IVON_ERROR_CREATE, "read it", error);
    return entries ? ivon_error_hint(error, IVON_HINT_REPLACE_FILES,
                                     ivon_error_set(error, IVON_ERROR_CREATE,
                                                    "%s: directory exists, and is not empty", path))
                   : 0;
}

/* Removes the files of the hidden directory: it has no others than ours. */
static int directory_clear(const struct ivon_directory *directory, struct ivon_error *error)
{
    int code = 0;
    DIR *list = opendir(directory->root);
    if (!list)
        return directory_fail(directory, IVON_ERROR_CREATE, "create it", error);
    for (struct dirent *entry; !code && (entry = readdir(list));)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 &&
            unlinkat(directory->descriptor, entry->d_name, 0) && errno != ENOENT)
            code = ivon_error_set(error, IVON_ERROR_CREATE,
                                  "%s: cannot create it: '%s/%s' is in the way", directory->path,
                                  directory->root, entry->d_name);
    closedir(list);
    return code;
}

/* Makes and locks the hidden directory, or takes over the one that a killed run left, until what is
   locked is what has the name: another run may have renamed it in between. */
static int directory_make_hidden(struct ivon_directory *directory, struct ivon_error *error)
{
    for (;;) {
        struct stat opened, named;
        if (mkdir(directory->root, 0777) && errno != EEXIST)
            return directory_fail(directory, IVON_ERROR_CREATE, "create it", error);
        int descriptor = open(directory->root, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (descriptor < 0 && errno == ENOENT)
            continue;
        if (descriptor < 0)
            return directory_fail(directory, IVON_ERROR_CREATE, "create it", error);
        bool busy = flock(descriptor, LOCK_EX | LOCK_NB) && errno == EWOULDBLOCK;
        bool same = !busy && fstat(descriptor, &opened) == 0 &&
                    lstat(directory->root, &named) == 0 && opened.st_ino == named.st_ino &&
                    opened.st_dev == named.st_dev;
        if (same && opened.st_uid == geteuid()) {
            directory->descriptor = descriptor;
            directory->noted = atomic_note(directory->root);
            return directory_clear(directory, error);
        }
        close(descriptor);
        if (busy)
            return ivon_error_set(error, IVON_ERROR_CREATE, "%s: another process is writing it",
                                  directory->path);
        if (same)
            return ivon_error_set(error, IVON_ERROR_CREATE,
                                  "%s: cannot create it: '%s' is in the way", directory->path,
                                  directory->root);
    }
}

int ivon_directory_create(struct ivon_directory **out, const char *path, bool replace,
                          struct ivon_error *error)
{
    struct ivon_directory *directory = calloc(1, sizeof *directory);
    if (!directory)
        return ivon_error_memory(error);
    directory->descriptor = -1;
    directory->replace = replace;
    directory->path = strdup(path);
    int code = directory->path ? 0 : ivon_error_memory(error);
    for (size_t end = strlen(path); !code && end > 1 && directory->path[end - 1] == '/';)
        directory->path[--end] = '\0';
    if (!code)
        code = directory_check_target(directory, error);
    if (!code) {
        directory->root = directory->hidden ? atomic_temporary_name(directory->path)
                                            : strdup(directory->path);
        code = directory->root ? 0 : ivon_error_memory(error);
    }
    if (!code && directory->hidden)
        code = directory_make_hidden(directory, error);
    if (code)
        ivon_directory_close(directory);
    else
        *out = directory;
    return code;
}

const char *ivon_directory_weights(struct ivon_directory *directory, enum ivon_directory_kind kind)
{
    free(directory->weights);
    directory->adapter = kind == IVON_DIRECTORY_ADAPTER;
    directory->weights = directory_path(directory->root, directory->adapter ? DIRECTORY_FACTORS
                                                         : kind == IVON_DIRECTORY_SHARDS
                                                             ? DIRECTORY_INDEX
                                                             : DIRECTORY_WEIGHTS);
    return directory->weights;
}

/* Opens one more file. */
static int directory_open_file(struct ivon_directory *directory, const char *name,
                               struct ivon_error *error)
{
    if (!*name || strchr(name, '/') || directory->count == IVON_DIRECTORY_FILES)
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              directory->count == IVON_DIRECTORY_FILES
                                  ? "%s: '%s' is one file too many beside the weights"
                                  : "%s: '%s' is no name of a file in it",
                              directory->path, name);
    struct atomic_file *grown = realloc(directory->files, (directory->count + 1) * sizeof *grown);
    char *path = grown ? directory_path(directory->root, name) : NULL;
    if (grown)
        directory->files = grown;
    if (!path)
        return ivon_error_memory(error);
    int code = atomic_open(&directory->files[directory->count], path, directory->replace, error);
    directory->count += !code;
    free(path);
    return code;
}

int ivon_directory_write(struct ivon_directory *directory, const char *name, const void *data,
                         size_t size, struct ivon_error *error)
{
    int code = directory_open_file(directory, name, error);
    return code ? code
                : atomic_write(&directory->files[directory->count - 1], 0, data, size, error);
}

int ivon_directory_copy(struct ivon_directory *directory, const char *name, const char *from,
                        struct ivon_error *error)
{
    struct mapped_file file;
    int code = mapped_open(&file, from, error);
    if (code)
        return code;
    code = ivon_directory_write(directory, name, file.data, file.size, error);
    mapped_close(&file);
    return code;
}

/* Removes what a loader would take for the weights, once all that replaces it is on disk. */
static int remove_old_weights(const struct ivon_directory *directory, struct ivon_error *error)
{
    const char *const *names = directory->adapter ? directory_factors_names
                                                  : directory_weights_names;
    size_t count = directory->adapter ? DIRECTORY_FACTORS_COUNT : DIRECTORY_WEIGHTS_COUNT;
    int root = open(directory->root, O_RDONLY | O_DIRECTORY | O_CLOEXEC), code = 0;
    if (root < 0 || syncfs(root))
        code = directory_fail(directory, IVON_ERROR_IO, "write it", error);
    for (size_t i = 0; !code && i < count; i++)
        if (unlinkat(root, names[i], 0) && errno != ENOENT)
            code = ivon_error_set(error, IVON_ERROR_CREATE, "%s: cannot replace its '%s': %s",
                                  directory->path, names[i], strerror(errno));
    if (root >= 0)
        close(root);
    return code;
}

/* Gives the hidden directory its name. */
static int directory_rename(struct ivon_directory *directory, struct ivon_error *error)
{
    if (directory->link && unlink(directory->path) && errno != ENOENT)
        return directory_fail(directory, IVON_ERROR_CREATE, "replace it", error);
    if (rename(directory->root, directory->path))
        return directory_fail(directory, IVON_ERROR_CREATE, "give it its name", error);
    atomic_forget(&directory->noted);
    close(directory->descriptor);
    directory->descriptor = -1;
    atomic_sync_around(directory->path);
    return 0;
}

int ivon_directory_commit(struct ivon_directory *directory, struct ivon_sink *weights,
                          struct ivon_error *error)
{
    int code = sink_prepare(weights, error);
    for (size_t i = 0; i < directory->count && !code; i++)
        code = atomic_sync(&directory->files[i], error);
    if (!code && !directory->hidden)
        code = remove_old_weights(directory, error);
    for (size_t i = 0; i < directory->count && !code; i++)
        code = atomic_commit(&directory->files[i], error);
    if (!code)
        code = ivon_sink_commit(weights, error);
    return code || !directory->hidden ? code : directory_rename(directory, error);
}

void ivon_directory_explain(const struct ivon_directory *directory, struct ivon_error *error)
{
    char *found = directory->hidden ? strstr(error->message, directory->root) : NULL;
    size_t hidden = strlen(directory->root), own = strlen(directory->path);
    if (!found) /* the hidden name is the longer one */
        return;
    memcpy(found, directory->path, own);
    memmove(found + own, found + hidden, strlen(found + hidden) + 1);
}

void ivon_directory_close(struct ivon_directory *directory)
{
    if (!directory)
        return;
    for (size_t i = 0; i < directory->count; i++)
        atomic_close(&directory->files[i]);
    if (directory->descriptor >= 0) {
        directory_clear(directory, NULL);
        rmdir(directory->root);
        atomic_forget(&directory->noted);
        close(directory->descriptor);
    }
    free(directory->files);
    free(directory->weights);
    free(directory->root);
    free(directory->path);
    free(directory);
}
