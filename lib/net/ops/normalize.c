/* Normalization by statistics of each example: LayerNormalization, InstanceNormalization; and the
   functions that all normalizations share. */
#include "net/ops/normalize.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "core/dispatch.h"
#include "net/ops/sum.h"

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

/*
 * LayerNormalization, of the last axes, and InstanceNormalization, of each channel of each image:
 * rows of n elements, y = x̂ scale + b with x̂ = (x − mean) r, mean and r = 1/sqrt(var + epsilon)
 * of the row itself; scale and b have an element for each element of a row, or for each channel.
 */
struct rows {
    size_t count, length;
    size_t channels; /* 0: scale and b are rows */
};

static int prepare_rows(struct net_call *call, size_t count, size_t length, size_t channels,
                        struct ivon_error *error)
{
    struct rows *rows = net_prepare(call, sizeof *rows, error);
    if (!rows)
        return IVON_ERROR_MEMORY;
    *rows = (struct rows){count, length, channels};
    if (length > SIZE_MAX / 4 / sizeof(double))
        return net_fail(call, error, "its rows are too large");
    call->workspace_size = 3 * length * sizeof(double); /* sums of two adjoints, scale and b */
    return 0;
}

static bool has_bias(const struct net_call *call)
{
    return call->node->input_count > BIAS && call->inputs[BIAS];
}

static int infer_layer(struct net_call *call, struct ivon_error *error)
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
    for (size_t i = SCALE; i <= (has_bias(call) ? BIAS : SCALE) && !code; i++) {
        code = net_expect_float(call, i, error);
        const struct net_tensor *vector = call->inputs[i];
        if (!code && (vector->rank != row.rank ||
                      memcmp(vector->shape, row.shape, (size_t)row.rank * sizeof *row.shape) != 0))
            return net_fail(call, error, "input %zu of shape %s, expected %s", i,
                            net_shape_text(vector, found), net_shape_text(&row, expected));
    }
    for (int i = 0; i < x->rank; i++)
        shape[i] = i < axis ? x->shape[i] : 1;
    for (size_t i = 0; i < call->node->output_count && !code; i++)
        if (call->outputs[i])
            code = net_tensor_set(call->outputs[i], NET_FLOAT, x->rank, i ? shape : x->shape,
                                  error);
    if (code)
        return code;
    size_t count = row.count ? x->count / row.count : 0;
    for (size_t i = 1; i < call->node->output_count; i++)
        if (call->outputs[i])
            count = call->outputs[i]->count; /* rows without elements have moments too: NaN */
    return prepare_rows(call, count, row.count, 0, error);
}

static int infer_instance(struct net_call *call, struct ivon_error *error)
{
    int code = net_expect_rank(call, 3, error);
    for (size_t i = SCALE; i <= BIAS && !code; i++)
        code = net_expect_channels(call, i, error);
    if (code)
        return code;
    const struct net_tensor *x = call->inputs[0];
    code = net_tensor_set(call->outputs[0], NET_FLOAT, x->rank, x->shape, error);
    size_t plane = net_plane(x), channels = (size_t)x->shape[1];
    return code ? code : prepare_rows(call, plane ? x->count / plane : 0, plane, channels, error);
}

static void moments(const struct net_call *call, const float *x, double *mean, double *inverse)
{
    const struct rows *rows = call->prepared;
    double n = (double)rows->length;
    *mean = net_sum(x, rows->length) / n;
    *inverse = 1 / sqrt(net_sum_squares(x, *mean, rows->length) / n +
                        net_attribute_number(call->node, "epsilon", (double)1e-5F));
}

/* Returns an operand's values for the elements of a row; b is zero if it is left out. */
static const float *row_operand(const struct net_call *call, size_t input, size_t row)
{
    const struct rows *rows = call->prepared;
    bool present = input != BIAS || has_bias(call);
    const float *values = present ? call->inputs[input]->data : NULL;
    if (present && !rows->channels)
        return values;
    float *expanded = (float *)((double *)call->workspace + 2 * rows->length) +
                      (input == BIAS ? rows->length : 0);
    for (size_t i = 0; i < rows->length; i++)
        expanded[i] = present ? values[row % rows->channels] : 0;
    return expanded;
}

