#include "formats/keras/names.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/names.h"
#include "formats/io/strings.h"

enum { LAYER_NAMES_MAX = 4 };

/* The names that layers of a kind have for their weights, in their order. */
struct layer_kind {
    const char *name;
    size_t least; /* this many weights, or more */
    const char *weights[LAYER_NAMES_MAX + 1];
};

/* Fewer weights leave open which they are: a normalization may lack its scale or its offset, and
   the only vector has a number, as it has in the file. */
static const struct layer_kind kinds[] = {
    {"dense", 1, {"kernel", "bias"}},
    {"einsum_dense", 1, {"kernel", "bias"}},
    {"query_dense", 1, {"kernel", "bias"}},
    {"key_dense", 1, {"kernel", "bias"}},
    {"value_dense", 1, {"kernel", "bias"}},
    {"output_dense", 1, {"kernel", "bias"}},
    {"conv1d", 1, {"kernel", "bias"}},
    {"conv2d", 1, {"kernel", "bias"}},
    {"conv3d", 1, {"kernel", "bias"}},
    {"conv1d_transpose", 1, {"kernel", "bias"}},
    {"conv2d_transpose", 1, {"kernel", "bias"}},
    {"conv3d_transpose", 1, {"kernel", "bias"}},
    {"depthwise_conv1d", 1, {"kernel", "bias"}},
    {"depthwise_conv2d", 1, {"kernel", "bias"}},
    {"separable_conv1d", 2, {"depthwise_kernel", "pointwise_kernel", "bias"}},
    {"separable_conv2d", 2, {"depthwise_kernel", "pointwise_kernel", "bias"}},
    {"embedding", 1, {"embeddings"}},
    {"prelu", 1, {"alpha"}},
    {"layer_normalization", 2, {"gamma", "beta"}},
    {"group_normalization", 2, {"gamma", "beta"}},
    {"batch_normalization", 4, {"gamma", "beta", "moving_mean", "moving_variance"}},
    {"batch_normalization", 3, {"0", "moving_mean", "moving_variance"}},
    {"batch_normalization", 2, {"moving_mean", "moving_variance"}},
    {"cell", 2, {"kernel", "recurrent_kernel", "bias"}},
};

/* The last component of a path's first `length` bytes; its length replaces that of the path. */
static const char *last_component(const char *path, size_t *length)
{
    size_t at = *length;
    while (at && path[at - 1] != '/')
        at--;
    *length -= at;
    return path + at;
}

/* Paths of version 3: LAYERS/vars/NUMBER. */

/* The length of LAYERS, with the slash behind it; SIZE_MAX for another path. */
static size_t layers_length(const char *path)
{
    size_t number = strlen(path);
    const char *last = last_component(path, &number);
    size_t length = (size_t)(last - path);
    if (!number || strspn(last, "0123456789") != number || length < 5 ||
        strncmp(last - 5, "vars/", 5) != 0 || (length > 5 && last[-6] != '/'))
        return SIZE_MAX;
    return length - 5;
}

static bool begins_with(const char *path, const char *component)
{
    return name_is_word(path, strcspn(path, "/"), component);
}

bool keras_is_weight(const struct hdf5_object *object, bool legacy)
{
    static const char *const others[] = {"optimizer", "optimizer_weights", "metrics", "_metrics"};
    bool fits = object->is_dataset && (legacy ? strchr(object->path, '/') != NULL
                                              : layers_length(object->path) != SIZE_MAX);
    for (size_t i = 0; i < sizeof others / sizeof *others && fits; i++)
        fits = !begins_with(object->path, others[i]);
    return fits;
}

bool keras_is_legacy(const struct hdf5_object *objects, size_t count)
{
    bool found = false;
    for (size_t i = 0; i < count && !found; i++)
        found = (!*objects[i].path || strcmp(objects[i].path, "model_weights") == 0) &&
                hdf5_attribute(&objects[i], "keras_version");
    return found;
}

/* The groups `vars` that say what their layer is called, sorted by path. */
struct layer_table {
    const struct hdf5_object **groups;
    size_t count;
};

static int compare_layers(const void *a, const void *b)
{
    const struct hdf5_object *const *left = a, *const *right = b;
    return strcmp((*left)->path, (*right)->path);
}

static int list_layers(struct layer_table *table, const struct hdf5_object *objects, size_t count,
                       struct ivon_error *error)
{
    table->groups = calloc(count + 1, sizeof *table->groups);
    if (!table->groups)
        return ivon_error_memory(error);
    for (size_t i = 0; i < count; i++) {
        const struct hdf5_attribute *name = hdf5_attribute(&objects[i], "name");
        if (!objects[i].is_dataset && string_ends_with(objects[i].path, "/vars") && name &&
            name->text && *name->text)
            table->groups[table->count++] = &objects[i];
    }
    qsort(table->groups, table->count, sizeof *table->groups, compare_layers);
    return 0;
}

/* The name of the layer whose path is the first `length` bytes; null where the file has none. */
static const char *layer_name(const struct layer_table *table, const char *path, size_t length)
{
    size_t low = 0, high = table->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const char *found = table->groups[middle]->path;
        int order = strncmp(found, path, length);
        order = order ? order : strcmp(found + length, "/vars");
        if (order == 0)
            return hdf5_attribute(table->groups[middle], "name")->text;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

/* Returns whether a text is a kind's name, or that with a number behind it. */
static bool is_of_kind(const char *text, size_t length, const struct layer_kind *kind)
{
    size_t end = length;
    while (end && isdigit((unsigned char)text[end - 1]))
        end--;
    bool numbered = end && end < length && text[end - 1] == '_';
    return name_is_word(text, length, kind->name) ||
           (numbered && name_is_word(text, end - 1, kind->name));
}

/* The name of weight `index` of `count` that a layer has; null where it is not known. */
static const char *weight_name(const char *layer, size_t length, size_t index, size_t count)
{
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        size_t most = 0;
        while (kinds[i].weights[most])
            most++;
        if (count >= kinds[i].least && count <= most && is_of_kind(layer, length, &kinds[i]))
            return kinds[i].weights[index];
    }
    return NULL;
}

