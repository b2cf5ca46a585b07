/*
 * Errors are values: a function that can fail returns 0 or one of the negative codes below, and
 * describes what happened in the caller's struct ivon_error. The library never prints, exits or
 * aborts, and keeps no error of its own.
 */
#ifndef IVON_ERROR_H
#define IVON_ERROR_H

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
 * What failed, in one line: the file, the tensor, what was found, what was expected. Starts with
 * neither capital nor program name and ends without a full stop. Functions that succeed leave it
 * untouched; a null pointer where one is asked for discards the description.
 */
struct ivon_error {
    int code;
    char message[1024];
};

#endif
