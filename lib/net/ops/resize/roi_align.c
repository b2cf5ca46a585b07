/* RoiAlign: regions of images, all brought to one size. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "net/graph/rules.h"
#include "net/ops/resize/sample.h"

/*
 * A region (x1, y1, x2, y2), in units of 1/spatial_scale, is cut into bins, and each bin sampled at
 * g × g positions, g = sampling_ratio, or one for each element where that is 0. A position up to 1
 * outside the image moves to its edge; farther outside, the sample is 0. A sample is bilinear. A
 * bin's output is the mean of its samples, or with the mode max the largest of the weighted
 * elements that make them up, as ONNX defines it.
 *
 * With half_pixel, positions are of the elements' centers; else a region has an extent of 1 at
 * least.
 */

struct roi {
    bool maximum, half_pixel;
    int64_t bins[2], ratio, extents[2]; /* height, width */
    double scale;
    size_t channels, elements;
};

/* One region along one axis. */
struct region {
    double start, size; /* of all bins */
    int64_t samples;    /* of one bin */
    bool clipped;       /* its size does not depend on its ends */
};

static int roi_read(const struct net_call *call, struct roi *roi, struct ivon_error *error)
{
    const struct net_tensor *input = call->inputs[0];
    const char *mode = net_attribute_text(call->node, "mode", "avg");
    bool old = call->node->op->since < 16;
    const char *pixels = net_attribute_text(call->node, "coordinate_transformation_mode",
                                            old ? "output_half_pixel" : "half_pixel");
    *roi = (struct roi){.maximum = *mode == 'm', .half_pixel = *pixels == 'h'};
    roi->bins[0] = net_attribute_integer(call->node, "output_height", 1);
    roi->bins[1] = net_attribute_integer(call->node, "output_width", 1);
    roi->ratio = net_attribute_integer(call->node, "sampling_ratio", 0);
    roi->scale = net_attribute_number(call->node, "spatial_scale", 1);
    if (strcmp(mode, "avg") != 0 && strcmp(mode, "max") != 0)
        return net_fail(call, error, "mode '%s', expected avg or max", mode);
    if (strcmp(pixels, "half_pixel") != 0 && strcmp(pixels, "output_half_pixel") != 0)
        return net_fail(call, error, "coordinate_transformation_mode '%s' is not supported",
                        pixels);
    if (roi->bins[0] < 1 || roi->bins[1] < 1 || roi->ratio < 0 || roi->ratio > INT16_MAX)
        return net_fail(call, error,
                        "an output of %" PRId64 " x %" PRId64 ", sampling_ratio %" PRId64,
                        roi->bins[0], roi->bins[1], roi->ratio);
    if (input->rank != 4)
        return net_fail(call, error, "an input of %d axes, expected 4", input->rank);
    memcpy(roi->extents, input->shape + 2, sizeof roi->extents);
    roi->channels = (size_t)input->shape[1];
    roi->elements = (size_t)input->shape[2] * (size_t)input->shape[3];
    return 0;
}

static int roi_infer(struct net_call *call, struct ivon_error *error)
{
    const struct net_tensor *input = call->inputs[0], *regions = call->inputs[1];
    const struct net_tensor *images = call->inputs[2];
    struct roi roi;
    int code = net_expect_float(call, 0, error);
    if (!code)
        code = net_expect_float(call, 1, error);
    if (!code)
        code = roi_read(call, &roi, error);
    if (code)
        return code;
    char a[256], b[256];
    if (regions->rank != 2 || regions->shape[1] != 4 || images->type != NET_INTEGER ||
        images->rank != 1 || images->shape[0] != regions->shape[0])
        return net_fail(call, error, "regions of shape %s, and %s of shape %s for their images",
                        net_shape_text(regions, a), net_type_name(images->type),
                        net_shape_text(images, b));
    if (!input->count)
        return net_fail(call, error, "an input of shape %s has no elements to sample",
                        net_shape_text(input, a));
    const int64_t shape[] = {regions->shape[0], input->shape[1], roi.bins[0], roi.bins[1]};
    call->workspace_size = roi.channels * (sizeof(double) + sizeof(int64_t));
    return net_output_made(call, 0, NET_FLOAT, 4, shape, input->count, error);
}

