/* A target as libFuzzer calls it, which is led by what the library covers: in its own process, and
   in those that it starts. */
#include <assert.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/fuzz/fuzz.h"

extern uint8_t __start___sancov_cntrs[] __attribute__((visibility("hidden")));
extern uint8_t __stop___sancov_cntrs[] __attribute__((visibility("hidden")));

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Makes the pages of counters, but for a first and last that hold other things too, memory that a
   child shares. */
static void share_counters(void)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t first = ((uintptr_t)__start___sancov_cntrs + page - 1) / page * page;
    uintptr_t last = (uintptr_t)__stop___sancov_cntrs / page * page;
    if (first >= last)
        return;
    void *found = mmap((void *)first, last - first, PROT_READ | PROT_WRITE,
                       MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    assert(found == (void *)first);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    share_counters();
    watch_begin();
    return 0;
}

/* What is refused, too, is worth to be mutated further. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_one(data, size);
    watch_check();
    return 0;
}
