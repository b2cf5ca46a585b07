#include "formats/flax/array.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/stream.h"

/* Flax's types of extensions. */
enum { EXTENSION_ARRAY = 1, EXTENSION_COMPLEX = 2, EXTENSION_SCALAR = 3 };

static const char chunked[] = "__msgpack_chunked_array__";

/* Older versions of msgpack have one kind for both. */
static bool is_string(const struct msgpack_node *node)
{
    return node->kind == MSGPACK_TEXT || node->kind == MSGPACK_BYTES;
}

bool flax_text_is(const struct msgpack_node *node, const char *text)
{
    return is_string(node) && node->size == strlen(text) &&
           memcmp(node->data, text, node->size) == 0;
}

const struct msgpack_node *flax_find(const struct msgpack *tree, const struct msgpack_node *map,
                                     const char *key)
{
    const struct msgpack_node *found = NULL;
    for (const struct msgpack_node *at = map + 1, *end = tree->nodes + map->end;
         map->kind == MSGPACK_MAP && at < end && !found; at = tree->nodes + at->end) {
        bool is_wanted = flax_text_is(at, key);
        at = tree->nodes + at->end;
        found = is_wanted ? at : NULL;
    }
    return found;
}

bool flax_is_leaf(const struct msgpack_node *node)
{
    if (node->kind == MSGPACK_MAP) /* the key is the first that is written */
        return node->size && flax_text_is(node + 1, chunked);
    return node->kind != MSGPACK_ARRAY;
}

/* By the name that numpy has for the type; false for one that is not read. */
static bool flax_find_dtype(const struct msgpack_node *name, enum ivon_dtype *dtype)
{
    static const char *const names[IVON_DTYPE_COUNT] = {
        [IVON_F64] = "float64",   [IVON_F32] = "float32", [IVON_F16] = "float16",
        [IVON_BF16] = "bfloat16", [IVON_I64] = "int64",   [IVON_I32] = "int32",
        [IVON_I16] = "int16",     [IVON_I8] = "int8",     [IVON_U64] = "uint64",
        [IVON_U32] = "uint32",    [IVON_U16] = "uint16",  [IVON_U8] = "uint8",
        [IVON_BOOL] = "bool"};
    for (int i = 0; i < IVON_DTYPE_COUNT; i++)
        if (flax_text_is(name, names[i])) {
            *dtype = (enum ivon_dtype)i;
            return true;
        }
    return false;
}

static int refuse_array(const char *path, const char *name, const char *what,
                        struct ivon_error *error)
{
    return ivon_error_set(error, IVON_ERROR_DATA, "%s: '%s' %s", path, name, what);
}

/* The elements take as many bytes as there are. */
static int flax_check_size(const struct flax_array *array, uint64_t bytes, const char *path,
                           const char *name, struct ivon_error *error)
{
    char text[256];
    size_t count, size = ivon_dtype_size(array->dtype);
    struct ivon_tensor shaped = {.rank = array->rank};
    memcpy(shaped.shape, array->shape, sizeof shaped.shape);
    bool fits = tensor_shape_count(array->rank, array->shape, size, &count);
    if (fits && bytes == count * size)
        return 0;
    return ivon_error_set(error, IVON_ERROR_DATA, "%s: '%s' has %llu bytes, which are no %s of %s",
                          path, name, (unsigned long long)bytes, ivon_dtype_name(array->dtype),
                          ivon_tensor_shape_text(&shaped, text));
}

/* Reads the extents that a list has, or a map behind its keys; false where they are none. */
static bool read_shape(struct flax_array *array, const struct msgpack *tree,
                       const struct msgpack_node *list)
{
    bool keyed = list->kind == MSGPACK_MAP;
    const struct msgpack_node *at = list + 1;
    uint64_t rank = keyed ? list->size / 2 : list->size;
    if (!keyed && list->kind != MSGPACK_ARRAY)
        return false;
    array->rank = rank <= IVON_RANK_MAX ? (int)rank : -1;
    for (int i = 0; i < array->rank; i++, at = tree->nodes + at->end) {
        at = keyed ? tree->nodes + at->end : at;
        if (at->kind != MSGPACK_INTEGER || at->integer < 0)
            return false;
        array->shape[i] = at->integer;
    }
    return true;
}

