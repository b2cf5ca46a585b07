#include "formats/posterior/parts.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "formats/io/strings.h"
#include "formats/posterior/buffers.h"

/* Those that a Hessian may have of its own come first, then the integers. */
static const char *const number_keys[] = {"ess", "weight_decay", "step", "n_train",
                                          "newton_decrement"};
enum {
    OWN_NUMBERS = 2,
    DECREMENT = 4,
    NUMBERS = sizeof number_keys / sizeof number_keys[0],
};

/* The name behind "PREFIX/"; null when there is no such prefix. */
static const char *behind(const char *stored, const char *prefix)
{
    size_t length = strlen(prefix);
    return strncmp(stored, prefix, length) == 0 && stored[length] == '/' ? stored + length + 1
                                                                         : NULL;
}

int parts_version_of(enum ivon_part part)
{
    return part_is_structural(part) ? 2 : 1;
}

int parts_version(const struct ivon_tensor *tensors, size_t count)
{
    int version = 1;
    for (size_t i = 0; i < count; i++)
        if (parts_version_of(tensors[i].part) > version)
            version = parts_version_of(tensors[i].part);
    return version;
}

/* The part whose prefix a name has in a file of a version; IVON_PART_COUNT for none. */
static enum ivon_part prefixed(const char *stored, int version)
{
    for (enum ivon_part part = IVON_MEAN; part < IVON_GRAPH; part++)
        if (parts_version_of(part) <= version && behind(stored, ivon_part_name(part)))
            return part;
    return IVON_PART_COUNT;
}

bool parts_posterior_name(const char *stored)
{
    return prefixed(stored, 1) == IVON_HESSIAN;
}

/* The part of bytes that has a name for its own; IVON_PART_COUNT for none. */
static enum ivon_part named_bytes(const char *stored, int version)
{
    for (enum ivon_part part = IVON_GRAPH; part < IVON_PART_COUNT; part++)
        if (part_is_bytes(part) && parts_version_of(part) <= version &&
            strcmp(stored, ivon_part_name(part)) == 0)
            return part;
    return IVON_PART_COUNT;
}

static bool is_bytes(const struct ivon_tensor *described)
{
    return described->dtype == IVON_U8 && described->rank == 1;
}

static void parts_locate(const struct parts_file *file, const char *stored,
                         struct ivon_tensor *tensor)
{
    const struct ivon_open_options *options = file->options;
    tensor->name = stored;
    tensor->part = IVON_OPAQUE;
    if (tensor->stored_as)
        return;
    enum ivon_part part = file->posterior ? prefixed(stored, file->version) : IVON_PART_COUNT;
    tensor->name = part < IVON_PART_COUNT ? behind(stored, ivon_part_name(part)) : stored;
    tensor->part = part;
    if (part < IVON_PART_COUNT)
        return;
    bool buffer = !ivon_dtype_is_float(tensor->dtype) ||
                  (options->is_buffer && options->is_buffer(options->is_buffer_context, stored));
    part = is_bytes(tensor) ? named_bytes(stored, file->version) : IVON_PART_COUNT;
    tensor->part = part < IVON_PART_COUNT ? part : buffer ? IVON_BUFFER : IVON_MEAN;
}

int parts_append(const struct parts_file *file, struct tensor_list *tensors, const char *stored,
                 const struct ivon_tensor *described, struct ivon_error *error)
{
    struct ivon_tensor tensor = *described;
    parts_locate(file, stored, &tensor);
    tensor.ess = tensor.weight_decay = NAN;
    if (!tensor_name_valid(tensor.name))
        return ivon_error_set(error, IVON_ERROR_DATA, "%s: '%s' is not a usable name for a tensor",
                              file->path, stored);
    if (tensor.part < IVON_BUFFER && !ivon_dtype_is_float(tensor.dtype))
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: '%s' has elements of type %s, expected floating point",
                              file->path, stored, ivon_dtype_name(tensor.dtype));
    return tensor_list_append(tensors, &tensor, error);
}

static int parts_get(const struct parts_file *file, const char *key, double *value,
                     struct ivon_error *error)
{
    struct parts_number number;
    int found = file->number(file->context, key, &number, error);
    if (found > 0)
        *value = number.number;
    return found < 0 ? found : 0;
}

/* A count; what is none is as good as absent. */
static int get_natural(const struct parts_file *file, const char *key, int64_t *value,
                       struct ivon_error *error)
{
    struct parts_number number;
    int found = file->number(file->context, key, &number, error);
    if (found > 0 && number.is_integer && number.integer >= 0)
        *value = number.integer;
    return found < 0 ? found : 0;
}

