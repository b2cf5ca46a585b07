/* d ← (rotate(d) ⊕ word) · odd: each step is a bijection of d and of the word. */
#include "core/digest.h"

#include <string.h>

enum { WORD = 8, TURN = 29 /* bits */ };
static const uint64_t FACTOR = 0x9e3779b97f4a7c15;

static uint64_t add_word(uint64_t digest, uint64_t word)
{
    return ((digest << TURN | digest >> (64 - TURN)) ^ word) * FACTOR;
}

uint64_t digest_add(uint64_t digest, const void *data, size_t size)
{
    const unsigned char *bytes = data;
    uint64_t word;
    size_t at = 0;
    for (; at + WORD <= size; at += WORD) {
        memcpy(&word, bytes + at, WORD);
        digest = add_word(digest, word);
    }
    word = 0;
    if (at < size)
        memcpy(&word, bytes + at, size - at);
    return add_word(add_word(digest, word), size);
}
