#define _GNU_SOURCE
#include "formats/io/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/error.h"

#ifndef __has_feature /* clang's */
#define __has_feature(name) 0
#endif

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) ||                               \
    __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
enum { LIMIT_MEMORY = 0 }; /* the shadow alone exceeds any limit */
#else
enum { LIMIT_MEMORY = 1 };
#endif

bool sandbox_send(int socket, const void *data, size_t size)
{
    for (const char *from = data; size;) {
        ssize_t sent = send(socket, from, size, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent <= 0)
            return false;
        from += sent;
        size -= (size_t)sent;
    }
    return true;
}

bool sandbox_receive(int socket, void *data, size_t size)
{
    for (char *to = data; size;) {
        ssize_t received = recv(socket, to, size, 0);
        if (received < 0 && errno == EINTR)
            continue;
        if (received <= 0)
            return false;
        to += received;
        size -= (size_t)received;
    }
    return true;
}

void sandbox_rewind_clock(const struct sandbox_child *child)
{
    struct itimerval timer = {.it_value.tv_sec = child->seconds};
    setitimer(ITIMER_PROF, &timer, NULL);
}

/* The bytes of private writable memory that the process has now: RLIMIT_DATA counts from there. */
static rlim_t data_in_use(void)
{
    unsigned long long pages = 0;
    char text[256], *at = text;
    FILE *statm = fopen("/proc/self/statm", "re");
    if (!statm)
        return 0;
    for (int field = fgets(text, sizeof text, statm) ? 0 : 6; field < 6; field++)
        pages = strtoull(at, &at, 10);
    fclose(statm);
    return (rlim_t)pages * (rlim_t)sysconf(_SC_PAGESIZE);
}

/* Everything but computing, allocating and talking to the parent fails with EPERM. */
static void forbid_system_calls(void)
{
    static const int allowed[] = {
        SCMP_SYS(brk),          SCMP_SYS(clock_gettime),
        SCMP_SYS(exit),         SCMP_SYS(exit_group),
        SCMP_SYS(futex),        SCMP_SYS(getpid),
        SCMP_SYS(gettid),       SCMP_SYS(gettimeofday),
        SCMP_SYS(madvise),      SCMP_SYS(mprotect),
        SCMP_SYS(mremap),       SCMP_SYS(munmap),
        SCMP_SYS(recvfrom),     SCMP_SYS(restart_syscall),
        SCMP_SYS(rt_sigaction), SCMP_SYS(rt_sigprocmask),
        SCMP_SYS(rt_sigreturn), SCMP_SYS(sched_yield),
        SCMP_SYS(setitimer),    SCMP_SYS(sigaltstack),
        SCMP_SYS(time),
    };
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
    if (!filter)
        return;
    for (size_t i = 0; i < sizeof allowed / sizeof allowed[0]; i++)
        seccomp_rule_add(filter, SCMP_ACT_ALLOW, allowed[i], 0);
    /* No new address to send to, no file to map, no process to signal but itself. */
    seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(sendto), 1, SCMP_A4(SCMP_CMP_EQ, 0));
    seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1,
                     SCMP_A3(SCMP_CMP_MASKED_EQ, MAP_ANONYMOUS, MAP_ANONYMOUS));
    seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1,
                     SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)getpid()));
    seccomp_load(filter); /* without seccomp in the kernel, the other limits remain */
    seccomp_release(filter);
}

/* In the child, before it touches the file. */
static void sandbox_confine(const struct sandbox_limits *limits, struct sandbox_child *child)
{
    static const int fatal[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGPROF, SIGTERM};
    for (size_t i = 0; i < sizeof fatal / sizeof fatal[0]; i++)
        signal(fatal[i], SIG_DFL); /* die of it, whatever the parent does then */
    signal(SIGINT, SIG_IGN);       /* the terminal's interrupt is the parent's to handle */
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);

    struct rlimit zero = {0, 0};
    struct rlimit memory = {.rlim_cur = data_in_use() + limits->memory};
    memory.rlim_max = memory.rlim_cur;
    setrlimit(RLIMIT_CORE, &zero);
    if (LIMIT_MEMORY)
        setrlimit(RLIMIT_DATA, &memory);
    sandbox_rewind_clock(child);

    if (dup2(child->socket, 0) < 0) /* the only descriptor that stays */
        _exit(EXIT_FAILURE);
    close_range(1, ~0U, 0);
    child->socket = 0;
    if (limits->confine)
        forbid_system_calls();
}

int sandbox_start(struct sandbox *sandbox, const struct sandbox_limits *limits,
                  void (*serve)(struct sandbox_child *child, void *context), void *context,
                  struct ivon_error *error)
{
    int ends[2] = {-1, -1};
    *sandbox = (struct sandbox){.socket = -1, .window_size = limits->window_size};
    sandbox->window = mmap(NULL, limits->window_size, PROT_READ | PROT_WRITE,
                           MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (sandbox->window == MAP_FAILED) {
        sandbox->window = NULL;
        return ivon_error_memory(error);
    }
    pthread_mutex_init(&sandbox->lock, NULL);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0)
        sandbox->child = fork();
    else
        sandbox->child = -1;
    if (sandbox->child == 0) {
        struct sandbox_child child = {ends[1], sandbox->window, limits->window_size,
                                      limits->seconds};
        sandbox_confine(limits, &child);
        serve(&child, context);
        _exit(0);
    }
    sandbox->socket = ends[0];
    if (ends[1] >= 0)
        close(ends[1]);
    if (sandbox->child > 0)
        return 0;
    int code = ivon_error_set(error, IVON_ERROR_INTERNAL, "cannot start a process: %s",
                              strerror(errno));
    sandbox->child = 0;
    sandbox_stop(sandbox);
    return code;
}

bool sandbox_running(const struct sandbox *sandbox)
{
    return sandbox->child > 0;
}

static int reap(struct sandbox *sandbox)
{
    int status = 0;
    while (waitpid(sandbox->child, &status, 0) < 0 && errno == EINTR)
        ;
    sandbox->child = 0;
    return status;
}

void sandbox_stop(struct sandbox *sandbox)
{
    if (!sandbox->window)
        return;
    if (sandbox->socket >= 0)
        close(sandbox->socket);
    if (sandbox_running(sandbox)) {
        kill(sandbox->child, SIGKILL);
        reap(sandbox);
    }
    munmap(sandbox->window, sandbox->window_size);
    pthread_mutex_destroy(&sandbox->lock);
    *sandbox = (struct sandbox){.socket = -1};
}

const char *sandbox_post_mortem(struct sandbox *sandbox, char *buffer, size_t size)
{
    if (!sandbox_running(sandbox))
        return "the process that read it is gone";
    close(sandbox->socket); /* so that a child which still runs ends, and the wait with it */
    sandbox->socket = -1;
    int status = reap(sandbox);
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGPROF)
        snprintf(buffer, size, "reading it takes too long");
    else if (WIFSIGNALED(status))
        snprintf(buffer, size, "reading it crashed (%s)", strsignal(WTERMSIG(status)));
    else
        snprintf(buffer, size, "reading it ended early");
    return buffer;
}
