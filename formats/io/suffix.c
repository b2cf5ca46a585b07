#include "formats/io/suffix.h"

#include <stddef.h>
#include <string.h>

const char *suffix_of(const char *path)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    const char *dot = strrchr(name, '.');
    return dot && dot != name && !(dot[1] >= '0' && dot[1] <= '9') ? dot : NULL;
}

bool suffix_is_one_of(const char *path, const char *const *suffixes)
{
    const char *suffix = suffix_of(path);
    for (; suffix && *suffixes; suffixes++)
        if (strcmp(suffix, *suffixes) == 0)
            return true;
    return false;
}
