#include "cmd/memory.h"

#include <stdlib.h>
#include <sysexits.h>

#include "cmd/report.h"

void memory_exhausted(void)
{
    report_note("out of memory");
    exit(EX_OSERR);
}

void *memory_of(void *allocated)
{
    if (!allocated)
        memory_exhausted();
    return allocated;
}
