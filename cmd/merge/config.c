/* config.json of a merged model: one value is replaced where it stands, all other bytes stay. */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/merge/folder.h"
#include "cmd/shared/memory.h"

/* Behind the string, of valid JSON, that begins at `at`. */
static const char *config_skip_string(const char *at)
{
    for (at++; *at != '"'; at++)
        at += *at == '\\';
    return at + 1;
}

static const char *config_skip_space(const char *at)
{
    return at + strspn(at, " \t\r\n");
}

/* Behind a value, of valid JSON. */
static const char *config_skip_value(const char *at)
{
    size_t depth = 0;
    do {
        if (*at == '"')
            at = config_skip_string(at);
        else if (!depth && *at != '{' && *at != '[')
            at += strcspn(at, ",]} \t\r\n");
        else {
            depth += *at == '{' || *at == '[';
            depth -= *at == '}' || *at == ']';
            at++;
        }
    } while (depth);
    return at;
}

/* Returns whether the string that begins at `at` is a member that names the elements' type. */
static bool config_names_dtype(const char *at)
{
    static const char *const names[] = {"\"torch_dtype\"", "\"dtype\""};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strncmp(at, names[i], strlen(names[i])) == 0)
            return true;
    return false;
}

static const char *torch_name(enum ivon_dtype dtype)
{
    switch (dtype) {
    case IVON_F64:
        return "float64";
    case IVON_F32:
        return "float32";
    case IVON_F16:
        return "float16";
    default:
        return "bfloat16";
    }
}

char *merge_config_dtype(const char *text, enum ivon_dtype dtype)
{
    const char *at = config_skip_space(config_skip_space(text) + 1); /* behind the brace */
    char *result = NULL;
    while (*at == '"') {
        bool found = config_names_dtype(at);
        const char *value = config_skip_space(config_skip_space(config_skip_string(at)) +
                                              1); /* behind the colon */
        const char *end = config_skip_value(value);
        if (found) {
            const char *before = result ? result : text;
            size_t start = result ? strlen(result) - strlen(value) : (size_t)(value - text);
            char *next = xasprintf("%.*s\"%s\"%s", (int)start, before, torch_name(dtype), end);
            free(result);
            result = next;
        }
        at = config_skip_space(end);
        at = *at == ',' ? config_skip_space(at + 1) : at;
    }
    return result;
}
