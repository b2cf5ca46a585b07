/*
 * Convolutions of volumes, position after position along the axes before the last two:
 * y[m, o, p] = Σ_{c, k} conv(x[c, stride o + dilation k − pad], w[m, c, k])[p] is a convolution of
 * an image whose channels are the pairs (c, k), in the order of the weights. An image that lies in
 * the padding is zero. Images have one position and no other channels, and take no copy.
 */
#include "net/ops/convolution/convolution.h"

/* The image that tap `tap` of output `output` meets, counted along all axes of the volume; false in
   the padding. */
static bool find_image(const struct convolution_volume *volume, size_t output, size_t tap,
                       size_t *image)
{
    size_t step = 1;
    *image = 0;
    for (int i = volume->axes - 1; i >= 0; i--) {
        const struct net_window_axis *axis = &volume->axis[i];
        size_t outputs = (size_t)axis->output, taps = (size_t)axis->kernel;
        int64_t at = (int64_t)(output % outputs) * axis->stride - axis->before +
                     (int64_t)(tap % taps) * axis->dilation;
        if (at < 0 || at >= axis->input)
            return false;
        *image += (size_t)at * step;
        step *= (size_t)axis->input;
        output /= outputs;
        tap /= taps;
    }
    return true;
}

/* Copies the images of one output from a volume, or adds them to it. */
static void move_input(const struct convolution_plan *plan, size_t output, bool back, float *volume,
                       float *images)
{
    const struct convolution *c = &plan->forward;
    const struct convolution_volume *v = &plan->volume;
    size_t channels = c->groups * c->channels / v->taps;
    for (size_t channel = 0; channel < channels; channel++, volume += v->inputs * c->input_plane)
        for (size_t tap = 0, image; tap < v->taps; tap++, images += c->input_plane) {
            bool inside = find_image(v, output, tap, &image);
            if (!inside && !back)
                memset(images, 0, c->input_plane * sizeof *images);
            if (inside && !back)
                memcpy(images, volume + image * c->input_plane, c->input_plane * sizeof *images);
            for (size_t i = 0; inside && back && i < c->input_plane; i++)
                volume[image * c->input_plane + i] += images[i];
        }
}

enum movement { GATHER, SET, ADD };

/* The same for the outputs, one image for each filter. */
static void move_output(const struct convolution_plan *plan, size_t output, enum movement movement,
                        float *volume, float *images)
{
    const struct convolution *c = &plan->forward;
    size_t filters = c->groups * c->filters, size = c->output_plane * sizeof *images;
    volume += output * c->output_plane;
    for (size_t filter = 0; filter < filters; filter++, images += c->output_plane) {
        if (movement == GATHER)
            memcpy(images, volume, size);
        if (movement == SET)
            memcpy(volume, images, size);
        for (size_t i = 0; movement == ADD && i < c->output_plane; i++)
            volume[i] += images[i];
        volume += plan->volume.outputs * c->output_plane;
    }
}

/* One output of one volume: where its images lie in the workspace, and the volumes in tensors. */
struct position {
    size_t output;
    size_t x, y; /* elements */
    float *input_images, *output_images;
};

/* Sets the position number `i` of all; false at their end. */
static bool position_at(const struct convolution_plan *plan, size_t i, float *workspace,
                        struct position *position)
{
    const struct convolution *c = &plan->forward;
    const struct convolution_volume *v = &plan->volume;
    size_t volume = i / v->outputs;
    float *images = workspace + plan->workspace - v->input - v->output;
    *position = (struct position){
        .output = i % v->outputs,
        .x = volume * c->groups * (c->channels / v->taps) * v->inputs * c->input_plane,
        .y = volume * c->groups * c->filters * v->outputs * c->output_plane,
        .input_images = images,
        .output_images = images + v->input};
    return volume < v->images;
}

void convolution_apply(const struct convolution_plan *plan, const float *x, const float *w,
                       const float *bias, bool add, float *y, float *workspace)
{
    struct position at;
    if (!plan->volume.axes) {
        convolution_images_apply(plan, x, w, bias, add, y, NULL, workspace);
        return;
    }
    for (size_t i = 0; position_at(plan, i, workspace, &at); i++) {
        move_input(plan, at.output, false, (float *)x + at.x, at.input_images);
        convolution_images_apply(plan, at.input_images, w, bias, false, at.output_images, NULL,
                                 workspace);
        move_output(plan, at.output, add ? ADD : SET, y + at.y, at.output_images);
    }
}

void convolution_add_input(const struct convolution_plan *plan, const float *w, const float *dy,
                           float *dx, float *workspace)
{
    struct position at;
    if (!plan->volume.axes) {
        convolution_images_add_input(plan, w, dy, dx, workspace);
        return;
    }
    for (size_t i = 0; position_at(plan, i, workspace, &at); i++) {
        memset(at.input_images, 0, plan->volume.input * sizeof *at.input_images);
        move_output(plan, at.output, GATHER, (float *)dy + at.y, at.output_images);
        convolution_images_add_input(plan, w, at.output_images, at.input_images, workspace);
        move_input(plan, at.output, true, dx + at.x, at.input_images);
    }
}

void convolution_add_weights(const struct convolution_plan *plan, const float *x, const float *dy,
                             float *dw, float *workspace)
{
    struct position at;
    if (!plan->volume.axes) {
        convolution_images_add_weights(plan, x, dy, dw, workspace);
        return;
    }
    for (size_t i = 0; position_at(plan, i, workspace, &at); i++) {
        move_input(plan, at.output, false, (float *)x + at.x, at.input_images);
        move_output(plan, at.output, GATHER, (float *)dy + at.y, at.output_images);
        convolution_images_add_weights(plan, at.input_images, at.output_images, dw, workspace);
    }
}
