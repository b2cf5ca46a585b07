/*
 * LRN, local response normalization: y_c = x_c d_c^−β with d_c = bias + α/size Σ x_k² over the
 * `size` channels k about c, as many before c as after it, or one less. With
 *
 *     ẏ_c = ẋ_c d_c^−β − 2 α β/size x_c d_c^(−β−1) Σ x_k ẋ_k,
 *
 * the adjoint of the second term is the same sum over the channels that have c in their window,
 * which are as many on the other sides.
 */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "core/dispatch.h"
#include "net/ops/normalize/normalize.h"

struct response {
    double alpha, beta, bias; /* alpha is that of one channel */
    size_t before, after;     /* channels about one */
};

static int infer_response(struct net_call *call, struct ivon_error *error)
{
    int code = net_expect_rank(call, 3, error);
    if (code)
        return code;
    const struct net_tensor *x = call->inputs[0];
    int64_t size = net_attribute_integer(call->node, "size", 0);
    if (size < 1 || size > INT32_MAX)
        return net_fail(call, error, "size is %" PRId64 ", expected 1 to %d", size, INT32_MAX);
    struct response *response = net_prepare(call, sizeof *response, error);
    if (!response)
        return IVON_ERROR_MEMORY;
    *response = (struct response){
        .alpha = net_attribute_number(call->node, "alpha", (double)1e-4F) / (double)size,
        .beta = net_attribute_number(call->node, "beta", 0.75),
        .bias = net_attribute_number(call->node, "bias", 1),
        .before = (size_t)(size - 1) / 2,
        .after = (size_t)size / 2};
    /* of one image, the sums of squares and of products */
    size_t image = x->shape[0] ? x->count / (size_t)x->shape[0] : 0;
    call->workspace_size = 2 * image * sizeof(float) + net_plane(x) * sizeof(double);
    return net_tensor_set(call->outputs[0], NET_FLOAT, x->rank, x->shape, error);
}

IVON_DISPATCH static void response_add(double *restrict sums, const float *a, size_t count)
{
    for (size_t i = 0; i < count; i++)
        sums[i] += (double)a[i];
}

/* sums[c] = the terms of the channels from `before` before c to `after` after it. */
static void sum_window(const struct net_call *call, const float *terms, size_t before, size_t after,
                       float *sums)
{
    const struct net_tensor *x = call->inputs[0];
    size_t channels = (size_t)x->shape[1], plane = net_plane(x);
    double *row = (double *)call->workspace;
    for (size_t c = 0; c < channels; c++) {
        size_t first = c > before ? c - before : 0;
        size_t end = channels - c > after ? c + after + 1 : channels;
        memset(row, 0, plane * sizeof *row);
        for (size_t k = first; k < end; k++)
            response_add(row, terms + k * plane, plane);
        for (size_t i = 0; i < plane; i++)
            *sums++ = (float)row[i];
    }
}

/* sums[c] = Σ a_k b_k of the window about c. `terms` are scratch. */
static void sum_products(const struct net_call *call, const float *a, const float *b, size_t count,
                         float *terms, float *sums)
{
    const struct response *response = call->prepared;
    for (size_t i = 0; i < count; i++)
        terms[i] = a[i] * b[i];
    sum_window(call, terms, response->before, response->after, sums);
}

/* The first of two arrays of an image's elements in the workspace. */
static float *response_sums(const struct net_call *call)
{
    return (float *)((double *)call->workspace + net_plane(call->inputs[0]));
}

static size_t image_size(const struct net_tensor *x)
{
    return x->count ? x->count / (size_t)x->shape[0] : 0;
}

/* d, and d^−β. */
static double response_power(const struct response *response, float squares, double *d)
{
    *d = response->bias + response->alpha * (double)squares;
    return pow(*d, -response->beta);
}

static int forward_response(const struct net_call *call, struct ivon_error *error)
{
    (void)error;
    const struct response *response = call->prepared;
    const struct net_tensor *tensor = call->inputs[0];
    size_t image = image_size(tensor);
    float *y = call->outputs[0]->data, *squares = response_sums(call), *terms = squares + image;
    const float *x = tensor->data;
    for (size_t at = 0; at < tensor->count; at += image) {
        sum_products(call, x + at, x + at, image, terms, squares);
        for (size_t i = 0; i < image; i++) {
            double d;
            y[at + i] = (float)((double)x[at + i] * response_power(response, squares[i], &d));
        }
    }
    return 0;
}

/* The factor of the second term above, of one element. */
static double response_factor(const struct response *response, float x, double power, double d)
{
    return -2 * response->alpha * response->beta * (double)x * power / d;
}

static void backward_response(const struct net_call *call, const float *const *output_adjoints,
                              float *const *input_adjoints)
{
    const struct response *response = call->prepared;
    const struct net_tensor *tensor = call->inputs[0];
    size_t image = image_size(tensor);
    const float *x = tensor->data, *dy = output_adjoints[0];
    float *dx = input_adjoints[0], *squares = response_sums(call), *terms = squares + image;
    for (size_t at = 0; dx && dy && at < tensor->count; at += image, x += image) {
        sum_products(call, x, x, image, terms, squares);
        for (size_t i = 0; i < image; i++) {
            double d, power = response_power(response, squares[i], &d);
            dx[at + i] += (float)((double)dy[at + i] * power);
            terms[i] = (float)((double)dy[at + i] * response_factor(response, x[i], power, d));
        }
        float *sums = squares; /* which are not needed any more */
        sum_window(call, terms, response->after, response->before, sums);
        for (size_t i = 0; i < image; i++)
            dx[at + i] += x[i] * sums[i];
    }
}

static void tangent_response(const struct net_call *call, const float *const *input_tangents,
                             float *const *output_tangents)
{
    const struct response *response = call->prepared;
    const struct net_tensor *tensor = call->inputs[0];
    size_t image = image_size(tensor);
    const float *x = tensor->data, *x_tangent = input_tangents[0];
    float *y = output_tangents[0], *squares = response_sums(call), *products = squares + image;
    if (!x_tangent)
        memset(y, 0, tensor->count * sizeof *y);
    for (size_t at = 0; x_tangent && at < tensor->count; at += image) {
        sum_products(call, x + at, x + at, image, y + at, squares);
        sum_products(call, x + at, x_tangent + at, image, y + at, products);
        for (size_t i = 0; i < image; i++) {
            double d, power = response_power(response, squares[i], &d);
            y[at + i] = (float)((double)x_tangent[at + i] * power +
                                response_factor(response, x[at + i], power, d) *
                                    (double)products[i]);
        }
    }
}

const struct net_operator net_response_operators[] = {
    {.name = "LRN",
     .since = 1,
     .inputs_min = 1,
     .inputs_max = 1,
     .outputs_max = 1,
     .attributes = {{"alpha", NET_FLT}, {"beta", NET_FLT}, {"bias", NET_FLT}, {"size", NET_INT}},
     .infer = infer_response,
     .forward = forward_response,
     .backward = backward_response,
     .tangent = tangent_response},
    {0}};
