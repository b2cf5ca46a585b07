/* Memory aligned to cache lines, for vector instructions. */
#ifndef CORE_MEMORY_H
#define CORE_MEMORY_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

enum { MEMORY_ALIGNMENT = 64 /* bytes */ };

/* The bytes that memory_aligned allocates for `size`: whole lines, at least one byte more. */
static inline size_t memory_rounded(size_t size)
{
    return (size / MEMORY_ALIGNMENT + 1) * MEMORY_ALIGNMENT;
}

/* Allocates memory_rounded(size) bytes, to be freed by free(). Null when there are none, or when no
   object can be so large. */
static inline void *memory_aligned(size_t size)
{
    return size > PTRDIFF_MAX - MEMORY_ALIGNMENT
               ? NULL
               : aligned_alloc(MEMORY_ALIGNMENT, memory_rounded(size));
}

#endif
