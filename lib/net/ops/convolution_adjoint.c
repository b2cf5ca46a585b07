/* Conv: backward: dw += dy columnsᵀ; the columns of dx are wᵀ dy; db += Σ dy. */
#include <string.h>

#include "core/blas.h"
#include "net/ops/convolution.h"
#include "net/sum.h"

/* Of one image's group; null: not wanted. */
static void add_adjoints(const struct net_call *call, size_t image, size_t group, const float *dy,
                         float *dx, float *dw)
{
    const struct convolution *c = call->prepared;
    float *packed = call->workspace;
    const float *x = call->inputs[0]->data, *w = call->inputs[1]->data;
    size_t part = image * c->groups + group;
    size_t input = part * c->channels * c->input_plane;
    size_t weights = group * c->filters * c->terms;
    int64_t filters = (int64_t)c->filters, terms = (int64_t)c->terms;
    int64_t plane = (int64_t)c->output_plane, columns = (int64_t)c->columns;
    dy += part * c->filters * c->output_plane;
    for (size_t start = 0; start < c->output_plane; start += c->columns) {
        struct convolution_segment segments[CONVOLUTION_COLUMNS_MAX];
        size_t count = smaller(c->output_plane - start, c->columns);
        size_t found = convolution_cut(c, start, count, segments);
        if (dw) {
            convolution_pack_columns(c, x + input, segments, found, c->columns, packed);
            blas_product(false, true, filters, terms, (int64_t)count, 1, dy + start, plane, packed,
                         columns, 1, dw + weights, terms);
        }
        if (dx) {
            blas_product(true, false, terms, (int64_t)count, filters, 1, w + weights, terms,
                         dy + start, plane, 0, packed, columns);
            convolution_add_columns(c, dx + input, segments, found, c->columns, packed);
        }
    }
}

/* db += Σ dy over `images` images from `first` on */
static void add_bias(const struct convolution *c, size_t first, size_t images, const float *dy,
                     float *db)
{
    size_t filters = c->groups * c->filters;
    for (size_t filter = 0; filter < filters; filter++) {
        double sum = 0;
        for (size_t image = first; image < first + images; image++)
            sum += net_sum(dy + (image * filters + filter) * c->output_plane, c->output_plane);
        db[filter] += (float)sum;
    }
}

void convolution_backward(const struct net_call *call, const float *const *output_adjoints,
                     float *const *input_adjoints)
{
    const struct convolution *c = call->prepared;
    const float *dy = output_adjoints[0];
    if (!dy)
        return;
    if (input_adjoints[0] || input_adjoints[1])
        for (size_t image = 0; image < c->images; image++)
            for (size_t group = 0; group < c->groups; group++)
                add_adjoints(call, image, group, dy, input_adjoints[0], input_adjoints[1]);
    if (convolution_bias(call) && input_adjoints[2])
        add_bias(c, 0, c->images, dy, input_adjoints[2]);
}

void convolution_parameter_gradient(const struct net_call *call, size_t input, size_t examples,
                               const float *const *output_adjoints, float *gradients)
{
    const struct convolution *c = call->prepared;
    size_t size = call->inputs[input]->count, images = c->images / examples;
    memset(gradients, 0, examples * size * sizeof *gradients);
    for (size_t e = 0; e < examples; e++, gradients += size) {
        if (input == 2)
            add_bias(c, e * images, images, output_adjoints[0], gradients);
        else
            for (size_t image = e * images; image < (e + 1) * images; image++)
                for (size_t group = 0; group < c->groups; group++)
                    add_adjoints(call, image, group, output_adjoints[0], NULL, gradients);
    }
}
