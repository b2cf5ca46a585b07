/*
 * A parser's own process has nowhere to report to: what a sanitizer finds there only ends it, and
 * the file counts as damaged. That is right for a fault of the HDF5 library's, which is why it runs
 * there, but not for one of ours. So reports are left in memory that is shared, and those whose
 * innermost frame of either library is ours end the process that reads it here.
 */
#include <assert.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include "tests/fuzz/fuzz.h"

enum { TEXT_SIZE = 16384 };

struct watch {
    pid_t parent;
    volatile int ours;
    char text[TEXT_SIZE];
};

static struct watch *watch;

/* There with AddressSanitizer alone. */
void __asan_set_error_report_callback(void (*callback)(const char *)) __attribute__((weak));

/* With any sanitizer: by it, libFuzzer saves the input, for the process that asked, too. */
void __sanitizer_set_death_callback(void (*callback)(void)) __attribute__((weak));

/* There with libFuzzer alone: what is instrumented, and so ours, by pairs of an address and
   flags. */
extern const uintptr_t __start___sancov_pcs[] __attribute__((weak, visibility("hidden")));
extern const uintptr_t __stop___sancov_pcs[] __attribute__((weak, visibility("hidden")));

/* A sanitizer may be in the program, too. */
static int is_instrumented(uintptr_t address)
{
    enum { LAST_FUNCTION = 1 << 16 };
    uintptr_t low = UINTPTR_MAX, high = 0;
    for (const uintptr_t *pc = __start___sancov_pcs; pc < __stop___sancov_pcs; pc += 2) {
        low = *pc < low ? *pc : low;
        high = *pc > high ? *pc : high;
    }
    return high == 0 || (address >= low && address < high + LAST_FUNCTION);
}

/* 1: ours; 0: the HDF5 library's; -1: of what both call. */
static int owner(uintptr_t address)
{
    Dl_info there, here;
    if (!dladdr((void *)address, &there) || !dladdr(__builtin_return_address(0), &here))
        return -1;
    if (strstr(there.dli_fname, "libhdf5"))
        return 0;
    return there.dli_fbase == here.dli_fbase && is_instrumented(address) ? 1 : -1;
}

/* Whose fault a report is, by its frames from the innermost on. */
static int is_ours(const char *text)
{
    for (const char *line = strstr(text, "#0 0x"); line; line = strchr(line + 1, '#')) {
        char *address = strstr(line, " 0x");
        int whose = address ? owner((uintptr_t)strtoull(address, NULL, 16)) : -1;
        if (whose >= 0)
            return whose;
    }
    return 1; /* a stack that tells nothing is looked at */
}

static void take_report(const char *text)
{
    if (!watch || getpid() == watch->parent)
        return;
    snprintf(watch->text, sizeof watch->text, "%s", text);
    watch->ours = is_ours(text);
}

/* UndefinedBehaviorSanitizer calls this; only our code is built with it. */
void __ubsan_on_report(void);

void __ubsan_on_report(void)
{
    if (!watch || getpid() == watch->parent)
        return;
    snprintf(watch->text, sizeof watch->text, "undefined behaviour\n");
    watch->ours = 1;
}

void watch_begin(void)
{
    void *shared = mmap(NULL, sizeof *watch, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
                        0);
    assert(shared != MAP_FAILED);
    watch = shared;
    watch->parent = getpid();
    if (__asan_set_error_report_callback)
        __asan_set_error_report_callback(take_report);
}

static void take_signal(int number, siginfo_t *information, void *context)
{
    uintptr_t address = (uintptr_t)information->si_addr;
#if defined(__x86_64__)
    address = (uintptr_t)((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
#endif
    if (owner(address) == 1) {
        snprintf(watch->text, sizeof watch->text, "signal %d, at 0x%zx\n", number, (size_t)address);
        watch->ours = 1;
    }
    _exit(1);
}

void watch_signals(void)
{
    static const int fatal[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL};
    struct sigaction action = {.sa_sigaction = take_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    for (size_t i = 0; i < sizeof fatal / sizeof *fatal; i++)
        sigaction(fatal[i], &action, NULL);
    if (__sanitizer_set_death_callback)
        __sanitizer_set_death_callback(NULL);
    signal(SIGABRT, SIG_DFL);
    signal(SIGPROF, SIG_DFL);
    int nowhere = open("/dev/null", O_WRONLY); /* what others are at fault for is no report */
    if (nowhere >= 0)
        dup2(nowhere, 2);
}

void watch_check(void)
{
    if (!watch->ours)
        return;
    fprintf(stderr, "in the process of a parser:\n%s\n", watch->text);
    abort();
}