/* Says that an array is opaque: by its number of dimensions, or else by its type. */
static void set_opaque(struct flax_array *array, const struct msgpack_node *type)
{
    if (array->rank < 0)
        snprintf(array->opaque, FLAX_OPAQUE_SIZE, "more than %d dimensions", IVON_RANK_MAX);
    else
        snprintf(array->opaque, FLAX_OPAQUE_SIZE, "%.*s", type->size < 32 ? (int)type->size : 32,
                 (const char *)type->data);
    if (!*array->opaque)
        snprintf(array->opaque, FLAX_OPAQUE_SIZE, "no type");
}

/* Finds the parts of an array in what its extension holds: a list of its shape, its type and its
   elements. */
static bool find_parts(struct flax_array *array, const struct msgpack *inside,
                       const struct msgpack_node **type, const struct msgpack_node **elements)
{
    const struct msgpack_node *root = inside->nodes, *shape = root + 1;
    if (root->kind != MSGPACK_ARRAY || root->size != 3 || shape->kind != MSGPACK_ARRAY ||
        !read_shape(array, inside, shape))
        return false;
    *type = inside->nodes + shape->end;
    *elements = inside->nodes + (*type)->end;
    return is_string(*type) && is_string(*elements);
}

static int read_parts(struct flax_array *array, struct flax_piece *piece, const char *path,
                      const char *name, const struct msgpack_node *node, struct ivon_error *error)
{
    struct msgpack inside;
    const struct msgpack_node *type, *elements;
    int code = msgpack_parse(&inside, path, node->data, node->size, NULL);
    if (code == IVON_ERROR_MEMORY)
        return ivon_error_memory(error);
    if (code || !find_parts(array, &inside, &type, &elements))
        code = refuse_array(path, name, "is no array: expected a shape, a type and elements",
                            error);
    else if (!flax_find_dtype(type, &array->dtype) || array->rank < 0)
        set_opaque(array, type);
    else
        *piece = (struct flax_piece){elements->data, elements->size};
    msgpack_release(&inside);
    return code;
}

static int read_whole(struct flax_array *array, const char *path, const char *name,
                      const struct msgpack_node *node, struct ivon_error *error)
{
    array->pieces = calloc(1, sizeof *array->pieces);
    if (!array->pieces)
        return ivon_error_memory(error);
    int code = read_parts(array, array->pieces, path, name, node, error);
    if (code || *array->opaque)
        return code;
    array->piece_count = 1;
    return flax_check_size(array, array->pieces->size, path, name, error);
}

/* Returns whether a key is that of chunk `index`: they are numbered in their order. */
static bool is_chunk_number(const struct msgpack_node *key, size_t index)
{
    char text[24];
    snprintf(text, sizeof text, "%zu", index);
    return flax_text_is(key, text);
}

/* One chunk, which is an array along one axis and of the type of the others. */
static int read_chunk(struct flax_array *array, uint64_t *bytes, const char *path, const char *name,
                      const struct msgpack_node *node, struct ivon_error *error)
{
    struct flax_array chunk = {0};
    struct flax_piece *piece = &array->pieces[array->piece_count];
    if (node->kind != MSGPACK_EXTENSION || node->type != EXTENSION_ARRAY)
        return refuse_array(path, name, "has a chunk that is no array", error);
    int code = read_parts(&chunk, piece, path, name, node, error);
    if (!code && !*chunk.opaque)
        code = flax_check_size(&chunk, piece->size, path, name, error);
    if (code)
        return code;
    if (!array->piece_count++) {
        array->dtype = chunk.dtype;
        memcpy(array->opaque, chunk.opaque, sizeof array->opaque);
    }
    *bytes += piece->size; /* cannot overflow: all lie in the file */
    return chunk.dtype == array->dtype && strcmp(chunk.opaque, array->opaque) == 0
               ? 0
               : refuse_array(path, name, "has chunks of different types", error);
}

