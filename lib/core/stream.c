#include "core/stream.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "core/error.h"
#include "core/utf8.h"

struct ivon_source {
    const struct ivon_source_class *class;
    void *self;
    char *path;
    struct ivon_header header; /* owns its strings */
    struct tensor_list tensors;
    const struct ivon_tensor **by_name; /* sorted by part, then name */
};

struct ivon_sink {
    const struct ivon_sink_class *class;
    void *self;
};

const char *ivon_part_name(enum ivon_part part)
{
    static const char *const names[IVON_PART_COUNT] = {
        [IVON_MEAN] = "mean",
        [IVON_HESSIAN] = "hessian",
        [IVON_MOMENTUM] = "momentum",
        [IVON_BASIS_INPUT] = "basis_input",
        [IVON_BASIS_OUTPUT] = "basis_output",
        [IVON_SPECTRUM_INPUT] = "spectrum_input",
        [IVON_SPECTRUM_OUTPUT] = "spectrum_output",
        [IVON_GRAM] = "gram",
        [IVON_LOW_RANK] = "lowrank_vectors",
        [IVON_BUFFER] = "buffers",
        [IVON_GRAPH] = "model.onnx",
        [IVON_STRUCTURE] = "structure.json",
        [IVON_OPAQUE] = "opaque",
    };
    return names[part];
}

bool part_is_bytes(enum ivon_part part)
{
    return part == IVON_GRAPH || part == IVON_STRUCTURE;
}

struct ivon_tensor tensor_of_bytes(enum ivon_part part, size_t size)
{
    return (struct ivon_tensor){.name = ivon_part_name(part),
                                .part = part,
                                .dtype = IVON_U8,
                                .rank = 1,
                                .shape = {(int64_t)size},
                                .count = size,
                                .ess = NAN,
                                .weight_decay = NAN};
}

bool part_is_structural(enum ivon_part part)
{
    return (part > IVON_MOMENTUM && part < IVON_BUFFER) || part == IVON_STRUCTURE;
}

struct ivon_header ivon_header_empty(void)
{
    return (struct ivon_header){
        .ess = NAN, .weight_decay = NAN, .step = -1, .n_train = -1, .decrement = NAN};
}

bool tensor_shape_count(int rank, const int64_t *shape, size_t element_size, size_t *count)
{
    size_t product = 1, bytes;
    bool empty = false;
    for (int i = 0; i < rank; i++) {
        if (shape[i] < 0)
            return false;
        if (shape[i] == 0)
            empty = true;
        else if (__builtin_mul_overflow(product, (size_t)shape[i], &product))
            return false;
    }
    if (__builtin_mul_overflow(product, element_size, &bytes) || bytes > PTRDIFF_MAX)
        return false;
    *count = empty ? 0 : product;
    return true;
}

int tensor_list_append(struct tensor_list *list, const struct ivon_tensor *tensor,
                       struct ivon_error *error)
{
    if (list->count == list->capacity) {
        size_t capacity = list->capacity ? 2 * list->capacity : 64;
        struct ivon_tensor *items = realloc(list->items, capacity * sizeof *items);
        if (!items)
            return ivon_error_memory(error);
        list->items = items;
        list->capacity = capacity;
    }
    struct ivon_tensor *copy = &list->items[list->count];
    bool opaque = tensor->part == IVON_OPAQUE;
    *copy = *tensor;
    if (!opaque && (tensor->rank < 0 || tensor->rank > IVON_RANK_MAX ||
                    !tensor_shape_count(tensor->rank, tensor->shape, ivon_dtype_size(tensor->dtype),
                                        &copy->count)))
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "tensor '%s': its shape is not one of at most %d dimensions that "
                              "memory can hold",
                              tensor->name, IVON_RANK_MAX);
    copy->name = strdup(tensor->name);
    copy->stored_as = opaque ? strdup(tensor->stored_as) : NULL;
    if (!copy->name || (opaque && !copy->stored_as)) {
        free((char *)copy->name);
        free((char *)copy->stored_as);
        return ivon_error_memory(error);
    }
    list->count++;
    return 0;
}