IVON_DISPATCH static void normalize_row(float *y, const float *x, double mean, double inverse,
                                        const float *scale, const float *bias, size_t count)
{
    for (size_t i = 0; i < count; i++)
        y[i] = (float)(((double)x[i] - mean) * inverse) * scale[i] + bias[i];
}

/* The outputs: y, and of LayerNormalization each row's mean and r, where they are wanted. */
enum { Y, MEAN, INVERSE, OUTPUTS };

/* Returns an output's array from the arrays of a node's outputs; null if there is no such
   output. */
static float *output_array(const struct net_call *call, float *const *arrays, size_t output)
{
    return output < call->node->output_count ? arrays[output] : NULL;
}

static int forward_rows(const struct net_call *call, struct ivon_error *error)
{
    (void)error;
    const struct rows *rows = call->prepared;
    const float *x = call->inputs[0]->data;
    float *outputs[OUTPUTS] = {call->outputs[Y]->data};
    for (size_t i = 1; i < call->node->output_count; i++)
        outputs[i] = call->outputs[i] ? call->outputs[i]->data : NULL;
    for (size_t row = 0; row < rows->count; row++, x += rows->length) {
        double mean, inverse;
        moments(call, x, &mean, &inverse);
        normalize_row(outputs[Y] + row * rows->length, x, mean, inverse,
                      row_operand(call, SCALE, row), row_operand(call, BIAS, row), rows->length);
        if (outputs[MEAN])
            outputs[MEAN][row] = (float)mean;
        if (outputs[INVERSE])
            outputs[INVERSE][row] = (float)inverse;
    }
    return 0;
}

/* Adds the adjoints of mean and r: ∂mean/∂x_i = 1/n and ∂r/∂x_i = −r² x̂_i/n. */
static void normalize_add_moments(const struct net_call *call, size_t row, double mean_adjoint,
                                  double inverse_adjoint, float *dx)
{
    const struct rows *rows = call->prepared;
    const float *x = (const float *)call->inputs[0]->data + row * rows->length;
    double mean, inverse, n = (double)rows->length;
    moments(call, x, &mean, &inverse);
    dx += row * rows->length;
    for (size_t i = 0; i < rows->length; i++)
        dx[i] += (float)((mean_adjoint -
                          inverse_adjoint * inverse * inverse * inverse * ((double)x[i] - mean)) /
                         n);
}

/*
 * With g = dy scale: dx += r (g − mean(g) − x̂ mean(g x̂)); adds dy x̂ and dy to the sums for scale
 * and b.
 */
static void normalize_add_row(const struct net_call *call, size_t row, const float *dy, float *dx,
                              double *scale_sums, double *bias_sums)
{
    const struct rows *rows = call->prepared;
    const float *x = (const float *)call->inputs[0]->data + row * rows->length;
    const float *scale = row_operand(call, SCALE, row);
    double mean, inverse, sum = 0, moment = 0, n = (double)rows->length;
    moments(call, x, &mean, &inverse);
    dy += row * rows->length;
    for (size_t i = 0; i < rows->length; i++) {
        double normal = ((double)x[i] - mean) * inverse, g = (double)dy[i] * (double)scale[i];
        sum += g;
        moment += g * normal;
        scale_sums[i] += (double)dy[i] * normal;
        bias_sums[i] += (double)dy[i];
    }
    for (size_t i = 0; dx && i < rows->length; i++) {
        double normal = ((double)x[i] - mean) * inverse, g = (double)dy[i] * (double)scale[i];
        dx[row * rows->length + i] += (float)(inverse * (g - sum / n - normal * moment / n));
    }
}

/* Adds the sums to an operand's adjoint and clears them. */
static void flush_sums(const struct rows *rows, size_t row, double *sums, float *adjoint)
{
    double total = 0;
    for (size_t i = 0; i < rows->length; i++) {
        if (adjoint && !rows->channels)
            adjoint[i] += (float)sums[i];
        total += sums[i];
        sums[i] = 0;
    }
    if (adjoint && rows->channels)
        adjoint[row % rows->channels] += (float)total;
}

