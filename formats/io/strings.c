#include "formats/io/strings.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int strings_compare(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

bool string_ends_with(const char *text, const char *end)
{
    size_t length = strlen(text), wanted = strlen(end);
    return length >= wanted && strcmp(text + length - wanted, end) == 0;
}

char *string_join(const char *parent, char separator, const char *key, size_t length)
{
    size_t before = strlen(parent);
    char *name = malloc(before + length + 2);
    if (!name)
        return NULL;
    memcpy(name, parent, before);
    if (before)
        name[before++] = separator;
    memcpy(name + before, key, length);
    name[before + length] = '\0';
    return name;
}

void strings_alternatives(char *out, size_t size, const char *const *strings, size_t count)
{
    *out = '\0';
    for (size_t i = 0; i < count; i++) {
        const char *before = i == 0 ? "" : i + 1 < count ? ", " : " or ";
        size_t used = strlen(out);
        snprintf(out + used, size - used, "%s%s", before, strings[i]);
    }
}
