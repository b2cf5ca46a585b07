/* Strings of npy files: of bytes ("S"), or of four-byte code points ("U"), filled up by zeros. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "core/utf8.h"
#include "formats/numpy/array.h"

enum { CODE_POINT = 4 /* bytes, in the file, and at most in UTF-8 */ };

size_t npy_string_size(const char *type)
{
    if (*type && strchr("<>|=", *type))
        type++;
    size_t wide = *type == 'U' ? CODE_POINT : *type == 'S' ? 1 : 0, size = 0;
    if (!wide || !type[1])
        return 0;
    for (const char *at = type + 1; *at; at++) {
        if (!isdigit((unsigned char)*at) || size > ARRAY_STRING_MAX)
            return 0;
        size = 10 * size + (size_t)(*at - '0');
    }
    return size <= ARRAY_STRING_MAX / wide ? size * wide : 0;
}

static uint32_t string_code_point(const unsigned char *at, bool swapped)
{
    uint32_t low = at[0] | (uint32_t)at[1] << 8, high = at[2] | (uint32_t)at[3] << 8;
    uint32_t found = low | high << 16;
    return swapped ? __builtin_bswap32(found) : found;
}

size_t array_string(const struct array *array, const unsigned char *element, char *text)
{
    size_t size = array->string_size, length = 0, end = 0;
    if (!array->wide) {
        while (size && !element[size - 1])
            size--;
        memcpy(text, element, size);
        text[size] = '\0';
        return size;
    }
    for (size_t at = 0; at < size; at += CODE_POINT) {
        uint32_t found = string_code_point(element + at, array->swapped);
        length += utf8_encode(found, text + length);
        end = found ? length : end;
    }
    text[end] = '\0';
    return end;
}