/* Axis 0 is the height. */
static struct region roi_region(const struct roi *roi, const float *ends, int axis)
{
    double offset = roi->half_pixel ? 0.5 : 0;
    double first = (double)ends[!axis] * roi->scale, last = (double)ends[2 + !axis] * roi->scale;
    struct region region = {.start = first - offset, .size = last - first};
    region.clipped = !roi->half_pixel && !(region.size >= 1);
    region.size = region.clipped ? 1 : region.size;
    double samples = ceil(region.size / (double)roi->bins[axis]);
    region.samples = roi->ratio                    ? roi->ratio
                     : samples > (double)INT16_MAX ? -1
                     : samples > 0                 ? (int64_t)samples
                                                   : 0; /* its ends are in the wrong order */
    return region;
}

/* Always two elements: also with weights of 0, of which the largest may be. */
static void roi_axis(const struct roi *roi, const struct region *region, int axis, int64_t bin,
                     int64_t at, struct sample_axis *taps)
{
    int64_t extent = roi->extents[axis];
    double part = (double)bin + ((double)at + 0.5) / (double)region->samples;
    double x = region->start + part * region->size / (double)roi->bins[axis];
    bool outside = !(x >= -1 && x <= (double)extent), moved = outside || x <= 0;
    x = moved ? 0 : x;
    int64_t low = (int64_t)x < extent ? (int64_t)x : extent - 1;
    moved |= low == extent - 1;
    double high = moved ? 0 : x - (double)low;
    *taps = (struct sample_axis){.taps = 2, .index = {low, low + (low < extent - 1)}};
    taps->weight[0] = outside ? 0 : 1 - high;
    taps->weight[1] = high;
    taps->slope[0] = moved ? 0 : -1;
    taps->slope[1] = moved ? 0 : 1;
}

static void roi_sample(const struct roi *roi, const struct region regions[2], const int64_t bin[2],
                       int64_t n, struct sample *sample)
{
    struct sample_axis axes[2];
    roi_axis(roi, &regions[0], 0, bin[0], n / regions[1].samples, &axes[0]);
    roi_axis(roi, &regions[1], 1, bin[1], n % regions[1].samples, &axes[1]);
    sample_combine(sample, axes, 2, roi->extents);
}

/* Sets the derivatives of a sample's position by the region's four ends, in their order. */
static void roi_ends(const struct roi *roi, const struct region regions[2], const int64_t bin[2],
                     int64_t n, double ends[4])
{
    for (int axis = 0; axis < 2; axis++) {
        int64_t at = axis ? n % regions[1].samples : n / regions[1].samples;
        double part = ((double)bin[axis] + ((double)at + 0.5) / (double)regions[axis].samples) /
                      (double)roi->bins[axis];
        ends[!axis] = roi->scale * (regions[axis].clipped ? 1 : 1 - part);
        ends[2 + !axis] = roi->scale * (regions[axis].clipped ? 0 : part);
    }
}

/* A bin of one region: what all passes go through. */
struct bin {
    const struct net_call *call;
    const struct roi *roi;
    struct region regions[2];
    int64_t at[2], samples;
    size_t region, image; /* of the rois; the first element of its image */
    size_t output;        /* of the first channel; the next is bins[0] * bins[1] behind it */
};

/* For each channel, the largest weighted element, and which it is: 4 n and more of sample n. Both
   lie in the workspace. */
static void roi_largest(const struct bin *bin)
{
    const struct roi *roi = bin->roi;
    const float *x = (const float *)bin->call->inputs[0]->data + bin->image;
    double *best = bin->call->workspace;
    int64_t *which = (int64_t *)(best + roi->channels);
    for (size_t c = 0; c < roi->channels; c++) {
        best[c] = bin->samples ? -INFINITY : 0;
        which[c] = 0;
    }
    for (int64_t n = 0; n < bin->samples; n++) {
        struct sample sample;
        roi_sample(roi, bin->regions, bin->at, n, &sample);
        for (size_t c = 0; c < roi->channels; c++)
            for (int i = 0; i < sample.points; i++) {
                double value = sample.weight[i] * (double)x[c * roi->elements + sample.offset[i]];
                if (value > best[c]) {
                    best[c] = value;
                    which[c] = 4 * n + i;
                }
            }
    }
}

