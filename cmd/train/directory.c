#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cmd/shared/memory.h"
#include "cmd/shared/process/ranks.h"
#include "cmd/shared/report.h"
#include "cmd/train/train.h"

struct train_directory {
    char *path;
    uint64_t saved; /* the step of the latest checkpoint; 0: there is none */
};

/* DIRECTORY/NAME, to be freed. */
static char *path_of(const struct train_directory *directory, const char *name)
{
    char *path;
    if (asprintf(&path, "%s/%s", directory->path, name) < 0)
        memory_exhausted();
    return path;
}

static const char best_name[] = "best.h5";

static int train_directory_fail(struct ivon_error *error, int code, const char *path,
                                const char *what)
{
    return error_fill(error, code, "%s: %s: %s", path, what, strerror(errno));
}

static void checkpoint_name(char *name, size_t size, uint64_t step)
{
    snprintf(name, size, "posterior-%08" PRIu64 ".h5", step);
}

/* True if a name is posterior-NUMBER.h5, of 8 to 18 digits; sets *step to the number. */
static bool checkpoint_step(const char *name, uint64_t *step)
{
    static const char prefix[] = "posterior-";
    size_t length = sizeof prefix - 1;
    if (strncmp(name, prefix, length) != 0)
        return false;
    size_t digits = strspn(name + length, "0123456789");
    if (digits < 8 || digits > 18 || strcmp(name + length + digits, ".h5") != 0)
        return false;
    *step = strtoull(name + length, NULL, 10);
    return true;
}

/* True if a name is that of a file of an adapter. */
static bool adapter_file(const char *name)
{
    return strcmp(name, "adapter_model.safetensors") == 0 ||
           strcmp(name, "adapter_config.json") == 0;
}

/* True if a name is that of an unfinished file of ours, which a killed training left. */
static bool unfinished(const char *name)
{
    static const char suffix[] = ".ivon-tmp";
    size_t length = strlen(name), end = sizeof suffix - 1;
    char whole[64];
    uint64_t step;
    if (name[0] != '.' || length <= end || length - end > sizeof whole ||
        strcmp(name + length - end, suffix) != 0)
        return false;
    snprintf(whole, sizeof whole, "%.*s", (int)(length - end - 1), name + 1);
    return checkpoint_step(whole, &step) || strcmp(whole, "log.csv") == 0 ||
           strcmp(whole, best_name) == 0 || strcmp(whole, "done") == 0 || adapter_file(whole);
}

/* Removes what an earlier training wrote: all, or that it ended; and what it did not end to
   write. */
static int clear(const struct train_directory *directory, bool all, struct ivon_error *error)
{
    DIR *list = opendir(directory->path);
    int code = list ? 0
                    : train_directory_fail(error, IVON_ERROR_CREATE, directory->path,
                                           "cannot read it");
    for (struct dirent *entry; !code && (entry = readdir(list));) {
        uint64_t step;
        bool own = checkpoint_step(entry->d_name, &step) || strcmp(entry->d_name, "log.csv") == 0 ||
                   strcmp(entry->d_name, best_name) == 0;
        own = (own && all) || strcmp(entry->d_name, "done") == 0 || adapter_file(entry->d_name) ||
              unfinished(entry->d_name);
        char *path = path_of(directory, entry->d_name);
        if (own && unlink(path))
            code = train_directory_fail(error, IVON_ERROR_CREATE, path, "cannot remove it");
        free(path);
    }
    if (list)
        closedir(list);
    return code;
}

static bool has_adapter(const struct train_directory *directory)
{
    struct stat status;
    char *path = path_of(directory, "adapter_config.json");
    bool has = stat(path, &status) == 0;
    free(path);
    return has;
}

/* The checkpoint of the latest step, or null. */
static int find_newest(const struct train_directory *directory, char **newest,
                       struct ivon_error *error)
{
    DIR *list = opendir(directory->path);
    uint64_t step, latest = 0;
    *newest = NULL;
    if (!list && errno == ENOENT)
        return 0;
    if (!list && errno == ENOTDIR)
        return error_fill(error, IVON_ERROR_CREATE, "%s: is a file, expected a directory",
                          directory->path);
    if (!list)
        return train_directory_fail(error, IVON_ERROR_CREATE, directory->path, "cannot read it");
    for (struct dirent *entry; (entry = readdir(list));) {
        if (!checkpoint_step(entry->d_name, &step) || (*newest && step <= latest))
            continue;
        free(*newest);
        *newest = path_of(directory, entry->d_name);
        latest = step;
    }
    closedir(list);
    return 0;
}

