/*
 * A number that tells bytes from others: two that differ in one word of 8 bytes always have
 * different digests, others do but for one pair in 2^64. It finds mistakes, not forgeries.
 */
#ifndef CORE_DIGEST_H
#define CORE_DIGEST_H

#include <stddef.h>
#include <stdint.h>

/* The digest of no bytes. */
static const uint64_t DIGEST_START = 0xcbf29ce484222325;

/* The digest of what `digest` is of with `size` bytes behind it. Bytes that come in other pieces
   give another digest. */
uint64_t digest_add(uint64_t digest, const void *data, size_t size);

#endif
