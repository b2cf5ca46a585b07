/*
 * Resize, and Upsample before it: each axis by itself, a product with a band matrix that infer
 * prepares. Axes that become shorter come first, so that nothing in between is larger than both
 * ends. Tangents are the same products, adjoints those with the transposed matrices.
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "net/graph/rules.h"
#include "net/ops/resize/weights.h"
#include "net/ops/movement/table_copy.h"

struct resize_stage {
    int axis;
    size_t outer, inner; /* elements before and behind the axis */
    struct net_band band, transposed;
};

/* Infer prepares the stages, and behind them the memory of their bands. */
struct resize {
    struct resize_rule rule;
    int stage_count;
    size_t between; /* the most floats between two stages */
    float extrapolation;
    struct resize_stage stages[IVON_RANK_MAX];
};

/* Reading. */

/* The inputs that hold the lists; 0 if there is none. */
struct resize_inputs {
    size_t roi, scales, sizes;
};

static int resize_choice(const struct net_call *call, const char *name, const char *const *choices,
                         size_t count, int *choice, struct ivon_error *error)
{
    const char *text = net_attribute_text(call->node, name, choices[*choice]);
    for (size_t i = 0; i < count; i++)
        if (strcmp(text, choices[i]) == 0) {
            *choice = (int)i;
            return 0;
        }
    return net_fail(call, error, "%s '%s' is not supported", name, text);
}

#define COUNT(array) (sizeof(array) / sizeof *(array))

static int resize_read_rule(const struct net_call *call, bool old, struct resize_rule *rule,
                            struct ivon_error *error)
{
    static const char *const modes[] = {"nearest", "linear", "cubic", "bilinear"};
    static const char *const coordinates[] = {
        "half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners",
        "asymmetric", "tf_half_pixel_for_nn", "tf_crop_and_resize"};
    static const char *const roundings[] = {"round_prefer_floor", "round_prefer_ceil", "floor",
                                            "ceil"};
    int mode = 0, coordinate = 0, rounding = 0;
    int code = resize_choice(call, "mode", modes, COUNT(modes), &mode, error);
    if (!code && !old)
        code = resize_choice(call, "coordinate_transformation_mode", coordinates,
                             COUNT(coordinates), &coordinate, error);
    if (!code && !old)
        code = resize_choice(call, "nearest_mode", roundings, COUNT(roundings), &rounding, error);
    rule->mode = mode == 3 ? RESIZE_LINEAR : (enum resize_mode)mode;
    rule->coordinates = old ? RESIZE_ASYMMETRIC : (enum resize_coordinates)coordinate;
    rule->rounding = old ? RESIZE_INWARD : (enum resize_rounding)rounding;
    rule->cubic_a = net_attribute_number(call->node, "cubic_coeff_a", -0.75);
    rule->exclude_outside = net_attribute_integer(call->node, "exclude_outside", 0) != 0;
    rule->antialias = net_attribute_integer(call->node, "antialias", 0) != 0;
    return code;
}

/* Reads a list of `expected` floats; *count is 0 where it is left out or empty. */
static int resize_floats(const struct net_call *call, size_t input, const char *what,
                         size_t expected, double *values, size_t *count, struct ivon_error *error)
{
    const struct net_tensor *list = input ? net_input(call, input) : NULL;
    const struct net_attribute *attribute = input ? NULL : net_attribute(call->node, what);
    *count = attribute ? attribute->count : list ? list->count : 0;
    if (list && *count && (list->type != NET_FLOAT || list->rank != 1))
        return net_fail(call, error, "%s is no list of floats", what);
    if (list && *count && !list->data)
        return net_fail(call, error, "%s depends on the data, which is not supported", what);
    if (*count && *count != expected)
        return net_fail(call, error, "%s has %zu numbers, expected %zu", what, *count, expected);
    for (size_t i = 0; i < *count; i++) {
        values[i] = attribute ? attribute->numbers[i] : (double)((const float *)list->data)[i];
        if (!isfinite(values[i]))
            return net_fail(call, error, "%s has the number %g", what, values[i]);
    }
    return 0;
}

