#include "core/json_members.h"

#include <stdlib.h>
#include <string.h>

#include "core/error.h"

static int json_members_damaged(const struct json_members *members, const char *why,
                                struct ivon_error *error)
{
    return ivon_error_set(error, IVON_ERROR_DATA, "%s: damaged JSON at byte %zu: %s", members->path,
                          (size_t)(members->at - members->start), why);
}

/* Passes over white space; false at the end of the text. */
static bool skip_space(struct json_members *members)
{
    while (members->at < members->end && *members->at && strchr(" \t\r\n", *members->at))
        members->at++;
    return members->at < members->end;
}

static bool json_members_accept(struct json_members *members, char token)
{
    if (!skip_space(members) || *members->at != token)
        return false;
    members->at++;
    return true;
}

int json_members_open(struct json_members *members, const char *path, const char *text, size_t size,
                      struct ivon_error *error)
{
    *members = (struct json_members){.path = path, .start = text, .at = text, .end = text + size};
    return json_members_accept(members, '{') ? 0
                                             : json_members_damaged(members, "expected '{'", error);
}

int json_members_value(struct json_members *members, size_t limit, json_t **value,
                       struct ivon_error *error)
{
    json_error_t problem;
    skip_space(members);
    size_t left = (size_t)(members->end - members->at);
    *value = json_loadb(members->at, left < limit ? left : limit,
                        JSON_DECODE_ANY | JSON_DISABLE_EOF_CHECK | JSON_REJECT_DUPLICATES,
                        &problem);
    if (!*value && left > limit && problem.position >= 0 && (size_t)problem.position >= limit)
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: damaged JSON at byte %zu: a value has more than %zu bytes",
                              members->path, (size_t)(members->at - members->start), limit);
    if (!*value)
        return json_members_damaged(members, problem.text, error);
    members->at += problem.position;
    return 0;
}

int json_members_next(struct json_members *members, char **name, struct ivon_error *error)
{
    enum { NAME_MAX_SIZE = 1 << 16 };
    json_t *text;
    *name = NULL;
    if (json_members_accept(members, '}'))
        return 0;
    if (members->any && !json_members_accept(members, ','))
        return json_members_damaged(members, "expected ',' or '}'", error);
    members->any = true;
    if (!skip_space(members) || *members->at != '"')
        return json_members_damaged(members, "expected a name", error);
    int code = json_members_value(members, NAME_MAX_SIZE, &text, error);
    if (code)
        return code;
    *name = strdup(json_string_value(text));
    json_decref(text);
    if (!*name)
        return ivon_error_memory(error);
    if (json_members_accept(members, ':'))
        return 0;
    free(*name);
    *name = NULL;
    return json_members_damaged(members, "expected ':'", error);
}

int json_members_enter(struct json_members *members, struct json_members *inner,
                       struct ivon_error *error)
{
    *inner = *members;
    inner->any = false;
    return json_members_accept(inner, '{') ? 0 : json_members_damaged(inner, "expected '{'", error);
}

void json_members_leave(struct json_members *members, const struct json_members *inner)
{
    members->at = inner->at;
}

int json_members_end(struct json_members *members, struct ivon_error *error)
{
    return skip_space(members)
               ? json_members_damaged(members, "something follows the object", error)
               : 0;
}
