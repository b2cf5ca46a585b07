/* The search for the state dict and the optimizer's state within a pickle. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "formats/io/strings.h"
#include "formats/torch/private.h"

enum {
    DEPTH_MAX = 4,
    LISTED_MAX = 8,
    LIST_TEXT = 500,
    KEY_SHOWN = 60,
    KEY_MAX = 200,
    GROUP_ITEMS_MAX = 512,
    GROUPS_MAX = 4096,
    STATES_TRIED = 64
};

/* The text of a key: strings as they are, integers in decimal. */
static size_t key_text(const struct pickle_node *key, char text[24], const char **start)
{
    if (key->kind == PICKLE_STRING) {
        *start = key->text;
        return key->length;
    }
    *start = text;
    return key->kind == PICKLE_INTEGER ? (size_t)snprintf(text, 24, "%lld", (long long)key->integer)
                                       : 0;
}

/* A container's values with their keys: of a dictionary, or of a list by numbers. */
struct children {
    struct pickle_node **items;
    size_t count;
    bool keyed;
    struct pickle_node number;
};

static struct children children_of(const struct pickle_node *node)
{
    struct children children = {.number = {.kind = PICKLE_INTEGER}};
    const struct pickle_node *mapping = pickle_mapping(node);
    if (mapping) {
        children.items = mapping->items;
        children.count = mapping->count / 2;
        children.keyed = true;
    } else {
        children.items = pickle_sequence(node, &children.count);
    }
    return children;
}

static struct pickle_node *child(const struct children *children, size_t i)
{
    return children->items[children->keyed ? 2 * i + 1 : i];
}

static const struct pickle_node *child_key(struct children *children, size_t i)
{
    children->number.integer = (int64_t)i;
    return children->keyed ? children->items[2 * i] : &children->number;
}

/* A path for messages, to be freed: a parent's and a key. */
static char *torch_find_join(const char *parent, const struct pickle_node *key)
{
    char text[24];
    const char *start;
    size_t length = key_text(key, text, &start);
    return string_join(parent, '.', start, length < KEY_MAX ? length : KEY_MAX);
}

/* Returns whether a key is that of the extra state that modules may add. */
static bool is_extra(const struct pickle_node *key)
{
    static const char suffix[] = "_extra_state";
    size_t length = sizeof suffix - 1;
    return key->kind == PICKLE_STRING && key->length >= length &&
           memcmp(key->text + key->length - length, suffix, length) == 0;
}

/* True if a node looks like a state dict: tensors by name, and nothing else but extra state. */
static bool is_state(const struct pickle_node *node)
{
    size_t tensors = 0;
    if (node->kind != PICKLE_DICT)
        return false;
    for (size_t i = 0; i < node->count; i += 2) {
        bool is_tensor = torch_is_tensor(node->items[i + 1]);
        tensors += is_tensor;
        if (node->items[i]->kind != PICKLE_STRING || (!is_tensor && !is_extra(node->items[i])))
            return false;
    }
    return tensors > 0;
}

/* True if a dictionary is as small as those of groups and states: a large one may occur many times,
   and would be searched again and again. */
static bool is_small(const struct pickle_node *node)
{
    return node->kind == PICKLE_DICT && node->count <= GROUP_ITEMS_MAX;
}

static const struct pickle_node *groups_of(const struct pickle_node *node)
{
    const struct pickle_node *groups = pickle_get(node, "param_groups");
    bool fine = groups && groups->kind == PICKLE_LIST && groups->count > 0 &&
                groups->count <= GROUPS_MAX;
    for (size_t i = 0; fine && i < groups->count; i++)
        fine = is_small(groups->items[i]);
    return fine ? groups : NULL;
}

static bool is_optimizer(const struct pickle_node *node)
{
    return groups_of(node) != NULL;
}

static bool is_ivon(const struct pickle_node *node)
{
    size_t count;
    struct pickle_node **groups = pickle_sequence(groups_of(node), &count);
    bool fine = count > 0;
    for (size_t i = 0; i < count && fine; i++)
        fine = torch_is_tensor(pickle_get(groups[i], "hess"));
    return fine;
}

