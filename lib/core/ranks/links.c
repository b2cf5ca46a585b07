#define _GNU_SOURCE
#include "core/ranks/links.h"

#include <dirent.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sysexits.h>
#include <unistd.h>

enum {
    ATTEMPTS = 3, /* that nobody has answered */
    LATER = 5     /* seconds more for others than rank 0, which tells where it can */
};

struct links_watcher {
    int rank, seconds;
};

static bool links_ask(int socket, struct tcp_info *info)
{
    socklen_t size = sizeof *info;
    return getsockopt(socket, IPPROTO_TCP, TCP_INFO, info, &size) == 0 &&
           info->tcpi_state == TCP_ESTABLISHED;
}

/* Has a connection probed that carries nothing, where else nobody would learn that it is broken;
   the system itself is not to give up before. Once for each: settings begin the wait anew. */
static void links_probe(int socket, int seconds)
{
    const int on = 1, count = 4 * ATTEMPTS, interval = seconds / (2 * ATTEMPTS) + 1;
    int old = 0;
    socklen_t size = sizeof old;
    if (getsockopt(socket, IPPROTO_TCP, TCP_KEEPCNT, &old, &size) == 0 && old == count)
        return;
    setsockopt(socket, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof count);
    setsockopt(socket, IPPROTO_TCP, TCP_KEEPIDLE, &interval, sizeof interval);
    setsockopt(socket, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof interval);
    setsockopt(socket, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
}

/* The system counts probes, and data that it sends again, until the next answer. */
static bool links_is_silent(const struct tcp_info *info, int seconds)
{
    return info->tcpi_retransmits + info->tcpi_probes >= ATTEMPTS &&
           info->tcpi_last_ack_recv / 1000 >= (unsigned)seconds;
}

/* Standard error of all ranks reaches the launcher, also where this program's stream is closed. */
static void links_end(int socket, const struct links_watcher *watcher)
{
    char peer[NI_MAXHOST] = "a machine", host[64] = "?";
    struct sockaddr_storage address;
    socklen_t size = sizeof address;
    if (getpeername(socket, (struct sockaddr *)&address, &size) == 0)
        getnameinfo((struct sockaddr *)&address, size, peer, sizeof peer, NULL, 0, NI_NUMERICHOST);
    gethostname(host, sizeof host - 1);
    dprintf(STDERR_FILENO, "%s: rank %d on %s: %s has not answered for %d seconds\n",
            program_invocation_short_name, watcher->rank, host, peer, watcher->seconds);
    _exit(EX_IOERR);
}

/* MPI may make a connection at any time: all descriptors are looked at each second. */
static void *links_run(void *argument)
{
    const struct links_watcher *watcher = argument;
    DIR *directory = opendir("/proc/self/fd");
    for (; directory; sleep(1), rewinddir(directory))
        for (struct dirent *entry; (entry = readdir(directory));) {
            struct tcp_info info;
            int socket = (int)strtol(entry->d_name, NULL, 10); /* "..", too: standard input */
            if (!links_ask(socket, &info))
                continue;
            links_probe(socket, watcher->seconds);
            if (links_is_silent(&info, watcher->seconds))
                links_end(socket, watcher);
        }
    return NULL;
}

void links_watch(int rank, int seconds)
{
    static struct links_watcher watcher; /* the thread lasts as long as the process */
    sigset_t all, before;
    pthread_t thread;
    watcher = (struct links_watcher){rank, rank ? seconds + LATER : seconds};
    sigfillset(&all); /* signals are the program's */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    if (pthread_create(&thread, NULL, links_run, &watcher) == 0)
        pthread_detach(thread);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}