int parts_header(struct parts_file *file, struct ivon_header *header, struct ivon_error *error)
{
    double version = 1;
    int code = parts_get(file, PARTS_MARK, &version, error);
    if (!code && version != 1 && version != PARTS_VERSION)
        return ivon_error_set(error, IVON_ERROR_DATA, "%s: '%s' is %g, expected 1 or %d",
                              file->path, PARTS_MARK, version, PARTS_VERSION);
    file->version = version > 1 ? PARTS_VERSION : 1;
    if (!code)
        code = parts_get(file, "ess", &header->ess, error);
    if (!code)
        code = parts_get(file, "weight_decay", &header->weight_decay, error);
    if (!code)
        code = get_natural(file, "step", &header->step, error);
    if (!code)
        code = get_natural(file, "n_train", &header->n_train, error);
    if (!code)
        code = parts_get(file, number_keys[DECREMENT], &header->decrement, error);
    return code;
}

/* "KEY/NAME", to be freed. */
static char *own_key(const char *key, const char *name)
{
    size_t size = strlen(key) + strlen(name) + 2;
    char *text = malloc(size);
    if (text)
        snprintf(text, size, "%s/%s", key, name);
    return text;
}

int parts_finish(const struct parts_file *file, struct tensor_list *tensors,
                 const struct ivon_header *header, struct ivon_error *error)
{
    int code = 0;
    for (size_t i = 0; i < tensors->count; i++) {
        struct ivon_tensor *tensor = &tensors->items[i];
        if (tensor->part != IVON_HESSIAN)
            continue;
        tensor->ess = header->ess;
        tensor->weight_decay = header->weight_decay;
        double *const values[OWN_NUMBERS] = {&tensor->ess, &tensor->weight_decay};
        for (size_t k = 0; k < OWN_NUMBERS && !code; k++) {
            char *key = own_key(number_keys[k], tensor->name);
            code = key ? parts_get(file, key, values[k], error) : ivon_error_memory(error);
            free(key);
        }
        if (code)
            return code;
    }
    return buffers_settle(tensors, error);
}

bool parts_own_key(const char *key)
{
    static const char *const others[] = {PARTS_MARK, "creator", "provenance"};
    for (size_t k = 0; k < NUMBERS; k++)
        if (strcmp(key, number_keys[k]) == 0 || (k < OWN_NUMBERS && behind(key, number_keys[k])))
            return true;
    for (size_t k = 0; k < sizeof others / sizeof others[0]; k++)
        if (strcmp(key, others[k]) == 0)
            return true;
    return false;
}

/* `version` is 0 for a file that is no posterior. */
static char *stored_name(const struct ivon_tensor *tensor, int version, bool bare_buffers)
{
    if (part_is_bytes(tensor->part))
        return strdup(ivon_part_name(tensor->part));
    if (tensor->part == IVON_OPAQUE)
        return strdup(tensor->name);
    bool bare = tensor->part == IVON_MEAN || (tensor->part == IVON_BUFFER && bare_buffers);
    bool plain = !version || (bare && prefixed(tensor->name, version) == IVON_PART_COUNT &&
                              !parts_own_key(tensor->name) &&
                              named_bytes(tensor->name, version) == IVON_PART_COUNT);
    return plain ? strdup(tensor->name) : own_key(ivon_part_name(tensor->part), tensor->name);
}

/* A name that occurs twice, or null; also when memory is exhausted, which *code then says. */
static const char *repeated(const char *const *names, size_t count, int *code)
{
    const char *found = NULL, **sorted = calloc(count + 1, sizeof *sorted);
    *code = sorted ? 0 : IVON_ERROR_MEMORY;
    if (sorted && count) {
        memcpy(sorted, names, count * sizeof *sorted);
        qsort(sorted, count, sizeof *sorted, strings_compare);
    }
    for (size_t i = 1; i < count && sorted && !found; i++)
        if (strcmp(sorted[i - 1], sorted[i]) == 0)
            found = sorted[i];
    free(sorted);
    return found;
}

int parts_refuse_opaque(const char *path, const struct ivon_tensor *tensor,
                        struct ivon_error *error)
{
    return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                          "%s: tensor '%s' is stored as %s, which this file cannot hold: leave it "
                          "out",
                          path, tensor->name, tensor->stored_as);
}

