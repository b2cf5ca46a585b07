/* Memory for what a command itself needs, which is little: where even that is missing, it ends. */
#ifndef CMD_SHARED_MEMORY_H
#define CMD_SHARED_MEMORY_H

#include <stddef.h>

/* Ends the program with a message; what it was writing is removed. */
void memory_exhausted(void) __attribute__((noreturn));

/* The pointer, which an allocation returned; ends the program where it is null. */
void *memory_of(void *allocated) __attribute__((returns_nonnull));

/* As the functions without the x, but that they end the program where memory is missing. */
void *xmalloc(size_t size) __attribute__((malloc, returns_nonnull));
void *xcalloc(size_t count, size_t size) __attribute__((malloc, returns_nonnull));
void *xreallocarray(void *memory, size_t count, size_t size) __attribute__((returns_nonnull));
char *xstrdup(const char *text) __attribute__((malloc, returns_nonnull));
char *xstrndup(const char *text, size_t size) __attribute__((malloc, returns_nonnull));

/* The text that printf would print, to be freed. */
char *xasprintf(const char *format, ...)
    __attribute__((malloc, returns_nonnull, format(printf, 1, 2)));

#endif
