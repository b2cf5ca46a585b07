/* Reading structs of options that programs of other versions may have made (ivon/options.h). */
#ifndef CORE_OPTIONS_H
#define CORE_OPTIONS_H

#include <stddef.h>

#include "ivon/error.h"

enum { OPTIONS_RESERVED_MAX = 3 };

/* The reserved words of a struct of options and of the structs that are embedded in it. */
struct options_kind {
    const char *defaults; /* the function that makes such options, for messages */
    struct {
        size_t at, size; /* bytes; a size of 0 ends the list */
    } reserved[OPTIONS_RESERVED_MAX];
};

#define OPTIONS_RESERVED(type, member)                                                             \
    {                                                                                              \
        offsetof(type, member), sizeof(((type *)NULL)->member),                                    \
    }

/*
 * Copies the options that a caller gave, of the size that they begin with, into the library's own
 * struct, which holds the defaults and their size. Null options change nothing. Fails with
 * IVON_ERROR_ARGUMENT where no struct of options can have the size, and where bytes that the
 * library does not know, or reserved ones, are not zero.
 */
int options_read(const struct options_kind *kind, void *own, const void *given,
                 struct ivon_error *error);

/* Fails as options_read does on a size that is not exactly `size`: that of an embedded struct. */
int options_check_embedded(const struct options_kind *kind, const void *given, size_t size,
                           struct ivon_error *error);

/* Fills the caller's struct of `size` bytes with the library's own defaults, as far as they go, and
   with zeros; its size becomes `size`. */
void options_init(void *options, size_t size, const void *defaults);

#endif
