/*
 * Errors are values: a function that can fail returns 0 or one of the negative codes below, and
 * describes what happened in the caller's struct ivon_error. The library never prints, exits or
 * aborts, and keeps no error of its own.
 */
#ifndef IVON_ERROR_H
#define IVON_ERROR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ivon/api.h"

enum ivon_error_code {
    IVON_ERROR_ARGUMENT = -1,  /* the caller's request makes no sense */
    IVON_ERROR_DATA = -2,      /* a file, or a number in it, is not what it should be */
    IVON_ERROR_INPUT = -3,     /* an input cannot be opened */
    IVON_ERROR_CREATE = -4,    /* an output cannot be created */
    IVON_ERROR_IO = -5,        /* reading or writing failed: a full disk, a broken device */
    IVON_ERROR_MEMORY = -6,    /* memory is exhausted, or the given bound is too small */
    IVON_ERROR_INTERNAL = -7,  /* a defect of the library or of the system below it */
    IVON_ERROR_CANCELLED = -8, /* the caller's progress function asked to stop */
};

/*
 * The description of a failure, in one line: the file, the tensor, what was found, what was
 * expected. It starts with neither a capital nor the program name and ends without a full stop.
 * Functions that succeed leave it untouched; a null pointer in its place discards the description.
 */
struct ivon_error {
    int code;
    char message[1024];
};

#ifdef __cplusplus
extern "C" {
#endif

/*
 * The bytes of the character that `text`, which is not empty, begins with, in UTF-8; 1 for a byte
 * that begins none. *safe is false for what must not reach a terminal as it is: a control character
 * (U+0000 to U+001F, U+007F to U+009F), one that ends a line or turns the direction of what follows
 * (U+2028, U+2029; U+061C, U+200E, U+200F, U+202A to U+202E, U+2066 to U+2069), and a byte that is
 * no UTF-8, for which *character is 0.
 */
IVON_API size_t ivon_text_character(const char *text, uint32_t *character, bool *safe);

/* Replaces each byte of what is not safe by '?'. Messages of the library are clean already. */
IVON_API void ivon_text_clean(char *text);

#ifdef __cplusplus
}
#endif

#endif