static bool is_adam(const struct pickle_node *node)
{
    const struct pickle_node *state = groups_of(node) ? pickle_get(node, "state") : NULL;
    if (!state || state->kind != PICKLE_DICT)
        return false;
    for (size_t i = 0; i < state->count && i < STATES_TRIED; i += 2)
        if (is_small(state->items[i + 1]) && pickle_get(state->items[i + 1], "exp_avg_sq"))
            return true;
    return false;
}

/* A search by levels, each node once, that does not enter what was found or an optimizer. */
struct visit {
    struct pickle_node *node;
    char *path;
    int depth;
    bool fits;
};

struct search {
    bool (*fits)(const struct pickle_node *node);
    struct visit *visits;
    size_t count, capacity;
};

static int torch_find_enqueue(struct search *search, struct pickle_node *node, char *path,
                              int depth, struct ivon_error *error)
{
    if (search->count == search->capacity) {
        size_t capacity = search->capacity ? 2 * search->capacity : 16;
        struct visit *visits = realloc(search->visits, capacity * sizeof *visits);
        if (visits) {
            search->visits = visits;
            search->capacity = capacity;
        }
    }
    if (!path || search->count == search->capacity) {
        free(path);
        return ivon_error_memory(error);
    }
    node->seen = true;
    search->visits[search->count++] = (struct visit){
        .node = node, .path = path, .depth = depth, .fits = search->fits(node)};
    return 0;
}

static int enter(struct search *search, const struct visit *visit, struct ivon_error *error)
{
    struct children children = children_of(visit->node);
    int code = 0;
    for (size_t i = 0; i < children.count && !code; i++) {
        struct pickle_node *node = child(&children, i);
        bool is_container = pickle_mapping(node) || node->kind == PICKLE_LIST ||
                            node->kind == PICKLE_TUPLE;
        if (is_container && !node->seen)
            code = torch_find_enqueue(search, node,
                                      torch_find_join(visit->path, child_key(&children, i)),
                                      visit->depth + 1, error);
    }
    return code;
}

/* Visits everything, so that what is deeper than something that fits is visited too. */
static int torch_find_search_all(struct search *search, struct pickle_node *root,
                                 struct ivon_error *error)
{
    int code = torch_find_enqueue(search, root, strdup(""), 0, error);
    for (size_t i = 0; i < search->count && !code; i++) {
        struct visit visit = search->visits[i];
        if (!visit.fits && visit.depth < DEPTH_MAX && !is_optimizer(visit.node) &&
            !is_state(visit.node))
            code = enter(search, &visit, error);
    }
    for (size_t i = 0; i < search->count; i++)
        search->visits[i].node->seen = false;
    return code;
}

static void search_release(struct search *search)
{
    for (size_t i = 0; i < search->count; i++)
        free(search->visits[i].path);
    free(search->visits);
}

__attribute__((format(printf, 3, 4))) static void append_text(char *text, size_t size,
                                                              const char *format, ...)
{
    size_t length = strlen(text);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text + length, size - length, format, arguments);
    va_end(arguments);
}

/* How many visits fit at the lowest depth that has any: the first of them, and all by name. */
static size_t count_fits(const struct search *search, const struct visit **first,
                         char list[LIST_TEXT])
{
    size_t fits = 0;
    list[0] = '\0';
    for (size_t i = 0; i < search->count; i++) {
        const struct visit *visit = &search->visits[i];
        if (!visit->fits || (fits && visit->depth > (*first)->depth))
            continue;
        if (!fits++)
            *first = visit;
        if (fits <= LISTED_MAX)
            append_text(list, LIST_TEXT, fits > 1 ? ", '%.60s'" : "'%.60s'", visit->path);
        else if (fits == LISTED_MAX + 1)
            append_text(list, LIST_TEXT, "%s", ", …");
    }
    return fits;
}

static bool is_module(const struct pickle_node *node)
{
    return node->kind == PICKLE_OBJECT && pickle_get(node->state, "_parameters") &&
           pickle_get(node->state, "_modules");
}