/* Sets the tensor's axes that the lists are for, in their order. */
static int resize_listed_axes(const struct net_call *call, int *listed, size_t *count,
                              struct ivon_error *error)
{
    int rank = call->inputs[0]->rank;
    const int64_t *axes = net_attribute_integers(call->node, "axes", count);
    unsigned seen = 0;
    if (!axes)
        *count = (size_t)rank;
    for (size_t i = 0; i < *count; i++) {
        int axis = axes ? net_axis(axes[i], rank) : (int)i;
        if (axis < 0 || seen & 1U << axis)
            return net_fail(call, error, "axis %" PRId64 " is %s", axes ? axes[i] : (int64_t)i,
                            axis < 0 ? "none of the input's" : "named twice");
        seen |= 1U << axis;
        listed[i] = axis;
    }
    return 0;
}

static int resize_apply_scales(const struct net_call *call, const double *scales, const int *listed,
                               size_t count, struct resize_axis *axes, struct ivon_error *error)
{
    for (size_t i = 0; i < count; i++) {
        struct resize_axis *axis = &axes[listed[i]];
        float length = (float)axis->in * (float)scales[i]; /* in float, as others do */
        if (!(scales[i] > 0) || !(length < 0x1p62F))
            return net_fail(call, error, "axis %d of extent %" PRId64 " cannot be scaled by %g",
                            listed[i], axis->in, scales[i]);
        axis->scale = scales[i];
        axis->length = (double)axis->in * scales[i];
        axis->out = (int64_t)floorf(length);
    }
    return 0;
}

static int resize_apply_sizes(const struct net_call *call, const int64_t *sizes, const int *listed,
                              size_t count, struct resize_axis *axes, struct ivon_error *error)
{
    static const char *const policies[] = {"stretch", "not_larger", "not_smaller"};
    int policy = 0;
    int code = resize_choice(call, "keep_aspect_ratio_policy", policies, COUNT(policies), &policy,
                             error);
    double common = policy == 1 ? INFINITY : 0;
    for (size_t i = 0; i < count && !code; i++) {
        struct resize_axis *axis = &axes[listed[i]];
        if (sizes[i] < 0 || (sizes[i] && !axis->in))
            return net_fail(call, error, "axis %d of extent %" PRId64 " cannot become %" PRId64,
                            listed[i], axis->in, sizes[i]);
        axis->out = sizes[i];
        axis->scale = axis->in ? (double)sizes[i] / (double)axis->in : 1;
        axis->length = (double)sizes[i];
        common = policy == 1 ? fmin(common, axis->scale) : fmax(common, axis->scale);
    }
    for (size_t i = 0; i < count && !code && policy; i++) {
        struct resize_axis *axis = &axes[listed[i]];
        axis->scale = common;
        axis->length = common * (double)axis->in;
        axis->out = axis->length < 0x1p62 ? (int64_t)floor(axis->length + 0.5) : INT64_MAX;
    }
    return code;
}

static int resize_read_axes(const struct net_call *call, struct resize_inputs inputs,
                            const struct resize_rule *rule, struct resize_axis *axes,
                            struct ivon_error *error)
{
    const struct net_tensor *input = call->inputs[0];
    double scales[IVON_RANK_MAX], roi[2 * IVON_RANK_MAX];
    size_t listed_count, scale_count = 0, roi_count = 0, size_count = 0;
    const int64_t *sizes = NULL;
    int listed[IVON_RANK_MAX], code = resize_listed_axes(call, listed, &listed_count, error);
    if (!code)
        code = resize_floats(call, inputs.scales, "scales", listed_count, scales, &scale_count,
                             error);
    if (!code && inputs.sizes)
        code = net_known_list(call, inputs.sizes, "sizes", &sizes, &size_count, error);
    if (!code && rule->coordinates == RESIZE_TF_CROP)
        code = resize_floats(call, inputs.roi, "roi", 2 * listed_count, roi, &roi_count, error);
    if (!code && (!scale_count == !size_count || (size_count && size_count != listed_count)))
        code = net_fail(call, error, "%zu scales and %zu sizes for %zu axes", scale_count,
                        size_count, listed_count);
    if (code)
        return code;
    for (int i = 0; i < input->rank; i++)
        axes[i] = (struct resize_axis){
            input->shape[i], input->shape[i], 1, (double)input->shape[i], 0, 1};
    for (size_t i = 0; i < listed_count && roi_count; i++) {
        axes[listed[i]].start = roi[i];
        axes[listed[i]].end = roi[listed_count + i];
    }
    return scale_count ? resize_apply_scales(call, scales, listed, listed_count, axes, error)
                       : resize_apply_sizes(call, sizes, listed, listed_count, axes, error);
}

/* Preparing. */

