/* Strings: their order, their ends, and lists of them in messages. */
#ifndef FORMATS_IO_STRINGS_H
#define FORMATS_IO_STRINGS_H

#include <stdbool.h>
#include <stddef.h>

/* Compares two elements of an array of strings, for qsort and bsearch. */
int strings_compare(const void *a, const void *b);

bool string_ends_with(const char *text, const char *end);

/* "PARENT/KEY", of a key of so many bytes, or the key alone where the parent is empty; `separator`
   stands between. To be freed; null if memory is exhausted. */
char *string_join(const char *parent, char separator, const char *key, size_t length);

/* Writes "A, B or C", as much of it as fits. */
void strings_alternatives(char *out, size_t size, const char *const *strings, size_t count);

#endif
