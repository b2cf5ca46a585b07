/*
 * Quantized weights: integer codes beside the scales that give them a meaning, as GPTQ, AWQ,
 * bitsandbytes, compressed-tensors, HQQ, MLX and others store them, and fp8 with scales. An average
 * of codes, or of scales beside the codes of one model, is no average of weights.
 */
#include <stdlib.h>
#include <string.h>

#include "bayes/merge/private.h"
#include "core/error.h"
#include "core/names.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

/* A tensor of codes, while other tensors of its module are searched for its scales. */
struct codes {
    const struct ivon_merge *merge;
    const struct ivon_source *source;
    const struct ivon_tensor *tensor;
    char *name;            /* space for a neighbour's name */
    const char *neighbour; /* the first one found, scales before other codes; borrowed */
    bool scaled;           /* the neighbour holds floating-point numbers */
    bool selected;         /* a merge would change the codes or a neighbour */
};

static bool is_selected(const struct ivon_merge *merge, const char *name)
{
    const struct ivon_merge_options *options = &merge->options;
    return !options->selected || options->selected(options->selected_context, name);
}

/* Looks for the tensor whose name is the first `length` bytes of the codes' name, then `suffix`. */
static void codes_find_neighbour(struct codes *codes, size_t length, const char *suffix)
{
    memcpy(codes->name, codes->tensor->name, length);
    strcpy(codes->name + length, suffix);
    if (strcmp(codes->name, codes->tensor->name) == 0)
        return;
    ptrdiff_t mean = ivon_source_find(codes->source, IVON_MEAN, codes->name), found = mean;
    if (found < 0)
        found = ivon_source_find(codes->source, IVON_BUFFER, codes->name);
    if (found < 0)
        return;
    const struct ivon_tensor *tensor = ivon_source_tensor(codes->source, (size_t)found);
    if (!codes->neighbour || (mean >= 0 && !codes->scaled))
        codes->neighbour = tensor->name;
    codes->scaled = codes->scaled || mean >= 0;
    codes->selected = codes->selected || (mean >= 0 && is_selected(codes->merge, tensor->name));
}

enum { SUFFIX_MAX = 32 };

static void codes_find_neighbours(struct codes *codes, size_t length, const char *const *suffixes,
                                  size_t count)
{
    for (size_t i = 0; i < count; i++)
        codes_find_neighbour(codes, length, suffixes[i]);
}

static bool contains(const char *text, const char *const *words, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (strstr(text, words[i]))
            return true;
    return false;
}

/* Scales stand in the codes' module, or have the codes' own name and a suffix. */
static void codes_find_scales(struct codes *codes)
{
    static const char *const weights[] = {"weight", "kernel", "embedding", "W_q", "codes", "_data"};
    static const char *const scale_names[] = {"SCB",    "qzeros", "qscales",
                                              "absmax", "g_idx",  "weight_scale"};
    static const char *const weight_scale_names[] = {"scales", "scale",      "zeros",
                                                     "zero",   "zero_point", "biases",
                                                     "_scale", "_shift",     "_zeropoint"};
    static const char *const scale_suffixes[] = {
        ".absmax", ".nested_absmax", ".quant_map", ".nested_quant_map", ".SCB",       ".scale",
        ".scales", ".zero_point",    "_scale",     "_scales",           "_scale_inv", "_scale_2",
        "_absmax", "_zero_point"};
    const char *name = codes->tensor->name;
    size_t length = strlen(name), module = name_last(name, length);
    codes_find_neighbours(codes, module, scale_names, COUNT(scale_names));
    if (contains(name + module, weights, COUNT(weights)))
        codes_find_neighbours(codes, module, weight_scale_names, COUNT(weight_scale_names));
    codes_find_neighbours(codes, length, scale_suffixes, COUNT(scale_suffixes));
}

/* Tensors "x_blocks", "x_packed" and "x_quantized" have scales named like "x_scales". */
static void codes_find_renamed_scales(struct codes *codes)
{
    static const char *const code_suffixes[] = {"_blocks", "_packed", "_quantized"};
    static const char *const replacements[] = {"_scale", "_scales", "_zero_point", "_global_scale"};
    size_t length = strlen(codes->tensor->name);
    for (size_t i = 0; i < COUNT(code_suffixes); i++) {
        size_t end = strlen(code_suffixes[i]);
        if (length > end && strcmp(codes->tensor->name + length - end, code_suffixes[i]) == 0)
            codes_find_neighbours(codes, length - end, replacements, COUNT(replacements));
    }
}

/* Codes are integers of at most 32 bits or opaque tensors; integers of 64 bits are positions. */
static bool may_be_codes(const struct ivon_tensor *tensor)
{
    bool can_hold_codes = tensor->part == IVON_BUFFER || tensor->part == IVON_OPAQUE;
    return can_hold_codes && !ivon_dtype_is_float(tensor->dtype) && tensor->dtype != IVON_I64 &&
           tensor->dtype != IVON_U64 && tensor->dtype != IVON_BOOL;
}

/* Refuses a source with a tensor of codes that a merge would separate from its scales. */
static int refuse_quantized(const struct ivon_merge *merge, const struct ivon_source *source,
                            struct ivon_error *error)
{
    for (size_t i = 0; i < ivon_source_tensor_count(source); i++) {
        struct codes codes = {
            .merge = merge, .source = source, .tensor = ivon_source_tensor(source, i)};
        if (!may_be_codes(codes.tensor))
            continue;
        codes.name = malloc(strlen(codes.tensor->name) + SUFFIX_MAX);
        if (!codes.name)
            return ivon_error_memory(error);
        codes.selected = is_selected(merge, codes.tensor->name);
        codes_find_scales(&codes);
        codes_find_renamed_scales(&codes);
        free(codes.name);
        if (codes.neighbour && codes.selected)
            return ivon_error_hint(
                error, IVON_HINT_EXCLUSION,
                ivon_error_set(error, IVON_ERROR_DATA,
                               "%s: '%s' holds quantized weights, codes with '%s' beside them: "
                               "neither can be merged; dequantize them first, or leave both out",
                               ivon_source_path(source), codes.tensor->name, codes.neighbour));
    }
    return 0;
}

int merge_refuse_quantized_weights(const struct ivon_merge *merge, struct ivon_error *error)
{
    int code = merge->base ? refuse_quantized(merge, merge->base, error) : 0;
    for (size_t t = 0; t < merge->model_count && !code; t++)
        code = refuse_quantized(merge, merge->models[t].source, error);
    return code;
}
