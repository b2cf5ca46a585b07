#include "core/names.h"

#include <string.h>

size_t name_last(const char *name, size_t length)
{
    while (length && name[length - 1] != '.' && name[length - 1] != '/')
        length--;
    return length;
}

bool name_any_component(const char *name, bool (*matches)(const char *component, size_t length))
{
    for (const char *at = name;; at++) {
        size_t length = strcspn(at, "./");
        if (matches(at, length))
            return true;
        at += length;
        if (!*at)
            return false;
    }
}

bool name_is_word(const char *text, size_t length, const char *word)
{
    return strlen(word) == length && memcmp(text, word, length) == 0;
}
