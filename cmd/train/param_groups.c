/* --param-group=GLOB:KEY=X,... */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "cmd/shared/memory.h"
#include "cmd/shared/report.h"
#include "cmd/train/train.h"

enum { KEYS = 4 };

static const struct param_key {
    const char *name;
    size_t offset;
    bool positive;  /* not zero */
    bool posterior; /* of methods that have one */
} keys[KEYS] = {
    {"lr", offsetof(struct ivon_train_group, rate), false, false},
    {"weight-decay", offsetof(struct ivon_train_group, weight_decay), false, false},
    {"ess", offsetof(struct ivon_train_group, ess), true, true},
    {"h0", offsetof(struct ivon_train_group, hessian_init), false, true},
};

static double *param_value(const struct ivon_train_group *group, const struct param_key *key)
{
    return (double *)(void *)((char *)group + key->offset);
}

/* Reads KEY=X; false where it is not that, or the group has the key already. */
static bool param_read(struct ivon_train_group *group, const char *text, struct argp_state *state)
{
    for (size_t k = 0; k < KEYS; k++) {
        size_t length = strlen(keys[k].name);
        double *value = param_value(group, &keys[k]);
        if (strncmp(text, keys[k].name, length) != 0 || text[length] != '=' || !isnan(*value))
            continue;
        *value = keys[k].positive ? option_positive(state, "--param-group", text + length + 1)
                                  : option_number(state, "--param-group", text + length + 1);
        if (*value < 0)
            argp_failure(state, EX_USAGE, 0,
                         "--param-group: '%s', expected a number that is not negative", text);
        return true;
    }
    return false;
}

void param_groups_add(struct param_groups *groups, const char *argument, struct argp_state *state)
{
    struct ivon_train_group group = {NULL, NAN, NAN, NAN, NAN};
    char *text = xstrdup(argument), *values = strrchr(text, ':'), *rest = NULL;
    bool fine = values && values != text && values[1];
    if (fine)
        *values++ = '\0';
    for (char *at = fine ? strtok_r(values, ",", &rest) : NULL; at && fine;
         at = strtok_r(NULL, ",", &rest))
        fine = param_read(&group, at, state);
    if (!fine)
        argp_failure(state, EX_USAGE, 0,
                     "--param-group: '%s', expected GLOB:KEY=X,... with each of the keys lr, "
                     "weight-decay, ess and h0 at most once",
                     argument);
    group.pattern = text;
    groups->items = xreallocarray(groups->items, groups->count + 1, sizeof *groups->items);
    groups->items[groups->count++] = group;
}

void param_groups_check(const struct param_groups *groups, enum ivon_method method,
                        struct argp_state *state)
{
    const struct ivon_method_traits *traits = ivon_method_traits(method);
    for (size_t g = 0; g < groups->count; g++)
        for (size_t k = 0; k < KEYS; k++)
            if (keys[k].posterior && !traits->posterior &&
                !isnan(*param_value(&groups->items[g], &keys[k])))
                argp_failure(state, EX_USAGE, 0, "--param-group: %s is not for --optimizer=%s",
                             keys[k].name, traits->name);
}

void param_groups_release(struct param_groups *groups)
{
    for (size_t g = 0; g < groups->count; g++)
        free((char *)groups->items[g].pattern);
    free(groups->items);
}

/* Adds to a text; a null one is empty. */
static void param_text_add(char **text, const char *more)
{
    size_t used = *text ? strlen(*text) : 0;
    *text = xreallocarray(*text, used + strlen(more) + 1, 1);
    strcpy(*text + used, more);
}

json_t *param_groups_json(const struct ivon_train_options *options)
{
    char *text = NULL, number[64];
    for (size_t g = 0; g < options->group_count; g++) {
        const struct ivon_train_group *group = &options->groups[g];
        char separator = ':';
        param_text_add(&text, g ? " " : "");
        param_text_add(&text, group->pattern);
        for (size_t k = 0; k < KEYS; k++) {
            if (isnan(*param_value(group, &keys[k])))
                continue;
            snprintf(number, sizeof number, "%c%s=%.15g", separator, keys[k].name,
                     *param_value(group, &keys[k]));
            param_text_add(&text, number);
            separator = ',';
        }
    }
    json_t *json = report_json_text(text);
    free(text);
    return json;
}
