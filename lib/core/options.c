#include "core/options.h"

#include <string.h>

#include "core/error.h"

/* No struct of options comes near it: a larger size was never set. */
enum { SIZE_MAX_OF_OPTIONS = 4096 };

static size_t options_size(const void *options)
{
    size_t size;
    memcpy(&size, options, sizeof size);
    return size;
}

static int options_refuse_size(const struct options_kind *kind, size_t size,
                               struct ivon_error *error)
{
    return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                          "options of %zu bytes, expected those that %s() begins with", size,
                          kind->defaults);
}

static int options_check_zero(const struct options_kind *kind, const void *options, size_t at,
                              size_t size, struct ivon_error *error)
{
    const unsigned char *bytes = options;
    for (size_t i = at; i < at + size; i++)
        if (bytes[i])
            return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                                  "byte %zu of the options is set, which this version of libivon "
                                  "does not know: expected what %s() makes",
                                  i, kind->defaults);
    return 0;
}

int options_read(const struct options_kind *kind, void *own, const void *given,
                 struct ivon_error *error)
{
    if (!given)
        return 0;
    size_t size = options_size(given), known = options_size(own);
    if (size <= sizeof size || size % _Alignof(size_t) || size > SIZE_MAX_OF_OPTIONS)
        return options_refuse_size(kind, size, error);
    if (size > known) {
        int code = options_check_zero(kind, given, known, size - known, error);
        if (code)
            return code;
    }
    size_t common = size < known ? size : known;
    memcpy((char *)own + sizeof size, (const char *)given + sizeof size, common - sizeof size);
    for (size_t i = 0; i < OPTIONS_RESERVED_MAX && kind->reserved[i].size; i++) {
        int code = options_check_zero(kind, own, kind->reserved[i].at, kind->reserved[i].size,
                                      error);
        if (code)
            return code;
    }
    return 0;
}

int options_check_embedded(const struct options_kind *kind, const void *given, size_t size,
                           struct ivon_error *error)
{
    size_t found = options_size(given);
    return found == size ? 0 : options_refuse_size(kind, found, error);
}

void options_init(void *options, size_t size, const void *defaults)
{
    size_t known = options_size(defaults);
    memset(options, 0, size);
    memcpy(options, defaults, size < known ? size : known);
    if (size >= sizeof size)
        memcpy(options, &size, sizeof size);
}