/* Appends a piece to a text, and a slash where one follows; false if memory is exhausted. */
static bool put_piece(char **text, const char *piece, size_t length, bool slash)
{
    size_t before = *text ? strlen(*text) : 0;
    char *grown = realloc(*text, before + length + 2);
    if (!grown)
        return false;
    memcpy(grown + before, piece, length);
    strcpy(grown + before + length, slash ? "/" : "");
    *text = grown;
    return true;
}

/* Appends each layer of a path, by what it is called; containers have no name. */
static bool put_layers(char **text, const struct layer_table *table, const char *path,
                       size_t length)
{
    bool fine = true;
    for (size_t start = 0, end; start < length && fine; start = end + 1) {
        end = start + strcspn(path + start, "/");
        const char *name = layer_name(table, path, end);
        if (name)
            fine = put_piece(text, name, strlen(name), true);
        else if (!name_is_word(path + start, end - start, "layers") &&
                 !name_is_word(path + start, end - start, "_layer_checkpoint_dependencies"))
            fine = put_piece(text, path + start, end - start, true);
    }
    return fine;
}

/* Of a weight of version 3, beside which the group has `count` in all. */
static char *name_numbered(const struct layer_table *table, const char *path, size_t count)
{
    size_t length = layers_length(path), last = length ? length - 1 : 0;
    const char *number = path + length + 5, *own = last_component(path, &last);
    const char *called = length ? layer_name(table, path, length - 1) : NULL, *weight = NULL;
    unsigned long index = strtoul(number, NULL, 10);
    char *text = NULL;
    if (index < count)
        weight = weight_name(own, last, index, count);
    if (index < count && !weight && called)
        weight = weight_name(called, strlen(called), index, count);
    weight = weight ? weight : number;
    if (put_layers(&text, table, path, length) && put_piece(&text, weight, strlen(weight), false))
        return text;
    free(text);
    return NULL;
}

/* Of a weight of earlier versions: [model_weights/]LAYER/WEIGHT[:0]. */
static char *name_legacy(const char *path)
{
    const char *weight = begins_with(path, "model_weights") ? strchr(path, '/') + 1 : path;
    const char *slash = strchr(weight, '/');
    weight = slash ? slash + 1 : weight;
    size_t length = strlen(weight);
    return strndup(weight, length > 2 && string_ends_with(weight, ":0") ? length - 2 : length);
}

/* How many data sets in a row, from the first on, are in the group of that one. */
static size_t count_group(const struct hdf5_object *objects, size_t count)
{
    size_t length = layers_length(objects->path), same = 1;
    while (same < count && objects[same].is_dataset &&
           layers_length(objects[same].path) == length &&
           strncmp(objects->path, objects[same].path, length) == 0)
        same++;
    return same;
}

/* Returns whether all names that are not null differ. */
static int names_differ(char *const *names, size_t count, bool *differ, struct ivon_error *error)
{
    size_t named = 0;
    const char **sorted = calloc(count + 1, sizeof *sorted);
    if (!sorted)
        return ivon_error_memory(error);
    for (size_t i = 0; i < count; i++)
        if (names[i])
            sorted[named++] = names[i];
    qsort(sorted, named, sizeof *sorted, strings_compare);
    *differ = true;
    for (size_t i = 1; i < named; i++)
        *differ &= strcmp(sorted[i - 1], sorted[i]) != 0;
    free(sorted);
    return 0;
}

static int name_all(char **names, const struct hdf5_object *objects, size_t count, bool by_path,
                    struct ivon_error *error)
{
    bool legacy = keras_is_legacy(objects, count);
    struct layer_table table = {0};
    int code = list_layers(&table, objects, count, error);
    size_t group = 0, end = 0;
    for (size_t i = 0; i < count && !code; i++) {
        free(names[i]);
        names[i] = NULL;
        if (!keras_is_weight(&objects[i], legacy))
            continue;
        if (!legacy && i >= end) {
            group = count_group(objects + i, count - i);
            end = i + group;
        }
        names[i] = by_path  ? strdup(objects[i].path)
                   : legacy ? name_legacy(objects[i].path)
                            : name_numbered(&table, objects[i].path, group);
        code = names[i] ? 0 : ivon_error_memory(error);
    }
    free(table.groups);
    return code;
}

int keras_name_weights(char ***out, const struct hdf5_object *objects, size_t count,
                       struct ivon_error *error)
{
    bool differ = true;
    char **names = calloc(count + 1, sizeof *names);
    int code = names ? name_all(names, objects, count, false, error) : ivon_error_memory(error);
    if (!code)
        code = names_differ(names, count, &differ, error);
    if (!code && !differ)
        code = name_all(names, objects, count, true, error);
    if (code)
        keras_free_names(names, count);
    else
        *out = names;
    return code;
}

void keras_free_names(char **names, size_t count)
{
    for (size_t i = 0; i < count && names; i++)
        free(names[i]);
    free(names);
}
