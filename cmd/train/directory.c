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
#include "cmd/shared/report.h"
#include "cmd/train/train.h"

static const char log_header[] = "step,epoch,loss,learning_rate,test_loss,test_error\n";

struct train_directory {
    char *path;
    FILE *log;
    bool lacks_test; /* its last row, when it was opened */
};

/* DIRECTORY/NAME, to be freed. */
static char *path_of(const struct train_directory *directory, const char *name)
{
    char *path;
    if (asprintf(&path, "%s/%s", directory->path, name) < 0)
        memory_exhausted();
    return path;
}

static int train_directory_fail(struct ivon_error *error, int code, const char *path,
                                const char *what)
{
    return error_fill(error, code, "%s: %s: %s", path, what, strerror(errno));
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
           strcmp(whole, "done") == 0;
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
        bool own = checkpoint_step(entry->d_name, &step) || strcmp(entry->d_name, "log.csv") == 0;
        own = (own && all) || strcmp(entry->d_name, "done") == 0 || unfinished(entry->d_name);
        char *path = path_of(directory, entry->d_name);
        if (own && unlink(path))
            code = train_directory_fail(error, IVON_ERROR_CREATE, path, "cannot remove it");
        free(path);
    }
    if (list)
        closedir(list);
    return code;
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
    int code = find_newest(directory, newest, error);
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
    if (directory->log)
        fclose(directory->log);
    free(directory->path);
    free(directory);
}

/* The offset at which the rows up to a step end; 0 if the file does not begin as a log does. */
static size_t train_directory_find_end(FILE *log, uint64_t step)
{
    char *line = NULL;
    size_t capacity = 0, end = 0;
    ssize_t length = getline(&line, &capacity, log);
    if (length > 0 && strcmp(line, log_header) == 0)
        end = (size_t)length;
    while (end && (length = getline(&line, &capacity, log)) > 0) {
        char *after;
        uint64_t of = strtoull(line, &after, 10);
        if (*after != ',' || line[length - 1] != '\n' || of > step)
            break;
        end += (size_t)length;
    }
    free(line);
    return end;
}

/* The beginning of a log: the header, and the rows of an earlier run up to a step. To be freed. */
static char *log_begin(const char *path, uint64_t step, size_t *size)
{
    FILE *log = step ? fopen(path, "re") : NULL;
    size_t end = log ? train_directory_find_end(log, step) : 0;
    char *text = memory_of(calloc(end + sizeof log_header, 1));
    if (end) {
        rewind(log);
        end = fread(text, 1, end, log);
    }
    if (!end)
        end = strlen(strcpy(text, log_header));
    if (log)
        fclose(log);
    *size = end;
    return text;
}

/* The log is written anew, not cut: where its name is a link, or one of several, the others that
   lead to the old one keep it. */
static int start_log(struct train_directory *directory, uint64_t step, struct ivon_error *error)
{
    size_t size;
    char *path = path_of(directory, "log.csv"), *text = log_begin(path, step, &size);
    int code = ivon_output_write(path, text, size, true, error);
    if (!code) {
        directory->lacks_test = size > sizeof log_header && strcmp(text + size - 3, ",,\n") == 0;
        directory->log = fopen(path, "r+e");
        if (!directory->log || fseeko(directory->log, 0, SEEK_END))
            code = train_directory_fail(error, IVON_ERROR_CREATE, path, "cannot write it");
    }
    free(text);
    free(path);
    return code;
}

int train_begin(struct train_directory *directory, uint64_t step, struct ivon_error *error)
{
    if (mkdir(directory->path, 0777) && errno != EEXIST)
        return train_directory_fail(error, IVON_ERROR_CREATE, directory->path, "cannot create it");
    int code = clear(directory, step == 0, error);
    return code ? code : start_log(directory, step, error);
}

static void put_test(FILE *log, double loss, double error_rate)
{
    if (!isnan(loss))
        fprintf(log, "%.9g", loss);
    fputc(',', log);
    if (!isnan(error_rate))
        fprintf(log, "%.9g", error_rate);
    fputc('\n', log);
}

static int flush_log(struct train_directory *directory, struct ivon_error *error)
{
    return !fflush(directory->log) && !ferror(directory->log)
               ? 0
               : train_directory_fail(error, IVON_ERROR_IO, directory->path,
                                      "cannot write log.csv");
}

int train_log_add(struct train_directory *directory, const struct train_row *row,
                  struct ivon_error *error)
{
    FILE *log = directory->log;
    fprintf(log, "%" PRIu64 ",%.9g,%.9g,%.9g,", row->step, row->epoch, report_number(row->loss),
            row->rate);
    put_test(log, row->test_loss, row->test_error);
    return flush_log(directory, error);
}

bool train_log_lacks_test(const struct train_directory *directory)
{
    return directory->lacks_test;
}

int train_log_add_test(struct train_directory *directory, double loss, double error_rate,
                       struct ivon_error *error)
{
    if (fseeko(directory->log, -2, SEEK_END)) /* before ",\n" */
        return train_directory_fail(error, IVON_ERROR_IO, directory->path, "cannot write log.csv");
    put_test(directory->log, loss, error_rate);
    return flush_log(directory, error);
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
    snprintf(name, sizeof name, "posterior-%08" PRId64 ".h5", header.step);
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
    free(path);
    free(tensors);
    return code;
}

int train_done(struct train_directory *directory, struct ivon_error *error)
{
    char *path = path_of(directory, "done");
    int code = ivon_output_write(path, "", 0, true, error);
    free(path);
    return code;
}
