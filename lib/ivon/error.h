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

/* A change by the caller that lets the same call succeed. A program says it in its own words: the
   commands name an option. */
enum ivon_hint {
    IVON_HINT_NONE,
    IVON_HINT_MEMORY,         /* allow more memory */
    IVON_HINT_MEMORY_THREADS, /* allow more memory, or use fewer threads */
    IVON_HINT_REPLACE,        /* allow that the existing output is replaced */
    IVON_HINT_REPLACE_LINK,   /* the same of a symbolic link, which is replaced itself */
    IVON_HINT_REPLACE_FILES,  /* the same of a directory's files, which has others too */
    IVON_HINT_START_ANEW,     /* do not resume, or remove the records */
    IVON_HINT_ESS,            /* give the posterior an effective sample size */
    IVON_HINT_WEIGHT_DECAY,   /* give the posterior a weight decay */
    IVON_HINT_RESULT_ESS,     /* give the effective sample size of the result */
    IVON_HINT_TARGETS,        /* name the array or column of the targets */
    IVON_HINT_REGRESSION,     /* take the targets as numbers, by another likelihood */
    IVON_HINT_SELECTION,      /* select other tensors */
    IVON_HINT_EXCLUSION,      /* leave the tensor out of the selection */
    IVON_HINT_HESSIAN,        /* give Hessians, in a file of their own */
    IVON_HINT_BASE,           /* give a base */
    IVON_HINT_BASE_PRECISION, /* give the base's precision, or leave the base out of the sums */
    IVON_HINT_NO_HESSIAN,     /* merge by a method that needs no Hessians */
    IVON_HINT_MISMATCH,       /* say what to do with tensors that inputs lack or shape otherwise */
    IVON_HINT_NONPOSITIVE,    /* keep the base's value where a precision is not positive */
    IVON_HINT_NONPOSITIVE_BASE, /* the same, which needs a base first */
    IVON_HINT_KEEP_WEIGHTS,     /* let the graph keep weights of its own */
    IVON_HINT_RENAME,           /* rename the checkpoint's tensors */
    IVON_HINT_INITIAL,          /* give weights to begin with */
    IVON_HINT_FREEZE,           /* keep fewer parameters as they are */
    IVON_HINT_STATE,            /* choose one of the state dicts of the file */
    IVON_HINT_BUFFERS,          /* say which tensors are buffers */
    IVON_HINT_PARAMETERS,       /* give the optimizer names, or list its parameters */
    IVON_HINT_OUTPUT,           /* choose another output of the graph */
    IVON_HINT_OUTPUT_AXES,      /* say what the axes of the output are */
    IVON_HINT_VOCABULARY,       /* say whose rows of an embedding the result has */
    IVON_HINT_GRAM,             /* take the Gram matrices of the layers' inputs first */
    IVON_HINT_DIAGONAL,         /* make the posterior's covariance diagonal */
    IVON_HINT_RESIZE,           /* scale the images to one size */
    IVON_HINT_CONTEXT,          /* give each text a number of tokens */
    IVON_HINT_TEXT_COLUMN,      /* name the column of the texts */
    IVON_HINT_CLASSES,          /* list the names of the classes, in the order of their numbers */
    IVON_HINT_COLUMNS,          /* name the column of the targets, or leave columns out */
    IVON_HINT_INPUTS,           /* name the arrays of the inputs */
    IVON_HINT_COUNT
};

/*
 * The description of a failure, in one line: the file, the tensor, what was found, what was
 * expected. It starts with neither a capital nor the program name and ends without a full stop.
 * Functions that succeed leave it untouched; a null pointer in its place discards the description.
 */
struct ivon_error {
    int code;
    enum ivon_hint hint;
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
