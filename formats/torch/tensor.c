/* Tensors: a storage, an offset, a shape, and strides. */
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "core/error.h"
#include "core/stream.h"
#include "formats/torch/private.h"

/* The types of elements by the name of their storage's class, and by their own. */
static const struct {
    const char *storage, *name;
    enum ivon_dtype dtype;
} types[] = {
    {"DoubleStorage", "float64", IVON_F64},
    {"FloatStorage", "float32", IVON_F32},
    {"HalfStorage", "float16", IVON_F16},
    {"BFloat16Storage", "bfloat16", IVON_BF16},
    {"LongStorage", "int64", IVON_I64},
    {"IntStorage", "int32", IVON_I32},
    {"ShortStorage", "int16", IVON_I16},
    {"CharStorage", "int8", IVON_I8},
    {NULL, "uint64", IVON_U64},
    {NULL, "uint32", IVON_U32},
    {NULL, "uint16", IVON_U16},
    {"ByteStorage", "uint8", IVON_U8},
    {"BoolStorage", "bool", IVON_BOOL},
};

/* The arguments that rebuild a tensor, out of a parameter too; null when the node is neither. */
static struct pickle_node **rebuild(const struct pickle_node *node, size_t *count, bool *typed)
{
    for (int wrappings = 0; wrappings < 4; wrappings++) {
        if (!node || node->kind != PICKLE_OBJECT)
            return NULL;
        struct pickle_node **arguments = pickle_sequence(node->arguments, count);
        *typed = pickle_is_global(node->callable, "torch._utils", "_rebuild_tensor_v3");
        if (*typed || pickle_is_global(node->callable, "torch._utils", "_rebuild_tensor_v2") ||
            pickle_is_global(node->callable, "torch._utils", "_rebuild_tensor"))
            return *count >= (*typed ? 7 : 4) ? arguments : NULL;
        if (!*count ||
            (!pickle_is_global(node->callable, "torch._utils", "_rebuild_parameter") &&
             !pickle_is_global(node->callable, "torch._utils", "_rebuild_parameter_with_state")))
            return NULL;
        node = arguments[0];
    }
    return NULL;
}

/* Flags that PyTorch 2 keeps of a tensor, True where they hold; null when there are none. */
static const struct pickle_node *flags_of(struct pickle_node **arguments, size_t count, bool typed)
{
    size_t place = typed ? 7 : 6;
    const struct pickle_node *flags = count > place ? arguments[place] : NULL;
    return flags && flags->kind == PICKLE_DICT && flags->count ? flags : NULL;
}

/* True if a tensor of real numbers has a flag, other than "neg", that changes what its elements
   are. */
static bool has_strange_flag(const struct pickle_node *flags)
{
    for (size_t i = 0; flags && i < flags->count; i += 2) {
        const struct pickle_node *value = flags->items[i + 1];
        bool off = value->kind == PICKLE_NONE || (value->kind == PICKLE_BOOL && !value->integer);
        if (!off && !pickle_is_string(flags->items[i], "neg"))
            return true;
    }
    return false;
}

static bool is_negated(const struct pickle_node *flags)
{
    const struct pickle_node *value = flags ? pickle_get(flags, "neg") : NULL;
    return value && value->kind == PICKLE_BOOL && value->integer;
}

bool torch_is_tensor(const struct pickle_node *node)
{
    size_t count;
    bool typed;
    return rebuild(node, &count, &typed) != NULL;
}

/* A storage as the pickle refers to it: ('storage', class, key, device, number of elements). */
struct reference {
    const struct pickle_node *class, *key, *count;
};

static bool read_reference(const struct pickle_node *node, struct reference *reference)
{
    size_t count;
    struct pickle_node **items = node->kind == PICKLE_PERSISTENT
                                     ? pickle_sequence(node->arguments, &count)
                                     : NULL;
    if (!items || count < 5 || !pickle_is_string(items[0], "storage") ||
        items[1]->kind != PICKLE_GLOBAL || items[2]->kind != PICKLE_STRING ||
        items[4]->kind != PICKLE_INTEGER || items[4]->integer < 0)
        return false;
    *reference = (struct reference){.class = items[1], .key = items[2], .count = items[4]};
    return true;
}

static const enum ivon_dtype *find_dtype(const struct pickle_node *type)
{
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (pickle_is_global(type, "torch", types[i].name) ||
            (types[i].storage && pickle_is_global(type, "torch", types[i].storage)))
            return &types[i].dtype;
    return NULL;
}

