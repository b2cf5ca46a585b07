#define _GNU_SOURCE
#include "cmd/shared/process/progress.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "cmd/shared/process/ranks.h"
#include "cmd/shared/report.h"
#include "ivon/output.h"

/* From a signal to the end of the program. A rank waits for the others for five seconds. */
static const struct timeval PATIENCE = {.tv_usec = 600000}, PATIENCE_OF_RANKS = {.tv_sec = 6};

/* Handlers have nowhere else to put them. */
static volatile sig_atomic_t received;
static volatile sig_atomic_t waits;
static volatile sig_atomic_t reported; /* a line has said that a signal was received */

/* A mere system call. */
static void start_alarm(void)
{
    const struct itimerval end = {.it_value = ranks_joined() ? PATIENCE_OF_RANKS : PATIENCE};
    setitimer(ITIMER_REAL, &end, NULL);
}

static void on_signal(int signal)
{
    received = signal;
    start_alarm();
}

static void on_alarm(int signal)
{
    static const char text[] = ": interrupted\n";
    (void)signal;
    if (waits || !received)
        return;
    if (!reported && ranks_first()) {
        ssize_t named = write(STDERR_FILENO, program_invocation_short_name,
                              strlen(program_invocation_short_name));
        ssize_t written = write(STDERR_FILENO, text, sizeof text - 1);
        (void)named;
        (void)written;
    }
    ivon_outputs_abandon();
    _exit(128 + (int)received);
}

static double progress_now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static const char *amount(const struct progress *progress, double value, char text[32])
{
    return progress->unit ? report_count((uint64_t)value, text) : report_bytes(value, text);
}

static int report(void *context, uint64_t done, uint64_t total)
{
    struct progress *progress = context;
    double time = progress_now();
    if (received)
        return 1;
    if (!total || !progress->visible || time - progress->last < 0.1)
        return 0;
    progress->last = time;
    char done_text[32], total_text[32], rate_text[32];
    double rate = (double)done / (time - progress->start);
    double left = rate > 0 ? (double)(total - done) / rate : 0;
    const char *unit = progress->unit ? progress->unit : "";
    fprintf(stderr, "\r\033[K%s  %s of %s%s%s  %s/s  %d:%02d left", progress->label,
            amount(progress, (double)done, done_text), amount(progress, (double)total, total_text),
            *unit ? " " : "", unit, amount(progress, rate, rate_text), (int)(left / 60),
            (int)left % 60);
    fflush(stderr);
    return 0;
}

struct ivon_progress progress_start(struct progress *progress, const char *label, bool quiet)
{
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND};
    struct sigaction end = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
    *progress = (struct progress){.label = label, .visible = !quiet && isatty(STDERR_FILENO)};
    progress->start = progress->last = progress_now();
    sigaction(SIGALRM, &end, NULL);
    for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++) {
        struct sigaction old;
        if (sigaction(signals[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN)
            sigaction(signals[i], &action, NULL);
    }
    return (struct ivon_progress){.report = report, .context = progress};
}

void progress_wait(bool wait)
{
    waits = wait;
    if (!wait && received)
        start_alarm();
}

void progress_end(struct progress *progress)
{
    if (progress->visible && progress->last != progress->start)
        fputs("\r\033[K", stderr);
}

const volatile sig_atomic_t *progress_signal(void)
{
    return &received;
}

int progress_interrupted(void)
{
    return received ? 128 + (int)received : 0;
}

int progress_status(int code, struct ivon_error *error)
{
    code = ranks_agree(code, error);
    if (!code)
        return 0;
    reported = 1; /* here; launchers end what is left of a command by a signal */
    if (!received)
        return report_error(error);
    if (code == IVON_ERROR_CANCELLED)
        report_error(error);
    else
        report_note("interrupted");
    return progress_interrupted();
}
