/* Filling the caller's struct ivon_error. */
#ifndef CORE_ERROR_H
#define CORE_ERROR_H

#include "ivon/error.h"

/*
 * Writes a message after the manner of printf and returns `code`. It is made clean by
 * ivon_text_clean, since names in a message may come from a stranger's file.
 */
int ivon_error_set(struct ivon_error *error, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The same for an exhausted memory, whose description never varies. */
int ivon_error_memory(struct ivon_error *error);

/* Adds a hint to the description that was just set with `code`, which is returned. */
static inline int ivon_error_hint(struct ivon_error *error, enum ivon_hint hint, int code)
{
    if (error)
        error->hint = hint;
    return code;
}

/* Analysis sees one file at a time, and must know which code comes back. */
#ifdef IVON_ANALYSIS
#define ivon_error_set(error, code, ...) ((void)ivon_error_set(error, code, __VA_ARGS__), (code))
#define ivon_error_memory(error)         ((void)ivon_error_memory(error), IVON_ERROR_MEMORY)
#endif

#endif
