#include "cmd/merge/weights.h"

#include <fnmatch.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/shared/memory.h"
#include "cmd/shared/report.h"

enum {
    PATTERNS_MAX = 10000, /* of one glob's numbers */
    DIGITS_MAX = 6,       /* of a layer's number */
};

struct weight_rule *weight_rules_add(struct weight_rules *rules, double value)
{
    rules->items = xreallocarray(rules->items, rules->count + 1, sizeof *rules->items);
    struct weight_rule *rule = &rules->items[rules->count++];
    *rule = (struct weight_rule){.values = xcalloc(1, sizeof value), .value_count = 1};
    rule->values[0] = value;
    return rule;
}

void weight_rules_release(struct weight_rules *rules)
{
    for (size_t i = 0; i < rules->count; i++) {
        struct weight_rule *rule = &rules->items[i];
        for (size_t k = 0; k < rule->pattern_count; k++)
            free(rule->patterns[k]);
        free(rule->patterns);
        free(rule->values);
        free(rule->text);
    }
    free(rules->items);
    *rules = (struct weight_rules){0};
}

static void add_pattern(struct weight_rule *rule, char *pattern)
{
    rule->patterns = xreallocarray(rule->patterns, rule->pattern_count + 1, sizeof *rule->patterns);
    rule->patterns[rule->pattern_count++] = pattern;
}

/* Reads a number of few digits, without zeros before it, and moves *text behind it; -1 if there is
   none. */
static int64_t layer_number(const char **text)
{
    size_t digits = strspn(*text, "0123456789");
    if (!digits || digits > DIGITS_MAX || (digits > 1 && **text == '0'))
        return -1;
    int64_t number = strtol(*text, NULL, 10);
    *text += digits;
    return number;
}

/* Finds the first {a..b} of a glob; null if there is none. *behind is what follows it. */
static const char *find_numbers(const char *glob, int64_t *first, int64_t *last,
                                const char **behind)
{
    for (const char *brace = glob; (brace = strchr(brace, '{')); brace++) {
        const char *at = brace + 1;
        *first = layer_number(&at);
        if (*first < 0 || strncmp(at, "..", 2) != 0)
            continue;
        at += 2;
        *last = layer_number(&at);
        if (*last < *first || *at != '}')
            continue;
        *behind = at + 1;
        return brace;
    }
    return NULL;
}

/* Adds a glob's patterns; takes the glob over. */
static int expand_glob(struct weight_rule *rule, char *glob, struct ivon_error *error)
{
    int64_t first = 0, last = 0;
    const char *behind = NULL, *brace = find_numbers(glob, &first, &last, &behind);
    if (!brace && rule->pattern_count < PATTERNS_MAX) {
        add_pattern(rule, glob);
        return 0;
    }
    int code = 0;
    if (!brace || last - first >= PATTERNS_MAX)
        code = error_fill(error, IVON_ERROR_ARGUMENT,
                          "pattern '%s': stands for more than %d patterns", rule->text,
                          PATTERNS_MAX);
    for (int64_t number = first; !code && number <= last; number++)
        code = expand_glob(
            rule, xasprintf("%.*s%lld%s", (int)(brace - glob), glob, (long long)number, behind),
            error);
    free(glob);
    return code;
}

int weight_rule_set_glob(struct weight_rule *rule, const char *glob, struct ivon_error *error)
{
    rule->text = xstrdup(glob);
    return expand_glob(rule, xstrdup(glob), error);
}

void weight_rule_set_filter(struct weight_rule *rule, const char *text)
{
    if (!*text || strcmp(text, "*") == 0)
        return;
    char *pattern = xmalloc(2 * strlen(text) + 3), *end = pattern;
    *end++ = '*';
    for (const char *byte = text; *byte; byte++) {
        if (strchr("*?[]\\", *byte))
            *end++ = '\\';
        *end++ = *byte;
    }
    strcpy(end, "*");
    rule->text = xstrdup(text);
    add_pattern(rule, pattern);
}

/* Returns where the last ",GLOB=WEIGHT" of a text begins; null if it does not end in one. Another
   word than a glob may stand there: ",hessian=7" names a file. */
static char *last_item(char *text, double *weight)
{
    char *comma = strrchr(text, ','), *equals = comma ? strrchr(comma, '=') : NULL, *end;
    if (!equals || equals == comma + 1 || !equals[1] || strncmp(comma, ",hessian=", 9) == 0)
        return NULL;
    *weight = strtod(equals + 1, &end);
    return *end ? NULL : comma;
}

static void reverse(struct weight_rules *rules, size_t first)
{
    for (size_t a = first, b = rules->count; a + 1 < b; a++) {
        struct weight_rule rule = rules->items[a];
        rules->items[a] = rules->items[--b];
        rules->items[b] = rule;
    }
}

int weight_rules_cut(struct weight_rules *rules, char *text, struct ivon_error *error)
{
    size_t first = rules->count;
    double weight;
    int code = 0;
    for (char *item; !code && (item = last_item(text, &weight)) && item != text;) {
        *item = '\0';
        if (!isfinite(weight))
            return error_fill(error, IVON_ERROR_ARGUMENT,
                              "'%s': weight '%s', expected a finite number", text,
                              strrchr(item + 1, '=') + 1);
        *strrchr(item + 1, '=') = '\0';
        code = weight_rule_set_glob(weight_rules_add(rules, weight), item + 1, error);
    }
    reverse(rules, first);
    return code;
}

