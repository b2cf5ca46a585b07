#include "formats/flax/flax.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/stream.h"
#include "formats/flax/array.h"
#include "formats/io/strings.h"
#include "formats/posterior/parts.h"

enum { SEARCH_DEPTH = 4, LINE = 400, KEY_SHOWN = 40 };

struct flax {
    struct mapped_file mapped;
    struct flax_array *arrays; /* as the source's tensors */
    size_t count, capacity;
};

/* The source. */

static int flax_read(void *self, size_t tensor, size_t first, size_t count, void *buffer,
                     struct ivon_error *error)
{
    const struct flax *flax = self;
    (void)error;
    flax_array_read(&flax->arrays[tensor], first, count, buffer);
    return 0;
}

static const void *flax_view(void *self, size_t tensor)
{
    const struct flax_array *array = &((const struct flax *)self)->arrays[tensor];
    return array->piece_count == 1 ? array->pieces->data : NULL;
}

static void flax_advise(void *self, size_t tensor, size_t first, size_t count, int advice)
{
    const struct flax *flax = self;
    const struct flax_array *array = &flax->arrays[tensor];
    uint64_t size = ivon_dtype_size(array->dtype), from = first * size, to = from + count * size;
    for (size_t i = 0; i < array->piece_count && to; i++) {
        const struct flax_piece *piece = &array->pieces[i];
        uint64_t start = from < piece->size ? from : piece->size,
                 end = to < piece->size ? to : piece->size;
        if (end > start)
            mapped_advise(&flax->mapped, (uint64_t)(piece->data - flax->mapped.data) + start,
                          end - start, advice);
        from -= start;
        to -= end;
    }
}

static void flax_close(void *self)
{
    struct flax *flax = self;
    for (size_t i = 0; i < flax->count; i++)
        flax_array_release(&flax->arrays[i]);
    free(flax->arrays);
    mapped_close(&flax->mapped);
    free(flax);
}

/* The part of the tree that is the checkpoint. */

bool flax_recognise(const struct mapped_file *file)
{
    unsigned char first = file->data[0];
    size_t width = first == 0xde ? 2 : first == 0xdf ? 4 : 0;
    if ((first < 0x80 || first > 0x8f) && !width)
        return false;
    if (file->size == 1)
        return first == 0x80;
    unsigned char key = file->size > 1 + width ? file->data[1 + width] : 0;
    return (key >= 0xa0 && key < 0xc0) || (key >= 0xd9 && key <= 0xdb);
}

/* A file that is read. */
struct reading {
    struct flax *flax;
    const char *path;
    const struct ivon_open_options *options;
    struct msgpack tree;
    struct parts_file parts;
    struct tensor_list tensors;
    char mapping[LINE];
};

static bool has_parameters(const struct msgpack *tree, const struct msgpack_node *node)
{
    const struct msgpack_node *found = flax_find(tree, node, "params");
    return found && found->kind == MSGPACK_MAP && !flax_is_leaf(found);
}

/* Counts the maps so many levels below a node that have `params`; the first becomes *found. */
static size_t count_states(const struct msgpack *tree, const struct msgpack_node *node, int levels,
                           const struct msgpack_node **found)
{
    size_t count = 0;
    if (node->kind != MSGPACK_MAP || flax_is_leaf(node))
        return 0;
    if (!levels) {
        bool fits = has_parameters(tree, node);
        *found = fits && !*found ? node : *found;
        return fits;
    }
    for (const struct msgpack_node *at = node + 1; at < tree->nodes + node->end;) {
        at = tree->nodes + at->end; /* past the key */
        count += count_states(tree, at, levels - 1, found);
        at = tree->nodes + at->end;
    }
    return count;
}

