/* Conv: the adjoint of the input. */
#include "core/blas.h"
#include "net/ops/convolution/convolution.h"

enum { REVERSED = 8 }; /* filters whose kernels are reversed together */

/* Copies the kernels of a phase from those of a group: channels and filters exchanged, taps
   reversed. Filters come in blocks, whose kernels stay in the nearest cache from channel to
   channel; within one, the taps of a phase are few. */
static void reverse_kernels(const struct convolution *c, const struct convolution_phase *phase,
                            const float *w, float *reversed)
{
    const int64_t *kernel = phase->pass.window.kernel, width = c->window.kernel[1];
    const int64_t down = phase->between[0] * width, across = phase->between[1];
    size_t taps = (size_t)(c->window.kernel[0] * width);
    size_t terms = (size_t)(kernel[0] * kernel[1]); /* of the phase, of a kernel */
    w += phase->last[0] * width + phase->last[1];
    for (size_t first = 0; first < c->filters; first += REVERSED)
        for (size_t channel = 0; channel < c->channels; channel++) {
            float *to = reversed + (channel * c->filters + first) * terms;
            size_t end = first + convolution_smaller(c->filters - first, REVERSED);
            for (size_t filter = first; filter < end; filter++) {
                const float *from = w + filter * c->terms + channel * taps;
                for (int64_t y = 0; y < kernel[0]; y++)
                    for (int64_t x = 0; x < kernel[1]; x++)
                        *to++ = from[-y * down - x * across];
            }
        }
}

/* The number of images whose input adjoints stay in the second-level cache across phases. */
static size_t images_at_once(const struct convolution_plan *plan)
{
    const struct convolution *c = &plan->forward;
    size_t image = c->channels * c->input_plane;
    if (plan->phase_count == 1 || image * c->images <= CONVOLUTION_PACKED_MAX)
        return c->images;
    return image < CONVOLUTION_PACKED_MAX ? CONVOLUTION_PACKED_MAX / image : 1;
}

/*
 * dx += the transposed convolution of dy. The stride divides the inputs into phases. The adjoint of
 * one phase is a convolution of dy, with stride 1, with a part of the kernel. For one group; dy and
 * dx are those of image 0.
 */
static void add_by_phases(const struct convolution_plan *plan, const float *w, const float *dy,
                          float *dx, float *workspace)
{
    const struct convolution *c = &plan->forward;
    float *reversed = convolution_packed(workspace) + plan->packed;
    size_t most = images_at_once(plan), input = c->groups * c->channels * c->input_plane;
    size_t output = c->groups * c->filters * c->output_plane;
    for (size_t i = 0, at = 0; i < plan->phase_count; i++) {
        reverse_kernels(c, &plan->phases[i], w, reversed + at);
        at += c->channels * plan->phases[i].pass.terms;
    }
    for (size_t image = 0; image < c->images; image += most) {
        const float *kernels = reversed;
        for (size_t i = 0; i < plan->phase_count; i++) {
            const struct convolution *pass = &plan->phases[i].pass;
            convolution_clear(pass, workspace);
            convolution_run(pass, kernels, NULL, convolution_smaller(most, c->images - image),
                            dy + image * output, true, dx + image * input, NULL, workspace);
            kernels += c->channels * pass->terms;
        }
    }
}

/* The same for any stride: the columns of dx are wᵀ dy. For one group of one image. */
static void add_by_columns(const struct convolution *c, const float *w, size_t image, size_t group,
                           const float *dy, float *dx, float *workspace)
{
    float *packed = convolution_packed(workspace);
    int64_t terms = (int64_t)c->terms;
    w += group * c->filters * c->terms;
    dx += (image * c->groups + group) * c->channels * c->input_plane;
    dy += (image * c->groups + group) * c->filters * c->output_plane;
    for (size_t start = 0; start < c->output_plane; start += c->columns) {
        struct convolution_segment segments[CONVOLUTION_COLUMNS_MAX];
        size_t count = convolution_smaller(c->output_plane - start, c->columns);
        size_t found = convolution_cut(c, start, count, segments);
        blas_product(true, false, terms, (int64_t)count, (int64_t)c->filters, 1, w, terms,
                     dy + start, (int64_t)c->output_plane, 0, packed, (int64_t)c->columns);
        convolution_add_columns(c, dx, segments, found, c->columns, packed);
    }
}

void convolution_images_add_input(const struct convolution_plan *plan, const float *w,
                                  const float *dy, float *dx, float *workspace)
{
    const struct convolution *c = &plan->forward;
    if (plan->dense) {
        net_matmul_adjoints(&plan->product, 1, NULL, w, dy, dx, NULL);
        return;
    }
    for (size_t group = 0; plan->phase_count && group < c->groups; group++)
        add_by_phases(plan, w + group * c->filters * c->terms,
                      dy + group * c->filters * c->output_plane,
                      dx + group * c->channels * c->input_plane, workspace);
    for (size_t image = 0; !plan->phase_count && image < c->images; image++)
        for (size_t group = 0; group < c->groups; group++)
            add_by_columns(c, w, image, group, dy, dx, workspace);
}
