/* gnuplot as a child process: the script goes into a pipe, the picture comes out of another. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

#include "cmd/shared/memory.h"
#include "cmd/plot/plot.h"
#include "cmd/shared/report.h"

enum { IN, OUT, ERR, STREAMS };

/* The bytes that were read from a pipe. */
struct bytes {
    char *data;
    size_t size, capacity;
};

struct gnuplot {
    int pipes[STREAMS]; /* our ends; -1 when they are closed */
    pid_t process;
    struct bytes picture, complaints;
};

static void close_end(int *descriptor)
{
    if (*descriptor >= 0)
        close(*descriptor);
    *descriptor = -1;
}

/* Connects the child's three streams; its ends go to `theirs`. */
static int open_pipes(struct gnuplot *gnuplot, int theirs[STREAMS])
{
    for (int i = 0; i < STREAMS; i++) {
        int ends[2];
        if (pipe2(ends, O_CLOEXEC))
            return errno;
        gnuplot->pipes[i] = ends[i == IN];
        theirs[i] = ends[i != IN];
    }
    return fcntl(gnuplot->pipes[IN], F_SETFL, O_NONBLOCK) ? errno : 0;
}

/* Starts it without a shell and without the user's settings; returns an error number. */
static int plot_gnuplot_start(struct gnuplot *gnuplot)
{
    char *const arguments[] = {(char[]){"gnuplot"}, (char[]){"-d"}, (char[]){"-"}, NULL};
    int theirs[STREAMS] = {-1, -1, -1};
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t defaults;
    int number = open_pipes(gnuplot, theirs);
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
    sigemptyset(&defaults);
    sigaddset(&defaults, SIGPIPE);
    posix_spawnattr_setsigdefault(&attributes, &defaults);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF);
    for (int i = 0; i < STREAMS && !number; i++)
        number = posix_spawn_file_actions_adddup2(&actions, theirs[i], i);
    if (!number)
        number = posix_spawnp(&gnuplot->process, arguments[0], &actions, &attributes, arguments,
                              environ);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    for (int i = 0; i < STREAMS; i++)
        close_end(&theirs[i]);
    return number;
}

/* Takes what is there; closes the pipe at its end. */
static void plot_gnuplot_read(int *descriptor, struct bytes *bytes)
{
    enum { PIECE = 1 << 16 };
    if (bytes->capacity - bytes->size < PIECE) {
        bytes->capacity = 2 * bytes->capacity + PIECE;
        bytes->data = xreallocarray(bytes->data, bytes->capacity, 1);
    }
    /* One byte is kept for a null byte behind the complaints. */
    ssize_t got = read(*descriptor, bytes->data + bytes->size, bytes->capacity - bytes->size - 1);
    if (got > 0)
        bytes->size += (size_t)got;
    else if (got == 0 || errno != EINTR)
        close_end(descriptor);
}

static void give(int *descriptor, const struct script *script, size_t *given)
{
    ssize_t put = write(*descriptor, script->text + *given, script->size - *given);
    if (put > 0)
        *given += (size_t)put;
    if (*given == script->size || (put < 0 && errno != EINTR && errno != EAGAIN))
        close_end(descriptor);
}

/* Both ways at once: neither side may wait for the other. */
static void converse(struct gnuplot *gnuplot, const struct script *script)
{
    size_t given = 0;
    while (gnuplot->pipes[OUT] >= 0 || gnuplot->pipes[ERR] >= 0) {
        struct pollfd polled[STREAMS];
        for (int i = 0; i < STREAMS; i++)
            polled[i] = (struct pollfd){gnuplot->pipes[i], i == IN ? POLLOUT : POLLIN, 0};
        if (poll(polled, STREAMS, -1) < 0 && errno != EINTR)
            break;
        if (polled[IN].revents)
            give(&gnuplot->pipes[IN], script, &given);
        if (polled[OUT].revents)
            plot_gnuplot_read(&gnuplot->pipes[OUT], &gnuplot->picture);
        if (polled[ERR].revents)
            plot_gnuplot_read(&gnuplot->pipes[ERR], &gnuplot->complaints);
    }
}

/* The last line that says something. */
static const char *last_line(struct bytes *bytes)
{
    if (!bytes->data)
        return "it drew nothing";
    bytes->data[bytes->size] = '\0';
    const char *found = "it drew nothing";
    for (char *line = strtok(bytes->data, "\n"); line; line = strtok(NULL, "\n"))
        if (line[strspn(line, " \t^")])
            found = line + strspn(line, " \t");
    return found;
}

static int cannot_start(int number)
{
    if (number == ENOENT)
        report_note("gnuplot is not on the PATH; install it: apt-get install gnuplot-nox");
    else
        report_note("cannot run gnuplot: %s", strerror(number));
    return EX_UNAVAILABLE;
}

static int plot_gnuplot_failed(struct gnuplot *gnuplot)
{
    fprintf(stderr, "%s: gnuplot failed: ", program_invocation_short_name);
    report_text(stderr, last_line(&gnuplot->complaints));
    fputc('\n', stderr);
    return EX_SOFTWARE;
}

int gnuplot_run(const struct script *script, char **picture, size_t *size)
{
    struct gnuplot gnuplot = {.pipes = {-1, -1, -1}};
    struct sigaction ignore = {.sa_handler = SIG_IGN}, before;
    int status = 0, result = 0;
    sigaction(SIGPIPE, &ignore, &before);
    int number = plot_gnuplot_start(&gnuplot);
    if (number)
        result = cannot_start(number);
    else
        converse(&gnuplot, script);
    for (int i = 0; i < STREAMS; i++)
        close_end(&gnuplot.pipes[i]);
    if (!number)
        while (waitpid(gnuplot.process, &status, 0) < 0 && errno == EINTR)
            continue;
    sigaction(SIGPIPE, &before, NULL);
    if (!number && (!WIFEXITED(status) || WEXITSTATUS(status) || !gnuplot.picture.size))
        result = plot_gnuplot_failed(&gnuplot);
    free(gnuplot.complaints.data);
    *picture = gnuplot.picture.data;
    *size = gnuplot.picture.size;
    return result;
}
