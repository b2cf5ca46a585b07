#define _GNU_SOURCE
#include "cmd/shared/memory.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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

/* Asks for one byte at least, since for none an allocation may return null. */
void *xmalloc(size_t size)
{
    return memory_of(malloc(size ? size : 1));
}

void *xcalloc(size_t count, size_t size)
{
    return memory_of(calloc(count ? count : 1, size ? size : 1));
}

void *xreallocarray(void *memory, size_t count, size_t size)
{
    return memory_of(reallocarray(memory, count ? count : 1, size ? size : 1));
}

char *xstrdup(const char *text)
{
    return memory_of(strdup(text));
}

char *xstrndup(const char *text, size_t size)
{
    return memory_of(strndup(text, size));
}

char *xasprintf(const char *format, ...)
{
    char *text;
    va_list arguments;
    va_start(arguments, format);
    int length = vasprintf(&text, format, arguments);
    va_end(arguments);
    if (length < 0)
        memory_exhausted();
    return text;
}
