/* Text in UTF-8 (RFC 3629). */
#ifndef CORE_UTF8_H
#define CORE_UTF8_H

#include <stddef.h>
#include <stdint.h>

/* The length of the sequence that `text`, of at least one byte, begins with, and its character; 0
   where it begins with none. */
size_t utf8_decode(const unsigned char *text, size_t size, uint32_t *character);

#endif
