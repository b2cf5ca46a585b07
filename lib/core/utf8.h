/* Text in UTF-8 (RFC 3629). */
#ifndef CORE_UTF8_H
#define CORE_UTF8_H

#include <stddef.h>
#include <stdint.h>

/* Returns the length of the sequence at the start of `text`, which has at least one byte, and its
   character; 0 if there is no valid sequence. */
size_t utf8_decode(const unsigned char *text, size_t size, uint32_t *character);

/* Writes the character, and returns how many bytes it has, at most 4: of what is none, and of
   surrogates, U+FFFD in its place. */
size_t utf8_encode(uint32_t character, char *text);

#endif