int train_directory_open(struct train_directory **out, const char *path, bool replace, bool resume,
                         char **newest, struct ivon_error *error)
{
    struct train_directory *directory = calloc(1, sizeof *directory);
    if (!directory || !(directory->path = strdup(path)))
        memory_exhausted();
    for (size_t end = strlen(path); end > 1 && directory->path[end - 1] == '/';)
        directory->path[--end] = '\0';
    *out = directory;
    *newest = NULL;
    if (!ranks_first()) /* who looks and writes for all */
        return 0;
    int code = find_newest(directory, newest, error);
    if (!code && !*newest && !replace && has_adapter(directory))
        return error_fill(error, IVON_ERROR_CREATE, "%s: holds an adapter: replace it by --force",
                          path);
    if (code || !*newest || resume)
        return code;
    free(*newest);
    *newest = NULL;
    return replace ? 0
                   : error_fill(error, IVON_ERROR_CREATE,
                                "%s: holds a training: go on with it by --resume, or replace "
                                "it by --force",
                                path);
}

void train_directory_close(struct train_directory *directory)
{
    if (!directory)
        return;
    free(directory->path);
    free(directory);
}

int train_begin(struct train_directory *directory, uint64_t step, struct train_log **log,
                struct ivon_error *error)
{
    if (mkdir(directory->path, 0777) && errno != EEXIST)
        return train_directory_fail(error, IVON_ERROR_CREATE, directory->path, "cannot create it");
    int code = clear(directory, step == 0, error);
    directory->saved = step;
    char *path = path_of(directory, "log.csv");
    if (!code)
        code = train_log_open(log, path, step, error);
    free(path);
    return code;
}

char *train_newest(const struct train_directory *directory)
{
    char name[64];
    checkpoint_name(name, sizeof name, directory->saved);
    return directory->saved ? path_of(directory, name) : NULL;
}

static int train_directory_copy_tensor(struct ivon_sink *sink, struct ivon_source *source, size_t i,
                                       struct ivon_error *error)
{
    const struct ivon_tensor *tensor = ivon_source_tensor(source, i);
    const void *data = ivon_source_view(source, i, 0);
    return tensor->count ? ivon_sink_write(sink, i, 0, tensor->count, data, error) : 0;
}

int train_save(struct train_directory *directory, struct ivon_source *source,
               const char *provenance, struct ivon_error *error)
{
    char name[64], creator[64];
    struct ivon_header header = *ivon_source_header(source);
    struct ivon_create_options options = {
        .size = sizeof options, .replace = true, .format = IVON_FORMAT_POSTERIOR};
    struct ivon_sink *sink = NULL;
    size_t count = ivon_source_tensor_count(source);
    struct ivon_tensor *tensors = calloc(count + 1, sizeof *tensors);
    if (!tensors)
        return error_memory(error);
    for (size_t i = 0; i < count; i++)
        tensors[i] = *ivon_source_tensor(source, i);
    checkpoint_name(name, sizeof name, (uint64_t)header.step);
    snprintf(creator, sizeof creator, "ivon-train %s", ivon_version());
    header.creator = creator;
    header.provenance = provenance;
    char *path = path_of(directory, name);
    int code = ivon_checkpoint_create(&sink, path, &header, tensors, count, &options, error);
    for (size_t i = 0; i < count && !code; i++)
        code = train_directory_copy_tensor(sink, source, i, error);
    if (!code)
        code = ivon_sink_commit(sink, error);
    ivon_sink_close(sink);
    if (!code)
        directory->saved = (uint64_t)header.step;
    free(path);
    free(tensors);
    return code;
}

bool train_best(const struct train_directory *directory, uint64_t *step)
{
    char target[64], *path = path_of(directory, best_name);
    ssize_t length = readlink(path, target, sizeof target - 1);
    free(path);
    target[length > 0 ? length : 0] = '\0';
    return checkpoint_step(target, step);
}

/* The link is made under another name and takes its place: there is always one. */
int train_set_best(struct train_directory *directory, uint64_t step, struct ivon_error *error)
{
    char target[64], *path = path_of(directory, best_name);
    char *fresh = xasprintf("%s/.%s.ivon-tmp", directory->path, best_name);
    int code = 0;
    checkpoint_name(target, sizeof target, step);
    unlink(fresh);
    if (symlink(target, fresh) || rename(fresh, path))
        code = train_directory_fail(error, IVON_ERROR_CREATE, path, "cannot link it");
    free(fresh);
    free(path);
    return code;
}

bool train_has(const struct train_directory *directory, uint64_t step)
{
    char name[64];
    checkpoint_name(name, sizeof name, step);
    char *path = path_of(directory, name);
    bool there = access(path, F_OK) == 0;
    free(path);
    return there;
}

int train_remove(struct train_directory *directory, uint64_t step, struct ivon_error *error)
{
    char name[64];
    checkpoint_name(name, sizeof name, step);
    char *path = path_of(directory, name);
    int code = unlink(path)
                   ? train_directory_fail(error, IVON_ERROR_CREATE, path, "cannot remove it")
                   : 0;
    free(path);
    return code;
}

int train_done(struct train_directory *directory, struct ivon_error *error)
{
    char text[64] = "", *path = path_of(directory, "done");
    uint64_t step;
    if (train_best(directory, &step)) {
        checkpoint_name(text, sizeof text - 1, step);
        strcat(text, "\n");
    }
    int code = ivon_output_write(path, text, strlen(text), true, error);
    free(path);
    return code;
}
