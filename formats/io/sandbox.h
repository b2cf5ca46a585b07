/*
 * A child process that parses a stranger's file, so that whatever the file does to the parser
 * happens there: it has no descriptor but its end of a socket, may not open, execute or connect
 * (seccomp, where the kernel has it), and its memory and processor time are limited.
 */
#ifndef FORMATS_IO_SANDBOX_H
#define FORMATS_IO_SANDBOX_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "ivon/error.h"

struct sandbox {
    pid_t child;
    int socket;
    void *window; /* memory that parent and child share, for data that need no checking */
    size_t window_size;
    pthread_mutex_t lock; /* held from a request to the end of its reply */
};

/* The child's side of a sandbox. */
struct sandbox_child {
    int socket;
    void *window;
    size_t window_size;
    int seconds;
};

struct sandbox_limits {
    bool confine;       /* with seccomp */
    size_t memory;      /* bytes that the child may allocate */
    int seconds;        /* of processor time between two calls of sandbox_rewind_clock */
    size_t window_size; /* bytes */
};

/* Forks. The child runs serve(child, context) and ends when it returns. */
int sandbox_start(struct sandbox *sandbox, const struct sandbox_limits *limits,
                  void (*serve)(struct sandbox_child *child, void *context), void *context,
                  struct ivon_error *error);

/* Ends the child. Accepts a sandbox that is all zero, or was stopped before. */
void sandbox_stop(struct sandbox *sandbox);

/* Returns whether there is a child that can be asked. */
bool sandbox_running(const struct sandbox *sandbox);

/* Exactly `size` bytes to or from the other side; false when it is gone. */
bool sandbox_send(int socket, const void *data, size_t size);
bool sandbox_receive(int socket, void *data, size_t size);

/* Ends a child that did not answer, and says in a few words why it did not, with `buffer`'s
   help. */
const char *sandbox_post_mortem(struct sandbox *sandbox, char *buffer, size_t size);

/* In the child: the processor time counts anew from here. */
void sandbox_rewind_clock(const struct sandbox_child *child);

#endif
