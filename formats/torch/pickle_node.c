/* Looking at the nodes of a pickle. */
#include <stdio.h>
#include <string.h>

#include "formats/torch/pickle.h"

static bool pickle_node_is_text(const char *text, size_t length, const char *expected)
{
    return length == strlen(expected) && memcmp(text, expected, length) == 0;
}

bool pickle_is_string(const struct pickle_node *node, const char *text)
{
    return node && node->kind == PICKLE_STRING &&
           pickle_node_is_text(node->text, node->length, text);
}

bool pickle_is_global(const struct pickle_node *node, const char *module, const char *name)
{
    return node && node->kind == PICKLE_GLOBAL &&
           pickle_node_is_text(node->module, node->module_length, module) &&
           pickle_node_is_text(node->name, node->name_length, name);
}

struct pickle_node **pickle_sequence(const struct pickle_node *node, size_t *count)
{
    bool is_sequence = node && (node->kind == PICKLE_LIST || node->kind == PICKLE_TUPLE);
    *count = is_sequence ? node->count : 0;
    return is_sequence ? node->items : NULL;
}

struct pickle_node *pickle_mapping(const struct pickle_node *node)
{
    if (node && node->kind == PICKLE_DICT)
        return (struct pickle_node *)node;
    if (node && node->kind == PICKLE_OBJECT && node->state && node->state->kind == PICKLE_DICT &&
        (pickle_is_global(node->callable, "argparse", "Namespace") ||
         pickle_is_global(node->callable, "types", "SimpleNamespace")))
        return node->state;
    return NULL;
}

struct pickle_node *pickle_get(const struct pickle_node *dictionary, const char *key)
{
    if (!dictionary || dictionary->kind != PICKLE_DICT)
        return NULL;
    for (size_t i = dictionary->count; i >= 2; i -= 2)
        if (pickle_is_string(dictionary->items[i - 2], key))
            return dictionary->items[i - 1];
    return NULL;
}

/* The class or function that an object comes from: copyreg's helper has it as an argument. */
static const struct pickle_node *origin(const struct pickle_node *node)
{
    for (int steps = 0; node && steps < PICKLE_NESTING_MAX; steps++) {
        if (node->kind != PICKLE_OBJECT)
            return node;
        size_t count;
        struct pickle_node **arguments = pickle_sequence(node->arguments, &count);
        bool helper = pickle_is_global(node->callable, "copyreg", "_reconstructor") ||
                      pickle_is_global(node->callable, "copy_reg", "_reconstructor");
        node = helper && count ? arguments[0] : node->callable;
    }
    return node;
}

const char *pickle_describe(const struct pickle_node *node, char text[PICKLE_DESCRIPTION])
{
    static const char *const kinds[] = {
        [PICKLE_NONE] = "None",          [PICKLE_BOOL] = "a bool",
        [PICKLE_INTEGER] = "an integer", [PICKLE_FLOAT] = "a float",
        [PICKLE_STRING] = "a string",    [PICKLE_BYTES] = "bytes",
        [PICKLE_LIST] = "a list",        [PICKLE_TUPLE] = "a tuple",
        [PICKLE_SET] = "a set",          [PICKLE_DICT] = "a dict",
        [PICKLE_GLOBAL] = "a global",    [PICKLE_PERSISTENT] = "a storage",
        [PICKLE_OBJECT] = "an object"};
    const struct pickle_node *from = origin(node);
    if (!node)
        return "missing";
    if (!from || from->kind != PICKLE_GLOBAL)
        return kinds[node->kind];
    snprintf(text, PICKLE_DESCRIPTION, "%s'%.*s.%.*s'",
             node->kind == PICKLE_GLOBAL ? "" : "an object of ",
             from->module_length < 100 ? (int)from->module_length : 100, from->module,
             from->name_length < 100 ? (int)from->name_length : 100, from->name);
    return text;
}