const char *torch_opaque(const struct pickle_node *node, char text[PICKLE_DESCRIPTION])
{
    size_t count;
    bool typed;
    struct reference reference;
    struct pickle_node **arguments = rebuild(node, &count, &typed);
    if (!arguments) {
        /* Of objects, only those that PyTorch itself makes. */
        bool own = node->kind != PICKLE_OBJECT ||
                   (node->callable && node->callable->kind == PICKLE_GLOBAL &&
                    node->callable->module_length >= 5 &&
                    memcmp(node->callable->module, "torch", 5) == 0);
        return own ? pickle_describe(node, text) : NULL;
    }
    if (!read_reference(arguments[0], &reference))
        return NULL;
    const struct pickle_node *type = typed ? arguments[6] : reference.class;
    const struct pickle_node *flags = flags_of(arguments, count, typed);
    const enum ivon_dtype *dtype = find_dtype(type);
    if (!dtype)
        return pickle_describe(type, text);
    return has_strange_flag(flags) || (is_negated(flags) && !ivon_dtype_is_float(*dtype))
               ? "a view with flags"
               : NULL;
}

/* The type that a storage's class, or a type of torch, stands for. */
static int torch_tensor_read_dtype(const struct pickle_node *type, const char *path,
                                   const char *what, enum ivon_dtype *dtype,
                                   struct ivon_error *error)
{
    char text[PICKLE_DESCRIPTION];
    const enum ivon_dtype *found = find_dtype(type);
    if (found) {
        *dtype = *found;
        return 0;
    }
    return ivon_error_set(error, IVON_ERROR_DATA,
                          "%s: tensor '%s': the type of its elements is %s, which is not read here",
                          path, what, pickle_describe(type, text));
}

/* The entry that holds a storage, opened. */
static int open_storage(struct torch_archive *archive, const struct pickle_node *key,
                        const char *what, size_t *entry, struct ivon_error *error)
{
    char name[PATH_MAX];
    int length = snprintf(name, sizeof name, "%sdata/%.*s", archive->prefix,
                          key->length < 256 ? (int)key->length : 256, key->text);
    ptrdiff_t found = length < 0 || (size_t)length >= sizeof name ? -1
                                                                  : zip_find(archive->zip, name);
    if (found < 0)
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: tensor '%s': its storage '%.*s' is "
                              "missing",
                              archive->file.path, what, key->length < 256 ? (int)key->length : 256,
                              key->text);
    *entry = (size_t)found;
    return archive->storages[found]
               ? 0
               : zip_entry_open(&archive->storages[found], archive->zip, *entry, error);
}

static int torch_tensor_read_shape(const struct pickle_node *sizes,
                                   const struct pickle_node *strides, const char *path,
                                   const char *what, struct torch_tensor *tensor,
                                   struct ivon_error *error)
{
    size_t rank, stride_count;
    struct pickle_node **extents = pickle_sequence(sizes, &rank);
    struct pickle_node **steps = pickle_sequence(strides, &stride_count);
    if (rank > IVON_RANK_MAX)
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: tensor '%s': has %zu dimensions, expected at most %d", path,
                              what, rank, IVON_RANK_MAX);
    bool fine = rank == stride_count;
    for (size_t i = 0; i < rank && fine; i++) {
        fine = extents[i]->kind == PICKLE_INTEGER && extents[i]->integer >= 0 &&
               steps[i]->kind == PICKLE_INTEGER && steps[i]->integer >= 0;
        tensor->shape[i] = extents[i]->integer;
        tensor->strides[i] = steps[i]->integer;
    }
    tensor->rank = (int)rank;
    fine = fine && tensor_shape_count(tensor->rank, tensor->shape, ivon_dtype_size(tensor->stored),
                                      &tensor->count);
    return fine
               ? 0
               : ivon_error_set(error, IVON_ERROR_DATA,
                                "%s: tensor '%s': its shape or strides are impossible", path, what);
}

static bool is_contiguous(const struct torch_tensor *tensor)
{
    int64_t expected = 1;
    for (int i = tensor->rank; i-- && tensor->count;) {
        if (tensor->shape[i] != 1 && tensor->strides[i] != expected)
            return false;
        expected *= tensor->shape[i];
    }
    return true;
}

/* The index of the last element of the storage that the tensor uses; false if it overflows. */
static bool last_element(const struct torch_tensor *tensor, uint64_t *last)
{
    *last = tensor->offset;
    for (int i = 0; i < tensor->rank; i++) {
        uint64_t extent;
        if (__builtin_mul_overflow((uint64_t)tensor->shape[i] - 1, (uint64_t)tensor->strides[i],
                                   &extent) ||
            __builtin_add_overflow(*last, extent, last))
            return false;
    }
    return true;
}

