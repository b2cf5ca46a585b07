#include "cmd/progress.h"

#include <signal.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "cmd/report.h"

static volatile sig_atomic_t received; /* a handler has nowhere else to put it */

static void on_signal(int signal)
{
    received = signal;
}

static double now(void)
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
    double time = now();
    if (received)
        return 1;
    if (!progress->visible || time - progress->last < 0.1)
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
    *progress = (struct progress){.label = label, .visible = !quiet && isatty(STDERR_FILENO)};
    progress->start = progress->last = now();
    for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++) {
        struct sigaction old;
        if (sigaction(signals[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN)
            sigaction(signals[i], &action, NULL);
    }
    return (struct ivon_progress){.report = report, .context = progress};
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

int progress_status(int code, const struct ivon_error *error)
{
    int status = code ? report_error(error) : 0;
    return code == IVON_ERROR_CANCELLED && received ? progress_interrupted() : status;
}