/* Lays out the stages, those that shorten an axis first. */
static void resize_order(struct resize *resize, const struct resize_axis *axes, int rank)
{
    int64_t shape[IVON_RANK_MAX];
    for (int i = 0; i < rank; i++)
        shape[i] = axes[i].in;
    for (int growing = 0; growing < 2; growing++)
        for (int i = 0; i < rank; i++) {
            if ((axes[i].out > axes[i].in) != growing || resize_is_trivial(&resize->rule, &axes[i]))
                continue;
            struct resize_stage *stage = &resize->stages[resize->stage_count++];
            size_t count = 1;
            for (int k = 0; k < rank; k++)
                count *= (size_t)shape[k];
            if (resize->stage_count > 1 && count > resize->between)
                resize->between = count;
            *stage = (struct resize_stage){i, 1, 1, {0}, {0}};
            for (int k = 0; k < rank; k++)
                *(k < i ? &stage->outer : &stage->inner) *= k == i ? 1 : (size_t)shape[k];
            shape[i] = axes[i].out;
        }
}

/* Returns the number of weights of an axis. */
static size_t resize_weight_count(const struct resize_rule *rule, const struct resize_axis *axis)
{
    size_t count = 0;
    int64_t first;
    for (int64_t at = 0; at < axis->out; at++)
        count += resize_span(rule, axis, at, &first);
    return count;
}

/* Takes memory for a band from *memory. */
static void resize_band(struct net_band *band, int64_t rows, int64_t columns, size_t count,
                        char **memory)
{
    *band = (struct net_band){.rows = rows, .columns = columns};
    band->weights = (double *)*memory;
    *memory += count * sizeof(double);
    band->first = (int64_t *)*memory;
    *memory += (size_t)rows * sizeof(int64_t);
    band->start = (size_t *)*memory;
    *memory += ((size_t)rows + 1) * sizeof(size_t);
}

static void resize_fill(const struct resize_rule *rule, const struct resize_axis *axis,
                        const struct net_band *band)
{
    int64_t *first = (int64_t *)band->first;
    size_t *start = (size_t *)band->start;
    for (int64_t row = 0; row < band->rows; row++) {
        start[row + 1] = start[row] + resize_span(rule, axis, row, &first[row]);
        resize_weights(rule, axis, row, (double *)band->weights + start[row]);
    }
}

/* Since positions rise or fall with the rows, those that take from one column are neighbours.
   Returns false if not. */
static bool resize_transpose(const struct net_band *band, const struct net_band *transposed)
{
    int64_t *first = (int64_t *)transposed->first;
    size_t *start = (size_t *)transposed->start;
    double *weights = (double *)transposed->weights;
    for (int64_t row = 0; row < band->rows; row++)
        for (size_t i = band->start[row]; i < band->start[row + 1]; i++) {
            int64_t column = band->first[row] + (int64_t)(i - band->start[row]);
            size_t *seen = &start[column + 1];
            first[column] = *seen ? first[column] : row;
            if (row - first[column] != (int64_t)*seen)
                return false;
            ++*seen;
        }
    for (int64_t column = 0; column < transposed->rows; column++)
        start[column + 1] += start[column];
    for (int64_t row = 0; row < band->rows; row++)
        for (size_t i = band->start[row]; i < band->start[row + 1]; i++) {
            int64_t column = band->first[row] + (int64_t)(i - band->start[row]);
            weights[start[column] + (size_t)(row - first[column])] = band->weights[i];
        }
    return true;
}

static int resize_prepare(struct net_call *call, const struct resize_rule *rule,
                          const struct resize_axis *axes, struct ivon_error *error)
{
    struct resize layout = {.rule = *rule};
    size_t counts[IVON_RANK_MAX] = {0}, size = sizeof layout;
    const struct net_tensor *input = call->inputs[0];
    layout.extrapolation = (float)net_attribute_number(call->node, "extrapolation_value", 0);
    if (input->count && call->outputs[0]->count)
        resize_order(&layout, axes, input->rank);
    for (int i = 0; i < layout.stage_count; i++) {
        const struct resize_axis *axis = &axes[layout.stages[i].axis];
        counts[i] = resize_weight_count(rule, axis);
        if (counts[i] > SIZE_MAX / 1024 || (size_t)axis->in > SIZE_MAX / 1024)
            return net_fail(call, error, "axis %d is too large", layout.stages[i].axis);
        size += 2 * (counts[i] + (size_t)axis->in + (size_t)axis->out + 1) * sizeof(double);
    }
    struct resize *resize = net_prepare(call, size, error);
    if (!resize)
        return IVON_ERROR_MEMORY;
    *resize = layout;
    char *memory = (char *)(resize + 1);
    for (int i = 0; i < resize->stage_count; i++) {
        struct resize_stage *stage = &resize->stages[i];
        const struct resize_axis *axis = &axes[stage->axis];
        resize_band(&stage->band, axis->out, axis->in, counts[i], &memory);
        resize_band(&stage->transposed, axis->in, axis->out, counts[i], &memory);
        resize_fill(rule, axis, &stage->band);
        if (!resize_transpose(&stage->band, &stage->transposed))
            return net_fail(call, error, "axis %d has positions in no order", stage->axis);
    }
    return 0;
}