static int read_chunks(struct flax_array *array, const char *path, const char *name,
                       const struct msgpack *tree, const struct msgpack_node *node,
                       struct ivon_error *error)
{
    const struct msgpack_node *shape = flax_find(tree, node, "shape"),
                              *chunks = flax_find(tree, node, "chunks"), *at;
    uint64_t bytes = 0;
    if (!shape || shape->kind != MSGPACK_MAP || !read_shape(array, tree, shape) || !chunks ||
        chunks->kind != MSGPACK_MAP || !chunks->size)
        return refuse_array(path, name, "is in chunks, and has no shape or no list of them", error);
    size_t count = (size_t)chunks->size / 2;
    int code = 0;
    array->pieces = calloc(count, sizeof *array->pieces);
    if (!array->pieces)
        return ivon_error_memory(error);
    at = chunks + 1;
    for (size_t i = 0; i < count && !code; i++) {
        if (!is_chunk_number(at, i))
            return refuse_array(path, name, "has chunks that are not numbered in their order",
                                error);
        at = tree->nodes + at->end;
        code = read_chunk(array, &bytes, path, name, at, error);
        at = tree->nodes + at->end;
    }
    if (!code && array->rank < 0)
        set_opaque(array, NULL);
    return code || *array->opaque ? code : flax_check_size(array, bytes, path, name, error);
}

/* How messages call a leaf that is no array. */
static const char *flax_kind_name(const struct msgpack_node *node)
{
    static const char *const names[] = {
        [MSGPACK_NIL] = "nothing",        [MSGPACK_BOOLEAN] = "a truth value",
        [MSGPACK_INTEGER] = "an integer", [MSGPACK_FLOAT] = "a number",
        [MSGPACK_TEXT] = "a text",        [MSGPACK_BYTES] = "bytes"};
    if (node->kind != MSGPACK_EXTENSION)
        return names[node->kind];
    return node->type == EXTENSION_COMPLEX ? "a complex number" : "an unknown extension";
}

int flax_array_open(struct flax_array *array, const char *path, const char *name,
                    const struct msgpack *tree, const struct msgpack_node *node,
                    struct ivon_error *error)
{
    int code = 0;
    bool is_array = node->kind == MSGPACK_EXTENSION &&
                    (node->type == EXTENSION_ARRAY || node->type == EXTENSION_SCALAR);
    *array = (struct flax_array){.dtype = IVON_U8, .rank = -1};
    if (node->kind == MSGPACK_MAP)
        code = read_chunks(array, path, name, tree, node, error);
    else if (is_array)
        code = read_whole(array, path, name, node, error);
    else
        snprintf(array->opaque, FLAX_OPAQUE_SIZE, "%s", flax_kind_name(node));
    if (*array->opaque)
        array->dtype = IVON_U8;
    if (code)
        flax_array_release(array);
    return code;
}

void flax_array_release(struct flax_array *array)
{
    free(array->pieces);
    *array = (struct flax_array){0};
}

void flax_array_read(const struct flax_array *array, size_t first, size_t count, void *buffer)
{
    size_t size = ivon_dtype_size(array->dtype);
    uint64_t skip = (uint64_t)first * size, left = (uint64_t)count * size;
    char *out = buffer;
    for (size_t i = 0; i < array->piece_count && left; i++) {
        const struct flax_piece *piece = &array->pieces[i];
        uint64_t here = piece->size > skip ? piece->size - skip : 0;
        here = here < left ? here : left;
        if (here)
            memcpy(out, piece->data + skip, here);
        skip = skip > piece->size ? skip - piece->size : 0;
        out += here;
        left -= here;
    }
}