/* Checks that the storage is as large as it is said to be, and that the tensor lies within it. */
static int check_bounds(const struct torch_archive *archive, const struct torch_tensor *tensor,
                        uint64_t claimed, size_t unit, const char *what, struct ivon_error *error)
{
    size_t size = ivon_dtype_size(tensor->stored);
    uint64_t held = bytes_size(archive->storages[tensor->storage]), last = 0, bytes = 0;
    const char *path = archive->file.path;
    if (__builtin_mul_overflow(claimed, (uint64_t)unit, &bytes) || bytes > held)
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: tensor '%s': its storage has %llu bytes, expected %llu elements "
                              "of %zu",
                              path, what, (unsigned long long)held, (unsigned long long)claimed,
                              unit);
    if (tensor->count && (!last_element(tensor, &last) || last >= bytes / size))
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: tensor '%s': reaches beyond its storage of %llu elements", path,
                              what, (unsigned long long)(bytes / size));
    if (!tensor->contiguous && tensor->count > archive->file.size / size)
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: tensor '%s': is expanded to more elements than the file can "
                              "hold",
                              path, what);
    if (!tensor->contiguous && !bytes_view(archive->storages[tensor->storage]))
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: tensor '%s': is compressed and its elements are not in their "
                              "order: save it with .contiguous()",
                              path, what);
    return 0;
}

int torch_tensor_read(struct torch_archive *archive, const struct pickle_node *node,
                      const char *what, struct torch_tensor *tensor, struct ivon_error *error)
{
    const char *path = archive->file.path;
    size_t count;
    bool typed;
    struct reference reference;
    char text[PICKLE_DESCRIPTION];
    struct pickle_node **arguments = rebuild(node, &count, &typed);
    *tensor = (struct torch_tensor){0};
    if (!arguments)
        return ivon_error_set(error, IVON_ERROR_DATA, "%s: '%s' is %s, expected a tensor", path,
                              what, pickle_describe(node, text));
    if (!read_reference(arguments[0], &reference) || arguments[1]->kind != PICKLE_INTEGER ||
        arguments[1]->integer < 0)
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: tensor '%s': its storage or offset is impossible", path, what);
    const struct pickle_node *flags = flags_of(arguments, count, typed);
    if (has_strange_flag(flags))
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: tensor '%s': is a view with flags that are not read here", path,
                              what);
    int code = torch_tensor_read_dtype(typed ? arguments[6] : reference.class, path, what,
                                       &tensor->stored, error);
    if (!code)
        code = torch_tensor_read_shape(arguments[2], arguments[3], path, what, tensor, error);
    if (!code)
        code = open_storage(archive, reference.key, what, &tensor->storage, error);
    if (code)
        return code;
    tensor->negated = is_negated(flags);
    tensor->offset = tensor->count ? (uint64_t)arguments[1]->integer : 0;
    tensor->contiguous = is_contiguous(tensor);
    size_t unit = typed ? 1 : ivon_dtype_size(tensor->stored);
    return check_bounds(archive, tensor, (uint64_t)reference.count->integer, unit, what, error);
}

struct torch_tensor torch_tensor_slice(const struct torch_tensor *flat, size_t start,
                                       const struct torch_tensor *shape)
{
    struct torch_tensor slice = *flat;
    int64_t stride = flat->strides[0];
    slice.rank = shape->rank;
    slice.count = shape->count;
    slice.offset += start * (uint64_t)stride;
    memcpy(slice.shape, shape->shape, sizeof slice.shape);
    for (int i = slice.rank; i--;) {
        slice.strides[i] = stride;
        stride *= slice.shape[i];
    }
    slice.contiguous = is_contiguous(&slice);
    return slice;
}

enum ivon_dtype torch_tensor_dtype(const struct torch_tensor *tensor)
{
    return tensor->scale != 0 && tensor->stored != IVON_F64 ? IVON_F32 : tensor->stored;
}

static void copy_strided(unsigned char *out, const unsigned char *in, size_t count, size_t stride,
                         size_t size)
{
    for (size_t i = 0; i < count; i++)
        memcpy(out + i * size, in + i * stride * size, size);
}

