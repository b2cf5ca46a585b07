/* Col2Im: the columns that blocks of an image make, added up where they came from. */
#include <inttypes.h>
#include <string.h>

#include "net/graph/rules.h"

/*
 * in[n, c K + k, l] is element k, of the K of a block, at block l of the L that fit the padded
 * image, both counted in row-major order over the spatial axes. out[n, c, p] is the sum of all
 * in[n, c K + k, l] whose position stride l + dilation k - pad is p; some have none.
 */

struct col2im {
    int axes;
    int64_t image[IVON_RANK_MAX], block[IVON_RANK_MAX], blocks[IVON_RANK_MAX];
    int64_t stride[IVON_RANK_MAX], dilation[IVON_RANK_MAX], pad[IVON_RANK_MAX];
    size_t pixels, columns; /* of one channel: of the image; K L */
};

/* Reads an attribute of one number for each axis, or two. */
static int col2im_attribute(const struct net_call *call, const char *name, int axes, int copies,
                            int64_t least, int64_t otherwise, int64_t *values,
                            struct ivon_error *error)
{
    size_t count;
    const int64_t *list = net_attribute_integers(call->node, name, &count);
    if (list && count != (size_t)copies * (size_t)axes)
        return net_fail(call, error, "%zu %s for %d axes", count, name, axes);
    for (int i = 0; i < copies * axes; i++) {
        values[i] = list ? list[i] : otherwise;
        if (values[i] < least || values[i] > INT32_MAX)
            return net_fail(call, error, "%s of %" PRId64, name, values[i]);
    }
    return 0;
}

/* Sets the number of blocks along an axis, and multiplies the products. */
static int col2im_axis(const struct net_call *call, struct col2im *col2im, int i, int64_t after,
                       int64_t *taps, int64_t *places, struct ivon_error *error)
{
    int64_t image = col2im->image[i], block = col2im->block[i];
    bool fits = image > 0 && image <= INT32_MAX && block > 0 && block <= INT32_MAX;
    int64_t room = fits ? image + col2im->pad[i] + after - col2im->dilation[i] * (block - 1) - 1
                        : -1;
    col2im->blocks[i] = room < 0 ? 0 : room / col2im->stride[i] + 1;
    if (room < 0 || __builtin_mul_overflow(*taps, block, taps) ||
        __builtin_mul_overflow(*places, col2im->blocks[i], places) ||
        __builtin_mul_overflow(col2im->pixels, (size_t)image, &col2im->pixels))
        return net_fail(call, error,
                        "an image of extent %" PRId64 " along axis %d has no blocks of %" PRId64,
                        image, i, block);
    return 0;
}

static int col2im_find(const struct net_call *call, struct col2im *col2im, struct ivon_error *error)
{
    const struct net_tensor *input = call->inputs[0];
    const int64_t *image, *block;
    int64_t pads[2 * IVON_RANK_MAX], taps = 1, places = 1;
    size_t count, block_count;
    *col2im = (struct col2im){0};
    int code = net_known_list(call, 1, "image_shape", &image, &count, error);
    if (!code)
        code = net_known_list(call, 2, "block_shape", &block, &block_count, error);
    if (code)
        return code;
    if (!count || count != block_count || count > IVON_RANK_MAX - 2)
        return net_fail(call, error, "an image of %zu axes and blocks of %zu", count, block_count);
    *col2im = (struct col2im){.axes = (int)count, .pixels = 1};
    memcpy(col2im->image, image, count * sizeof *image);
    memcpy(col2im->block, block, count * sizeof *block);
    code = col2im_attribute(call, "strides", col2im->axes, 1, 1, 1, col2im->stride, error);
    if (!code)
        code = col2im_attribute(call, "dilations", col2im->axes, 1, 1, 1, col2im->dilation, error);
    if (!code)
        code = col2im_attribute(call, "pads", col2im->axes, 2, 0, 0, pads, error);
    if (code)
        return code;
    memcpy(col2im->pad, pads, count * sizeof *pads);
    for (int i = 0; i < col2im->axes && !code; i++)
        code = col2im_axis(call, col2im, i, pads[col2im->axes + i], &taps, &places, error);
    char text[256];
    if (!code && (input->type != NET_FLOAT || input->rank != 3 || input->shape[1] % taps ||
                  input->shape[2] != places))
        code = net_fail(call, error,
                        "an input of shape %s (%s), expected rows of %" PRId64
                        " floats, and a multiple of %" PRId64 " of them",
                        net_shape_text(input, text), net_type_name(input->type), places, taps);
    col2im->columns = input->count ? (size_t)taps * (size_t)places : 0;
    return code;
}

