#include "formats/posterior/buffers.h"

#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/names.h"
#include "formats/io/strings.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

/* The length of a name without the ":0" that TensorFlow puts behind it. */
static size_t name_length(const char *name)
{
    size_t length = strlen(name);
    return length > 2 && strcmp(name + length - 2, ":0") == 0 ? length - 2 : length;
}

static bool is_one_of(const char *text, size_t length, const char *const *words, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (name_is_word(text, length, words[i]))
            return true;
    return false;
}

/* Also behind an underscore: programs that cannot have dots in names put it in their place. */
static bool ends_in_word(const char *text, size_t length, const char *word)
{
    size_t wanted = strlen(word);
    return length > wanted ? text[length - wanted - 1] == '_' &&
                                 memcmp(text + length - wanted, word, wanted) == 0
                           : name_is_word(text, length, word);
}

/* Flax's collection of running statistics. */
static bool is_collection(const char *component, size_t length)
{
    return name_is_word(component, length, "batch_stats");
}

bool buffers_statistic(const char *name)
{
    static const char *const words[] = {"running_mean",        "running_var", "running_std",
                                        "num_batches_tracked", "moving_mean", "moving_var",
                                        "moving_variance"};
    size_t length = name_length(name), start = name_last(name, length);
    for (size_t i = 0; i < COUNT(words); i++)
        if (ends_in_word(name + start, length - start, words[i]))
            return true;
    return name_any_component(name, is_collection);
}

/* The names of some tensors in sorted order. */
struct name_table {
    const char **names;
    size_t count;
};

/* Returns whether a tensor has the first `length` bytes of `module`, then `rest`, as its name. */
static bool has_neighbour(const struct name_table *table, const char *module, size_t length,
                          const char *rest)
{
    size_t low = 0, high = table->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strncmp(table->names[middle], module, length);
        order = order ? order : strcmp(table->names[middle] + length, rest);
        if (order == 0)
            return true;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return false;
}

/* A causal mask is called "attn.bias" in GPT-2, "attention.bias" in its descendants. */
static bool is_causal_mask(const struct name_table *table, const struct ivon_tensor *tensor,
                           size_t start)
{
    static const char *const modules[] = {"attn", "attention"};
    if (tensor->rank != 4 || tensor->shape[0] != 1 || tensor->shape[1] != 1 ||
        tensor->shape[2] != tensor->shape[3] || !start)
        return false;
    const char *name = tensor->name;
    size_t module = name_last(name, start - 1);
    return is_one_of(name + module, start - 1 - module, modules, COUNT(modules)) &&
           (has_neighbour(table, name, start, "masked_bias") ||
            has_neighbour(table, name, start, "c_attn.weight") ||
            has_neighbour(table, name, start, "query_key_value.weight"));
}

/* The two vectors of spectral norm, the old form and the one by parametrizations. */
static bool is_spectral_vector(const struct name_table *table, const char *name, size_t length,
                               size_t start)
{
    bool vector = length - start >= 2 && name[length - 2] == '_' &&
                  (name[length - 1] == 'u' || name[length - 1] == 'v');
    if (!vector)
        return false;
    if (length - start > 2)
        return has_neighbour(table, name, length - 1, "orig");
    return start && has_neighbour(table, name, name_last(name, start - 1), "original");
}

static bool is_buffer(const struct name_table *table, const struct ivon_tensor *tensor)
{
    static const char *const computed[] = {"inv_freq",   "original_inv_freq", "freqs_cis",
                                           "cos_cached", "sin_cached",        "masked_bias",
                                           "attn_mask"};
    const char *name = tensor->name;
    size_t length = name_length(name), start = name_last(name, length);
    if (buffers_statistic(name) ||
        is_one_of(name + start, length - start, computed, COUNT(computed)))
        return true;
    if (name_is_word(name + start, length - start, "bias"))
        return is_causal_mask(table, tensor, start);
    return is_spectral_vector(table, name, length, start);
}

static bool is_model(enum ivon_part part)
{
    return part == IVON_MEAN || part == IVON_BUFFER;
}

/* The names of what a model consists of, or of what was trained. */
static int list_names(struct name_table *table, const struct ivon_tensor *tensors, size_t count,
                      bool trained, struct ivon_error *error)
{
    table->names = calloc(count + 1, sizeof *table->names);
    if (!table->names)
        return ivon_error_memory(error);
    for (size_t i = 0; i < count; i++) {
        enum ivon_part part = tensors[i].part;
        if (trained ? part == IVON_HESSIAN || part == IVON_MOMENTUM : is_model(part))
            table->names[table->count++] = tensors[i].name;
    }
    qsort(table->names, table->count, sizeof *table->names, strings_compare);
    return 0;
}

/* Marks those of a model's floating-point tensors whose names are those of buffers. */
static int find_buffers(const struct ivon_tensor *tensors, size_t count, bool *found,
                        struct ivon_error *error)
{
    struct name_table model = {0}, trained = {0};
    int code = list_names(&model, tensors, count, false, error);
    if (!code)
        code = list_names(&trained, tensors, count, true, error);
    for (size_t i = 0; i < count && !code; i++)
        found[i] = is_model(tensors[i].part) && ivon_dtype_is_float(tensors[i].dtype) &&
                   is_buffer(&model, &tensors[i]) &&
                   !has_neighbour(&trained, "", 0, tensors[i].name);
    free(model.names);
    free(trained.names);
    return code;
}

int buffers_settle(struct tensor_list *tensors, struct ivon_error *error)
{
    bool *found = calloc(tensors->count + 1, sizeof *found);
    int code = found ? find_buffers(tensors->items, tensors->count, found, error)
                     : ivon_error_memory(error);
    for (size_t i = 0; i < tensors->count && !code; i++)
        if (found[i])
            tensors->items[i].part = IVON_BUFFER;
    free(found);
    return code;
}

int buffers_distinguishable(const struct ivon_tensor *tensors, size_t count,
                            bool (*plain)(void *context, const struct ivon_tensor *), void *context,
                            bool *distinguishable, struct ivon_error *error)
{
    bool *found = calloc(count + 1, sizeof *found);
    int code = found ? find_buffers(tensors, count, found, error) : ivon_error_memory(error);
    *distinguishable = true;
    for (size_t i = 0; i < count && !code; i++)
        if (tensors[i].part == IVON_BUFFER && ivon_dtype_is_float(tensors[i].dtype))
            *distinguishable = *distinguishable &&
                               (found[i] || (plain && plain(context, &tensors[i])));
    free(found);
    return code;
}
