#define _GNU_SOURCE
#include "cmd/shared/process/ranks.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "cmd/shared/memory.h"
#include "cmd/shared/report.h"

/* One set of ranks for the whole program, as it has one standard output. */
static struct ivon_ranks *joined;
static FILE *dropped; /* standard error, where this one prints nothing */

struct ivon_ranks *ranks_joined(void)
{
    return joined;
}

bool ranks_first(void)
{
    return !ivon_ranks_rank(joined);
}

/* The streams alone: what the system below prints of a crash still reaches the launcher. */
static void drop_streams(void)
{
    FILE *nowhere = fopen("/dev/null", "we");
    if (!nowhere)
        return;
    dropped = stderr;
    stdout = nowhere;
    stderr = nowhere;
}

/* Lets a rank print whose error no other has. Of an interruption the launcher tells, or rank 0,
   which it then interrupts. */
static void recover_stderr(void)
{
    if (dropped)
        stderr = dropped;
    dropped = NULL;
}

/* Standard input reaches rank 0 alone: here it can be read on none, as "-" by whatever option, and
   its number stays taken. */
static void close_input(void)
{
    int nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
    if (nowhere < 0)
        return;
    int input = dup2(nowhere, STDIN_FILENO);
    (void)input;
    close(nowhere);
}

int ranks_join(const struct command *command)
{
    struct ivon_error error = {0};
    bool first = true;
    int code = ivon_ranks_open(&joined, &first, &error);
    if (!code && !command->by_ranks)
        code = ranks_refuse(program_invocation_short_name, &error);
    if (joined)
        close_input();
    if (!first)
        drop_streams();
    return code ? report_error(&error) : 0;
}

int ranks_refuse(const char *what, struct ivon_error *error)
{
    return joined ? error_fill(error, IVON_ERROR_ARGUMENT,
                               "%s does not share its work among processes, and %d were started: "
                               "run it without their launcher",
                               what, ivon_ranks_count(joined))
                  : 0;
}

/* Says which rank an error is of, where the first one may have none. */
static void name_rank(struct ivon_error *error)
{
    char host[64] = "?";
    const struct ivon_error own = *error;
    gethostname(host, sizeof host - 1);
    if (ranks_first() || ivon_ranks_failed(joined))
        return;
    error_fill(error, own.code, "rank %d on %s: %s", ivon_ranks_rank(joined), host, own.message);
    error->hint = own.hint;
}

int ranks_share_text(char **text, struct ivon_error *error)
{
    size_t size = *text ? strlen(*text) + 1 : 0;
    int code = ivon_ranks_share(joined, &size, sizeof size, error);
    if (code || !size)
        return code;
    if (!ranks_first())
        *text = xcalloc(size, 1);
    return ivon_ranks_share(joined, *text, size, error);
}

int ranks_agree(int code, struct ivon_error *error)
{
    if (code && ivon_ranks_failed(joined))
        return code;
    if (code && joined)
        name_rank(error);
    code = ivon_ranks_agree(joined, code, error);
    if (code && code != IVON_ERROR_CANCELLED && joined && !ivon_ranks_failed(joined))
        recover_stderr();
    return code;
}

int ranks_leave(int status)
{
    struct ivon_error error = {0};
    bool known = ivon_ranks_failed(joined);
    if (!joined)
        return status;
    if (status && !known)
        error_fill(&error, IVON_ERROR_INTERNAL, "ended with exit status %d", status);
    int code = ranks_agree(status ? IVON_ERROR_INTERNAL : 0, &error);
    bool alone = code && !ivon_ranks_failed(joined);
    if (code && !status)
        status = report_error(&error);
    if (alone)
        ivon_ranks_abort(joined, status);
    ivon_ranks_close(joined);
    joined = NULL;
    return status;
}