/* Finds the number in a tensor's name: its layer, and the length of what stands before it; -1 if
   there is none. */
static int64_t weight_layer(const char *name, size_t *length)
{
    for (const char *at = name; at; at = strpbrk(at, "./") ? strpbrk(at, "./") + 1 : NULL) {
        const char *end = at;
        int64_t number = layer_number(&end);
        if (number >= 0 && (!*end || *end == '.' || *end == '/')) {
            *length = (size_t)(at - name);
            return number;
        }
    }
    return -1;
}

static bool is_before_layers(const char *name)
{
    return strstr(name, "emb") || strstr(name, "wte") || strstr(name, "wpe");
}

/* Compares what the names of two groups begin with, and then, largest first, how many they are. */
static int compare_groups(const void *a, const void *b)
{
    const struct weight_layer_group *left = a, *right = b;
    if (left->length != right->length)
        return left->length < right->length ? -1 : 1;
    int order = memcmp(left->name, right->name, left->length);
    return order ? order : (left->count < right->count) - (left->count > right->count);
}

void weight_layers_add(struct weight_layers *layers, const struct ivon_source *source)
{
    size_t tensors = ivon_source_tensor_count(source);
    layers->groups = xreallocarray(layers->groups, layers->count + tensors + 1,
                                   sizeof *layers->groups);
    for (size_t i = 0; i < tensors; i++) {
        const struct ivon_tensor *tensor = ivon_source_tensor(source, i);
        size_t length;
        int64_t layer = tensor->part == IVON_MEAN ? weight_layer(tensor->name, &length) : -1;
        if (layer >= 0)
            layers->groups[layers->count++] = (struct weight_layer_group){tensor->name, length,
                                                                          layer + 1};
    }
}

void weight_layers_count(struct weight_layers *layers)
{
    size_t kept = 0;
    if (layers->count)
        qsort(layers->groups, layers->count, sizeof *layers->groups, compare_groups);
    for (size_t i = 0; i < layers->count; i++) {
        const struct weight_layer_group *group = &layers->groups[i];
        const struct weight_layer_group *last = kept ? &layers->groups[kept - 1] : NULL;
        layers->most = group->count > layers->most ? group->count : layers->most;
        if (!last || last->length != group->length ||
            memcmp(last->name, group->name, group->length) != 0)
            layers->groups[kept++] = *group;
    }
    layers->count = kept;
}

void weight_layers_release(struct weight_layers *layers)
{
    free(layers->groups);
    *layers = (struct weight_layers){0};
}

/* The place of a tensor among the layers. */
struct weight_place {
    int64_t layer; /* -1: none */
    int64_t count; /* of layers */
    bool before;   /* without a layer, before them and not behind */
};

static struct weight_place find_place(const struct weight_layers *layers, const char *name)
{
    size_t length = 0, low = 0, high = layers->count;
    struct weight_place place = {.layer = weight_layer(name, &length), .count = 1};
    place.before = place.layer < 0 && is_before_layers(name);
    while (place.layer >= 0 && low < high) {
        size_t middle = low + (high - low) / 2;
        const struct weight_layer_group *group = &layers->groups[middle];
        int order = length != group->length ? (length < group->length ? -1 : 1)
                                            : memcmp(name, group->name, length);
        if (order == 0) {
            place.count = group->count;
            break;
        }
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return place;
}

static bool weight_in_range(const struct weight_rule *rule, const struct weight_place *place)
{
    if (!rule->ranged)
        return true;
    if (place->layer < 0)
        return place->before ? rule->range.before : rule->range.behind;
    return place->layer >= rule->range.first && place->layer < rule->range.end;
}

static double interpolate(const struct weight_rule *rule, const struct weight_place *place)
{
    int64_t first = rule->ranged ? rule->range.first : 0;
    int64_t count = rule->ranged ? rule->range.end - first : place->count;
    double t = place->layer < 0 ? !place->before
               : count > 1      ? (double)(place->layer - first) / (double)(count - 1)
                                : 1;
    double position = t * (double)(rule->value_count - 1);
    size_t low = (size_t)position, high = low + 1 < rule->value_count ? low + 1 : low;
    double share = position - (double)low;
    return (1 - share) * rule->values[low] + share * rule->values[high];
}

static bool matches(struct weight_rule *rule, const char *name)
{
    bool match = !rule->text;
    for (size_t i = 0; i < rule->pattern_count && !match; i++)
        match = fnmatch(rule->patterns[i], name, 0) == 0;
    rule->used |= match;
    return match;
}

double weight_rules_find(struct weight_rules *rules, const struct weight_layers *layers,
                         const char *name, double own)
{
    struct weight_place place = find_place(layers, name);
    double weight = own;
    bool found = false;
    for (size_t i = 0; i < rules->count; i++) {
        struct weight_rule *rule = &rules->items[i];
        bool match = matches(rule, name); /* of each, for what is never used */
        if (match && !found && weight_in_range(rule, &place)) {
            weight = interpolate(rule, &place);
            found = true;
        }
    }
    return weight;
}

const char *weight_rules_unused(const struct weight_rules *rules)
{
    for (size_t i = 0; i < rules->count; i++)
        if (rules->items[i].text && !rules->items[i].used)
            return rules->items[i].text;
    return NULL;
}