static int resize_infer_of(struct net_call *call, struct resize_inputs inputs, bool old,
                           struct ivon_error *error)
{
    const struct net_tensor *input = call->inputs[0];
    struct resize_rule rule;
    struct resize_axis axes[IVON_RANK_MAX] = {0};
    int64_t shape[IVON_RANK_MAX] = {0};
    int code = resize_read_rule(call, old, &rule, error);
    if (!code)
        code = resize_read_axes(call, inputs, &rule, axes, error);
    if (code)
        return code;
    if (input->type != NET_FLOAT && rule.mode != RESIZE_NEAREST)
        return net_fail(call, error, "an input of type %s, expected float but for mode nearest",
                        net_type_name(input->type));
    for (int i = 0; i < input->rank; i++)
        shape[i] = axes[i].out;
    code = net_output_made(call, 0, input->type, input->rank, shape, input->count, error);
    if (!code)
        code = resize_prepare(call, &rule, axes, error);
    if (code)
        return code;
    const struct resize *resize = call->prepared;
    call->alias = !resize->stage_count && net_same_shape(input, call->outputs[0]);
    call->workspace_size = input->type == NET_FLOAT ? 2 * resize->between * sizeof(float)
                                                    : net_table_copy_size(call->outputs[0]);
    return 0;
}

static int resize_infer(struct net_call *call, struct ivon_error *error)
{
    return resize_infer_of(call, (struct resize_inputs){1, 2, 3}, false, error);
}

/* Resize of opset 10 and Upsample: positions o/s; the nearest element is the next lower one, or
   where an axis becomes shorter the next higher one. */
static int resize_infer_old(struct net_call *call, struct ivon_error *error)
{
    return resize_infer_of(call, (struct resize_inputs){0, 1, 0}, true, error);
}

/* The scales are an attribute. */
static int upsample_infer(struct net_call *call, struct ivon_error *error)
{
    return resize_infer_of(call, (struct resize_inputs){0, 0, 0}, true, error);
}

/* Running. */

static void resize_run(const struct net_call *call, const float *in, float *out)
{
    const struct resize *resize = call->prepared;
    float *between[2] = {call->workspace, (float *)call->workspace + resize->between};
    if (!resize->stage_count && call->outputs[0]->count)
        memcpy(out, in, call->outputs[0]->count * sizeof *out);
    for (int i = 0; i < resize->stage_count; i++) {
        const struct resize_stage *stage = &resize->stages[i];
        float *to = i + 1 < resize->stage_count ? between[i % 2] : out;
        net_band_run(&stage->band, to, in, stage->outer, stage->inner, false);
        in = to;
    }
}

/* Sets the elements whose positions are outside a crop. */
static void resize_extrapolate(const struct net_call *call)
{
    const struct resize *resize = call->prepared;
    const struct net_tensor *output = call->outputs[0];
    float *out = output->data;
    for (int i = 0; i < resize->stage_count && resize->rule.coordinates == RESIZE_TF_CROP; i++) {
        const struct net_band *band = &resize->stages[i].band;
        size_t inner = 1, rows = (size_t)band->rows;
        for (int k = resize->stages[i].axis + 1; k < output->rank; k++)
            inner *= (size_t)output->shape[k];
        for (size_t n = 0; n < output->count; n++) {
            size_t row = n / inner % rows;
            if (band->start[row] == band->start[row + 1])
                out[n] = resize->extrapolation;
        }
    }
}

static int64_t resize_source(const void *context, int axis, int64_t at)
{
    const struct resize *resize = context;
    for (int i = 0; i < resize->stage_count; i++) {
        const struct net_band *band = &resize->stages[i].band;
        if (resize->stages[i].axis == axis)
            return band->start[at] == band->start[at + 1] ? -1 : band->first[at];
    }
    return at;
}