/* Reduces a sample to its share of a mean, or to the one element that is the largest. */
static void roi_choose(const struct bin *bin, size_t c, int64_t n, struct sample *sample)
{
    const int64_t *which = (const int64_t *)((double *)bin->call->workspace + bin->roi->channels);
    for (int i = 0; i < sample->points; i++) {
        double share = bin->roi->maximum ? which[c] == 4 * n + i : 1 / (double)bin->samples;
        sample->weight[i] *= share;
        sample->slope[0][i] *= share;
        sample->slope[1][i] *= share;
    }
}

typedef void roi_step(const struct bin *bin, int64_t n, const struct sample *sample, size_t c,
                      const double ends[4], void *context);

/* Calls `step` for each bin's samples and channels, with the weights that count. */
static void roi_each_sample(const struct bin *bin, roi_step *step, void *context)
{
    if (bin->roi->maximum)
        roi_largest(bin);
    for (int64_t n = 0; n < bin->samples; n++) {
        struct sample sample;
        double ends[4];
        roi_sample(bin->roi, bin->regions, bin->at, n, &sample);
        roi_ends(bin->roi, bin->regions, bin->at, n, ends);
        for (size_t c = 0; c < bin->roi->channels; c++) {
            struct sample own = sample;
            roi_choose(bin, c, n, &own);
            step(bin, n, &own, c, ends, context);
        }
    }
}

typedef void roi_bin(const struct bin *bin, void *context);

static int roi_each_bin(const struct net_call *call, roi_bin *run, void *context,
                        struct ivon_error *error)
{
    struct roi roi;
    const int64_t *images = call->inputs[2]->data;
    int code = roi_read(call, &roi, error);
    for (size_t r = 0; r < call->inputs[2]->count && !code; r++) {
        const float *ends = (const float *)call->inputs[1]->data + 4 * r;
        struct bin bin = {.call = call, .roi = &roi, .region = r};
        if (images[r] < 0 || images[r] >= call->inputs[0]->shape[0])
            return net_fail(call, error, "image %" PRId64 " of %" PRId64, images[r],
                            call->inputs[0]->shape[0]);
        bin.image = (size_t)images[r] * roi.channels * roi.elements;
        for (int axis = 0; axis < 2; axis++)
            bin.regions[axis] = roi_region(&roi, ends, axis);
        if (bin.regions[0].samples < 0 || bin.regions[1].samples < 0)
            return net_fail(call, error, "region %zu is too large", r);
        bin.samples = bin.regions[0].samples * bin.regions[1].samples;
        for (int64_t n = 0; n < roi.bins[0] * roi.bins[1]; n++) {
            bin.at[0] = n / roi.bins[1];
            bin.at[1] = n % roi.bins[1];
            bin.output = r * roi.channels * (size_t)(roi.bins[0] * roi.bins[1]) + (size_t)n;
            run(&bin, context);
        }
    }
    return code;
}

/* Element of the output, for channel c. */
static size_t roi_output(const struct bin *bin, size_t c)
{
    return bin->output + c * (size_t)(bin->roi->bins[0] * bin->roi->bins[1]);
}

/* Forward sums in double, in the workspace; the largest are there already. */
static void roi_forward_bin(const struct bin *bin, void *context)
{
    float *out = context;
    const float *x = (const float *)bin->call->inputs[0]->data + bin->image;
    double *sums = bin->call->workspace;
    if (bin->roi->maximum)
        roi_largest(bin);
    for (size_t c = 0; c < bin->roi->channels && !bin->roi->maximum; c++)
        sums[c] = 0;
    for (int64_t n = 0; n < bin->samples && !bin->roi->maximum; n++) {
        struct sample sample;
        roi_sample(bin->roi, bin->regions, bin->at, n, &sample);
        for (size_t c = 0; c < bin->roi->channels; c++)
            sums[c] += sample_value(&sample, x + c * bin->roi->elements);
    }
    double count = bin->roi->maximum || !bin->samples ? 1 : (double)bin->samples;
    for (size_t c = 0; c < bin->roi->channels; c++)
        out[roi_output(bin, c)] = (float)(sums[c] / count);
}