int parts_stored_names(char ***out, const char *path, const struct ivon_tensor *tensors,
                       size_t count, bool posterior, bool bare_buffers, bool carries_opaque,
                       struct ivon_error *error)
{
    char **names = calloc(count + 1, sizeof *names);
    int code = names ? 0 : ivon_error_memory(error);
    int version = posterior ? parts_version(tensors, count) : 0;
    for (size_t i = 0; i < count && !code; i++) {
        if (!tensor_name_valid(tensors[i].name))
            code = ivon_error_set(error, IVON_ERROR_ARGUMENT,
                                  "%s: '%s' is not a usable name for a tensor", path,
                                  tensors[i].name);
        else if (tensors[i].part == IVON_OPAQUE && !carries_opaque)
            code = parts_refuse_opaque(path, &tensors[i], error);
        else if (tensors[i].part < IVON_BUFFER && !ivon_dtype_is_float(tensors[i].dtype))
            code = ivon_error_set(error, IVON_ERROR_ARGUMENT,
                                  "%s: '%s' has elements of type %s, expected floating point", path,
                                  tensors[i].name, ivon_dtype_name(tensors[i].dtype));
        else if (!(names[i] = stored_name(&tensors[i], version, bare_buffers)))
            code = ivon_error_memory(error);
    }
    const char *twice = code ? NULL : repeated((const char *const *)names, count, &code);
    if (twice)
        code = ivon_error_set(error, IVON_ERROR_ARGUMENT, "%s: tensor '%s' occurs twice", path,
                              twice);
    else if (code == IVON_ERROR_MEMORY)
        ivon_error_memory(error);
    if (code) {
        parts_free_names(names, count);
        return code;
    }
    *out = names;
    return 0;
}

void parts_free_names(char **names, size_t count)
{
    for (size_t i = 0; i < count && names; i++)
        free(names[i]);
    free(names);
}

/* True if two tensors of different parts have one name, or if memory is exhausted. */
static bool share_names(const struct ivon_tensor *tensors, size_t count)
{
    int code = 0;
    const char **names = calloc(count + 1, sizeof *names);
    for (size_t i = 0; i < count && names; i++)
        names[i] = tensors[i].name;
    bool shared = !names || repeated(names, count, &code) || code; /* prefixes are never wrong */
    free(names);
    return shared;
}

int parts_need_posterior(const struct ivon_header *header, const struct ivon_tensor *tensors,
                         size_t count, bool (*plain)(void *context, const struct ivon_tensor *),
                         void *context, bool *needed, struct ivon_error *error)
{
    *needed = !isnan(header->ess) || !isnan(header->weight_decay) || header->step >= 0 ||
              header->n_train >= 0 || !isnan(header->decrement);
    for (size_t i = 0; i < count; i++) {
        const struct ivon_tensor *tensor = &tensors[i];
        bool graph = is_bytes(tensor) && named_bytes(tensor->name, 1) == IVON_GRAPH;
        bool model = tensor->part == IVON_MEAN || tensor->part == IVON_GRAPH ||
                     tensor->part == IVON_OPAQUE || (tensor->part == IVON_BUFFER && !graph);
        *needed = *needed || !model || parts_posterior_name(tensor->name);
    }
    if (*needed)
        return 0;
    bool distinguishable;
    int code = buffers_distinguishable(tensors, count, plain, context, &distinguishable, error);
    *needed = !distinguishable || share_names(tensors, count);
    return code;
}

static int parts_put_number(const char *path, const char *key, double value,
                            int (*put)(void *context, const char *key,
                                       const struct parts_number *number, struct ivon_error *error),
                            void *context, struct ivon_error *error)
{
    if (isnan(value))
        return 0;
    if (isinf(value))
        return ivon_error_set(error, IVON_ERROR_ARGUMENT, "%s: '%s' is infinite", path, key);
    return put(context, key, &(struct parts_number){.number = value}, error);
}

int parts_put(const char *path, const struct ivon_header *header, const struct ivon_tensor *tensors,
              size_t count,
              int (*put)(void *context, const char *key, const struct parts_number *number,
                         struct ivon_error *error),
              void *context, struct ivon_error *error)
{
    const double numbers[OWN_NUMBERS] = {header->ess, header->weight_decay};
    const int64_t integers[DECREMENT - OWN_NUMBERS] = {header->step, header->n_train};
    int version = parts_version(tensors, count);
    const struct parts_number mark = {version, true, version};
    int code = put(context, PARTS_MARK, &mark, error);
    for (size_t k = 0; k < OWN_NUMBERS && !code; k++)
        code = parts_put_number(path, number_keys[k], numbers[k], put, context, error);
    for (size_t k = OWN_NUMBERS; k < DECREMENT && !code; k++) {
        int64_t value = integers[k - OWN_NUMBERS];
        struct parts_number number = {(double)value, true, value};
        code = value < 0 ? 0 : put(context, number_keys[k], &number, error);
    }
    if (!code)
        code = parts_put_number(path, number_keys[DECREMENT], header->decrement, put, context,
                                error);
    for (size_t i = 0; i < count; i++) {
        const double own[OWN_NUMBERS] = {tensors[i].ess, tensors[i].weight_decay};
        for (size_t k = 0; k < OWN_NUMBERS && !code; k++) {
            if (tensors[i].part != IVON_HESSIAN || own[k] == numbers[k])
                continue;
            char *key = own_key(number_keys[k], tensors[i].name);
            code = key ? parts_put_number(path, key, own[k], put, context, error)
                       : ivon_error_memory(error);
            free(key);
        }
    }
    return code;
}
