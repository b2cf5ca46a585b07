/* The suffixes of file names. */
#ifndef FORMATS_IO_SUFFIX_H
#define FORMATS_IO_SUFFIX_H

#include <stdbool.h>

/*
 * The suffix of a path's last component, from its dot on; null when it has none. A dot that begins
 * the name hides the file, and one before a digit belongs to a number, as in "sweep-0.2": neither
 * begins a suffix.
 */
const char *suffix_of(const char *path);

/* Returns whether a path has one of some suffixes, behind which a null pointer stands. */
bool suffix_is_one_of(const char *path, const char *const *suffixes);

#endif
