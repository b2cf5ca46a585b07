/* Normalizations by rows (ops/normalize/rows.h), what their rows are; and the functions that all
   normalizations share. */
#include "net/ops/normalize/normalize.h"

#include <inttypes.h>
#include <string.h>

#include "net/graph/rules.h"
#include "net/ops/normalize/rows.h"

int net_expect_channels(const struct net_call *call, size_t input, struct ivon_error *error)
{
    char found[256], expected[256];
    int code = net_expect_float(call, input, error);
    const struct net_tensor *x = call->inputs[0], *vector = call->inputs[input];
    if (!code && (vector->rank != 1 || vector->shape[0] != x->shape[1]))
        return net_fail(call, error, "input %zu of shape %s, for channels of an input of shape %s",
                        input, net_shape_text(vector, found), net_shape_text(x, expected));
    return code;
}

int net_expect_rank(const struct net_call *call, int least, struct ivon_error *error)
{
    char text[256];
    int code = net_expect_float(call, 0, error);
    if (!code && call->inputs[0]->rank < least)
        return net_fail(call, error, "input of shape %s, expected at least %d dimensions",
                        net_shape_text(call->inputs[0], text), least);
    return code;
}

size_t net_plane(const struct net_tensor *x)
{
    return x->count ? x->count / (size_t)x->shape[0] / (size_t)x->shape[1] : 0;
}

enum { SCALE = 1, BIAS };

static double epsilon_of(const struct net_call *call)
{
    return net_attribute_number(call->node, "epsilon", (double)1e-5F);
}

/*
 * LayerNormalization, of the axes from `axis` on, by mean and deviation; RMSNormalization and
 * SimplifiedLayerNormalization by the root of the mean square. scale and b have the shape of these
 * axes. Output `first` and those behind it have an element for each row.
 */
static int infer_trailing(struct net_call *call, enum rows_measure measure,
                          struct ivon_error *error)
{
    int code = net_expect_rank(call, 1, error);
    if (code)
        return code;
    const struct net_tensor *x = call->inputs[0];
    int64_t given = net_attribute_integer(call->node, "axis", -1), shape[IVON_RANK_MAX];
    int axis = net_axis(given, x->rank);
    char found[256], expected[256];
    if (axis < 0)
        return net_fail(call, error, "axis %" PRId64 " of an input of shape %s", given,
                        net_shape_text(x, expected));
    struct net_tensor row = {.type = NET_FLOAT};
    code = net_tensor_set(&row, NET_FLOAT, x->rank - axis, x->shape + axis, error);
    for (size_t i = SCALE; i <= (net_input(call, BIAS) ? BIAS : SCALE) && !code; i++) {
        code = net_expect_float(call, i, error);
        if (!code && !net_same_shape(call->inputs[i], &row))
            return net_fail(call, error, "input %zu of shape %s, expected %s", i,
                            net_shape_text(call->inputs[i], found), net_shape_text(&row, expected));
    }
    for (int i = 0; i < x->rank; i++)
        shape[i] = i < axis ? x->shape[i] : 1;
    for (size_t i = 0; i < call->node->output_count && !code; i++)
        code = net_output(call, i, NET_FLOAT, x->rank, i ? shape : x->shape, error);
    if (code)
        return code;
    size_t count = row.count ? x->count / row.count : 0;
    for (size_t i = 1; i < call->node->output_count; i++)
        if (call->outputs[i])
            count = call->outputs[i]->count; /* rows without elements have moments too: NaN */
    struct net_rows *rows;
    code = net_rows_prepare(call, count, row.count, false, &rows, error);
    if (code)
        return code;
    rows->measure = measure;
    rows->epsilon = epsilon_of(call);
    rows->scale = SCALE;
    rows->bias = net_input(call, BIAS) ? BIAS : NET_NONE;
    rows->mean = measure == ROWS_DEVIATION ? 1 : NET_NONE;
    rows->inverse = measure == ROWS_DEVIATION ? 2 : 1;
    return 0;
}

static int infer_layer(struct net_call *call, struct ivon_error *error)
{
    return infer_trailing(call, ROWS_DEVIATION, error);
}

static int infer_root_mean(struct net_call *call, struct ivon_error *error)
{
    return infer_trailing(call, ROWS_ROOT_MEAN, error);
}

/*
 * InstanceNormalization, of each channel of each image, and GroupNormalization, of groups of
 * neighbouring channels. scale and b have an element for each channel; for each group before
 * opset 21.
 */