static int col2im_infer(struct net_call *call, struct ivon_error *error)
{
    const struct net_tensor *input = call->inputs[0];
    struct col2im col2im;
    int64_t shape[IVON_RANK_MAX] = {input->shape[0], input->shape[1]};
    int code = col2im_find(call, &col2im, error);
    if (code)
        return code;
    for (int i = 0; i < col2im.axes; i++) {
        shape[1] /= col2im.block[i];
        shape[2 + i] = col2im.image[i];
    }
    code = net_output_made(call, 0, NET_FLOAT, 2 + col2im.axes, shape, input->count, error);
    size_t pixels = input->count ? col2im.pixels : 0;
    call->workspace_size = pixels * sizeof(double) + col2im.columns * sizeof(int64_t);
    return code;
}

/* Sets the pixel of each element of a channel; -1 where it is in the padding. */
static void col2im_targets(const struct col2im *col2im, int64_t *targets)
{
    int64_t index[2 * IVON_RANK_MAX] = {0};
    int axes = col2im->axes;
    for (size_t n = 0; n < col2im->columns; n++) {
        int64_t target = 0;
        for (int i = 0; i < axes; i++) {
            int64_t at = index[axes + i] * col2im->stride[i] + index[i] * col2im->dilation[i] -
                         col2im->pad[i];
            bool outside = target < 0 || at < 0 || at >= col2im->image[i];
            target = outside ? -1 : target * col2im->image[i] + at;
        }
        targets[n] = target;
        for (int i = 2 * axes - 1; i >= 0; i--) {
            if (++index[i] < (i < axes ? col2im->block[i] : col2im->blocks[i - axes]))
                break;
            index[i] = 0;
        }
    }
}

/* The workspace holds an image of sums, and the targets. */
static int64_t *col2im_begin(const struct net_call *call, struct col2im *col2im)
{
    col2im_find(call, col2im, NULL); /* succeeded in infer */
    int64_t *targets = (int64_t *)((double *)call->workspace +
                                   (call->inputs[0]->count ? col2im->pixels : 0));
    col2im_targets(col2im, targets);
    return targets;
}

static void col2im_run(const struct net_call *call, const float *in, float *out)
{
    struct col2im col2im;
    const int64_t *targets = col2im_begin(call, &col2im);
    double *sums = call->workspace;
    if (!col2im.columns) {
        memset(out, 0, call->outputs[0]->count * sizeof *out);
        return;
    }
    for (size_t n = 0; n < call->inputs[0]->count / col2im.columns; n++) {
        for (size_t i = 0; i < col2im.pixels; i++)
            sums[i] = 0;
        for (size_t i = 0; i < col2im.columns; i++, in++)
            if (targets[i] >= 0)
                sums[targets[i]] += (double)*in;
        for (size_t i = 0; i < col2im.pixels; i++)
            *out++ = (float)sums[i];
    }
}

static int col2im_forward(const struct net_call *call, struct ivon_error *error)
{
    (void)error;
    col2im_run(call, call->inputs[0]->data, call->outputs[0]->data);
    return 0;
}

static void col2im_tangent(const struct net_call *call, const float *const *input_tangents,
                           float *const *output_tangents)
{
    if (input_tangents[0])
        col2im_run(call, input_tangents[0], output_tangents[0]);
    else
        memset(output_tangents[0], 0, call->outputs[0]->count * sizeof(float));
}

static void col2im_backward(const struct net_call *call, const float *const *output_adjoints,
                            float *const *input_adjoints)
{
    struct col2im col2im;
    const float *from = output_adjoints[0];
    float *to = input_adjoints[0];
    if (!from || !to)
        return;
    const int64_t *targets = col2im_begin(call, &col2im);
    if (!col2im.columns)
        return;
    for (size_t n = 0; n < call->inputs[0]->count / col2im.columns; n++, from += col2im.pixels)
        for (size_t i = 0; i < col2im.columns; i++, to++)
            if (targets[i] >= 0)
                *to += from[targets[i]];
}

const struct net_operator net_col2im_operators[] = {
    {.name = "Col2Im",
     .since = 18,
     .inputs_min = 3,
     .inputs_max = 3,
     .outputs_max = 1,
     .attributes = {{"dilations", NET_INTS}, {"pads", NET_INTS}, {"strides", NET_INTS}},
     .infer = col2im_infer,
     .forward = col2im_forward,
     .backward = col2im_backward,
     .tangent = col2im_tangent},
    {0}};
