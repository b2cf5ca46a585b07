#include "core/error.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>

/* Parenthesised: for analysis these names are macros, too. */
int (ivon_error_set)(struct ivon_error *error, int code, const char *format, ...)
{
    if (!error)
        return code;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error->message, sizeof error->message, format, arguments);
    va_end(arguments);
    for (unsigned char *byte = (unsigned char *)error->message; *byte; byte++) {
        bool wide = byte[0] == 0xc2 && byte[1] >= 0x80 && byte[1] < 0xa0; /* U+0080 to U+009F */
        if (*byte < 0x20 || *byte == 0x7f || wide)
            byte[0] = '?';
        if (wide)
            byte[1] = '?';
    }
    error->code = code;
    return code;
}

int (ivon_error_memory)(struct ivon_error *error)
{
    return ivon_error_set(error, IVON_ERROR_MEMORY, "out of memory");
}
