/* Filling the caller's struct ivon_error. */
#ifndef CORE_ERROR_H
#define CORE_ERROR_H

#include "ivon/error.h"

/* Writes a printf-style message and returns `code`. ivon_text_clean cleans the message, since it
   may contain names from an untrusted file. */
int ivon_error_set(struct ivon_error *error, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The same for IVON_ERROR_MEMORY, whose message is always the same. */
int ivon_error_memory(struct ivon_error *error);

/* Adds a hint to the message that was just set; returns `code`. */
static inline int ivon_error_hint(struct ivon_error *error, enum ivon_hint hint, int code)
{
    if (error)
        error->hint = hint;
    return code;
}

/* The analyser sees one file at a time and must know which code is returned. */
#ifdef IVON_ANALYSIS
#define ivon_error_set(error, code, ...) ((void)ivon_error_set(error, code, __VA_ARGS__), (code))
#define ivon_error_memory(error)         ((void)ivon_error_memory(error), IVON_ERROR_MEMORY)
#endif

#endif