static int roi_forward(const struct net_call *call, struct ivon_error *error)
{
    return roi_each_bin(call, roi_forward_bin, call->outputs[0]->data, error);
}

struct roi_derivative {
    const float *const *from;
    float *const *to;
};

static void roi_tangent_step(const struct bin *bin, int64_t n, const struct sample *sample,
                             size_t c, const double ends[4], void *context)
{
    (void)n;
    const struct roi_derivative *derivative = context;
    const float *x_moves = derivative->from[0], *moves = derivative->from[1];
    size_t first = bin->image + c * bin->roi->elements;
    const float *x = (const float *)bin->call->inputs[0]->data + first;
    double sum = x_moves ? sample_value(sample, x_moves + first) : 0;
    for (int i = 0; i < 4 && moves; i++)
        sum += sample_slope(sample, !(i % 2), x) * ends[i] *
               (double)moves[4 * bin->region + (size_t)i];
    derivative->to[0][roi_output(bin, c)] += (float)sum;
}

static void roi_backward_step(const struct bin *bin, int64_t n, const struct sample *sample,
                              size_t c, const double ends[4], void *context)
{
    (void)n;
    const struct roi_derivative *derivative = context;
    size_t first = bin->image + c * bin->roi->elements;
    const float *x = (const float *)bin->call->inputs[0]->data + first;
    double adjoint = (double)derivative->from[0][roi_output(bin, c)];
    if (derivative->to[0])
        sample_add(sample, adjoint, derivative->to[0] + first);
    for (int i = 0; i < 4 && derivative->to[1]; i++)
        derivative->to[1][4 * bin->region + (size_t)i] +=
            (float)(sample_slope(sample, !(i % 2), x) * ends[i] * adjoint);
}

static void roi_tangent_bin(const struct bin *bin, void *context)
{
    roi_each_sample(bin, roi_tangent_step, context);
}

static void roi_backward_bin(const struct bin *bin, void *context)
{
    roi_each_sample(bin, roi_backward_step, context);
}

static void roi_tangent(const struct net_call *call, const float *const *input_tangents,
                        float *const *output_tangents)
{
    struct roi_derivative derivative = {input_tangents, output_tangents};
    memset(output_tangents[0], 0, call->outputs[0]->count * sizeof(float));
    if (input_tangents[0] || input_tangents[1])
        roi_each_bin(call, roi_tangent_bin, &derivative, NULL);
}

static void roi_backward(const struct net_call *call, const float *const *output_adjoints,
                         float *const *input_adjoints)
{
    struct roi_derivative derivative = {output_adjoints, input_adjoints};
    if (output_adjoints[0] && (input_adjoints[0] || input_adjoints[1]))
        roi_each_bin(call, roi_backward_bin, &derivative, NULL);
}

#define ROI_ALIGN(...)                                                                             \
    .inputs_min = 3, .inputs_max = 3, .outputs_max = 1, .infer = roi_infer,                        \
    .forward = roi_forward, .backward = roi_backward, .tangent = roi_tangent,                      \
    .attributes = {{"mode", NET_TEXT},         {"output_height", NET_INT},                         \
                   {"output_width", NET_INT},  {"sampling_ratio", NET_INT},                        \
                   {"spatial_scale", NET_FLT}, __VA_ARGS__}

const struct net_operator net_roi_operators[] = {
    {.name = "RoiAlign", .since = 10, ROI_ALIGN({0})},
    {.name = "RoiAlign", .since = 16, ROI_ALIGN({"coordinate_transformation_mode", NET_TEXT})},
    {0}};