/* Follows keys with dots between them. */
static int follow_keys(const struct reading *reading, const char *keys,
                       const struct msgpack_node **found, struct ivon_error *error)
{
    char *copy = strdup(keys), *rest = copy, *key;
    const struct msgpack_node *at = reading->tree.nodes;
    if (!copy)
        return ivon_error_memory(error);
    while (at && (key = strsep(&rest, ".")))
        at = flax_find(&reading->tree, at, key);
    free(copy);
    if (!at || at->kind != MSGPACK_MAP || flax_is_leaf(at))
        return ivon_error_set(error, IVON_ERROR_DATA, "%s: key '%s': there is no map of that name",
                              reading->path, keys);
    *found = at;
    return 0;
}

/* Finds the map that is the checkpoint: the only one at the least depth that has `params`, or where
   none has, all. */
static int find_state(const struct reading *reading, const struct msgpack_node **found,
                      struct ivon_error *error)
{
    const struct msgpack *tree = &reading->tree;
    if (reading->options->key)
        return follow_keys(reading, reading->options->key, found, error);
    for (int levels = 0; levels <= SEARCH_DEPTH; levels++) {
        *found = NULL;
        size_t count = count_states(tree, tree->nodes, levels, found);
        if (count == 1)
            return 0;
        if (count)
            return ivon_error_hint(error, IVON_HINT_STATE,
                                   ivon_error_set(error, IVON_ERROR_DATA,
                                                  "%s: holds %zu states that have 'params'",
                                                  reading->path, count));
    }
    *found = tree->nodes;
    return 0;
}

/* Its tensors. */

static int flax_append(struct reading *reading, const char *name, const struct msgpack_node *node,
                       struct ivon_error *error)
{
    struct flax *flax = reading->flax;
    if (node->kind == MSGPACK_NIL)
        return 0;
    if (flax->count == flax->capacity) {
        size_t capacity = flax->capacity ? 2 * flax->capacity : 64;
        struct flax_array *grown = realloc(flax->arrays, capacity * sizeof *grown);
        if (!grown)
            return ivon_error_memory(error);
        flax->arrays = grown;
        flax->capacity = capacity;
    }
    struct flax_array *array = &flax->arrays[flax->count];
    int code = flax_array_open(array, reading->path, name, &reading->tree, node, error);
    if (code)
        return code;
    flax->count++;
    struct ivon_tensor described = {.dtype = array->dtype,
                                    .rank = array->rank,
                                    .stored_as = *array->opaque ? array->opaque : NULL};
    memcpy(described.shape, array->shape, sizeof described.shape);
    return parts_append(&reading->parts, &reading->tensors, name, &described, error);
}

static int add_leaves(struct reading *reading, const char *name, const struct msgpack_node *node,
                      struct ivon_error *error);

/* Adds what a map holds, or a list, whose keys are numbers. */
static int add_children(struct reading *reading, const char *parent,
                        const struct msgpack_node *node, struct ivon_error *error)
{
    const struct msgpack *tree = &reading->tree;
    const struct msgpack_node *at = node + 1, *end = tree->nodes + node->end;
    int code = 0;
    for (size_t i = 0; at < end && !code; i++) {
        char number[24];
        const char *key = number;
        size_t length = (size_t)snprintf(number, sizeof number, "%zu", i);
        if (node->kind == MSGPACK_MAP) {
            if (at->kind != MSGPACK_TEXT || memchr(at->data, '\0', at->size))
                return ivon_error_set(error, IVON_ERROR_DATA,
                                      "%s: a key in '%s' is no text that could be a name",
                                      reading->path, parent);
            key = (const char *)at->data;
            length = (size_t)at->size;
            at = tree->nodes + at->end;
        }
        char *name = string_join(parent, '/', key, length);
        code = name ? add_leaves(reading, name, at, error) : ivon_error_memory(error);
        free(name);
        at = tree->nodes + at->end;
    }
    return code;
}

static int add_leaves(struct reading *reading, const char *name, const struct msgpack_node *node,
                      struct ivon_error *error)
{
    return flax_is_leaf(node) ? flax_append(reading, name, node, error)
                              : add_children(reading, name, node, error);
}