static int infer_channels(struct net_call *call, size_t groups, size_t operands,
                          struct ivon_error *error)
{
    const struct net_tensor *x = call->inputs[0];
    size_t plane = net_plane(x), channels = (size_t)x->shape[1];
    int code = net_tensor_set(call->outputs[0], NET_FLOAT, x->rank, x->shape, error);
    if (code)
        return code;
    size_t length = groups ? channels / groups * plane : 0;
    struct net_rows *rows;
    code = net_rows_prepare(call, length ? x->count / length : 0, length, false, &rows, error);
    if (code)
        return code;
    rows->measure = ROWS_DEVIATION;
    rows->epsilon = epsilon_of(call);
    rows->scale = SCALE;
    rows->bias = BIAS;
    rows->cycle = groups ? groups : 1;
    rows->segment = length ? length / (operands / groups) : 1;
    return 0;
}

static int infer_instance(struct net_call *call, struct ivon_error *error)
{
    int code = net_expect_rank(call, 3, error);
    for (size_t i = SCALE; i <= BIAS && !code; i++)
        code = net_expect_channels(call, i, error);
    size_t channels = code ? 0 : (size_t)call->inputs[0]->shape[1];
    return code ? code : infer_channels(call, channels, channels, error);
}

static int read_groups(const struct net_call *call, size_t *groups, struct ivon_error *error)
{
    int code = net_expect_rank(call, 2, error);
    if (code)
        return code;
    char text[256];
    int64_t channels = call->inputs[0]->shape[1];
    int64_t given = net_attribute_integer(call->node, "num_groups", 0);
    if (given < 1 || channels % given)
        return net_fail(call, error,
                        "num_groups is %" PRId64 ", for channels of an input of shape "
                        "%s",
                        given, net_shape_text(call->inputs[0], text));
    *groups = (size_t)given;
    return 0;
}

static int infer_group(struct net_call *call, struct ivon_error *error)
{
    size_t groups = 0;
    int code = read_groups(call, &groups, error);
    for (size_t i = SCALE; i <= BIAS && !code; i++)
        code = net_expect_channels(call, i, error);
    return code ? code : infer_channels(call, groups, (size_t)call->inputs[0]->shape[1], error);
}

static int infer_old_group(struct net_call *call, struct ivon_error *error)
{
    size_t groups = 0;
    char text[256];
    int code = read_groups(call, &groups, error);
    for (size_t i = SCALE; i <= BIAS && !code; i++) {
        code = net_expect_float(call, i, error);
        if (!code && (call->inputs[i]->rank != 1 || call->inputs[i]->count != groups))
            return net_fail(call, error, "input %zu of shape %s, for %zu groups", i,
                            net_shape_text(call->inputs[i], text), groups);
    }
    return code ? code : infer_channels(call, groups, groups, error);
}

/*
 * MeanVarianceNormalization, of any axes, and LpNormalization, of one: rows whose elements do not
 * lie one after the other. `chosen` are the axes.
 */
static int infer_axes(struct net_call *call, const bool *chosen, enum rows_measure measure,
                      double epsilon, struct ivon_error *error)
{
    const struct net_tensor *x = call->inputs[0];
    int code = net_tensor_set(call->outputs[0], NET_FLOAT, x->rank, x->shape, error);
    size_t length = x->count ? 1 : 0;
    for (int i = 0; i < x->rank && x->count; i++)
        length *= chosen[i] ? (size_t)x->shape[i] : 1;
    if (code)
        return code;
    size_t count = length ? x->count / length : 0;
    struct net_rows *rows;
    code = net_rows_prepare(call, count, length, true, &rows, error);
    if (code)
        return code;
    rows->measure = measure;
    rows->epsilon = epsilon;
    for (int list = 0; list < 2; list++) {
        size_t *places = list ? rows->element : rows->first, size = list ? length : count;
        for (size_t i = 0; i < size; i++) {
            size_t rest = i, place = 0, stride = 1;
            for (int axis = x->rank; axis-- > 0; stride *= (size_t)x->shape[axis])
                if (chosen[axis] == (list == 1)) {
                    place += rest % (size_t)x->shape[axis] * stride;
                    rest /= (size_t)x->shape[axis];
                }
            places[i] = place;
        }
    }
    return 0;
}

static int infer_mean_variance(struct net_call *call, struct ivon_error *error)
{
    static const int64_t usual[] = {0, 2, 3};
    bool chosen[IVON_RANK_MAX] = {false};
    char text[256];
    size_t count = 3;
    int code = net_expect_rank(call, 1, error);
    const int64_t *axes = net_attribute_integers(call->node, "axes", &count);
    if (code)
        return code;
    count = axes ? count : 3;
    for (size_t i = 0; i < count; i++) {
        int64_t given = axes ? axes[i] : usual[i];
        int axis = net_axis(given, call->inputs[0]->rank);
        if (axis < 0)
            return net_fail(call, error, "axis %" PRId64 " of an input of shape %s", given,
                            net_shape_text(call->inputs[0], text));
        chosen[axis] = true;
    }
    return infer_axes(call, chosen, ROWS_DEVIATION_PLUS, 1e-9, error);
}

