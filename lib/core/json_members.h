/*
 * The members of a JSON object, one at a time: of a text from a stranger, memory holds one value
 * and not the tree of all. Values are jansson's.
 */
#ifndef CORE_JSON_MEMBERS_H
#define CORE_JSON_MEMBERS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "ivon/error.h"

/* The state of reading an object. */
struct json_members {
    const char *path; /* for messages; borrowed, as the text is */
    const char *start, *at, *end;
    bool any; /* a member was read */
};

/* Enters the object that the text begins with, after any white space. */
int json_members_open(struct json_members *members, const char *path, const char *text, size_t size,
                      struct ivon_error *error);

/* The next member's name, to be freed; null behind the last one. Its value has to be read next. */
int json_members_next(struct json_members *members, char **name, struct ivon_error *error);

/* The member's value, to be released by json_decref, unless its text has more than `limit` bytes.
   Objects in it name no member twice. */
int json_members_value(struct json_members *members, size_t limit, json_t **value,
                       struct ivon_error *error);

/* The member's value, an object, as members of its own; when they are all read, `leave` goes on
   behind them. */
int json_members_enter(struct json_members *members, struct json_members *inner,
                       struct ivon_error *error);
void json_members_leave(struct json_members *members, const struct json_members *inner);

/* Behind the last member: that nothing follows but white space. */
int json_members_end(struct json_members *members, struct ivon_error *error);

#endif
