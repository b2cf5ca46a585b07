/* The log of a training, log.csv: a row for each step. */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/shared/memory.h"
#include "cmd/shared/report.h"
#include "cmd/train/train.h"

static const char log_header[] =
    "step,epoch,loss,learning_rate,test_loss,test_error,loo_loss,loo_loss_se\n";

/* Logs of earlier versions end their rows sooner, which are filled up. */
static const char log_header_before[] = "step,epoch,loss,learning_rate,test_loss,test_error\n";
static const char log_fill[] = ",,";

struct train_log {
    char *path;
    FILE *file;
    off_t last; /* where the last row begins that was read or added */
};

static int log_fail(const struct train_log *log, int code, struct ivon_error *error)
{
    return error_fill(error, code, "%s: cannot write it: %s", log->path, strerror(errno));
}

/* Copies the header, and the rows up to a step; what does not begin as a log does has none. */
static void log_copy(FILE *to, FILE *from, uint64_t step)
{
    char *line = NULL;
    size_t capacity = 0;
    ssize_t length = from ? getline(&line, &capacity, from) : 0;
    bool before = length > 0 && strcmp(line, log_header_before) == 0;
    bool known = before || (length > 0 && strcmp(line, log_header) == 0);
    fputs(log_header, to);
    while (known && (length = getline(&line, &capacity, from)) > 0) {
        char *after;
        uint64_t of = strtoull(line, &after, 10);
        if (*after != ',' || line[length - 1] != '\n' || of > step)
            break;
        line[length - 1] = '\0';
        fprintf(to, "%s%s\n", line, before ? log_fill : "");
    }
    free(line);
}

/* The log is written anew, not cut: where its name is a link, or one of several, the others that
   lead to the old one keep it. */
int train_log_open(struct train_log **out, const char *path, uint64_t step,
                   struct ivon_error *error)
{
    struct train_log *log = xcalloc(1, sizeof *log);
    char *text = NULL;
    size_t size = 0;
    FILE *memory = memory_of(open_memstream(&text, &size)), *old = step ? fopen(path, "re") : NULL;
    *out = log;
    log->path = xstrdup(path);
    log_copy(memory, old, step);
    if (fclose(memory))
        memory_exhausted();
    if (old)
        fclose(old);
    int code = ivon_output_write(path, text, size, true, error);
    free(text);
    if (code)
        return code;
    log->file = fopen(path, "r+e");
    return log->file && !fseeko(log->file, 0, SEEK_END) ? 0
                                                        : log_fail(log, IVON_ERROR_CREATE, error);
}

const char *train_log_path(const struct train_log *log)
{
    return log->path;
}

void train_log_close(struct train_log *log)
{
    if (!log)
        return;
    if (log->file)
        fclose(log->file);
    free(log->path);
    free(log);
}

/* Reads a number, or NaN where there is none, and goes behind its comma. */
static double log_number(char **at)
{
    char *end;
    double value = strtod(*at, &end);
    bool there = end != *at;
    *at = end + (*end == ',');
    return there ? value : NAN;
}

static struct train_row log_parse(char *line)
{
    struct train_row row = {.step = strtoull(line, &line, 10)};
    line += *line == ',';
    row.epoch = log_number(&line);
    row.loss = log_number(&line);
    row.rate = log_number(&line);
    row.test_loss = log_number(&line);
    row.test_error = log_number(&line);
    row.loo = *line != ',';
    row.loo_loss = log_number(&line);
    row.loo_loss_se = log_number(&line);
    return row;
}

int train_log_read(struct train_log *log,
                   void (*on_row)(void *context, const struct train_row *row), void *context,
                   struct ivon_error *error)
{
    char *line = NULL;
    size_t capacity = 0;
    rewind(log->file);
    bool rows = getline(&line, &capacity, log->file) > 0; /* the header */
    for (off_t at = ftello(log->file); rows && getline(&line, &capacity, log->file) > 0;
         at = ftello(log->file)) {
        struct train_row row = log_parse(line);
        log->last = at;
        on_row(context, &row);
    }
    free(line);
    return ferror(log->file) || fseeko(log->file, 0, SEEK_END) ? log_fail(log, IVON_ERROR_IO, error)
                                                               : 0;
}

static int log_write(struct train_log *log, const struct train_row *row, struct ivon_error *error)
{
    FILE *file = log->file;
    fprintf(file, "%" PRIu64 ",%.9g,%.9g,%.9g", row->step, row->epoch, report_number(row->loss),
            row->rate);
    report_csv_number(file, row->test_loss);
    report_csv_number(file, row->test_error);
    if (row->loo)
        fprintf(file, ",%.9g,%.9g\n", report_number(row->loo_loss),
                report_number(row->loo_loss_se));
    else
        fprintf(file, "%s\n", log_fill);
    return fflush(file) || ferror(file) ? log_fail(log, IVON_ERROR_IO, error) : 0;
}

int train_log_add(struct train_log *log, const struct train_row *row, struct ivon_error *error)
{
    log->last = ftello(log->file);
    return log_write(log, row, error);
}

int train_log_complete(struct train_log *log, const struct train_row *row, struct ivon_error *error)
{
    return fseeko(log->file, log->last, SEEK_SET) ? log_fail(log, IVON_ERROR_IO, error)
                                                  : log_write(log, row, error);
}