static int resize_forward(const struct net_call *call, struct ivon_error *error)
{
    (void)error;
    const struct resize *resize = call->prepared;
    const struct net_tensor *input = call->inputs[0], *output = call->outputs[0];
    struct net_table_copy copy;
    if (input->type == NET_FLOAT) {
        resize_run(call, input->data, output->data);
        resize_extrapolate(call);
        return 0;
    }
    int64_t integer = (int64_t)fmaxf(fminf(resize->extrapolation, 0x1p62F), -0x1p62F);
    uint8_t boolean = resize->extrapolation != 0;
    net_table_copy_begin(&copy, input, output, call->workspace, resize_source, resize);
    net_table_copy_run(&copy, input->type, output->data, input->data,
                       input->type == NET_INTEGER ? (const void *)&integer
                                                  : (const void *)&boolean);
    return 0;
}

static void resize_tangent(const struct net_call *call, const float *const *input_tangents,
                           float *const *output_tangents)
{
    if (input_tangents[0])
        resize_run(call, input_tangents[0], output_tangents[0]);
    else
        memset(output_tangents[0], 0, call->outputs[0]->count * sizeof(float));
}

static void resize_backward(const struct net_call *call, const float *const *output_adjoints,
                            float *const *input_adjoints)
{
    const struct resize *resize = call->prepared;
    float *between[2] = {call->workspace, (float *)call->workspace + resize->between};
    const float *from = output_adjoints[0];
    float *to = input_adjoints[0];
    if (!from || !to)
        return;
    for (size_t i = 0; i < call->outputs[0]->count && !resize->stage_count; i++)
        to[i] += from[i];
    for (int i = resize->stage_count; i-- > 0;) {
        const struct resize_stage *stage = &resize->stages[i];
        float *next = i ? between[i % 2] : to;
        net_band_run(&stage->transposed, next, from, stage->outer, stage->inner, !i);
        from = next;
    }
}

/* Not along the examples. */
static bool resize_separable(const struct net_call *tile, const struct net_call *example)
{
    const struct resize *resize = tile->prepared;
    int axis = net_example_axis(tile->inputs[0], example->inputs[0]);
    for (int i = 0; i < resize->stage_count; i++)
        if (resize->stages[i].axis == axis)
            return false;
    return true;
}

#define RESIZE                                                                                     \
    .outputs_max = 1, .forward = resize_forward, .backward = resize_backward,                      \
    .tangent = resize_tangent, .separable = resize_separable
#define RESIZE_MODES(...)                                                                          \
    .attributes = {{"coordinate_transformation_mode", NET_TEXT},                                   \
                   {"cubic_coeff_a", NET_FLT},                                                     \
                   {"exclude_outside", NET_INT},                                                   \
                   {"extrapolation_value", NET_FLT},                                               \
                   {"mode", NET_TEXT},                                                             \
                   {"nearest_mode", NET_TEXT},                                                     \
                   __VA_ARGS__}

const struct net_operator net_resize_operators[] = {
    {.name = "Upsample",
     .since = 1,
     .inputs_min = 1,
     .inputs_max = 1,
     .attributes = {{"mode", NET_TEXT}, {"scales", NET_FLTS}},
     .infer = upsample_infer,
     RESIZE},
    {.name = "Upsample",
     .since = 9,
     .inputs_min = 2,
     .inputs_max = 2,
     .planned = 1U << 1,
     .attributes = {{"mode", NET_TEXT}},
     .infer = resize_infer_old,
     RESIZE},
    {.name = "Resize",
     .since = 10,
     .inputs_min = 2,
     .inputs_max = 2,
     .planned = 1U << 1,
     .attributes = {{"mode", NET_TEXT}},
     .infer = resize_infer_old,
     RESIZE},
    {.name = "Resize",
     .since = 11,
     .inputs_min = 1,
     .inputs_max = 4,
     .planned = 1U << 1 | 1U << 2,
     RESIZE_MODES({0}),
     .infer = resize_infer,
     RESIZE},
    {.name = "Resize",
     .since = 18,
     .inputs_min = 1,
     .inputs_max = 4,
     .planned = 1U << 1 | 1U << 2,
     RESIZE_MODES({"antialias", NET_INT}, {"axes", NET_INTS},
                  {"keep_aspect_ratio_policy", NET_TEXT}),
     .infer = resize_infer,
     RESIZE},
    {0}};
