/*
 * What a command may still do once its options are known, so that an input that takes over its
 * parser can do little: run no program, reach no network, write only where the outputs go, read
 * only where the inputs are. By seccomp and Landlock; where the kernel lacks one, the other holds.
 */
#ifndef CMD_SHARED_CONFINE_H
#define CMD_SHARED_CONFINE_H

#include <stdbool.h>
#include <stddef.h>

struct confinement {
    bool off;
    bool programs;              /* may be run, and then anything may be read */
    const char *const *outputs; /* files or directories; null ones are passed over */
    size_t output_count;
};

/* Every argument that names a file, or begins with one's name, opens the folder of that file for
   reading, and of what it links to: shards and external data lie there. */
void confine(const struct confinement *confinement, int argc, char **argv);

#endif
