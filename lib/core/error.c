#include "core/error.h"

#include <stdarg.h>
#include <stdio.h>

int ivon_error_set(struct ivon_error *error, int code, const char *format, ...)
{
    if (!error)
        return code;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error->message, sizeof error->message, format, arguments);
    va_end(arguments);
    for (unsigned char *byte = (unsigned char *)error->message; *byte; byte++)
        if (*byte < 0x20 || *byte == 0x7f)
            *byte = '?';
    error->code = code;
    return code;
}

int ivon_error_memory(struct ivon_error *error)
{
    return ivon_error_set(error, IVON_ERROR_MEMORY, "out of memory");
}
