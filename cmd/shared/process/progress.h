/* Progress on a terminal, and interruption by a signal. */
#ifndef CMD_SHARED_PROCESS_PROGRESS_H
#define CMD_SHARED_PROCESS_PROGRESS_H

#include <signal.h>
#include <stdbool.h>

#include "ivon/stream.h"

struct progress {
    const char *label;
    const char *unit; /* of what is counted; null: bytes */
    bool visible;
    double start, last; /* seconds */
};

/*
 * From here on SIGINT, SIGTERM and SIGHUP make the reports return 1. What does not ask for one ends
 * with the program a little later, as by SIGKILL, which leaves no more than what the next run with
 * the same output takes over; a second signal ends it at once. Reports are visible when stderr is a
 * terminal and not `quiet`.
 */
struct ivon_progress progress_start(struct progress *progress, const char *label, bool quiet);

/* While `wait`, the program is not ended by itself after a signal: its work is worth more than the
   time that it may take to save it. */
void progress_wait(bool wait);

/* Clears the line. */
void progress_end(struct progress *progress);

/* The variable that receives the number of the signal that came; 0 before. */
const volatile sig_atomic_t *progress_signal(void);

/* 128 and the number of the signal that came, or 0. */
int progress_interrupted(void);

/* Agrees with other ranks on how it went, prints the error, unless `code` is 0, and returns the
   exit status: the signal's if one came, since child processes that get it too make all sorts of
   errors. */
int progress_status(int code, struct ivon_error *error);

#endif