/* Elements in row-major order out of any strides: runs along the last dimension. */
static void torch_tensor_gather(const struct torch_tensor *tensor, const unsigned char *data,
                                size_t first, size_t count, unsigned char *out)
{
    size_t size = ivon_dtype_size(tensor->stored), index[IVON_RANK_MAX], rest = first;
    int last = tensor->rank - 1;
    uint64_t at = tensor->offset;
    for (int i = tensor->rank; i--; rest /= (size_t)tensor->shape[i]) {
        index[i] = rest % (size_t)tensor->shape[i];
        at += index[i] * (uint64_t)tensor->strides[i];
    }
    while (count) {
        size_t run = (size_t)tensor->shape[last] - index[last];
        run = run < count ? run : count;
        copy_strided(out, data + at * size, run, (size_t)tensor->strides[last], size);
        out += run * size;
        count -= run;
        at += run * (uint64_t)tensor->strides[last];
        index[last] += run;
        for (int i = last; i && index[i] == (size_t)tensor->shape[i]; i--) {
            at += (uint64_t)tensor->strides[i - 1] - index[i] * (uint64_t)tensor->strides[i];
            index[i] = 0;
            index[i - 1]++;
        }
    }
}

/* Floating-point numbers carry their sign in the last byte's highest bit. */
static void negate(unsigned char *elements, enum ivon_dtype dtype, size_t count)
{
    size_t size = ivon_dtype_size(dtype);
    for (size_t i = 0; i < count; i++)
        elements[(i + 1) * size - 1] ^= 0x80;
}

static int read_stored(struct torch_archive *archive, const struct torch_tensor *tensor,
                       size_t first, size_t count, void *buffer, struct ivon_error *error)
{
    struct bytes *bytes = archive->storages[tensor->storage];
    size_t size = ivon_dtype_size(tensor->stored);
    bool inflates = !bytes_view(bytes);
    int code = 0;
    if (!tensor->contiguous) {
        torch_tensor_gather(tensor, bytes_view(bytes), first, count, buffer);
    } else {
        if (inflates)
            pthread_mutex_lock(&archive->lock);
        code = bytes_read(bytes, (tensor->offset + first) * size, count * size, buffer, error);
        if (inflates)
            pthread_mutex_unlock(&archive->lock);
    }
    if (!code && tensor->negated)
        negate(buffer, tensor->stored, count);
    return code;
}

/* Each number is rounded once, to the type that it is read in. */
static int read_scaled(struct torch_archive *archive, const struct torch_tensor *tensor,
                       size_t first, size_t count, void *buffer, struct ivon_error *error)
{
    enum { PIECE = 2048 };
    double raw[PIECE], numbers[PIECE];
    enum ivon_dtype dtype = torch_tensor_dtype(tensor);
    unsigned char *out = buffer;
    for (size_t done = 0, piece; done < count; done += piece) {
        piece = count - done < PIECE ? count - done : PIECE;
        int code = read_stored(archive, tensor, first + done, piece, raw, error);
        if (code)
            return code;
        ivon_dtype_to_f64(numbers, raw, tensor->stored, piece);
        for (size_t i = 0; i < piece; i++)
            numbers[i] *= tensor->scale;
        ivon_dtype_from_f64(out + done * ivon_dtype_size(dtype), dtype, numbers, piece);
    }
    return 0;
}

int torch_elements_read(struct torch_archive *archive, const struct torch_tensor *tensor,
                        size_t first, size_t count, void *buffer, struct ivon_error *error)
{
    return tensor->scale != 0 ? read_scaled(archive, tensor, first, count, buffer, error)
                              : read_stored(archive, tensor, first, count, buffer, error);
}

const void *torch_elements_view(const struct torch_archive *archive,
                                const struct torch_tensor *tensor)
{
    const unsigned char *data = bytes_view(archive->storages[tensor->storage]);
    return data && tensor->contiguous && !tensor->negated && tensor->scale == 0
               ? data + tensor->offset * ivon_dtype_size(tensor->stored)
               : NULL;
}

void torch_elements_advise(const struct torch_archive *archive, const struct torch_tensor *tensor,
                           size_t first, size_t count, int advice)
{
    size_t size = ivon_dtype_size(tensor->stored);
    const unsigned char *data = bytes_view(archive->storages[tensor->storage]);
    uint64_t begin = tensor->offset + first, end = begin + count;
    if (!data || (!tensor->contiguous && advice == MADV_WILLNEED))
        return;
    if (!tensor->contiguous) { /* what a range of it uses may lie anywhere in it */
        begin = tensor->offset;
        last_element(tensor, &end);
        end++;
    }
    uint64_t start = (uint64_t)(data - archive->file.data);
    mapped_advise(&archive->file, start + begin * size, (end - begin) * size, advice);
}