static int infer_lp_normalization(struct net_call *call, struct ivon_error *error)
{
    bool chosen[IVON_RANK_MAX] = {false};
    char text[256];
    int code = net_expect_rank(call, 1, error);
    if (code)
        return code;
    int64_t given = net_attribute_integer(call->node, "axis", -1);
    int64_t p = net_attribute_integer(call->node, "p", 2);
    int axis = net_axis(given, call->inputs[0]->rank);
    if (axis < 0)
        return net_fail(call, error, "axis %" PRId64 " of an input of shape %s", given,
                        net_shape_text(call->inputs[0], text));
    if (p != 1 && p != 2)
        return net_fail(call, error, "p is %" PRId64 ", expected 1 or 2", p);
    chosen[axis] = true;
    return infer_axes(call, chosen, p == 1 ? ROWS_SUM : ROWS_LENGTH, 0, error);
}

const struct net_operator net_normalize_operators[] = {
    {.name = "GroupNormalization",
     .since = 18, /* scale and bias of groups */
     .inputs_min = 3,
     .inputs_max = 3,
     .outputs_max = 1,
     .weights = 1U << SCALE | 1U << BIAS,
     .attributes = {{"epsilon", NET_FLT}, {"num_groups", NET_INT}},
     .infer = infer_old_group,
     NET_ROWS_FUNCTIONS},
    {.name = "GroupNormalization",
     .since = 21,
     .inputs_min = 3,
     .inputs_max = 3,
     .outputs_max = 1,
     .weights = 1U << SCALE | 1U << BIAS,
     .attributes = {{"epsilon", NET_FLT}, {"num_groups", NET_INT}, {"stash_type", NET_INT}},
     .infer = infer_group,
     NET_ROWS_FUNCTIONS},
    {.name = "InstanceNormalization",
     .since = 1,
     .inputs_min = 3,
     .inputs_max = 3,
     .outputs_max = 1,
     .weights = 1U << SCALE | 1U << BIAS,
     .attributes = {{"epsilon", NET_FLT}},
     .infer = infer_instance,
     NET_ROWS_FUNCTIONS},
    {.name = "LayerNormalization",
     .since = 17,
     .inputs_min = 2,
     .inputs_max = 3,
     .outputs_max = 3,
     .weights = 1U << SCALE | 1U << BIAS,
     .flags = NET_EARLIER,
     .attributes = {{"axis", NET_INT}, {"epsilon", NET_FLT}, {"stash_type", NET_INT}},
     .infer = infer_layer,
     NET_ROWS_FUNCTIONS},
    {.name = "LpNormalization",
     .since = 1,
     .inputs_min = 1,
     .inputs_max = 1,
     .outputs_max = 1,
     .attributes = {{"axis", NET_INT}, {"p", NET_INT}},
     .infer = infer_lp_normalization,
     NET_ROWS_FUNCTIONS},
    {.name = "MeanVarianceNormalization",
     .since = 9,
     .inputs_min = 1,
     .inputs_max = 1,
     .outputs_max = 1,
     .flags = NET_OVER_AXES,
     .attributes = {{"axes", NET_INTS}},
     .infer = infer_mean_variance,
     NET_ROWS_FUNCTIONS},
    {.name = "RMSNormalization",
     .since = 23,
     .inputs_min = 2,
     .inputs_max = 2,
     .outputs_max = 1,
     .weights = 1U << SCALE,
     .attributes = {{"axis", NET_INT}, {"epsilon", NET_FLT}, {"stash_type", NET_INT}},
     .infer = infer_root_mean,
     NET_ROWS_FUNCTIONS},
    /* ONNX Runtime's; it writes the first one into ONNX's own domain, whatever the opset. */
    {.name = "SimplifiedLayerNormalization",
     .since = 23,
     .inputs_min = 2,
     .inputs_max = 2,
     .outputs_max = 2,
     .weights = 1U << SCALE,
     .flags = NET_EARLIER,
     .attributes = {{"axis", NET_INT}, {"epsilon", NET_FLT}, {"stash_type", NET_INT}},
     .infer = infer_root_mean,
     NET_ROWS_FUNCTIONS},
    {.domain = "com.microsoft",
     .name = "SimplifiedLayerNormalization",
     .since = 1,
     .inputs_min = 2,
     .inputs_max = 2,
     .outputs_max = 2,
     .weights = 1U << SCALE,
     .attributes = {{"axis", NET_INT}, {"epsilon", NET_FLT}, {"stash_type", NET_INT}},
     .infer = infer_root_mean,
     NET_ROWS_FUNCTIONS},
    {0}};