static int not_a_state(const struct pickle_node *node, const char *path, const char *where,
                       struct ivon_error *error)
{
    char text[PICKLE_DESCRIPTION];
    return ivon_error_set(error, IVON_ERROR_DATA,
                          is_module(node) ? "%s: %s%s%s is %s, a whole module, which only its own "
                                            "code can read: save its state_dict() instead"
                                          : "%s: %s%s%s is %s, expected a state dict, that is, "
                                            "tensors by name",
                          path, *where ? "'" : "", *where ? where : "it", *where ? "'" : "",
                          pickle_describe(node, text));
}

/* Sets the error that lists what the root holds instead of a state dict. */
static int nothing_found(const struct pickle_node *root, const char *path, struct ivon_error *error)
{
    char list[LIST_TEXT] = "", text[PICKLE_DESCRIPTION], number[24];
    struct children children = children_of(root);
    if (!children.count)
        return not_a_state(root, path, "", error);
    for (size_t i = 0; i < children.count && i < LISTED_MAX; i++) {
        const struct pickle_node *node = child(&children, i);
        const char *key;
        size_t length = key_text(child_key(&children, i), number, &key);
        if (is_module(node)) {
            char *where = torch_find_join("", child_key(&children, i));
            int code = not_a_state(node, path, where ? where : "", error);
            free(where);
            return code;
        }
        char shown[KEY_SHOWN + 1];
        snprintf(shown, sizeof shown, "%.*s", length < KEY_SHOWN ? (int)length : KEY_SHOWN, key);
        append_text(list, LIST_TEXT, i ? ", '%s'" : "'%s'", shown);
        append_text(list, LIST_TEXT, " (%.100s)", pickle_describe(node, text));
    }
    return ivon_error_set(error, IVON_ERROR_DATA,
                          "%s: holds no state dict, that is, tensors by "
                          "name, but %s%s",
                          path, list, children.count > LISTED_MAX ? ", …" : "");
}

/* A dictionary that would be a state dict but for something else in it. */
static bool is_mixed(const struct pickle_node *node)
{
    bool any = false;
    for (size_t i = 0; node->kind == PICKLE_DICT && i < node->count && !any; i += 2)
        any = torch_is_tensor(node->items[i + 1]);
    return any;
}

/* Takes the one that fits, if exactly one does: *fits, and all by name in the list. */
static int search_one(struct pickle_node *root, bool (*fits)(const struct pickle_node *node),
                      struct torch_found *found, size_t *count, char list[LIST_TEXT],
                      struct ivon_error *error)
{
    struct search search = {.fits = fits};
    const struct visit *visit = NULL;
    int code = torch_find_search_all(&search, root, error);
    *count = code ? 0 : count_fits(&search, &visit, list);
    if (*count == 1) {
        *found = (struct torch_found){visit->node, strdup(visit->path)};
        code = found->path ? 0 : ivon_error_memory(error);
    }
    search_release(&search);
    return code;
}

static int guess_state(struct pickle_node *root, const char *path, struct torch_found *found,
                       struct ivon_error *error)
{
    char list[LIST_TEXT];
    size_t count;
    int code = search_one(root, is_state, found, &count, list, error);
    if (!code && !count) /* reading it will say what should not be there */
        code = search_one(root, is_mixed, found, &count, list, error);
    if (code || count == 1)
        return code;
    if (!count)
        return nothing_found(root, path, error);
    return ivon_error_hint(
        error, IVON_HINT_STATE,
        ivon_error_set(error, IVON_ERROR_DATA, "%s: holds several state dicts: %s", path, list));
}

/* The value whose key begins the path, as long as can be; *length of it. */
static struct pickle_node *descend(const struct pickle_node *node, const char *path, size_t *length)
{
    struct children children = children_of(node);
    struct pickle_node *found = NULL;
    size_t rest = strlen(path);
    *length = 0;
    for (size_t i = 0; i < children.count; i++) {
        char text[24];
        const char *start;
        size_t size = key_text(child_key(&children, i), text, &start);
        if (!size || size < *length || size > rest || memcmp(start, path, size) != 0 ||
            (path[size] != '.' && path[size] != '\0'))
            continue;
        found = child(&children, i);
        *length = size;
    }
    return found;
}

