#define _GNU_SOURCE
#include "cmd/shared/memory.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sysexits.h>

#include "ivon/output.h"

void memory_exhausted(void)
{
    fprintf(stderr, "%s: out of memory\n", program_invocation_short_name); /* takes no memory */
    ivon_outputs_abandon();
    exit(EX_OSERR);
}

void *memory_of(void *allocated)
{
    if (!allocated)
        memory_exhausted();
    return allocated;
}
