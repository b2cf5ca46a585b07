#include "formats/hdf5/safe.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "core/error.h"
#include "core/stream.h"
#include "formats/hdf5/child.h"

enum {
    WINDOW_SIZE = 1 << 20,
    CATALOGUE_MEMORY = 256 << 20, /* bytes that the child may need to list a file's contents */
};

/* Returns the error of a file that the child could not read; but if hardly any memory is left, an
   error of memory, since that is probably the cause. */
static int hdf5_safe_damaged(int code, struct ivon_error *error)
{
    static const size_t NEEDED = 32 << 20; /* what HDF5 takes to open a file, and some */
    void *space = mmap(NULL, NEEDED, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (space == MAP_FAILED)
        return ivon_error_memory(error);
    munmap(space, NEEDED);
    return code;
}

/*
 * Seconds of processor time that parsing, or one request, may take. HDF5 can be sent round in
 * circles; honest files need a second for some 100,000 tensors, which take 50 MB.
 */
static int time_limit(uint64_t file_size)
{
    enum { LEAST = 5, BYTES_PER_SECOND = 4 << 20, MOST = 600 };
    uint64_t seconds = LEAST + file_size / BYTES_PER_SECOND;
    return seconds < MOST ? (int)seconds : MOST;
}

struct hdf5_file {
    struct mapped_file mapped;
    struct sandbox sandbox;
    struct hdf5_object *objects;
    size_t object_count;
    char *dead; /* why the child no longer answers; null while it does */
};

bool hdf5_recognise(const struct mapped_file *file)
{
    static const char signature[] = "\211HDF\r\n\032\n";
    for (uint64_t offset = 0; offset + 8 <= file->size; offset = offset ? 2 * offset : 512)
        if (memcmp(file->data + offset, signature, 8) == 0)
            return true;
    return false;
}

/*
 * The catalogue, as received. The child may have been taken over by the file it read, so nothing
 * in it is trusted: a reader that fails stays failed and yields zeros.
 */
struct catalogue {
    const char *at;
    size_t left;
    bool failed;
};

static void hdf5_safe_read(struct catalogue *catalogue, void *out, size_t size)
{
    if (catalogue->failed || size > catalogue->left) {
        catalogue->failed = true;
        memset(out, 0, size);
        return;
    }
    memcpy(out, catalogue->at, size);
    catalogue->at += size;
    catalogue->left -= size;
}

static uint8_t hdf5_safe_read_u8(struct catalogue *catalogue)
{
    uint8_t value;
    hdf5_safe_read(catalogue, &value, sizeof value);
    return value;
}

static uint32_t hdf5_safe_read_u32(struct catalogue *catalogue)
{
    uint32_t value;
    hdf5_safe_read(catalogue, &value, sizeof value);
    return value;
}

static int64_t hdf5_safe_read_i64(struct catalogue *catalogue)
{
    int64_t value;
    hdf5_safe_read(catalogue, &value, sizeof value);
    return value;
}

static char *hdf5_safe_read_string(struct catalogue *catalogue)
{
    uint32_t length = hdf5_safe_read_u32(catalogue);
    if (length > catalogue->left)
        catalogue->failed = true;
    if (catalogue->failed)
        return NULL;
    char *text = malloc((size_t)length + 1);
    if (!text) {
        catalogue->failed = true;
        return NULL;
    }
    hdf5_safe_read(catalogue, text, length);
    text[length] = '\0';
    return text;
}

/* Grows an array by one zeroed element; its capacity is the next power of two. */
static void *hdf5_safe_grow(void *items, size_t count, size_t size)
{
    if ((count & (count - 1)) == 0)
        items = realloc(items, (count ? 2 * count : 1) * size);
    if (items)
        memset((char *)items + count * size, 0, size);
    return items;
}

static void hdf5_safe_read_attributes(struct catalogue *catalogue, struct hdf5_object *object)
{
    for (;;) {
        char *name = hdf5_safe_read_string(catalogue);
        if (!name || catalogue->failed || !*name) {
            free(name);
            return;
        }
        struct hdf5_attribute *grown = hdf5_safe_grow(object->attributes, object->attribute_count,
                                                      sizeof *grown);
        if (!grown) {
            free(name);
            catalogue->failed = true;
            return;
        }
        object->attributes = grown;
        struct hdf5_attribute *attribute = &grown[object->attribute_count++];
        uint8_t kind = hdf5_safe_read_u8(catalogue);
        *attribute = (struct hdf5_attribute){.name = name, .number = NAN};
        if (kind == 't') {
            attribute->text = hdf5_safe_read_string(catalogue);
        } else if (kind == 'i') {
            attribute->integer = hdf5_safe_read_i64(catalogue);
            attribute->number = (double)attribute->integer;
            attribute->is_integer = true;
        } else {
            hdf5_safe_read(catalogue, &attribute->number, sizeof attribute->number);
        }
    }
}

/* A string; null for an empty one. */
static char *hdf5_safe_read_text(struct catalogue *catalogue)
{
    char *text = hdf5_safe_read_string(catalogue);
    if (text && *text)
        return text;
    free(text);
    return NULL;
}

static void hdf5_safe_read_dataset(struct catalogue *catalogue, struct hdf5_object *object,
                                   uint64_t file_size)
{
    uint32_t dtype = IVON_U8, rank;
    object->refused = hdf5_safe_read_text(catalogue);
    if (object->refused) {
        object->stored_as = hdf5_safe_read_text(catalogue);
        object->string_size = hdf5_safe_read_u32(catalogue);
    } else {
        dtype = hdf5_safe_read_u32(catalogue);
        object->offset = hdf5_safe_read_i64(catalogue);
    }
    rank = hdf5_safe_read_u32(catalogue);
    bool known = rank <= IVON_RANK_MAX;
    if (dtype >= IVON_DTYPE_COUNT || (!known && !object->refused)) {
        catalogue->failed = true;
        return;
    }
    object->dtype = dtype;
    object->rank = known ? (int)rank : -1;
    hdf5_safe_read(catalogue, object->shape, known ? rank * sizeof object->shape[0] : 0);
    if (object->string_size &&
        (object->string_size > HDF5_STRING_MAX + 1 || object->rank != 1 ||
         !tensor_shape_count(1, object->shape, object->string_size, &object->count)))
        object->string_size = 0;
    if (object->refused)
        return;
    size_t size = ivon_dtype_size(object->dtype);
    if (!tensor_shape_count(object->rank, object->shape, size, &object->count) ||
        (object->offset >= 0 && ((uint64_t)object->offset > file_size ||
                                 object->count * size > file_size - (uint64_t)object->offset)))
        object->refused = strdup("lies beyond the end of the file");
}

/* Parses the catalogue into file->objects, or fails with what the child says about the file. */
static int hdf5_safe_parse(struct hdf5_file *file, const char *data, size_t size,
                           struct ivon_error *error)
{
    struct catalogue catalogue = {data, size, false};
    if (hdf5_safe_read_u8(&catalogue))
        return hdf5_safe_damaged(
            ivon_error_set(error, IVON_ERROR_DATA, "%s: %.*s", file->mapped.path,
                           (int)(catalogue.left < 600 ? catalogue.left : 600), catalogue.at),
            error);
    while (catalogue.left && !catalogue.failed && file->object_count < HDF5_OBJECTS_MAX) {
        struct hdf5_object *grown = hdf5_safe_grow(file->objects, file->object_count,
                                                   sizeof *grown);
        if (!grown)
            return ivon_error_memory(error);
        file->objects = grown;
        struct hdf5_object *object = &grown[file->object_count++];
        object->offset = -1;
        object->path = hdf5_safe_read_string(&catalogue);
        object->is_dataset = hdf5_safe_read_u8(&catalogue);
        hdf5_safe_read_attributes(&catalogue, object);
        if (object->is_dataset)
            hdf5_safe_read_dataset(&catalogue, object, file->mapped.size);
    }
    if (catalogue.failed || catalogue.left || !file->object_count)
        return hdf5_safe_damaged(
            ivon_error_set(error, IVON_ERROR_DATA,
                           "%s: damaged HDF5 file: its contents cannot be listed",
                           file->mapped.path),
            error);
    return 0;
}

static int unanswered(struct hdf5_file *file, struct ivon_error *error)
{
    char buffer[128];
    if (!file->dead)
        file->dead = strdup(sandbox_post_mortem(&file->sandbox, buffer, sizeof buffer));
    return hdf5_safe_damaged(ivon_error_set(error, IVON_ERROR_DATA, "%s: damaged HDF5 file: %s",
                                            file->mapped.path,
                                            file->dead ? file->dead : "reading it crashed"),
                             error);
}

static int receive_catalogue(struct hdf5_file *file, struct ivon_error *error)
{
    uint64_t size;
    if (!sandbox_receive(file->sandbox.socket, &size, sizeof size) || !size ||
        size > HDF5_CATALOGUE_MAX)
        return unanswered(file, error);
    char *data = malloc(size);
    if (!data)
        return ivon_error_memory(error);
    int code = sandbox_receive(file->sandbox.socket, data, size)
                   ? hdf5_safe_parse(file, data, size, error)
                   : unanswered(file, error);
    free(data);
    return code;
}

/* Returns whether some data set can be read by the child only. */
static bool needs_child(const struct hdf5_file *file)
{
    for (size_t i = 0; i < file->object_count; i++)
        if (file->objects[i].is_dataset &&
            (!file->objects[i].refused || file->objects[i].string_size) && file->objects[i].count &&
            file->objects[i].offset < 0)
            return true;
    return false;
}

int hdf5_open(struct hdf5_file **out, struct mapped_file *mapped, const struct hdf5_limits *limits,
              struct ivon_error *error)
{
    struct hdf5_file *file = calloc(1, sizeof *file);
    if (!file) {
        mapped_close(mapped);
        return ivon_error_memory(error);
    }
    file->mapped = *mapped;
    *mapped = (struct mapped_file){0};
    struct hdf5_child_context context = {&file->mapped, limits->memory};
    struct sandbox_limits sandbox = {.confine = limits->sandbox,
                                     .memory = limits->memory + CATALOGUE_MEMORY,
                                     .seconds = time_limit(file->mapped.size),
                                     .window_size = WINDOW_SIZE};
    int code = sandbox_start(&file->sandbox, &sandbox, hdf5_child_serve, &context, error);
    if (!code)
        code = receive_catalogue(file, error);
    if (code) {
        hdf5_close(file);
        return code;
    }
    if (!needs_child(file))
        sandbox_stop(&file->sandbox);
    *out = file;
    return 0;
}

void hdf5_close(struct hdf5_file *file)
{
    if (!file)
        return;
    sandbox_stop(&file->sandbox);
    for (size_t i = 0; i < file->object_count; i++) {
        struct hdf5_object *object = &file->objects[i];
        for (size_t j = 0; j < object->attribute_count; j++) {
            free(object->attributes[j].name);
            free(object->attributes[j].text);
        }
        free(object->attributes);
        free(object->path);
        free(object->refused);
        free(object->stored_as);
    }
    free(file->objects);
    free(file->dead);
    mapped_close(&file->mapped);
    free(file);
}

const struct hdf5_object *hdf5_objects(const struct hdf5_file *file, size_t *count)
{
    *count = file->object_count;
    return file->objects;
}

const struct hdf5_attribute *hdf5_attribute(const struct hdf5_object *object, const char *name)
{
    for (size_t i = 0; i < object->attribute_count; i++)
        if (strcmp(object->attributes[i].name, name) == 0)
            return &object->attributes[i];
    return NULL;
}

/* One request, no larger than the window, with the lock held. */
static int ask(struct hdf5_file *file, size_t object, size_t first, size_t count,
               struct ivon_error *error)
{
    struct hdf5_request request = {object, first, count};
    uint32_t length;
    char message[256];
    if (file->dead || !sandbox_send(file->sandbox.socket, &request, sizeof request) ||
        !sandbox_receive(file->sandbox.socket, &length, sizeof length) ||
        length >= sizeof message || !sandbox_receive(file->sandbox.socket, message, length))
        return unanswered(file, error);
    message[length] = '\0';
    if (length)
        return hdf5_safe_damaged(ivon_error_set(error, IVON_ERROR_DATA,
                                                "%s: '%s' cannot be read: %s", file->mapped.path,
                                                file->objects[object].path, message),
                                 error);
    return 0;
}

/* Elements of `size` bytes, by as many requests as that takes. */
static int hdf5_safe_ask_all(struct hdf5_file *file, size_t object, size_t size, size_t first,
                             size_t count, char *out, struct ivon_error *error)
{
    int code = 0;
    pthread_mutex_lock(&file->sandbox.lock);
    while (count && !code) {
        size_t piece = file->sandbox.window_size / size;
        piece = count < piece ? count : piece;
        code = ask(file, object, first, piece, error);
        if (!code)
            memcpy(out, file->sandbox.window, piece * size);
        first += piece;
        count -= piece;
        out += piece * size;
    }
    pthread_mutex_unlock(&file->sandbox.lock);
    return code;
}

int hdf5_read(struct hdf5_file *file, size_t object, size_t first, size_t count, void *buffer,
              struct ivon_error *error)
{
    size_t size = ivon_dtype_size(file->objects[object].dtype);
    if (file->objects[object].offset < 0)
        return hdf5_safe_ask_all(file, object, size, first, count, buffer, error);
    const unsigned char *data = file->mapped.data + file->objects[object].offset;
    memcpy(buffer, data + first * size, count * size);
    return 0;
}

int hdf5_read_strings(struct hdf5_file *file, size_t object, size_t first, size_t count,
                      char *strings, struct ivon_error *error)
{
    size_t size = file->objects[object].string_size;
    int code = hdf5_safe_ask_all(file, object, size, first, count, strings, error);
    for (size_t i = 0; i < count && !code; i++)
        strings[(i + 1) * size - 1] = '\0'; /* whatever the child did */
    return code;
}

const void *hdf5_view(struct hdf5_file *file, size_t object)
{
    int64_t offset = file->objects[object].offset;
    return offset < 0 ? NULL : file->mapped.data + offset;
}

void hdf5_advise(struct hdf5_file *file, size_t object, size_t first, size_t count, int advice)
{
    size_t size = ivon_dtype_size(file->objects[object].dtype);
    int64_t offset = file->objects[object].offset;
    if (offset >= 0)
        mapped_advise(&file->mapped, (uint64_t)offset + first * size, count * size, advice);
}
