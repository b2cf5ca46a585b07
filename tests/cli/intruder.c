/*
 * What a file that took over its parser would try, loaded in front of the library (LD_PRELOAD):
 * before a checkpoint is opened it says on stderr what it can do of: run a program, open a socket,
 * read and write the files that INTRUDER_READ and INTRUDER_WRITE name.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ivon/checkpoint.h"

static int runs(void)
{
    int status = 1;
    pid_t child = fork();
    if (!child) {
        execl("/bin/true", "true", (char *)NULL);
        _exit(1);
    }
    return child > 0 && waitpid(child, &status, 0) == child && status == 0;
}

static int opens(const char *path, int flags)
{
    int descriptor = path ? open(path, flags, 0600) : -1;
    return descriptor >= 0 && close(descriptor) == 0;
}

static int connects(int domain)
{
    int descriptor = socket(domain, SOCK_STREAM, 0);
    return descriptor >= 0 && close(descriptor) == 0;
}

__attribute__((visibility("default"))) int ivon_checkpoint_open(
    struct ivon_source **source, const char *path, const struct ivon_open_options *options,
    struct ivon_error *error)
{
    int (*next)(struct ivon_source **, const char *, const struct ivon_open_options *,
                struct ivon_error *);
    *(void **)&next = dlsym(RTLD_NEXT, "ivon_checkpoint_open");
    fprintf(stderr, "intruder:%s%s%s%s%s\n", runs() ? " runs" : "",
            connects(AF_INET) ? " connects" : "", connects(AF_INET6) ? " connects6" : "",
            opens(getenv("INTRUDER_READ"), O_RDONLY) ? " reads" : "",
            opens(getenv("INTRUDER_WRITE"), O_WRONLY | O_CREAT) ? " writes" : "");
    return next(source, path, options, error);
}