void tensor_list_release(struct tensor_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        free((char *)list->items[i].name);
        free((char *)list->items[i].stored_as);
    }
    for (size_t i = 0; i < list->alias_count; i++) {
        free(list->aliases[i].name);
        free(list->aliases[i].target);
    }
    free(list->aliases);
    free(list->items);
    *list = (struct tensor_list){0};
}

int tensor_list_alias(struct tensor_list *list, const char *name, const char *target,
                      struct ivon_error *error)
{
    if (list->alias_count == list->alias_capacity) {
        size_t capacity = list->alias_capacity ? 2 * list->alias_capacity : 8;
        struct tensor_alias *aliases = realloc(list->aliases, capacity * sizeof *aliases);
        if (!aliases)
            return ivon_error_memory(error);
        list->aliases = aliases;
        list->alias_capacity = capacity;
    }
    struct tensor_alias *alias = &list->aliases[list->alias_count++];
    *alias = (struct tensor_alias){strdup(name), strdup(target)};
    return alias->name && alias->target ? 0 : ivon_error_memory(error);
}

int tensor_list_aliases_of(struct tensor_list *list, const struct ivon_source *source,
                           struct ivon_error *error)
{
    int code = 0;
    for (size_t i = 0; i < source->tensors.alias_count && !code; i++)
        code = tensor_list_alias(list, source->tensors.aliases[i].name,
                                 source->tensors.aliases[i].target, error);
    return code;
}

bool tensor_name_valid(const char *name)
{
    for (const unsigned char *s = (const unsigned char *)name; *s;) {
        uint32_t character;
        size_t length = utf8_decode(s, strnlen((const char *)s, 4), &character);
        if (!length || character < 0x20 || (character >= 0x7f && character < 0xa0))
            return false;
        s += length;
    }
    for (const char *part = name;; part++) {
        size_t length = strcspn(part, "/");
        if (length == 0 || (length == 1 && part[0] == '.') ||
            (length == 2 && part[0] == '.' && part[1] == '.'))
            return false;
        part += length;
        if (!*part)
            return true;
    }
}

static int stream_compare(const struct ivon_tensor *a, enum ivon_part part, const char *name)
{
    if (a->part != part)
        return a->part < part ? -1 : 1;
    return strcmp(a->name, name);
}

static int stream_compare_tensors(const void *a, const void *b)
{
    const struct ivon_tensor *const *left = a, *const *right = b;
    return stream_compare(*left, (*right)->part, (*right)->name);
}

static int compare_aliases(const void *a, const void *b)
{
    const struct tensor_alias *left = a, *right = b;
    return strcmp(left->name, right->name);
}

/* Replaces what the header borrows by copies. */
static bool copy_strings(struct ivon_header *header)
{
    const char **const strings[] = {&header->creator, &header->provenance, &header->mapping,
                                    &header->warning};
    bool fine = true;
    for (size_t i = 0; i < sizeof strings / sizeof strings[0]; i++) {
        if (!*strings[i])
            continue;
        *strings[i] = strdup(*strings[i]);
        fine = fine && *strings[i];
    }
    return fine;
}

