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

/* One tensor of codes while its neighbours are looked up. */
struct codes {
    const struct ivon_merge *merge;
    const struct ivon_source *source;
    const struct ivon_tensor *tensor;
    char *name;            /* room for the neighbours' names */
    const char *neighbour; /* the first that was found, scales rather than other codes; borrowed */
    bool scaled;           /* the neighbour is of floating-point numbers */
    bool selected;         /* the codes, or a neighbour that a merge would change */
};

static bool is_selected(const struct ivon_merge *merge, const char *name)
{
    const struct ivon_merge_options *options = &merge->options;
    return !options->selected || options->selected(options->selected_context, name);
}

/* Looks for the tensor whose name is the first `length` bytes of the codes' and then `rest`. */
static void look_for(struct codes *codes, size_t length, const char *rest)
{
    memcpy(codes->name, codes->tensor->name, length);
    strcpy(codes->name + length, rest);
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

enum { REST_MAX = 32 };

static void look_for_all(struct codes *codes, size_t length, const char *const *rests, size_t count)
{
    for (size_t i = 0; i < count; i++)
        look_for(codes, length, rests[i]);
}

static bool contains(const char *text, const char *const *words, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (strstr(text, words[i]))
            return true;
    return false;
}

/* Scales that stand in the codes' module, or have the codes' own name with something behind it. */
static void look_for_scales(struct codes *codes)
{
    static const char *const weights[] = {"weight", "kernel", "embedding", "W_q", "codes", "_data"};
    static const char *const beside_any[] = {"SCB",    "qzeros", "qscales",
                                             "absmax", "g_idx",  "weight_scale"};
    static const char *const beside_weights[] = {"scales", "scale",      "zeros",
                                                 "zero",   "zero_point", "biases",
                                                 "_scale", "_shift",     "_zeropoint"};
    static const char *const behind[] = {
        ".absmax", ".nested_absmax", ".quant_map", ".nested_quant_map", ".SCB",       ".scale",
        ".scales", ".zero_point",    "_scale",     "_scales",           "_scale_inv", "_scale_2",
        "_absmax", "_zero_point"};
    const char *name = codes->tensor->name;
    size_t length = strlen(name), module = name_last(name, length);
    look_for_all(codes, module, beside_any, COUNT(beside_any));
    if (contains(name + module, weights, COUNT(weights)))
        look_for_all(codes, module, beside_weights, COUNT(beside_weights));
    look_for_all(codes, length, behind, COUNT(behind));
}

/* "x_blocks", "x_packed" and "x_quantized" have their scales in "x_scales" or so. */
static void look_for_twins(struct codes *codes)
{
    static const char *const ends[] = {"_blocks", "_packed", "_quantized"};
    static const char *const instead[] = {"_scale", "_scales", "_zero_point", "_global_scale"};
    size_t length = strlen(codes->tensor->name);
    for (size_t i = 0; i < COUNT(ends); i++) {
        size_t end = strlen(ends[i]);
        if (length > end && strcmp(codes->tensor->name + length - end, ends[i]) == 0)
            look_for_all(codes, length - end, instead, COUNT(instead));
    }
}

/* Integers of at most 32 bits, and what is stored in a way of its own; positions are of 64. */
static bool may_be_codes(const struct ivon_tensor *tensor)
{
    bool carried = tensor->part != IVON_MEAN && tensor->part != IVON_HESSIAN &&
                   tensor->part != IVON_MOMENTUM && tensor->part != IVON_GRAPH;
    return carried && !ivon_dtype_is_float(tensor->dtype) && tensor->dtype != IVON_I64 &&
           tensor->dtype != IVON_U64 && tensor->dtype != IVON_BOOL;
}

/* The first tensor of codes in a source that a merge would tear from its scales. */
static int refuse_codes(const struct ivon_merge *merge, const struct ivon_source *source,
                        struct ivon_error *error)
{
    for (size_t i = 0; i < ivon_source_tensor_count(source); i++) {
        struct codes codes = {
            .merge = merge, .source = source, .tensor = ivon_source_tensor(source, i)};
        if (!may_be_codes(codes.tensor))
            continue;
        codes.name = malloc(strlen(codes.tensor->name) + REST_MAX);
        if (!codes.name)
            return ivon_error_memory(error);
        codes.selected = is_selected(merge, codes.tensor->name);
        look_for_scales(&codes);
        look_for_twins(&codes);
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

int merge_refuse_codes(const struct ivon_merge *merge, struct ivon_error *error)
{
    int code = merge->base ? refuse_codes(merge, merge->base, error) : 0;
    for (size_t t = 0; t < merge->model_count && !code; t++)
        code = refuse_codes(merge, merge->models[t].source, error);
    return code;
}
