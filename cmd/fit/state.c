/* A fit's state in FILE.part, beside its output FILE. */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cmd/fit/fit.h"
#include "cmd/shared/memory.h"
#include "cmd/shared/process/progress.h"
#include "cmd/shared/process/ranks.h"
#include "cmd/shared/report.h"

static const double EVERY = 300; /* seconds */

/* Writes the state in place of the one before, which stays until it is whole. */
static int write_part(const struct fit_command *command, struct ivon_source *state,
                      struct ivon_error *error)
{
    struct ivon_create_options create = ivon_create_defaults();
    struct ivon_convert_options convert = ivon_convert_defaults();
    struct ivon_header header = ivon_header_empty();
    size_t count = ivon_source_tensor_count(state);
    struct ivon_tensor *tensors = xcalloc(count + 1, sizeof *tensors);
    struct ivon_sink *sink = NULL;
    create.replace = true;
    create.format = IVON_FORMAT_POSTERIOR;
    convert.resources.threads = fit_write_threads(command);
    header.creator = "ivon-fit, interrupted";
    ivon_convert_outputs(state, IVON_DTYPE_KEEP, tensors);
    int code = ivon_checkpoint_create(&sink, command->part, &header, tensors, count, &create,
                                      error);
    if (!code)
        code = ivon_convert_write(state, &convert, sink, error);
    if (!code)
        code = ivon_sink_commit(sink, error);
    ivon_sink_close(sink);
    free(tensors);
    return code;
}

/* A fit is worth more than its state: that a disk is full is said, and the fit goes on. */
static int fit_state_save(void *context, struct ivon_source *state, struct ivon_error *error)
{
    struct fit_command *command = context;
    (void)error;
    struct ivon_error found = {0};
    if (write_part(command, state, &found))
        report_note("what was done is not saved: %s", found.message);
    else
        command->part_kept = true;
    return 0;
}

/* A damaged state is one, too: the first bytes tell. */
static bool looks_like_state(const char *path)
{
    static const char signature[] = {'\x89', 'H', 'D', 'F', '\r', '\n', '\x1a', '\n'};
    char found[sizeof signature];
    struct stat status;
    FILE *file = stat(path, &status) == 0 && S_ISREG(status.st_mode) ? fopen(path, "rbe") : NULL;
    if (!file)
        return false;
    size_t size = fread(found, 1, sizeof found, file);
    fclose(file);
    return memcmp(found, signature, size) == 0;
}

/* Fails where a file that is no state has the name, which is never replaced, or where none can be
   made; takes over what a run left that was killed while it saved. */
static int check_state_file(struct fit_command *command, struct ivon_error *error)
{
    const struct ivon_header header = ivon_header_empty();
    const struct ivon_tensor tensor = {.name = "run",
                                       .part = IVON_BUFFER,
                                       .dtype = IVON_U8,
                                       .rank = 1,
                                       .shape = {1},
                                       .count = 1,
                                       .ess = NAN,
                                       .weight_decay = NAN};
    struct ivon_create_options create = ivon_create_defaults();
    struct ivon_sink *sink = NULL;
    struct stat status;
    command->part_exists = lstat(command->part, &status) == 0;
    if (command->part_exists && !looks_like_state(command->part))
        return error_fill(error, IVON_ERROR_DATA,
                          "%s: is in the way, and not the state of an interrupted fit: remove it, "
                          "or name another output",
                          command->part);
    create.replace = true;
    create.format = IVON_FORMAT_POSTERIOR;
    int code = ivon_checkpoint_create(&sink, command->part, &header, &tensor, 1, &create, error);
    ivon_sink_close(sink);
    return code;
}

int fit_state_begin(struct fit_command *command, struct ivon_error *error)
{
    command->part = xasprintf("%s.part", command->output);
    return check_state_file(command, error);
}

void fit_state_set(struct fit_command *command)
{
    command->options.save = fit_state_save;
    command->options.save_context = command;
    command->options.save_seconds = EVERY;
    command->options.run = command->graph;
    command->options.run_size = command->graph_size;
}

int fit_state_resume(struct fit_command *command, struct ivon_error *error)
{
    struct ivon_open_options open = ivon_open_defaults();
    struct ivon_source *state = NULL;
    bool there = command->part_exists; /* rank 0 alone knows */
    int code = ivon_ranks_share(ranks_joined(), &there, sizeof there, error);
    if (code || !command->resume || !there)
        return code;
    open.no_sandbox = command->open.open.no_sandbox;
    if (ranks_first())
        code = ivon_checkpoint_open(&state, command->part, &open, error);
    if (code == IVON_ERROR_DATA)
        error->hint = IVON_HINT_START_ANEW;
    if (!code)
        code = ivon_fit_resume(command->fit, state, error);
    ivon_source_close(state);
    command->part_kept = !code && ranks_first();
    if (code || command->common.quiet)
        return code;
    struct ivon_fit_summary summary = ivon_fit_summary(command->fit);
    report_note("%s.part: going on in pass %zu of %zu, after %" PRIu64 " of %" PRIu64 " examples",
                command->output, summary.passes_done + 1, summary.passes + summary.products,
                summary.examples_done, summary.examples);
    return 0;
}

int fit_state_run(struct fit_command *command,
                  int (*run)(struct ivon_fit *fit, struct ivon_error *error),
                  struct ivon_error *error)
{
    progress_wait(true);
    int code = run(command->fit, error);
    progress_wait(false);
    return code;
}

void fit_state_end(struct fit_command *command, bool done)
{
    bool there = command->part_exists || command->part_kept;
    if (done && there && unlink(command->part))
        report_note("%s: cannot remove it: %s", command->part, strerror(errno));
    else if (!done && command->part_kept && !command->common.quiet)
        report_note("%s keeps what was done: go on by --resume", command->part);
    free(command->part);
    command->part = NULL;
}
