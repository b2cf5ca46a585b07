/*
 * The limits of a command once its options are known: no program is run (but for those that
 * a command itself needs), no network reached (but by ranks, for one another); files are written
 * only where the outputs go, and read only where the inputs are. So an input that takes over its
 * parser can do little. By seccomp and Landlock; if the kernel lacks one, the other holds.
 */
#ifndef CMD_SHARED_PROCESS_CONFINE_H
#define CMD_SHARED_PROCESS_CONFINE_H

#include <stdbool.h>
#include <stddef.h>

struct confinement {
    bool off;
    bool programs;              /* may be run, and then anything may be read */
    bool links;                 /* symbolic ones may be made where the outputs go */
    const char *const *outputs; /* files or directories; null ones are passed over */
    size_t output_count;
};

/* Every argument that names a file, or begins with one's name, opens the folder of that file for
   reading, and of what it links to: shards and external data lie there. */
void confine(const struct confinement *confinement, int argc, char **argv);

#endif