/* Adds to the text about what is left out, as far as there is space and the key can be shown. */
static void note_left_out(struct reading *reading, const struct msgpack_node *key)
{
    static const char begin[] = "'params' and 'batch_stats' alone, without ";
    char shown[KEY_SHOWN + 1] = "";
    size_t length = strlen(reading->mapping);
    if (key->kind == MSGPACK_TEXT && key->size <= KEY_SHOWN)
        memcpy(shown, key->data, key->size);
    snprintf(reading->mapping + length, LINE - length, "%s'%s'", length ? ", " : begin,
             tensor_name_valid(shown) ? shown : "…");
}

/* Adds the parameters and the running statistics of a state that has the former, else all. */
static int add_state(struct reading *reading, const struct msgpack_node *state,
                     struct ivon_error *error)
{
    static const char *const taken[] = {"params", "batch_stats"};
    const struct msgpack *tree = &reading->tree;
    int code = 0;
    if (!has_parameters(tree, state))
        return add_children(reading, "", state, error);
    for (const struct msgpack_node *key = state + 1; key < tree->nodes + state->end && !code;) {
        const struct msgpack_node *value = tree->nodes + key->end;
        bool is_statistics = flax_text_is(key, taken[1]);
        if (is_statistics || flax_text_is(key, taken[0]))
            code = add_leaves(reading, taken[is_statistics], value, error);
        else
            note_left_out(reading, key);
        key = tree->nodes + value->end;
    }
    return code;
}

static int flax_check_names(const struct reading *reading, struct ivon_error *error)
{
    const struct tensor_list *tensors = &reading->tensors;
    const char **names = calloc(tensors->count + 1, sizeof *names);
    int code = names ? 0 : ivon_error_memory(error);
    for (size_t i = 0; i < tensors->count && !code; i++)
        names[i] = tensors->items[i].name;
    if (!code)
        qsort(names, tensors->count, sizeof *names, strings_compare);
    for (size_t i = 1; i < tensors->count && !code; i++)
        if (strcmp(names[i - 1], names[i]) == 0)
            code = ivon_error_set(error, IVON_ERROR_DATA, "%s: tensor '%s' occurs twice",
                                  reading->path, names[i]);
    free(names);
    return code;
}

static int read_tree(struct reading *reading, struct ivon_error *error)
{
    const struct mapped_file *mapped = &reading->flax->mapped;
    const struct msgpack_node *state = NULL;
    int code = msgpack_parse(&reading->tree, reading->path, mapped->data, mapped->size, error);
    if (!code)
        code = find_state(reading, &state, error);
    if (!code)
        code = add_state(reading, state, error);
    if (!code && !reading->tensors.count)
        code = ivon_error_set(error, IVON_ERROR_DATA, "%s: is msgpack, but holds no arrays",
                              reading->path);
    if (!code)
        code = flax_check_names(reading, error);
    msgpack_release(&reading->tree);
    return code;
}

int flax_open(struct ivon_source **source, struct mapped_file *mapped,
              const struct ivon_open_options *options, struct ivon_error *error)
{
    static const struct ivon_source_class class = {
        .read = flax_read, .view = flax_view, .advise = flax_advise, .close = flax_close};
    struct ivon_header header = ivon_header_empty();
    struct flax *flax = calloc(1, sizeof *flax);
    if (!flax) {
        mapped_close(mapped);
        return ivon_error_memory(error);
    }
    flax->mapped = *mapped;
    *mapped = (struct mapped_file){0};
    struct reading reading = {.flax = flax, .path = flax->mapped.path, .options = options};
    reading.parts = (struct parts_file){.path = reading.path, .version = 1, .options = options};
    int code = read_tree(&reading, error);
    header.mapping = *reading.mapping ? reading.mapping : NULL;
    if (!code)
        code = parts_finish(&reading.parts, &reading.tensors, &header, error);
    if (!code)
        code = ivon_source_new(source, &class, flax, reading.path, &header, &reading.tensors,
                               error);
    tensor_list_release(&reading.tensors);
    if (code)
        flax_close(flax);
    return code;
}
