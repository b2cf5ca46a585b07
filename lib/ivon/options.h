/*
 * The rules of every struct of options, and the part that several of them share.
 *
 * A struct of options begins with its size, which its function …_defaults() sets together with the
 * values that mean: default. A program begins with that function and changes what it wants. A later
 * version of the library adds members at the end, beyond the padding, and goes on working with
 * programs that were compiled before: what lies behind the size that a program gives is never read
 * or written, and has its default. A newer program works with an older library as long as it asks
 * for nothing that is new: bytes that the library does not know have to be zero. Anything else, and
 * a size of 0, is IVON_ERROR_ARGUMENT.
 *
 * The functions …_defaults() are compiled into the program, so that the size is the program's own.
 * Other languages call what they call: …_options_init, which fills the first `size` bytes.
 *
 * A struct that is embedded in others never changes its size: it ends with reserved words, which
 * are zero, and grows into them.
 */
#ifndef IVON_OPTIONS_H
#define IVON_OPTIONS_H

#include <stddef.h>
#include <stdint.h>

#include "ivon/api.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Called during a long computation to report its progress, at most every tenth of a second or so
 * and from any of its threads, one at a time. A value other than 0 stops the computation with
 * IVON_ERROR_CANCELLED. With a total of 0 there is nothing to report: it is only asked whether to
 * stop, and possibly by several threads at once.
 */
struct ivon_progress {
    int (*report)(void *context, uint64_t bytes_done, uint64_t bytes_total); /* null: none */
    void *context;
};

struct ivon_ranks;

/* The resources of a computation. Which of them it uses, and its own default memory, stand with the
   options that it is a part of; the others are not looked at. */
struct ivon_resources {
    int threads;   /* 0: one for each processor */
    size_t memory; /* bytes, of what the options say; 0: the default that they say */
    struct ivon_progress progress;
    struct ivon_ranks *ranks; /* null: this process alone; see ivon/ranks.h */
    uint64_t reserved[3];     /* 0 */
};

#ifdef __cplusplus
}
#endif

#endif
