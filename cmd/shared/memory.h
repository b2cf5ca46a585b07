/* Memory for what a command itself needs, which is little: where even that is missing, it ends. */
#ifndef CMD_SHARED_MEMORY_H
#define CMD_SHARED_MEMORY_H

#include <stddef.h>

/* Ends the program with a message; what it was writing is removed. */
void memory_exhausted(void) __attribute__((noreturn));

/* The pointer, which an allocation returned; ends the program where it is null. */
void *memory_of(void *allocated);

#endif
