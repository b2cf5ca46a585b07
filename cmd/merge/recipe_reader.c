#include "cmd/merge/recipe_reader.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/shared/memory.h"
#include "cmd/shared/report.h"

enum { RULES_MAX = 1 << 16 };

int recipe_fail(const struct recipe_reader *reader, const struct recipe_node *node,
                const char *format, ...)
{
    char message[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    return recipe_error(reader->error, reader->command->recipe, node->line, node->column, "%s",
                        message);
}

char *recipe_list(const char *const *names, size_t count)
{
    char *list = xstrdup(names[0]);
    for (size_t i = 1; i < count; i++) {
        char *longer = xasprintf("%s, %s", list, names[i]);
        free(list);
        list = longer;
    }
    return list;
}

static bool is_null(const struct recipe_node *node)
{
    return node->kind == RECIPE_TEXT && !node->quoted &&
           (!*node->text || strcmp(node->text, "null") == 0 || strcmp(node->text, "~") == 0);
}

int recipe_members(const struct recipe_reader *reader, const struct recipe_node *map,
                   const char *what, const char *const *names, size_t count,
                   const struct recipe_node **values)
{
    memset(values, 0, count * sizeof(const struct recipe_node *));
    if (map->kind != RECIPE_MAP)
        return recipe_fail(reader, map, "expected %s with keys and values", what);
    for (const struct recipe_node *node = map->first; node; node = node->next) {
        size_t key = 0;
        while (key < count && strcmp(names[key], node->key) != 0)
            key++;
        if (key == count) {
            char *list = recipe_list(names, count);
            int code = recipe_error(reader->error, reader->command->recipe, node->key_line,
                                    node->key_column, "key '%s' is not supported, expected %s%s",
                                    node->key, count == 1 ? "" : "one of ", list);
            free(list);
            return code;
        }
        values[key] = is_null(node) ? NULL : node;
    }
    return 0;
}

int recipe_text(const struct recipe_reader *reader, const struct recipe_node *node,
                const char *what, const char **text)
{
    if (node->kind != RECIPE_TEXT || !*node->text)
        return recipe_fail(reader, node, "%s: expected a text", what);
    *text = node->text;
    return 0;
}

static bool is_number(const struct recipe_node *node, double *number)
{
    char *end;
    if (node->kind != RECIPE_TEXT || node->quoted || !*node->text ||
        node->text[strspn(node->text, "+-.0123456789eE")])
        return false;
    *number = strtod(node->text, &end);
    return !*end && isfinite(*number);
}

int recipe_number(const struct recipe_reader *reader, const struct recipe_node *node,
                  const char *what, double *number)
{
    return is_number(node, number) ? 0 : recipe_fail(reader, node, "%s: expected a number", what);
}

/* Reads one value, or a list of values that run over the layers, into a rule. */
static int read_values(const struct recipe_reader *reader, const struct recipe_node *node,
                       struct weight_rule *rule)
{
    size_t count = 0;
    const struct recipe_node *item = node->kind == RECIPE_LIST ? node->first : node;
    if (node->kind == RECIPE_MAP || !item)
        return recipe_fail(reader, node, "weight: expected a number or a list of numbers");
    for (; item; item = node->kind == RECIPE_LIST ? item->next : NULL) {
        double number = 0;
        int code = recipe_number(reader, item, "weight", &number);
        if (code)
            return code;
        rule->values = xreallocarray(rule->values, count + 1, sizeof *rule->values);
        rule->values[count++] = number;
    }
    rule->value_count = count;
    return 0;
}

/* A new rule; null, and an error, if there are too many. */
static struct weight_rule *add_rule(struct recipe_reader *reader, const struct recipe_node *node,
                                    const struct weight_range *range, struct weight_rules *rules)
{
    if (++reader->rules > RULES_MAX) {
        recipe_fail(reader, node, "more than %d weights in all", RULES_MAX);
        return NULL;
    }
    struct weight_rule *rule = weight_rules_add(rules, 1);
    if (range) {
        rule->ranged = true;
        rule->range = *range;
    }
    return rule;
}

/* Reads {filter: …, value: …}. *last becomes true if it holds for all names. */
static int read_condition(struct recipe_reader *reader, const struct recipe_node *node,
                          const struct weight_range *range, struct weight_rules *rules, bool *last)
{
    static const char *const names[] = {"filter", "value"};
    const struct recipe_node *values[2];
    const char *filter = "";
    int code = recipe_members(reader, node, "a filter", names, 2, values);
    if (code)
        return code;
    if (!values[1])
        return recipe_fail(reader, node, "a filter without a value");
    if (values[0])
        code = recipe_text(reader, values[0], "filter", &filter);
    if (code)
        return code;
    struct weight_rule *rule = add_rule(reader, node, range, rules);
    if (!rule)
        return reader->error->code;
    weight_rule_set_filter(rule, filter);
    *last = !rule->text;
    return read_values(reader, values[1], rule);
}

static int read_weights(struct recipe_reader *reader, const struct recipe_node *node,
                        const struct weight_range *range, struct weight_rules *rules,
                        bool *complete)
{
    bool list = node->kind == RECIPE_LIST, last = false;
    if (node->kind == RECIPE_TEXT || (list && !(node->first && node->first->kind == RECIPE_MAP))) {
        struct weight_rule *rule = add_rule(reader, node, range, rules);
        *complete = true;
        return rule ? read_values(reader, node, rule) : reader->error->code;
    }
    for (const struct recipe_node *item = list ? node->first : node; item;
         item = list ? item->next : NULL) {
        if (last)
            return recipe_fail(reader, item, "a value behind one for all tensors");
        int code = read_condition(reader, item, range, rules, &last);
        if (code)
            return code;
    }
    *complete = last;
    return 0;
}

int recipe_model_weights(struct recipe_reader *reader, const struct recipe_node *const *settings,
                         size_t count, const struct weight_range *range, struct weight_rules *rules)
{
    const struct recipe_node *incomplete = NULL;
    for (size_t i = 0; i < count; i++) {
        bool complete = false;
        if (!settings[i])
            continue;
        int code = read_weights(reader, settings[i], range, rules, &complete);
        if (code || complete)
            return code;
        incomplete = settings[i];
    }
    if (incomplete)
        return recipe_fail(reader, incomplete,
                           "weight: no value for names that no filter is in: end the list with a "
                           "value without a filter");
    if (range && !add_rule(reader, reader->root, range, rules))
        return reader->error->code;
    return 0;
}

/* A model's density, which is that of all. */
static int recipe_density(const struct recipe_reader *reader, const struct recipe_node *node)
{
    double density = NAN, *all = &reader->command->options.density;
    int code = recipe_number(reader, node, "density", &density);
    if (!code && !isnan(*all) && *all != density)
        code = recipe_fail(reader, node,
                           "density %g after %g: models of different densities are not supported",
                           density, *all);
    *all = code ? *all : density;
    return code;
}

int recipe_weight_of(const struct recipe_reader *reader, const struct recipe_node *parameters,
                     const struct recipe_node **weight)
{
    static const char *const names[] = {"weight", "t", "density"};
    const struct recipe_node *values[3];
    *weight = NULL;
    int code = parameters ? recipe_members(reader, parameters, "parameters", names, 3, values) : 0;
    if (code || !parameters)
        return code;
    *weight = values[0] ? values[0] : values[1];
    return values[2] ? recipe_density(reader, values[2]) : 0;
}

struct merge_model *recipe_model(struct recipe_reader *reader, const char *path)
{
    struct merge_command *command = reader->command;
    command->models = xreallocarray(command->models, command->model_count + 1,
                                    sizeof *command->models);
    struct merge_model *model = &command->models[command->model_count++];
    *model = (struct merge_model){.path = xstrdup(path), .weight = 1};
    return model;
}
