#include "core/error.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "core/utf8.h"

static bool is_safe(uint32_t character)
{
    bool control = character < 0x20 || (character >= 0x7f && character < 0xa0);
    bool line = character == 0x2028 || character == 0x2029;
    bool direction = character == 0x61c || character == 0x200e || character == 0x200f ||
                     (character >= 0x202a && character <= 0x202e) ||
                     (character >= 0x2066 && character <= 0x2069);
    return !control && !line && !direction;
}

size_t ivon_text_character(const char *text, uint32_t *character, bool *safe)
{
    size_t length = utf8_decode((const unsigned char *)text, strnlen(text, 4), character);
    *character = length ? *character : 0;
    *safe = length && is_safe(*character);
    return length ? length : 1;
}

void ivon_text_clean(char *text)
{
    uint32_t character;
    bool safe;
    for (size_t length; *text; text += length) {
        length = ivon_text_character(text, &character, &safe);
        if (!safe)
            memset(text, '?', length);
    }
}

/* Takes the sign off what is not a number: "is -nan," becomes "is nan,". Names are in quotes, or
   begin the message. */
static void drop_signs(char *message)
{
    for (char *at = message; (at = strstr(at, " -nan"));) {
        at++;
        if (!at[4] || strchr(" ,;:)", at[4]))
            memmove(at, at + 1, strlen(at));
    }
}

/* Parenthesised: for analysis these names are macros, too. */
int(ivon_error_set)(struct ivon_error *error, int code, const char *format, ...)
{
    if (!error)
        return code;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error->message, sizeof error->message, format, arguments);
    va_end(arguments);
    ivon_text_clean(error->message);
    drop_signs(error->message);
    error->code = code;
    error->hint = IVON_HINT_NONE;
    return code;
}

int(ivon_error_memory)(struct ivon_error *error)
{
    return ivon_error_set(error, IVON_ERROR_MEMORY, "out of memory");
}