static void list_keys(const struct pickle_node *node, char list[LIST_TEXT])
{
    struct children children = children_of(node);
    char number[24];
    for (size_t i = 0; i < children.count && i < LISTED_MAX; i++) {
        const char *key;
        size_t length = key_text(child_key(&children, i), number, &key);
        char shown[KEY_SHOWN + 1];
        snprintf(shown, sizeof shown, "%.*s", length < KEY_SHOWN ? (int)length : KEY_SHOWN, key);
        append_text(list, LIST_TEXT, i ? ", '%s'" : ", but '%s'", shown);
    }
    append_text(list, LIST_TEXT, "%s", children.count > LISTED_MAX ? ", …" : "");
}

static int follow_key(struct pickle_node *root, const char *key, const char *path,
                      struct torch_found *found, struct ivon_error *error)
{
    char text[PICKLE_DESCRIPTION], list[LIST_TEXT] = "";
    struct pickle_node *node = root;
    for (const char *rest = key; *rest;) {
        size_t length;
        struct pickle_node *next = descend(node, rest, &length);
        int before = (int)(rest - key);
        if (!next && node->kind == PICKLE_OBJECT && !pickle_mapping(node))
            return ivon_error_set(error, IVON_ERROR_DATA,
                                  "%s: key '%s': '%.*s' is %s, which is not looked into", path, key,
                                  before ? before - 1 : 0, key, pickle_describe(node, text));
        if (!next) {
            list_keys(node, list);
            return ivon_error_set(
                error, IVON_ERROR_DATA, "%s: key '%s': there is no '%s'%s%.*s%s%s", path, key, rest,
                before ? " in '" : "", before ? before - 1 : 0, key, before ? "'" : "", list);
        }
        node = next;
        rest += length;
        rest += *rest == '.';
    }
    struct pickle_node *mapping = pickle_mapping(node);
    if (!mapping || !mapping->count)
        return not_a_state(node, path, key, error);
    *found = (struct torch_found){mapping, strdup(key)};
    return found->path ? 0 : ivon_error_memory(error);
}

bool torch_has_state(struct pickle_node *root)
{
    struct search search = {.fits = is_state};
    const struct visit *visit = NULL;
    char list[LIST_TEXT];
    bool found = !torch_find_search_all(&search, root, NULL) &&
                 count_fits(&search, &visit, list) > 0;
    search_release(&search);
    return found;
}

int torch_find_state(struct pickle_node *root, const char *key, const char *path,
                     struct torch_found *found, struct ivon_error *error)
{
    return key ? follow_key(root, key, path, found, error) : guess_state(root, path, found, error);
}

/* True if a state was found where PyTorch's own examples put it. */
static bool is_named(const struct visit *visit)
{
    return visit->fits && strcmp(visit->path, "optimizer") == 0;
}

int torch_find_optimizer(struct pickle_node *root, bool adam, const char *path,
                         struct torch_found *found, struct ivon_error *error)
{
    struct search search = {.fits = adam ? is_adam : is_ivon};
    const struct visit *visit = NULL;
    char list[LIST_TEXT];
    *found = (struct torch_found){0};
    int code = torch_find_search_all(&search, root, error);
    size_t fits = code ? 0 : count_fits(&search, &visit, list);
    for (size_t i = 0; i < search.count && fits > 1; i++) {
        if (is_named(&search.visits[i])) {
            visit = &search.visits[i];
            fits = 1;
        }
    }
    if (fits > 1)
        code = ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: holds the states of several optimizers: %s: save the wanted one "
                              "as 'optimizer'",
                              path, list);
    if (!code && fits) {
        *found = (struct torch_found){visit->node, strdup(visit->path)};
        code = found->path ? 0 : ivon_error_memory(error);
    }
    search_release(&search);
    return code;
}