static void backward_rows(const struct net_call *call, const float *const *output_adjoints,
                          float *const *input_adjoints)
{
    const struct rows *rows = call->prepared;
    double *scale_sums = call->workspace, *bias_sums = scale_sums + rows->length;
    float *const *adjoints = (float *const *)output_adjoints;
    const float *mean_adjoint = output_array(call, adjoints, MEAN);
    const float *inverse_adjoint = output_array(call, adjoints, INVERSE);
    for (size_t row = 0;
         input_adjoints[0] && (mean_adjoint || inverse_adjoint) && row < rows->count; row++)
        normalize_add_moments(call, row, mean_adjoint ? (double)mean_adjoint[row] : 0,
                              inverse_adjoint ? (double)inverse_adjoint[row] : 0,
                              input_adjoints[0]);
    if (!output_adjoints[Y] || !rows->length)
        return;
    memset(scale_sums, 0, 2 * rows->length * sizeof *scale_sums);
    for (size_t row = 0; row < rows->count; row++) {
        normalize_add_row(call, row, output_adjoints[Y], input_adjoints[0], scale_sums, bias_sums);
        if (!rows->channels && row + 1 < rows->count)
            continue;
        flush_sums(rows, row, scale_sums, input_adjoints[SCALE]);
        flush_sums(rows, row, bias_sums, has_bias(call) ? input_adjoints[BIAS] : NULL);
    }
}

static void tangent_rows(const struct net_call *call, const float *const *input_tangents,
                         float *const *output_tangents)
{
    const struct rows *rows = call->prepared;
    const float *x = call->inputs[0]->data, *x_tangent = input_tangents[0];
    const float *scale_tangent = input_tangents[SCALE];
    const float *bias_tangent = has_bias(call) ? input_tangents[BIAS] : NULL;
    float *y = output_tangents[Y];
    float *mean_tangent = output_array(call, output_tangents, MEAN);
    float *inverse_tangent = output_array(call, output_tangents, INVERSE);
    size_t length = rows->length;
    for (size_t row = 0; row < rows->count; row++, x += length) {
        const float *scale = row_operand(call, SCALE, row);
        double mean, inverse, n = (double)length;
        moments(call, x, &mean, &inverse);
        double sum = x_tangent ? net_sum(x_tangent, length) : 0;
        double moment = x_tangent ? (net_sum_products(x_tangent, x, length) - mean * sum) * inverse
                                  : 0;
        if (mean_tangent)
            mean_tangent[row] = (float)(sum / n);
        if (inverse_tangent)
            inverse_tangent[row] = (float)(-inverse * inverse * moment / n);
        for (size_t i = 0; y && i < length; i++) {
            size_t at = rows->channels ? row % rows->channels : i;
            double normal = ((double)x[i] - mean) * inverse;
            double change = x_tangent ? (double)x_tangent[i] - sum / n - normal * moment / n : 0;
            y[row * length + i] = (float)((double)scale[i] * inverse * change +
                                          (scale_tangent ? normal * (double)scale_tangent[at] : 0) +
                                          (bias_tangent ? (double)bias_tangent[at] : 0));
        }
        if (x_tangent)
            x_tangent += length;
    }
}

const struct net_operator net_normalize_operators[] = {
    {.name = "InstanceNormalization",
     .since = 1,
     .inputs_min = 3,
     .inputs_max = 3,
     .outputs_max = 1,
     .attributes = {{"epsilon", NET_FLT}},
     .infer = infer_instance,
     .forward = forward_rows,
     .backward = backward_rows,
     .tangent = tangent_rows},
    {.name = "LayerNormalization",
     .since = 17,
     .inputs_min = 2,
     .inputs_max = 3,
     .outputs_max = 3,
     .flags = NET_EARLIER,
     .attributes = {{"axis", NET_INT}, {"epsilon", NET_FLT}, {"stash_type", NET_INT}},
     .infer = infer_layer,
     .forward = forward_rows,
     .backward = backward_rows,
     .tangent = tangent_rows},
    {0}};