int ivon_source_new(struct ivon_source **out, const struct ivon_source_class *class, void *self,
                    const char *path, const struct ivon_header *header, struct tensor_list *tensors,
                    struct ivon_error *error)
{
    struct ivon_source *source = calloc(1, sizeof *source);
    if (!source) {
        tensor_list_release(tensors);
        return ivon_error_memory(error);
    }
    source->tensors = *tensors;
    *tensors = (struct tensor_list){0};
    size_t count = source->tensors.count;
    source->path = strdup(path);
    source->by_name = calloc(count ? count : 1, sizeof *source->by_name);
    source->header = *header;
    int code = 0;
    if (!copy_strings(&source->header) || !source->path || !source->by_name) {
        code = ivon_error_memory(error);
        goto done;
    }
    for (size_t i = 0; i < count; i++)
        source->by_name[i] = &source->tensors.items[i];
    qsort(source->by_name, count, sizeof *source->by_name, stream_compare_tensors);
    if (source->tensors.alias_count)
        qsort(source->tensors.aliases, source->tensors.alias_count, sizeof *source->tensors.aliases,
              compare_aliases);
    for (size_t i = 1; i < count && !code; i++) {
        const struct ivon_tensor *tensor = source->by_name[i];
        if (stream_compare(source->by_name[i - 1], tensor->part, tensor->name) == 0)
            code = ivon_error_set(error, IVON_ERROR_DATA, "%s: tensor '%s' occurs twice under '%s'",
                                  path, tensor->name, ivon_part_name(tensor->part));
    }
done:
    if (code) {
        ivon_source_close(source); /* its class is not set yet: `self` stays the caller's */
        return code;
    }
    source->class = class;
    source->self = self;
    *out = source;
    return 0;
}

void *source_self(const struct ivon_source *source, const struct ivon_source_class *class)
{
    return source->class == class ? source->self : NULL;
}

void ivon_source_close(struct ivon_source *source)
{
    if (!source)
        return;
    if (source->class)
        source->class->close(source->self);
    tensor_list_release(&source->tensors);
    free((char *)source->header.creator);
    free((char *)source->header.provenance);
    free((char *)source->header.mapping);
    free((char *)source->header.warning);
    free(source->by_name);
    free(source->path);
    free(source);
}

const char *ivon_source_path(const struct ivon_source *source)
{
    return source->path;
}

const struct ivon_header *ivon_source_header(const struct ivon_source *source)
{
    return &source->header;
}

size_t ivon_source_tensor_count(const struct ivon_source *source)
{
    return source->tensors.count;
}

const struct ivon_tensor *ivon_source_tensor(const struct ivon_source *source, size_t i)
{
    return i < source->tensors.count ? &source->tensors.items[i] : NULL;
}

ptrdiff_t ivon_source_find(const struct ivon_source *source, enum ivon_part part, const char *name)
{
    size_t low = 0, high = source->tensors.count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = stream_compare(source->by_name[middle], part, name);
        if (order == 0)
            return source->by_name[middle] - source->tensors.items;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return -1;
}

const char *ivon_tensor_bare_name(const struct ivon_tensor *tensor)
{
    if (tensor->part != IVON_OPAQUE)
        return tensor->name;
    for (enum ivon_part part = IVON_MEAN; part < IVON_GRAPH; part++) {
        size_t length = strlen(ivon_part_name(part));
        if (strncmp(tensor->name, ivon_part_name(part), length) == 0 && tensor->name[length] == '/')
            return tensor->name + length + 1;
    }
    return tensor->name;
}

/* Finds an opaque tensor by its part's prefix and name, or, of parts that may stand without a
   prefix, by name alone. */
static ptrdiff_t find_opaque(const struct ivon_source *source, enum ivon_part part,
                             const char *name)
{
    const char *prefix = ivon_part_name(part);
    for (size_t i = 0; i < source->tensors.count; i++) {
        const struct ivon_tensor *tensor = &source->tensors.items[i];
        if (tensor->part != IVON_OPAQUE)
            continue;
        const char *bare = ivon_tensor_bare_name(tensor);
        bool plain = bare == tensor->name && (part == IVON_MEAN || part >= IVON_BUFFER);
        bool prefixed = bare != tensor->name &&
                        strncmp(tensor->name, prefix, strlen(prefix)) == 0 &&
                        tensor->name[strlen(prefix)] == '/';
        if ((plain || prefixed) && strcmp(bare, name) == 0)
            return (ptrdiff_t)i;
    }
    return -1;
}

