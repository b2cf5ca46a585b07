#include "cmd/shared/options/rename.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "cmd/shared/memory.h"

enum { GROUPS = 10 /* the match, and \1 to \9 */ };

/* Returns whether each back-reference has a group. */
static bool groups_exist(const char *replacement, size_t groups)
{
    for (const char *at = strchr(replacement, '\\'); at; at = strchr(at + 2, '\\')) {
        if (!at[1])
            return false;
        if (at[1] >= '0' && at[1] <= '9' && (size_t)(at[1] - '0') > groups)
            return false;
    }
    return true;
}

void rename_add(struct rename_rules *rules, struct argp_state *state, const char *text)
{
    char message[256];
    const char *colon = strrchr(text, ':');
    if (!colon || colon == text)
        argp_failure(state, EX_USAGE, 0,
                     "--rename: '%s', expected REGEX:REPL, such as "
                     "'^model\\.:'",
                     text);
    char *expression = xstrndup(text, (size_t)(colon - text));
    rules->rules = xreallocarray(rules->rules, rules->count + 1, sizeof *rules->rules);
    struct rename_rule *rule = &rules->rules[rules->count++];
    *rule = (struct rename_rule){.text = text, .replacement = colon + 1};
    int failed = regcomp(&rule->expression, expression, REG_EXTENDED);
    if (failed) {
        regerror(failed, &rule->expression, message, sizeof message);
        argp_failure(state, EX_USAGE, 0, "--rename: '%s': %s", expression, message);
    }
    if (!groups_exist(rule->replacement, rule->expression.re_nsub))
        argp_failure(state, EX_USAGE, 0, "--rename: '%s' refers to a group that '%s' does not have",
                     rule->replacement, expression);
    free(expression);
}

static void put_replacement(FILE *out, const char *replacement, const char *subject,
                            const regmatch_t *groups)
{
    for (const char *at = replacement; *at; at++) {
        bool escaped = *at == '\\';
        at += escaped;
        const regmatch_t *group = escaped && *at >= '0' && *at <= '9' ? &groups[*at - '0'] : NULL;
        if (!group)
            fputc(*at, out);
        else if (group->rm_so >= 0)
            fwrite(subject + group->rm_so, 1, (size_t)(group->rm_eo - group->rm_so), out);
    }
}

/* The name with every match replaced; null when there is none. */
static char *replace_matches(struct rename_rule *rule, const char *name)
{
    regmatch_t groups[GROUPS];
    char *result = NULL;
    size_t size;
    if (regexec(&rule->expression, name, GROUPS, groups, 0))
        return NULL;
    rule->matched = true;
    FILE *out = memory_of(open_memstream(&result, &size));
    const char *at = name;
    do {
        fwrite(at, 1, (size_t)groups[0].rm_so, out);
        put_replacement(out, rule->replacement, at, groups);
        bool empty = groups[0].rm_eo == groups[0].rm_so;
        at += groups[0].rm_eo;
        if (empty && *at)
            fputc(*at++, out);
        else if (empty)
            break;
    } while (*at && !regexec(&rule->expression, at, GROUPS, groups, REG_NOTBOL));
    fputs(at, out);
    if (fclose(out))
        memory_exhausted();
    return result;
}

char *rename_apply(struct rename_rules *rules, const char *name)
{
    char *current = xstrdup(name);
    for (size_t i = 0; i < rules->count; i++) {
        char *next = replace_matches(&rules->rules[i], current);
        if (!next)
            continue;
        free(current);
        current = next;
    }
    return current;
}

const char *rename_unused(const struct rename_rules *rules)
{
    for (size_t i = 0; i < rules->count; i++)
        if (!rules->rules[i].matched)
            return rules->rules[i].text;
    return NULL;
}

void rename_release(struct rename_rules *rules)
{
    for (size_t i = 0; i < rules->count; i++)
        regfree(&rules->rules[i].expression);
    free(rules->rules);
}