int ivon_source_refuse_opaque(const struct ivon_source *source, enum ivon_part part,
                              const char *name, struct ivon_error *error)
{
    ptrdiff_t found = find_opaque(source, part, name);
    if (found < 0)
        return 0;
    const struct ivon_tensor *tensor = &source->tensors.items[found];
    return ivon_error_set(error, IVON_ERROR_DATA,
                          "%s: tensor '%s' is stored as %s, which is not read here, expected "
                          "numbers of f64, f32, f16 or bf16, or integers: convert it first",
                          source->path, tensor->name, tensor->stored_as);
}

const char *ivon_source_alias(const struct ivon_source *source, const char *name)
{
    const struct tensor_alias wanted = {(char *)name, NULL};
    const struct tensor_alias *found = source->tensors.alias_count
                                           ? bsearch(&wanted, source->tensors.aliases,
                                                     source->tensors.alias_count, sizeof wanted,
                                                     compare_aliases)
                                           : NULL;
    return found ? found->target : NULL;
}

static bool in_range(const struct ivon_source *source, size_t tensor, size_t first, size_t count)
{
    return tensor < source->tensors.count && first <= source->tensors.items[tensor].count &&
           count <= source->tensors.items[tensor].count - first;
}

int ivon_source_read(struct ivon_source *source, size_t tensor, size_t first, size_t count,
                     void *buffer, struct ivon_error *error)
{
    if (!in_range(source, tensor, first, count))
        return ivon_error_set(error, IVON_ERROR_ARGUMENT, "%s: no such range of tensor %zu",
                              source->path, tensor);
    return count ? source->class->read(source->self, tensor, first, count, buffer, error) : 0;
}

const void *ivon_source_view(struct ivon_source *source, size_t tensor, size_t first)
{
    if (!in_range(source, tensor, first, 0))
        return NULL;
    const char *start = source->class->view(source->self, tensor);
    size_t size = ivon_dtype_size(source->tensors.items[tensor].dtype);
    return start && (uintptr_t)start % size == 0 ? start + first * size : NULL;
}

static void stream_advise(struct ivon_source *source, size_t tensor, size_t first, size_t count,
                          int advice)
{
    if (source->class->advise && in_range(source, tensor, first, count) && count)
        source->class->advise(source->self, tensor, first, count, advice);
}

void ivon_source_will_need(struct ivon_source *source, size_t tensor, size_t first, size_t count)
{
    stream_advise(source, tensor, first, count, MADV_WILLNEED);
}

void ivon_source_done_with(struct ivon_source *source, size_t tensor, size_t first, size_t count)
{
    stream_advise(source, tensor, first, count, MADV_DONTNEED);
}

int ivon_sink_new(struct ivon_sink **out, const struct ivon_sink_class *class, void *self,
                  struct ivon_error *error)
{
    struct ivon_sink *sink = calloc(1, sizeof *sink);
    if (!sink)
        return ivon_error_memory(error);
    *sink = (struct ivon_sink){.class = class, .self = self};
    *out = sink;
    return 0;
}

void ivon_sink_close(struct ivon_sink *sink)
{
    if (!sink)
        return;
    sink->class->close(sink->self);
    free(sink);
}

int ivon_sink_write(struct ivon_sink *sink, size_t tensor, size_t first, size_t count,
                    const void *buffer, struct ivon_error *error)
{
    return count ? sink->class->write(sink->self, tensor, first, count, buffer, error) : 0;
}

void *sink_self(const struct ivon_sink *sink, const struct ivon_sink_class *class)
{
    return sink->class == class ? sink->self : NULL;
}

int sink_prepare(struct ivon_sink *sink, struct ivon_error *error)
{
    return sink->class->prepare ? sink->class->prepare(sink->self, error) : 0;
}

int ivon_sink_commit(struct ivon_sink *sink, struct ivon_error *error)
{
    return sink->class->commit(sink->self, error);
}
